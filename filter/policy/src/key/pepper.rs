//! How digests are made of keys.

use alloc::vec::Vec;
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::KeyDigest;
use super::bundle::DigestScheme;

/// How an API makes digests of keys
#[derive(Debug)]
pub(crate) enum Hashing {
    /// SHA-256
    Plain,
    /// HMAC-SHA-256 (RFC 2104) under one pepper, or two while one takes over from the other
    Peppered(Vec<Pepper>),
}

/// A secret without which a list of digests tells nothing of keys that can be guessed
#[derive(Clone)]
pub(crate) struct Pepper(Hmac<Sha256>);

/// The digests that a token may be known by
#[derive(Clone, Copy)]
pub(crate) struct KeyDigests {
    first: KeyDigest,
    second: Option<KeyDigest>,
}

/// Shortest pepper, in bytes
const MIN_PEPPER: usize = 16;

impl Hashing {
    /// The field of a key's record that holds its digest
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Plain => "sha256",
            Self::Peppered(_) => "hmac_sha256",
        }
    }

    pub(crate) fn scheme(&self) -> DigestScheme {
        match self {
            Self::Plain => DigestScheme::Plain,
            Self::Peppered(_) => DigestScheme::Peppered,
        }
    }

    pub(crate) fn digests(&self, token: &[u8]) -> KeyDigests {
        let (first, second) = match self {
            Self::Plain => (None, None),
            Self::Peppered(peppers) => {
                let mut digests = peppers.iter().map(|pepper| pepper.digest(token));
                (digests.next(), digests.next())
            }
        };
        KeyDigests {
            first: first.unwrap_or_else(|| KeyDigest::of(token)),
            second,
        }
    }
}

impl KeyDigests {
    /// The one under the first pepper, or without one
    pub(crate) fn first(&self) -> KeyDigest {
        self.first
    }

    /// The one under the pepper that the first one takes over from
    pub(crate) fn second(&self) -> Option<KeyDigest> {
        self.second
    }

    /// Each digest, the one under the first pepper first
    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyDigest> {
        core::iter::once(&self.first).chain(&self.second)
    }
}

impl Pepper {
    /// `None` for a secret that is too short
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < MIN_PEPPER {
            return None;
        }
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    fn digest(&self, token: &[u8]) -> KeyDigest {
        let mut mac = self.0.clone();
        mac.update(token);
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

/// The digest of a key in 64 hexadecimal digits, under a pepper where there is one
///
/// `None` for a pepper that is too short.
#[cfg(any(test, feature = "bundle-writer"))]
#[must_use]
pub fn key_digest(key: &[u8], pepper: Option<&[u8]>) -> Option<alloc::string::String> {
    let KeyDigest(digest) = match pepper {
        Some(pepper) => Pepper::new(pepper)?.digest(key),
        None => KeyDigest::of(key),
    };
    Some(
        digest
            .iter()
            .map(|byte| alloc::format!("{byte:02x}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 6: a key longer than a block
    #[test]
    fn is_hmac_sha_256() {
        let digest = key_digest(
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            Some(&[0xaa; 131]),
        );
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(digest.as_deref(), Some(expected));
        assert_eq!(key_digest(b"key", Some(b"fifteen bytes!!")), None);
    }

    #[test]
    fn a_pepper_is_never_shown() {
        let pepper = Pepper::new(b"0123456789abcdef").unwrap();
        let shown = alloc::format!("{:?}", Hashing::Peppered([pepper].into()));
        assert_eq!(shown, "Peppered([Pepper])");
    }
}
