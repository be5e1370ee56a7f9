//! The arguments of `cargo xtask up`.

use std::path::PathBuf;

use crate::failure::{Failure, Result};

/// How the command is used.
pub const USAGE: &str =
    "cargo xtask up [--policy FILE] [--port N] [--tls-port N] [--admin-port N] [--host envoy|wasmtime]
  Builds the module and serves it on loopback in front of a demo upstream, until Ctrl-C or TERM.
  --policy FILE        JSON (*.json) or YAML; the default is examples/policy.yaml
  --port N             where clients connect (10000; 0 = any free one)
  --tls-port N         the same over TLS, by Envoy alone (10443; 0 = any free one)
  --admin-port N       Envoy's admin interface (9901; 0 = any free one)
  --host envoy         real Envoy, obtained if need be (the default where it can be had)
  --host wasmtime      our own host";

/// Who runs the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Real Envoy.
    Envoy,
    /// Our own host.
    Wasmtime,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `None` is the demo policy.
    pub policy: Option<PathBuf>,
    /// Where clients connect; 0 is any free port.
    pub port: u16,
    /// Where they do over TLS; 0 is any free port.
    pub tls_port: u16,
    /// Envoy's admin interface; 0 is any free port.
    pub admin_port: u16,
    /// `None` takes Envoy where it can be had.
    pub host: Option<Host>,
}

impl Options {
    /// Reads the arguments; `--flag value` and `--flag=value` are the same.
    ///
    /// # Errors
    ///
    /// When one is unknown, lacks its value, or has a wrong one.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            policy: None,
            port: 10000,
            tls_port: 10443,
            admin_port: 9901,
            host: None,
        };
        let wrong = |what: String| Failure::new(what, USAGE);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            if !["--policy", "--port", "--tls-port", "--admin-port", "--host"].contains(&flag) {
                return Err(wrong(format!("unknown argument `{argument}`")));
            }
            let value = value
                .or_else(|| rest.next().cloned())
                .ok_or_else(|| wrong(format!("{flag} needs a value")))?;
            let port = || {
                value
                    .parse()
                    .map_err(|_| wrong(format!("{flag} takes 0 to 65535, not `{value}`")))
            };
            match flag {
                "--policy" => options.policy = Some(PathBuf::from(&value)),
                "--port" => options.port = port()?,
                "--tls-port" => options.tls_port = port()?,
                "--admin-port" => options.admin_port = port()?,
                _ => {
                    options.host = Some(match value.as_str() {
                        "envoy" => Host::Envoy,
                        "wasmtime" => Host::Wasmtime,
                        _ => {
                            return Err(wrong(format!(
                                "--host takes envoy or wasmtime, not `{value}`"
                            )));
                        }
                    });
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(
            &text
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn arguments() {
        let defaults = Options {
            policy: None,
            port: 10000,
            tls_port: 10443,
            admin_port: 9901,
            host: None,
        };
        assert_eq!(parse(""), Ok(defaults));
        let all = Options {
            policy: Some("p.json".into()),
            port: 0,
            tls_port: 1,
            admin_port: 65535,
            host: Some(Host::Wasmtime),
        };
        assert_eq!(
            parse("--policy p.json --port=0 --tls-port=1 --admin-port 65535 --host wasmtime"),
            Ok(all)
        );
        for (wrong, word) in [
            ("--port", "needs a value"),
            ("--port 65536", "0 to 65535"),
            ("--host nginx", "envoy or wasmtime"),
            ("--polcy x", "unknown argument `--polcy`"),
            ("p.yaml", "unknown argument"),
        ] {
            let failure = parse(wrong).unwrap_err().to_string();
            assert!(
                failure.contains(word) && failure.contains(USAGE),
                "{failure}"
            );
        }
    }
}
