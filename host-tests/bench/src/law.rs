//! `--law`: a bucket's passes against what its rate allows, in a real Envoy with several workers.
//!
//! The law: in any interval t, passes <= burst + floor(rate x t). The client can't see when the gate
//! decided, only that it was between sending and receiving. So what is counted in an interval is what
//! was sent *and* answered in it: each of those passes was certainly decided there, and no measured
//! latency has to be forgiven.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::bootstrap;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::module;
use crate::options::Law;
use crate::placement::Placement;
use crate::policy::{self, HOST};
use crate::scratch::Scratch;
use crate::updates::Updates;

const WORKERS: u32 = 2;
const BURST: u64 = 50;
/// 1,000 a minute.
const EMISSION: Duration = Duration::from_millis(60);
const RATE: &str = "1000/min";
/// Twice the rate.
const PLAIN: Load = Load {
    connections: 16,
    pace: Duration::from_millis(30),
};
/// Sixty times the rate. 33 requests wait at the same time at the most.
const QUEUED: Load = Load {
    connections: 96,
    pace: Duration::from_millis(1),
};
/// How long requests wait where they do.
const MAX_WAIT: &str = "2s";
/// Most milliseconds that half of the releases may be late.
const LATENESS: Duration = Duration::from_millis(10);
/// Accounts begin half spent when Envoy starts: they are full after half of burst x emission.
const FILLED: Duration = Duration::from_millis(1500);
/// Of what the law allows, so much has to pass.
const LEAST_PERCENT: u64 = 98;

/// How many requests there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    connections: u32,
    /// From one request to the next.
    pace: Duration,
}

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One after the other.
    Even,
    /// All connections at the same instant, so that the workers race.
    Salvo,
}

impl Shape {
    const fn name(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Salvo => "salvo",
        }
    }

    /// When the n-th request is to be sent.
    fn due(self, number: u32, load: Load) -> Duration {
        let slot = match self {
            Self::Even => number,
            Self::Salvo => {
                number.saturating_sub(number.checked_rem(load.connections).unwrap_or_default())
            }
        };
        load.pace.saturating_mul(slot)
    }
}

/// A request, from its sending to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exchange {
    sent: Duration,
    answered: Duration,
    passed: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    shape: Shape,
    sent: usize,
    passed: u64,
    /// The most that may pass in the time that the run took.
    bound: u64,
    /// In the interval where it was closest: how many more might have passed.
    margin: i64,
    latency: [Duration; 2],
    /// How late requests that waited were let go: the median, and the most.
    lateness: [Duration; 2],
}

/// Runs the benchmark and prints what came of each run.
///
/// # Errors
///
/// When something is missing, a request fails, or the law is broken.
pub(crate) fn run(workspace: &Workspace, law: Law) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let scratch = Scratch::new(workspace, "law")?;
    let updates = law
        .updates
        .then(|| Updates::new(scratch.path(), &module, document(law)))
        .transpose()?;
    let bootstrap = bootstrap::of(&[match &updates {
        Some(updates) => bootstrap::discovered("law", updates.file()),
        None => bootstrap::gate("law", &module, &document(law)),
    }]);
    // Nothing is pressed here: latency is what matters, and real-time priority would hide it.
    let placement = Placement::ordinary();
    let load = if law.queue { QUEUED } else { PLAIN };
    let envoy = Envoy::start(&found.path, &bootstrap, WORKERS, placement, scratch.path())?;
    thread::sleep(FILLED);
    eprintln!(
        "Envoy {}, {WORKERS} workers, {} runs of {} s at the same time, {} connections each, {RATE} with burst {BURST}",
        found.version, law.runs, law.seconds, load.connections
    );
    let address = envoy.address("law")?;
    let start = Start::now();
    let runs: Vec<_> = (0..law.runs)
        .map(|run| {
            let shape = if run.is_multiple_of(2) {
                Shape::Even
            } else {
                Shape::Salvo
            };
            let seconds = law.seconds;
            thread::spawn(move || (shape, send(address, run, (shape, load), start, seconds)))
        })
        .collect();
    if let Some(updates) = &updates {
        updates.replace(start, law.seconds)?;
    }
    let mut outcomes = Vec::new();
    for run in runs {
        let (shape, exchanges) = run
            .join()
            .map_err(|_| Failure::new("a client died", "read its message above"))?;
        outcomes.push(judge(shape, &exchanges?));
    }
    let balance = balance(&envoy)?;
    if let Some(updates) = &updates {
        updates.check(&envoy, law.seconds)?;
    }
    report(law, &outcomes, &balance);
    let broken = outcomes.iter().any(|outcome| {
        let late = law.queue && outcome.lateness.first() > Some(&LATENESS);
        !outcome.keeps_law() || !outcome.is_generous() || late
    });
    if broken {
        return Err(Failure::new(
            "a run passed more than the law allows, or less than 98 % of it, or let go too late",
            "see the table; run it on an idle machine before you doubt the code",
        ));
    }
    Ok(())
}

