//! The laws of requests that wait.

use super::*;
use crate::engine::Outcome;
use crate::queue::{Hold, Queue, Release};
use crate::reason::Reason;

/// What happens next
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request of so many cells comes to a worker
    Arrive {
        worker: usize,
        cells: u64,
        rival: Option<Rival>,
    },
    /// The client of one of a worker's held requests leaves
    Leave {
        worker: usize,
        which: usize,
        rival: Option<Rival>,
    },
    /// A worker's tick
    Tick { worker: usize },
    /// A worker's VM is replaced; nobody hears of what it held any more
    Reload { worker: usize },
    /// All workers take up the other policy
    Configure,
}

/// A request to another worker, by how many further on, that slips in between a read and its write
#[derive(Clone, Copy, Debug)]
struct Rival {
    further: usize,
    cells: u64,
}

fn queued(count: u64, window: u64, burst: u64, wait: u64) -> Bucket {
    let bucket = Bucket::new(count, window, burst).unwrap();
    bucket.with_queue(wait).unwrap()
}

fn queued_buckets() -> impl Strategy<Value = Bucket> {
    prop_oneof![
        Just(queued(1_000, 60 * SECOND, 50, 2 * SECOND)),
        Just(queued(60, 60 * SECOND, 2, 5 * SECOND)),
        Just(queued(100, SECOND, 10, SECOND)),
        // Slices are taken of these.
        Just(queued(10_000, 60 * SECOND, 10_000, 500_000_000)),
        Just(queued(2_000, SECOND, 500, 2 * SECOND)),
    ]
}

/// What the two policies say of one bucket: mostly the same
fn policies() -> impl Strategy<Value = [Bucket; 2]> {
    let other = |bucket: Bucket| {
        let rated = |numerator: u64, denominator: u64, burst: u64| {
            let emission = bucket.emission() * numerator / denominator;
            queued(1, emission, burst, 3 * SECOND)
        };
        let impatient = Bucket::new(1, bucket.emission(), bucket.burst()).unwrap();
        proptest::sample::select(alloc::vec![
            bucket,
            impatient,
            rated(1, 1, bucket.burst()),
            rated(3, 1, bucket.burst()),
            rated(1, 3, bucket.burst() * 3),
            rated(1, 1, bucket.burst() * 2),
        ])
    };
    queued_buckets().prop_flat_map(move |bucket| (Just(bucket), other(bucket)).prop_map(Into::into))
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let rival = || {
        let rival = (0..7usize, 1..4u64).prop_map(|(further, cells)| Rival { further, cells });
        proptest::option::weighted(0.2, rival)
    };
    let event = prop_oneof![
        50 => (0..8usize, 1..4u64, rival())
            .prop_map(|(worker, cells, rival)| Event::Arrive { worker, cells, rival }),
        10 => (0..8usize, 0..100usize, rival())
            .prop_map(|(worker, which, rival)| Event::Leave { worker, which, rival }),
        40 => (0..8usize).prop_map(|worker| Event::Tick { worker }),
        1 => (0..8usize).prop_map(|worker| Event::Reload { worker }),
        1 => Just(Event::Configure),
    ];
    // Most of what comes comes in bursts.
    let after = prop_oneof![4 => 0..1_000_000u64, 1 => 0..300_000_000u64];
    proptest::collection::vec((after, event), 1..300)
}

struct Waiting {
    limiter: Limiter,
    queue: Queue,
    /// Streams that are held, in the order in which they came, with their cells and policy
    held: Vec<(u32, u64, usize)>,
    ticked: u64,
    /// Which policy is in force
    policy: usize,
}

/// A worker that looks at its queue at least this often: half of what a release may be late
const TICK: u64 = 25_000_000;

#[derive(Debug, Default)]
struct Tally {
    passes: Passes,
    streams: u32,
    arrived: usize,
    refused: usize,
    left: usize,
    lost: usize,
    released: usize,
    /// Those of one worker, size and policy that went before one that had come before them
    overtaken: usize,
    /// Cells that waited when the policy changed
    held_over: u64,
}

impl Waiting {
    fn new(now: u64, policy: usize) -> Self {
        Self {
            limiter: worker(16),
            queue: Queue::default(),
            held: Vec::new(),
            ticked: now,
            policy,
        }
    }

    fn tick(&mut self, now: u64, tally: &mut Tally) {
        self.ticked = now;
        while let Some((stream, release)) = self.queue.pop(now) {
            let index = self.held.iter().position(|held| held.0 == stream).unwrap();
            let (_, cells, policy) = self.held.remove(index);
            let mut before = self.held[..index].iter();
            let overtakes = before.any(|held| (held.1, held.2) == (cells, policy));
            tally.overtaken += usize::from(overtakes);
            assert!(matches!(release, Release::Continue), "{release:?}");
            tally.passes.0.push((now, cells));
            tally.released += 1;
        }
    }

