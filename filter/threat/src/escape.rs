//! Percent-escapes, undone until none is left.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes without escapes
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unescaped<'a> {
    /// What is left; an escape in it would have been undone
    pub bytes: Cow<'a, [u8]>,
    /// How many times a reader would have had to undo all escapes; 255 stands for more too
    pub passes: u8,
    /// Bytes taken plus escapes undone: the work that it was
    pub steps: usize,
}

impl<'a> Unescaped<'a> {
    /// Of bytes without any
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            passes: 0,
            steps: bytes.len(),
        }
    }
}

/// Undoes escapes until none is left
///
/// One pass instead of many: escapes never overlap, for `%` is no digit, so the order in which they are
/// undone doesn't matter. Each one undone leaves two bytes less, so steps are at most 3/2 of the bytes.
#[must_use]
pub fn unescape(bytes: &[u8]) -> Unescaped<'_> {
    let Some(first) = bytes.iter().position(|byte| *byte == b'%') else {
        return Unescaped::plain(bytes);
    };
    let mut plain: Vec<u8> = Vec::with_capacity(bytes.len());
    // In which pass a byte came to be, for each byte of `plain`.
    let mut born: Vec<u8> = Vec::with_capacity(bytes.len());
    let (before, rest) = bytes.split_at_checked(first).unwrap_or((b"", bytes));
    plain.extend_from_slice(before);
    born.resize(before.len(), 0);
    let (mut passes, mut steps) = (0, bytes.len());
    for &byte in rest {
        plain.push(byte);
        born.push(0);
        while let Some(byte) = plain.last_chunk().and_then(escaped) {
            let pass = born.last_chunk().map_or(0, |born: &[u8; 3]| {
                born.iter().copied().max().unwrap_or_default()
            });
            let pass = pass.saturating_add(1);
            let left = plain.len().saturating_sub(3);
            plain.truncate(left);
            born.truncate(left);
            plain.push(byte);
            born.push(pass);
            passes = passes.max(pass);
            steps = steps.saturating_add(1);
        }
    }
    Unescaped {
        bytes: Cow::Owned(plain),
        passes,
        steps,
    }
}

/// The byte that an escape stands for
fn escaped(chunk: &[u8; 3]) -> Option<u8> {
    let [b'%', high, low] = *chunk else {
        return None;
    };
    Some((digit(high)? << 4) | digit(low)?)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

/// Whether a byte is neither an escape nor has one in Safe Browsing's form
pub(crate) fn is_plain(byte: u8) -> bool {
    (0x21..0x7f).contains(&byte) && !matches!(byte, b'#' | b'%')
}

/// Appends bytes, with what Safe Browsing escapes: at most a space, at least `DEL`, `#` and `%`
pub(crate) fn escape(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let mut rest = bytes;
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| !is_plain(*byte));
        let (run, after) = rest
            .split_at_checked(plain.unwrap_or(rest.len()))
            .unwrap_or((rest, b""));
        // ASCII only, so always UTF-8.
        text.push_str(core::str::from_utf8(run).unwrap_or(""));
        rest = match after.split_first() {
            Some((byte, rest)) => {
                let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or('0');
                text.push('%');
                text.push(digit(byte >> 4));
                text.push(digit(*byte));
                rest
            }
            None => after,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the specification says it: pass after pass
    fn naive(bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut bytes = bytes.to_vec();
        let mut passes = 0usize;
        loop {
            let mut next = Vec::new();
            let mut rest = &bytes[..];
            while let Some(byte) = rest.first() {
                if let Some(byte) = rest.first_chunk().and_then(escaped) {
                    next.push(byte);
                    rest = &rest[3..];
                } else {
                    next.push(*byte);
                    rest = &rest[1..];
                }
            }
            if next == bytes {
                return (bytes, passes);
            }
            bytes = next;
            passes = passes.saturating_add(1);
        }
    }

    proptest! {
        #[test]
        fn one_pass_is_as_good_as_many(text in "[%253a01]{0,64}") {
            let (bytes, passes) = naive(text.as_bytes());
            let unescaped = unescape(text.as_bytes());
            prop_assert_eq!(unescaped.bytes.as_ref(), &bytes[..]);
            prop_assert_eq!(usize::from(unescaped.passes), passes);
        }

        /// 64 KiB of escapes of escapes, as deep as they go
        #[test]
        fn the_work_is_linear(unit in "[%25]{1,6}", seed in "(%|%25|%2525)[0-9a-f%]{0,8}") {
            let times = 65_536_usize.div_ceil(unit.len());
            for text in [unit.repeat(times), [seed.as_str(), &"25".repeat(32_768)].concat()] {
                let unescaped = unescape(text.as_bytes());
                prop_assert!(unescaped.steps <= text.len().saturating_mul(3).div_ceil(2));
            }
        }
    }

    #[test]
    fn the_deepest_nest() {
        let text = std::format!("%{}", "25".repeat(32_767));
        let unescaped = unescape(text.as_bytes());
        assert_eq!(
            (unescaped.bytes.as_ref(), unescaped.passes),
            (&b"%"[..], 255)
        );
        assert_eq!(unescaped.steps, 65_535 + 32_767);
    }
}
