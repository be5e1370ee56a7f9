//! Where keys come from.

use std::rc::Rc;

use base64ct::{Base64, Encoding};
use portcullis_policy::{
    Adoption, BundleWriter, DigestScheme, KeyBundle, MapStore, Policy, Reason,
};
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, digest, edits, key, parse, upstream};

const MAX: usize = 1024 * 1024;

/// A bundle of the API `api`: each key with its record
fn bundle(revision: &str, generated_at: u64, keys: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = BundleWriter::new("api", revision, generated_at, DigestScheme::Plain).unwrap();
    for (token, record) in keys {
        let record = serde_json::to_vec(record).unwrap();
        writer.add(&digest(token), record).unwrap();
    }
    writer.finish().unwrap()
}

/// A bundle of one key in the form that a policy brings along
pub(crate) fn seed(api: &str, tier: &str) -> String {
    let mut writer = BundleWriter::new(api, "r1", 1, DigestScheme::Plain).unwrap();
    let record = json!({ "id": "k2", "principal": "acme", "tier": tier });
    writer
        .add(&digest("seed"), serde_json::to_vec(&record).unwrap())
        .unwrap();
    Base64::encode_string(&writer.finish().unwrap())
}

fn record(id: &str, tier: &str) -> Value {
    json!({ "id": id, "principal": id, "tier": tier, "scopes": ["read"] })
}

fn policy(keys: Value) -> Value {
    json!({
        "version": 1,
        "revoked": ["k-gone"],
        "apis": { "api": {
            "hosts": ["api.example"],
            "tiers": { "basic": { "rate": "unlimited" }, "gold": { "rate": "unlimited" } },
            "keys": keys,
            "routes": { "items": { "match": "GET /items", "scope": "read" }, "open": { "match": "GET /open", "auth": "none", "limits": [] } },
        } }
    })
}

fn adopt(policy: &Policy, bytes: &[u8]) -> KeyBundle {
    let mut adoption = Adoption::new(policy, "api", MAX).unwrap();
    adoption.feed(bytes).unwrap();
    adoption.finish().unwrap()
}

/// Reason, key id and bundle of a request with a key
fn decided(gate: &mut Gate, token: &str) -> (Reason, Value, Value) {
    let ask = Ask::new("GET", "/items").key(token);
    let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
    let mut record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
    (
        outcome.record.reason,
        record["key"].take(),
        record["bundle"].take(),
    )
}

#[test]
fn a_key_of_the_policy_wins_and_revocation_beats_both() {
    let mut own = key("both", "basic");
    own["scopes"] = json!(["read"]);
    let seed = bundle(
        "r1",
        1,
        &[
            ("both", record("k-other", "gold")),
            ("seeded", record("k-seeded", "gold")),
            ("gone", record("k-gone", "gold")),
        ],
    );
    let mut gate = Gate::new(&policy(json!({
        "inline": [own],
        "bundle": { "seed": Base64::encode_string(&seed) },
    })));
    for _ in 0..2 {
        assert_eq!(
            decided(&mut gate, "both"),
            (Reason::Allowed, json!("k-both"), Value::Null)
        );
        assert_eq!(
            decided(&mut gate, "seeded"),
            (Reason::Allowed, json!("k-seeded"), json!("r1"))
        );
        assert_eq!(decided(&mut gate, "gone").0, Reason::KeyRevoked);
        assert_eq!(decided(&mut gate, "none").0, Reason::KeyUnknown);
    }
}

#[test]
fn a_bundle_replaces_the_one_before_and_an_older_seed() {
    let seed = |revision, at| {
        let bytes = bundle(revision, at, &[("seeded", record("k-seeded", "gold"))]);
        policy(json!({ "bundle": { "seed": Base64::encode_string(&bytes) } }))
    };
    let mut gate = Gate::new(&seed("r1", 10));
    for (revision, token) in [("r2", "first"), ("r3", "second")] {
        let bytes = bundle(revision, 20, &[(token, record(token, "gold"))]);
        gate.engine.adopt(adopt(&gate.policy, &bytes));
        assert_eq!(
            decided(&mut gate, token),
            (Reason::Allowed, json!(token), json!(revision))
        );
        assert_eq!(decided(&mut gate, "seeded").0, Reason::KeyUnknown);
        let in_force = gate.engine.bundle(&gate.policy, "api").unwrap();
        assert_eq!(in_force.revision(), revision);
    }
    assert_eq!(decided(&mut gate, "first").0, Reason::KeyUnknown);
    gate.policy = Rc::new(parse(&seed("r4", 30)));
    assert_eq!(decided(&mut gate, "second").0, Reason::KeyUnknown);
    assert_eq!(decided(&mut gate, "seeded").2, json!("r4"));
}

/// A key is never what it was by another policy
#[test]
fn the_policy_in_force_reads_the_records() {
    let bytes = bundle(
        "r1",
        1,
        &[("a", record("k-a", "gold")), ("b", record("k-b", "basic"))],
    );
    let mut gate = Gate::new(&policy(json!([])));
    gate.engine.adopt(adopt(&gate.policy, &bytes));
    assert_eq!(decided(&mut gate, "a").0, Reason::Allowed);
    let old = Rc::clone(&gate.policy);

    let mut next = policy(json!([]));
    next["revoked"] = json!(["k-b"]);
    next["apis"]["api"]["tiers"] = json!({ "basic": { "rate": "unlimited" } });
    gate.policy = Rc::new(parse(&next));
    assert_eq!(decided(&mut gate, "a").0, Reason::KeyUnknown);
    assert_eq!(decided(&mut gate, "b").0, Reason::KeyRevoked);
    // A request that began under the old policy ends under it.
    gate.policy = old;
    assert_eq!(decided(&mut gate, "a").0, Reason::Allowed);
    assert_eq!(decided(&mut gate, "b").0, Reason::Allowed);
}

#[test]
fn a_key_of_a_bundle_is_kept_from_the_upstream_of_an_open_route() {
    let mut gate = Gate::new(&policy(json!([])));
    let bytes = bundle("r1", 1, &[("ours", record("k-a", "gold"))]);
    gate.engine.adopt(adopt(&gate.policy, &bytes));
    for (token, is_stripped) in [("ours", true), ("theirs", false)] {
        let ask = Ask::new("GET", "/open").key(token);
        let outcome = gate.ask(&ask, FULL, &mut MapStore::default());
        let sent = upstream(&ask, edits(&outcome).unwrap());
        let reads = sent.iter().any(|(name, _)| name == b"authorization");
        assert_eq!(reads, !is_stripped, "{token}");
    }
}

#[test]
fn a_seed_that_is_none_refuses_the_policy() {
    let check = |seed: String, part: &str| {
        let document = policy(json!({ "bundle": { "seed": seed } }));
        let errors = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main").unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].path, "apis.api.keys.bundle.seed");
        assert!(errors[0].message.contains(part), "{}", errors[0]);
    };
    let good = bundle("r1", 1, &[("a", record("k-a", "gold"))]);
    check("no base64".into(), "base64");
    check(Base64::encode_string(&good[..400]), "cut short");
    check(
        Base64::encode_string(&good)
            .trim_end_matches('=')
            .to_owned()
            + "=====",
        "base64",
    );
    let bad = bundle("r1", 1, &[("a", record("k-a", "none"))]);
    check(
        Base64::encode_string(&bad),
        "records[0].tier: there is no such tier",
    );
}