/// A policy with one key a run.
fn document(law: Law) -> Value {
    let mut document = policy::policy(
        crate::variant::Variant::Full,
        crate::options::Population::Principals(law.runs),
    );
    if let Some(tier) = document.pointer_mut("/apis/cybervault/tiers/enterprise") {
        *tier = json!({ "rate": RATE, "burst": BURST });
        if law.queue {
            tier["queue"] = json!({ "max_wait": MAX_WAIT });
        }
    }
    document
}

/// One run: all its exchanges, in no order.
fn send(
    address: SocketAddr,
    run: u32,
    (shape, load): (Shape, Load),
    start: Start,
    seconds: u32,
) -> Result<Vec<Exchange>> {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("a request of run {run} failed: {error}"),
            "read Envoy's log",
        )
    };
    let key = policy::key(policy::GOOD, run.saturating_add(1));
    let end = Duration::from_secs(seconds.into());
    let connections: Vec<_> = (0..load.connections)
        .map(|first| {
            let key = key.clone();
            thread::spawn(move || -> std::io::Result<Vec<Exchange>> {
                let mut connection = Connection::open(address)?;
                let mut exchanges = Vec::new();
                let numbers = (first..).step_by(usize::try_from(load.connections).unwrap_or(1));
                for number in numbers {
                    let due = shape.due(number, load);
                    thread::sleep(due.saturating_sub(start.elapsed()));
                    let sent = start.elapsed();
                    if due >= end || sent >= end {
                        break;
                    }
                    let status = connection.get(HOST, "/v1/law", &key)?.status;
                    let answered = start.elapsed();
                    let passed = match status {
                        200 => true,
                        429 => false,
                        other => {
                            return Err(std::io::Error::other(format!("status {other}")));
                        }
                    };
                    exchanges.push(Exchange {
                        sent,
                        answered,
                        passed,
                    });
                }
                Ok(exchanges)
            })
        })
        .collect();
    let mut all = Vec::new();
    for connection in connections {
        let exchanges = connection
            .join()
            .map_err(|_| Failure::new("a client died", "read its message above"))?;
        all.extend(exchanges.map_err(failed)?);
    }
    Ok(all)
}

/// The most that may pass in an interval.
fn allowed(interval: Duration) -> u64 {
    let cells = interval
        .as_nanos()
        .checked_div(EMISSION.as_nanos())
        .unwrap_or_default();
    BURST.saturating_add(u64::try_from(cells).unwrap_or(u64::MAX))
}

