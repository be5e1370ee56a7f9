//! `portcullis feed`: compiles threat feeds into bundles, and looks at bundles.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_feed::{Error, Format, Options, Signature, Source};
use portcullis_threat::{Bundle, Refusal, Terms};
use serde_json::json;

/// How the command is used.
pub(crate) const USAGE: &str = "\
usage: portcullis feed compile INPUT... -o BUNDLE [--manifest FILE] [--format FORMAT] [--at TIME] [--secret-file FILE]
                               [--sign-with KEY] [--previous BUNDLE] [--force] [--json]
       portcullis feed inspect BUNDLE [--json]
       portcullis feed diff OLD NEW [--json]
       portcullis feed verify BUNDLE [--key KEY] [--sha256 DIGEST] [--licence LICENCE]... [--at TIME] [--json]

  INPUT          a feed: a file, a folder of MISP events, - for standard input; its format is found by its content. What is to be
                 known of it may stand before it: NAME=..,LICENCE=..,ROLE=deny|allow|guard,CATEGORY=..,CONFIDENCE=0..100,
                 BLOCK_FROM=0..100,FORMAT=..,FETCHED_AT=TIME,VALIDITY_HOURS=..,MAX_AGE_DAYS=..,TOP=ROWS:PATH
  --manifest     a YAML file with the same for many feeds
  --format       what each input is that says no FORMAT of its own, instead of what its content looks like
  --at           now, as in 2026-11-22T01:02:03Z; else SOURCE_DATE_EPOCH, else the clock
  --secret-file  what only you know: the keys' secret is made of it, and bundles can be compared key by key
  --sign-with    an Ed25519 key as openssl genpkey writes it
  --previous     no feed may have shrunk to less than half since; else the bundle that is replaced
  --force        write it even so, and where more than half of a feed's rows can't be read
  --key          the public half, as openssl pkey -pubout writes it
  --sha256       the digest that a policy pins
  --licence      one that a policy allows

exit status: 0 when it is done and well, 1 when it is not, 2 when the command line makes no sense
";

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Printed, and whether all is well.
    Told(String, bool),
    /// The command line makes no sense.
    Misuse(String),
}

/// Runs the command with the arguments behind `feed`.
pub(crate) fn run(arguments: Vec<OsString>) -> Outcome {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(misuse) => return Outcome::Misuse(misuse),
    };
    let told = match arguments.command.as_str() {
        "compile" => compile(&arguments),
        "inspect" => inspect(&arguments),
        "diff" => diff(&arguments),
        "verify" => verify(&arguments),
        _ => return Outcome::Told(USAGE.to_owned(), true),
    };
    match told {
        Ok((text, is_well)) => Outcome::Told(text, is_well),
        Err(errors) => {
            for error in errors {
                eprintln!("portcullis: feed: {error}");
            }
            Outcome::Told(String::new(), false)
        }
    }
}

type Told = Result<(String, bool), Vec<Error>>;

#[derive(Debug, Default)]
struct Arguments {
    command: String,
    paths: Vec<PathBuf>,
    output: Option<PathBuf>,
    manifest: Option<PathBuf>,
    at: Option<u64>,
    secret: Option<PathBuf>,
    key: Option<PathBuf>,
    previous: Option<PathBuf>,
    sha256: Option<String>,
    licences: Vec<String>,
    format: Option<Format>,
    force: bool,
    json: bool,
}

