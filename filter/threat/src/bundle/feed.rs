//! The table of feeds: where indicators come from.

use super::format::{u32_at, u64_at};

/// A feed that a bundle was made of
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feed<'a> {
    /// Its name, printable ASCII, at most 48 bytes
    pub name: &'a str,
    /// Its licence, an SPDX expression or a word of the compiler's user, at most 48 bytes
    pub licence: &'a str,
    /// When it was fetched, in seconds since 1970
    pub fetched_at: u64,
    /// Until when it is current, in seconds since 1970
    pub valid_until: u64,
    /// SHA-256 of the file that was read
    pub sha256: &'a [u8; 32],
    /// How many of its indicators are in the bundle
    pub indicators: u32,
    /// Whether it says what is good
    pub allows: bool,
}

impl<'a> Feed<'a> {
    /// Length in the table
    pub(super) const LENGTH: usize = 160;
    /// Most of them: a row has a bit for each
    pub(super) const MOST: u32 = 64;
    /// Longest name and longest licence
    pub(super) const TEXT: usize = 48;

    /// Reads one; `None` where there is none, or one that the compiler doesn't write
    pub(super) fn read(section: &'a [u8], number: u8) -> Option<Self> {
        let at = usize::from(number).checked_mul(Self::LENGTH)?;
        let bytes = section.get(at..at.checked_add(Self::LENGTH)?)?;
        let (name, rest) = bytes.split_at_checked(Self::TEXT)?;
        let (licence, rest) = rest.split_at_checked(Self::TEXT)?;
        let (sha256, rest) = rest.split_first_chunk()?;
        Some(Self {
            name: text(name)?,
            licence: text(licence)?,
            sha256,
            fetched_at: u64_at(rest, 0),
            valid_until: u64_at(rest, 8),
            indicators: u32_at(rest, 16),
            allows: rest.get(20) == Some(&1),
        })
    }

    #[cfg(feature = "write")]
    pub(super) fn write(&self, out: &mut alloc::vec::Vec<u8>) {
        let end = out.len().saturating_add(Self::LENGTH);
        for text in [self.name, self.licence] {
            let until = out.len().saturating_add(Self::TEXT);
            out.extend_from_slice(text.as_bytes());
            out.resize(until, 0);
        }
        out.extend_from_slice(self.sha256);
        out.extend_from_slice(&self.fetched_at.to_le_bytes());
        out.extend_from_slice(&self.valid_until.to_le_bytes());
        out.extend_from_slice(&self.indicators.to_le_bytes());
        out.push(u8::from(self.allows));
        out.resize(end, 0);
    }
}

/// Whether a text can stand in the table
pub(super) fn fits(text: &str) -> bool {
    (1..=Feed::TEXT).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Printable ASCII, then zeros
fn text(field: &[u8]) -> Option<&str> {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let (text, rest) = field.split_at_checked(end)?;
    let text = core::str::from_utf8(text).ok()?;
    (fits(text) && rest.iter().all(|byte| *byte == 0)).then_some(text)
}