fn judge(shape: Shape, exchanges: &[Exchange]) -> Outcome {
    let passes: Vec<Exchange> = exchanges
        .iter()
        .copied()
        .filter(|exchange| exchange.passed)
        .collect();
    let first = passes
        .iter()
        .map(|pass| pass.sent)
        .min()
        .unwrap_or_default();
    let last = passes
        .iter()
        .map(|pass| pass.answered)
        .max()
        .unwrap_or_default();
    let mut latencies: Vec<Duration> = exchanges
        .iter()
        .map(|exchange| exchange.answered.saturating_sub(exchange.sent))
        .collect();
    latencies.sort_unstable();
    let middle = latencies.len().checked_div(2).unwrap_or_default();
    let latency =
        [latencies.get(middle), latencies.last()].map(|found| found.copied().unwrap_or_default());
    Outcome {
        shape,
        sent: exchanges.len(),
        passed: u64::try_from(passes.len()).unwrap_or(u64::MAX),
        bound: allowed(last.saturating_sub(first)),
        margin: margin(&passes),
        latency,
        lateness: lateness(&passes),
    }
}

/// How late requests that waited were let go, against the emission interval from one to the next: the
/// one that was least late is taken to be on time.
fn lateness(passes: &[Exchange]) -> [Duration; 2] {
    const WAITED: Duration = Duration::from_millis(100);
    let mut answers: Vec<Duration> = passes
        .iter()
        .filter(|pass| pass.answered.saturating_sub(pass.sent) > WAITED)
        .map(|pass| pass.answered)
        .collect();
    answers.sort_unstable();
    let turns = (0..).map(|turn: u32| EMISSION.saturating_mul(turn));
    let mut late: Vec<Duration> = answers
        .iter()
        .zip(turns)
        .map(|(answer, turn)| answer.saturating_sub(turn))
        .collect();
    late.sort_unstable();
    let first = late.first().copied().unwrap_or_default();
    let middle = late.len().checked_div(2).unwrap_or_default();
    [late.get(middle), late.last()]
        .map(|found| found.copied().unwrap_or_default().saturating_sub(first))
}

/// The least that is left of what is allowed, over every interval that begins with the sending of a
/// pass and ends with the answer to one.
fn margin(passes: &[Exchange]) -> i64 {
    let mut by_answer = passes.to_vec();
    by_answer.sort_unstable_by_key(|pass| pass.answered);
    let mut least = i64::MAX;
    for from in passes.iter().map(|pass| pass.sent) {
        let mut inside = 0_u64;
        for pass in by_answer.iter().filter(|pass| pass.sent >= from) {
            inside = inside.saturating_add(1);
            let left = i128::from(allowed(pass.answered.saturating_sub(from)))
                .saturating_sub(i128::from(inside));
            least = least.min(i64::try_from(left).unwrap_or(i64::MAX));
        }
    }
    least
}

impl Outcome {
    /// No interval saw more passes than it may.
    const fn keeps_law(&self) -> bool {
        self.passed <= self.bound && self.margin >= 0
    }

    /// Little of what may pass was refused.
    const fn is_generous(&self) -> bool {
        self.passed.saturating_mul(100) >= self.bound.saturating_mul(LEAST_PERCENT)
    }
}

/// How many connections each worker got.
fn balance(envoy: &Envoy) -> Result<Vec<u64>> {
    let counters = envoy.counters("^listener\\..*\\.worker_[0-9]+\\.downstream_cx_total$")?;
    let shares: Vec<u64> = counters
        .iter()
        .filter(|(name, _)| !name.starts_with("listener.admin"))
        .map(|(_, count)| *count)
        .collect();
    let idle = shares.iter().filter(|share| **share > 0).count();
    if idle < usize::try_from(WORKERS).unwrap_or(usize::MAX) {
        return Err(Failure::new(
            format!("not every worker had connections: {shares:?}"),
            "the law was not tried over several workers: run it again",
        ));
    }
    Ok(shares)
}

