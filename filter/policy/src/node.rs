//! A document as a tree, whatever form it came in, with everything refused that two readers
//! could understand differently.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;

use crate::spelling::folded;

/// A value of a document
///
/// INVARIANT: no map holds two keys that are equal when case is folded, and no string holds
/// NUL: an upstream that matches keys without regard to case, or that cuts strings at NUL,
/// reads the same document as we do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// How deep a document may nest
pub(crate) const MAX_DEPTH: usize = 32;

impl Node {
    /// Parses strict JSON (RFC 8259, with the uniqueness of names of RFC 7493)
    ///
    /// # Errors
    ///
    /// What is wrong and where, by line and column: malformed text, two keys that differ in
    /// case at most, a NUL in a string, or more than [`MAX_DEPTH`] levels.
    pub(crate) fn parse_json(text: &[u8]) -> Result<Self, String> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let node = Strict { depth: 0 }
            .deserialize(&mut deserializer)
            .map_err(|error| error.to_string())?;
        deserializer.end().map_err(|error| error.to_string())?;
        Ok(node)
    }

    /// The value of a key of a map
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, node)| node)
    }

    /// The noun of the value's type, with its article
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// Sorts every map by its keys, so that two forms of one document are equal
    pub(crate) fn sort(&mut self) {
        match self {
            Self::List(items) => items.iter_mut().for_each(Self::sort),
            Self::Map(entries) => {
                entries.iter_mut().for_each(|(_, node)| node.sort());
                // By insertion: the sort of the library is 4 KB of code for documents that are short.
                for entry in core::mem::take(entries) {
                    let at = entries.partition_point(|(key, _)| *key <= entry.0);
                    entries.insert(at, entry);
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {}
        }
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(key, node)?;
                }
                map.end()
            }
        }
    }
}

/// The keys of one map, by which a second spelling of one is found
#[derive(Default)]
pub(crate) struct Keys(BTreeSet<String>);

impl Keys {
    /// Takes in a key
    ///
    /// # Errors
    ///
    /// The message, when the map has the key already, in whatever case.
    pub(crate) fn insert(&mut self, key: &str) -> Result<(), String> {
        if self.0.insert(folded(key)) {
            return Ok(());
        }
        Err(format!(
            "the key `{}` appears twice (case does not tell keys apart)",
            key.escape_default()
        ))
    }
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self {
            depth: self.depth.saturating_add(1),
        })
    }

    fn text<E: de::Error>(text: &str) -> Result<String, E> {
        if text.contains('\0') {
            return Err(E::custom("a string holds NUL"));
        }
        Ok(text.to_owned())
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(Node::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Self::text(text).map(Node::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element_seed(self.deeper()?)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut keys = Keys::default();
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let key = Self::text(&key)?;
            keys.insert(&key).map_err(de::Error::custom)?;
            map.push((key, entries.next_value_seed(self.deeper()?)?));
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let got = Node::parse_json(text.as_bytes());
        match expected {
            Ok(json) => {
                assert_eq!(
                    got.map(|node| serde_json::to_string(&node).unwrap()),
                    Ok(json.into())
                );
            }
            Err(part) => {
                let error = got.unwrap_err();
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn strict_json() {
        check(
            r#" {"a":[1,-2,1.5,null,true],"b":{"c":"x"}} "#,
            Ok(r#"{"a":[1,-2,1.5,null,true],"b":{"c":"x"}}"#),
        );
        check(r#"{"target":"a","Target":"b"}"#, Err("appears twice"));
        check(r#"{"t\u0061rget":"a","target":"b"}"#, Err("appears twice"));
        check(r#"{"a":{"x":1,"X":1}}"#, Err("appears twice"));
        check(r#"{"É":1,"é":1}"#, Err("appears twice"));
        check(r#"{"ſcope":1,"scope":1}"#, Err("appears twice"));
        check(r#"{"a":"\u0000"}"#, Err("NUL"));
        check(r#"{"\u0000":1}"#, Err("NUL"));
        check("{} {}", Err("trailing"));
        check("\u{feff}{}", Err("expected value"));
        check("{\"a\":1e999}", Err("number out of range"));
        check("", Err("EOF"));
        check("{\"a\":NaN}", Err("expected value"));
        check("{\"a\":\"\\ud800\"}", Err("hex escape"));
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Node::parse_json(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert!(
            Node::parse_json(nest(MAX_DEPTH + 1).as_bytes())
                .unwrap_err()
                .contains("deeper")
        );
        assert!(
            Node::parse_json(nest(100_000).as_bytes())
                .unwrap_err()
                .contains("deeper")
        );
    }

    #[test]
    fn sorted_maps_are_equal() {
        let mut a = Node::parse_json(br#"{"b":[{"y":1,"x":2}],"a":1}"#).unwrap();
        let mut b = Node::parse_json(br#"{"a":1,"b":[{"x":2,"y":1}]}"#).unwrap();
        assert_ne!(a, b);
        a.sort();
        b.sort();
        assert_eq!(a, b);
    }
}
