//! Fields of the case files that can be written in more than one way.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::octets::Octets;

/// A field that can be left out, be `~`, or have a value.
#[derive(Clone)]
pub(crate) enum Written<T> {
    No,
    Null,
    Value(T),
}

/// A body as it is written.
#[derive(Clone)]
pub(crate) enum BodySource {
    Chunks(Vec<Octets>),
    Json(Value),
    Whole(Octets),
}

/// Header fields, as a map (a list of values repeats the name) or as a list of `[name, value]`.
pub(crate) fn pairs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Octets, Octets)>, D::Error> {
    struct PairsVisitor;
    impl<'de> Visitor<'de> for PairsVisitor {
        type Value = Vec<(Octets, Octets)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of headers, or a list of [name, value]")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(name) = map.next_key::<String>()? {
                for value in map.next_value::<OneOrMany>()?.0 {
                    pairs.push((Octets::from(&*name), value));
                }
            }
            Ok(pairs)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = list.next_element()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_any(PairsVisitor)
}

struct OneOrMany(Vec<Octets>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor;
        impl<'de> Visitor<'de> for ManyVisitor {
            type Value = Vec<Octets>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Octets>, E> {
                Ok(vec![Octets::from(text)])
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<Octets>, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<Octets>, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Octets>, A::Error> {
                let map = MapAccessDeserializer::new(map);
                Ok(vec![Octets::deserialize(map)?])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Octets>, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_any(ManyVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for BodySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let form = |name: &str| match &value {
            Value::Object(map) if map.len() == 1 => map.get(name).cloned(),
            _ => None,
        };
        if let Some(document) = form("json") {
            Ok(Self::Json(document))
        } else if let Some(chunks) = form("chunks") {
            Vec::deserialize(chunks)
                .map(Self::Chunks)
                .map_err(D::Error::custom)
        } else {
            Octets::deserialize(value).map(Self::Whole).map_err(|_| {
                D::Error::custom(
                    "a body is text, {json}, {chunks}, {hex}, {bytes}, {repeat, times} or {join}",
                )
            })
        }
    }
}

pub(crate) fn unwritten<T>() -> Written<T> {
    Written::No
}

pub(crate) fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Written<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map_or(Written::Null, Written::Value))
}
