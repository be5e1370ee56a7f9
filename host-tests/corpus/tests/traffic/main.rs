//! Traffic as it is: streams, long answers, large bodies, upgrades, both protocols, and every way in
//! which a client's address reaches the policy, in one real Envoy with the edge settings that are
//! shipped.
//!
//! Each test speaks for the client and for the upstream in turn, so what follows what is written in
//! it. Where time must pass, something in Envoy says that it has: another request, cut by a timeout.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.
//! `CASE=name` keeps the tests whose name contains it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod addresses;
mod grpc;
mod held;
mod peer;
mod quotas;
mod retries;
mod stage;
mod streams;
mod upgrades;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use portcullis_corpus::envoy::Tools;

use stage::Stage;

/// A name and what it runs.
type Test = (&'static str, fn(&Stage));

fn main() -> ExitCode {
    if !Tools::is_supported() {
        println!("traffic: unsupported here, there is no Envoy for this machine");
        return ExitCode::SUCCESS;
    }
    let stage = match Stage::start() {
        Ok(stage) => stage,
        Err(error) => {
            println!("traffic: {error}");
            return ExitCode::FAILURE;
        }
    };
    let only = env::var("CASE").unwrap_or_default();
    let tests = [
        addresses::TESTS,
        grpc::TESTS,
        held::TESTS,
        quotas::TESTS,
        retries::TESTS,
        streams::TESTS,
        upgrades::TESTS,
    ]
    .concat();
    let tests: Vec<Test> = tests
        .into_iter()
        .filter(|(name, _)| name.contains(&only))
        .collect();
    let mut failed = 0;
    for (name, test) in &tests {
        let ok = catch_unwind(AssertUnwindSafe(|| test(&stage))).is_ok();
        println!("traffic {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += u32::from(!ok);
    }
    if let Err(error) = stage.finish() {
        println!("{error}");
        failed += 1;
    }
    if failed > 0 {
        println!("Envoy said:\n{}", stage.said());
    }
    println!("traffic: {} tests, {failed} failed", tests.len());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
