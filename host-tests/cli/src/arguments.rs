//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// How the command is used.
pub(crate) const USAGE: &str = "\
usage: portcullis check [--json] [--strict] POLICY...

  check       find every error in policies, and what else is worth a look, with the filter's own code
    POLICY      a file, JSON or YAML (by extension, else by content); - is standard input
    --json      for machines: an array with an object for each file
    --strict    warnings fail too; notes never do

exit status: 0 when every policy is valid, 1 when one isn't, 2 when the command line makes no sense
";

/// What is to be done.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Say how it is used.
    Help,
    /// Check policies.
    Check(Check),
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
    /// Nobody knows this word.
    Unknown(String),
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("say what to do"),
            Self::NoPolicy => f.write_str("check: name at least one policy"),
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
    fn what_makes_no_sense_is_named() {
        for (line, message) in [
            ("", "say what to do"),
            ("chekc a", "unknown argument `chekc`"),
            ("check", "check: name at least one policy"),
            ("check --json", "check: name at least one policy"),
            ("check --jsno a", "unknown argument `--jsno`"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), message, "{line}");
        }
    }
}
