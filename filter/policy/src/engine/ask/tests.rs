use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::callout::{Failure, Response};
use crate::engine::Settings;
use crate::key::KeyDigest;
use crate::{Decision, MapStore};

const SECOND: u64 = 1_000_000_000;

struct Gate {
    engine: Engine,
    policy: Rc<Policy>,
    store: MapStore,
    now: u64,
}

fn policy(tier: &str) -> Rc<Policy> {
    let policy = format!(
        r#"{{
      "version": 1,
      "unauthenticated": {{ "rate": "1000000/s" }},
      "apis": {{ "shop": {{
        "hosts": ["shop.example"],
        "keys": {{ "lookup": {{ "cluster": "keys", "path": "/k/", "timeout": "1s", "ttl": "60s",
          "max_entries": 3, "max_in_flight": 4 }} }},
        "tiers": {{ "{tier}": {{ "rate": "unlimited" }} }},
        "routes": {{ "list": {{ "match": "GET /items" }} }}
      }} }}
    }}"#
    );
    Rc::new(Policy::parse(policy.as_bytes(), "main").unwrap())
}

impl Gate {
    fn new() -> Self {
        let settings = Settings {
            seed: [7; 16],
            born: 0,
        };
        Self {
            engine: Engine::new(settings),
            policy: policy("basic"),
            store: MapStore::default(),
            now: 1_000_000 * SECOND,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            monotonic: self.now,
            wall: 1_800_000_000 * SECOND,
            decision: 1,
        }
    }

    fn step(&mut self, key: &str) -> Step {
        let credential = format!("Bearer {key}");
        let request = Request {
            headers: &[
                (b":method", b"GET"),
                (b":path", b"/items"),
                (b":authority", b"shop.example"),
                (b"authorization", credential.as_bytes()),
            ],
            client: Some(None),
            end_of_stream: true,
        };
        let (policy, moment) = (Rc::clone(&self.policy), self.moment());
        self.engine
            .on_headers(&policy, &request, moment, &mut self.store)
    }

    /// Why a request is decided at once; `None` when it asks
    fn reason(&mut self, key: &str) -> Option<Reason> {
        match self.step(key) {
            Step::Decided(outcome) => Some(outcome.record.reason),
            _ => None,
        }
    }

    /// Has a request ask; returns the call, if it is the first to ask
    fn ask(&mut self, stream: u32, key: &str) -> Option<u32> {
        match self.step(key) {
            Step::Ask(waiting) => {
                let call = self.engine.ask(stream, *waiting, self.now);
                call.map(|(call, _)| call)
            }
            step => panic!("{step:?}"),
        }
    }

    /// Answers a call; returns streams and what becomes of them
    fn answer(&mut self, call: u32, answer: &Answer<'_>) -> Vec<(u32, Reason)> {
        let (moment, waiting) = (self.moment(), self.answered(call, answer));
        let decide =
            |(stream, waiting)| match self.engine.with_answer(waiting, moment, &mut self.store) {
                Step::Decided(outcome) => (stream, outcome.record.reason),
                step => panic!("{step:?}"),
            };
        waiting.into_iter().map(decide).collect()
    }

    /// The requests that a call's answer has come for
    fn answered(&mut self, call: u32, answer: &Answer<'_>) -> Vec<(u32, Waiting)> {
        self.engine.answered(call, answer, self.now);
        core::iter::from_fn(|| self.engine.take_answered()).collect()
    }

    fn answer_key(&mut self, call: u32, key: &str) -> Vec<(u32, Reason)> {
        let body = record(key);
        let headers: [(&[u8], &[u8]); 1] = [(b":status", b"200")];
        let body = body.as_bytes();
        let headers = &headers;
        self.answer(call, &Answer::Response(Response { headers, body }))
    }
}

/// A policy that knows keys by their digests under two peppers
fn peppered() -> Rc<Policy> {
    let policy = r#"{
      "version": 1,
      "unauthenticated": { "rate": "1000000/s" },
      "apis": { "shop": {
        "hosts": ["shop.example"],
        "keys": {
          "pepper": { "env": ["NEW", "OLD"] },
          "lookup": { "cluster": "keys", "path": "/k/", "timeout": "1s", "max_entries": 1 }
        },
        "tiers": { "basic": { "rate": "unlimited" } },
        "routes": { "list": { "match": "GET /items" } }
      } }
    }"#;
    let variable = |name: &str| Some(format!("the pepper called {name}"));
    Rc::new(Policy::parse_with(policy.as_bytes(), "main", &variable).unwrap())
}

