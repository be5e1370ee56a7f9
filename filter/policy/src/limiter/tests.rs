//! The laws of limits, for several workers that race, against naive models.
#![expect(clippy::arithmetic_side_effects, reason = "test code")]

mod queue;

use alloc::vec::Vec;
use core::num::{NonZeroU32, NonZeroUsize};
use core::time::Duration;
use std::collections::BTreeMap;

use governor::clock::{Clock, FakeRelativeClock};
use governor::{Quota, RateLimiter};
use lru::LruCache;
use proptest::prelude::*;

use super::{Charge, Limiter};
use crate::account::{AccountKey, AccountStore, Change, MapStore, StoreError};
use crate::bucket::{Bucket, Refused};

const SECOND: u64 = 1_000_000_000;
const BORN: u64 = 1_000 * SECOND;
/// So long after the store began that every bucket is full
const FULL: u64 = BORN + 1_000_000 * SECOND;

/// From this burst on workers may take slices
const SLICED: u64 = 2 * super::HORIZON_SHARE;

/// A naive model: every pass there was, as instant and cells
#[derive(Debug, Default)]
struct Passes(Vec<(u64, u64)>);

impl Passes {
    /// The first interval with more passes than burst + floor(rate x t), as its two ends, the
    /// passes in it and the most that there may be
    fn offence(&self, bucket: &Bucket) -> Option<(u64, u64, u64, u64)> {
        let mut passes = self.0.clone();
        passes.sort_unstable();
        for (index, &(from, _)) in passes.iter().enumerate() {
            let mut passed = 0u64;
            let mut rest = passes[index..].iter().peekable();
            while let Some(&(to, cells)) = rest.next() {
                passed += cells;
                if rest.peek().is_some_and(|(next, _)| *next == to) {
                    continue;
                }
                let most = bucket.burst() + (to - from) / bucket.emission();
                if passed > most {
                    return Some((from, to, passed, most));
                }
            }
        }
        None
    }
}

/// A store in which one update of another worker slips between the next read and its write
struct Racing<'a> {
    map: &'a mut MapStore,
    rival: Option<&'a mut dyn FnMut(&mut MapStore)>,
}

impl AccountStore for Racing<'_> {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        loop {
            let record = self.map.records.get(key).cloned();
            let mut fresh = Vec::new();
            if !change(record.as_deref(), &mut fresh) {
                return Ok(());
            }
            if let Some(rival) = self.rival.take() {
                rival(self.map);
            }
            // Compare and set.
            if self.map.records.get(key) == record.as_ref() {
                self.map.records.insert(key.into(), fresh);
                return Ok(());
            }
        }
    }
}

/// One request
#[derive(Clone, Copy, Debug)]
struct Arrival {
    worker: usize,
    account: usize,
    /// Nanoseconds since the one before
    after: u64,
    /// Nanoseconds by which the worker read its clock before it got at the store
    early: u64,
    cells: u64,
    /// What slips in at another worker, by how many workers further on
    rival: Option<(usize, Rival)>,
    /// Whether the worker's VM was replaced just before
    reloaded: bool,
}

/// Requests to another worker that slip in between a read and its write
#[derive(Clone, Copy, Debug)]
enum Rival {
    One {
        cells: u64,
    },
    /// Requests until nothing is left
    Drain,
}

#[derive(Clone, Debug)]
struct Scenario {
    bucket: Bucket,
    workers: usize,
    /// Accounts that each worker remembers
    capacity: usize,
    max_accounts: u64,
    arrivals: Vec<Arrival>,
}

fn bucket(count: u64, window: u64, burst: u64) -> Bucket {
    Bucket::new(count, window, burst).unwrap()
}

/// Buckets of all sizes, of which many are large enough for slices
fn buckets() -> impl Strategy<Value = Bucket> {
    prop_oneof![
        Just(bucket(1_000, 60 * SECOND, 50)),
        Just(bucket(10_000, 60 * SECOND, 10_000)),
        Just(bucket(1_000_000_000, SECOND, 1_000)),
        (1u64..20, 1u64..60, 1u64..20).prop_map(|(count, seconds, burst)| bucket(
            count,
            seconds * SECOND,
            burst
        )),
        (10_000u64..10_000_000, 128u64..5_000)
            .prop_map(|(emission, burst)| bucket(1, emission, burst)),
    ]
}

