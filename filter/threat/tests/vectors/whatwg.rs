//! `urltestdata.json` of Web Platform Tests: what browsers agreed on, against both of our readings.

use std::collections::BTreeSet;

use portcullis_threat::{SafeBrowsing, Target, TargetKind};
use serde_json::Value;

/// Inputs whose readings disagree, or are not what the vectors say, and why that is so
const EXPECTED: &str = include_str!("whatwg-differences.txt");

/// A line for each URL that is read in another way than the vectors say
fn differences() -> (BTreeSet<String>, usize) {
    let vectors: Vec<Value> =
        serde_json::from_str(&crate::shipped("url", "urltestdata.json")).expect("valid JSON");
    let mut found = BTreeSet::new();
    let mut count = 0;
    for vector in &vectors {
        let Some(input) = vector["input"].as_str() else {
            continue;
        };
        // Nobody submits a relative URL.
        if vector["base"].is_string() && !is_absolute(input) {
            continue;
        }
        let target = Target::classify(input);
        if target.kind() != TargetKind::Url {
            continue;
        }
        let web = target.web().expect("a URL has readings");
        count += 1;
        let line = format!("{:?}", input);
        let fails = vector["failure"] == true;
        let host = vector["hostname"].as_str().unwrap_or_default();
        let special = matches!(
            vector["protocol"].as_str(),
            Some("http:" | "https:" | "ftp:" | "ws:" | "wss:")
        );
        if fails {
            if web.opens() {
                found.insert(format!("opens {line}"));
            }
            if web.disagrees() {
                let other = web.safe_browsing().map_or("", SafeBrowsing::host);
                found.insert(format!("feeds-see {line} {other:?}"));
            }
            continue;
        }
        let ours = web.host().map(ToString::to_string).unwrap_or_default();
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let same = ours
            == plain
                .strip_suffix('.')
                .unwrap_or(plain)
                .to_ascii_lowercase();
        if !same {
            found.insert(format!("host {line} {ours:?}"));
        }
        if special && web.disagrees() {
            let other = web.safe_browsing().map_or("", SafeBrowsing::host);
            found.insert(format!("disagree {line} {ours:?} {other:?}"));
        }
    }
    (found, count)
}

/// Whether a base changes nothing: a web scheme and two slashes, as browsers see them
fn is_absolute(input: &str) -> bool {
    let seen = input.trim_matches(|c| c <= ' ');
    let seen: String = seen.chars().filter(|c| !"\t\n\r".contains(*c)).collect();
    let scheme = seen.split_once(':');
    scheme.is_some_and(|(scheme, rest)| {
        let is_web = ["http", "https", "ftp", "ws", "wss"]
            .iter()
            .any(|web| scheme.eq_ignore_ascii_case(web));
        let mut slashes = rest.chars().take(2).filter(|c| ['/', '\\'].contains(c));
        is_web && slashes.by_ref().count() == 2
    })
}

#[test]
fn browsers_and_feeds() {
    let (found, count) = differences();
    assert!(count > 500, "only {count} vectors");
    let expected: BTreeSet<String> = EXPECTED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let new: Vec<_> = found.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "not expected:\n{new:#?}\nno longer so:\n{gone:#?}"
    );
}
