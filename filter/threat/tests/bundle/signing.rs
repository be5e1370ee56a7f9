//! Whose bundles are adopted.

use ed25519_compact::{KeyPair, Seed};
use portcullis_threat::bundle::{self, Bundle, Refusal, SIGNED, Shelf, Signer, Terms};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::sample;

const SEAL: usize = 128;

/// Order of the group of points that keys are of, little-endian
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([seed; 32]))
}

fn signer(seed: u8) -> Signer {
    Signer::new(*pair(seed).pk).expect("a key")
}

/// What is signed, as `examples/THREAT-BUNDLE.md` tells it
fn signature(by: &KeyPair, bytes: &[u8]) -> [u8; 64] {
    let digest = Sha256::digest(&bytes[..bytes.len() - SEAL]);
    *by.sk.sign([SIGNED, &digest].concat(), None)
}

fn signed(created: u64, seed: u8) -> Vec<u8> {
    let mut bytes = sample::everything(created);
    let by = pair(seed);
    let signature = signature(&by, &bytes);
    bundle::sign(&mut bytes, &by.pk, &signature);
    bytes
}

fn taken(shelf: &mut Shelf, bytes: &[u8], signers: &[Signer]) -> Result<(), Refusal> {
    let mut delivery = shelf.expect(1 << 24);
    delivery.push(bytes)?;
    let terms = Terms {
        signers,
        ..Terms::default()
    };
    shelf.take(delivery, &terms)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bit_of_a_signed_bundle_can_be_another(at in any::<prop::sample::Index>(), in_the_seal in any::<bool>(), bit in 0_u8..8, sealed in any::<bool>()) {
        let signers = [signer(1), signer(2)];
        let mut shelf = Shelf::default();
        taken(&mut shelf, &signed(5, 1), &signers).expect("a good one");
        let mut bytes = signed(6, 2);
        let content = bytes.len() - SEAL;
        let at = if in_the_seal { content + at.index(SEAL) } else { at.index(content) };
        bytes[at] ^= 1 << bit;
        if sealed {
            let digest = Sha256::digest(&bytes[..content]);
            bytes[content..content + 32].copy_from_slice(&digest);
        }
        // What was wrong with a digest alone was mended.
        let mended = sealed && (content..content + 32).contains(&at);
        prop_assert_eq!(taken(&mut shelf, &bytes, &signers).is_ok(), mended);
        prop_assert_eq!(shelf.live().map(Bundle::created), Some(if mended { 6 } else { 5 }));
        taken(&mut shelf, &signed(7, 2), &signers).expect("a good one after a bad one");
    }
}

#[test]
fn who_has_not_signed_is_told_from_who_may_not() {
    let mut shelf = Shelf::default();
    let unsigned = sample::everything(5);
    assert_eq!(taken(&mut shelf, &unsigned, &[]), Ok(()));
    let one = [signer(1)];
    assert_eq!(taken(&mut shelf, &unsigned, &one), Err(Refusal::Unsigned));
    assert_eq!(taken(&mut shelf, &signed(5, 2), &one), Err(Refusal::Signer));
    let mut forged = signed(5, 2);
    let by_another = signature(&pair(2), &forged);
    bundle::sign(&mut forged, &pair(1).pk, &by_another);
    assert_eq!(taken(&mut shelf, &forged, &one), Err(Refusal::Signature));
    let mut of_another = sample::everything(6);
    let of_the_first = signature(&pair(1), &sample::everything(5));
    bundle::sign(&mut of_another, &pair(1).pk, &of_the_first);
    assert_eq!(
        taken(&mut shelf, &of_another, &one),
        Err(Refusal::Signature)
    );
    assert_eq!(shelf.live().map(Bundle::created), Some(5));
    // A key takes over: both are good, then the new one alone is.
    let both = [signer(1), signer(2)];
    assert_eq!(taken(&mut shelf, &signed(6, 1), &both), Ok(()));
    assert_eq!(taken(&mut shelf, &signed(7, 2), &both), Ok(()));
    assert_eq!(
        taken(&mut shelf, &signed(8, 1), &[signer(2)]),
        Err(Refusal::Signer)
    );
}

#[test]
fn the_digest_that_is_pinned_must_be_signed_too() {
    let bytes = signed(5, 2);
    let pin: [u8; 32] = Sha256::digest(&bytes[..bytes.len() - SEAL]).into();
    let opened = |bytes: Vec<u8>, signers: &[Signer]| {
        let terms = Terms {
            pin: Some(&pin),
            signers,
            ..Terms::default()
        };
        Bundle::open(bytes, &terms).map(|bundle| bundle.created())
    };
    assert_eq!(opened(bytes.clone(), &[signer(2)]), Ok(5));
    assert_eq!(opened(bytes, &[signer(1)]), Err(Refusal::Signer));
    assert_eq!(opened(signed(6, 2), &[signer(2)]), Err(Refusal::Pin));
}

/// Who has seen a signature can't make a second one of it.
#[test]
fn a_scalar_that_is_not_reduced_is_no_signature() {
    let mut bytes = signed(5, 1);
    let scalar = bytes.len() - 32;
    let mut carry = 0_u16;
    for (byte, order) in bytes[scalar..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    let mut shelf = Shelf::default();
    assert_eq!(
        taken(&mut shelf, &bytes, &[signer(1)]),
        Err(Refusal::Signature)
    );
}

/// The points of order 1, 2, 4 and 8, in their own form and in others, and what is no point.
#[test]
fn a_key_for_which_anybody_could_sign_is_none() {
    let eight = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let other_eight = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    let small = |byte: u8| core::array::from_fn(|at| if at == 0 { byte } else { 0 });
    // The prime of the field, less or more so much: 2^255 - 19.
    let prime = |less: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed_u8.wrapping_sub(less), 0x7f);
        bytes
    };
    let no_point = small(2);
    let points = [
        small(1),
        prime(1),
        small(0),
        eight,
        other_eight,
        prime(0),
        prime(0xff),
        no_point,
    ];
    for mut point in points {
        assert_eq!(Signer::new(point), None, "{point:02x?}");
        point[31] |= 0x80;
        assert_eq!(Signer::new(point), None, "{point:02x?}");
    }
    assert_eq!(signer(1).key(), &*pair(1).pk);
}
