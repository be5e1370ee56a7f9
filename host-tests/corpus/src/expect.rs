//! What a case expects of a request.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use crate::case::Protocol;
use crate::octets::Octets;
use crate::pattern::Pattern;

/// What must come of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status that the client gets. Unless written: what the upstream answers, if it must be
    /// reached.
    pub status: Option<u16>,
    /// The word of the decision; unwritten (in the second list alone): Envoy answers, the filter
    /// decides nothing.
    pub reason: Option<Pattern>,
    /// The rule that the decision names.
    pub rule: Option<Pattern>,
    /// Further fields of the decision's record; `~`: the field is absent or null.
    #[serde(default)]
    pub record: BTreeMap<String, Option<Pattern>>,
    /// Response headers (values of one name joined by `, `); `~`: absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<Pattern>>,
    /// The response's body.
    pub body: Option<ExpectBody>,
    /// What the upstream sees. Unless written, the request must not reach it.
    pub upstream: Option<ExpectUpstream>,
    /// What each cluster is asked, `METHOD PATH` each, in order. Unless written, nothing.
    #[serde(default)]
    pub asked: BTreeMap<String, Vec<Pattern>>,
    /// What real Envoy does to this request before any filter sees it, by protocol.
    #[serde(default, deserialize_with = "by_protocol")]
    pub envoy: BTreeMap<Protocol, ExpectEnvoy>,
}

impl Expect {
    /// Whether the filter decides on the request, where it comes through a real codec.
    pub(crate) fn is_decided(&self, protocol: Protocol) -> bool {
        self.reason.is_some() && !self.envoy.contains_key(&protocol)
    }
}

/// An expected body.
#[derive(Clone, Debug)]
pub enum ExpectBody {
    /// JSON of exactly this structure.
    Json(Value),
    /// A JSON object that has at least these fields.
    Contains(Value),
    /// Text.
    Text(Pattern),
    /// Exactly these bytes.
    Octets(Octets),
}

/// What the upstream must see; what isn't written isn't looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectUpstream {
    /// The method.
    pub method: Option<Octets>,
    /// Path with query.
    pub path: Option<Octets>,
    /// Headers by lower-case name (values of one name joined by `, `); `~`: absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<Seen>>,
    /// The whole body.
    pub body: Option<Octets>,
    /// Trailers by lower-case name; `~`: absent.
    #[serde(default)]
    pub trailers: BTreeMap<String, Option<Seen>>,
}

/// An expected header of the upstream's view: a pattern, or bytes that no text is.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Exactly these bytes.
    Octets(Octets),
    /// Text with matchers.
    Pattern(Pattern),
}

/// The end of a request that Envoy's codec refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExpectEnvoy {
    /// The connection or the stream is closed without an answer.
    Closed,
    /// An answer of Envoy's own with this status.
    Status(u16),
}

impl<'de> Deserialize<'de> for ExpectBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = ExpectBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, {json}, {contains} or a form of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ExpectBody, E> {
        Ok(ExpectBody::Text(Pattern::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExpectBody, A::Error> {
        let mut forms = BTreeMap::<String, Value>::deserialize(MapAccessDeserializer::new(map))?;
        match (forms.len(), forms.remove("json"), forms.remove("contains")) {
            (1, Some(document), None) => Ok(ExpectBody::Json(document)),
            (1, None, Some(document)) => Ok(ExpectBody::Contains(document)),
            (_, None, None) => Octets::deserialize(Value::Object(forms.into_iter().collect()))
                .map(ExpectBody::Octets)
                .map_err(A::Error::custom),
            _ => Err(A::Error::custom("write text, `json` or `contains`")),
        }
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeenVisitor)
    }
}

struct SeenVisitor;

impl<'de> Visitor<'de> for SeenVisitor {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number or a form of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seen, E> {
        Ok(Seen::Pattern(Pattern::new(text)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Seen, E> {
        Ok(Seen::Pattern(Pattern::new(&number.to_string())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Seen, A::Error> {
        Octets::deserialize(MapAccessDeserializer::new(map)).map(Seen::Octets)
    }
}

/// One end for both protocols, or a map of ends.
fn by_protocol<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Protocol, ExpectEnvoy>, D::Error> {
    deserializer.deserialize_any(EndsVisitor)
}

struct EndsVisitor;

impl<'de> Visitor<'de> for EndsVisitor {
    type Value = BTreeMap<Protocol, ExpectEnvoy>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`closed`, a status, or one of them for each of `h1` and `h2`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        both(EnvoyVisitor.visit_str(text)?)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        both(EnvoyVisitor.visit_u64(number)?)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        BTreeMap::deserialize(MapAccessDeserializer::new(map))
    }
}

fn both<E>(end: ExpectEnvoy) -> Result<BTreeMap<Protocol, ExpectEnvoy>, E> {
    Ok(BTreeMap::from([(Protocol::H1, end), (Protocol::H2, end)]))
}

impl<'de> Deserialize<'de> for ExpectEnvoy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvoyVisitor)
    }
}

struct EnvoyVisitor;

impl Visitor<'_> for EnvoyVisitor {
    type Value = ExpectEnvoy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`closed` or a status")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ExpectEnvoy, E> {
        if text == "closed" {
            Ok(ExpectEnvoy::Closed)
        } else {
            Err(E::custom("write `closed` or a status"))
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ExpectEnvoy, E> {
        let status = u16::try_from(number).map_err(|_| E::custom("no status has this number"))?;
        Ok(ExpectEnvoy::Status(status))
    }
}
