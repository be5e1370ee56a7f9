//! `--lookup`: a key service that goes away, is slow, talks nonsense and flaps, while callers with keys that the
//! gate knows, with keys that it does not know yet, and with keys that nobody has go about their business.
//!
//! What is looked for: a known key is never refused; a key that the gate does not know yet is 503 or good and
//! never 401; a wrong one is 401 only where the service has said so; nothing waits beyond its deadline; a
//! service that fails is left alone, and asked again when it is back; memory stays; no VM dies.
//!
//! Digests are made under two peppers, as they are while one takes over from the other: half of the keys have one
//! under the newest, so that one question is enough, half have one under the older.

mod peppers;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis_corpus::envoy::config::named_cluster;
use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::process;
use xtask::workspace::Workspace;

use crate::bootstrap;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::key_service::{KeyService, Mood, RECORDS};
use crate::module;
use crate::options::Lookup;
use crate::placement::Placement;
use crate::policy::{self, BAD, GOOD};
use crate::scratch::Scratch;
use peppers::Peppers;

const WORKERS: u32 = 2;
const HOST: &str = "shop.example";
const TIMEOUT: Duration = Duration::from_millis(250);
/// Nothing waits longer: the timeout, our own beside it, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_millis(1500);
/// Failures in a row after which the service is left alone, and calls of a worker at the same time.
const FAILURES: u64 = 5;
const IN_FLIGHT: u64 = 32;
/// Keys that a worker remembers: few, so that its memory is soon as full as it gets.
const ENTRIES: u32 = 200;
/// Keys that the gate knows.
const KNOWN: u32 = 50;
const KNOWN_CALLERS: u32 = 4;
const KNOWN_PACE: Duration = Duration::from_millis(10);
const NEW_CALLERS: u32 = 2;
const NEW_PACE: Duration = Duration::from_millis(20);
/// How the service is, in turn, each for this long.
const SPELL: u32 = 10;
const SPELLS: [Mood; 8] = [
    Mood::Good,
    Mood::Away,
    Mood::Good,
    Mood::Slow(Duration::from_millis(750)),
    Mood::Good,
    Mood::Garbage,
    Mood::Good,
    Mood::Flapping,
];
/// What began so early in a spell may be of the one before; after it a good service is asked again.
const EDGE: Duration = Duration::from_secs(3);

/// Whose key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// One that the gate knows.
    Known,
    /// A good one that it has never seen.
    New,
    /// One that nobody has.
    Wrong,
}

/// What was answered: how often, by whose key, in which spell, with which status.
#[derive(Debug, Default)]
struct Tally {
    answers: BTreeMap<(Kind, &'static str, u16), u64>,
    longest: Duration,
    /// Of new keys in good spells, beyond the edge: all, and those that passed.
    settled: [u64; 2],
}

/// What all callers share.
struct Stage {
    address: SocketAddr,
    service: KeyService,
    peppers: Peppers,
    goes_on: AtomicBool,
    /// The number of the spell, and when it began.
    spell: AtomicU32,
    start: Start,
}

/// Runs the soak and prints what came of it.
///
/// # Errors
///
/// When something is missing, or one of the promises above is broken.
pub(crate) fn run(workspace: &Workspace, lookup: Lookup) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let scratch = Scratch::new(workspace, "lookup")?;
    let service = KeyService::start(scratch.path())?;
    let peppers = if lookup.plain {
        Peppers::None
    } else {
        Peppers::Two
    };
    for number in 1..=KNOWN {
        let (digest, record) = peppers.record(number, "known")?;
        service.insert(digest, record);
    }
    let mut gate = bootstrap::gate("lookup", &module, &document(peppers));
    peppers.tell(&mut gate)?;
    let mut bootstrap = bootstrap::of(&[gate]);
    if let Some(resources) = bootstrap
        .get_mut("static_resources")
        .and_then(Value::as_object_mut)
    {
        let cluster = named_cluster("keys", service.socket());
        resources.insert("clusters".to_owned(), json!([cluster]));
    }
    let placement = Placement::ordinary();
    let envoy = Envoy::start(&found.path, &bootstrap, WORKERS, placement, scratch.path())?;
    eprintln!(
        "Envoy {}, {WORKERS} workers; {} s in spells of {SPELL} s; {}",
        found.version,
        lookup.seconds,
        peppers.name()
    );
    let stage = Arc::new(Stage {
        address: envoy.address("lookup")?,
        service,
        peppers,
        goes_on: AtomicBool::new(true),
        spell: AtomicU32::new(0),
        start: Start::now(),
    });
    let known = (0..KNOWN_CALLERS).map(|number| spawn(&stage, Kind::Known, number));
    let new = (0..NEW_CALLERS).map(|number| spawn(&stage, Kind::New, number));
    let callers: Vec<Caller> = known.chain(new).collect();
    let watched = watch(&stage, &envoy, &callers, lookup.seconds);
    stage.goes_on.store(false, Ordering::SeqCst);
    let mut tally = Tally::default();
    for caller in callers {
        tally.add(finish(caller)?);
    }
    let (calls, memory) = watched?;
    report::print(lookup, &tally, &calls, &memory);
    tally.check()?;
    report::check_calls(&calls)?;
    report::check_memory(&memory)?;
    check_envoy(&envoy)
}

