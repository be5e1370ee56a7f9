use alloc::string::String;
use std::format;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::key::bundle::MAGIC;
use crate::key::{BundleWriter, DigestScheme, KeyDigest};

const MAX: usize = 1024 * 1024;

fn policy() -> Policy {
    let policy = r#"{
      "version": 1,
      "revoked": ["k1"],
      "apis": { "shop": {
        "hosts": ["shop.example"],
        "keys": [],
        "tiers": { "basic": { "rate": "10/min" }, "gold": { "rate": "unlimited" } },
        "routes": { "list": { "match": "GET /items", "scope": "read" } }
      } }
    }"#;
    Policy::parse(policy.as_bytes(), "main").unwrap()
}

fn record(number: usize) -> String {
    format!(
        r#"{{"id":"k{number}","principal":"p{}","tier":"basic","scopes":["read"]}}"#,
        number / 2
    )
}

fn hex(digest: [u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A bundle of these records; the key of the record n is `secret-n`
fn bundle_of(records: &[String]) -> Vec<u8> {
    let mut writer = BundleWriter::new("shop", "r7", 1_800_000_000, DigestScheme::Plain).unwrap();
    for (number, record) in records.iter().enumerate() {
        let digest = KeyDigest::of(format!("secret-{number}").as_bytes()).0;
        writer
            .add(&hex(digest), record.clone().into_bytes())
            .unwrap();
    }
    writer.finish().unwrap()
}

fn bundle(keys: usize) -> Vec<u8> {
    bundle_of(&(0..keys).map(record).collect::<Vec<_>>())
}

fn adopt(bytes: &[u8], page: usize) -> Result<KeyBundle, BundleError> {
    let mut adoption = Adoption::new(&policy(), "shop", MAX).unwrap();
    for page in bytes.chunks(page) {
        adoption.feed(page)?;
    }
    adoption.finish()
}

#[test]
fn a_bundle_is_adopted_in_pages_of_any_size() {
    let bytes = bundle(50);
    for page in [1, 7, 352, 353, 4096, MAX] {
        let bundle = adopt(&bytes, page).unwrap();
        assert_eq!((bundle.revision(), bundle.count()), ("r7", 50));
        assert_eq!(
            (bundle.generated_at(), bundle.bytes()),
            (1_800_000_000, &*bytes)
        );
    }
    assert_eq!(adopt(&bundle(0), 100).unwrap().count(), 0);
}

#[test]
fn what_is_missing_is_known_from_the_header_on() {
    let bytes = bundle(3);
    let mut adoption = Adoption::new(&policy(), "shop", MAX).unwrap();
    adoption.feed(&bytes[..HEADER - 1]).unwrap();
    assert_eq!((adoption.missing(), adoption.checksum()), (None, None));
    adoption.feed(&bytes[HEADER - 1..HEADER]).unwrap();
    assert_eq!(adoption.missing(), Some(bytes.len() - HEADER));
    adoption.feed(&bytes[HEADER..]).unwrap();
    assert_eq!(adoption.missing(), Some(0));
    let sum = adoption.checksum().unwrap();
    assert_eq!(adoption.finish().unwrap().checksum(), sum);
}

#[test]
fn keys_are_found_by_their_digests() {
    let policy = policy();
    let terms = &policy.apis[0].terms;
    let bundle = adopt(&bundle(200), 64).unwrap();
    for number in 0..200 {
        let digest = KeyDigest::of(format!("secret-{number}").as_bytes());
        let key = bundle.find(&digest, terms).unwrap();
        assert_eq!(key.id.as_str(), format!("k{number}"));
        assert_eq!(key.bundle.unwrap().as_str(), "r7");
        assert_eq!(
            key.state == crate::key::KeyState::Revoked,
            number == 1,
            "{number}"
        );
    }
    for secret in ["secret-200", "", "secret-1 "] {
        let digest = KeyDigest::of(secret.as_bytes());
        assert!(bundle.find(&digest, terms).is_none());
        assert!(!bundle.knows(&digest));
    }
}

#[test]
fn the_same_keys_make_the_same_bytes() {
    let mut writers = [(); 2]
        .map(|()| BundleWriter::new("shop", "r7", 1_800_000_000, DigestScheme::Plain).unwrap());
    for number in 0..20 {
        for (writer, number) in writers.iter_mut().zip([number, 19 - number]) {
            let digest = KeyDigest::of(format!("secret-{number}").as_bytes()).0;
            writer
                .add(&hex(digest), record(number).into_bytes())
                .unwrap();
        }
    }
    let [one, other] = writers.map(|writer| writer.finish().unwrap());
    assert_eq!(one, other);
    assert_eq!(one, bundle(20));
}

fn refused(bytes: &[u8]) -> BundleError {
    adopt(bytes, 1000).unwrap_err()
}

/// With the checksum made good again
fn resealed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut bytes);
    let mut hash = Sha256::new();
    hash.update(&bytes[..CHECKED]);
    hash.update(&bytes[HEADER..]);
    bytes[CHECKED..HEADER].copy_from_slice(&hash.finalize());
    bytes
}