fn report(law: Law, outcomes: &[Outcome], balance: &[u64]) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    if law.json {
        let rows: Vec<Value> = outcomes
            .iter()
            .map(|outcome| {
                let [median, most] = outcome.latency.map(milliseconds);
                json!({
                    "shape": outcome.shape.name(),
                    "sent": outcome.sent,
                    "passed": outcome.passed,
                    "bound": outcome.bound,
                    "least_margin": outcome.margin,
                    "latency_ms": [median, most],
                    "lateness_ms": outcome.lateness.map(milliseconds),
                    "kept": outcome.keeps_law(),
                    "generous": outcome.is_generous(),
                })
            })
            .collect();
        println!("{}", Value::from(rows));
        return;
    }
    println!(
        "{:6} {:>6} {:>7} {:>6} {:>6} {:>7} {:>18}",
        "load", "sent", "passed", "bound", "share", "margin", "latency ms"
    );
    for outcome in outcomes {
        let [median, most] = outcome.latency.map(milliseconds);
        #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
        let share = outcome.passed as f64 * 100.0 / outcome.bound as f64;
        println!(
            "{:6} {:6} {:7} {:6} {share:5.1}% {:7} {:>18} {}",
            outcome.shape.name(),
            outcome.sent,
            outcome.passed,
            outcome.bound,
            outcome.margin,
            format!("{median:.2}, max {most:.1}"),
            match (outcome.keeps_law(), outcome.is_generous()) {
                (true, true) => "kept",
                (true, false) => "BELOW 98 %",
                (false, _) => "BROKEN",
            }
        );
    }
    if law.queue {
        for outcome in outcomes {
            let [median, most] = outcome.lateness.map(milliseconds);
            println!("let go {median:.2} ms late (median), {most:.2} ms (most)");
        }
    }
    println!("connections by worker: {balance:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(sent: u64, answered: u64) -> Exchange {
        let at = Duration::from_millis;
        Exchange {
            sent: at(sent),
            answered: at(answered),
            passed: true,
        }
    }

    #[test]
    fn the_bound_is_the_burst_and_then_the_rate() {
        assert_eq!(allowed(Duration::ZERO), 50);
        assert_eq!(allowed(Duration::from_millis(59)), 50);
        assert_eq!(allowed(Duration::from_secs(60)), 1050);
    }

    #[test]
    fn a_full_bucket_leaves_no_margin_and_one_more_breaks_the_law() {
        let mut passes = vec![pass(0, 1); 50];
        passes.extend((1..100).map(|number| pass(number * 60, number * 60 + 1)));
        assert_eq!(margin(&passes), 0);
        assert!(judge(Shape::Even, &passes).keeps_law());
        passes.push(pass(3030, 3031));
        assert_eq!(margin(&passes), -1);
        assert!(!judge(Shape::Even, &passes).keeps_law());
    }

    /// What may have been decided outside of an interval is not counted in it.
    #[test]
    fn a_slow_answer_accuses_nobody() {
        let mut passes = vec![pass(0, 1); 50];
        passes.push(pass(1, 70));
        assert_eq!(margin(&passes), 0);
    }

    #[test]
    fn little_is_refused_that_may_pass() {
        let mut passes = vec![pass(0, 1); 50];
        passes.extend((1..=950).map(|number| pass(number * 60, number * 60)));
        passes.push(pass(60_000, 60_000));
        let outcome = judge(Shape::Even, &passes);
        assert_eq!((outcome.bound, outcome.passed), (1050, 1001));
        assert!(outcome.keeps_law() && !outcome.is_generous());
    }

    #[test]
    fn salvoes_are_as_many_at_the_same_instants() {
        assert_eq!(Shape::Even.due(33, PLAIN), Duration::from_millis(990));
        assert_eq!(Shape::Salvo.due(15, PLAIN), Duration::ZERO);
        assert_eq!(Shape::Salvo.due(16, PLAIN), Duration::from_millis(480));
        assert_eq!(Shape::Salvo.due(31, PLAIN), Duration::from_millis(480));
    }
}
