//! Quotas: what is charged of a billing period, in whatever order requests begin and end.

use std::collections::BTreeMap;

use portcullis_policy::{
    AccountStore, Change, Ending, MapStore, Moment, QuotaReservation, Reason, Settled, StoreError,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, SECOND, key, policy};

const ALLOWANCE: u64 = 4;
const PACK: u64 = 3;
/// 2027-01-01, 2027-02-01 and 2027-03-01
const JANUARY: u64 = 1_798_761_600;
const FEBRUARY: u64 = 1_801_440_000;
const MARCH: u64 = 1_803_859_200;
/// When the pack ends: in February
const PACK_ENDS: u64 = 1_802_563_200;

fn document() -> Value {
    let mut document = policy(json!({
        "items": { "match": "GET /items", "spend": "items" },
        "limited": { "match": "GET /limited", "spend": "items", "limits": ["rare"] },
        "orders": {
            "match": "POST /orders",
            "spend": "items",
            "idempotency": { "upstream": "deduplicates", "ttl": "1h" },
            "fields": { "id": { "type": "integer" } },
        },
    }));
    let api = &mut document["apis"]["api"];
    api["tiers"] = json!({ "plan": { "rate": "unlimited", "quotas": { "items": ALLOWANCE } } });
    api["limits"] = json!({ "rare": { "window": "1 in 1h" } });
    let mut acme = key("acme", "plan");
    acme["packs"] =
        json!([{ "id": "p", "quota": "items", "amount": PACK, "expires": "2027-02-14T00:00:00Z" }]);
    api["keys"] = json!([acme, key("globex", "plan")]);
    document["quotas"] = json!({ "store": "local" });
    document
}

fn at(wall: u64, monotonic: u64) -> Moment {
    Moment {
        wall: wall * SECOND,
        monotonic: FULL.monotonic + monotonic * SECOND,
        decision: 7,
    }
}

/// A worker's request that has not ended yet
struct Open {
    reservation: Box<QuotaReservation>,
    /// Where the model has charged it
    charge: Charge,
    began: u64,
}

/// From which period, or from the pack
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Charge {
    Period(u64),
    Pack,
}

fn endings() -> impl Strategy<Value = Ending> {
    prop_oneof![
        proptest::sample::select(vec![
            101u16, 200, 201, 204, 302, 304, 399, 400, 404, 429, 499, 500, 502, 503, 504, 599, 0,
            65_535
        ])
        .prop_map(Ending::Response),
        Just(Ending::NotForwarded),
        Just(Ending::TimedOut),
        Just(Ending::ClientLeft),
        Just(Ending::Unknown),
    ]
}

/// What the documents say: an answer below 400 is paid for, and so is what may have been done
fn pays(ending: Ending) -> bool {
    match ending {
        Ending::Response(status) => status < 400,
        Ending::NotForwarded => false,
        Ending::TimedOut | Ending::ClientLeft | Ending::Unknown => true,
    }
}

#[derive(Clone, Debug)]
enum Event {
    Ask {
        worker: usize,
        limited: bool,
    },
    End {
        which: usize,
        ending: Ending,
        after: u64,
    },
    /// The stream is gone and nobody says how: its worker died
    Lose {
        which: usize,
    },
    Clock {
        wall: u64,
    },
}

fn events() -> impl Strategy<Value = Event> {
    let instants = vec![
        JANUARY - 1,
        JANUARY,
        JANUARY + 1_000,
        FEBRUARY - 1,
        FEBRUARY,
        PACK_ENDS - 1,
        PACK_ENDS,
        MARCH - 1,
        MARCH,
    ];
    prop_oneof![
        6 => (any::<usize>(), proptest::bool::weighted(0.1))
            .prop_map(|(worker, limited)| Event::Ask { worker, limited }),
        4 => (any::<usize>(), endings(), prop_oneof![9 => 0..3_600u64, 1 => 3_600..9_000u64])
            .prop_map(|(which, ending, after)| Event::End { which, ending, after }),
        1 => any::<usize>().prop_map(|which| Event::Lose { which }),
        1 => proptest::sample::select(instants).prop_map(|wall| Event::Clock { wall }),
    ]
}

