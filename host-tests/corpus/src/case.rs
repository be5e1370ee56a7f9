//! A case: requests in order, and all that is expected of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::expect::Expect;
use crate::octets::Octets;

/// One case of the corpus. It starts with fresh accounts and runs once in every profile and
/// protocol that it names.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique in the corpus; words joined by `-`.
    pub name: String,
    /// The file it is from, for messages.
    pub file: String,
    /// The policy document by name.
    pub policy: String,
    /// Whether a step happens later than at once: then the real clock of Envoy can't run it.
    pub moves_clock: bool,
    /// Wall clock at the start in whole seconds since 1970, for the rings whose clock is ours.
    pub starts: u64,
    /// Whether it comes over TLS, which only the shipped configuration has.
    pub tls: bool,
    /// Pause profiles, at least one.
    pub profiles: Vec<Profile>,
    /// Protocols, at least one.
    pub protocols: Vec<Protocol>,
    /// What happens, in order; at least one.
    pub steps: Vec<Step>,
}

/// How the filter stops a request whose body it must read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Hold the headers (Envoy's `allow_on_headers_stop_iteration`).
    Headers,
    /// Let the headers go and hold the body.
    Body,
}

/// The protocol that the client speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2,
}

/// A request, what the upstream would answer to it, and what is expected.
#[derive(Clone, Debug)]
pub struct Step {
    /// Time since the start of the case.
    pub at: Duration,
    /// What the client sends.
    pub request: Request,
    /// What the upstream answers, if the request reaches it.
    pub answer: Answer,
    /// What other services answer to the gate, by cluster. One that isn't here can't be reached.
    pub clusters: BTreeMap<String, Service>,
    /// What is broken while it happens.
    pub fault: Option<Fault>,
    /// Whether its stream lasts until the case ends.
    pub stays_open: bool,
    /// What must come of it.
    pub expect: Expect,
}

/// What a service answers to whatever the gate asks.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Service {
    /// A response.
    Answers(Answer),
    /// None.
    Fails(Outage),
    /// One after the other; the last one to whatever is asked then.
    InTurn(Vec<Self>),
}

impl Service {
    /// What it answers to the question of this number, counted from 0.
    pub fn nth(&self, question: usize) -> Option<&Self> {
        match self {
            Self::InTurn(turns) => turns.get(question).or(turns.last()),
            alike => Some(alike),
        }
    }
}

/// How a service fails.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// The connection breaks within the answer's body.
    Broken,
    /// Nothing comes until the gate gives up.
    Silent,
    /// No connection comes about.
    Unreachable,
}

/// Something that the host refuses, injected by the rings whose host is ours.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The host doesn't hand the request's headers over.
    HostFailed,
    /// There is no valid policy, because the one there is was refused.
    NotReady,
    /// Other workers are always faster with the account store.
    StoreContended,
    /// The account store refuses.
    StoreFailed,
}

/// What a client sends. With [`Request::raw`] the other fields say what a filter is shown of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Request {
    /// Absent only over HTTP/2, where a client can leave it out.
    pub method: Option<Octets>,
    /// Path with query, as sent. Absent for CONNECT.
    pub path: Option<Octets>,
    /// `Host`, or `:authority`.
    pub host: Option<Octets>,
    /// In order, duplicates included. Over HTTP/2 a name may begin with `:`.
    pub headers: Vec<(Octets, Octets)>,
    /// The body in the pieces in which it is sent.
    pub body: Option<Body>,
    /// Trailers, in order.
    pub trailers: Vec<(Octets, Octets)>,
    /// The very bytes to send over HTTP/1.1.
    pub raw: Option<Octets>,
}

/// A body and its framing.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Body {
    /// Written one by one: a chunk each over HTTP/1.1 (if there is more than one, or trailers), a
    /// DATA frame each over HTTP/2.
    pub pieces: Vec<Octets>,
    /// Whether HTTP/1.1 frames it by chunks instead of by Content-Length.
    pub chunked: bool,
}

impl Body {
    /// The whole body.
    pub fn concat(&self) -> Vec<u8> {
        self.pieces
            .iter()
            .flat_map(|piece| piece.as_bytes())
            .copied()
            .collect()
    }
}

/// What the upstream answers.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// 200 unless written.
    #[serde(default = "ok")]
    pub status: u16,
    /// Headers beside Content-Length.
    #[serde(default, deserialize_with = "crate::fields::pairs")]
    pub headers: Vec<(Octets, Octets)>,
    /// `upstream` unless written.
    #[serde(default = "upstream_body")]
    pub body: Octets,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: ok(),
            headers: Vec::new(),
            body: upstream_body(),
        }
    }
}

fn ok() -> u16 {
    200
}

fn upstream_body() -> Octets {
    Octets::from("upstream")
}

/// A case in one profile over one protocol: what a ring runs.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The case.
    pub case: &'a Case,
    /// The pause profile.
    pub profile: Profile,
    /// The client's protocol.
    pub protocol: Protocol,
}

impl Case {
    /// Whether the case needs a clock or a store of ours, so that real Envoy can't run it.
    pub fn is_simulated(&self) -> bool {
        let simulated = |step: &Step| step.fault.is_some() || step.stays_open;
        self.moves_clock || self.steps.iter().any(simulated)
    }

    /// Every way in which this case runs.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        self.profiles.iter().flat_map(move |&profile| {
            self.protocols.iter().map(move |&protocol| Run {
                case: self,
                profile,
                protocol,
            })
        })
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = match self.profile {
            Profile::Headers => "headers",
            Profile::Body => "body",
        };
        let protocol = match self.protocol {
            Protocol::H1 => "h1",
            Protocol::H2 => "h2",
        };
        write!(f, "{}.{profile}.{protocol}", self.case.name)
    }
}
