//! `cargo xtask bench`: hands over to `portcullis-bench`, which only the fuel benchmark builds with
//! wasmtime.

use crate::failure::{Failure, Result};
use crate::process;
use crate::tools;
use crate::workspace::Workspace;

/// How the command is used.
pub const USAGE: &str =
    "cargo xtask bench --envoy | --law | --updates | --observe | --strangers | --revoke | --lookup | --judge | --swaps | --fuel | --footprint | --feeds | --draws DIR [--json]
  What the gate costs, and that its limits hold; `cargo xtask bench --help-all` lists the options.";

/// Runs the command.
///
/// # Errors
///
/// When the benchmark does not build, or fails.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut command = tools::cargo();
    command.args(["run", "--quiet", "--package", "portcullis-bench"]);
    command.args(features(arguments)).arg("--");
    let all = |argument: &String| argument == "--help-all";
    match arguments.iter().find(|argument| all(argument)) {
        Some(_) => command.arg("--help"),
        None => command.args(arguments),
    };
    if process::status(command.current_dir(workspace.root()))?.success() {
        return Ok(());
    }
    Err(Failure::new(
        "the benchmark failed",
        "read its messages above; `cargo xtask bench --help-all` lists the options",
    ))
}

/// wasmtime takes minutes to build, and only fuel is counted by it, and lookups are timed; draws need the feed compiler.
fn features(arguments: &[String]) -> &'static [&'static str] {
    let needs = |argument: &String| ["--fuel", "--feeds", "--draws"].contains(&argument.as_str());
    if arguments.iter().any(needs) {
        &[]
    } else {
        &["--no-default-features"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_and_feeds_need_wasmtime() {
        let check = |argument: &str, expected: &[&str]| {
            assert_eq!(features(&[argument.to_owned()]), expected, "{argument}");
        };
        check("--fuel", &[]);
        check("--feeds", &[]);
        check("--draws", &[]);
        check("--envoy", &["--no-default-features"]);
        check("--law", &["--no-default-features"]);
    }
}
