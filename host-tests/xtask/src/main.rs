//! `cargo xtask`: see the library of this package.

use std::env;
use std::process::ExitCode;

use xtask::COMMANDS;
use xtask::failure::{Failure, Result};
use xtask::process;
use xtask::workspace::Workspace;

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
    let asks = |argument: &String| ["-h", "--help", "help"].contains(&argument.as_str());
    let Some((name, rest)) = arguments.split_first().filter(|(name, _)| !asks(name)) else {
        println!("{}", usage());
        return Ok(());
    };
    let Some((_, usage, task)) = COMMANDS.iter().find(|(command, _, _)| command == name) else {
        let names: Vec<&str> = COMMANDS.iter().map(|(name, ..)| *name).collect();
        return Err(Failure::new(
            format!("there is no task `{name}`"),
            format!("cargo xtask {}", names.join(" | ")),
        ));
    };
    if rest.iter().any(asks) {
        println!("{usage}");
        return Ok(());
    }
    task(&Workspace::find()?, rest)
}

fn usage() -> String {
    let texts: Vec<&str> = COMMANDS.iter().map(|(_, usage, _)| *usage).collect();
    texts.join("\n\n")
}
