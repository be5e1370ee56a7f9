//! Who is charged, how much, and how often.

use portcullis_policy::{MapStore, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, SECOND, key, policy};

const BURST: u64 = 60;

/// A policy in which every kind of outcome is to be had
fn every_outcome() -> Value {
    let mut document = policy(json!({
        "plain": { "match": ["GET /plain", "GET /plain/{id}"], "page": { "max": 100 } },
        "free": { "match": "GET /free", "limits": [] },
        "public": { "match": "GET /public", "auth": "none", "limits": [] },
        "scope": { "match": "GET /scope", "scope": "nobody" },
        "classes": {
            "match": "POST /classes",
            "class": { "from": "body.mode", "absent": "quick", "costs": { "quick": 2, "deep": 7, "huge": 40 } },
            "fields": {
                "target": { "type": "string", "required": true },
                "plan": { "one_of": ["small", "large"], "tiers": { "large": "other" } },
            },
            "verdict": { "of": "body.target", "when": ["quick"] },
            "screen": {
                "next": { "of": "query.next", "block": "malicious" },
                "link": { "of": "body.link", "block": "malicious" },
            },
        },
    }));
    document["threat"] = json!({ "indicators": { "domains": ["phish.example"] } });
    let api = &mut document["apis"]["api"];
    api["tiers"] = json!({ "metered": { "rate": "60/min", "burst": BURST }, "other": { "rate": "unlimited" } });
    api["keys"] = json!([
        key("acme", "metered"),
        key("globex", "metered"),
        key("initech", "metered")
    ]);
    document["unauthenticated"] = json!({ "rate": "6/min", "burst": 3 });
    document
}

/// A request of a known key, and the cells that its outcome costs when the bucket bears them
#[derive(Clone, Copy, Debug)]
enum Known {
    Plain,
    Free,
    NotFound,
    MethodNotAllowed,
    NearMiss,
    Upgrade,
    Scope,
    Class { mode: Option<&'static str> },
    WrongMode,
    WrongField,
    WrongQuery,
    OtherSpelling,
    SmallTier,
    NoJson,
    WrongType,
    TooLarge,
    BlockedQuery,
    BlockedBody,
}

impl Known {
    fn ask(self, token: &str) -> Ask {
        let post = || Ask::new("POST", "/classes").key(token);
        match self {
            Self::Plain => Ask::new("GET", "/plain").key(token),
            Self::Free => Ask::new("HEAD", "/free").key(token),
            Self::NotFound => Ask::new("GET", "/nowhere").key(token),
            Self::MethodNotAllowed => Ask::new("PUT", "/plain").key(token),
            Self::NearMiss => Ask::new("GET", "/plain/").key(token),
            Self::Upgrade => Ask::new("GET", "/plain")
                .key(token)
                .with("upgrade", "websocket"),
            Self::Scope => Ask::new("GET", "/scope").key(token),
            Self::Class { mode: Some(mode) } => {
                post().json(&json!({ "target": "evil.example", "mode": mode }))
            }
            Self::Class { mode: None } => post().json(&json!({ "target": "evil.example" })),
            Self::WrongMode => post().json(&json!({ "target": "evil.example", "mode": "mild" })),
            Self::WrongField => post().json(&json!({ "target": 7 })),
            Self::WrongQuery => Ask::new("GET", "/plain?page=0").key(token),
            Self::OtherSpelling => {
                post().json(&json!({ "target": "evil.example", "Mode": "huge" }))
            }
            Self::SmallTier => post().json(&json!({ "target": "evil.example", "plan": "large" })),
            Self::NoJson => post().json(&json!([])),
            Self::WrongType => post().with("content-encoding", "gzip").json(&json!({})),
            Self::TooLarge => post().json(&Value::String("x".repeat(70_000))),
            Self::BlockedQuery => Ask::new("POST", "/classes?next=phish.example")
                .key(token)
                .json(&json!({ "target": "evil.example" })),
            Self::BlockedBody => post().json(
                &json!({ "target": "evil.example", "mode": "deep", "link": "phish.example" }),
            ),
        }
    }

    /// Reason and cost
    fn expected(self) -> (Reason, u64) {
        match self {
            Self::Plain => (Reason::Allowed, 1),
            Self::Free => (Reason::Allowed, 0),
            Self::NotFound => (Reason::RouteUnknown, 1),
            Self::MethodNotAllowed => (Reason::MethodNotAllowed, 1),
            Self::NearMiss => (Reason::PathAmbiguous, 1),
            Self::Upgrade => (Reason::UpgradeRefused, 1),
            Self::Scope => (Reason::ScopeMissing, 1),
            Self::Class {
                mode: None | Some("quick"),
            } => (Reason::Answered, 2),
            Self::Class { mode: Some("deep") } => (Reason::Allowed, 7),
            Self::Class { mode: Some(_) } => (Reason::Allowed, 40),
            Self::WrongMode | Self::WrongField | Self::WrongQuery => (Reason::FieldInvalid, 1),
            Self::OtherSpelling => (Reason::FieldAmbiguous, 1),
            Self::SmallTier => (Reason::TierInsufficient, 1),
            Self::NoJson => (Reason::BodyMalformed, 1),
            Self::WrongType => (Reason::BodyEncoded, 1),
            Self::TooLarge => (Reason::BodyTooLarge, 1),
            Self::BlockedQuery | Self::BlockedBody => (Reason::TargetBlocked, 1),
        }
    }

