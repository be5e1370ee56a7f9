//! Checking one policy.

use std::path::{Path, PathBuf};

use portcullis_policy::{Level, Policy};

use crate::document::{self, Position, Syntax};
use crate::places::{Extent, Place, Places};

/// What came of one file.
#[derive(Debug)]
pub(crate) struct Checked {
    /// As it was named.
    pub(crate) file: PathBuf,
    /// Revision and summary of a valid policy.
    pub(crate) policy: Option<(String, String)>,
    /// Errors first, each kind sorted by path.
    pub(crate) findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// Dotted path in the policy; empty for the whole.
    pub(crate) path: String,
    /// What it is, and what to do.
    pub(crate) message: String,
    /// Where it stands in the text.
    pub(crate) position: Option<Position>,
    /// What stands there.
    pub(crate) excerpt: Option<Excerpt>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Severity {
    /// The policy is refused.
    Error,
    /// It is taken, and something in it has no effect or contradicts the rest.
    Warning,
    /// It is taken, and this door was opened by hand.
    Note,
}

impl Severity {
    /// For people and machines.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A key with its value, or one of them.
///
/// Never the whole line, which may hold anything else, and never the value of something under `keys`:
/// who writes a key where its digest belongs must not read it in a build's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Excerpt {
    /// A part of one line.
    pub(crate) text: String,
    /// Characters in front of what is underlined.
    pub(crate) indent: usize,
}

impl Checked {
    /// Whether the policy is refused.
    pub(crate) fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is a warning.
    pub(crate) fn has_warnings(&self) -> bool {
        self.count(Severity::Warning) > 0
    }

    /// How many findings there are of a severity.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        let of = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of).count()
    }
}

/// Checks the policy in a file, or on standard input for `-`.
pub(crate) fn check(file: &Path) -> Checked {
    let (policy, findings) = match document::read(file) {
        Ok(text) => examine(file, &text),
        Err(message) => (None, vec![whole(message, None)]),
    };
    Checked {
        file: file.to_owned(),
        policy,
        findings,
    }
}

/// A finding of the document as a whole.
fn whole(message: String, position: Option<Position>) -> Finding {
    Finding {
        severity: Severity::Error,
        path: String::new(),
        message,
        position,
        excerpt: None,
    }
}

fn examine(file: &Path, text: &str) -> (Option<(String, String)>, Vec<Finding>) {
    let syntax = Syntax::of(file, text);
    let json = match document::to_json(text, syntax) {
        Ok(json) => json,
        Err((message, position)) => return (None, vec![whole(message, position)]),
    };
    let places = Places::of(text);
    let mut findings = Vec::new();
    let mut find = |severity, path: &str, message: &str| {
        let (position, excerpt) = places
            .find(path)
            .filter(|_| !path.is_empty())
            .map(|(place, is_exact)| locate(text, path, message, &place, is_exact))
            .unwrap_or_default();
        findings.push(Finding {
            severity,
            path: path.to_owned(),
            message: message.to_owned(),
            position: position.or_else(|| document::json_position(message)),
            excerpt,
        });
    };
    // Whether a variable is set where Envoy runs is not to be seen here.
    let variable = |_: &str| Some("a pepper that stands for any".to_owned());
    let policy = match Policy::parse_with(&json, "check", &variable) {
        Ok(policy) => Some((policy.revision().to_owned(), policy.summary())),
        Err(errors) => {
            for error in errors {
                find(Severity::Error, &error.path, &error.message);
            }
            None
        }
    };
    for advice in Policy::advise(&json) {
        let severity = match advice.level {
            Level::Note => Severity::Note,
            Level::Warning => Severity::Warning,
        };
        find(severity, &advice.path, &advice.message);
    }
    if syntax == Syntax::Yaml {
        for path in places.doubtful() {
            let message =
                "is true or false for other YAML readers, Envoy's among them: write it in quotes";
            find(Severity::Warning, path, message);
        }
    }
    findings.sort_by(|a, b| (a.severity, &a.path).cmp(&(b.severity, &b.path)));
    (policy, findings)
}

/// Where a finding stands, and what may be shown of it.
fn locate(
    text: &str,
    path: &str,
    message: &str,
    place: &Place,
    is_exact: bool,
) -> (Option<Position>, Option<Excerpt>) {
    let is_secret = path.contains(".keys") || message.starts_with("unknown field");
    let shows_value = is_exact && place.is_scalar && !is_secret;
    let target = match place.key {
        Some(key) if !shows_value => key,
        _ => place.value,
    };
    let alone = |extent: Extent| Excerpt {
        text: extent.text(text).to_owned(),
        indent: 0,
    };
    let excerpt = match place.key {
        Some(key) if shows_value && key.line == place.value.line => {
            let (name, value) = (key.text(text), place.value.text(text));
            let indent = place.value.column.saturating_sub(key.column);
            let blanks = indent.saturating_sub(name.chars().count().saturating_add(1));
            Some(Excerpt {
                text: format!("{name}:{}{value}", " ".repeat(blanks)),
                indent,
            })
        }
        _ if shows_value => Some(alone(place.value)),
        Some(key) => Some(alone(key)),
        None => None,
    };
    (Some((target.line, target.column)), excerpt)
}
