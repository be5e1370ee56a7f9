//! What was found, for people and for machines.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::check::{Checked, Excerpt, Finding, Severity};

/// For people: the findings of each file and a line on how it stands.
pub(crate) fn text(checked: &[Checked]) -> String {
    let mut out = String::new();
    for one in checked {
        let file = plain(&one.file.display().to_string());
        for finding in &one.findings {
            push(&mut out, &file, finding);
        }
        let state = match &one.policy {
            Some((_, summary)) => format!("valid, {}", plain(summary)),
            None => "refused".to_owned(),
        };
        let counts = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
            let plural = |count| if count == 1 { "" } else { "s" };
            match one.count(severity) {
                0 => String::new(),
                count => format!("; {count} {}{}", severity.word(), plural(count)),
            }
        });
        let _ = writeln!(out, "{file}: {state}{}", counts.concat());
    }
    out
}

fn push(out: &mut String, file: &str, finding: &Finding) {
    let Finding {
        severity,
        path,
        message,
        position,
        excerpt,
    } = finding;
    let path = if path.is_empty() {
        String::new()
    } else {
        format!("{}: ", plain(path))
    };
    let _ = writeln!(out, "{}: {path}{}", severity.word(), plain(message));
    let Some((line, column)) = position else {
        let _ = writeln!(out, "  --> {file}\n");
        return;
    };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let _ = writeln!(out, "{margin}--> {file}:{line}:{column}");
    if let Some(Excerpt { text, indent }) = excerpt {
        let indent_text = " ".repeat(*indent);
        let length = text.chars().count().saturating_sub(*indent).max(1);
        let _ = writeln!(out, "{margin} |");
        let _ = writeln!(out, "{number} | {}", plain(text));
        let _ = writeln!(out, "{margin} | {indent_text}{}", "^".repeat(length));
    }
    out.push('\n');
}

/// Without what a terminal would obey.
fn plain(text: &str) -> String {
    let plain = |character: char| {
        if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        }
    };
    text.chars().map(plain).collect()
}

/// For machines: an array with an object for each file.
pub(crate) fn json(checked: &[Checked]) -> String {
    let files: Vec<Value> = checked
        .iter()
        .map(|one| {
            let findings: Vec<Value> = one.findings.iter().map(object).collect();
            json!({
                "file": one.file.display().to_string(),
                "valid": one.policy.is_some(),
                "revision": one.policy.as_ref().map(|(revision, _)| revision),
                "findings": findings,
            })
        })
        .collect();
    format!("{:#}\n", Value::from(files))
}

fn object(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.word(),
        "path": finding.path,
        "message": finding.message,
        "line": finding.position.map(|(line, _)| line),
        "column": finding.position.map(|(_, column)| column),
    })
}
