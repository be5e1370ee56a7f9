//! `google.protobuf.Struct` on the wire, the form in which Envoy hands a YAML policy over.
//!
//! Follows the encoding of protocol buffers (varints, length-delimited fields) for the four
//! messages of `google/protobuf/struct.proto`, and nothing else.

mod writer;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Number;

pub(crate) use self::writer::StructWriter;
use crate::node::{Keys, MAX_DEPTH, Node};

/// Decodes the bytes of a `Struct`
///
/// # Errors
///
/// What is wrong: bytes that are not a `Struct`, a key twice in one map (in whatever case),
/// a number that is not whole or beyond 2^53 (a `Struct` holds only doubles, so such a number
/// may not be what was written), or more than [`MAX_DEPTH`] levels.
pub(crate) fn parse_struct(bytes: &[u8]) -> Result<Node, String> {
    decode_struct(bytes, 0)
}

const STRUCT_FIELDS: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const VALUE_NULL: u32 = 1;
const VALUE_NUMBER: u32 = 2;
const VALUE_STRING: u32 = 3;
const VALUE_BOOL: u32 = 4;
const VALUE_STRUCT: u32 = 5;
const VALUE_LIST: u32 = 6;
const LIST_VALUES: u32 = 1;

/// 2^53: up to here every whole number is a double of its own.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

const NOT_A_STRUCT: &str = "the bytes are neither JSON text nor a google.protobuf.Struct";

fn decode_struct(bytes: &[u8], depth: usize) -> Result<Node, String> {
    if depth > MAX_DEPTH {
        return Err("nested deeper than 32 levels".to_owned());
    }
    let mut keys = Keys::default();
    let mut map = Vec::new();
    let mut wire = Wire(bytes);
    while let Some(field) = wire.next()? {
        let (STRUCT_FIELDS, Payload::Bytes(entry)) = field else {
            return Err(NOT_A_STRUCT.to_owned());
        };
        let (key, node) = decode_entry(entry, depth)?;
        keys.insert(&key)?;
        map.push((key, node));
    }
    Ok(Node::Map(map))
}

fn decode_entry(bytes: &[u8], depth: usize) -> Result<(String, Node), String> {
    let mut key = String::new();
    let mut node = Node::Null;
    let mut wire = Wire(bytes);
    while let Some(field) = wire.next()? {
        match field {
            (ENTRY_KEY, Payload::Bytes(bytes)) => key = text(bytes)?,
            (ENTRY_VALUE, Payload::Bytes(bytes)) => node = decode_value(bytes, depth)?,
            _ => return Err(NOT_A_STRUCT.to_owned()),
        }
    }
    Ok((key, node))
}

fn decode_value(bytes: &[u8], depth: usize) -> Result<Node, String> {
    let deeper = depth.saturating_add(1);
    let mut node = Node::Null;
    let mut wire = Wire(bytes);
    while let Some(field) = wire.next()? {
        node = match field {
            (VALUE_NULL, Payload::Varint(_)) => Node::Null,
            (VALUE_NUMBER, Payload::Fixed64(bits)) => Node::Number(whole(f64::from_bits(bits))?),
            (VALUE_STRING, Payload::Bytes(bytes)) => Node::String(text(bytes)?),
            (VALUE_BOOL, Payload::Varint(value)) => Node::Bool(value != 0),
            (VALUE_STRUCT, Payload::Bytes(bytes)) => decode_struct(bytes, deeper)?,
            (VALUE_LIST, Payload::Bytes(bytes)) => decode_list(bytes, deeper)?,
            _ => return Err(NOT_A_STRUCT.to_owned()),
        };
    }
    Ok(node)
}

fn decode_list(bytes: &[u8], depth: usize) -> Result<Node, String> {
    if depth > MAX_DEPTH {
        return Err("nested deeper than 32 levels".to_owned());
    }
    let mut list = Vec::new();
    let mut wire = Wire(bytes);
    while let Some(field) = wire.next()? {
        let (LIST_VALUES, Payload::Bytes(bytes)) = field else {
            return Err(NOT_A_STRUCT.to_owned());
        };
        list.push(decode_value(bytes, depth)?);
    }
    Ok(Node::List(list))
}

fn text(bytes: &[u8]) -> Result<String, String> {
    match core::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("a string holds NUL or is not UTF-8".to_owned()),
    }
}