/// The start of the period that an instant lies in, by the calendar
fn period(wall: u64) -> u64 {
    let starts = [JANUARY, FEBRUARY, MARCH];
    let found = starts.into_iter().rev().find(|start| *start <= wall);
    found.unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Every request is charged at most once, from allowance or pack; what fails is given back to where
    /// it came from; a refused one spends nothing; what is lost stays charged; and a clock that steps
    /// back reopens nothing
    #[test]
    fn a_quota_is_charged_at_most_once(
        workers in 2..9usize,
        events in proptest::collection::vec(events(), 1..120),
    ) {
        let document = document();
        let mut gates: Vec<_> = (0..workers).map(|_| Gate::new(&document)).collect();
        let mut store = MapStore::default();
        let mut open: Vec<Open> = Vec::new();
        // The model: what is committed or reserved of each period and of the pack, by a clock that
        // never goes back but for what was not written.
        let mut charged: BTreeMap<Charge, u64> = BTreeMap::new();
        let (mut wall, mut seen) = (JANUARY + 10, 0);
        let mut monotonic = 0;
        let mut rare = None;
        for event in events {
            match event {
                Event::Clock { wall: to } => wall = to,
                Event::Lose { which } if !open.is_empty() => {
                    let lost = open.remove(which % open.len());
                    drop(lost.reservation);
                }
                Event::End { which, ending, after } if !open.is_empty() => {
                    let Open { reservation, charge, began } = open.remove(which % open.len());
                    monotonic += after;
                    let gate = &mut gates[which % workers];
                    let settled = gate.engine.settle(*reservation, ending, at(wall, monotonic), &mut store);
                    let in_time = monotonic - began < 3_600;
                    let expected = match (pays(ending), in_time) {
                        (true, _) => Settled::Committed,
                        (false, true) => Settled::Released,
                        (false, false) => Settled::Expired,
                    };
                    prop_assert_eq!(settled, expected);
                    if settled == Settled::Released {
                        *charged.get_mut(&charge).unwrap() -= 1;
                    }
                }
                Event::Lose { .. } | Event::End { .. } => {}
                Event::Ask { worker, limited } => {
                    let now = wall.max(seen);
                    let of = |charged: &BTreeMap<_, _>, charge| charged.get(&charge).copied().unwrap_or(0);
                    let here = Charge::Period(period(now));
                    let pack = if now < PACK_ENDS { PACK } else { 0 };
                    let left = ALLOWANCE - of(&charged, here);
                    let left_of_pack = pack.saturating_sub(of(&charged, Charge::Pack));
                    let may_window = !limited || rare.is_none_or(|last| last + 3_600 <= monotonic);
                    let ask = Ask::new("GET", if limited { "/limited" } else { "/items" }).key("acme");
                    let mut outcome = gates[worker % workers].ask(&ask, at(wall, monotonic), &mut store);
                    let reason = outcome.record.reason;
                    if !may_window {
                        prop_assert_eq!(reason, Reason::RateLimited);
                        prop_assert!(!outcome.leases.has_quota());
                    } else if left + left_of_pack == 0 {
                        prop_assert_eq!(reason, Reason::QuotaSpent);
                        prop_assert!(!outcome.leases.has_quota());
                    } else {
                        prop_assert_eq!(reason, Reason::Allowed);
                        let charge = if left > 0 { here } else { Charge::Pack };
                        *charged.entry(charge).or_default() += 1;
                        seen = now;
                        if limited {
                            rare = Some(monotonic);
                        }
                        let record: Value = serde_json::from_str(&outcome.record.to_json()).unwrap();
                        prop_assert_eq!(&record["quota_remaining"], &json!(left + left_of_pack - 1));
                        open.push(Open { reservation: outcome.leases.take_quota().unwrap(), charge, began: monotonic });
                    }
                    prop_assert!(charged.values().all(|spent| *spent <= ALLOWANCE.max(PACK)));
                }
            }
        }
    }

    /// Of the requests with one idempotency key and body one is charged, unless every one of them is
    /// released, whatever comes between
    #[test]
    fn a_replay_is_charged_once_unless_all_fail(
        events in proptest::collection::vec(
            prop_oneof![
                3 => (0..3u8, 0..3u8).prop_map(|(key, body)| (Some((key, body)), 0, Ending::Unknown)),
                3 => (any::<usize>(), endings()).prop_map(|(which, ending)| (None, which, ending)),
            ],
            1..80,
        ),
    ) {
        let mut document = document();
        document["apis"]["api"]["tiers"]["plan"]["quotas"]["items"] = 1_000.into();
        let mut gate = Gate::new(&document);
        let mut store = MapStore::default();
        let moment = at(JANUARY + 10, 0);
        // By key: its body, requests under way, and whether it is paid for.
        let mut known: BTreeMap<u8, (u8, u64, bool)> = BTreeMap::new();
        let mut open: Vec<(u8, Option<Box<QuotaReservation>>)> = Vec::new();
        let mut spent = 0;
        for (ask, which, ending) in events {
            if let Some((key, body)) = ask {
                let ask = Ask::new("POST", "/orders").key("globex").with("idempotency-key", format!("k{key}"));
                let mut outcome = gate.ask(&ask.json(&json!({ "id": body })), moment, &mut store);
                let entry = known.get_mut(&key);
                if let Some((first, _, _)) = &entry && *first != body {
                    prop_assert_eq!(outcome.record.reason, Reason::IdempotencyMismatch);
                    prop_assert!(!outcome.leases.has_quota());
                    continue;
                }
                match entry {
                    Some((_, under_way, _)) => *under_way += 1,
                    None => {
                        known.insert(key, (body, 1, false));
                        spent += 1;
                    }
                }
                prop_assert_eq!(outcome.record.reason, Reason::Allowed);
                open.push((key, outcome.leases.take_quota()));
            } else if !open.is_empty() {
                let (key, reservation) = open.remove(which % open.len());
                let (_, under_way, paid) = known.get_mut(&key).unwrap();
                *under_way -= 1;
                if let Some(reservation) = reservation {
                    let settled = gate.engine.settle(*reservation, ending, moment, &mut store);
                    *paid |= pays(ending);
                    prop_assert_eq!(settled == Settled::Committed, *paid);
                } else {
                    prop_assert!(*paid, "a replay that is free for good");
                }
                if *under_way == 0 && !*paid {
                    known.remove(&key);
                    spent -= 1;
                }
            }
            let mut look = gate.ask(&Ask::new("GET", "/items").key("globex"), moment, &mut store);
            let record: Value = serde_json::from_str(&look.record.to_json()).unwrap();
            prop_assert_eq!(&record["quota_remaining"], &json!(1_000 - spent - 1));
            let back = gate.engine.settle(*look.leases.take_quota().unwrap(), Ending::NotForwarded, moment, &mut store);
            prop_assert_eq!(back, Settled::Released);
        }
    }

    /// Workers that race for the last ones: in the middle of one's update others are served, as with
    /// compare-and-set, and never is more reserved than there is
    #[test]
    fn workers_that_race_never_exceed_a_quota(
        plans in proptest::collection::vec(
            proptest::collection::vec((0..7usize, proptest::option::of(endings())), 1..6),
            1..30,
        ),
    ) {
        let document = document();
        let mut race = Race {
            map: MapStore::default(),
            gates: (0..8).map(|_| Some(Gate::new(&document))).collect(),
            plans: Vec::new(),
            open: Vec::new(),
            held: 0,
            most: 0,
        };
        for plan in plans {
            race.plans = plan;
            race.serve(7, None);
            prop_assert!(race.most <= ALLOWANCE, "{} of {ALLOWANCE}", race.most);
        }
    }

    /// Whatever stands in the place of a book, nothing panics and nobody gets more than there is
    #[test]
    fn foreign_books_grant_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        flip in proptest::option::of((any::<usize>(), 0..8u32)),
        asks in 1..ALLOWANCE,
    ) {
        let mut gate = Gate::new(&document());
        let mut store = MapStore::default();
        let ask = Ask::new("GET", "/items").key("globex");
        let moment = at(JANUARY + 10, 0);
        for _ in 0..asks {
            prop_assert_eq!(gate.ask(&ask, moment, &mut store).record.reason, Reason::Allowed);
        }
        for (key, record) in &mut store.records {
            match flip {
                Some((at, bit)) if key.len() == 16 => {
                    let at = at % record.len();
                    record[at] ^= 1 << bit;
                }
                None if key.len() == 16 => record.clone_from(&bytes),
                _ => {}
            }
        }
        let reason = gate.ask(&ask, moment, &mut store).record.reason;
        prop_assert_eq!(reason, Reason::QuotaUnavailable);
    }
}

