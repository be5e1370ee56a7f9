//! `examples/CONTRACT.md`: what is promised there is proved somewhere.

#![expect(clippy::panic, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use portcullis_corpus::Corpus;
use portcullis_policy::Reason;
use serde_json::Value;

/// A row of the tables.
struct Row {
    sentence: String,
    meaning: String,
    says: String,
    cases: String,
    why: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path),
    )
    .unwrap()
}

fn rows() -> Vec<Row> {
    let text = read("examples/CONTRACT.md");
    let rows: Vec<Row> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("| sentence |") && !line.starts_with("|---"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let &["", sentence, meaning, says, cases, why, ""] = cells.as_slice() else {
                panic!("a row has five cells: {line}");
            };
            let [sentence, meaning, says, cases, why] =
                [sentence, meaning, says, cases, why].map(str::to_owned);
            Row {
                sentence,
                meaning,
                says,
                cases,
                why,
            }
        })
        .collect();
    assert!(rows.len() > 60, "only {} rows", rows.len());
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_sentence_is_told_once() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        let quote = row
            .sentence
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        assert!(
            quote.is_some_and(|quote| quote.len() > 8),
            "no quote: {}",
            row.sentence
        );
        assert!(seen.insert(row.sentence.clone()), "twice: {}", row.sentence);
    }
}

#[test]
fn every_row_has_cases_or_a_why() {
    for row in rows() {
        let has_cases = quoted(&row.cases).next().is_some();
        let words = ["edge: ", "not yet: ", "part: ", "upstream: "];
        let has_why = words.iter().any(|word| row.why.starts_with(word));
        assert!(
            has_cases || has_why,
            "neither cases nor a why: {}",
            row.sentence
        );
        // Who has proved something since then has forgotten the why.
        assert!(
            !has_cases || !row.why.starts_with("not yet: "),
            "missing, and yet proved: {}",
            row.sentence
        );
        assert!(
            row.why.is_empty() || has_why,
            "{}: {}",
            row.sentence,
            row.why
        );
        assert!(
            !row.meaning.is_empty() || !row.says.is_empty(),
            "it means nothing: {}",
            row.sentence
        );
    }
}

#[test]
fn every_case_that_is_named_exists() {
    let load = |corpus: Result<Corpus, Vec<String>>| {
        corpus
            .unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
            .cases
    };
    let (corpus, edge) = (load(Corpus::load()), load(Corpus::load_edge()));
    let known: BTreeSet<&str> = corpus
        .iter()
        .chain(&edge)
        .map(|case| case.name.as_str())
        .collect();
    for row in rows() {
        for case in quoted(&row.cases) {
            assert!(
                known.contains(case),
                "{}: there is no case `{case}`",
                row.sentence
            );
        }
    }
}

/// A word in snake case is a reason, unless the row says whose else it is.
#[test]
fn every_reason_that_is_named_exists() {
    for row in rows()
        .iter()
        .filter(|row| !row.says.contains("of Envoy's replies"))
    {
        for word in quoted(&row.says) {
            let is_header = word.chars().any(|c| c.is_ascii_uppercase());
            let is_reason = Reason::ALL.iter().any(|reason| reason.word() == word);
            assert!(
                is_header || is_reason,
                "{}: `{word}` is no reason",
                row.sentence
            );
        }
    }
}

/// The tests that stand in for cases.
#[test]
fn every_test_that_is_named_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/tests");
    let mut tests = vec![fs::read_to_string(folder.join("generated.rs")).unwrap()];
    for entry in fs::read_dir(folder.join("edge")).unwrap() {
        tests.push(fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let mut named = 0;
    for row in rows().iter().filter(|row| row.why.contains("xtask's test")) {
        for test in quoted(&row.why) {
            let function = format!("fn {test}()");
            named += 1;
            assert!(tests.iter().any(|text| text.contains(&function)), "{test}");
        }
    }
    assert!(named >= 4, "{named}");
}

/// HTTPS only: what other machines reach has TLS.
#[test]
fn only_loopback_is_plain() {
    let envoy: Value = serde_saphyr::from_str(&read("envoy/envoy.yaml")).unwrap();
    let listeners = envoy
        .pointer("/static_resources/listeners")
        .and_then(Value::as_array);
    let mut public = 0;
    for listener in listeners.unwrap() {
        let address = listener.pointer("/address/socket_address/address").unwrap();
        if address == "127.0.0.1" {
            continue;
        }
        public += 1;
        let chains = listener.pointer("/filter_chains").and_then(Value::as_array);
        for chain in chains.unwrap() {
            let tls = chain.pointer("/transport_socket/name").unwrap();
            assert_eq!(tls, "envoy.transport_sockets.tls", "{listener}");
        }
    }
    assert_eq!(public, 1);
}