fn document(peppers: Peppers) -> Value {
    let mut document = json!({
        "version": 1,
        // All callers of a benchmark have one address.
        "unauthenticated": { "rate": "1000000/s" },
        "apis": { "shop": {
            "hosts": [HOST],
            "tiers": { "basic": { "rate": "unlimited" } },
            "keys": { "lookup": {
                "cluster": "keys",
                "path": RECORDS,
                "timeout": format!("{}ms", TIMEOUT.as_millis()),
                "ttl": "2s",
                "negative_ttl": "1s",
                "max_stale": "1h",
                "max_entries": ENTRIES,
                "max_in_flight": IN_FLIGHT,
                "breaker": { "failures": FAILURES, "pause": "1s" },
            } },
            "routes": { "read": { "match": "GET /v1/**" } },
        } },
    });
    if let (Some(pepper), Some(keys)) = (
        peppers.of_policy(),
        document
            .pointer_mut("/apis/shop/keys")
            .and_then(Value::as_object_mut),
    ) {
        keys.insert("pepper".to_owned(), pepper);
    }
    document
}

/// How the service is in a spell, and what that is called.
fn mood(spell: u32) -> (Mood, &'static str) {
    let count = u32::try_from(SPELLS.len()).unwrap_or(1);
    let place = usize::try_from(spell.checked_rem(count).unwrap_or_default()).unwrap_or_default();
    let mood = SPELLS.get(place).copied().unwrap_or_default();
    let name = match mood {
        Mood::Good => "good",
        Mood::Away => "away",
        Mood::Slow(_) => "slow",
        Mood::Garbage => "garbage",
        Mood::Flapping => "flapping",
    };
    (mood, name)
}