    /// Whether a body is read, so that the cheapest class must be to be had beforehand
    fn peeks(self) -> bool {
        !matches!(
            self,
            Self::Plain
                | Self::Free
                | Self::NotFound
                | Self::MethodNotAllowed
                | Self::NearMiss
                | Self::Upgrade
                | Self::Scope
                | Self::WrongQuery
                | Self::BlockedQuery
        )
    }
}

fn known() -> impl Strategy<Value = Known> {
    prop_oneof![
        Just(Known::Plain),
        Just(Known::Free),
        Just(Known::NotFound),
        Just(Known::MethodNotAllowed),
        Just(Known::NearMiss),
        Just(Known::Upgrade),
        Just(Known::Scope),
        proptest::sample::select(vec![None, Some("quick"), Some("deep"), Some("huge")])
            .prop_map(|mode| Known::Class { mode }),
        Just(Known::WrongMode),
        Just(Known::WrongField),
        Just(Known::WrongQuery),
        Just(Known::OtherSpelling),
        Just(Known::SmallTier),
        Just(Known::NoJson),
        Just(Known::WrongType),
        Just(Known::TooLarge),
        Just(Known::BlockedQuery),
        Just(Known::BlockedBody),
    ]
}

const PRINCIPALS: [&str; 3] = ["acme", "globex", "initech"];

/// A request of somebody without a good key
fn unknown() -> impl Strategy<Value = Ask> {
    (
        proptest::sample::select(vec![
            "/plain", "/classes", "/public", "/scope", "/nowhere", "/a/../b", "/plain/",
        ]),
        proptest::sample::select(vec!["GET", "POST", "OPTIONS", "CONNECT"]),
        proptest::option::of(
            "Bearer [a-z]{1,3}|Basic [a-z]{1,3}|[ -~]{0,8}|Bearer acme,Bearer acme",
        ),
        any::<[u8; 2]>(),
    )
        .prop_map(|(path, method, authorization, [high, low])| {
            let ask = Ask::new(method, path).from([198, 51, high, low]);
            match authorization {
                Some(value) => ask.with("authorization", value),
                None => ask,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each request of a known key is charged once, for its class or as abuse, and only when its
    /// bucket bears all of it
    #[test]
    fn a_request_is_charged_at_most_once(
        asks in proptest::collection::vec((known(), 0..3usize, 0..2 * SECOND), 1..60),
    ) {
        let mut gate = Gate::new(&every_outcome());
        let mut store = MapStore::default();
        let mut moment = FULL;
        // Nanoseconds until full: the model of each principal's bucket.
        let mut owed = [0u64; 3];
        for (known, principal, after) in asks {
            moment.monotonic += after;
            owed = owed.map(|owed| owed.saturating_sub(after));
            let owed = &mut owed[principal];
            let bears = |cells: u64, owed: u64| owed + cells * SECOND <= BURST * SECOND;
            let (reason, cells) = known.expected();
            let passes = bears(cells, *owed) && (!known.peeks() || bears(2, *owed));
            if passes {
                *owed += cells * SECOND;
            }
            let outcome = gate.ask(&known.ask(PRINCIPALS[principal]), moment, &mut store);
            let expected = if passes { reason } else { Reason::RateLimited };
            prop_assert_eq!(outcome.record.reason, expected, "{:?}", known);
            let record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
            let remaining = (BURST * SECOND - *owed) / SECOND;
            prop_assert_eq!(&record["remaining"], &json!(remaining), "{:?}", known);
        }
    }

    /// What a known key gets never depends on what callers without one do
    #[test]
    fn a_known_key_never_depends_on_unknown_callers(
        asks in proptest::collection::vec(
            (known(), 0..3usize, 0..SECOND, proptest::collection::vec(unknown(), 0..6)),
            1..40,
        ),
        workers in 1..4usize,
    ) {
        let gates = || (0..workers).map(|_| Gate::new(&every_outcome())).collect::<Vec<_>>();
        let (mut alone, mut flooded) = (gates(), gates());
        let (mut quiet, mut noisy) = (MapStore::default(), MapStore::default());
        let mut moment = FULL;
        for (index, (known, principal, after, flood)) in asks.into_iter().enumerate() {
            moment.monotonic += after;
            moment.decision += 1;
            for (offset, ask) in flood.iter().enumerate() {
                let outcome = flooded[offset % workers].ask(ask, moment, &mut noisy);
                prop_assert!(!outcome.record.to_json().contains("\"key\""));
            }
            let ask = known.ask(PRINCIPALS[principal]);
            let one = alone[index % workers].ask(&ask, moment, &mut quiet);
            let other = flooded[index % workers].ask(&ask, moment, &mut noisy);
            prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
    }
}
