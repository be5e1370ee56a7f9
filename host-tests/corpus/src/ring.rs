//! What a ring is: something that carries a case's requests through the policy and shows all that
//! came of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::case::{Run, Step};
use crate::document::Document;

/// A way to run cases: the core natively, the .wasm in a host, the .wasm in Envoy.
pub trait Ring {
    /// One word for the closing line.
    const NAME: &'static str;

    /// Whether it is the real thing: a real HTTP codec, so that [`crate::Expect::envoy`] holds, and
    /// a real clock and store, so that a case can neither move the one nor break the other.
    const IS_REAL: bool = false;

    /// Begins a run with fresh accounts under this policy.
    ///
    /// # Errors
    /// What keeps the run from beginning, such as a policy that is refused.
    fn begin<'a>(
        &'a mut self,
        run: Run<'a>,
        document: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String>;

    /// Looks at the whole after the last run, and ends what the ring started.
    ///
    /// # Errors
    /// A law of the whole that was broken: say, that no input traps the VM.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A run under way.
pub trait Session {
    /// Carries out one step. Steps come in order.
    ///
    /// # Errors
    /// A fault of the ring itself. What the filter does wrong belongs in the exchange.
    fn exchange(&mut self, step: &Step) -> Result<Exchange, String>;
}

/// All that came of one request.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client got; `None`: the connection or stream was closed without an answer.
    pub response: Option<Response>,
    /// What the upstream saw; `None`: the request didn't reach it.
    pub upstream: Option<Seen>,
    /// The filter's record of its decision; `None`: it made none.
    pub record: Option<Record>,
    /// What other services were asked, by cluster, in order.
    pub asked: BTreeMap<String, Vec<Seen>>,
    /// Everything that the filter logged, line by line.
    pub log: Vec<String>,
    /// Wall clock of the request in whole seconds since 1970.
    pub wall: u64,
}

/// A response as the client got it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Lower-case names; values as sent. No pseudo-headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A request as the upstream saw it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The method.
    pub method: Vec<u8>,
    /// Path with query.
    pub path: Vec<u8>,
    /// Lower-case names; values as received. `:authority` is `host`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailers, with lower-case names.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    /// The view of an upstream behind a host that hands on this header map, `:`-headers included.
    pub fn from_map(
        headers: &[(Vec<u8>, Vec<u8>)],
        body: Vec<u8>,
        trailers: &[(Vec<u8>, Vec<u8>)],
    ) -> Self {
        let mut seen = Self {
            body,
            trailers: named(trailers),
            ..Self::default()
        };
        for (name, value) in named(headers) {
            match name.as_str() {
                ":method" => seen.method = value,
                ":path" => seen.path = value,
                ":authority" => seen.headers.push(("host".to_owned(), value)),
                _ if name.starts_with(':') => {}
                _ => seen.headers.push((name, value)),
            }
        }
        seen
    }
}

fn named(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                String::from_utf8_lossy(name).to_ascii_lowercase(),
                value.clone(),
            )
        })
        .collect()
}

/// The record of a decision: the JSON object that the filter logs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record(Map<String, Value>);

impl Record {
    /// Reads a log line of the filter, `decision {...}`; `None`: the line is of another kind.
    ///
    /// # Errors
    /// The line begins so, but no JSON object follows.
    pub fn from_log(line: &str) -> Option<Result<Self, String>> {
        let json = line.strip_prefix("decision ")?;
        Some(Self::parse(json))
    }

    /// Reads the JSON object alone.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json)
            .map(Self)
            .map_err(|e| format!("the record `{json}` is no JSON object: {e}"))
    }

    /// The object of these fields.
    pub(crate) fn from_fields(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// A field as text; `None`: absent or null.
    pub fn get(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?;
        f.write_str(&json)
    }
}
