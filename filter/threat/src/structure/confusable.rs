//! Characters that look like ASCII letters (Unicode UTS #39, confusable detection), and the skeletons of names.
//!
//! Two names with one skeleton look alike. Only what ends as ASCII is in the table: nothing else can look
//! like a brand that is written in ASCII.

#[cfg(feature = "write")]
use alloc::vec::Vec;

use super::bytes::partition;

const RECORD: usize = 6;
const ACCENT: u32 = 1 << 23;

/// The table, borrowed: records of a code point (24 bits, the highest says: an accent fell away) and up to
/// three ASCII characters
#[derive(Clone, Copy, Debug)]
pub struct Confusables<'a> {
    records: &'a [[u8; RECORD]],
}

/// What a character looks like
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    /// ASCII characters, padded with zeros
    pub text: [u8; 3],
    /// Whether that holds only if one overlooks an accent
    pub accent: bool,
}

impl<'a> Confusables<'a> {
    /// Adopts the section; `None` if it isn't one
    #[must_use]
    pub fn new(section: &'a [u8]) -> Option<Self> {
        let (records, rest) = section.as_chunks();
        rest.is_empty().then_some(Self { records })
    }

    /// What a character beyond ASCII looks like
    #[must_use]
    pub fn look(&self, character: char) -> Option<Look> {
        let wanted = u32::from(character);
        let found = partition(self.records.len(), |i| {
            self.records
                .get(i)
                .is_some_and(|record| code_point(record) < wanted)
        });
        let record = self.records.get(found)?;
        let [_, _, high, text @ ..] = record;
        (code_point(record) == wanted).then_some(Look {
            text: *text,
            accent: u32::from(*high) << 16 & ACCENT != 0,
        })
    }

    /// The section for a table: characters with what they look like, one of them at most once
    #[cfg(feature = "write")]
    #[must_use]
    pub fn write(mut table: Vec<(char, Look)>) -> Vec<u8> {
        table.sort_by_key(|(character, _)| *character);
        let mut section = Vec::new();
        for (character, look) in table {
            let head = u32::from(character) | if look.accent { ACCENT } else { 0 };
            let [low, middle, high, _] = head.to_le_bytes();
            section.extend([low, middle, high]);
            section.extend(look.text);
        }
        section
    }
}

fn code_point([low, middle, high, ..]: &[u8; RECORD]) -> u32 {
    u32::from_le_bytes([*low, *middle, *high & 0x7f, 0])
}

/// A name as it looks: letters that are taken for each other are one letter
#[derive(Clone, Copy, Debug)]
pub(super) struct Skeleton {
    bytes: [u8; 64],
    length: usize,
    /// Whether an accent fell away
    pub(super) accent: bool,
}

impl Skeleton {
    const EMPTY: Self = Self {
        bytes: [0; 64],
        length: 0,
        accent: false,
    };

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Of ASCII; `None` if it is too long to be a name that anybody imitates
    pub(super) fn ascii(text: &[u8]) -> Option<Self> {
        let mut skeleton = Self::EMPTY;
        for byte in text {
            skeleton.push(*byte)?;
        }
        Some(skeleton)
    }

    /// Of Unicode; `None` if a character looks like nothing in ASCII
    pub(super) fn unicode(text: &[char], confusables: &Confusables<'_>) -> Option<Self> {
        let mut skeleton = Self::EMPTY;
        for character in text {
            match u8::try_from(*character) {
                Ok(byte) if byte.is_ascii() => skeleton.push(byte)?,
                _ => {
                    let look = confusables.look(*character)?;
                    skeleton.accent |= look.accent;
                    for byte in look.text.iter().filter(|byte| **byte != 0) {
                        skeleton.push(*byte)?;
                    }
                }
            }
        }
        Some(skeleton)
    }

    /// Letters and digits that stand for each other, in ASCII: UTS #39 first, then what writers of
    /// `paypa1` and `g00gle` use
    fn push(&mut self, byte: u8) -> Option<()> {
        let text: &[u8] = match byte {
            b'm' => b"rn",
            b'w' => b"vv",
            b'0' => b"o",
            b'1' => b"l",
            b'3' => b"e",
            b'4' => b"a",
            b'5' => b"s",
            b'7' => b"t",
            b'8' => b"b",
            other => return self.put(other),
        };
        text.iter().try_for_each(|byte| self.put(*byte))
    }

    fn put(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.length)? = byte;
        self.length = self.length.saturating_add(1);
        Some(())
    }
}
