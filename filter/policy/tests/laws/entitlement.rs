//! What a policy says of quotas, and what it may not.

use base64ct::{Base64, Encoding};
use portcullis_policy::{MapStore, Policy, Reason};
use serde_json::{Value, json};

use crate::configuration::everything;
use crate::gate::{Ask, FULL, Gate};
use crate::keys::bundle;

fn errors(document: &Value) -> Vec<(String, String)> {
    let Err(errors) = Policy::parse(&serde_json::to_vec(document).unwrap(), "main") else {
        return Vec::new();
    };
    let pairs = errors.into_iter().map(|error| (error.path, error.message));
    pairs.collect()
}

#[test]
fn contradictions_of_quotas_are_refused_with_their_path() {
    let shop = "/apis/shop";
    let pack = |id: &str, quota: &str, amount: u64| json!({ "id": id, "quota": quota, "amount": amount, "expires": "2036-01-01T00:00:00Z" });
    let period = |from: &str, to: &str| json!({ "from": from, "to": to });
    let two_packs = json!([pack("p", "scans", 1), pack("p", "scans", 2)]);
    let many: Vec<_> = (0..33)
        .map(|n| pack(&format!("p{n}"), "scans", 1))
        .collect();
    let names: serde_json::Map<_, _> = (0..33).map(|n| (format!("q{n}"), json!(1))).collect();
    for (place, field, value, at, message) in [
        ("", "quotas", json!({}), "quotas.store", "is required"),
        (
            "",
            "quotas",
            json!({ "store": "redis" }),
            "quotas.store",
            "must be one of: local",
        ),
        (
            "tiers/metered",
            "quotas",
            json!("none"),
            "tiers.metered.quotas",
            "must be one of: from_key",
        ),
        (
            "tiers/metered",
            "quotas",
            json!({ "scans": -1 }),
            "tiers.metered.quotas.scans",
            "a whole number",
        ),
        (
            "tiers/metered",
            "quotas",
            json!({ "scans": 1.5 }),
            "tiers.metered.quotas.scans",
            "a whole number",
        ),
        (
            "tiers/metered",
            "quotas",
            json!({ "scans": "many" }),
            "tiers.metered.quotas.scans",
            "must be one of: unlimited",
        ),
        (
            "tiers/metered",
            "quotas",
            json!({ "a b": 1 }),
            "tiers.metered.quotas.a b",
            "is not a name",
        ),
        (
            "tiers/metered",
            "quotas",
            names.into(),
            "tiers.metered.quotas",
            "32 at the most",
        ),
        (
            "tiers/metered",
            "quotas",
            json!({ "reports": 1 }),
            "routes.scan.spend",
            "the tier `metered` does not say",
        ),
        (
            "tiers/metered",
            "quotas",
            json!("from_key"),
            "keys[0].quotas",
            "is required",
        ),
        (
            "keys/3",
            "plan",
            json!("weekly"),
            "keys[3].plan",
            "must be one of: monthly, yearly",
        ),
        (
            "keys/3",
            "anchor",
            json!("2026-01-31"),
            "keys[3].anchor",
            "must be an instant",
        ),
        (
            "keys/3",
            "quotas",
            json!({ "scans": 7 }),
            "keys[3].quotas",
            "write `quotas: from_key`",
        ),
        (
            "keys/3",
            "packs",
            json!([pack("p", "other", 1)]),
            "keys[3].packs[0].quota",
            "none of the quotas",
        ),
        (
            "keys/3",
            "packs",
            json!([pack("p", "scans", 0)]),
            "keys[3].packs[0].amount",
            "a whole number from 1",
        ),
        (
            "keys/3",
            "packs",
            json!([{}]),
            "keys[3].packs[0].expires",
            "is required",
        ),
        (
            "keys/3",
            "packs",
            two_packs,
            "keys[3].packs[1]",
            "another pack has the id `p`",
        ),
        (
            "keys/3",
            "packs",
            json!(many),
            "keys[3].packs",
            "32 at the most",
        ),
        (
            "keys/4",
            "anchor",
            json!("2026-01-31T00:00:00Z"),
            "keys[4].anchor",
            "needs no anchor",
        ),
        (
            "keys/4",
            "period",
            period("2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            "keys[4].period",
            "ends before it begins",
        ),
        (
            "keys/4",
            "period",
            json!({ "from": "2026-02-01T00:00:00Z" }),
            "keys[4].period.to",
            "is required",
        ),
        (
            "routes/scan/idempotency",
            "upstream",
            json!("ignores"),
            "routes.scan.idempotency.upstream",
            "must be one of: deduplicates",
        ),
        (
            "routes/scan/idempotency",
            "ttl",
            json!("59s"),
            "routes.scan.idempotency.ttl",
            "is not a time",
        ),
        (
            "routes/scan/idempotency",
            "ttl",
            json!("31d"),
            "routes.scan.idempotency.ttl",
            "is not a time",
        ),
        (
            "routes/scan/idempotency",
            "header",
            json!("X-Key"),
            "routes.scan.idempotency.header",
            "in lower case",
        ),
        (
            "routes/list",
            "idempotency",
            json!({ "upstream": "deduplicates", "ttl": "1h" }),
            "routes.list.idempotency",
            "nothing to charge",
        ),
        (
            "routes/hook",
            "spend",
            json!("scans"),
            "routes.hook.spend",
            "no principal",
        ),
    ] {
        let base = if place.is_empty() {
            String::new()
        } else {
            format!("{shop}/{place}")
        };
        let mut document = everything();
        document.pointer_mut(&base).expect(place)[field] = value;
        let at = if place.is_empty() {
            at.to_owned()
        } else {
            format!("apis.shop.{at}")
        };
        let found = errors(&document);
        assert!(
            found
                .iter()
                .any(|(path, said)| *path == at && said.contains(message)),
            "{at}: {found:?}"
        );
    }
}

#[test]
fn a_route_without_a_body_binds_no_key() {
    let mut document = everything();
    let list = &mut document["apis"]["shop"]["routes"]["list"];
    list["spend"] = "scans".into();
    list["idempotency"] = json!({ "upstream": "deduplicates", "ttl": "1h" });
    let found = errors(&document);
    let [(path, message)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(path, "apis.shop.routes.list.idempotency");
    assert!(message.contains("nothing reads the body"), "{message}");
}

/// A key of a tier without quotas says nothing of them
#[test]
fn a_tier_without_quotas_has_no_plans() {
    let mut document = everything();
    document["apis"]["other"]["keys"]["inline"][0]["plan"] = "yearly".into();
    let expected = (
        "apis.other.keys.inline[0].plan".to_owned(),
        "the tier `free` has no quotas".to_owned(),
    );
    assert_eq!(errors(&document), [expected]);
}

/// Keys of one principal are one customer
#[test]
fn keys_of_a_principal_say_the_same_of_its_quotas() {
    let mut document = everything();
    let keys = document["apis"]["shop"]["keys"].as_array_mut().unwrap();
    let mut second = crate::gate::key("second", "quotas");
    for field in ["principal", "plan", "anchor", "packs"] {
        second[field] = keys[3][field].clone();
    }
    keys.push(second);
    assert_eq!(errors(&document), []);
    document["apis"]["shop"]["keys"][5]["plan"] = "monthly".into();
    let found = errors(&document);
    assert!(
        found[0]
            .1
            .contains("keys of one principal share its quotas"),
        "{found:?}"
    );
}

/// What is enforced and lost on restart is enforced only by words that say so
#[test]
fn enforced_quotas_need_a_store_that_is_named() {
    let mut document = everything();
    document.as_object_mut().unwrap().remove("quotas");
    let found = errors(&document);
    let [(path, message)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(path, "quotas.store");
    assert!(message.contains("lost when Envoy restarts") && message.contains("`local`"));
    for mode in ["observe", "disabled"] {
        document["mode"] = mode.into();
        assert_eq!(errors(&document), [], "{mode}");
    }
    // What no route spends is not enforced.
    document.as_object_mut().unwrap().remove("mode");
    let scan = document["apis"]["shop"]["routes"]["scan"]
        .as_object_mut()
        .unwrap();
    scan.remove("spend");
    scan.remove("idempotency");
    assert_eq!(errors(&document), []);
}

/// Records of a bundle say of quotas what keys of the policy say
#[test]
fn keys_of_a_bundle_have_quotas() {
    let document = |record: Value| {
        let seed = Base64::encode_string(&bundle("r1", 1, &[("seeded", record)]));
        json!({
            "version": 1,
            "quotas": { "store": "local" },
            "apis": { "api": {
                "hosts": ["api.example"],
                "tiers": { "custom": { "rate": "unlimited", "quotas": "from_key" } },
                "keys": { "bundle": { "seed": seed } },
                "routes": { "items": { "match": "GET /items", "spend": "items" } },
            } },
        })
    };
    let good = json!({ "id": "k", "principal": "p", "tier": "custom", "quotas": { "items": 1 }, "plan": "yearly" });
    let mut gate = Gate::new(&document(good));
    let mut store = MapStore::default();
    let ask = Ask::new("GET", "/items").key("seeded");
    for n in 0..13 {
        let record = gate.ask(&ask, FULL, &mut store).record;
        let expected = if n < 12 {
            Reason::Allowed
        } else {
            Reason::QuotaSpent
        };
        assert_eq!(record.reason, expected, "{n}");
        if n == 12 {
            assert_eq!(record.rule.path, "apis.api.tiers.custom.quotas");
        }
    }
    let bad = json!({ "id": "k", "principal": "p", "tier": "custom" });
    let found = errors(&document(bad));
    assert!(
        found[0].1.contains("records[0].quotas: is required"),
        "{found:?}"
    );
}
