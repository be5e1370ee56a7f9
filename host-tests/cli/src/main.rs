//! `portcullis`: Portcullis on the command line.

mod arguments;
mod check;
mod document;
mod feed;
mod judge;
mod keys;
mod places;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use arguments::{Check, Command, Keys, USAGE};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => written(USAGE, ExitCode::SUCCESS),
        Ok(Command::Check(arguments)) => check(&arguments),
        Ok(Command::Judge(arguments)) => judge(&arguments),
        Ok(Command::Feed(arguments)) => match feed::run(arguments) {
            feed::Outcome::Told(text, true) => written(&text, ExitCode::SUCCESS),
            feed::Outcome::Told(text, false) => written(&text, ExitCode::FAILURE),
            feed::Outcome::Misuse(misuse) => {
                eprint!("portcullis: {misuse}\n\n{}", feed::USAGE);
                ExitCode::from(2)
            }
        },
        Ok(Command::Keys(arguments)) => keys(&arguments),
        Err(misuse) => {
            eprint!("portcullis: {misuse}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn keys(arguments: &Keys) -> ExitCode {
    let done = match arguments {
        Keys::New {
            label,
            pepper,
            json,
        } => keys::new(label, pepper.as_deref(), *json),
        Keys::Hash { pepper, json } => keys::hash(pepper.as_deref(), *json),
        Keys::Bundle(arguments) => keys::bundle(arguments),
        Keys::Inspect { file, json } => keys::inspect(file, *json),
    };
    match done {
        Ok(bytes) => written(&bytes, ExitCode::SUCCESS),
        Err(message) => {
            eprintln!("portcullis: {message}");
            ExitCode::FAILURE
        }
    }
}

fn check(arguments: &Check) -> ExitCode {
    let checked: Vec<_> = arguments
        .policies
        .iter()
        .map(|file| check::check(file))
        .collect();
    let text = if arguments.json {
        report::json(&checked)
    } else {
        report::text(&checked)
    };
    let fails = |checked: &check::Checked| {
        checked.has_errors() || (arguments.strict && checked.has_warnings())
    };
    let code = if checked.iter().any(fails) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    };
    written(&text, code)
}

fn judge(arguments: &judge::Arguments) -> ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "whether a bundle is out of date is told by the machine's clock"
    )]
    let now = SystemTime::now();
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    match judge::judge(arguments, now, io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.nobody_reads() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("portcullis: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. Who reads it may have left; the exit status still tells.
fn written(text: impl AsRef<[u8]>, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            eprintln!("portcullis: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
