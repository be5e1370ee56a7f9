//! `portcullis judge`: verdicts on targets, with the filter's own engine.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use portcullis_fit::Sections;
use portcullis_policy::Policy;
use portcullis_threat::bundle::Table;
use portcullis_threat::structure::Tables;
use portcullis_threat::{Bundle, Judge, Model, Target, Terms, Verdict};

use crate::document::{self, Syntax};

/// The arguments of `judge`.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Arguments {
    /// Whose feeds; without one those that come with the policy, or structure alone is judged.
    pub(crate) bundle: Option<PathBuf>,
    /// Whose lists and whose model; without one there are no lists, and it is the newest model.
    pub(crate) policy: Option<PathBuf>,
    /// Whether a machine reads the answer.
    pub(crate) json: bool,
    /// What is judged; without any each line of standard input.
    pub(crate) targets: Vec<String>,
}

/// Why nothing can be judged.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    nobody_reads: bool,
}

impl Failure {
    fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            why: why.to_string(),
            nobody_reads: false,
        }
    }

    /// Whether it is only that whoever read has left.
    pub(crate) fn nobody_reads(&self) -> bool {
        self.nobody_reads
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What targets are judged by, read once.
struct Bench {
    /// Where no bundle has its own.
    sections: Option<Sections>,
    bundle: Option<Bundle>,
    /// The first digits of the bundle's digest.
    name: Option<String>,
    policy: Option<Policy>,
    /// Seconds since 1970.
    now: u64,
}

/// Judges what the arguments name, and writes a line for each.
///
/// # Errors
///
/// When a bundle or a policy can't be used, or nobody reads on.
pub(crate) fn judge(arguments: &Arguments, now: u64, out: impl Write) -> Result<(), Failure> {
    let bench = Bench::read(arguments, now)?;
    let judge = bench.judge();
    let mut writer = Lines {
        out: BufWriter::with_capacity(1 << 16, out),
        line: Vec::new(),
        json: arguments.json,
        bundle: bench.name.as_deref(),
    };
    let failed = |error: io::Error| Failure {
        nobody_reads: error.kind() == io::ErrorKind::BrokenPipe,
        ..Failure::new("standard input or output", error)
    };
    if arguments.targets.is_empty() {
        let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if !text.is_empty() {
                writer.write(text, &judge).map_err(failed)?;
            }
            // Who waits for an answer gets it.
            if input.buffer().is_empty() {
                writer.out.flush().map_err(failed)?;
            }
        }
    }
    for target in &arguments.targets {
        writer.write(target, &judge).map_err(failed)?;
    }
    writer.out.flush().map_err(failed)
}

impl Bench {
    fn read(arguments: &Arguments, now: u64) -> Result<Self, Failure> {
        let failed = |path: &Path, why: String| Failure::new(path.display(), why);
        let bundle = match &arguments.bundle {
            Some(path) => {
                let bytes = fs::read(path).map_err(|error| failed(path, error.to_string()))?;
                let bundle = Bundle::open(bytes, &Terms::default())
                    .map_err(|refusal| failed(path, format!("is no bundle: {}", refusal.word())))?;
                Some(bundle)
            }
            None => None,
        };
        let policy = match &arguments.policy {
            Some(path) => Some(read_policy(path).map_err(|why| failed(path, why))?),
            None => None,
        };
        let sections = match &bundle {
            Some(bundle) if tables(bundle).is_some() => None,
            _ => Some(portcullis_fit::sections().map_err(|why| Failure::new("tables", why))?),
        };
        let seed = policy.as_ref().and_then(Policy::threat_seed);
        let name = bundle.as_ref().or(seed).map(|bundle| {
            let digest = bundle.digest().iter().take(6);
            digest.map(|byte| format!("{byte:02x}")).collect()
        });
        Ok(Self {
            sections,
            bundle,
            name,
            policy,
            now,
        })
    }

