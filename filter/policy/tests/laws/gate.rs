//! A gate to try: a policy, an engine and a store, with a clock that stands until it is moved.

use std::net::IpAddr;
use std::rc::Rc;

use portcullis_policy::{
    AccountStore, Body, Decision, Edit, Edits, Engine, MapStore, Moment, Outcome, Policy, Reason,
    Reply, Request, Settings, Step,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BORN: u64 = 1_000 * SECOND;

/// So long after the store began that every bucket is full; in 2027
pub(crate) const FULL: Moment = Moment {
    monotonic: BORN + 1_000_000 * SECOND,
    wall: 1_800_000_000 * SECOND,
    decision: 42,
};

/// A request, as a shell would describe it
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) client: Option<IpAddr>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            headers: Vec::new(),
            body: None,
            client: Some(IpAddr::from([192, 0, 2, 1])),
        }
        .with(":method", method)
        .with(":path", path)
        .with(":authority", "api.example")
    }

    pub(crate) fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    pub(crate) fn key(self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self.with("content-type", "application/json")
    }

    pub(crate) fn from(mut self, client: impl Into<IpAddr>) -> Self {
        self.client = Some(client.into());
        self
    }
}

/// One worker with its policy
pub(crate) struct Gate {
    pub(crate) policy: Rc<Policy>,
    pub(crate) engine: Engine,
}

impl Gate {
    pub(crate) fn new(document: &Value) -> Self {
        Self {
            policy: Rc::new(parse(document)),
            engine: Engine::new(Settings {
                seed: [7; 16],
                born: BORN,
            }),
        }
    }

    /// Decides on a request as far as its headers and its client's address go
    pub(crate) fn at_headers(
        &mut self,
        ask: &Ask,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let headers: Vec<_> = ask
            .headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        let request = Request {
            headers: &headers,
            client: self.policy.wants_client().then_some(ask.client),
            end_of_stream: ask.body.is_none(),
        };
        let mut step = self
            .engine
            .on_headers(&self.policy, &request, moment, store);
        while let Step::AwaitClient(waiting) = step {
            step = self.engine.with_client(waiting, ask.client, moment, store);
        }
        step
    }

    /// Decides on a request, whatever has to be known of it
    pub(crate) fn ask(
        &mut self,
        ask: &Ask,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        match self.at_headers(ask, moment, store) {
            Step::Decided(outcome) => outcome,
            // These policies ask nobody.
            Step::AwaitClient(_) | Step::Ask(_) => {
                Outcome::unavailable(Reason::HostFailed, moment.decision)
            }
            Step::AwaitBody(waiting) => {
                let body = match &ask.body {
                    Some(body) if body.len() > waiting.max() => Body::TooLarge,
                    Some(body) => Body::Complete(body),
                    None => Body::Complete(&[]),
                };
                self.engine.with_body(waiting, body, moment, store)
            }
        }
    }

    /// The reason for which a request is decided, with nothing spent before
    pub(crate) fn reason(&mut self, ask: &Ask) -> Reason {
        self.ask(ask, FULL, &mut MapStore::default()).record.reason
    }
}

pub(crate) fn parse(document: &Value) -> Policy {
    Policy::parse(&serde_json::to_vec(document).unwrap(), "main").expect("a valid policy")
}

/// The digest of a key, as a policy holds it
pub(crate) fn digest(token: &str) -> String {
    Sha256::digest(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A key of a principal with the same name as its token, without scopes
pub(crate) fn key(token: &str, tier: &str) -> Value {
    json!({ "id": format!("k-{token}"), "sha256": digest(token), "principal": token, "tier": tier })
}

/// A policy of one API, `api.example`, with the key `basic`
pub(crate) fn policy(routes: Value) -> Value {
    json!({
        "version": 1,
        "apis": { "api": {
            "hosts": ["api.example"],
            "tiers": { "unlimited": { "rate": "unlimited" } },
            "keys": [key("basic", "unlimited")],
            "routes": routes,
        } }
    })
}

pub(crate) fn reply(outcome: &Outcome) -> Option<&Reply> {
    match &outcome.decision {
        Decision::Reply(reply) => Some(reply),
        Decision::Forward(_) => None,
    }
}

pub(crate) fn edits(outcome: &Outcome) -> Option<&Edits> {
    match &outcome.decision {
        Decision::Forward(edits) => Some(edits),
        Decision::Reply(_) => None,
    }
}

/// The headers that the upstream reads
pub(crate) fn upstream(ask: &Ask, edits: &Edits) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut headers = ask.headers.clone();
    edits.each(|edit| match edit {
        Edit::Remove(name) => headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name)),
        Edit::Add(name, value) => headers.push((name.into(), value.into())),
    });
    headers
}

/// The value of a reply's header
pub(crate) fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    let found = reply.headers.iter().find(|(other, _)| *other == name);
    found.map(|(_, value)| value.as_str())
}