/// Workers on one store, of which some are served while another's update is under way
struct Race {
    map: MapStore,
    gates: Vec<Option<Gate>>,
    /// Who comes between, and how an open request ends before that
    plans: Vec<(usize, Option<Ending>)>,
    open: Vec<QuotaReservation>,
    held: u64,
    most: u64,
}

impl Race {
    fn serve(&mut self, worker: usize, ending: Option<Ending>) {
        let Some(mut gate) = self.gates[worker].take() else {
            // It is the one that is in the middle of something.
            return;
        };
        let moment = at(JANUARY + 10, 0);
        if let Some(ending) = ending
            && let Some(reservation) = self.open.pop()
        {
            // What may be given back counts until it is.
            if gate.engine.settle(reservation, ending, moment, self) == Settled::Released {
                self.held -= 1;
            }
        }
        let ask = Ask::new("GET", "/items").key("globex");
        if let Some(reservation) = gate.ask(&ask, moment, self).leases.take_quota() {
            self.held += 1;
            self.open.push(*reservation);
        }
        self.most = self.most.max(self.held);
        self.gates[worker] = Some(gate);
    }
}

impl AccountStore for Race {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        for _ in 0..64 {
            let before = self.map.records.get(key).cloned();
            let mut fresh = Vec::new();
            if !change(before.as_deref(), &mut fresh) {
                return Ok(());
            }
            // Between reading and writing others come.
            if let Some((worker, ending)) = self.plans.pop() {
                self.serve(worker, ending);
            }
            if self.map.records.get(key) == before.as_ref() {
                self.map.records.insert(key.into(), fresh);
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }
}