fn arrival(bucket: Bucket) -> impl Strategy<Value = Arrival> {
    let emission = bucket.emission();
    let tolerance = bucket.tolerance();
    let after = prop_oneof![
        6 => Just(0),
        4 => 0..=emission,
        2 => 0..=emission.saturating_mul(8),
        1 => 0..=(tolerance / 64).min(SECOND / 2),
        1 => 0..=tolerance / 4,
    ];
    let cells = prop_oneof![
        8 => Just(1),
        2 => 1..=8u64,
        1 => 1..=bucket.burst().max(2) / 2,
    ];
    let rival = prop_oneof![
        4 => (1..=bucket.burst()).prop_map(|cells| Rival::One { cells }),
        1 => Just(Rival::Drain),
    ];
    let rival = proptest::option::weighted(0.1, (0..7usize, rival));
    (
        (0..8usize, prop_oneof![4 => Just(0), 1 => 0..4usize]),
        after,
        prop_oneof![3 => Just(0), 1 => 0..=emission.min(2_000_000)],
        cells,
        rival,
        proptest::bool::weighted(0.02),
    )
        .prop_map(
            |((worker, account), after, early, cells, rival, reloaded)| Arrival {
                worker,
                account,
                after,
                early,
                cells,
                rival,
                reloaded,
            },
        )
}

fn scenarios(max_accounts: impl Strategy<Value = u64>) -> impl Strategy<Value = Scenario> {
    (buckets(), 1..=8usize, 1..=4usize, max_accounts).prop_flat_map(
        |(bucket, workers, capacity, max_accounts)| {
            proptest::collection::vec(arrival(bucket), 1..250).prop_map(move |arrivals| Scenario {
                bucket,
                workers,
                capacity,
                max_accounts,
                arrivals,
            })
        },
    )
}

fn account(index: usize) -> AccountKey {
    AccountKey::of_principal("main", "api", &std::format!("principal {index}"))
}

fn charge(index: usize, bucket: &Bucket, cells: u64) -> Charge<'_> {
    Charge {
        account: account(index),
        bucket,
        cells,
        max_accounts: u64::MAX,
    }
}

fn worker(capacity: usize) -> Limiter {
    Limiter {
        locals: LruCache::new(NonZeroUsize::new(capacity).unwrap()),
        born: BORN,
    }
}

/// A worker and its clock, which never goes back
struct Worker {
    limiter: Limiter,
    now: u64,
}

impl Worker {
    fn new(capacity: usize) -> Self {
        Self {
            limiter: worker(capacity),
            now: 0,
        }
    }

    fn charge(&mut self, charge: &Charge<'_>, now: u64, store: &mut dyn AccountStore) -> bool {
        self.now = self.now.max(now);
        let charged = self.limiter.charge(charge, self.now, store).unwrap();
        charged.result.is_ok()
    }
}

/// Plays a scenario, and returns the passes of each account
fn play(scenario: &Scenario, bucket_at: impl Fn(usize) -> Bucket) -> BTreeMap<usize, Passes> {
    let mut store = MapStore::default();
    let mut workers: Vec<_> = (0..scenario.workers)
        .map(|_| Worker::new(scenario.capacity))
        .collect();
    let mut passes: BTreeMap<usize, Passes> = BTreeMap::new();
    let mut now = FULL;
    for (index, arrival) in scenario.arrivals.iter().enumerate() {
        now += arrival.after;
        let bucket = bucket_at(index);
        let charge = |cells| Charge {
            max_accounts: scenario.max_accounts,
            ..charge(arrival.account, &bucket, cells)
        };
        let at = arrival.worker % workers.len();
        let mut own = core::mem::replace(&mut workers[at], Worker::new(1));
        if arrival.reloaded {
            own.limiter = worker(scenario.capacity);
        }
        let mut rival_passes = Vec::new();
        let mut slip_in = |map: &mut MapStore| {
            let Some((offset, rival)) = arrival.rival else {
                return;
            };
            let other = (at + 1 + offset) % workers.len();
            if other == at {
                return;
            }
            let most = match rival {
                Rival::One { cells } => cells,
                Rival::Drain => bucket.burst(),
            };
            let costs = core::iter::successors(Some(most), |cells| Some(cells / 2));
            for cells in costs.take_while(|cells| *cells > 0) {
                if workers[other].charge(&charge(cells), now, map) {
                    rival_passes.push((workers[other].now, cells));
                }
                if let Rival::One { .. } = rival {
                    return;
                }
            }
        };
        let mut racing = Racing {
            map: &mut store,
            rival: Some(&mut slip_in),
        };
        let passed = own.charge(&charge(arrival.cells), now - arrival.early, &mut racing);
        let account = passes.entry(arrival.account).or_default();
        account.0.extend(passed.then_some((own.now, arrival.cells)));
        account.0.extend(rival_passes);
        workers[at] = own;
    }
    passes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// In any interval `t`, passes <= burst + floor(rate x t): whatever workers race for an account,
    /// forget it, or are replaced
    #[test]
    fn the_rate_law_holds(scenario in scenarios(Just(u64::MAX))) {
        for passes in play(&scenario, |_| scenario.bucket).values() {
            prop_assert_eq!(passes.offence(&scenario.bucket), None);
        }
    }

    /// The same where there are more accounts than there may be
    #[test]
    fn the_rate_law_holds_in_overflow_slots(mut scenario in scenarios(1..4u64)) {
        scenario.arrivals.iter_mut().for_each(|arrival| arrival.rival = None);
        for passes in play(&scenario, |_| scenario.bucket).values() {
            prop_assert_eq!(passes.offence(&scenario.bucket), None);
        }
    }
}

