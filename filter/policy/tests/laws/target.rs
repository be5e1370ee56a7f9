//! What was submitted to a verdict, as the answer tells it.

use portcullis_policy::{MapStore, Reason};
use portcullis_threat::{Target, Web};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::gate::{Ask, FULL, Gate, policy, reply};

fn gate() -> Gate {
    let mut document = policy(json!({
        "analyze": {
            "match": "POST /analyze",
            "fields": { "target": { "type": "string", "required": true } },
            "verdict": { "of": "body.target" },
        },
    }));
    document["threat"] = json!({ "indicators": {
        "urls": ["http://evil.example/x"],
        "domains": ["phish.example"],
        "networks": ["198.51.100.0/24", "2001:db8::/32"],
    } });
    Gate::new(&document)
}

/// The answer on a target; `None` where it is refused as empty or for a NUL in it
fn answer(gate: &mut Gate, target: &str) -> Option<Value> {
    let ask = Ask::new("POST", "/analyze")
        .key("basic")
        .json(&json!({ "target": target }));
    let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
    match outcome.record.reason {
        Reason::Answered => Some(serde_json::from_slice(&reply(&outcome).unwrap().body).unwrap()),
        reason => {
            assert!(
                target.trim().is_empty() || target.contains('\0'),
                "{target:?}: {reason}"
            );
            None
        }
    }
}

/// Texts of which many are nearly a URL, a domain, an address or a hash
fn targets() -> impl Strategy<Value = String> {
    let bit = prop_oneof![
        8 => proptest::sample::select(vec![
            "http", "https", "hxxp", "hXXps", "h**p", "meow", "ftp", "javascript", "data", ":", "//", "://",
            "[:]//", "[://]", "/", "\\", "?", "#", "@", "[@]", "user:pw@", ".", "[.]", "(.)", "{.}", "[dot]",
            "evil", "example", "com", "xn--bcher-kva", "xn--", "bücher", "ß", "。", "１", "127", "0x7f", "1",
            "255", "3279880203", "::1", "[::1]", "::ffff:", "fe80::1", "%eth0", "/24", ":80", ":99999", "-", "_",
            "md5:", "sha256:", "deadbeefdeadbeefdeadbeefdeadbeef", " ", "\t", "%20", "%2e", "%", "é", "\u{202e}",
        ])
        .prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(bit, 0..9).prop_map(|bits| bits.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever is submitted, the answer names its kind, and the canonical spelling is its own
    /// canonical spelling, of the same kind and with the same verdict
    #[test]
    fn a_canonical_spelling_is_its_own(target in targets()) {
        let mut gate = gate();
        let Some(first) = answer(&mut gate, &target) else {
            return Ok(());
        };
        let canonical = first["target"]["canonical"].as_str().unwrap();
        let kind = first["target"]["type"].as_str().unwrap();
        if kind == "payload" {
            let digest: String =
                Sha256::digest(&target).iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(canonical, &digest);
            return Ok(());
        }
        // What no browser opens has no spelling but its own.
        if first["classification"] == "invalid" {
            prop_assert_eq!(kind, "url");
            return Ok(());
        }
        let again = answer(&mut gate, canonical).unwrap();
        for field in ["type", "canonical", "host", "sha256"] {
            prop_assert_eq!(&again["target"][field], &first["target"][field], "{}", canonical);
        }
        // Where two readings lead to two hosts, both are judged; the canonical spelling keeps browsers' alone.
        if !Target::classify(&target).web().is_some_and(Web::disagrees) {
            prop_assert_eq!(&again["classification"], &first["classification"]);
        }
        prop_assert_eq!(&again["target"]["defanged"], &Value::Bool(false));
    }

    /// A link that was made harmless is the link; a URL that is none keeps its path as it is
    #[test]
    fn only_what_was_defanged_is_refanged(
        scheme in proptest::sample::select(vec![("http", "hxxp"), ("https", "hxxps"), ("https", "hXXps"), ("http", "h**p")]),
        colon in proptest::sample::select(vec!["://", "[:]//", "[://]"]),
        dot in proptest::sample::select(vec!["[.]", "(.)", "{.}", "[dot]", "(dot)"]),
        labels in proptest::collection::vec("[a-z]{1,6}", 2..4),
        path in "(/([a-z]|\\[\\.\\]|\\(dot\\)|hxxp|\\[:\\]){0,6}){0,3}",
    ) {
        let mut gate = gate();
        let real = format!("{}://{}{path}", scheme.0, labels.join("."));
        let fanged = format!("{}{colon}{}{path}", scheme.1, labels.join(dot));
        let real = answer(&mut gate, &real).unwrap();
        let fanged = answer(&mut gate, &fanged).unwrap();
        prop_assert_eq!(&real["target"]["defanged"], &Value::Bool(false));
        prop_assert_eq!(&fanged["target"]["defanged"], &Value::Bool(true));
        let canonical = format!("{}://{}{}", scheme.0, labels.join("."), if path.is_empty() { "/" } else { &path });
        for answer in [real, fanged] {
            prop_assert_eq!(answer["target"]["canonical"].as_str(), Some(&*canonical));
        }
    }
}
