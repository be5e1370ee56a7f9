//! Feeds that are one JSON document of their own making.

use portcullis_threat::bundle::Scope;
use serde_json::{Map, Value};

use super::lines::host;
use super::table::{ioc, threat};
use super::{Rows, json};
use crate::indicator::{self, Row};
use crate::{Error, Reason, Role, day};

/// A dump (ids to lists of indicators), or an answer of the API (`data`)
pub(super) fn threatfox(bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let document: Map<String, Value> = json(bytes, "ThreatFox's JSON")?;
    let one = |object: &Value, rows: &mut dyn Rows| {
        rows.row(threatfox_row(object));
    };
    for (key, value) in &document {
        match value {
            Value::Array(all) => all.iter().for_each(|object| one(object, rows)),
            Value::String(_) if key == "query_status" => {}
            _ => rows.row(Err(Reason::Malformed)),
        }
    }
    Ok(())
}

fn threatfox_row(object: &Value) -> Result<Row, Reason> {
    let text = |keys: [&str; 2]| {
        let value = keys.iter().find_map(|key| object.get(key)?.as_str());
        value.unwrap_or_default()
    };
    let value = text(["ioc_value", "ioc"]);
    if value.is_empty() {
        return Err(Reason::Missing);
    }
    let first = day::of(text(["first_seen_utc", "first_seen"]));
    let confidence = object.get("confidence_level").and_then(|level| {
        let number = level.as_u64().or_else(|| level.as_str()?.parse().ok());
        u8::try_from(number?).ok()
    });
    Ok(Row {
        category: threat(text(["threat_type", "threat_type"])),
        confidence,
        first_seen: first,
        last_seen: day::of(text(["last_seen_utc", "last_seen"])).or(first),
        ..Row::of(ioc(text(["ioc_type", "ioc_type"]), value)?)
    })
}

pub(super) fn phishtank(bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let document: Vec<Value> = json(bytes, "PhishTank's JSON")?;
    for object in &document {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let row = match text("url") {
            "" => Err(Reason::Missing),
            url => indicator::url(url.as_bytes(), Scope::EXACT).map(|indicator| Row {
                confidence: (text("verified") != "yes").then_some(60),
                first_seen: day::of(text("submission_time")),
                last_seen: day::of(text("verification_time")),
                is_current: text("online") == "yes",
                ..Row::of(indicator)
            }),
        };
        rows.row(row);
    }
    Ok(())
}

/// `allow` is what must not be condemned as a whole (hosting), `deny` hosts with all below them, `denySub` URLs with
/// all below them
pub(super) fn polkadot(bytes: &[u8], rows: &mut dyn Rows) -> Result<(), Error> {
    let document: Map<String, Value> = json(bytes, "polkadot-js's list")?;
    for (key, value) in &document {
        let Value::Array(all) = value else {
            continue;
        };
        for value in all {
            let text = value.as_str().ok_or(Reason::Malformed);
            match key.as_str() {
                // `*.fleek.co` allows each name below it: the name itself must not be condemned either.
                "allow" => {
                    let named = text.map(|text| text.strip_prefix("*.").unwrap_or(text));
                    rows.row_for(Role::Guard, named.and_then(host).map(Row::of));
                }
                "deny" => rows.row(text.and_then(host).map(Row::of)),
                "denySub" => deny_below(text, rows),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A path, and what is below it: two expressions
fn deny_below(text: Result<&str, Reason>, rows: &mut dyn Rows) {
    let text = match text {
        Ok(text) => text,
        Err(reason) => return rows.row(Err(reason)),
    };
    let scope = Scope::SUBDOMAINS.and(Scope::CASELESS);
    rows.row(indicator::url(text.as_bytes(), scope).map(Row::of));
    let is_reached = text.bytes().filter(|byte| *byte == b'/').count() < 4;
    if is_reached && !text.ends_with('/') {
        let below = format!("{text}/");
        rows.row(indicator::url(below.as_bytes(), scope.and(Scope::BELOW)).map(Row::of));
    }
}
