//! The policies of the gate's variants.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::options::Population;
use crate::variant::Variant;

/// What the keys that a policy knows begin with; a number of 31 digits follows.
pub(crate) const GOOD: &str = "pk_bench_";
/// What keys that nobody has begin with.
pub(crate) const BAD: &str = "pk_wrong_";
/// The host that is called.
pub(crate) const HOST: &str = "api.cybervault.io";

/// The n-th key: 40 characters.
pub(crate) fn key(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:031}")
}

/// The rate of whoever must pass.
///
/// 10,000 a minute is what the larger of the two seed APIs sells as `enterprise`. A thousand
/// principals that share some 40,000 requests a second stay at a quarter of it each; a hot one
/// needs more.
pub(crate) const fn passing_rate(population: Population) -> (u32, &'static str) {
    match population {
        Population::Principals(_) => (10_000, "10000/min"),
        Population::Hot => (6_000_000, "6000000/min"),
    }
}

/// The policy of a variant: the demo's API, as shipped, with keys and limits of its own.
pub(crate) fn policy(variant: Variant, population: Population) -> Value {
    let keys: Vec<Value> = (1..=population.principals()).map(key_record).collect();
    let rate = match variant {
        Variant::Limited => "1/h",
        _ => passing_rate(population).1,
    };
    let unauthenticated = match variant {
        // All clients of a benchmark have one address: high enough for every 401 to be one.
        Variant::Unauthorized => "1000000/s",
        _ => "60/min",
    };
    let mut api = json!({
        "hosts": [HOST],
        "dialect": "cybervault",
        "credential": "strip",
        "preflight": "forward",
        "tiers": { "enterprise": { "rate": rate } },
        "keys": keys,
        "routes": {
            "scan": { "match": "POST /v1/scans/initialize", "scope": "scans" },
            "read": { "match": "GET /v1/**", "scope": "threats" },
        },
    });
    if variant == Variant::Core
        && let Some(api) = api.as_object_mut()
    {
        api.insert("credential".to_owned(), "keep".into());
        api.insert("identity".to_owned(), "none".into());
    }
    // A class that costs more than the whole of a spent bucket could never pass: it is refused.
    if variant != Variant::Limited
        && let Some(routes) = api.pointer_mut("/routes").and_then(Value::as_object_mut)
    {
        routes.insert("analyze".to_owned(), analyze());
    }
    json!({
        "version": 1,
        "revision": "bench",
        "probes": { "ready": "/_portcullis/ready", "exempt": ["GET /healthz"] },
        "unauthenticated": { "rate": unauthenticated, "per": "client" },
        "apis": { "cybervault": api },
        "threat": { "indicators": {
            "urls": [{ "value": "http://malware.example/dropper.exe", "category": "malware" }],
            "domains": [{ "value": "phish.example", "category": "phishing" }],
            "networks": [{ "value": "203.0.113.0/24", "category": "command_and_control" }],
        } },
    })
}

/// The demo's route with inline verdicts.
fn analyze() -> Value {
    json!({
        "match": "POST /v1/threats/analyze",
        "scope": "threats",
        "body": { "max": "64KiB" },
        "class": {
            "from": "body.mode",
            "absent": "quick",
            "costs": { "quick": 1, "deep": 10, "sandbox": 20 },
        },
        "fields": {
            "target": { "type": "string", "required": true },
            "metadata": { "type": "object" },
        },
        "verdict": { "of": "body.target", "when": ["quick"], "on_unknown": "answer" },
    })
}

fn key_record(number: u32) -> Value {
    let digest = Sha256::digest(key(GOOD, number));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": format!("k_{number}"),
        "sha256": hex,
        "principal": format!("principal-{number}"),
        "tier": "enterprise",
        "scopes": ["threats", "scans"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_forty_characters() {
        assert_eq!(key(GOOD, 1).len(), 40);
        assert_eq!(key(BAD, u32::MAX).len(), 40);
    }
}
