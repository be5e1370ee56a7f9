//! Events of MISP.
//!
//! Format: <https://www.misp-project.org/feeds/>, "MISP core format".

use portcullis_threat::Category;
use portcullis_threat::bundle::Scope;
use serde_json::Value;

use super::{Rows, json};
use crate::indicator::{self, Indicator, Row};
use crate::{Error, Reason, day};

pub(super) fn read(bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let document: Value = json(bytes, "an event of MISP")?;
    match &document {
        Value::Array(events) => events.iter().for_each(|each| event(each, rows)),
        one => event(one, rows),
    }
    Ok(())
}

fn event(document: &Value, rows: &mut dyn Rows) {
    let event = document.get("Event").unwrap_or(document);
    let said = [
        event
            .get("info")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        &tags(event),
    ]
    .concat();
    let own = list(event, "Attribute");
    let in_objects = list(event, "Object")
        .iter()
        .flat_map(|object| list(object, "Attribute"));
    for attribute in own.iter().chain(in_objects) {
        let text = |key: &str| {
            attribute
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let category = category_of(&[&said, &tags(attribute), text("comment")].concat());
        let seconds = attribute
            .get("timestamp")
            .and_then(|time| time.as_u64().or_else(|| time.as_str()?.parse().ok()));
        let is_indicator = match attribute.get("to_ids") {
            Some(Value::Bool(yes)) => *yes,
            Some(Value::String(text)) => text == "1" || text == "true",
            Some(Value::Number(number)) => number.as_u64() == Some(1),
            _ => false,
        };
        if attribute.get("deleted").and_then(Value::as_bool) == Some(true) {
            rows.row(Err(Reason::Revoked));
        } else if !is_indicator {
            rows.row(Err(Reason::NotAnIndicator));
        } else if text("value").is_empty() {
            rows.row(Err(Reason::Missing));
        } else {
            for indicator in values(text("type"), text("value")) {
                rows.row(indicator.map(|indicator| Row {
                    category,
                    last_seen: seconds.and_then(day::of_seconds),
                    first_seen: day::of(text("first_seen")),
                    ..Row::of(indicator)
                }));
            }
        }
    }
}

/// What an attribute names; a composite may name two
fn values(kind: &str, value: &str) -> Vec<Result<Indicator, Reason>> {
    let (first, second) = value.split_once('|').unwrap_or((value, ""));
    let domain = |name: &str| indicator::domain(name.as_bytes(), Scope::SUBDOMAINS);
    let name = |name: &str| indicator::domain(name.as_bytes(), Scope::EXACT);
    match kind {
        "url" | "uri" | "link" => vec![indicator::url(value.as_bytes(), Scope::EXACT)],
        "domain" => vec![domain(value)],
        "hostname" => vec![name(value)],
        "hostname|port" => vec![name(first)],
        "domain|ip" => vec![domain(first), indicator::address(second)],
        "ip-dst" | "ip-src" => vec![indicator::address_or_network(value)],
        "ip-dst|port" | "ip-src|port" => vec![indicator::address(first)],
        "md5" | "sha1" | "sha256" => vec![indicator::hash(value)],
        "filename|md5" | "filename|sha1" | "filename|sha256" => vec![indicator::hash(second)],
        _ => vec![Err(Reason::UnsupportedType)],
    }
}

/// What words of a feed say about a threat
pub(crate) fn category_of(text: &str) -> Option<Category> {
    let text = text.to_ascii_lowercase();
    [
        (&["phish"][..], Category::Phishing),
        (
            &["c2", "command-and-control", "command and control", "botnet"],
            Category::CommandAndControl,
        ),
        (
            &["malware", "ransom", "trojan", "malicious url"],
            Category::Malware,
        ),
        (&["spam"], Category::Spam),
        (&["scanner", "bruteforce", "brute-force"], Category::Scanner),
    ]
    .into_iter()
    .find(|(words, _)| words.iter().any(|word| text.contains(word)))
    .map(|(_, category)| category)
}

fn tags(object: &Value) -> String {
    let names = list(object, "Tag")
        .iter()
        .filter_map(|tag| tag.get("name")?.as_str());
    names.fold(String::new(), |all, name| format!("{all} {name}"))
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
