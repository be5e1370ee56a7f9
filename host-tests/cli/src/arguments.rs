//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::judge;

/// How the command is used.
pub(crate) const USAGE: &str = "\
usage: portcullis check [--json] [--strict] POLICY...
       portcullis judge [--json] [--bundle FILE] [--policy POLICY] [TARGET...]
       portcullis feed compile|inspect|diff|verify ...
       portcullis keys new|hash|bundle|inspect ...

  check       find every error in policies, and what else is worth a look, with the filter's own code
    POLICY      a file, JSON or YAML (by extension, else by content); - is standard input
    --json      for machines: an array with an object for each file
    --strict    warnings fail too; notes never do

  judge       say what targets are, with the filter's own engine
    TARGET      a URL, domain, address, hash or payload; without any, each line of standard input is one
    --bundle    the compiled feeds; without it what a target looks like is all there is
    --policy    its own lists, and its model; without it the newest model
    --json      for machines: an object a line

  feed        compile threat feeds into the bundle that the filter adopts, and look at bundles: feed --help

  keys new --label LABEL [--pepper-env NAME] [--json]
              make a key, and the digest that a policy holds; the key is shown once
    --label     1 to 32 lower case letters, digits and hyphens: an API, an environment

  keys hash [--pepper-env NAME] [--json]
              the digest of the key on standard input; keys are never arguments
    --pepper-env  HMAC-SHA-256 under the pepper in this environment variable, in place of SHA-256

  keys bundle [--policy POLICY] [--generated-at INSTANT] [--base64] [--output FILE] KEYS
              a bundle of the keys in a document, JSON or YAML: api, revision, and keys as in a policy
    --policy    a policy that has to be able to take the bundle
    --generated-at  such as 2026-11-22T06:00:00Z; else the document's generated_at, else now
    --base64    as text, for a policy's keys.bundle.seed
    --output    else to standard output

  keys inspect [--json] FILE
              what a bundle holds: its header, and its keys by their ids

exit status: 0 when all is well, 1 when something that was read is not valid, 2 when the command line makes no sense
";

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Say how it is used.
    Help,
    /// Check policies.
    Check(Check),
    /// Judge targets.
    Judge(judge::Arguments),
    /// Do with feeds what these arguments say.
    Feed(Vec<OsString>),
    /// Make and look at keys.
    Keys(Keys),
}

/// What is to be done with keys.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Keys {
    /// Make one.
    New {
        /// What it is for.
        label: String,
        /// The variable that holds the pepper.
        pepper: Option<String>,
        /// Whether a machine reads the answer.
        json: bool,
    },
    /// Tell the digest of the one on standard input.
    Hash {
        /// The variable that holds the pepper.
        pepper: Option<String>,
        /// Whether a machine reads the answer.
        json: bool,
    },
    /// Make a bundle.
    Bundle(Bundle),
    /// Look at a bundle.
    Inspect {
        /// The bundle.
        file: PathBuf,
        /// Whether a machine reads the answer.
        json: bool,
    },
}

/// The arguments of `keys bundle`.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Bundle {
    /// The document.
    pub(crate) keys: PathBuf,
    /// What has to be able to take the bundle.
    pub(crate) policy: Option<PathBuf>,
    /// An instant as text.
    pub(crate) generated_at: Option<String>,
    /// Whether it is wanted as text.
    pub(crate) base64: bool,
    /// Where it goes.
    pub(crate) output: Option<PathBuf>,
}

/// The arguments of `check`.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Check {
    /// Whether a machine reads the answer.
    pub(crate) json: bool,
    /// Whether warnings fail.
    pub(crate) strict: bool,
    /// At least one.
    pub(crate) policies: Vec<PathBuf>,
}

/// A command line that makes no sense.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Misuse {
    /// There is no command.
    NoCommand,
    /// There is no policy.
    NoPolicy,
    /// A flag has no value behind it.
    NoValue(String),
    /// Nobody knows this word.
    Unknown(String),
    /// A word where none belongs.
    Unexpected,
    /// A command that can't go without this.
    Missing(&'static str),
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("say what to do"),
            Self::NoPolicy => f.write_str("check: name at least one policy"),
            Self::NoValue(flag) => write!(f, "{flag}: name a file"),
            Self::Unexpected => {
                f.write_str("an argument that makes no sense here; keys come by standard input")
            }
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Unknown(word) => write!(f, "unknown argument `{word}`"),
        }
    }
}

