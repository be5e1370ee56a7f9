//! `cargo xtask bench`: what the gate costs, and that its limits hold.
//!
//! Everything is measured against something else in the same run: a filter that does nothing, Envoy's
//! own filters, a Lua script. Machines differ; these ratios hardly do.

mod bootstrap;
mod bundle;
mod client;
mod comparison;
#[cfg(feature = "fuel")]
mod draws;
mod envoy;
#[cfg(feature = "fuel")]
mod feeds;
mod figure;
mod footprint;
#[cfg(feature = "fuel")]
mod fuel;
mod judge;
mod key_service;
mod law;
mod lookup;
mod module;
mod observe;
mod options;
mod placement;
mod policy;
#[cfg_attr(
    all(not(feature = "fuel"), not(test)),
    expect(dead_code, reason = "only draws shuffle")
)]
mod random;
mod revoke;
mod scratch;
mod strangers;
mod swaps;
mod table;
mod target;
mod targets;
mod threats;
mod updates;
mod variant;
mod wrk;

use std::env;
use std::process::ExitCode;

use xtask::failure::{Failure, Result};
use xtask::process;
use xtask::workspace::Workspace;

use crate::options::{Task, USAGE};

fn main() -> ExitCode {
    process::watch_signals();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // As a shell tells that a signal ended a command.
        Err(Failure::Stopped) => ExitCode::from(130),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    if arguments
        .iter()
        .any(|argument| ["-h", "--help"].contains(&argument.as_str()))
    {
        println!("{USAGE}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match Task::parse(arguments)? {
        Task::Envoy(comparison) => comparison::run(&workspace, &comparison),
        Task::Law(law) => law::run(&workspace, law),
        Task::Strangers(strangers) => strangers::run(&workspace, strangers),
        Task::Revoke(revoke) => revoke::run(&workspace, revoke),
        Task::Judge(judge) => judge::run(&workspace, judge),
        Task::Swaps(swaps) => swaps::run(&workspace, swaps),
        Task::Lookup(lookup) => lookup::run(&workspace, lookup),
        Task::Observe(observe) => observe::run(&workspace, observe),
        Task::Footprint { json } => footprint::run(&workspace, json),
        #[cfg(feature = "fuel")]
        Task::Fuel { json, write } => fuel::run(&workspace, json, write),
        #[cfg(feature = "fuel")]
        Task::Feeds { json } => feeds::run(&workspace, json),
        #[cfg(feature = "fuel")]
        Task::Draws(draws) => draws::run(&draws),
        #[cfg(not(feature = "fuel"))]
        Task::Fuel { .. } | Task::Feeds { .. } | Task::Draws(_) => Err(Failure::new(
            "this build has no wasmtime to measure with",
            "build it with the feature `fuel`",
        )),
    }
}