impl Arguments {
    fn parse(arguments: Vec<OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let mut parsed = Self::default();
        let command = arguments.next().unwrap_or_default();
        parsed.command = match command.to_str() {
            Some(word @ ("compile" | "inspect" | "diff" | "verify")) => word.to_owned(),
            Some("help" | "--help" | "-h") => return Ok(parsed),
            Some("") => return Err("feed: say what to do".to_owned()),
            _ => return Err(format!("feed: unknown argument `{}`", command.display())),
        };
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| {
                let value = arguments.next();
                value.ok_or_else(|| format!("feed: {what} needs a value"))
            };
            match argument.to_str() {
                Some("--help" | "-h") => {
                    return Ok(Self::default());
                }
                Some("--json") => parsed.json = true,
                Some("--force") => parsed.force = true,
                Some(flag @ ("-o" | "--output")) => parsed.output = Some(value(flag)?.into()),
                Some(flag @ "--manifest") => parsed.manifest = Some(value(flag)?.into()),
                Some(flag @ "--secret-file") => parsed.secret = Some(value(flag)?.into()),
                Some(flag @ ("--sign-with" | "--key")) => parsed.key = Some(value(flag)?.into()),
                Some(flag @ "--previous") => parsed.previous = Some(value(flag)?.into()),
                Some(flag @ "--sha256") => {
                    parsed.sha256 = Some(value(flag)?.to_string_lossy().to_ascii_lowercase());
                }
                Some(flag @ "--licence") => {
                    parsed
                        .licences
                        .push(value(flag)?.to_string_lossy().into_owned());
                }
                Some(flag @ "--format") => {
                    let word = value(flag)?;
                    let format = word.to_str().and_then(Format::named);
                    let wrong = || {
                        let known = Format::ALL.map(Format::word).join(", ");
                        format!("feed: --format: `{}` is none of: {known}", word.display())
                    };
                    parsed.format = Some(format.ok_or_else(wrong)?);
                }
                Some(flag @ "--at") => {
                    let text = value(flag)?;
                    let time = text.to_str().and_then(portcullis_feed::seconds);
                    let wrong = || format!("feed: --at: `{}` is no time", text.display());
                    parsed.at = Some(time.ok_or_else(wrong)?);
                }
                Some(flag) if flag.len() > 1 && flag.starts_with('-') => {
                    return Err(format!("feed: unknown argument `{flag}`"));
                }
                _ => parsed.paths.push(argument.into()),
            }
        }
        let fits = match parsed.command.as_str() {
            "compile" => {
                parsed.output.is_some() && !(parsed.paths.is_empty() && parsed.manifest.is_none())
            }
            "diff" => parsed.paths.len() == 2,
            _ => parsed.paths.len() == 1,
        };
        if fits {
            Ok(parsed)
        } else {
            Err(format!(
                "feed {}: name what to read, and what to write",
                parsed.command
            ))
        }
    }

    fn now(&self) -> u64 {
        let given = std::env::var("SOURCE_DATE_EPOCH")
            .ok()
            .and_then(|text| text.parse().ok());
        self.at.or(given).unwrap_or_else(clock)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line tells the compiler what time it is"
)]
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn compile(arguments: &Arguments) -> Told {
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    if let Some(path) = &arguments.manifest {
        let text = text(path)?;
        match portcullis_feed::read_manifest(&text, path.parent().unwrap_or(Path::new("."))) {
            Ok(more) => sources.extend(more),
            Err(more) => errors.extend(more),
        }
    }
    for path in &arguments.paths {
        match Source::parse(&path.to_string_lossy()) {
            Ok(mut source) => {
                source.format = source.format.or(arguments.format);
                sources.push(source);
            }
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let output = arguments.output.clone().unwrap_or_default();
    let secret = arguments.secret.as_deref().map(bytes).transpose()?;
    let signer = arguments.key.as_deref().map(text).transpose()?;
    let sections = portcullis_fit::sections().map_err(|error| vec![Error::new(error)])?;
    let previous = match &arguments.previous {
        Some(path) => Some(open(path)?),
        // What is there and is no bundle guards nothing.
        None => fs::read(&output)
            .ok()
            .and_then(|bytes| Bundle::open(bytes, &Terms::default()).ok()),
    };
    let shown = Cell::new(false);
    let progress = |feed: &str, rows: usize| {
        if io::stderr().is_terminal() {
            shown.set(true);
            eprint!("\r{feed}: {rows} rows\x1b[K");
        }
    };
    let options = Options {
        at: arguments.now(),
        secret: secret.as_deref(),
        previous: previous.as_ref(),
        sections: Some(&sections),
        progress: Some(&progress),
    };
    let compiled = portcullis_feed::compile(&sources, &options);
    if shown.get() {
        eprint!("\r\x1b[K");
    }
    let mut compiled = compiled.map_err(|error| vec![error])?;
    if let Some(signer) = &signer {
        portcullis_feed::sign(&mut compiled.bytes, signer).map_err(|error| vec![error])?;
    }
    let is_well = (compiled.shrunk.is_empty() && compiled.unlike.is_empty()) || arguments.force;
    if is_well {
        write(&output, &compiled.bytes)?;
    }
    let text = if arguments.json {
        let mut report = compiled.json();
        if let Some(report) = report.as_object_mut() {
            report.insert("written".into(), is_well.into());
        }
        line(&report)
    } else {
        compiled.text()
    };
    Ok((text, is_well))
}

fn inspect(arguments: &Arguments) -> Told {
    let bundle = open(arguments.paths.first().ok_or_else(Vec::new)?)?;
    let report = portcullis_feed::inspect(&bundle);
    let text = if arguments.json {
        line(&report)
    } else {
        format!("{report:#}\n")
    };
    Ok((text, true))
}

fn diff(arguments: &Arguments) -> Told {
    let [old, new] = arguments.paths.as_slice() else {
        return Err(Vec::new());
    };
    let difference = portcullis_feed::diff(&open(old)?, &open(new)?);
    let text = if arguments.json {
        line(&difference.json())
    } else {
        difference.text()
    };
    Ok((text, true))
}

fn verify(arguments: &Arguments) -> Told {
    let path = arguments.paths.first().ok_or_else(Vec::new)?;
    let licences = (!arguments.licences.is_empty()).then_some(arguments.licences.as_slice());
    let terms = Terms {
        licences,
        ..Terms::default()
    };
    let mut wrong = Vec::new();
    let mut signed_by = None;
    let mut digest = None;
    match Bundle::open(bytes(path)?, &terms) {
        Err(Refusal::Licence(feed)) => {
            let bundle = open(path)?;
            let feed = bundle.feed(feed);
            let (name, licence) = feed.map_or(("", ""), |feed| (feed.name, feed.licence));
            wrong.push(format!(
                "the licence of {name} is {licence}, which --licence does not allow"
            ));
        }
        Err(refusal) => wrong.push(refusal.to_string()),
        Ok(bundle) => {
            let hex: String = bundle
                .digest()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if arguments
                .sha256
                .as_ref()
                .is_some_and(|wanted| *wanted != hex)
            {
                wrong.push(format!(
                    "its digest is {hex}, which is not the one that is wanted"
                ));
            }
            if !bundle.is_orderly() {
                wrong
                    .push("its keys are not in order: it would find less than it holds".to_owned());
            }
            let valid_until = bundle.valid_until();
            if valid_until < arguments.now() {
                let since = portcullis_feed::time(valid_until);
                wrong.push(format!(
                    "a feed is out of date since {since}: compile it anew"
                ));
            }
            let key = arguments.key.as_deref().map(text).transpose()?;
            match portcullis_feed::signature(&bundle, key.as_deref())
                .map_err(|error| vec![error])?
            {
                Signature::Good => signed_by = Some("the key that was given"),
                Signature::By(_) => signed_by = Some("somebody; --key says who may"),
                Signature::None if key.is_none() => {}
                Signature::None => wrong.push("nobody signed it".to_owned()),
                Signature::Bad => wrong.push(
                    "its signature is not by the key that was given, or not of this bundle"
                        .to_owned(),
                ),
            }
            digest = Some(hex);
        }
    }
    let is_well = wrong.is_empty();
    let text = if arguments.json {
        line(&json!({"valid": is_well, "sha256": digest, "signed_by": signed_by, "errors": wrong}))
    } else {
        let signed =
            signed_by.map_or_else(|| "not signed".to_owned(), |by| format!("signed by {by}"));
        match digest.filter(|_| is_well) {
            Some(digest) => format!("{}: good, sha256 {digest}, {signed}\n", path.display()),
            None => wrong
                .iter()
                .map(|line| format!("{}: {line}\n", path.display()))
                .collect(),
        }
    };
    Ok((text, is_well))
}

fn open(path: &Path) -> Result<Bundle, Vec<Error>> {
    let opened = Bundle::open(bytes(path)?, &Terms::default());
    opened.map_err(|refusal| vec![Error::new(format!("{}: {refusal}", path.display()))])
}

fn bytes(path: &Path) -> Result<Vec<u8>, Vec<Error>> {
    fs::read(path).map_err(|error| failure(path, &error))
}

fn text(path: &Path) -> Result<String, Vec<Error>> {
    fs::read_to_string(path).map_err(|error| failure(path, &error))
}

/// Whole or not at all: who reads the file meanwhile has the old one
fn write(path: &Path, bytes: &[u8]) -> Result<(), Vec<Error>> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| failure(path, &error))
}

fn failure(path: &Path, error: &io::Error) -> Vec<Error> {
    vec![Error::new(format!("{}: {error}", path.display()))]
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}
