//! From what is looked up to a key.

use core::net::Ipv4Addr;

/// SipHash-1-3 with 128 bits of output, under a bundle's secret
///
/// Who doesn't know the secret can't look for other strings with the key of a listed one. The tag keeps kinds apart:
/// a URL's key is nobody's domain. Written out here because most lookups need half of the output, which is worked out
/// first, and because a lookup is little else; a test holds it against the well-known crate.
#[derive(Clone, Copy)]
pub(super) struct Hasher(State);

/// What has been read of a key, before its halves are worked out
#[derive(Clone, Copy)]
pub(super) struct Hashed(State);

impl Hasher {
    #[inline]
    pub(super) fn new(secret: &[u8; 16], tag: u8) -> Self {
        let [one, two] = match secret.as_chunks::<8>().0 {
            [one, two] => [u64::from_le_bytes(*one), u64::from_le_bytes(*two)],
            _ => [0; 2],
        };
        let two = two ^ (u64::from(tag) << 56);
        Self(State {
            v0: one ^ 0x736f_6d65_7073_6575,
            v1: two ^ 0x646f_7261_6e64_6f83,
            v2: one ^ 0x6c79_6765_6e65_7261,
            v3: two ^ 0x7465_6462_7974_6573,
        })
    }

    /// Reads all of a key
    #[inline]
    pub(super) fn hash(&self, bytes: &[u8]) -> Hashed {
        let mut state = self.0;
        let (blocks, rest) = bytes.as_chunks::<8>();
        for block in blocks {
            state = state.take(u64::from_le_bytes(*block));
        }
        let last = match bytes.last_chunk::<8>() {
            _ if rest.is_empty() => 0,
            // The last eight bytes, less those that were read with the block before.
            Some(end) => {
                let left = u32::try_from(rest.len()).unwrap_or(0);
                u64::from_le_bytes(*end).wrapping_shr(left.wrapping_mul(8).wrapping_neg())
            }
            None => {
                let bytes = rest.iter().rev();
                bytes.fold(0, |word, byte| (word << 8) | u64::from(*byte))
            }
        };
        let [length, ..] = bytes.len().to_le_bytes();
        Hashed(state.take((u64::from(length) << 56) | last))
    }
}

impl Hashed {
    /// The half that sets are cut from
    #[inline]
    pub(super) fn high(self) -> u64 {
        self.finished().folded()
    }

    /// The other half, which only keys that are stored in full are compared by
    #[cold]
    pub(super) fn low(self) -> u64 {
        let mut state = self.finished();
        state.v1 ^= 0xdd;
        state.finish().folded()
    }

    #[inline(always)]
    fn finished(self) -> State {
        let mut state = self.0;
        state.v2 ^= 0xee;
        state.finish()
    }
}

/// The key of an IPv4 address: all of it, behind what its place in the index is taken from
///
/// No two addresses have one key; and as the place comes from a hash under the secret, nobody can list addresses that
/// crowd it.
pub(super) fn address4(hasher: Hasher, address: Ipv4Addr) -> u64 {
    let place = hasher.hash(&address.octets()).high() & !u64::from(u32::MAX);
    place | u64::from(address.to_bits())
}

/// In words of their own, and rounds one after another: in an array, or in a loop, a compiler that is to save space
/// has each round go through memory.
#[derive(Clone, Copy)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn take(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round();
        self.v0 ^= word;
        self
    }

    #[inline(always)]
    fn finish(self) -> Self {
        self.round().round().round()
    }

    #[inline(always)]
    fn folded(self) -> u64 {
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(self) -> Self {
        let Self { v0, v1, v2, v3 } = self;
        let v0 = v0.wrapping_add(v1);
        let v1 = v1.rotate_left(13) ^ v0;
        let v0 = v0.rotate_left(32);
        let v2 = v2.wrapping_add(v3);
        let v3 = v3.rotate_left(16) ^ v2;
        let v0 = v0.wrapping_add(v3);
        let v3 = v3.rotate_left(21) ^ v0;
        let v2 = v2.wrapping_add(v1);
        let v1 = v1.rotate_left(17) ^ v2;
        let v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }
}

#[cfg(test)]
mod tests {
    use siphasher::sip128::SipHasher13;

    use super::*;

    #[test]
    fn it_is_siphash() {
        let secret = core::array::from_fn(|at| 0x9d_u8.wrapping_mul(at as u8 ^ 0x35));
        let bytes: [u8; 300] = core::array::from_fn(|at| (at * 131 % 251) as u8);
        for tag in [0, 1, 4, 0xff] {
            let mut keyed = secret;
            keyed[15] ^= tag;
            for length in 0..=bytes.len() {
                let bytes = &bytes[..length];
                let hash = SipHasher13::new_with_key(&keyed).hash(bytes);
                let ours = Hasher::new(&secret, tag).hash(bytes);
                assert_eq!((ours.high(), ours.low()), (hash.h1, hash.h2), "{length}");
            }
        }
    }
}
