#![expect(
    clippy::arithmetic_side_effects,
    clippy::type_complexity,
    reason = "test code"
)]

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::callout::{Answer, Failure, Response};
use crate::engine::{Settings, Step};
use crate::key::{BundleWriter, DigestScheme, KeyDigest};
use crate::{MapStore, Reason, Request};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000 * SECOND;

fn policy() -> Rc<Policy> {
    let policy = br#"{
      "version": 1,
      "unauthenticated": { "rate": "1000000/s" },
      "probes": { "ready": "/ready" },
      "apis": { "shop": {
        "hosts": ["shop.example"],
        "keys": { "bundle": { "cluster": "keys", "path": "/shop", "refresh": "60s", "max_stale": "1h" } },
        "tiers": { "basic": { "rate": "unlimited" } },
        "routes": { "list": { "match": "GET /items" } }
      } }
    }"#;
    Rc::new(Policy::parse(policy, "main").unwrap())
}

/// A bundle of so many keys, `secret-0` and on
fn bundle(keys: usize, generated_at: u64) -> Vec<u8> {
    let mut writer = BundleWriter::new("shop", "r", generated_at, DigestScheme::Plain).unwrap();
    for number in 0..keys {
        let record = format!(r#"{{"id":"k{number}","principal":"p{number}","tier":"basic"}}"#);
        let digest = KeyDigest::of(format!("secret-{number}").as_bytes()).to_hex();
        writer.add(&digest, record.into_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// What a server of static files answers: headers and body
fn serve(file: &[u8], etag: &str, query: &Query) -> (Vec<(String, String)>, Vec<u8>) {
    let asked = |name: &str| query.headers.iter().find(|(other, _)| *other == name);
    let tag = (String::from("etag"), String::from(etag));
    let status = |status: &str| (String::from(":status"), String::from(status));
    if asked("if-none-match").is_some_and(|(_, known)| known == etag) {
        return (vec![status("304"), tag], Vec::new());
    }
    if asked("if-range").is_some_and(|(_, known)| known != etag) {
        return (vec![status("200"), tag], file.to_vec());
    }
    let (_, range) = asked("range").unwrap();
    let (from, to) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse::<usize>().unwrap().min(file.len() - 1);
    let range = format!("bytes {from}-{to}/{}", file.len());
    let headers = vec![status("206"), tag, (String::from("content-range"), range)];
    (headers, file[from..=to].to_vec())
}

struct World {
    policy: Rc<Policy>,
    engines: Vec<Engine>,
    store: MapStore,
    now: u64,
    turns: u128,
    /// The questions so far
    asked: usize,
    notices: Vec<String>,
}

impl World {
    fn new(workers: usize) -> Self {
        let settings = Settings {
            seed: [7; 16],
            born: START,
        };
        Self {
            policy: policy(),
            engines: (0..workers).map(|_| Engine::new(settings)).collect(),
            store: MapStore::default(),
            now: START,
            turns: 0,
            asked: 0,
            notices: Vec::new(),
        }
    }

    fn moment(&mut self) -> Moment {
        self.turns += 0x9e37_79b9_7f4a_7c15;
        Moment {
            monotonic: self.now,
            wall: 1_800_000_000 * SECOND,
            decision: self.turns,
        }
    }

    /// A turn of one worker, whose questions are answered so
    fn turn(
        &mut self,
        worker: usize,
        answer: &mut dyn FnMut(&Query) -> Option<(Vec<(String, String)>, Vec<u8>)>,
    ) {
        let moment = self.moment();
        let engine = &mut self.engines[worker];
        let supply = engine.supply(&self.policy, moment, &mut self.store);
        self.notices
            .extend(supply.notices.into_iter().map(|notice| notice.text));
        for (call, query) in supply.calls {
            self.asked += 1;
            let came = answer(&query);
            let headers: Vec<(&[u8], &[u8])> = came
                .iter()
                .flat_map(|(headers, _)| headers)
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect();
            let answer = match &came {
                Some((_, body)) => Answer::Response(Response {
                    headers: &headers,
                    body,
                }),
                None => Answer::Failed(Failure::Broken),
            };
            engine.answered(call, &answer, moment.monotonic);
            assert!(!engine.has_answered());
        }
    }

    /// Lets all workers have turns for a while
    fn run(&mut self, seconds: u64, file: &[u8], etag: &str) {
        for _ in 0..seconds * 10 {
            self.now += SECOND / 10;
            for worker in 0..self.engines.len() {
                self.turn(worker, &mut |query| Some(serve(file, etag, query)));
            }
        }
    }

    fn reason(&mut self, worker: usize, path: &str, key: &str) -> Reason {
        let credential = format!("Bearer {key}");
        let request = Request {
            headers: &[
                (b":method", b"GET"),
                (b":path", path.as_bytes()),
                (b":authority", b"shop.example"),
                (b"authorization", credential.as_bytes()),
            ],
            client: Some(None),
            end_of_stream: true,
        };
        let moment = self.moment();
        let policy = Rc::clone(&self.policy);
        match self.engines[worker].on_headers(&policy, &request, moment, &mut self.store) {
            Step::Decided(outcome) => outcome.record.reason,
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn one_fetches_and_all_adopt() {
    let mut world = World::new(3);
    assert_eq!(world.reason(0, "/ready", "x"), Reason::NotReady);
    assert_eq!(
        world.reason(1, "/items", "secret-0"),
        Reason::KeyServiceUnavailable
    );
    let file = bundle(2000, 1);
    let pages = file.len().div_ceil(64 * 1024);
    assert!(pages > 2);
    world.run(5, &file, "\"a\"");
    assert_eq!(world.asked, pages, "{:?}", world.notices);
    for worker in 0..3 {
        assert_eq!(world.reason(worker, "/ready", "x"), Reason::Ready);
        assert_eq!(
            world.reason(worker, "/items", "secret-1999"),
            Reason::Allowed
        );
        assert_eq!(
            world.reason(worker, "/items", "secret-2000"),
            Reason::KeyUnknown
        );
    }
    // The same file is one question a refresh, with its tag.
    world.run(70, &file, "\"a\"");
    assert_eq!(world.asked, pages + 1);
    // Another one is adopted, and the pages of the first are given back.
    let fewer = bundle(1999, 2);
    world.run(140, &fewer, "\"b\"");
    for worker in 0..3 {
        assert_eq!(
            world.reason(worker, "/items", "secret-1999"),
            Reason::KeyUnknown
        );
        assert_eq!(world.reason(worker, "/items", "secret-0"), Reason::Allowed);
    }
    let held: usize = world.store.records.values().map(Vec::len).sum();
    assert!(held < fewer.len() + 1024, "{held}");
}

#[test]
fn the_last_good_one_goes_on_until_it_is_stale() {
    let mut world = World::new(2);
    world.run(2, &bundle(10, 5), "\"a\"");
    let away = |world: &mut World, seconds: u64| {
        for _ in 0..seconds {
            world.now += SECOND;
            for worker in 0..2 {
                world.turn(worker, &mut |_| None);
            }
        }
    };
    away(&mut world, 3500);
    assert_eq!(world.reason(0, "/items", "secret-3"), Reason::Allowed);
    away(&mut world, 200);
    for worker in 0..2 {
        assert_eq!(
            world.reason(worker, "/items", "secret-3"),
            Reason::KeysStale
        );
        assert_eq!(world.reason(worker, "/items", "other"), Reason::KeysStale);
        assert_eq!(world.reason(worker, "/ready", "x"), Reason::Ready);
    }
    // An older bundle is not gone back to; a newer one is good at once.
    world.run(120, &bundle(10, 4), "\"b\"");
    assert_eq!(world.reason(0, "/items", "secret-3"), Reason::KeysStale);
    world.run(120, &bundle(10, 6), "\"c\"");
    assert_eq!(world.reason(1, "/items", "secret-3"), Reason::Allowed);
}

#[test]
fn who_dies_with_the_lease_is_relieved() {
    let mut world = World::new(2);
    // It asks, and is never heard of again.
    let moment = world.moment();
    for _ in 0..2 {
        let _: Supply = world.engines[0].supply(&world.policy, moment, &mut world.store);
    }
    let file = bundle(10, 1);
    for _ in 0..20 {
        world.now += SECOND;
        world.turn(1, &mut |query| Some(serve(&file, "\"a\"", query)));
    }
    assert_eq!(world.reason(1, "/items", "secret-3"), Reason::Allowed);
}

#[test]
fn a_file_that_changes_on_its_way_is_fetched_anew() {
    let mut world = World::new(1);
    let (one, two) = (bundle(2000, 1), bundle(2000, 2));
    let mut questions = 0;
    for _ in 0..300 {
        world.now += SECOND / 10;
        world.turn(0, &mut |query| {
            questions += 1;
            let (file, etag) = if questions < 3 {
                (&one, "\"a\"")
            } else {
                (&two, "\"b\"")
            };
            Some(serve(file, etag, query))
        });
    }
    assert_eq!(world.reason(0, "/items", "secret-1999"), Reason::Allowed);
    let changed = world.notices.iter().filter(|text| text.contains("changed"));
    assert_eq!(changed.count(), 1, "{:?}", world.notices);
}

proptest! {
    /// Whatever a source says, in whatever order: what is in force stays, and nothing traps.
    #[test]
    fn a_hostile_source_takes_nothing_away(
        answers in proptest::collection::vec(
            (0..9_u8, any::<prop::sample::Index>(), any::<u8>()), 1..60,
        ),
    ) {
        let mut world = World::new(2);
        let good = bundle(700, 5);
        world.run(3, &good, "\"a\"");
        let mut answers = answers.into_iter().cycle();
        for turn in 0..400 {
            world.now += SECOND;
            world.turn(turn % 2, &mut |query| {
                let (kind, index, byte) = answers.next().unwrap();
                let other = bundle(700, 6);
                let (mut headers, mut body) = serve(&other, "\"b\"", query);
                match kind {
                    0 => return None,
                    1 => headers[0].1 = format!("{}", 100 + u16::from(byte) * 2),
                    2 => { let at = index.index(headers.len()); headers.remove(at); }
                    3 => { let at = index.index(headers.len()); headers.push(headers[at].clone()); }
                    4 if !body.is_empty() => { let at = index.index(body.len()); body[at] ^= byte | 1; }
                    5 => body.truncate(index.index(body.len() + 1)),
                    6 => body.push(byte),
                    7 => headers.last_mut().unwrap().1 = format!("bytes {byte}-{}/99999999999", u64::MAX),
                    _ => body = vec![byte; index.index(200_000)],
                }
                Some((headers, body))
            });
        }
        for worker in 0..2 {
            prop_assert_eq!(world.reason(worker, "/items", "secret-3"), Reason::Allowed);
            prop_assert_eq!(world.reason(worker, "/items", "none"), Reason::KeyUnknown);
        }
    }
}