#[test]
fn every_refusal_is_named() {
    let good = bundle(3);
    let records_at = HEADER + 3 * 32 + 4 * 4;
    let change = |change: fn(&mut Vec<u8>)| refused(&resealed(good.clone(), change));
    assert_eq!(change(|bytes| bytes[0] = b'P'), BundleError::NotABundle);
    assert_eq!(change(|bytes| bytes[8] = 2), BundleError::Version(2));
    assert_eq!(
        change(|bytes| bytes[12] = 3),
        BundleError::Header("digest scheme")
    );
    assert_eq!(
        change(|bytes| bytes[12] = 2),
        BundleError::Scheme(DigestScheme::Peppered)
    );
    assert_eq!(
        change(|bytes| bytes[24] = 4),
        BundleError::Header("digests")
    );
    assert_eq!(
        change(|bytes| bytes[24..28].fill(0xff)),
        BundleError::Header("digests")
    );
    assert_eq!(
        change(|bytes| bytes[28] ^= 1),
        BundleError::Header("length")
    );
    assert_eq!(
        change(|bytes| bytes[32] ^= 1),
        BundleError::Header("digests")
    );
    assert_eq!(
        change(|bytes| bytes[44] ^= 1),
        BundleError::Header("offsets")
    );
    assert_eq!(
        change(|bytes| bytes[48] ^= 1),
        BundleError::Header("records")
    );
    assert_eq!(change(|bytes| bytes[56] = 200), BundleError::Header("API"));
    assert_eq!(
        change(|bytes| bytes[60] = 1),
        BundleError::Header("revision")
    );
    assert_eq!(
        change(|bytes| bytes[64] = b'c'),
        BundleError::Api("chop".into())
    );
    assert_eq!(
        change(|bytes| bytes[319] = 1),
        BundleError::Header("revision")
    );
    assert_eq!(
        change(|bytes| bytes[HEADER..HEADER + 32].fill(0xff)),
        BundleError::Order(1)
    );
    assert_eq!(
        change(|bytes| bytes[HEADER + 64..HEADER + 96].fill(0)),
        BundleError::Order(2)
    );
    assert_eq!(
        change(|bytes| bytes[HEADER + 96] = 1),
        BundleError::Offset(0)
    );
    assert_eq!(
        change(|bytes| bytes[HEADER + 100] = 0),
        BundleError::Offset(1)
    );
    assert_eq!(
        change(|bytes| bytes[HEADER + 109] = 9),
        BundleError::Offset(3)
    );
    let cut = &good[..good.len() - 1];
    assert_eq!(refused(cut), BundleError::Cut);
    assert_eq!(refused(&[&*good, b" "].concat()), BundleError::Trailing);
    assert_eq!(refused(b""), BundleError::Cut);
    let mut flipped = good.clone();
    flipped[records_at] = b'[';
    assert_eq!(refused(&flipped), BundleError::Checksum);

    let mut small = Adoption::new(&policy(), "shop", good.len() - 1).unwrap();
    assert_eq!(
        small.feed(&good[..HEADER]),
        Err(BundleError::TooLong(good.len() - 1))
    );
    assert_eq!(small.feed(b""), Err(BundleError::TooLong(good.len() - 1)));
    assert!(Adoption::new(&policy(), "chop", MAX).is_none());
}

