//! Threat bundles that policies bring along.

use base64ct::{Base64, Encoding};
use ed25519_compact::{KeyPair, Seed};
use portcullis_policy::Policy;
use portcullis_threat::bundle::{self, Fact, FeedEntry, List, SIGNED, Scope, Set, Writer};
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

/// The key of RFC 8032, section 7.1, test 1
fn key() -> KeyPair {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let bytes = portcullis_threat::Digest::from_hex(seed).unwrap();
    KeyPair::from_seed(Seed::from_slice(bytes.as_bytes()).unwrap())
}

fn signed(mut bytes: Vec<u8>, by: &KeyPair) -> Vec<u8> {
    let opened = Bundle::open(bytes.clone(), &Terms::default()).unwrap();
    let signature = by.sk.sign([SIGNED, opened.digest()].concat(), None);
    bundle::sign(&mut bytes, &by.pk, &signature);
    bytes
}

/// What screens are tried with: a feed that is blocked by and one that only warns, for both protocols of addresses
pub(crate) fn screening(created: u64, valid_until: u64) -> Vec<u8> {
    let mut writer = Writer::new(*b"the corpus' key.", created);
    let feed = |name: &str, allows| FeedEntry {
        name: name.into(),
        licence: "CC0-1.0".into(),
        fetched_at: created,
        valid_until,
        sha256: [7; 32],
        allows,
    };
    let [alpha, beta, good] = [("alpha", false), ("beta", false), ("good", true)]
        .map(|(name, allows)| writer.feed(feed(name, allows)).unwrap());
    let fact = |feed, block| Fact {
        feed,
        category: Category::Phishing,
        confidence: 95,
        scope: Scope::SUBDOMAINS,
        block,
        first_seen: 0,
        last_seen: 0,
    };
    let (listed, warned) = (fact(alpha, true), fact(beta, false));
    writer.add(List::Deny, Set::Domain, b"phish.example", &listed);
    writer.add(List::Deny, Set::Domain, b"warned.example", &warned);
    for (network, prefix, fact) in [
        ("203.0.113.0", 28, &listed),
        ("198.51.100.0", 24, &warned),
        ("2001:db8:bad::", 48, &listed),
    ] {
        writer.network(List::Deny, network.parse().unwrap(), prefix, fact);
    }
    writer.address(List::Deny, "203.0.113.77".parse().unwrap(), &listed);
    let allowed = fact(good, false);
    writer.network(List::Allow, "203.0.113.8".parse().unwrap(), 29, &allowed);
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
        ("feeds", signed(bundle(NOVEMBER_2026, LONG), &key())),
        ("feeds-aged", bundle(JANUARY_2020, JANUARY_2020 + 86_400)),
        ("screening", screening(NOVEMBER_2026, LONG)),
        (
            "screening-aged",
            screening(JANUARY_2020, JANUARY_2020 + 86_400),
        ),
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
fn a_seed_is_signed_where_the_policy_says_by_whom() {
    let unsigned = bundle(NOVEMBER_2026, LONG);
    let other = KeyPair::from_seed(Seed::new([7; 32]));
    let word = |pair: &KeyPair| format!("ed25519:{}", Base64::encode_string(&*pair.pk));
    let said = |seed: &[u8], signed_by: Value| {
        let seed = Base64::encode_string(seed).into();
        let read = seeded(&[("seed", seed), ("signed_by", signed_by)], "CC0-1.0");
        read.map(|_| ())
            .map_err(|errors| errors.into_iter().next().unwrap_or_default())
    };
    let ours = signed(unsigned.clone(), &key());
    let hex: String = key().pk.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(said(&ours, word(&key()).into()), Ok(()));
    assert_eq!(said(&ours, format!("ed25519:{hex}").into()), Ok(()));
    assert_eq!(
        said(&ours, json!([word(&other), word(&key())])),
        Ok(()),
        "while one key takes over from another both are good"
    );
    let refused = |what: &str| Err(format!("threat.bundle.seed: {what}"));
    let by_another = "signer: signed with another key than those that are allowed";
    assert_eq!(said(&ours, word(&other).into()), refused(by_another));
    assert_eq!(
        said(&unsigned, word(&key()).into()),
        refused("unsigned: not signed")
    );
    let mut forged = signed(unsigned, &other);
    let seal = forged.len() - 96;
    forged[seal..seal + 32].copy_from_slice(&*key().pk);
    assert_eq!(
        said(&forged, word(&key()).into()),
        refused("signature: its signature is not of this bundle by the key that it names")
    );
}

#[test]
fn only_a_key_that_one_can_sign_with_may_sign() {
    let of = |signed_by: Value| {
        let errors = seeded(&[("signed_by", signed_by)], "CC0-1.0").err();
        let mut errors = errors.unwrap_or_default();
        // What the seed is told beside it.
        errors.retain(|error| !error.starts_with("threat.bundle.seed: "));
        errors
    };
    let good = format!("ed25519:{}", Base64::encode_string(&*key().pk));
    let key_of = |bytes: [u8; 32]| format!("ed25519:{}", Base64::encode_string(&bytes));
    let form = "must be `ed25519:` and a public key, 32 bytes in base64 or hexadecimal digits, as portcullis feed inspect tells it";
    for bad in [
        "",
        "ed25519:",
        "ed25519:AAAA",
        &good[8..],
        &good[..51],
        "rsa:00",
    ] {
        assert_eq!(of(bad.into()), [format!("threat.bundle.signed_by: {form}")]);
    }
    let small = "threat.bundle.signed_by[1]: is no key that only one can sign with: make one with openssl genpkey -algorithm ed25519";
    let one = core::array::from_fn(|at| u8::from(at == 0));
    assert_eq!(of(json!([good, key_of(one)])), [small]);
    assert_eq!(of(json!([good, key_of([0; 32])])), [small]);
    let count = "threat.bundle.signed_by: must be one public key, or two";
    assert_eq!(of(json!([])), [count]);
    let keys = [1, 2, 3].map(|seed| key_of(*KeyPair::from_seed(Seed::new([seed; 32])).pk));
    assert_eq!(of(json!(keys)), [count]);
    assert_eq!(
        of(json!([good, good])),
        ["threat.bundle.signed_by[1]: is there twice"]
    );
    assert_eq!(
        of(json!(true)),
        ["threat.bundle.signed_by: must be a string or a list of strings, not a boolean"]
    );
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

#[test]
fn a_cache_of_verdicts_has_a_size_and_lifetimes() {
    let errors = |size: Value| {
        let read = policy(&json!({ "model": "quick/2", "cache": size }));
        read.err().unwrap_or_default()
    };
    assert_eq!(errors("1MiB".into()), Vec::<String>::new());
    assert_eq!(errors(256.into()), Vec::<String>::new());
    let most = "threat.cache: must be a size of up to 67108864 bytes, such as 64KiB or 1MiB";
    assert_eq!(errors("65MiB".into()), [most]);
    assert_eq!(
        errors(255.into()),
        ["threat.cache: must be at least 256 bytes"]
    );
    let lifetimes = json!({ "max": "1MiB", "positive": "15min", "negative": "1s" });
    assert_eq!(errors(lifetimes), Vec::<String>::new());
    assert_eq!(errors(json!({ "max": 256 })), Vec::<String>::new());
    let wrong = errors(json!({ "positive": "2d", "negative": 0, "neutral": "1s" }));
    let paths: Vec<_> = wrong
        .iter()
        .filter_map(|error| Some(error.split_once(": ")?.0))
        .collect();
    let cache = |name: &str| format!("threat.cache.{name}");
    let expected = ["max", "negative", "neutral", "positive"].map(cache);
    assert_eq!(paths, expected, "{wrong:?}");
}
