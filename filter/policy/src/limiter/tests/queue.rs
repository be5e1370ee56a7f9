//! The laws of requests that wait.

use super::*;
use crate::engine::Outcome;
use crate::queue::{Hold, Queue, Release};
use crate::reason::Reason;

/// What happens next
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request of so many cells comes to a worker
    Arrive { worker: usize, cells: u64 },
    /// The client of one of a worker's held requests leaves
    Leave { worker: usize, which: usize },
    /// A worker's tick
    Tick { worker: usize },
}

fn queued_buckets() -> impl Strategy<Value = Bucket> {
    let bucket = |count, window, burst, wait| {
        let bucket = Bucket::new(count, window, burst).unwrap();
        bucket.with_queue(wait).unwrap()
    };
    prop_oneof![
        Just(bucket(1_000, 60 * SECOND, 50, 2 * SECOND)),
        Just(bucket(60, 60 * SECOND, 2, 5 * SECOND)),
        Just(bucket(100, SECOND, 10, SECOND)),
        Just(bucket(10_000, 60 * SECOND, 10_000, 500_000_000)),
    ]
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        5 => (0..8usize, 1..4u64).prop_map(|(worker, cells)| Event::Arrive { worker, cells }),
        1 => (0..8usize, 0..100usize).prop_map(|(worker, which)| Event::Leave { worker, which }),
        4 => (0..8usize).prop_map(|worker| Event::Tick { worker }),
    ];
    // Most of what comes comes in bursts.
    let after = prop_oneof![4 => 0..1_000_000u64, 1 => 0..300_000_000u64];
    proptest::collection::vec((after, event), 1..300)
}

struct Waiting {
    limiter: Limiter,
    queue: Queue,
    /// Streams that are held, in the order in which they came
    held: Vec<(u32, u64)>,
    ticked: u64,
}

/// A worker that looks at its queue at least this often: half of what a release may be late
const TICK: u64 = 25_000_000;

#[derive(Debug, Default)]
struct Tally {
    passes: Passes,
    arrived: usize,
    refused: usize,
    left: usize,
    released: usize,
}

impl Waiting {
    fn tick(&mut self, now: u64, tally: &mut Tally) {
        self.ticked = now;
        while let Some((stream, release)) = self.queue.pop(now) {
            let index = self.held.iter().position(|(id, _)| *id == stream).unwrap();
            let (_, cells) = self.held.remove(index);
            // Those of one size go in the order in which they came.
            assert!(self.held[..index].iter().all(|(_, other)| *other != cells));
            assert!(matches!(release, Release::Continue), "{release:?}");
            tally.passes.0.push((now, cells));
            tally.released += 1;
        }
    }
}

fn play(bucket: &Bucket, workers: usize, events: &[(u64, Event)]) -> (Tally, u64) {
    let mut store = MapStore::default();
    let mut all: Vec<_> = (0..workers)
        .map(|_| Waiting {
            limiter: worker(16),
            queue: Queue::default(),
            held: Vec::new(),
            ticked: FULL,
        })
        .collect();
    let mut tally = Tally::default();
    let mut now = FULL;
    let mut stream = 0;
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
        match *event {
            Event::Tick { worker } => all[worker % workers].tick(now, &mut tally),
            Event::Leave { worker, which } => {
                let own = &mut all[worker % workers];
                if own.held.is_empty() {
                    continue;
                }
                let (gone, _) = own.held.remove(which % own.held.len());
                let (_, free) = own.queue.leave(gone).unwrap();
                own.limiter.give_back(&free, &mut store);
                tally.left += 1;
            }
            Event::Arrive { worker, cells } => {
                let own = &mut all[worker % workers];
                tally.arrived += 1;
                let charge = charge(1, bucket, cells);
                let charged = own.limiter.charge(&charge, now, &mut store).unwrap();
                match (charged.result, charged.held) {
                    (Ok(()), None) => tally.passes.0.push((now, cells)),
                    (Ok(()), Some(reservation)) => {
                        assert!(reservation.until > now);
                        assert!(reservation.until <= now + 5 * SECOND);
                        stream += 1;
                        own.held.push((stream, cells));
                        let late = Outcome::unavailable(Reason::RateLimited, 0).into();
                        let hold = Hold {
                            reservation,
                            reply: None,
                            late,
                        };
                        own.queue.push(stream, hold);
                    }
                    (Err(_), _) => tally.refused += 1,
                }
            }
        }
    }
    let end = now + 10 * SECOND;
    advance(&mut now, end, &mut all, &mut tally);
    assert!(
        all.iter()
            .all(|own| own.held.is_empty() && own.queue.next().is_none())
    );
    (tally, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// In any interval `t`, passes <= burst + floor(rate x t): whoever waits, leaves or is late by
    /// less than the queue can bear; and nobody who waits is lost
    #[test]
    fn the_rate_law_holds_for_those_who_wait(
        bucket in queued_buckets(),
        workers in 1..8usize,
        events in events(),
    ) {
        let (tally, _) = play(&bucket, workers, &events);
        prop_assert_eq!(tally.passes.offence(&bucket), None);
        prop_assert_eq!(tally.arrived, tally.passes.0.len() + tally.refused + tally.left);
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
                },
            )
        })
        .collect();
    let (tally, _) = play(&bucket, 2, &events);
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
