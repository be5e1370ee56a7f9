//! What is in a bundle.

use portcullis_threat::bundle::{Bundle, Count, List, Scope, Table};
use serde_json::{Value, json};

use crate::day;

/// All that a bundle tells without knowing what to look for
#[must_use]
pub fn inspect(bundle: &Bundle) -> Value {
    let name = |number: u8| bundle.feed(number).map(|feed| feed.name.to_owned());
    let counts = |list: List| {
        let count = |(word, what): &(&str, Count)| {
            ((*word).to_owned(), Value::from(bundle.count(list, *what)))
        };
        COUNTS.iter().map(count).collect::<serde_json::Map<_, _>>()
    };
    let feeds: Vec<_> = bundle
        .feeds()
        .map(|feed| {
            json!({
                "name": feed.name,
                "licence": feed.licence,
                "fetched_at": day::write(feed.fetched_at),
                "valid_until": day::write(feed.valid_until),
                "sha256": hex(feed.sha256),
                "indicators": feed.indicators,
                "allows": feed.allows,
            })
        })
        .collect();
    let rows: Vec<_> = (1..=u8::MAX)
        .map_while(|number| bundle.row(number))
        .map(|row| {
            let feeds: Vec<_> = (0..64_u8)
                .filter(|bit| row.feeds.checked_shr((*bit).into()).unwrap_or(0) & 1 == 1)
                .filter_map(name)
                .collect();
            let seen = |day: Option<u16>| {
                day.map(|day| day::write(u64::from(day).saturating_mul(day::DAY)))
            };
            json!({
                "category": row.category.word(),
                "confidence": row.confidence,
                "feeds": feeds,
                "surest": name(row.feed),
                "counts_for": scope(row.scope),
                "stored_in_full": row.block,
                "first_seen": seen(row.first_seen),
                "last_seen": seen(row.last_seen),
                "indicators": row.indicators,
            })
        })
        .collect();
    let tables = [
        ("suffixes", Table::Suffixes),
        ("brands", Table::Brands),
        ("confusables", Table::Confusables),
        ("model", Table::Model),
    ];
    let tables =
        tables.map(|(word, table)| (word.to_owned(), Value::from(bundle.table(table).len())));
    json!({
        "sha256": hex(bundle.digest()),
        "bytes": bundle.len(),
        "created": day::write(bundle.created()),
        "valid_until": day::write(bundle.valid_until()),
        "signed_by": bundle.signature().map(|(key, _)| format!("ed25519:{}", hex(key))),
        "deny": counts(List::Deny),
        "allow": counts(List::Allow),
        "tables": serde_json::Map::from_iter(tables),
        "feeds": feeds,
        "rows": rows,
    })
}

/// What a bundle can be asked the number of
pub(crate) const COUNTS: [(&str, Count); 8] = [
    ("urls", Count::Urls),
    ("domains", Count::Domains),
    ("addresses4", Count::Addresses4),
    ("addresses6", Count::Addresses6),
    ("hashes", Count::Hashes),
    ("segments4", Count::Segments4),
    ("segments6", Count::Segments6),
    ("stored_in_full", Count::Confirmed),
];

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scope(scope: Scope) -> Vec<&'static str> {
    [
        (Scope::SUBDOMAINS, "subdomains"),
        (Scope::BELOW, "paths below"),
        (Scope::CASELESS, "any case"),
        (Scope::NOT_SELF, "not itself"),
    ]
    .into_iter()
    .filter(|(one, _)| scope.has(*one))
    .map(|(_, word)| word)
    .collect()
}