    fn judge(&self) -> Judge<'_> {
        // As the gate judges by what comes with the policy alone: its feeds, tables, and how old they may be.
        if let (None, Some(policy)) = (&self.bundle, &self.policy)
            && let Some(judge) = policy.threat_judge(self.now)
        {
            return judge;
        }
        let of_bundle = self.bundle.as_ref().and_then(tables);
        let newest = Model::WORDS
            .last()
            .map_or(Model::Quick2, |(_, model)| *model);
        let model = self.policy.as_ref().map_or(newest, Policy::threat_model);
        let mut judge = Judge::new(model, self.now);
        if let Some(policy) = &self.policy {
            judge = judge.with_lists(policy.threat_lists());
        }
        if let Some(bundle) = &self.bundle {
            judge = judge.with_bundle(bundle);
        }
        match of_bundle.or_else(|| self.sections.as_ref()?.tables()) {
            Some(tables) => judge.with_tables(tables),
            None => judge,
        }
    }
}

/// The tables that a bundle carries.
fn tables(bundle: &Bundle) -> Option<Tables<'_>> {
    Tables::new(
        bundle.table(Table::Suffixes),
        bundle.table(Table::Brands),
        bundle.table(Table::Confusables),
        bundle.table(Table::Model),
    )
}

fn read_policy(path: &Path) -> Result<Policy, String> {
    let text = document::read(path)?;
    let json = document::to_json(&text, Syntax::of(path, &text)).map_err(|(why, _)| why)?;
    Policy::parse(&json, "judge").map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        format!("is no valid policy (`portcullis check` says more): {first}")
    })
}

/// Writes a line for each target.
struct Lines<'a, W: Write> {
    out: BufWriter<W>,
    line: Vec<u8>,
    json: bool,
    bundle: Option<&'a str>,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, text: &str, judge: &Judge<'_>) -> io::Result<()> {
        let target = Target::classify(text);
        let verdict = judge.judge(&target);
        self.line.clear();
        if self.json {
            self.json(text, &target, &verdict)?;
        } else {
            self.table(text, &target, &verdict)?;
        }
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    /// As an object. By hand but for the texts of others: it is half of the time otherwise.
    fn json(&mut self, text: &str, target: &Target<'_>, verdict: &Verdict<'_>) -> io::Result<()> {
        let line = &mut self.line;
        line.extend_from_slice(b"{\"target\":");
        serde_json::to_writer(&mut *line, text)?;
        line.extend_from_slice(b",\"type\":\"");
        line.extend_from_slice(target.kind().word().as_bytes());
        line.extend_from_slice(b"\",\"classification\":\"");
        line.extend_from_slice(verdict.classification.word().as_bytes());
        line.extend_from_slice(b"\",\"risk_score\":");
        serde_json::to_writer(&mut *line, &verdict.score.get())?;
        line.extend_from_slice(b",\"categories\":[");
        for (at, category) in verdict.categories().enumerate() {
            line.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            line.extend_from_slice(category.word().as_bytes());
            line.push(b'"');
        }
        line.extend_from_slice(b"],\"evidence\":[");
        for (at, evidence) in verdict.evidence.iter().enumerate() {
            line.extend_from_slice(if at == 0 {
                b"{\"code\":\""
            } else {
                b",{\"code\":\""
            });
            line.extend_from_slice(evidence.code.word().as_bytes());
            line.extend_from_slice(b"\",\"points\":");
            serde_json::to_writer(&mut *line, &evidence.points.get())?;
            line.push(b'}');
        }
        line.extend_from_slice(b"],\"bundle\":");
        serde_json::to_writer(&mut *line, &self.bundle)?;
        line.push(b'}');
        Ok(())
    }

    /// As columns. Control characters of the target don't reach a terminal.
    fn table(&mut self, text: &str, target: &Target<'_>, verdict: &Verdict<'_>) -> io::Result<()> {
        write!(
            self.line,
            "{:<10} {:>3}  {:<7}  ",
            verdict.classification.word(),
            verdict.score.get(),
            target.kind().word()
        )?;
        for c in text.chars() {
            if c.is_control() {
                write!(self.line, "{}", c.escape_default())?;
            } else {
                write!(self.line, "{c}")?;
            }
        }
        for evidence in verdict.evidence.iter() {
            let (word, points) = (evidence.code.word(), evidence.points.get());
            write!(self.line, "  {word}={points}")?;
        }
        Ok(())
    }
}
