//! Feeds in CSV: abuse.ch's and PhishTank's.

use portcullis_threat::Category;
use portcullis_threat::bundle::Scope;

use super::csv::Table;
use super::{Rows, lines};
use crate::indicator::{self, Indicator, Row};
use crate::{Reason, day};

pub(super) fn urlhaus(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, &["dateadded", "url"], |table| {
        let is_online = table.value("url_status") == "online";
        let first = day::of(table.value("dateadded"));
        Ok(vec![Ok(Row {
            category: Some(Category::Malware),
            confidence: (!is_online).then_some(75),
            first_seen: first,
            last_seen: day::of(table.value("last_online")).or(first),
            is_current: is_online,
            ..Row::of(indicator::url(
                table.needed("url")?.as_bytes(),
                Scope::EXACT,
            )?)
        })])
    });
}

pub(super) fn threatfox(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, &["ioc_value", "ioc_type"], |table| {
        let first = day::of(table.value("first_seen_utc"));
        Ok(vec![Ok(Row {
            category: threat(table.value("threat_type")),
            confidence: table.value("confidence_level").parse().ok(),
            first_seen: first,
            last_seen: day::of(table.value("last_seen_utc")).or(first),
            ..Row::of(ioc(table.needed("ioc_type")?, table.needed("ioc_value")?)?)
        })])
    });
}

pub(super) fn malwarebazaar(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, &["sha256_hash", "md5_hash"], |table| {
        let seen = day::of(table.value("first_seen_utc"));
        table.needed("sha256_hash")?;
        let hashes = ["sha256_hash", "sha1_hash", "md5_hash"].map(|column| table.value(column));
        let row = |hash: &str| {
            Ok(Row {
                category: Some(Category::Malware),
                first_seen: seen,
                last_seen: seen,
                is_current: true,
                ..Row::of(indicator::hash(hash)?)
            })
        };
        Ok(hashes
            .into_iter()
            .filter(|hash| !hash.is_empty())
            .map(row)
            .collect())
    });
}

pub(super) fn feodo(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, &["dst_ip", "dst_port"], |table| {
        let first = day::of(table.value("first_seen_utc"));
        let is_online = table.value("c2_status") == "online";
        Ok(vec![Ok(Row {
            category: Some(Category::CommandAndControl),
            confidence: (!is_online).then_some(75),
            first_seen: first,
            last_seen: day::of(table.value("last_online")).or(first),
            is_current: is_online,
            ..Row::of(indicator::address(table.needed("dst_ip")?)?)
        })])
    });
}

pub(super) fn phishtank(bytes: &[u8], rows: &mut dyn Rows) {
    each(bytes, rows, &["phish_id", "url"], |table| {
        Ok(vec![Ok(Row {
            confidence: (table.value("verified") != "yes").then_some(60),
            first_seen: day::of(table.value("submission_time")),
            last_seen: day::of(table.value("verification_time")),
            is_current: table.value("online") == "yes",
            ..Row::of(indicator::url(
                table.needed("url")?.as_bytes(),
                Scope::EXACT,
            )?)
        })])
    });
}

/// ThreatFox's kinds of indicators
pub(super) fn ioc(kind: &str, value: &str) -> Result<Indicator, Reason> {
    match kind {
        "ip:port" => indicator::address_with_port(value),
        "domain" => indicator::domain(value.as_bytes(), Scope::SUBDOMAINS),
        "url" => indicator::url(value.as_bytes(), Scope::EXACT),
        "md5_hash" | "sha1_hash" | "sha256_hash" => indicator::hash(value),
        _ => Err(Reason::UnsupportedType),
    }
}

/// ThreatFox's kinds of threats
pub(super) fn threat(kind: &str) -> Option<Category> {
    match kind {
        "botnet_cc" | "cc" => Some(Category::CommandAndControl),
        "payload" | "payload_delivery" | "cc_skimming" => Some(Category::Malware),
        _ => None,
    }
}

fn each(
    bytes: &[u8],
    rows: &mut dyn Rows,
    names: &[&str],
    read: impl Fn(&Table) -> Result<Vec<Result<Row, Reason>>, Reason>,
) {
    let Some((mut table, rest)) = Table::new(bytes, names) else {
        return rows.row(Err(Reason::Malformed));
    };
    for line in lines(rest).filter(|line| !line.starts_with(b"#")) {
        match table.split(line).and_then(|()| read(&table)) {
            Ok(all) => all.into_iter().for_each(|row| rows.row(row)),
            Err(reason) => rows.row(Err(reason)),
        }
    }
}
