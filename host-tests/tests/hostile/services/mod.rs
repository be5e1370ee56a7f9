//! A key service, a file of keys and a list of domains that answer what they like, when they like: whole, cut,
//! flipped, too long, with the wrong status or entity tag, twice, late, or never, also after whoever asked
//! has gone. Nothing traps, nobody waits for ever, and nobody is told what no service has said.
//!
//! The same sequences in every run. `HOSTILE_SEQUENCES=n` plays another number of them, `HOSTILE_SEED=n` one
//! alone; a failure prints its seed and its events.

mod answers;
mod play;

use std::{collections::BTreeMap, env, time::Duration};

use portcullis_host::{CalloutReply, LogLevel, Settings, Side, StreamId, StreamState, Worker};

use crate::{demo::Demo, shipped};
use answers::{Door, Knowledge};
use play::Play;

const SEQUENCES: u64 = 500;

/// What happened in all sequences: a test in which nothing happens shows nothing.
type Tally = BTreeMap<&'static str, u64>;

#[test]
fn whatever_services_say_nobody_waits_for_ever_or_is_told_what_nobody_said() {
    let asked = |name: &str| env::var(name).ok().map(|value| value.parse().unwrap());
    let seeds = match asked("HOSTILE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("HOSTILE_SEQUENCES").unwrap_or(SEQUENCES),
    };
    let module = shipped::module().unwrap();
    let knowledge = Knowledge::new();
    let mut tally = Tally::new();
    let many = seeds.end - seeds.start >= SEQUENCES;
    for seed in seeds {
        Play::new(&module, &knowledge, seed, &mut tally).run();
    }
    for (what, count) in &tally {
        println!("{count:8} {what}");
        assert!(!many || *count >= 100, "{what}: only {count}");
    }
    assert!(!many || tally.len() == play::ALL, "{tally:?}");
}

/// Whoever asks takes a place; past so many, or so many bytes, a request is decided without an answer, and all
/// that waited are when the host has forgotten the call.
#[test]
fn requests_that_wait_are_bounded_and_leave_nothing_behind() {
    const MANY: u32 = 1500;
    const PLACES: usize = 1024;
    const BYTES: usize = 4 << 20;
    const PAGE: usize = 1 << 16;
    let long = format!("/items?{}", "x".repeat(8000));
    let mut demo = Demo::with(
        Settings {
            log_level: LogLevel::Critical,
            environment: portcullis_corpus::environment(),
            trace: false,
            ..Settings::default()
        },
        &play::plugin(&Knowledge::new(), 0),
    );
    demo.world
        .on(play::SERVICE, CalloutReply::Silence, Duration::ZERO);
    for (path, least, most) in [
        ("/items", PLACES, PLACES),
        (&*long, BYTES / 8000 / 2, BYTES / 8000),
    ] {
        let mut peaks = Vec::new();
        for _ in 0..16 {
            let (root, worker) = (demo.root, demo.world.worker(0).unwrap());
            let streams: Vec<_> = (0..MANY)
                .map(|_| {
                    let id = worker.open(root, &[]).unwrap();
                    let headers = play::request(Door::Looked, "GET", path, 0);
                    worker.headers(id, Side::Request, headers, true).unwrap();
                    id
                })
                .collect();
            let held = |worker: &mut Worker| {
                let is_held = |id: &&StreamId| worker.state(**id) == Ok(StreamState::Held);
                streams.iter().filter(is_held).count()
            };
            let waiting = held(worker);
            assert!(least <= waiting && waiting <= most, "{path:.9}: {waiting}");
            let calls = demo.world.callouts();
            let keys = calls.iter().filter(|call| play::is_of_a_key(call));
            let [lost] = &keys.collect::<Vec<_>>()[..] else {
                panic!("{calls:?}")
            };
            // Some leave before, and leave their places to others.
            let worker = demo.worker();
            let mut left = Vec::new();
            for id in streams.iter().step_by(3) {
                if worker.state(*id) == Ok(StreamState::Held) {
                    worker.disconnect(*id).unwrap();
                    left.push(*id);
                }
            }
            let late = {
                let root = demo.root;
                let worker = demo.world.worker(0).unwrap();
                let id = worker.open(root, &[]).unwrap();
                let headers = play::request(Door::Looked, "GET", path, 0);
                worker.headers(id, Side::Request, headers, true).unwrap();
                id
            };
            assert_eq!(demo.worker().state(late), Ok(StreamState::Held));
            demo.world.lose(lost.id).unwrap();
            demo.world.advance(Duration::from_secs(1));
            let worker = demo.worker();
            assert_eq!(held(worker), 0, "{path:.9}");
            for id in streams.into_iter().chain([late]) {
                let response = worker.result(id).unwrap().response;
                let status = response.map(|response| response.status());
                assert_eq!(status, (!left.contains(&id)).then_some(503));
                worker.forget(id).unwrap();
            }
            assert_eq!(worker.traps(), []);
            peaks.push(worker.memory());
            // The breaker is not what this is about.
            demo.world.advance(Duration::from_secs(3));
        }
        // A torn heap grows by a page now and then; were a tenth of a round's requests to stay, it would be more.
        assert!(peaks[15] - peaks[3] <= 3 * PAGE, "{peaks:?}");
    }
}
