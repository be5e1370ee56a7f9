//! Writing a `google.protobuf.Struct` of scalars.

use alloc::vec::Vec;

/// A `Struct` in the making
#[derive(Debug, Default)]
pub(crate) struct StructWriter(Vec<u8>);

/// Fields 1 and 2 of an entry and field 3 of a value, each with a length before its bytes
const TAG_KEY: u8 = 0x0a;
const TAG_VALUE: u8 = 0x12;
const TAG_STRING: u8 = 0x1a;
/// Fields 1 (a varint) and 2 (64 bits) of a value
const TAG_NULL: u8 = 0x08;
const TAG_NUMBER: u8 = 0x11;

impl StructWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.entry(key, 2);
        self.0.extend_from_slice(&[TAG_NULL, 0]);
    }

    /// A `Struct` holds doubles only: whole numbers are exact up to 2^53.
    pub(crate) fn number(&mut self, key: &str, number: u64) {
        self.entry(key, 9);
        self.0.push(TAG_NUMBER);
        self.0.extend_from_slice(&(number as f64).to_le_bytes());
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        // Nearly every field is short, so that each of its four lengths is one byte.
        let lengths = [4, key.len(), 2, text.len()];
        if let Ok(length) = u8::try_from(text.len())
            && let Ok(key_length) = u8::try_from(key.len())
            && lengths.into_iter().fold(0, usize::saturating_add) < 0x80
        {
            let value = length.wrapping_add(2);
            let entry = key_length.wrapping_add(value).wrapping_add(4);
            self.0
                .extend_from_slice(&[TAG_KEY, entry, TAG_KEY, key_length]);
            self.0.extend_from_slice(key.as_bytes());
            self.0
                .extend_from_slice(&[TAG_VALUE, value, TAG_STRING, length]);
            self.0.extend_from_slice(text.as_bytes());
            return;
        }
        let length = text.len();
        let value = length.saturating_add(length_of(length)).saturating_add(1);
        self.entry(key, value);
        self.0.push(TAG_STRING);
        self.length(length);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The key, and the length of the value that follows
    fn entry(&mut self, key: &str, value: usize) {
        let parts = [key.len(), length_of(key.len()), value, length_of(value), 2];
        self.0.push(TAG_KEY);
        self.length(parts.into_iter().fold(0, usize::saturating_add));
        self.0.push(TAG_KEY);
        self.length(key.len());
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(TAG_VALUE);
        self.length(value);
    }

    /// A length as a varint
    fn length(&mut self, mut length: usize) {
        loop {
            let low = u8::try_from(length & 0x7f).unwrap_or_default();
            length >>= 7;
            if length == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

/// Bytes of a length as a varint
fn length_of(length: usize) -> usize {
    let mut bytes = 1usize;
    let mut rest = length >> 7;
    while rest > 0 {
        bytes = bytes.saturating_add(1);
        rest >>= 7;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;
    use alloc::string::String;

    use serde_json::Number;

    use super::super::parse_struct;
    use super::*;
    use crate::node::Node;

    #[test]
    fn what_is_written_reads_the_same() {
        let mut long = String::new();
        for length in [
            0, 1, 100, 122, 123, 124, 127, 128, 129, 16_379, 16_384, 300_000,
        ] {
            long.extend(core::iter::repeat_n('x', length - long.len()));
            let mut writer = StructWriter::with_capacity(16);
            writer.text("text", &long);
            writer.number("number", 9_007_199_254_740_991);
            writer.null("null");
            let number = Number::from(9_007_199_254_740_991u64);
            let written = [
                ("text".to_owned(), Node::String(long.clone())),
                ("number".to_owned(), Node::Number(number)),
                ("null".to_owned(), Node::Null),
            ];
            assert_eq!(
                parse_struct(&writer.into_bytes()),
                Ok(Node::Map(written.into()))
            );
        }
    }
}