    fn arrive(
        &mut self,
        policies: &[Bucket; 2],
        cells: u64,
        now: u64,
        store: &mut dyn AccountStore,
        tally: &mut Tally,
    ) {
        tally.arrived += 1;
        let charge = charge(1, &policies[self.policy], cells);
        let charged = self.limiter.charge(&charge, now, store).unwrap();
        match (charged.result, charged.held) {
            (Ok(()), None) => tally.passes.0.push((now, cells)),
            (Ok(()), Some(reservation)) => {
                assert!(reservation.until > now);
                assert!(reservation.until <= now + 5 * SECOND);
                tally.streams += 1;
                self.held.push((tally.streams, cells, self.policy));
                let late = Outcome::unavailable(Reason::RateLimited, 0).into();
                let hold = Hold {
                    reservation,
                    reply: None,
                    late,
                };
                self.queue.push(tally.streams, hold);
            }
            (Err(_), _) => tally.refused += 1,
        }
    }
}

/// Has a worker do something with the store, and another one serve a request in the midst of it
fn race(
    all: &mut [Waiting],
    at: usize,
    rival: Option<Rival>,
    store: &mut MapStore,
    tally: &mut Tally,
    serve: impl Fn(&mut Waiting, u64, &mut dyn AccountStore, &mut Tally),
    act: impl FnOnce(&mut Waiting, &mut dyn AccountStore, &mut Tally),
) {
    let mut own = core::mem::replace(&mut all[at], Waiting::new(0, 0));
    let mut others = Tally::default();
    core::mem::swap(&mut others.streams, &mut tally.streams);
    // Numbers of streams that no rival has.
    tally.streams = others.streams + 1_000_000;
    let mut slip_in = |map: &mut MapStore| {
        let Some(Rival { further, cells }) = rival else {
            return;
        };
        let other = (at + 1 + further) % all.len();
        if other != at {
            serve(&mut all[other], cells, map, &mut others);
        }
    };
    let mut racing = Racing {
        map: store,
        rival: Some(&mut slip_in),
    };
    act(&mut own, &mut racing, tally);
    all[at] = own;
    tally.passes.0.append(&mut others.passes.0);
    tally.arrived += others.arrived;
    tally.refused += others.refused;
}

fn play(policies: &[Bucket; 2], workers: usize, events: &[(u64, Event)]) -> Tally {
    let mut store = MapStore::default();
    let mut all: Vec<_> = (0..workers).map(|_| Waiting::new(FULL, 0)).collect();
    let mut tally = Tally::default();
    let mut now = FULL;
    let advance = |now: &mut u64, to: u64, all: &mut Vec<Waiting>, tally: &mut Tally| {
        // No worker stands still for longer than a tick.
        while *now < to {
            let next = all.iter().map(|own| own.ticked + TICK).min().unwrap();
            *now = to.min(next.max(*now));
            for own in all.iter_mut().filter(|own| own.ticked + TICK <= *now) {
                own.tick(*now, tally);
            }
        }
    };
    for (after, event) in events {
        let to = now + after;
        advance(&mut now, to, &mut all, &mut tally);
        let serve = |own: &mut Waiting, cells, store: &mut dyn AccountStore, tally: &mut Tally| {
            own.arrive(policies, cells, now, store, tally);
        };
        match *event {
            Event::Tick { worker } => all[worker % workers].tick(now, &mut tally),
            Event::Configure => {
                for own in &mut all {
                    own.policy ^= 1;
                    tally.held_over += own.held.iter().map(|held| held.1).sum::<u64>();
                }
            }
            Event::Reload { worker } => {
                let own = &mut all[worker % workers];
                tally.lost += own.held.len();
                *own = Waiting::new(now, own.policy);
            }
            Event::Leave {
                worker,
                which,
                rival,
            } => {
                let at = worker % workers;
                if all[at].held.is_empty() {
                    continue;
                }
                tally.left += 1;
                let leave = |own: &mut Waiting, store: &mut dyn AccountStore, _: &mut Tally| {
                    let (gone, ..) = own.held.remove(which % own.held.len());
                    let (_, free) = own.queue.leave(gone).unwrap();
                    own.limiter.give_back(&free, store);
                };
                race(&mut all, at, rival, &mut store, &mut tally, serve, leave);
            }
            Event::Arrive {
                worker,
                cells,
                rival,
            } => {
                let at = worker % workers;
                let arrive =
                    |own: &mut Waiting, store: &mut dyn AccountStore, tally: &mut Tally| {
                        serve(own, cells, store, tally);
                    };
                race(&mut all, at, rival, &mut store, &mut tally, serve, arrive);
            }
        }
    }
    let end = now + 10 * SECOND;
    advance(&mut now, end, &mut all, &mut tally);
    assert!(
        all.iter()
            .all(|own| own.held.is_empty() && own.queue.next().is_none())
    );
    tally
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// In any interval `t`, passes <= burst + floor(rate x t): whichever workers race, whoever waits, leaves or is
    /// late by less than the queue can bear, whatever VMs are replaced; where the policy changes under way, of the
    /// larger burst and the higher rate, and what waited then under another rate besides. Nobody who waits is lost
    /// but with a VM, and nobody is overtaken where the rate stays.
    #[test]
    fn the_rate_law_holds_for_those_who_wait(
        policies in policies(),
        workers in 2..=8usize,
        events in events(),
    ) {
        let tally = play(&policies, workers, &events);
        let [one, other] = &policies;
        let keeps_rate = one.emission() == other.emission();
        let besides = if keeps_rate { 0 } else { tally.held_over };
        let burst = one.burst().max(other.burst()) + besides;
        let widest = bucket(1, one.emission().min(other.emission()), burst);
        prop_assert_eq!(tally.passes.offence(&widest), None);
        prop_assert!(tally.overtaken == 0 || !keeps_rate);
        let gone = tally.refused + tally.left + tally.lost;
        prop_assert_eq!(tally.arrived, tally.passes.0.len() + gone);
    }
}