fn record(key: &str) -> String {
    let digest = KeyDigest::of(key.as_bytes()).to_hex();
    format!(r#"{{"id":"k","principal":"p","tier":"basic","sha256":"{digest}"}}"#)
}

#[test]
fn who_asks_the_same_waits_for_one_answer_whoever_leaves() {
    let mut gate = Gate::new();
    let call = gate.ask(1, "a").unwrap();
    assert_eq!(gate.ask(2, "a"), None);
    assert_eq!(gate.ask(3, "a"), None);
    let other = gate.ask(4, "b").unwrap();
    assert!(gate.engine.leave_ask(1).is_some());
    assert!(gate.engine.leave_ask(1).is_none());
    let told = gate.answer_key(call, "a");
    assert_eq!(told, [(2, Reason::Allowed), (3, Reason::Allowed)]);
    assert_eq!(gate.reason("a"), Some(Reason::Allowed));
    // Said twice, it is said to nobody.
    assert_eq!(gate.answer_key(call, "a"), []);
    assert!(gate.engine.is_asking());
    // A call that the host forgets ends by our own clock.
    assert_eq!(gate.engine.overdue(gate.now + SECOND), None);
    gate.now += 2 * SECOND;
    assert_eq!(gate.engine.overdue(gate.now), Some(other));
    let told = gate.answer(other, &Answer::Failed(Failure::TimedOut));
    assert_eq!(told, [(4, Reason::KeyServiceUnavailable)]);
    assert!(!gate.engine.is_asking());
}

#[test]
fn calls_are_capped_and_who_joins_one_is_not() {
    let mut gate = Gate::new();
    for stream in 0..4 {
        assert!(gate.ask(stream, &format!("key-{stream}")).is_some());
    }
    assert_eq!(gate.reason("one-more"), Some(Reason::KeyServiceUnavailable));
    assert_eq!(gate.ask(9, "key-0"), None);
}

#[test]
fn wrong_keys_push_no_good_one_out() {
    let mut gate = Gate::new();
    let call = gate.ask(1, "good").unwrap();
    gate.answer_key(call, "good");
    for number in 0..50 {
        let call = gate.ask(1, &format!("wrong-{number}")).unwrap();
        let headers: [(&[u8], &[u8]); 1] = [(b":status", b"404")];
        let response = Response {
            headers: &headers,
            body: b"",
        };
        let told = gate.answer(call, &Answer::Response(response));
        assert_eq!(told, [(1, Reason::KeyUnknown)]);
    }
    assert_eq!(gate.reason("good"), Some(Reason::Allowed));
    // The last three wrong ones are remembered.
    assert_eq!(gate.reason("wrong-47"), Some(Reason::KeyUnknown));
    assert_eq!(gate.reason("wrong-46"), None);
}

#[test]
fn another_policy_reads_what_is_remembered_anew() {
    let mut gate = Gate::new();
    let call = gate.ask(1, "good").unwrap();
    gate.answer_key(call, "good");
    gate.policy = policy("basic");
    let step = gate.step("good");
    let Step::Decided(outcome) = step else {
        panic!("{step:?}")
    };
    assert!(matches!(outcome.decision, Decision::Forward(_)));
    // Its tier is gone: the key is asked for, and what the service says can't be read.
    gate.policy = policy("gold");
    let call = gate.ask(1, "good").unwrap();
    let told = gate.answer_key(call, "good");
    assert_eq!(told, [(1, Reason::KeyServiceUnavailable)]);
}

/// Whatever is remembered, a request asks once a pepper, and who asks the same waits on
#[test]
fn the_older_digest_is_asked_for_once_for_all_who_wait() {
    let mut gate = Gate::new();
    gate.policy = peppered();
    let headers: [(&[u8], &[u8]); 1] = [(b":status", b"404")];
    let none = Answer::Response(Response {
        headers: &headers,
        body: b"",
    });
    let call = gate.ask(1, "a").unwrap();
    assert_eq!(gate.ask(2, "a"), None);
    let mut asked = Vec::new();
    for (stream, waiting) in gate.answered(call, &none) {
        let moment = gate.moment();
        match gate.engine.with_answer(waiting, moment, &mut gate.store) {
            Step::Ask(waiting) => asked.extend(gate.engine.ask(stream, *waiting, gate.now)),
            step => panic!("{step:?}"),
        }
    }
    let [(next, query)] = &asked[..] else {
        panic!("{asked:?}")
    };
    let digest = crate::key::key_digest(b"a", Some(b"the pepper called OLD")).unwrap();
    let path = query.headers.iter().find(|(name, _)| *name == ":path");
    assert_eq!(path.unwrap().1, format!("/k/{digest}"));
    // Who comes now knows of the first answer, and waits for the second.
    assert_eq!(gate.ask(3, "a"), None);
    // Another key's answer takes the only place of one that is none.
    let other = gate.ask(4, "b").unwrap();
    gate.answered(other, &none);
    let told = gate.answer(*next, &none);
    let unknown = [1, 2, 3].map(|stream| (stream, Reason::KeyUnknown));
    assert_eq!(told, unknown);
    assert!(!gate.engine.is_asking());
}

/// They are taken one by one, in the order in which they came, and may leave until then
#[test]
fn who_is_answered_waits_until_it_is_taken() {
    let mut gate = Gate::new();
    let call = gate.ask(1, "a").unwrap();
    for stream in 2..5 {
        assert_eq!(gate.ask(stream, "a"), None);
    }
    let other = gate.ask(9, "b").unwrap();
    let silence = Answer::Failed(Failure::TimedOut);
    gate.engine.answered(call, &silence, gate.now);
    gate.engine.answered(other, &silence, gate.now);
    assert_eq!(gate.engine.overdue(gate.now + 9 * SECOND), None);
    assert!(gate.engine.leave_ask(3).is_some());
    for stream in [1, 2, 4, 9] {
        assert!(gate.engine.has_answered() && gate.engine.is_asking());
        let taken = gate.engine.take_answered();
        assert_eq!(taken.map(|(taken, _)| taken), Some(stream));
    }
    assert!(!gate.engine.is_asking() && gate.engine.take_answered().is_none());
}
