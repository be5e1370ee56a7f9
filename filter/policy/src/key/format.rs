//! The form of a key that tells a mistyped one from a good one without asking anybody.
//!
//! `pck_LABEL_RANDOM_CHECK`: a label of 1 to 32 lower case letters, digits and hyphens (an API, an
//! environment), 32 random characters of base 62 (190 bits), and the CRC-32 (ISO HDLC) of all before the last
//! `_` as 6 digits of base 62, the highest first. A scanner finds them by
//! `pck_[a-z0-9-]{1,32}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}`.

#[cfg(any(test, feature = "bundle-writer"))]
use alloc::{format, string::String};

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

const PREFIX: &[u8] = b"pck_";
const LABEL: usize = 32;
const RANDOM: usize = 32;
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether a token claims this form and does not have it
pub(crate) fn is_damaged(token: &[u8]) -> bool {
    token.starts_with(PREFIX) && !is_whole(token)
}

fn is_whole(token: &[u8]) -> bool {
    let Some((body, check)) = token.split_last_chunk::<CHECK>() else {
        return false;
    };
    let Some(body) = body.strip_suffix(b"_") else {
        return false;
    };
    let parts = body.strip_prefix(PREFIX).and_then(|rest| {
        let (label, random) = rest.split_last_chunk::<RANDOM>()?;
        Some((label.strip_suffix(b"_")?, random))
    });
    parts.is_some_and(|(label, random)| {
        is_label(label) && random.iter().all(u8::is_ascii_alphanumeric) && *check == check_of(body)
    })
}

fn is_label(label: &[u8]) -> bool {
    let good = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=LABEL).contains(&label.len()) && label.iter().all(good)
}

fn check_of(body: &[u8]) -> [u8; CHECK] {
    let mut rest = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC).checksum(body);
    let mut check = [b'0'; CHECK];
    for place in check.iter_mut().rev() {
        let digit = usize::try_from(rest % 62).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        rest /= 62;
    }
    check
}

/// A label that can't be one
#[cfg(any(test, feature = "bundle-writer"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyLabelError;

/// A new key with a label, made of random bytes
///
/// `random` hands out bytes that nobody can guess, as many as are asked for.
///
/// # Errors
///
/// [`KeyLabelError`] for a label that is not 1 to 32 lower case letters, digits and hyphens.
#[cfg(any(test, feature = "bundle-writer"))]
pub fn new_key(label: &str, random: &mut dyn FnMut() -> u8) -> Result<String, KeyLabelError> {
    if !is_label(label.as_bytes()) {
        return Err(KeyLabelError);
    }
    // Bytes that would make some digits likelier than others are thrown away.
    let digits = core::iter::repeat_with(|| random() & 63)
        .filter_map(|byte| DIGITS.get(usize::from(byte)))
        .map(|digit| char::from(*digit));
    let random: String = digits.take(RANDOM).collect();
    let body = format!("pck_{label}_{random}");
    let check = check_of(body.as_bytes()).map(char::from);
    Ok(format!("{body}_{}", String::from_iter(check)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check is by Python's `zlib.crc32`
    #[test]
    fn a_known_key() {
        let body = "pck_shop_0123456789abcdefghijklmnopqrstuv";
        let key = format!(
            "{body}_{}",
            String::from_utf8_lossy(&check_of(body.as_bytes()))
        );
        assert_eq!(key, KNOWN);
        assert!(!is_damaged(key.as_bytes()));
    }

    const KNOWN: &str = "pck_shop_0123456789abcdefghijklmnopqrstuv_3PJlbB";

    #[test]
    fn every_changed_character_is_found() {
        let mut byte = 0u8;
        let mut random = || {
            byte = byte.wrapping_mul(5).wrapping_add(7);
            byte
        };
        for label in ["a", "shop", "shop-live", &"x".repeat(32)] {
            let key = new_key(label, &mut random).unwrap();
            assert!(!is_damaged(key.as_bytes()), "{key}");
            for at in PREFIX.len()..key.len() {
                for other in *b"a0Z_-" {
                    let mut bytes = key.clone().into_bytes();
                    if bytes[at] != other {
                        bytes[at] = other;
                        assert!(is_damaged(&bytes), "{key} {at}");
                    }
                }
                assert!(is_damaged(&key.as_bytes()[..at]), "{key} {at}");
            }
            assert!(is_damaged(format!("{key}0").as_bytes()));
        }
        for label in ["", "Shop", "a_b", &"x".repeat(33)] {
            assert_eq!(new_key(label, &mut random), Err(KeyLabelError), "{label}");
        }
    }

    #[test]
    fn other_keys_are_none_of_its_business() {
        for token in ["", "secret", "PCK_shop_1", "ghp_abc", "pck"] {
            assert!(!is_damaged(token.as_bytes()), "{token}");
        }
        assert!(is_damaged(b"pck_"));
    }
}
