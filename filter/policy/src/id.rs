//! The identity of one decision.

use core::fmt;

/// The id of one decision, written as a ULID: 26 characters of Crockford's base 32
///
/// The shell makes it of 48 bits of Unix time in milliseconds and 80 random bits
/// (<https://github.com/ulid/spec>), so that ids sort by time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecisionId(u128);

/// A [`DecisionId`] as text
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DecisionText([u8; 26]);

impl DecisionId {
    /// The id as text, made when it is asked for: most decisions are written nowhere
    #[must_use]
    pub fn text(self) -> DecisionText {
        let Self(value) = self;
        // Twelve digits of 60 bits at a time: shifting 128 bits is slow in a VM of 64.
        let [high, middle, low] = [value >> 120, value >> 60, value]
            .map(|part| u64::try_from(part & 0x0fff_ffff_ffff_ffff).unwrap_or_default());
        let mut text = [b'0'; 26];
        if let Some((first, rest)) = text.split_first_chunk_mut::<2>()
            && let Some((second, third)) = rest.split_at_mut_checked(12)
        {
            write(first, high);
            write(second, middle);
            write(third, low);
        }
        DecisionText(text)
    }
}

impl DecisionText {
    /// 26 digits
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<u128> for DecisionId {
    fn from(value: u128) -> Self {
        Self(value)
    }
}

impl From<DecisionId> for u128 {
    fn from(id: DecisionId) -> Self {
        id.0
    }
}

/// Writes the lowest digits of a number
fn write(places: &mut [u8], mut rest: u64) {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for place in places.iter_mut().rev() {
        let digit = usize::try_from(rest & 31).unwrap_or_default();
        *place = ALPHABET.get(digit).copied().unwrap_or(b'0');
        rest >>= 5;
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_ulid() {
        let id = |value: u128| DecisionId::from(value).text();
        assert_eq!(id(0).as_str(), "00000000000000000000000000");
        assert_eq!(id(u128::MAX).as_str(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(
            id(1_469_922_850_259 << 80).as_str(),
            "01ARZ3NDEK0000000000000000"
        );
    }
}
