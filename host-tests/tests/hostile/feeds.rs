//! A policy whose verdicts are made with a bundle of threat feeds, and such bundles.

use base64ct::{Base64, Encoding};
use ed25519_compact::{KeyPair, Seed};
use portcullis_host::{Plugin, RequestScript, VirtualClock};
use portcullis_policy::key_digest;
use portcullis_threat::bundle::{self, Fact, FeedEntry, List, SIGNED, Scope, Set, Table, Writer};
use portcullis_threat::{Bundle, Category, Terms};
use serde_json::{Value, json};

use crate::demo::ROOT;

const KEY: &str = "acme-of-the-feeds";

/// A policy that answers quick checks of bodies up to 512 KiB, with what `threat.bundle` says.
pub(crate) fn plugin(bundle: &Value) -> Plugin {
    let digest = key_digest(KEY.as_bytes(), None).unwrap();
    let policy = json!({
        "version": 1,
        "apis": { "shop": {
            "hosts": ["shop.example"],
            "tiers": { "basic": { "rate": "unlimited" } },
            "keys": [{ "id": "k1", "principal": "acme", "tier": "basic", "sha256": digest }],
            "routes": { "check": {
                "match": "POST /check",
                "body": { "max": "512KiB" },
                "fields": { "target": { "type": "string", "required": true } },
                "verdict": { "of": "body.target" },
            } },
        } },
        "threat": { "model": "quick/2", "licences": ["CC0-1.0"], "bundle": bundle },
    });
    Plugin::new(ROOT, policy.to_string())
}

/// A quick check of a target.
pub(crate) fn check(target: &str) -> RequestScript {
    let mut script = RequestScript::new("POST", "/check");
    script.headers[0].1 = b"shop.example".to_vec();
    script
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .piece(json!({ "target": target }).to_string())
}

/// A bundle that lists these domains, compiled so many seconds after the world began.
pub(crate) fn bundle(domains: &[&str], after: u64) -> Vec<u8> {
    writer(domains, after).finish().unwrap().0
}

/// The same with all tables.
pub(crate) fn bundle_with_tables(domains: &[&str]) -> Vec<u8> {
    let mut writer = writer(domains, 0);
    let sections = portcullis_fit::sections().unwrap();
    writer.table(Table::Suffixes, &sections.suffixes);
    writer.table(Table::Brands, &sections.brands);
    writer.table(Table::Confusables, &sections.confusables);
    writer.table(Table::Model, &sections.model);
    writer.finish().unwrap().0
}

fn writer(domains: &[&str], after: u64) -> Writer {
    let created = VirtualClock::START_WALL / 1_000_000_000 + after;
    let mut writer = Writer::new(*b"sixteen of bytes", created);
    let feed = FeedEntry {
        name: "alpha".into(),
        licence: "CC0-1.0".into(),
        fetched_at: created,
        valid_until: created + 86_400,
        sha256: [7; 32],
        allows: false,
    };
    let fact = Fact {
        feed: writer.feed(feed).unwrap(),
        category: Category::Phishing,
        confidence: 95,
        scope: Scope::SUBDOMAINS,
        block: true,
        first_seen: 0,
        last_seen: 0,
    };
    for domain in domains {
        writer.add(List::Deny, Set::Domain, domain.as_bytes(), &fact);
    }
    writer
}

/// Somebody who signs bundles.
pub(crate) fn signer(seed: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([seed; 32]))
}

/// A signer's key as policies have it.
pub(crate) fn named(signer: &KeyPair) -> String {
    format!("ed25519:{}", Base64::encode_string(&*signer.pk))
}

pub(crate) fn signed(mut bytes: Vec<u8>, by: &KeyPair) -> Vec<u8> {
    let opened = Bundle::open(bytes.clone(), &Terms::default()).unwrap();
    let signature = by.sk.sign([SIGNED, opened.digest()].concat(), None);
    bundle::sign(&mut bytes, &by.pk, &signature);
    bytes
}
