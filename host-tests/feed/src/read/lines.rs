//! Formats of a line an indicator.

use portcullis_threat::bundle::Scope;
use serde_json::Value;

use super::{Rows, lines};
use crate::indicator::{self, Indicator, Row};
use crate::{Reason, day};

/// Any indicator a line; `#`, `;` and `//` begin comments
pub(super) fn plain(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, |line| indicator::any(line).map(Row::of));
}

/// A URL a line
pub(super) fn urls(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, |line| {
        indicator::url(line, Scope::EXACT).map(Row::of)
    });
}

/// An address or a network a line; also old DROP lists, with `; SBL123` behind
pub(super) fn netset(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, |line| {
        indicator::address_or_network(text(line)?).map(Row::of)
    });
}

/// `ADDRESS NAME`: the name is listed, and no other below it
pub(super) fn hosts(bytes: &[u8], rows: &mut dyn Rows) {
    for line in lines(bytes) {
        let Some(line) = uncommented(line, rows) else {
            continue;
        };
        let Ok(line) = text(line) else {
            rows.row(Err(Reason::Malformed));
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        let address = words.next().unwrap_or_default();
        if address.parse::<std::net::IpAddr>().is_err() {
            rows.row(Err(Reason::Malformed));
            continue;
        }
        let mut is_empty = true;
        for name in words {
            is_empty = false;
            // What every such file says of the machine itself.
            let own = [
                "localhost",
                "localhost.localdomain",
                "local",
                "broadcasthost",
                "0.0.0.0",
            ];
            if own.contains(&name) || name.starts_with("ip6-") {
                continue;
            }
            rows.row(indicator::domain(name.as_bytes(), Scope::EXACT).map(Row::of));
        }
        if is_empty {
            rows.row(Err(Reason::Missing));
        }
    }
}

/// `ADDRESS COUNT`: on how many lists it is says how sure that is
pub(super) fn ipsum(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, |line| {
        let mut words = text(line)?.split_ascii_whitespace();
        let indicator = indicator::address(words.next().unwrap_or_default())?;
        let count: u32 = words
            .next()
            .ok_or(Reason::Missing)?
            .parse()
            .map_err(|_| Reason::Malformed)?;
        let confidence = match count {
            0 => return Err(Reason::NotAnIndicator),
            1 => 20,
            2 => 35,
            3 => 50,
            4 => 65,
            5 => 75,
            6 => 85,
            _ => 95,
        };
        Ok(Row {
            confidence: Some(confidence),
            ..Row::of(indicator)
        })
    });
}

/// `RANK,DOMAIN`
pub(super) fn tranco(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, |line| {
        let (rank, name) = text(line)?.split_once(',').ok_or(Reason::Malformed)?;
        if rank.parse::<u32>().is_err() {
            return Err(Reason::Malformed);
        }
        indicator::domain(name.as_bytes(), Scope::SUBDOMAINS).map(Row::of)
    });
}

/// An object with `cidr` a line; the last one is about the list
pub(super) fn spamhaus(bytes: &[u8], rows: &mut dyn Rows) {
    for line in lines(bytes) {
        let Ok(Value::Object(object)) = serde_json::from_slice(line) else {
            rows.row(Err(Reason::Malformed));
            continue;
        };
        if object.get("type").and_then(Value::as_str) == Some("metadata") {
            if let Some(time) = object.get("timestamp").and_then(Value::as_u64) {
                rows.made(time);
            }
            continue;
        }
        let row = match object.get("cidr").and_then(Value::as_str) {
            Some(network) => indicator::address_or_network(network).map(Row::of),
            None if object.contains_key("asn") => Err(Reason::UnsupportedType),
            None => Err(Reason::Missing),
        };
        rows.row(row);
    }
}

fn each(bytes: &[u8], rows: &mut dyn Rows, read: impl Fn(&[u8]) -> Result<Row, Reason>) {
    for line in lines(bytes) {
        if let Some(line) = uncommented(line, rows) {
            rows.row(read(line));
        }
    }
}

/// A line without its comment; `None` when it is nothing else
fn uncommented<'a>(line: &'a [u8], rows: &mut dyn Rows) -> Option<&'a [u8]> {
    if line.starts_with(b"#")
        || line.starts_with(b";")
        || line.starts_with(b"//")
        || line.starts_with(b"!")
    {
        about(line, rows);
        return None;
    }
    // A URL's fragment is not a comment: that begins behind a blank.
    let behind = line
        .windows(2)
        .position(|pair| matches!(pair, [b' ' | b'\t', b'#' | b';']));
    Some(
        line.get(..behind.unwrap_or(line.len()))
            .unwrap_or(line)
            .trim_ascii(),
    )
}

/// What a comment says of the feed
pub(super) fn about(line: &[u8], rows: &mut dyn Rows) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_start_matches(['#', '!', ';', '/', ' ', '\t']);
    let Some((key, value)) = text.split_once(':') else {
        return;
    };
    let value = value.trim();
    match key.trim().to_ascii_lowercase().as_str() {
        "title" | "name" => rows.about(value),
        "updated" | "last updated" | "last modified" | "last update" => {
            if let Some(time) = day::seconds(value) {
                rows.made(time);
            }
        }
        _ => {}
    }
}

fn text(line: &[u8]) -> Result<&str, Reason> {
    str::from_utf8(line).map_err(|_| Reason::Malformed)
}

/// A domain and all below it, or the host's address
pub(super) fn host(text: &str) -> Result<Indicator, Reason> {
    indicator::address(text).or_else(|_| indicator::domain(text.as_bytes(), Scope::SUBDOMAINS))
}