impl Command {
    /// Reads the arguments behind the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Misuse> {
        let mut arguments = arguments.into_iter();
        let command = arguments.next().ok_or(Misuse::NoCommand)?;
        match command.to_str() {
            Some("help" | "--help" | "-h") => return Ok(Self::Help),
            Some("check") => {}
            Some("judge") => return Self::judge(arguments),
            Some("feed") => return Ok(Self::Feed(arguments.collect())),
            Some("keys") => return parse_keys(&mut arguments),
            _ => return Err(Misuse::Unknown(command.display().to_string())),
        }
        let mut check = Check::default();
        let mut only_files = false;
        for argument in arguments {
            match argument.to_str() {
                _ if only_files => check.policies.push(argument.into()),
                Some("--") => only_files = true,
                Some("--help" | "-h") => return Ok(Self::Help),
                Some("--json") => check.json = true,
                Some("--strict") => check.strict = true,
                Some(flag) if flag.len() > 1 && flag.starts_with('-') => {
                    return Err(Misuse::Unknown(flag.to_owned()));
                }
                _ => check.policies.push(argument.into()),
            }
        }
        if check.policies.is_empty() {
            return Err(Misuse::NoPolicy);
        }
        Ok(Self::Check(check))
    }

    fn judge(arguments: impl Iterator<Item = OsString>) -> Result<Self, Misuse> {
        let mut judge = judge::Arguments::default();
        let mut arguments = arguments;
        let mut only_targets = false;
        while let Some(argument) = arguments.next() {
            let mut file = |flag: &str| {
                let value = arguments.next();
                value
                    .map(PathBuf::from)
                    .ok_or_else(|| Misuse::NoValue(flag.to_owned()))
            };
            match argument.to_str() {
                Some(target) if only_targets => judge.targets.push(target.to_owned()),
                Some("--") => only_targets = true,
                Some("--help" | "-h") => return Ok(Self::Help),
                Some("--json") => judge.json = true,
                Some(flag @ "--bundle") => judge.bundle = Some(file(flag)?),
                Some(flag @ "--policy") => judge.policy = Some(file(flag)?),
                Some(flag) if flag.len() > 1 && flag.starts_with('-') => {
                    return Err(Misuse::Unknown(flag.to_owned()));
                }
                Some("-") => {}
                _ => judge.targets.push(argument.to_string_lossy().into_owned()),
            }
        }
        Ok(Self::Judge(judge))
    }
}

/// Reads what is behind `keys`.
fn parse_keys(arguments: &mut dyn Iterator<Item = OsString>) -> Result<Command, Misuse> {
    let verb = arguments
        .next()
        .ok_or(Misuse::Missing("new, hash, bundle or inspect"))?;
    let verb = verb.to_str().unwrap_or_default().to_owned();
    let flags: &[&str] = match verb.as_str() {
        "new" => &["--label", "--pepper-env", "--json"],
        "hash" => &["--pepper-env", "--json"],
        "bundle" => &["--policy", "--generated-at", "--base64", "--output"],
        "inspect" => &["--json"],
        "--help" | "-h" => return Ok(Command::Help),
        _ => return Err(Misuse::Unknown(verb)),
    };
    let takes_file = matches!(verb.as_str(), "bundle" | "inspect");
    let mut file = None;
    let mut given = BTreeMap::new();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        match flags.iter().find(|flag| **flag == text) {
            Some(flag @ &("--json" | "--base64")) => given.insert(*flag, OsString::new()),
            Some(flag) => {
                let value = arguments.next();
                given.insert(*flag, value.ok_or(Misuse::Missing("a value"))?)
            }
            None if matches!(text, "--help" | "-h") => return Ok(Command::Help),
            // Not echoed: it may be a key.
            None if !takes_file || (text.len() > 1 && text.starts_with('-')) || file.is_some() => {
                return Err(Misuse::Unexpected);
            }
            None => {
                file = Some(PathBuf::from(argument));
                None
            }
        };
    }
    let json = given.contains_key("--json");
    let mut text = |flag| given.remove(flag).map(|value| value.display().to_string());
    Ok(Command::Keys(match verb.as_str() {
        "new" => Keys::New {
            label: text("--label").ok_or(Misuse::Missing("--label"))?,
            pepper: text("--pepper-env"),
            json,
        },
        "hash" => Keys::Hash {
            pepper: text("--pepper-env"),
            json,
        },
        "bundle" => Keys::Bundle(Bundle {
            keys: file.ok_or(Misuse::Missing("the document of keys"))?,
            generated_at: text("--generated-at"),
            base64: given.contains_key("--base64"),
            policy: given.remove("--policy").map(PathBuf::from),
            output: given.remove("--output").map(PathBuf::from),
        }),
        _ => Keys::Inspect {
            file: file.ok_or(Misuse::Missing("the bundle"))?,
            json,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Misuse> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn files_and_flags_in_any_order() {
        let check = |json, strict, policies: &[&str]| {
            let policies = policies.iter().map(PathBuf::from).collect();
            Ok(Command::Check(Check {
                json,
                strict,
                policies,
            }))
        };
        assert_eq!(parse("check a.yaml"), check(false, false, &["a.yaml"]));
        assert_eq!(
            parse("check a --strict - --json b"),
            check(true, true, &["a", "-", "b"])
        );
        assert_eq!(parse("check -- --json"), check(false, false, &["--json"]));
        for line in ["help", "--help", "check -h", "check a --help"] {
            assert_eq!(parse(line), Ok(Command::Help), "{line}");
        }
    }

    #[test]
    fn targets_are_judged() {
        let judge = judge::Arguments {
            bundle: Some("b".into()),
            policy: Some("p.yaml".into()),
            json: true,
            targets: vec!["a.example".into(), "--json".into()],
        };
        let line = "judge --json --policy p.yaml a.example --bundle b -- --json";
        assert_eq!(parse(line), Ok(Command::Judge(judge)));
        for line in ["judge", "judge -"] {
            assert_eq!(parse(line), Ok(Command::Judge(judge::Arguments::default())));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, message) in [
            ("", "say what to do"),
            ("chekc a", "unknown argument `chekc`"),
            ("check", "check: name at least one policy"),
            ("check --json", "check: name at least one policy"),
            ("check --jsno a", "unknown argument `--jsno`"),
            ("judge --bundle", "--bundle: name a file"),
            ("judge --bundel x", "unknown argument `--bundel`"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), message, "{line}");
        }
    }
}