fn whole(value: f64) -> Result<Number, String> {
    if !(-MAX_WHOLE < value && value < MAX_WHOLE) {
        return Err("a number is beyond 2^53: write it as a string".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within 2^53, checked above"
    )]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "within 2^53, checked above")]
    let back = whole as f64;
    #[expect(clippy::float_cmp, reason = "whole or not is an exact question")]
    if back == value {
        Ok(whole.into())
    } else {
        Err("a number is not whole".to_owned())
    }
}

enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// What is left of a message
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.field()
            .map(Some)
            .ok_or_else(|| NOT_A_STRUCT.to_owned())
    }

    fn field(&mut self) -> Option<(u32, Payload<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok()?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Payload::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((number, payload))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Encodes a tree as Envoy does
    pub(crate) fn encode(node: &Node) -> Vec<u8> {
        let Node::Map(entries) = node else {
            panic!("a Struct is a map")
        };
        let mut out = Vec::new();
        for (key, value) in entries {
            let mut entry = Vec::new();
            delimited(&mut entry, ENTRY_KEY, key.as_bytes());
            delimited(&mut entry, ENTRY_VALUE, &encode_value(value));
            delimited(&mut out, STRUCT_FIELDS, &entry);
        }
        out
    }

    fn encode_value(node: &Node) -> Vec<u8> {
        let mut out = Vec::new();
        match node {
            Node::Null => out.extend([0x08, 0]),
            Node::Number(number) => {
                out.push(0x11);
                out.extend(number.as_f64().unwrap().to_le_bytes());
            }
            Node::String(text) => delimited(&mut out, VALUE_STRING, text.as_bytes()),
            Node::Bool(value) => out.extend([0x20, u8::from(*value)]),
            Node::Map(_) => delimited(&mut out, VALUE_STRUCT, &encode(node)),
            Node::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    delimited(&mut list, LIST_VALUES, &encode_value(item));
                }
                delimited(&mut out, VALUE_LIST, &list);
            }
        }
        out
    }

    fn delimited(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
        out.push(u8::try_from(field << 3 | 2).unwrap());
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f | 0x80).unwrap());
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend(bytes);
    }

    #[test]
    fn a_struct_is_the_same_tree_as_its_json() {
        let json =
            br#"{"version":1,"deep":{"list":[true,null,"x",{"y":-5}]},"empty":{},"none":[]}"#;
        let node = Node::parse_json(json).unwrap();
        assert_eq!(parse_struct(&encode(&node)), Ok(node));
    }

    #[test]
    fn numbers_are_whole_and_exact() {
        let parse = |number: f64| {
            let map = Node::Map(
                [(
                    "n".to_owned(),
                    Node::Number(Number::from_f64(number).unwrap()),
                )]
                .into(),
            );
            parse_struct(&encode(&map))
        };
        assert!(parse(9_007_199_254_740_991.0).is_ok());
        assert!(parse(9_007_199_254_740_992.0).unwrap_err().contains("2^53"));
        assert!(parse(0.5).unwrap_err().contains("whole"));
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let node = Node::parse_json(br#"{"a":{"b":[1,"two",{"c":null}]}}"#).unwrap();
        let good = encode(&node);
        for length in 1..good.len() {
            assert!(parse_struct(&good[..length]).is_err(), "cut at {length}");
        }
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[index] ^= 1 << bit;
                let _: Result<Node, String> = parse_struct(&bytes);
            }
        }
        assert!(
            parse_struct(&[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
            ])
            .is_err()
        );
        let mut nested = Vec::new();
        for _ in 0..1000 {
            let mut value = Vec::new();
            delimited(&mut value, VALUE_STRUCT, &nested);
            let mut entry = Vec::new();
            delimited(&mut entry, ENTRY_KEY, b"a");
            delimited(&mut entry, ENTRY_VALUE, &value);
            nested.clear();
            delimited(&mut nested, STRUCT_FIELDS, &entry);
        }
        assert!(parse_struct(&nested).unwrap_err().contains("deeper"));
    }

    #[test]
    fn keys_are_unique() {
        let mut bytes = encode(&Node::parse_json(br#"{"a":1}"#).unwrap());
        bytes.extend(encode(&Node::parse_json(br#"{"A":1}"#).unwrap()));
        assert!(parse_struct(&bytes).unwrap_err().contains("twice"));
    }
}
