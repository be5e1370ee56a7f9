//! From what is looked up to a key.

use core::net::Ipv4Addr;

use siphasher::sip128::SipHasher13;

/// SipHash-1-3 with 128 bits of output, under a bundle's secret
///
/// Who doesn't know the secret can't look for other strings with the key of a listed one. The tag keeps kinds apart:
/// a URL's key is nobody's domain.
pub(super) struct Hasher(SipHasher13);

impl Hasher {
    pub(super) fn new(secret: &[u8; 16], tag: u8) -> Self {
        let [.., last] = secret;
        let mut key = *secret;
        if let Some(byte) = key.last_mut() {
            *byte = last ^ tag;
        }
        Self(SipHasher13::new_with_key(&key))
    }

    /// The key, its more significant half first: sets are cut from there
    pub(super) fn hash(&self, bytes: &[u8]) -> (u64, u64) {
        let hash = self.0.hash(bytes);
        (hash.h1, hash.h2)
    }
}

/// The key of an IPv4 address: all of it, mixed so that neighbours spread over the index
///
/// Each step can be undone, so two addresses never have one key. (Austin Appleby, MurmurHash3's 32-bit finaliser.)
pub(super) fn address4(address: Ipv4Addr) -> u64 {
    let mut mixed = address.to_bits();
    mixed ^= mixed >> 16;
    mixed = mixed.wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^= mixed >> 16;
    u64::from(mixed) << 32
}
