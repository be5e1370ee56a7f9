//! Developer tasks: `cargo xtask up | test | wasm | doctor | sync | bench`.
//!
//! A task is a module with a `run` and a `USAGE`, listed in [`COMMANDS`]; a new one is one line there.
//! The choices (which toolchain, which Envoy) are pure functions of facts, the Envoy configuration is
//! a pure function of text, and everything that is started is a [`process::Running`], which ends what
//! it started when it is dropped. Next to no dependencies: this is built before anything else is.

pub mod bench;
pub mod capabilities;
pub mod certificate;
pub mod clock;
pub mod debian;
pub mod demo;
pub mod doctor;
pub mod edge;
pub mod envoy;
pub mod failure;
pub mod http;
pub mod options;
pub mod process;
pub mod route;
pub mod shrink;
pub mod sync;
pub mod template;
pub mod test;
pub mod toolchain;
pub mod tools;
pub mod trim;
pub mod up;
pub mod version;
pub mod wasm;
pub mod workspace;

use crate::failure::Result;
use crate::workspace::Workspace;

/// A task: its name, how it is used, and what it does with its arguments.
pub type Command = (
    &'static str,
    &'static str,
    fn(&Workspace, &[String]) -> Result<()>,
);

/// Every task.
pub const COMMANDS: [Command; 6] = [
    ("up", up::USAGE, up::run),
    ("test", test::USAGE, test::run),
    ("wasm", wasm::USAGE, wasm::run),
    ("doctor", doctor::USAGE, doctor::run),
    ("sync", sync::USAGE, sync::run),
    ("bench", bench::USAGE, bench::run),
];