/// A pace at which numbers repeat after a long while only
fn scatter(random: &mut u64) -> usize {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    usize::try_from(*random >> 33).unwrap()
}

/// In saturation, at twice the rate and more, a full bucket gives at least 98 % of what the law
/// allows in a minute, whether slices are in use or not
#[test]
fn saturation_uses_what_the_law_allows() {
    for (bucket, times) in [
        (bucket(1_000, 60 * SECOND, 50), 2),
        (bucket(1_000, 60 * SECOND, 50), 8),
        (bucket(10_000, 60 * SECOND, 10_000), 2),
        (bucket(10_000, 60 * SECOND, 10_000), 5),
    ] {
        let law = bucket.burst() + bucket.count();
        let requests = bucket.count() * times;
        for workers in [1, 2, 4, 16] {
            let mut store = MapStore::default();
            let mut workers: Vec<_> = (0..workers).map(|_| Worker::new(8)).collect();
            let (mut passed, mut random) = (0, 1);
            for index in 0..=requests {
                let at = scatter(&mut random) % workers.len();
                let charge = charge(0, &bucket, 1);
                let now = FULL + index * 60 * SECOND / requests;
                passed += u64::from(workers[at].charge(&charge, now, &mut store));
            }
            let spread = workers.len();
            assert!(passed <= law, "{spread} workers: {passed} of {law}");
            assert!(
                passed * 100 >= law * 98,
                "{spread} workers: {passed} of {law}"
            );
        }
    }
}

/// A stretch of time: at what share of its rate a client calls, how many times, and how many
/// requests it then makes at once
#[derive(Clone, Copy, Debug)]
struct Stretch {
    percent: u64,
    requests: u64,
    at_once: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A client that keeps below its rate, with bursts of up to half of its bucket, is never refused
    #[test]
    fn a_client_below_its_rate_is_never_refused(
        bucket in buckets(),
        workers in 1..=8usize,
        stretches in proptest::collection::vec(
            (5..=95u64, 0..2_000u64, 0..=100u64)
                .prop_map(|(percent, requests, at_once)| Stretch { percent, requests, at_once }),
            1..12,
        ),
        seed: u64,
    ) {
        // What the client may offer: 95 % of the rate, half of the burst.
        let emission = bucket.emission() * 20 / 19 + 1;
        let offered = Bucket::new(1, emission, (bucket.burst() / 2).max(1)).unwrap();
        let mut store = MapStore::default();
        let mut workers: Vec<_> = (0..workers).map(|_| Worker::new(8)).collect();
        let (mut now, mut tat, mut random) = (FULL, 0, seed);
        let mut offer = |now: u64| {
            let Ok(next) = offered.charge(tat, now, 1) else {
                return true;
            };
            tat = next;
            let at = scatter(&mut random) % workers.len();
            workers[at].charge(&charge(0, &bucket, 1), now, &mut store)
        };
        for stretch in stretches {
            for _ in 0..stretch.requests {
                now += bucket.emission() * 100 / stretch.percent;
                prop_assert!(offer(now));
            }
            for _ in 0..offered.burst() * stretch.at_once / 100 {
                prop_assert!(offer(now));
            }
        }
    }
}

