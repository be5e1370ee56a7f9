//! Threat bundles that policies bring along.

use base64ct::{Base64, Encoding};
use portcullis_policy::Policy;
use portcullis_threat::bundle::{Fact, FeedEntry, List, Scope, Set, Writer};
use portcullis_threat::{Bundle, Category, Terms};
use serde_json::{Value, json};

const NOVEMBER_2026: u64 = 1_793_491_200;
const JANUARY_2020: u64 = 1_577_836_800;
/// 2096
const LONG: u64 = 3_976_300_000;

/// What the corpus' policies bring along: no tables, for they are long
pub(crate) fn bundle(created: u64, valid_until: u64) -> Vec<u8> {
    let mut writer = Writer::new(*b"the corpus' key.", created);
    let feed = FeedEntry {
        name: "alpha".into(),
        licence: "CC0-1.0".into(),
        fetched_at: created,
        valid_until,
        sha256: [7; 32],
        allows: false,
    };
    let feed = writer.feed(feed).unwrap();
    let fact = Fact {
        feed,
        category: Category::Phishing,
        confidence: 95,
        scope: Scope::SUBDOMAINS,
        block: true,
        first_seen: 0,
        last_seen: 0,
    };
    writer.add(List::Deny, Set::Domain, b"phish.example", &fact);
    writer.network(List::Deny, "203.0.113.0".parse().unwrap(), 28, &fact);
    writer.finish().unwrap().0
}

fn policy(threat: &Value) -> Result<Policy, Vec<String>> {
    let document = json!({
        "version": 1,
        "apis": { "shop": {
            "hosts": ["shop.example"],
            "keys": [],
            "tiers": { "basic": { "rate": "unlimited" } },
            "routes": { "items": { "match": "GET /items" } },
        } },
        "threat": threat,
    });
    let policy = Policy::parse(&serde_json::to_vec(&document).unwrap(), "main");
    policy.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn seeded(more: &[(&str, Value)], licence: &str) -> Result<Policy, Vec<String>> {
    let mut bundle_fields = json!({ "seed": Base64::encode_string(&bundle(NOVEMBER_2026, LONG)) });
    for (name, value) in more {
        bundle_fields[*name] = value.clone();
    }
    policy(&json!({ "bundle": bundle_fields, "licences": [licence] }))
}

/// The seeds in the corpus are what this says they are.
#[test]
fn the_corpus_brings_these_bundles_along() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/cases/policies");
    for (name, bundle) in [
        ("feeds", bundle(NOVEMBER_2026, LONG)),
        ("feeds-aged", bundle(JANUARY_2020, JANUARY_2020 + 86_400)),
    ] {
        let text = std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap();
        let seed = Base64::encode_string(&bundle);
        assert!(text.contains(&seed), "{name}.yaml is to say seed: {seed}");
    }
}

#[test]
fn a_seed_is_what_the_policy_wants_or_refused() {
    let good = seeded(&[], "CC0-1.0").unwrap();
    let seed = good.threat_seed().unwrap();
    let digest: String = seed
        .digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(seeded(&[("sha256", digest.into())], "CC0-1.0").is_ok());
    let refused = |more: &[(&str, Value)], licence: &str| seeded(more, licence).err().unwrap();
    assert_eq!(
        refused(&[], "MIT"),
        ["threat.bundle.seed: licence: a feed's licence is not among those that are allowed"]
    );
    assert_eq!(
        refused(&[("sha256", "00".repeat(32).into())], "CC0-1.0"),
        ["threat.bundle.seed: pin: another digest than the one that is pinned"]
    );
    let mut flipped = bundle(NOVEMBER_2026, LONG);
    flipped[500] ^= 1;
    assert!(Bundle::open(flipped.clone(), &Terms::default()).is_err());
    let errors = refused(
        &[("seed", Base64::encode_string(&flipped).into())],
        "CC0-1.0",
    );
    assert!(errors[0].starts_with("threat.bundle.seed: "), "{errors:?}");
}

#[test]
fn a_bundle_has_licences_and_a_place_it_comes_from() {
    let errors = policy(&json!({ "bundle": {} })).err().unwrap();
    assert_eq!(
        errors,
        [
            "threat.bundle: must say where it comes from: cluster and path, or seed",
            "threat.licences: is required",
        ]
    );
    let errors = policy(&json!({ "model": "quick/2", "licences": ["MIT"] }));
    assert_eq!(
        errors.err().unwrap(),
        ["threat.licences: belongs to a bundle: write bundle too"]
    );
    let errors = seeded(&[("refresh", "60s".into())], "CC0-1.0")
        .err()
        .unwrap();
    assert_eq!(
        errors,
        ["threat.bundle.refresh: says how the bundle is fetched: write `cluster` too"]
    );
}