/// The questions of each spell that is over, by what it was called.
type Calls = Vec<(&'static str, u64)>;

/// Changes the spells and looks at memory, until the time is over or a caller has given up.
fn watch(
    stage: &Stage,
    envoy: &Envoy,
    callers: &[Caller],
    seconds: u32,
) -> Result<(Calls, Vec<f64>)> {
    let (mut calls, mut memory) = (Vec::new(), Vec::new());
    let mut asked = stage.service.calls();
    for second in 0..seconds {
        let spell = second.checked_div(SPELL).unwrap_or_default();
        let (mood, name) = mood(spell);
        if second.is_multiple_of(SPELL) {
            // In this order: what a request finds the service in is its spell's, or it sees another begin.
            stage.spell.store(spell, Ordering::SeqCst);
            stage.service.set(mood);
        }
        let due = Duration::from_secs(second.saturating_add(1).into());
        thread::sleep(due.saturating_sub(stage.start.elapsed()));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let resident = envoy.memory()? as f64 / 1024.0;
        memory.push(resident);
        let answers = envoy.answers("lookup")?;
        eprint!(
            "\r{:>4} of {seconds} s, {name:<8} {:>8} passed, {:>6} are 401, {:>6} are 503, {resident:.1} MiB ",
            second.saturating_add(1),
            answers.passed,
            answers.refused,
            answers.failed
        );
        let next = second.saturating_add(1);
        if next.is_multiple_of(SPELL) || next == seconds {
            let now = stage.service.calls();
            calls.push((name, now.saturating_sub(asked)));
            asked = now;
        }
        if callers.iter().any(JoinHandle::is_finished) {
            break;
        }
        if process::stopped() {
            return Err(Failure::Stopped);
        }
    }
    eprintln!();
    stage.service.set(Mood::Good);
    Ok((calls, memory))
}

type Caller = JoinHandle<io::Result<Tally>>;

fn spawn(stage: &Arc<Stage>, kind: Kind, number: u32) -> Caller {
    let stage = Arc::clone(stage);
    thread::spawn(move || match kind {
        Kind::Known => stage.call_known(number),
        Kind::New | Kind::Wrong => stage.call_new(number),
    })
}

fn finish(caller: Caller) -> Result<Tally> {
    let done = caller
        .join()
        .map_err(|_| Failure::new("a caller died", "read its message above"))?;
    done.map_err(|error| Failure::new(format!("a promise is broken: {error}"), "read Envoy's log"))
}

impl Stage {
    /// Keys that the gate knows, in turn.
    fn call_known(&self, number: u32) -> io::Result<Tally> {
        let (mut tally, mut connection) = (Tally::default(), Connection::open(self.address)?);
        let key = |turn: u32| {
            let number = turn.checked_rem(KNOWN).unwrap_or_default();
            policy::key(GOOD, number.saturating_add(1))
        };
        // Its worker has to get to know them first.
        for turn in 0..KNOWN {
            let status = connection.get(HOST, "/v1/known", &key(turn))?.status;
            if status != 200 {
                return Err(io::Error::other(format!(
                    "status {status} in the beginning"
                )));
            }
        }
        let mut turn = number;
        while self.goes_on.load(Ordering::SeqCst) {
            self.call(&mut connection, &mut tally, Kind::Known, &key(turn))?;
            turn = turn.wrapping_add(1);
            thread::sleep(KNOWN_PACE);
        }
        Ok(tally)
    }

    /// By turns a good key that nobody has used before, and a wrong one.
    fn call_new(&self, number: u32) -> io::Result<Tally> {
        let (mut tally, mut connection) = (Tally::default(), Connection::open(self.address)?);
        let mut turn = number.saturating_add(1).saturating_mul(100_000_000);
        while self.goes_on.load(Ordering::SeqCst) {
            turn = turn.wrapping_add(1);
            let good = policy::key(GOOD, turn);
            let made = self.peppers.record(turn, "new");
            let (digest, record) = made.map_err(|error| io::Error::other(error.to_string()))?;
            self.service.insert(digest.clone(), record);
            self.call(&mut connection, &mut tally, Kind::New, &good)?;
            self.service.remove(&digest);
            let wrong = policy::key(BAD, turn);
            self.call(&mut connection, &mut tally, Kind::Wrong, &wrong)?;
            thread::sleep(NEW_PACE);
        }
        Ok(tally)
    }

    fn call(
        &self,
        connection: &mut Connection,
        tally: &mut Tally,
        kind: Kind,
        key: &str,
    ) -> io::Result<()> {
        let (spell, sent) = (self.spell.load(Ordering::SeqCst), self.start.elapsed());
        let status = connection.get(HOST, "/v1/items", key)?.status;
        let took = self.start.elapsed().saturating_sub(sent);
        let began = Duration::from_secs(u64::from(spell).saturating_mul(SPELL.into()));
        let is_edge =
            sent < began.saturating_add(EDGE) || self.spell.load(Ordering::SeqCst) != spell;
        let (mood, name) = mood(spell);
        let broken = |what: &str| {
            let took = took.as_millis();
            Err(io::Error::other(format!(
                "{kind:?} key, service {name}: {what} (status {status} after {took} ms)"
            )))
        };
        let count = tally.answers.entry((kind, name, status)).or_default();
        *count = count.saturating_add(1);
        tally.longest = tally.longest.max(took);
        if took > DEADLINE {
            return broken("it waited beyond its deadline");
        }
        match (kind, status) {
            (Kind::Known, 200) | (Kind::New | Kind::Wrong, 503) | (Kind::New, 200) => {}
            (Kind::Wrong, 401) if is_edge || matches!(mood, Mood::Good | Mood::Flapping) => {}
            (Kind::Known, _) => return broken("a known key is refused"),
            _ => return broken("nobody has said so"),
        }
        if kind == Kind::New && mood == Mood::Good && !is_edge {
            let [all, passed] = &mut tally.settled;
            *all = all.saturating_add(1);
            *passed = passed.saturating_add(u64::from(status == 200));
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        for (what, count) in other.answers {
            let sum = self.answers.entry(what).or_default();
            *sum = sum.saturating_add(count);
        }
        self.longest = self.longest.max(other.longest);
        for (sum, count) in self.settled.iter_mut().zip(other.settled) {
            *sum = sum.saturating_add(count);
        }
    }

    /// A service that is back is asked again.
    fn check(&self) -> Result<()> {
        let [all, passed] = self.settled;
        if passed.saturating_mul(2) > all {
            return Ok(());
        }
        Err(Failure::new(
            format!("of {all} new keys only {passed} passed while the service was well"),
            "run it on an idle machine before you doubt the code",
        ))
    }
}

fn check_envoy(envoy: &Envoy) -> Result<()> {
    let held = envoy.counters(r"^http\.lookup\.downstream_rq_active$")?;
    let died = envoy.counters("vm_reload")?;
    match held.iter().chain(&died).find(|(_, count)| **count > 0) {
        None => Ok(()),
        Some((name, count)) => Err(Failure::new(
            format!("{name} is {count} in the end"),
            "read Envoy's log",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_come_in_turn() {
        assert_eq!(mood(0).1, "good");
        assert_eq!(mood(3).1, "slow");
        assert_eq!(mood(9).1, "away");
    }
}
