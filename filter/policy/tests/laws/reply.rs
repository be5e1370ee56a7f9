//! Replies and records, whatever comes in.

use portcullis_policy::{Decision, MapStore, Moment, Outcome, Reply};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, header, key, policy, reply};

/// A key that stands nowhere but in the Authorization header
const SECRET: &str = "s3cret-t0ken-of-acme";
/// A wrong one
const GUESS: &str = "gu3ssed-t0ken";

fn document(dialect: &str) -> Value {
    let mut document = policy(json!({
        "plain": { "match": "GET /plain" },
        "public": { "match": "ANY /public/**", "auth": "none", "limits": ["unauthenticated"] },
        "scope": { "match": "GET /scope", "scope": ["one", "two"] },
        "analyze": {
            "match": "POST /analyze",
            "body": { "max": 256 },
            "class": { "from": "body.mode", "absent": "quick", "costs": { "quick": 1, "deep": 2 } },
            "fields": {
                "target": { "type": "string", "required": true, "max_length": 64 },
                "metadata": { "type": "object" },
            },
            "verdict": { "of": "body.target", "when": ["quick"] },
        },
    }));
    let api = &mut document["apis"]["api"];
    api["dialect"] = dialect.into();
    api["preflight"] = "forward".into();
    api["tiers"]["metered"] = json!({ "rate": "3/min" });
    api["keys"] = json!([
        key("basic", "unlimited"),
        { "id": "k1", "principal": "acme", "tier": "metered", "sha256": crate::gate::digest(SECRET) },
        { "id": "k2", "principal": "acme", "tier": "metered", "sha256": crate::gate::digest("old"),
          "expires": "2026-06-01T00:00:00Z" },
    ]);
    document["unauthenticated"] = json!({ "rate": "3/min" });
    document["probes"] = json!({ "ready": "/ready", "exempt": ["GET /healthz"] });
    document["threat"] = json!({ "indicators": { "domains": ["evil.example"] } });
    document
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        8 => proptest::sample::select(vec![
            ":method", ":path", ":authority", ":scheme", "host", "authorization", "upgrade", "origin",
            "access-control-request-method", "content-type", "content-encoding", "content-length",
            "x-portcullis-key",
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        1 => bytes(8),
    ];
    let value = prop_oneof![
        8 => proptest::sample::select(vec![
            "GET", "POST", "HEAD", "OPTIONS", "/plain", "/scope", "/analyze", "/public/x", "/ready", "/healthz",
            "/nowhere", "/PLAIN", "/a/../b", "api.example", "other.example", "application/json", "gzip",
            "websocket", "9999", "a,b", "", "application/grpc", "application/grpc-web", "application/grpc-web-text+proto",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        2 => Just(format!("Bearer {SECRET}").into_bytes()),
        1 => Just(format!("Bearer {GUESS}").into_bytes()),
        1 => Just(format!("/plain?access_token={SECRET}").into_bytes()),
        1 => Just(format!("{SECRET}, {GUESS}").into_bytes()),
        1 => Just(b"Bearer old".to_vec()),
        2 => bytes(24),
    ];
    (name, value)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        bytes(300),
        Just(br#"{"target":"evil.example"}"#.to_vec()),
        ("[ -~]{0,70}", "[a-z]{0,5}").prop_map(|(target, mode)| {
            json!({ "target": target, "mode": mode, "metadata": { "a": [null, true, 1.5] } })
                .to_string()
                .into_bytes()
        }),
        ("\\PC{0,20}", any::<bool>()).prop_map(|(target, deep)| {
            json!({ "target": target, "mode": if deep { "deep" } else { "quick" } })
                .to_string()
                .into_bytes()
        }),
    ]
}

/// A request that was made up, or a good one that was tampered with
fn asks() -> impl Strategy<Value = Ask> {
    let good = proptest::sample::select(vec![
        Ask::new("GET", "/plain").key(SECRET),
        Ask::new("HEAD", "/scope").key(SECRET),
        Ask::new("POST", "/analyze")
            .key(SECRET)
            .with("content-type", "application/json"),
        Ask::new("POST", "/analyze")
            .key("basic")
            .with("content-type", "application/json"),
        Ask::new("GET", "/plain").key(GUESS),
        Ask::new("GET", "/public/x"),
        Ask::new("GET", "/ready"),
    ]);
    let made_up = Ask {
        headers: Vec::new(),
        body: None,
        client: None,
    };
    (
        prop_oneof![4 => good, 1 => Just(made_up)],
        proptest::collection::vec((any::<usize>(), field()), 0..5),
        proptest::option::of(body()),
        proptest::option::of(any::<std::net::IpAddr>()),
    )
        .prop_map(|(mut ask, fields, body, client)| {
            for (at, field) in fields {
                let at = at % (ask.headers.len() + 1);
                ask.headers.insert(at, field);
            }
            ask.body = body;
            ask.client = client;
            ask
        })
}

fn moments() -> impl Strategy<Value = Moment> {
    let time = || prop_oneof![4 => 0..u64::MAX, 1 => Just(0), 1 => Just(u64::MAX)];
    prop_oneof![
        2 => Just(FULL),
        1 => (time(), time(), any::<u128>())
            .prop_map(|(monotonic, wall, decision)| Moment { monotonic, wall, decision }),
    ]
}

/// The keys of an object, in order
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Says that a reply in gRPC is one: the code in the headers and nothing behind them, or in the body
fn check_grpc(reply: &Reply, media: &str) -> TestCaseResult {
    let code = u16::from(reply.grpc_status);
    prop_assert!((1..=16).contains(&code));
    if media == "application/grpc" {
        prop_assert!(reply.body.is_empty());
        let told = header(reply, "grpc-status").unwrap();
        prop_assert_eq!(told.parse::<u16>(), Ok(code));
        prop_assert!(header(reply, "grpc-message").is_some());
    } else {
        prop_assert!(header(reply, "grpc-status").is_none());
        prop_assert!(media.starts_with("application/grpc-web"));
    }
    Ok(())
}

fn check_body(reply: &Reply, outcome: &Outcome, dialect: &str) -> TestCaseResult {
    let media = header(reply, "content-type").unwrap();
    if media.starts_with("application/grpc") {
        return check_grpc(reply, media);
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    if reply.status == 200 {
        prop_assert_eq!(media, "application/json");
        prop_assert!(body.is_object());
        return Ok(());
    }
    match (dialect, media) {
        ("cybervault", "application/json") => {
            let known = ["details", "error_code", "message", "trace_id"];
            prop_assert!(keys(&body).iter().all(|key| known.contains(key)));
            prop_assert!(body["error_code"].is_string() && body["message"].is_string());
            prop_assert_eq!(
                body["trace_id"].as_str(),
                Some(&*outcome.record.decision.to_string())
            );
        }
        ("cyborux", "application/json") => {
            prop_assert_eq!(keys(&body), ["detail"]);
            prop_assert!(body["detail"].is_string());
        }
        // Where no API is in play, whatever its dialect.
        (_, "application/problem+json") => {
            prop_assert_eq!(body["status"].as_u64(), Some(reply.status.into()));
            prop_assert!(body["type"].is_string() && body["title"].is_string());
            prop_assert!(body["detail"].is_string() && body["code"].is_string());
        }
        other => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}

fn check_headers(reply: &Reply, outcome: &Outcome) -> TestCaseResult {
    for (name, value) in &reply.headers {
        prop_assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
            "{}",
            name
        );
        prop_assert!(
            value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "{}: {:?}",
            name,
            value
        );
        prop_assert_eq!(
            reply
                .headers
                .iter()
                .filter(|(other, _)| other == name)
                .count(),
            1,
            "{}",
            name
        );
    }
    prop_assert_eq!(
        header(reply, "x-portcullis-decision"),
        Some(&*outcome.record.decision.to_string())
    );
    prop_assert_eq!(header(reply, "cache-control"), Some("no-store"));
    let status = outcome.record.reason.status();
    prop_assert_eq!(header(reply, "allow").is_some(), status == 405);
    let challenge = header(reply, "www-authenticate").is_some();
    prop_assert!(challenge == (status == 401) || (challenge && status == 403));
    let retry_after = header(reply, "retry-after").map(|value| value.parse::<u64>().unwrap());
    prop_assert_eq!(retry_after.is_some(), matches!(status, 429 | 503));
    prop_assert_ne!(retry_after, Some(0));
    prop_assert_eq!(
        header(reply, "x-ratelimit-limit").is_some(),
        header(reply, "x-ratelimit-reset").is_some()
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever comes in, the answer is one of the table's: its status, its headers, its body in the
    /// words of the API, and no key anywhere in it
    #[test]
    fn every_answer_is_one_of_the_table(
        asks in proptest::collection::vec((asks(), moments()), 1..6),
        dialect in proptest::sample::select(vec!["cybervault", "cyborux", "problem"]),
    ) {
        let mut gate = Gate::new(&document(dialect));
        let mut store = MapStore::default();
        for (ask, moment) in asks {
            let outcome = gate.ask(&ask, moment, &mut store);
            let shown = format!("{outcome:?} {}", outcome.record.to_json());
            prop_assert!(!shown.contains(SECRET) && !shown.contains(GUESS));
            let status = outcome.record.reason.status();
            let Some(reply) = reply(&outcome) else {
                prop_assert_eq!(status, 0);
                continue;
            };
            let grpc = header(reply, "content-type").unwrap().starts_with("application/grpc");
            prop_assert_eq!(reply.status, if grpc { 200 } else { status });
            prop_assert!(
                [200, 400, 401, 403, 404, 405, 413, 415, 429, 503].contains(&status), "{}", status
            );
            let text = String::from_utf8_lossy(&reply.body);
            // A target is told back to who sent it; nothing else of a request is.
            let told_back = status == 200 && ask.body.is_some();
            prop_assert!(told_back || !(text.contains(SECRET) || text.contains(GUESS)));
            check_headers(reply, &outcome)?;
            let method = ask.headers.iter().rev().find(|(name, _)| name == b":method");
            if method.is_some_and(|(_, method)| method == b"HEAD") {
                prop_assert!(reply.body.is_empty());
            } else {
                check_body(reply, &outcome, dialect)?;
            }
        }
    }
}

/// The policy, the engine and a decision tell nothing of a key but its id
#[test]
fn nothing_that_is_shown_tells_a_key() {
    let mut gate = Gate::new(&document("problem"));
    let ask = Ask::new("GET", "/plain").key(SECRET);
    let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
    assert!(matches!(outcome.decision, Decision::Forward(_)));
    let shown = format!(
        "{:?} {:?} {outcome:?} {}",
        gate.policy,
        gate.engine,
        gate.policy.summary()
    );
    assert!(shown.contains("k1"));
    let digest = crate::gate::digest(SECRET);
    for secret in [SECRET, &digest, &digest[..16]] {
        assert!(!shown.contains(secret));
    }
}
