//! What Envoy's access log has of the filter's decisions.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use portcullis_policy::Reason;
use serde_json::{Map, Value};

use super::config::ACCESS_LOG;
use super::process::Process;
use crate::ring::Record;
use crate::wire::stream::Deadline;

/// How long the file may lag behind.
const LAG: Duration = Duration::from_secs(10);

/// The access log so far.
///
/// # Errors
/// There is none.
pub fn read(process: &Process) -> Result<String, String> {
    let path = process.directory().join(ACCESS_LOG);
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// One line: what was answered, and the filter's record, if it has one.
#[derive(Clone, Debug)]
pub struct Line {
    /// The status.
    pub status: u64,
    /// Envoy's word for who answered.
    pub details: String,
    /// The record.
    pub gate: Option<Record>,
}

/// Waits until the access log has so many lines, and gives them.
///
/// # Errors
/// It has fewer in time, or a line is not what it should be.
pub fn lines(process: &Process, at_least: usize) -> Result<Vec<Line>, String> {
    let deadline = Deadline::after(LAG);
    loop {
        let text = read(process)?;
        if text.ends_with('\n') && text.lines().count() >= at_least {
            return text.lines().map(line).collect();
        }
        deadline.left().map_err(|_| {
            let found = text.lines().count();
            format!("the access log has {found} lines, not {at_least}")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
}

fn line(text: &str) -> Result<Line, String> {
    let wrong = |what: &str| format!("{what} in the access log: {text}");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong("no JSON"))?;
    let gate = match value.get("gate") {
        Some(Value::Null) => None,
        Some(Value::Object(fields)) => Some(Record::from_fields(whole(fields.clone()))),
        _ => return Err(wrong("no record and no null")),
    };
    let details = value.get("details").and_then(Value::as_str);
    Ok(Line {
        status: value.get("status").and_then(Value::as_u64).unwrap_or(0),
        details: details.unwrap_or_default().to_owned(),
        gate,
    })
}

/// A `Struct` has doubles only: 1.0 is 1.
fn whole(fields: Map<String, Value>) -> Map<String, Value> {
    let number = |value: Value| match value.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the record's numbers are whole and not negative"
        )]
        Some(number) => Value::from(number as u64),
        None => value,
    };
    let fields = fields.into_iter();
    fields.map(|(name, value)| (name, number(value))).collect()
}

/// Checks that the access log has the record of every decision that a policy wants there: refusals
/// unless it says otherwise, and that it is the one that the filter logged.
///
/// # Errors
/// The first decision that is missing or told in another way.
pub fn tells_all(process: &Process, decided: &[Record]) -> Result<(), String> {
    let deadline = Deadline::after(LAG);
    loop {
        let told = compare(&lines(process, 0)?, decided);
        if told.is_ok() || deadline.left().is_err() {
            return told;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn compare(lines: &[Line], decided: &[Record]) -> Result<(), String> {
    let records = lines.iter().filter_map(|line| line.gate.as_ref());
    let told: BTreeMap<String, &Record> = records
        .filter_map(|record| Some((record.get("decision")?, record)))
        .collect();
    let (mut found, mut untold) = (0_usize, 0_usize);
    for record in decided {
        let decision = record.get("decision").unwrap_or_default();
        match told.get(&decision) {
            Some(told) if *told == record => found += 1,
            Some(told) => return Err(format!("the access log has {told} for {record}")),
            None if is_refusal(record) => {
                return Err(format!("the access log has no record of {record}"));
            }
            None => untold += 1,
        }
    }
    println!("access log: {found} records as they were logged, {untold} decisions not asked for");
    Ok(())
}

fn is_refusal(record: &Record) -> bool {
    let word = record.get("reason");
    let reason = Reason::ALL
        .iter()
        .find(|reason| Some(reason.word()) == word.as_deref());
    reason.is_none_or(|reason| reason.is_refusal())
}