/// Scenarios in which the policy changes, with its second bucket and the arrival that is the first
/// to see it
fn reloads() -> impl Strategy<Value = (Scenario, Bucket, usize)> {
    let rate = prop_oneof![
        (1u64..20).prop_map(|slower| (slower, 1)),
        (1u64..20).prop_map(|faster| (1, faster)),
    ];
    (buckets(), rate, 1..=8usize, 1..3u64).prop_flat_map(|(bucket, rate, workers, smaller)| {
        let emission = (bucket.emission() * rate.0 / rate.1).max(1);
        let other = Bucket::new(1, emission, bucket.burst().div_ceil(smaller)).unwrap();
        let arrivals = proptest::collection::vec(arrival(bucket), 1..250);
        (arrivals, 1..250usize).prop_map(move |(arrivals, reload)| {
            let scenario = Scenario {
                bucket,
                workers,
                capacity: 4,
                max_accounts: u64::MAX,
                arrivals,
            };
            (scenario, other, reload)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A reload never refills a bucket: over both policies, in any interval `t`,
    /// passes <= the larger burst + floor(the higher rate x t)
    #[test]
    fn a_reload_never_refills((scenario, after, reload) in reloads()) {
        let before = scenario.bucket;
        let burst = before.burst().max(after.burst());
        let widest = bucket(1, before.emission().min(after.emission()), burst);
        let at = |index| if index < reload { before } else { after };
        for passes in play(&scenario, at).values() {
            prop_assert_eq!(passes.offence(&widest), None);
        }
    }

    /// One worker decides as `governor` does, and a refusal says exactly when the same request passes
    #[test]
    fn one_worker_agrees_with_governor(
        (emission, burst) in prop_oneof![
            (1..10 * SECOND, 1..100u32),
            (1..1_000_000u64, 1..3u32),
        ],
        arrivals in proptest::collection::vec((0..4u64, 0..=1_000u64, 1..6u32), 1..100),
    ) {
        let ours = bucket(1, emission, burst.into());
        let quota = Quota::with_period(Duration::from_nanos(emission)).unwrap();
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(
            quota.allow_burst(NonZeroU32::new(burst).unwrap()),
            clock.clone(),
        );
        let mut store = MapStore::default();
        let mut limiter = worker(4);
        let mut now = FULL;
        for (whole, part, cells) in arrivals {
            let after = whole * emission + emission * part / 1_000;
            now += after;
            clock.advance(Duration::from_nanos(after));
            let charge = charge(0, &ours, cells.into());
            let result = limiter.charge(&charge, now, &mut store).unwrap().result;
            let expected = match theirs.check_n(NonZeroU32::new(cells).unwrap()) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(not_until)) => Err(Some(not_until.wait_time_from(clock.now()))),
                Err(_never) => Err(None),
            };
            match expected {
                Ok(()) => prop_assert_eq!(result, Ok(())),
                Err(None) => prop_assert!(result.is_err()),
                Err(Some(wait)) => {
                    let retry_after = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert_eq!(result, Err(Refused { retry_after }));
                    let again = |now| worker(4).charge(&charge, now, &mut store.clone()).unwrap();
                    let too_early = again(now + retry_after - 1);
                    prop_assert_eq!(too_early.result, Err(Refused { retry_after: 1 }));
                    prop_assert_eq!(again(now + retry_after).result, Ok(()));
                }
            }
        }
    }

    /// A refused request charges nothing: the store stays as it is, and everybody else's requests
    /// are decided as if it had never come
    #[test]
    fn a_refused_request_charges_nothing(
        scenario in scenarios(Just(u64::MAX))
            .prop_filter("exact buckets", |scenario| scenario.bucket.burst() < SLICED)
    ) {
        let mut store = MapStore::default();
        let mut limiter = worker(scenario.capacity);
        let mut untouched = (MapStore::default(), worker(scenario.capacity));
        let mut now = FULL;
        for arrival in &scenario.arrivals {
            now += arrival.after;
            let charge = charge(arrival.account, &scenario.bucket, arrival.cells);
            let before = store.records.clone();
            let charged = limiter.charge(&charge, now, &mut store).unwrap();
            if charged.result.is_err() {
                prop_assert_eq!(&store.records, &before);
                continue;
            }
            let alone = untouched.1.charge(&charge, now, &mut untouched.0).unwrap();
            prop_assert_eq!(alone.result, Ok(()));
            prop_assert_eq!(&store.records, &untouched.0.records);
            prop_assert_eq!(charged.standing, alone.standing);
        }
    }

    /// A peek tells what a charge would bring, and leaves no trace
    #[test]
    fn a_peek_tells_the_truth_and_charges_nothing(scenario in scenarios(Just(u64::MAX))) {
        let mut store = MapStore::default();
        let mut workers: Vec<_> =
            (0..scenario.workers).map(|_| worker(scenario.capacity)).collect();
        let mut now = FULL;
        for arrival in &scenario.arrivals {
            now += arrival.after;
            let limiter = &mut workers[arrival.worker % scenario.workers];
            let charge = charge(arrival.account, &scenario.bucket, arrival.cells);
            let before = store.records.clone();
            let peeked = limiter.peek(&charge, now, &mut store).unwrap();
            prop_assert_eq!(&store.records, &before);
            let charged = limiter.charge(&charge, now, &mut store).unwrap();
            prop_assert_eq!(peeked.result.is_ok(), charged.result.is_ok());
        }
    }
}