/// A queue that nobody leaves is used to the full: the rate passes, not less
#[test]
fn a_full_queue_passes_the_whole_rate() {
    let bucket = Bucket::new(1_000, 60 * SECOND, 50).unwrap();
    let bucket = bucket.with_queue(2 * SECOND).unwrap();
    // Twice the rate for twenty seconds, at two workers.
    let step = bucket.emission() / 2;
    let count = usize::try_from(20 * SECOND / step).unwrap();
    let events: Vec<_> = (0..count)
        .map(|n| {
            (
                step,
                Event::Arrive {
                    worker: n % 2,
                    cells: 1,
                    rival: None,
                },
            )
        })
        .collect();
    let tally = play(&[bucket, bucket], 2, &events);
    let offered = 20 * SECOND / bucket.emission();
    let waiting = 2 * SECOND / bucket.emission();
    let passed = u64::try_from(tally.passes.0.len()).unwrap();
    assert!(
        passed >= 50 + offered + waiting - 2,
        "{passed} of {offered}"
    );
    assert!(tally.released > 300, "{tally:?}");
    assert_eq!(tally.passes.offence(&bucket), None);
}

/// Who leaves the end of the queue gives its place back; who leaves it elsewhere lets others move up
#[test]
fn places_are_not_lost() {
    let bucket = Bucket::new(60, 60 * SECOND, 2).unwrap();
    let bucket = bucket.with_queue(5 * SECOND).unwrap();
    let mut store = MapStore::default();
    let mut limiter = worker(16);
    let mut queue = Queue::default();
    let arrive = |limiter: &mut Limiter, store: &mut MapStore| {
        limiter.charge(&charge(1, &bucket, 1), FULL, store).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(arrive(&mut limiter, &mut store).held, None);
    }
    for stream in 1..=5 {
        let reservation = arrive(&mut limiter, &mut store).held.unwrap();
        assert_eq!(reservation.until, FULL + u64::from(stream) * SECOND);
        let late = Outcome::unavailable(Reason::RateLimited, 0).into();
        queue.push(
            stream,
            Hold {
                reservation,
                reply: None,
                late,
            },
        );
    }
    assert!(
        arrive(&mut limiter, &mut store).result.is_err(),
        "six seconds are too long"
    );
    let (_, free) = queue.leave(2).unwrap();
    assert_eq!(free.until, FULL + 5 * SECOND, "the last place is free");
    limiter.give_back(&free, &mut store);
    let again = arrive(&mut limiter, &mut store).held.unwrap();
    assert_eq!(again.until, free.until);
    let mut released = Vec::new();
    for second in 1..=5 {
        while let Some((stream, _)) = queue.pop(FULL + second * SECOND) {
            released.push((second, stream));
        }
    }
    assert_eq!(released, [(1, 1), (2, 3), (3, 4), (4, 5)]);
}

/// A worker that stood still lets nothing go whose slot is over
#[test]
fn who_is_too_late_does_not_go() {
    let bucket = Bucket::new(60, 60 * SECOND, 2).unwrap();
    let bucket = bucket.with_queue(5 * SECOND).unwrap();
    let late_by = |late| {
        let mut store = MapStore::default();
        let mut limiter = worker(16);
        let mut queue = Queue::default();
        for _ in 0..2 {
            let charged = limiter.charge(&charge(1, &bucket, 1), FULL, &mut store);
            assert_eq!(charged.unwrap().held, None);
        }
        let charged = limiter.charge(&charge(1, &bucket, 1), FULL, &mut store);
        let hold = Hold {
            reservation: charged.unwrap().held.unwrap(),
            reply: None,
            late: Outcome::unavailable(Reason::RateLimited, 0).into(),
        };
        queue.push(7, hold);
        queue.pop(FULL + SECOND + late).unwrap().1
    };
    assert!(matches!(late_by(0), Release::Continue));
    assert!(matches!(late_by(SECOND), Release::Continue));
    assert!(matches!(late_by(SECOND + 1), Release::Late(_)));
}
