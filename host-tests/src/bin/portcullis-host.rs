//! `portcullis-host`: the filter as a local proxy, without Envoy.

use std::{
    ffi::OsString,
    fmt,
    io::{self, Write},
    net::Ipv4Addr,
    path::PathBuf,
    process::ExitCode,
    thread,
};

use portcullis_host::serve::{Options, Server, UpstreamUrl, load_module, load_policy};
use portcullis_upstream::Upstream;

const USAGE: &str = "\
usage: portcullis-host serve --wasm FILE --policy FILE [--port N] [--workers N] [--upstream URL]

  serve           run the filter as a local proxy, without Envoy
    --wasm FILE     the module, as `cargo xtask wasm` builds it
    --policy FILE   the policy, YAML or JSON
    --port N        port on 127.0.0.1, 0 for any free one (default 10000)
    --workers N     threads, each with a VM of its own (default: one for each processor)
    --upstream URL  http://HOST:PORT that gets what passes (default: a built-in demo)
";

fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Command::Serve(arguments)) => match serve(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("portcullis-host: {error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprint!("portcullis-host: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: &Serve) -> Result<(), Box<dyn std::error::Error>> {
    let module = load_module(&arguments.wasm)?;
    let policy = load_policy(&arguments.policy)?;
    let demo = match arguments.upstream {
        Some(_) => None,
        None => Some(Upstream::start((Ipv4Addr::LOCALHOST, 0).into())?),
    };
    let upstream = match (&arguments.upstream, &demo) {
        (Some(url), _) => UpstreamUrl::parse(url)?,
        (None, Some(demo)) => demo.address().into(),
        (None, None) => return Err("there is no upstream".into()),
    };
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        port: arguments.port,
        workers: arguments.workers.unwrap_or_else(processors),
        ..Options::new(module, policy, upstream)
    };
    // Caught before anyone can know that this runs: a signal then never finds it unprepared.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async { end_signal() })?;
    let server = Server::start(&options)?;
    println!("listening on http://{}", server.address());
    io::stdout().flush()?;
    runtime.block_on(ended);
    Ok(())
}

/// Waits for Ctrl-C or a request to terminate.
#[cfg(unix)]
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Serve(Serve),
}

#[derive(Debug, PartialEq, Eq)]
struct Serve {
    wasm: PathBuf,
    policy: PathBuf,
    port: u16,
    workers: Option<usize>,
    upstream: Option<String>,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq)]
enum Misuse {
    NoCommand,
    Unknown(String),
    NoValue(&'static str),
    Missing(&'static str),
    Twice(&'static str),
    Value {
        flag: &'static str,
        value: String,
        wanted: &'static str,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("say what to do"),
            Self::Unknown(word) => write!(f, "unknown argument `{word}`"),
            Self::NoValue(flag) => write!(f, "{flag} needs a value"),
            Self::Missing(flag) => write!(f, "{flag} is required"),
            Self::Twice(flag) => write!(f, "{flag} is given twice"),
            Self::Value {
                flag,
                value,
                wanted,
            } => {
                write!(f, "{flag} {value}: must be {wanted}")
            }
        }
    }
}

/// The flags of `serve`; each takes a value.
const FLAGS: [&str; 5] = ["--wasm", "--policy", "--port", "--workers", "--upstream"];

impl Command {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Misuse> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().ok_or(Misuse::NoCommand)?;
        match command.to_str() {
            Some("help" | "--help" | "-h") => return Ok(Self::Help),
            Some("serve") => {}
            _ => return Err(Misuse::Unknown(command.display().to_string())),
        }
        let mut values: [Option<OsString>; FLAGS.len()] = Default::default();
        while let Some(argument) = arguments.next() {
            let word = argument.display().to_string();
            if word == "--help" || word == "-h" {
                return Ok(Self::Help);
            }
            // `--flag value` and `--flag=value`.
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (word.as_str(), None),
            };
            let flags = FLAGS.into_iter().zip(&mut values);
            let Some((flag, value)) = flags.into_iter().find(|(flag, _)| *flag == name) else {
                return Err(Misuse::Unknown(word));
            };
            if value.is_some() {
                return Err(Misuse::Twice(flag));
            }
            *value = Some(
                inline
                    .or_else(|| arguments.next())
                    .ok_or(Misuse::NoValue(flag))?,
            );
        }
        let [wasm, policy, port, workers, upstream] = values;
        let number = |flag, value: Option<OsString>, wanted, most: usize, least: usize| {
            let Some(value) = value else { return Ok(None) };
            let value = value.display().to_string();
            match value.parse() {
                Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
                _ => Err(Misuse::Value {
                    flag,
                    value,
                    wanted,
                }),
            }
        };
        let port = number("--port", port, "a number from 0 to 65535", 65_535, 0)?;
        Ok(Self::Serve(Serve {
            wasm: wasm.ok_or(Misuse::Missing("--wasm"))?.into(),
            policy: policy.ok_or(Misuse::Missing("--policy"))?.into(),
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(10_000),
            workers: number("--workers", workers, "a number from 1 to 256", 256, 1)?,
            upstream: upstream.map(|url| url.display().to_string()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Misuse> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_are_read_in_both_ways_of_writing_them() {
        let serve = Serve {
            wasm: "f.wasm".into(),
            policy: "p.yaml".into(),
            port: 10_000,
            workers: None,
            upstream: None,
        };
        assert_eq!(
            parse("serve --wasm f.wasm --policy p.yaml"),
            Ok(Command::Serve(serve))
        );
        let serve = Serve {
            wasm: "f.wasm".into(),
            policy: "p.yaml".into(),
            port: 0,
            workers: Some(2),
            upstream: Some("http://x:1".to_owned()),
        };
        let line = "serve --port=0 --workers 2 --upstream http://x:1 --policy=p.yaml --wasm f.wasm";
        assert_eq!(parse(line), Ok(Command::Serve(serve)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, message) in [
            ("", "say what to do"),
            ("fly", "unknown argument `fly`"),
            ("serve --fast", "unknown argument `--fast`"),
            ("serve extra", "unknown argument `extra`"),
            ("serve --wasm", "--wasm needs a value"),
            ("serve --wasm a --wasm b", "--wasm is given twice"),
            ("serve --wasm a", "--policy is required"),
            ("serve --policy a", "--wasm is required"),
            (
                "serve --port 70000 --wasm a --policy b",
                "--port 70000: must be a number from 0 to 65535",
            ),
            (
                "serve --workers 0 --wasm a --policy b",
                "--workers 0: must be a number from 1 to 256",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), message, "{line}");
        }
        assert_eq!(parse("serve --wasm a --help"), Ok(Command::Help));
        assert_eq!(parse("--help"), Ok(Command::Help));
    }
}
