//! Rules that do not bind change nothing.

use portcullis_policy::MapStore;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, SECOND, edits, key, policy, reply, upstream};

/// A policy, and the same with every rule that can be put into shadow
fn documents() -> [Value; 2] {
    [false, true].map(|shadowed| {
        let mut document = policy(json!({
            "plain": { "match": "GET /plain" },
            "body": { "match": "POST /body" },
            "part": {
                "match": "POST /part",
                "class": { "from": "body.mode", "absent": "quick", "costs": { "quick": 1, "deep": 4 } },
                "fields": { "target": { "type": "string", "required": true } },
            },
            "open": { "match": "GET /open", "auth": "none", "limits": ["unauthenticated"] },
        }));
        let api = &mut document["apis"]["api"];
        api["tiers"] = json!({
            "metered": { "rate": "60/min", "burst": 20 },
            "unlimited": { "rate": "unlimited" },
        });
        api["keys"] = json!([key("acme", "metered"), key("globex", "unlimited")]);
        if !shadowed {
            return document;
        }
        api["tiers"]["unlimited"] = json!({ "rate": "6/min", "burst": 4, "mode": "shadow" });
        api["limits"] = json!({
            "rate": { "rate": "6/min", "burst": 4, "mode": "shadow" },
            "window": { "window": "1 in 10s", "per": "api", "rollout": "0%" },
            "slots": { "concurrency": 1, "expires": "10s", "per": "client", "mode": "shadow" },
            "tags": { "rate": "6/min", "burst": 4, "action": "tag", "mode": "shadow" },
        });
        let routes = &mut api["routes"];
        for route in ["plain", "body", "part"] {
            routes[route]["limits"] = json!(["tier", "rate", "window", "slots", "tags"]);
            routes[route]["scope"] = json!({ "all": ["nobody"], "mode": "shadow" });
            routes[route]["page"] = json!({ "max": 5, "mode": "shadow" });
            let block = ["malicious", "internal", "unknown"];
            routes[route]["screen"] = json!({
                "page": { "of": "query.page", "block": block, "mode": "shadow" },
                "target": { "of": "body.target", "block": block, "mode": "shadow" },
                "type": { "of": "header.content-type", "tag": block, "mode": "shadow" },
            });
        }
        routes["open"]["screen"] = json!({ "me": { "of": "client", "block": "internal", "rollout": "0%" } });
        routes["open"]["limits"] = json!(["unauthenticated", "window", "slots"]);
        let field = json!({ "type": "integer", "required": true, "mode": "shadow" });
        routes["body"]["fields"] = json!({ "count": field });
        routes["part"]["fields"]["count"] = field;
        routes["part"]["verdict"] = json!({ "of": "body.target", "mode": "shadow" });
        document["threat"] = json!({ "indicators": { "domains": ["x.example"] } });
        document["clients"] = json!({
            "deny": ["192.0.2.0/24"],
            "mode": "shadow",
            "screen": { "block": "internal", "mode": "shadow" },
        });
        document
    })
}

fn asks() -> impl Strategy<Value = Ask> {
    (
        proptest::sample::select(vec!["/plain", "/body", "/part", "/open", "/nowhere"]),
        proptest::sample::select(vec!["GET", "POST"]),
        proptest::sample::select(vec!["", "?page=0", "?Page=1", "?count=1", "?target=x"]),
        proptest::option::of(proptest::sample::select(vec!["acme", "globex", "wrong"])),
        proptest::option::of(prop_oneof![
            Just("{}".to_owned()),
            Just("[".to_owned()),
            Just(r#"{"target":"x.example"}"#.to_owned()),
            Just(r#"{"target":"x.example","mode":"deep","Count":1}"#.to_owned()),
            Just(r#"{"target":7,"count":"x"}"#.to_owned()),
            Just("x".repeat(70_000)),
        ]),
        any::<bool>(),
    )
        .prop_map(|(path, method, query, token, body, is_json)| {
            let mut ask = Ask::new(method, &format!("{path}{query}"));
            if let Some(token) = token {
                ask = ask.key(token);
            }
            if is_json {
                ask = ask.with("content-type", "application/json");
            }
            ask.body = body.map(String::into_bytes);
            ask
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes: with rules that do not bind, every request is decided, edited and answered as it
    /// is without them
    #[test]
    fn a_shadow_rule_changes_no_decision(
        asks in proptest::collection::vec((asks(), 0..2 * SECOND), 1..30),
    ) {
        let [mut plain, mut shadowed] = documents().map(|document| Gate::new(&document));
        let (mut plain_store, mut shadow_store) = (MapStore::default(), MapStore::default());
        let mut moment = FULL;
        for (ask, after) in asks {
            moment.monotonic += after;
            moment.decision += 1;
            let one = plain.ask(&ask, moment, &mut plain_store);
            let other = shadowed.ask(&ask, moment, &mut shadow_store);
            prop_assert_eq!(one.record.reason, other.record.reason, "{:?}", ask);
            prop_assert_eq!(reply(&one), reply(&other), "{:?}", ask);
            prop_assert_eq!(&one.rate, &other.rate, "{:?}", ask);
            let [one, other] = [&one, &other].map(|outcome| edits(outcome).map(|edits| upstream(&ask, edits)));
            prop_assert_eq!(one, other);
        }
    }
}
