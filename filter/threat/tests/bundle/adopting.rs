//! What is adopted, and what isn't.

use portcullis_threat::bundle::{Adoption, Bundle, Refusal, Set, Shelf, Terms};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::sample;

const LONGEST: usize = 1 << 24;
const SEAL: usize = 128;

fn taken(shelf: &mut Shelf, bytes: &[u8], chunk: usize) -> Result<(), Refusal> {
    taken_on(shelf, bytes, chunk, &Terms::default())
}

fn taken_on(
    shelf: &mut Shelf,
    bytes: &[u8],
    chunk: usize,
    terms: &Terms<'_>,
) -> Result<(), Refusal> {
    let mut adoption = shelf.begin(bytes.len(), LONGEST)?;
    for chunk in bytes.chunks(chunk.max(1)) {
        adoption.push(chunk)?;
        adoption.step(chunk.len() / 2);
    }
    while !adoption.step(1 << 10) {}
    shelf.adopt(adoption, terms)
}

/// Bytes that were changed by who can seal them
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(content) = bytes.len().checked_sub(SEAL) {
        let digest = Sha256::digest(&bytes[..content]);
        bytes[content..content + 32].copy_from_slice(&digest);
    }
    bytes
}

/// Asks a bundle for everything there is to ask
fn ask(bundle: &Bundle) {
    for set in [Set::Url, Set::Domain, Set::Hash] {
        for key in [&b"evil.example"[..], b"evil.example/x?y=1", &[3; 20], b""] {
            let _ = (bundle.find(set, key), bundle.allowed(set, key));
        }
    }
    for address in [
        "0.0.0.0",
        "192.0.2.7",
        "198.51.100.3",
        "255.255.255.255",
        "::",
        "2001:db8:9::1",
    ] {
        let address = address.parse().expect("an address");
        let _ = (
            bundle.address(address),
            bundle.network(address),
            bundle.allowed_address(address),
        );
    }
    let _ = (
        bundle.feeds().count(),
        bundle.is_orderly(),
        bundle.signature(),
    );
}

/// What is live still finds what it found
fn is_good(shelf: &Shelf) -> bool {
    shelf
        .live()
        .is_some_and(|bundle| bundle.find(Set::Domain, b"evil.example").is_some())
}

proptest! {
    #[test]
    fn a_flipped_bundle_never_replaces_a_good_one(at in any::<prop::sample::Index>(), bit in 0_u8..8, chunk in 1_usize..5_000) {
        let mut shelf = Shelf::default();
        taken(&mut shelf, &sample::everything(5), 64).expect("a good one");
        let mut bytes = sample::everything(6);
        let at = at.index(bytes.len() - 96);
        bytes[at] ^= 1 << bit;
        prop_assert!(taken(&mut shelf, &bytes, chunk).is_err());
        prop_assert_eq!(shelf.live().map(Bundle::created), Some(5));
        prop_assert!(is_good(&shelf));
        taken(&mut shelf, &sample::everything(6), chunk).expect("a good one after a bad one");
    }

    #[test]
    fn a_cut_bundle_never_replaces_a_good_one(at in any::<prop::sample::Index>(), announced in any::<bool>()) {
        let mut shelf = Shelf::default();
        taken(&mut shelf, &sample::everything(5), 64).expect("a good one");
        let bytes = sample::everything(6);
        let cut = &bytes[..at.index(bytes.len())];
        let length = if announced { bytes.len() } else { cut.len() };
        if let Ok(mut adoption) = shelf.begin(length, LONGEST) {
            let pushed = adoption.push(cut);
            prop_assert!(pushed.and_then(|()| shelf.adopt(adoption, &Terms::default())).is_err());
        }
        prop_assert!(is_good(&shelf));
    }

    #[test]
    fn a_hostile_bundle_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0_u8), Just(0xff), any::<u8>()]), 1..8),
        early in any::<bool>(),
    ) {
        let mut bytes = sample::everything(6);
        let (content, length) = (bytes.len() - SEAL, bytes.len());
        for (at, value) in changes {
            // Most of a bundle is indexes: half of the time only what stands before them is changed.
            let at = at.index(if early { content.min(1_200) } else { content });
            bytes[at] = value;
        }
        let bytes = sealed(bytes);
        prop_assert_eq!(bytes.len(), length);
        if let Ok(bundle) = Bundle::open(bytes, &Terms::default()) {
            ask(&bundle);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 12 {
            bytes[..10].copy_from_slice(b"PCTHREAT\x02\x00");
        }
        prop_assert!(Bundle::open(sealed(bytes), &Terms::default()).is_err());
    }
}

