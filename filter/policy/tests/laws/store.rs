//! A store in which anything may stand.

use portcullis_policy::{AccountStore, Change, MapStore, Moment, Reason, StoreError};
use proptest::prelude::*;
use serde_json::json;

use crate::gate::{Ask, FULL, Gate, SECOND, key, policy};

const BURST: usize = 5;

fn gate() -> Gate {
    let mut document = policy(json!({ "plain": { "match": "GET /plain" } }));
    let api = &mut document["apis"]["api"];
    api["tiers"] = json!({ "metered": { "rate": "60/min", "burst": BURST } });
    api["keys"] = json!([key("acme", "metered")]);
    document["unauthenticated"] = json!({ "rate": "60/min", "burst": BURST });
    Gate::new(&document)
}

/// How the record of a store is spoilt
#[derive(Clone, Debug)]
enum Spoil {
    Replace(Vec<u8>),
    Flip { at: usize, bit: u32 },
    Cut { at: usize },
    Extend(Vec<u8>),
}

impl Spoil {
    fn apply(&self, record: &mut Vec<u8>) {
        match self {
            Self::Replace(bytes) => record.clone_from(bytes),
            Self::Flip { at, bit } => {
                let at = at % record.len();
                record[at] ^= 1 << (bit % 8);
            }
            Self::Cut { at } => record.truncate(at % record.len()),
            Self::Extend(bytes) => record.extend(bytes),
        }
    }
}

fn spoils() -> impl Strategy<Value = Spoil> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..600);
    prop_oneof![
        bytes().prop_map(Spoil::Replace),
        Just(Spoil::Replace(Vec::new())),
        (any::<usize>(), any::<u32>()).prop_map(|(at, bit)| Spoil::Flip { at, bit }),
        any::<usize>().prop_map(|at| Spoil::Cut { at }),
        bytes().prop_map(Spoil::Extend),
    ]
}

/// A store that refuses at times
struct Failing {
    map: MapStore,
    error: Option<StoreError>,
}

impl AccountStore for Failing {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        match self.error {
            Some(error) => Err(error),
            None => self.map.update(key, change),
        }
    }
}

/// 2026-01-01 and 2026-06-01, in seconds since the Unix epoch
const EARLIEST: u64 = 1_767_225_600;
const JUNE: u64 = 1_780_272_000;

/// Wall clocks that are right, wrong, or right at an edge
fn walls() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        EARLIEST * SECOND,
        JUNE * SECOND,
        (JUNE + 86_400) * SECOND,
        u64::MAX,
    ];
    prop_oneof![
        any::<u64>(),
        (proptest::sample::select(edges), 0..3u64)
            .prop_map(|(edge, after)| edge.saturating_add(after).saturating_sub(1)),
        (EARLIEST * SECOND..(JUNE + 200_000) * SECOND),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever stands in the store in place of a record, nobody passes who would not have passed
    /// before, and nothing panics
    #[test]
    fn foreign_bytes_grant_nothing(
        spoil in spoils(),
        asks in 0..=BURST,
        with_key: bool,
        all: bool,
    ) {
        let ask = Ask::new("GET", "/plain");
        let (ask, passed) = if with_key {
            (ask.key("acme"), Reason::Allowed)
        } else {
            (ask.key("wrong"), Reason::KeyUnknown)
        };
        let mut store = MapStore::default();
        let mut worker = gate();
        for _ in 0..asks {
            prop_assert_eq!(worker.ask(&ask, FULL, &mut store).record.reason, passed);
        }
        for (key, record) in &mut store.records {
            // All of them, or the accounts but not their count.
            if all || key.len() == 16 {
                spoil.apply(record);
            }
        }
        // Another worker, which knows nothing but the store.
        let mut other = gate();
        let more = (0..=BURST)
            .filter(|_| other.ask(&ask, FULL, &mut store).record.reason == passed)
            .count();
        prop_assert!(more <= BURST - asks, "{} of {} more", more, BURST - asks);
    }

    /// Where the store can't be asked nobody passes, and nothing is charged
    #[test]
    fn a_store_that_fails_grants_and_charges_nothing(
        contended: bool,
        fails in proptest::collection::vec(any::<bool>(), 1..20),
        with_key: bool,
    ) {
        let ask = Ask::new("GET", "/plain");
        let (ask, passed) = if with_key {
            (ask.key("acme"), Reason::Allowed)
        } else {
            (ask.key("wrong"), Reason::KeyUnknown)
        };
        let (error, word) = if contended {
            (StoreError::Contended, Reason::StoreContended)
        } else {
            (StoreError::Failed, Reason::StoreFailed)
        };
        let mut store = Failing { map: MapStore::default(), error: None };
        let mut gate = gate();
        let mut left = BURST;
        for fails in fails {
            store.error = fails.then_some(error);
            let reason = gate.ask(&ask, FULL, &mut store).record.reason;
            // A worker that has seen an empty bucket needs no store to refuse.
            let refused = [Reason::RateLimited, Reason::UnauthenticatedLimited].contains(&reason);
            if left == 0 {
                prop_assert!(refused || fails && reason == word);
            } else {
                prop_assert_eq!(reason, if fails { word } else { passed });
                left -= usize::from(!fails);
            }
        }
    }

    /// A clock that is wrong, at either end of its range too, makes nothing panic and opens no door
    #[test]
    fn a_wrong_clock_opens_no_door(
        times in proptest::collection::vec((any::<u64>(), walls()), 1..10),
    ) {
        let mut document = policy(json!({ "plain": { "match": "GET /plain" } }));
        document["apis"]["api"]["keys"] = json!([
            { "id": "k1", "principal": "p1", "tier": "unlimited", "sha256": crate::gate::digest("expired"),
              "expires": "2026-06-01T00:00:00Z" },
            { "id": "k2", "principal": "p2", "tier": "unlimited", "sha256": crate::gate::digest("unknown") ,
              "not_before": "2026-06-01T00:00:00Z", "expires": "2026-06-02T00:00:00Z" },
        ]);
        let mut gate = Gate::new(&document);
        let mut store = MapStore::default();
        let (earliest, begins) = (EARLIEST * SECOND, JUNE * SECOND);
        for (monotonic, wall) in times {
            let moment = Moment { monotonic, wall, decision: 0 };
            let first = gate.ask(&Ask::new("GET", "/plain").key("expired"), moment, &mut store);
            let plausible = (earliest..begins).contains(&wall);
            prop_assert_eq!(first.record.reason == Reason::Allowed, plausible);
            let second = gate.ask(&Ask::new("GET", "/plain").key("unknown"), moment, &mut store);
            let plausible = (begins..begins + 86_400 * SECOND).contains(&wall);
            prop_assert_eq!(second.record.reason == Reason::Allowed, plausible);
        }
    }
}