#[test]
fn every_bad_record_refuses_the_bundle_and_few_are_told() {
    let check = |bad: &str, part: &str| {
        let mut records: Vec<_> = (0..5).map(record).collect();
        records.push(bad.into());
        let BundleError::Records(errors) = refused(&bundle_of(&records)) else {
            panic!("{bad}");
        };
        assert_eq!(errors.len(), 1, "{bad}: {errors:?}");
        assert!(
            format!("{}", errors[0]).contains(part),
            "{bad}: {}",
            errors[0]
        );
    };
    check("[]", "must be an object");
    check("{", "is not valid JSON");
    check("\u{feff}{}", "is not valid JSON");
    check(
        r#"{"id":"x","principal":"x","tier":"none"}"#,
        ".tier: there is no such tier",
    );
    check(r#"{"id":"x","principal":"x"}"#, ".tier: is required");
    check(
        r#"{"id":"x","principal":"x","tier":"gold","scopes":["raed"]}"#,
        ".scopes[0]: no route",
    );
    check(
        r#"{"id":"x","principal":"x","tier":"gold","sha256":"00"}"#,
        ".sha256: unknown field",
    );
    check(
        r#"{"id":"x","ID":"y","principal":"x","tier":"gold"}"#,
        "appears twice",
    );
    check(
        r#"{"id":"x","principal":"x","tier":"gold","expires":"soon"}"#,
        ".expires: must be",
    );
    check(
        r#"{"id":"x","principal":"x","tier":"gold","state":"revoked"}"#,
        ".state: must be",
    );
    check(
        r#"{"id":"x","principal":"p2","tier":"gold"}"#,
        "keys of one principal share its tier",
    );
    let BundleError::Records(errors) = refused(&bundle_of(&vec![String::from("{}"); 100])) else {
        panic!("100 bad records");
    };
    assert_eq!(errors.len(), MAX_ERRORS);
}

proptest! {
    /// Whatever was changed, the bundle is refused, and nothing traps
    #[test]
    fn a_changed_byte_is_found(at in any::<prop::sample::Index>(), bit in 0u8..8, page in 1usize..2000) {
        let mut bytes = bundle(20);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(adopt(&bytes, page).is_err());
    }

    #[test]
    fn a_cut_is_found(at in any::<prop::sample::Index>(), page in 1usize..2000) {
        let bytes = bundle(20);
        prop_assert!(adopt(&bytes[..at.index(bytes.len())], page).is_err());
    }

    /// A maker who seals what is not a bundle: refused, or one that can be asked for anything
    #[test]
    fn a_hostile_maker_traps_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        numbers in prop::collection::vec((0usize..14, any::<u32>()), 0..3),
        page in 1usize..2000,
    ) {
        let bytes = resealed(bundle(20), |bytes| {
            for (at, value) in changes {
                // Most bytes are records: the head and the index get their share.
                let end = if value % 2 == 0 { bytes.len() } else { HEADER + 20 * 36 };
                let at = at.index(end);
                bytes[at] = value;
            }
            for (field, number) in numbers {
                bytes[8..].as_chunks_mut().0[field] = number.to_le_bytes();
            }
        });
        let policy = policy();
        if let Ok(bundle) = adopt(&bytes, page) {
            for number in 0..20 {
                let digest = KeyDigest::of(format!("secret-{number}").as_bytes());
                let _ = bundle.find(&digest, &policy.apis[0].terms);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), page in 1usize..500) {
        prop_assert!(adopt(&bytes, page).is_err());
        let headed = [&MAGIC[..], &bytes].concat();
        prop_assert!(adopt(&headed, page).is_err());
    }
}