#[test]
fn the_buffers_take_turns() {
    let mut shelf = Shelf::default();
    for created in 1..20 {
        taken(&mut shelf, &sample::everything(created), 700).expect("a good one");
    }
    let mut seen: Vec<*const u8> = Vec::new();
    for created in 20..40 {
        taken(&mut shelf, &sample::everything(created), 700).expect("a good one");
        let at = shelf.live().expect("live").bytes().as_ptr();
        if !seen.contains(&at) {
            seen.push(at);
        }
        assert!(taken(&mut shelf, &sample::everything(created)[1..], 700).is_err());
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn the_terms_are_kept() {
    let mut shelf = Shelf::default();
    let bytes = sample::everything(5);
    let content = bytes.len() - SEAL;
    let pin: [u8; 32] = Sha256::digest(&bytes[..content]).into();
    let refused = |shelf: &mut Shelf, terms: Terms<'_>| taken_on(shelf, &bytes, 4_096, &terms);
    let licences = ["CC0-1.0", "MIT"].map(String::from);
    let terms = Terms {
        licences: Some(&licences),
        ..Terms::default()
    };
    assert_eq!(refused(&mut shelf, terms), Err(Refusal::Licence(2)));
    let terms = Terms {
        pin: Some(&[0; 32]),
        ..Terms::default()
    };
    assert_eq!(refused(&mut shelf, terms), Err(Refusal::Pin));
    let terms = Terms {
        not_before: 6,
        ..Terms::default()
    };
    assert_eq!(refused(&mut shelf, terms), Err(Refusal::Older));
    assert!(shelf.live().is_none());
    let licences = ["CC0-1.0", "MIT", "Apache-2.0"].map(String::from);
    let terms = Terms {
        pin: Some(&pin),
        signers: &[],
        licences: Some(&licences),
        not_before: 5,
        not_after: Some(5),
    };
    let early = Terms {
        not_after: Some(4),
        ..terms
    };
    assert_eq!(refused(&mut shelf, early), Err(Refusal::Future));
    assert_eq!(refused(&mut shelf, terms), Ok(()));
    assert_eq!(
        taken(&mut shelf, &sample::everything(4), 4_096),
        Err(Refusal::Older)
    );
    assert_eq!(shelf.live().map(Bundle::created), Some(5));
}

#[test]
fn what_is_too_long_or_no_bundle_is_refused_before_it_is_there() {
    let shelf = Shelf::default();
    assert!(matches!(
        shelf.begin(LONGEST + 1, LONGEST),
        Err(Refusal::TooLong)
    ));
    assert!(matches!(shelf.begin(10, LONGEST), Err(Refusal::Length)));
    let begun = || -> Adoption { shelf.begin(1 << 20, LONGEST).expect("memory") };
    assert_eq!(begun().push(&[b'x'; 64]), Err(Refusal::Format));
    let bytes = sample::everything(5);
    let first = &bytes[..64];
    assert_eq!(begun().push(first), Err(Refusal::Length));
    // What modules of other times write is called so, whatever else is in it.
    for version in [0_u16, 1, 3, 0x0102] {
        let mut other = [0xff; 64];
        other[..8].copy_from_slice(&bytes[..8]);
        other[8..10].copy_from_slice(&version.to_le_bytes());
        assert_eq!(begun().push(&other), Err(Refusal::Version));
        assert_eq!(shelf.expect(LONGEST).push(&other), Err(Refusal::Version));
    }
    let unasked = |longest: usize, piece: &[u8]| shelf.expect(longest).push(piece);
    assert_eq!(unasked(bytes.len(), first), Ok(()));
    assert_eq!(unasked(bytes.len() - 1, first), Err(Refusal::TooLong));
    assert_eq!(unasked(LONGEST, &first[..63]), Err(Refusal::Length));
    assert_eq!(unasked(LONGEST, &[b'x'; 64]), Err(Refusal::Format));
}

proptest! {
    #[test]
    fn a_delivery_says_itself_how_long_it_is(piece in 64_usize..5_000, cut in any::<prop::sample::Index>()) {
        let mut shelf = Shelf::default();
        let bytes = sample::everything(5);
        let deliver = |shelf: &mut Shelf, bytes: &[u8]| {
            let mut delivery = shelf.expect(bytes.len() + SEAL);
            bytes.chunks(piece).try_for_each(|piece| delivery.push(piece)).expect("its own pieces");
            shelf.take(delivery, &Terms::default())
        };
        prop_assert_eq!(deliver(&mut shelf, &bytes), Ok(()));
        prop_assert!(is_good(&shelf));
        let cut = 64 + cut.index(bytes.len() - 64);
        let mut delivery = shelf.expect(LONGEST);
        prop_assert!(delivery.push(&bytes[..cut]).and_then(|()| shelf.take(delivery, &Terms::default())).is_err());
        prop_assert!(is_good(&shelf));
    }
}

#[test]
fn a_signature_is_not_part_of_the_digest() {
    let mut bytes = sample::everything(5);
    let unsigned = Bundle::open(bytes.clone(), &Terms::default()).expect("a bundle");
    assert_eq!(unsigned.signature(), None);
    portcullis_threat::bundle::sign(&mut bytes, &[1; 32], &[2; 64]);
    let signed = Bundle::open(bytes, &Terms::default()).expect("a bundle");
    assert_eq!(signed.signature(), Some((&[1; 32], &[2; 64])));
    assert_eq!(signed.digest(), unsigned.digest());
}
