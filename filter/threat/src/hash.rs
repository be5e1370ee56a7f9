//! Hashes of files.

use alloc::string::String;

use sha2::{Digest as _, Sha256};

use crate::target::TargetKind;

/// A hash's bytes: 16 of MD5, 20 of SHA-1, 32 of SHA-256
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Digest {
    bytes: [u8; 32],
    len: u8,
}

impl Digest {
    /// SHA-256 of bytes
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self {
            bytes: Sha256::digest(bytes).into(),
            len: 32,
        }
    }

    /// From hexadecimal digits; `None` where they are none, odd in number or more than 64
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, [high, low]) in pairs.iter().enumerate() {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let value = (digit(high)? << 4) | digit(low)?;
            *bytes.get_mut(at)? = u8::try_from(value).ok()?;
        }
        Some(Self {
            bytes,
            len: u8::try_from(pairs.len()).ok()?,
        })
    }

    /// Its bytes
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// In lower-case hexadecimal
    #[must_use]
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text
    }
}

/// A hash by its length, with or without its name in front: its kind and its digits
pub(crate) fn parse(text: &str) -> Option<(TargetKind, &str)> {
    let (name, digits) = match text.split_once(':') {
        Some((name, digits)) => (Some(name), digits),
        None => (None, text),
    };
    let kind = match digits.len() {
        32 => TargetKind::Md5,
        40 => TargetKind::Sha1,
        64 => TargetKind::Sha256,
        _ => return None,
    };
    let fits = name.is_none_or(|name| name.eq_ignore_ascii_case(kind.word()))
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some((kind, digits))
}
