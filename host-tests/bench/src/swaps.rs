//! `--swaps`: what it costs that a threat bundle is replaced, in a real Envoy.
//!
//! For how long a worker does nothing else while a bundle is fetched, adopted, verified and put in force: Envoy tells
//! itself how long each turn of a worker's loop took (`dispatcher.loop_duration_us`), idle and under load, and the
//! client tells how long its requests took, each with a swap in the window and, in turn, without one. A loop's time
//! is a wall clock's, so what else runs on the core counts as the gate's. And what memory it takes with several
//! workers, above the same gate without a bundle.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::{self, Workspace};

use crate::bundle;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::figure::median;
use crate::key_service::KeyService;
use crate::module;
use crate::options::Swaps;
use crate::placement::Placement;
use crate::policy::HOST;
use crate::scratch::Scratch;
use crate::targets::Shape;
use crate::threats::{self, ANSWERED, FORWARDED};
use crate::wrk::{Latency, Posts, Wrk};

const NAME: &str = "swaps";
/// Envoy's name of how long the turns of the worker's loop take.
const LOOPS: &str = "listener_manager.worker_0.dispatcher.loop_duration_us";
/// Histograms are merged so often, in milliseconds.
const FLUSH: u64 = 200;
/// Most microseconds for which a worker may do nothing else.
const MOST: f64 = 5000.0;
/// Most bytes that a further worker takes above the same without a bundle.
const MOST_BYTES: f64 = 14e6;
const WORKERS: [u32; 3] = [1, 2, 4];
/// Few, each with a pause of milliseconds before its next request: what a request waits is what the worker does beside,
/// and a worker that never rests is stopped by the kernel for a twentieth of each second where its priority is real-time.
const CONNECTIONS: &str = "4";
const PAUSE: u32 = 2;
/// Requests on connections of their own, so that every worker has had some.
const WARM: u32 = 60;

/// What goes on in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quiet,
    QuietSwap,
    Load,
    LoadSwap,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Quiet, Self::QuietSwap, Self::Load, Self::LoadSwap];

    const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "idle",
            Self::QuietSwap => "idle, swap",
            Self::Load => "load",
            Self::LoadSwap => "load, swap",
        }
    }

    const fn swaps(self) -> bool {
        matches!(self, Self::QuietSwap | Self::LoadSwap)
    }

    const fn loads(self) -> bool {
        matches!(self, Self::Load | Self::LoadSwap)
    }
}

/// What windows of one kind came to; microseconds, of each window one.
struct Row {
    kind: Kind,
    /// The longest turns of the loop, and of a hundred and of ten thousand turns the longest.
    longest: Vec<f64>,
    turns: Vec<f64>,
    latency: Vec<Latency>,
    /// Seconds from the push until the worker judges by the new bundle.
    took: Vec<f64>,
}

/// Resident memory with so many workers, in KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weight {
    workers: u32,
    empty: f64,
    loaded: f64,
    swapped: f64,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing, a bundle does not come into force, or a goal is missed.
pub(crate) fn run(workspace: &Workspace, swaps: Swaps) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let (now, count) = (threats::now(), swaps.swaps.saturating_mul(2));
    let files: Vec<Vec<u8>> = (0..=count)
        .map(|turn| {
            eprint!("\rbundle {turn} of {count} ");
            bundle::write(swaps.indicators, now, turn)
        })
        .collect::<Result<_>>()?;
    eprintln!();
    let bytes = files.first().map_or(0, Vec::len);
    let bench = Bench {
        workspace,
        module,
        program: found.path,
        files,
        swaps,
    };
    eprintln!(
        "Envoy {}, {} indicators in {bytes} bytes, {}",
        found.version,
        swaps.indicators,
        Placement::detect().describe()
    );
    let rows = bench.slices()?;
    let weights = WORKERS
        .into_iter()
        .map(|workers| bench.weigh(workers))
        .collect::<Result<Vec<Weight>>>()?;
    report(swaps, bytes, &rows, &weights);
    // Under load a turn serves requests too: what a swap alone takes is seen where there are none.
    let held = rows
        .iter()
        .any(|row| row.kind == Kind::QuietSwap && greatest(&row.longest) > MOST);
    if held || further(&weights) * 1024.0 > MOST_BYTES {
        return Err(Failure::new(
            format!(
                "a swap holds a worker for more than {MOST} us, or a worker takes more than {MOST_BYTES} bytes"
            ),
            "run it on an idle machine before you doubt the code",
        ));
    }
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    module: PathBuf,
    program: PathBuf,
    /// One for each turn.
    files: Vec<Vec<u8>>,
    swaps: Swaps,
}

impl Bench<'_> {
    fn slices(&self) -> Result<Vec<Row>> {
        let placement = Placement::detect();
        let scratch = Scratch::new(self.workspace, NAME)?;
        let wrk = Wrk::find(scratch.path(), placement, 1)?;
        let service = KeyService::start(scratch.path())?;
        self.publish(&service, 0);
        let policy = threats::policy(Some("1s"));
        let mut bootstrap = threats::bootstrap(NAME, &self.module, &policy, service.socket());
        if let Some(bootstrap) = bootstrap.as_object_mut() {
            bootstrap.insert("enable_dispatcher_stats".to_owned(), true.into());
            let flush = format!("{}s", Duration::from_millis(FLUSH).as_secs_f64());
            bootstrap.insert("stats_flush_interval".to_owned(), flush.into());
        }
        let envoy = Envoy::start(&self.program, &bootstrap, 1, placement, scratch.path())?;
        let address = envoy.address(NAME)?;
        await_turn(address, 0, 20)?;
        let bodies = scratch.path().join("bodies.txt");
        let body = threats::body(&Shape::Typical.target(0));
        workspace::write(&bodies, format!("{body}\n"))?;
        let mut rows: Vec<Row> = Kind::ALL.into_iter().map(Row::new).collect();
        let mut turn = 0_u32;
        for round in 0..self.swaps.swaps {
            eprintln!("round {} of {}", round.saturating_add(1), self.swaps.swaps);
            for row in &mut rows {
                let load = row.kind.loads().then_some((&wrk, bodies.as_path()));
                let next = row.kind.swaps().then(|| turn.saturating_add(1));
                turn = next.unwrap_or(turn);
                self.window(row, (&envoy, &service), load, next)?;
            }
        }
        if envoy
            .counters("vm_reload")?
            .values()
            .any(|count| *count > 0)
        {
            return Err(Failure::new("a VM died", "read Envoy's log"));
        }
        Ok(rows)
    }

    /// Lets a window pass, and notes what the loop and the client tell of it.
    fn window(
        &self,
        row: &mut Row,
        (envoy, service): (&Envoy, &KeyService),
        load: Option<(&Wrk, &Path)>,
        next: Option<u32>,
    ) -> Result<()> {
        settle();
        let before = loops(envoy)?;
        let (address, seconds) = (envoy.address(NAME)?, self.swaps.seconds);
        let start = Start::now();
        let (counted, took) = thread::scope(|scope| {
            let client = load.map(|(wrk, bodies)| {
                let key = threats::the_key();
                scope.spawn(move || {
                    let posts = Posts {
                        path: FORWARDED,
                        key: &key,
                        bodies,
                        first: 0,
                        connections: CONNECTIONS,
                        pause: PAUSE,
                    };
                    wrk.post(address, posts, seconds)
                })
            });
            let took = next.map(|turn| {
                self.publish(service, turn);
                await_turn(address, turn, 1).map(|()| start.elapsed())
            });
            let counted = client.map(|client| client.join());
            (counted, took)
        });
        let window = Duration::from_secs(seconds.into());
        thread::sleep(window.saturating_sub(start.elapsed()));
        if let Some(took) = took {
            let took = took?;
            if took > window {
                return Err(Failure::new(
                    format!(
                        "a swap takes {:.1} s, longer than its window",
                        took.as_secs_f64()
                    ),
                    "give it more with --seconds",
                ));
            }
            row.took.push(took.as_secs_f64());
        }
        if let Some(counted) = counted {
            let counted = counted
                .map_err(|_| Failure::new("the client died", "read its message above"))??;
            row.latency.push(counted.latency);
        }
        settle();
        let turns = loops(envoy)?.since(&before);
        row.longest.push(turns.share(1.0));
        row.turns.push(turns.share(0.99));
        Ok(())
    }

    fn weigh(&self, workers: u32) -> Result<Weight> {
        eprintln!("memory with {workers} worker(s)");
        let scratch = Scratch::new(self.workspace, "swaps-memory")?;
        let service = KeyService::start(scratch.path())?;
        let start = |refresh: Option<&str>| -> Result<Envoy> {
            let policy = threats::policy(refresh);
            let bootstrap = threats::bootstrap(NAME, &self.module, &policy, service.socket());
            let placement = Placement::ordinary();
            Envoy::start(
                &self.program,
                &bootstrap,
                workers,
                placement,
                scratch.path(),
            )
        };
        let empty = {
            let envoy = start(None)?;
            warm(envoy.address(NAME)?)?;
            kib(&envoy)?
        };
        self.publish(&service, 0);
        let envoy = start(Some("1s"))?;
        let address = envoy.address(NAME)?;
        await_turn(address, 0, WARM)?;
        warm(address)?;
        let loaded = kib(&envoy)?;
        for turn in 1..=self.swaps.swaps {
            self.publish(&service, turn);
            await_turn(address, turn, WARM)?;
        }
        warm(address)?;
        Ok(Weight {
            workers,
            empty,
            loaded,
            swapped: kib(&envoy)?,
        })
    }

    fn publish(&self, service: &KeyService, turn: u32) {
        let file = usize::try_from(turn)
            .ok()
            .and_then(|turn| self.files.get(turn));
        service.publish(file.cloned().unwrap_or_default());
    }
}

impl Row {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            longest: Vec::new(),
            turns: Vec::new(),
            latency: Vec::new(),
            took: Vec::new(),
        }
    }

    fn latency(&self, of: fn(&Latency) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.latency.iter().map(of).collect();
        (!values.is_empty()).then(|| median(&values))
    }
}

/// Turns of a loop, by how long they took at the most, the shortest first; microseconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Turns(Vec<(f64, u64)>);

impl Turns {
    /// Reads `low,width:count, ...`, as the admin interface writes it.
    fn read(text: &str) -> Option<Self> {
        let buckets = text.split(", ").filter(|bucket| !bucket.is_empty());
        let buckets = buckets.map(|bucket| {
            let (bounds, count) = bucket.trim().split_once(':')?;
            let (low, width) = bounds.split_once(',')?;
            let (low, width): (f64, f64) = (low.parse().ok()?, width.parse().ok()?);
            Some((low + width, count.parse().ok()?))
        });
        buckets.collect::<Option<Vec<_>>>().map(Self)
    }

    /// Those that were not there before.
    fn since(&self, before: &Self) -> Self {
        let known = |top: f64| {
            let known = before
                .0
                .iter()
                .find(|(other, _)| (other - top).abs() < 1e-9);
            known.map_or(0, |(_, count)| *count)
        };
        let new = self
            .0
            .iter()
            .map(|(top, count)| (*top, count.saturating_sub(known(*top))));
        Self(new.filter(|(_, count)| *count > 0).collect())
    }

    /// What so large a share of them took at the most.
    fn share(&self, share: f64) -> f64 {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        let wanted = to_float(all) * share;
        let mut seen = 0_u64;
        for (top, count) in &self.0 {
            seen = seen.saturating_add(*count);
            if to_float(seen) >= wanted {
                return *top;
            }
        }
        0.0
    }
}

fn loops(envoy: &Envoy) -> Result<Turns> {
    let text = envoy.histogram(LOOPS)?;
    Turns::read(&text).ok_or_else(|| {
        Failure::new(
            format!("Envoy's histogram is none: {text}"),
            "run the benchmark with the Envoy that `cargo xtask doctor` names",
        )
    })
}

/// Until what has been counted is told.
fn settle() {
    thread::sleep(Duration::from_millis(FLUSH.saturating_mul(3)));
}

/// Waits until the bundle of a turn is in force for so many connections in a row.
fn await_turn(address: SocketAddr, turn: u32, times: u32) -> Result<()> {
    threats::wait_until(
        address,
        &format!("{turn}-listed-12.example"),
        "malicious",
        times,
    )
}

/// Verdicts on connections of their own.
fn warm(address: SocketAddr) -> Result<()> {
    for number in 0..WARM {
        let body = threats::body(&Shape::Thirty.target(number));
        Connection::open(address)
            .and_then(|mut connection| connection.post(HOST, ANSWERED, &threats::the_key(), &body))
            .map_err(|error| Failure::new(format!("a request: {error}"), "read Envoy's log"))?;
    }
    Ok(())
}

fn kib(envoy: &Envoy) -> Result<f64> {
    Ok(to_float(envoy.memory()?))
}

/// What a worker more takes, from the fewest to the most, above the same without a bundle; KiB.
fn further(weights: &[Weight]) -> f64 {
    let (Some(few), Some(many)) = (weights.first(), weights.last()) else {
        return 0.0;
    };
    let workers = many.workers.saturating_sub(few.workers).max(1);
    (many.added() - few.added()) / f64::from(workers)
}

impl Weight {
    fn added(&self) -> f64 {
        self.swapped - self.empty
    }
}

fn report(swaps: Swaps, bytes: usize, rows: &[Row], weights: &[Weight]) {
    if swaps.json {
        let windows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "window": row.kind.name(),
                    "loop_us": { "p99": median(&row.turns), "longest": greatest(&row.longest), "each": row.longest },
                    "latency_us": {
                        "p99": row.latency(|latency| latency.p99),
                        "p999": row.latency(|latency| latency.p999),
                        "longest": row.latency(|latency| latency.longest),
                    },
                    "swap_s": row.took,
                })
            })
            .collect();
        let memory: Vec<Value> = weights
            .iter()
            .map(|weight| {
                json!({
                    "workers": weight.workers,
                    "empty_kib": weight.empty,
                    "loaded_kib": weight.loaded,
                    "swapped_kib": weight.swapped,
                })
            })
            .collect();
        let figures = json!({
            "indicators": swaps.indicators,
            "bundle_bytes": bytes,
            "windows": windows,
            "memory": memory,
            "further_worker_kib": further(weights),
        });
        println!("{figures}");
        return;
    }
    println!(
        "{:11} {:>12} {:>14} {:>15} {:>16} {:>15} {:>8}",
        "window",
        "loop p99 us",
        "longest (all)",
        "request p99 us",
        "p99.9 (median)",
        "longest (all)",
        "swap s"
    );
    for row in rows {
        let or_dash =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let longest: Vec<f64> = row.latency.iter().map(|latency| latency.longest).collect();
        println!(
            "{:11} {:12.0} {:14.0} {:>15} {:>16} {:>15} {:>8}",
            row.kind.name(),
            median(&row.turns),
            greatest(&row.longest),
            or_dash(row.latency(|latency| latency.p99)),
            or_dash(row.latency(|latency| latency.p999)),
            or_dash((!longest.is_empty()).then(|| greatest(&longest))),
            if row.took.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.2}", median(&row.took))
            },
        );
    }
    let longest = rows
        .iter()
        .filter(|row| row.kind == Kind::QuietSwap)
        .map(|row| greatest(&row.longest))
        .fold(0.0, f64::max);
    let reached = |reached: bool| if reached { "reached" } else { "NOT REACHED" };
    println!(
        "longest turn of an idle worker's loop with a swap: {longest:.0} us (<= {MOST:.0})  {}",
        reached(longest <= MOST)
    );
    println!();
    println!(
        "{:8} {:>13} {:>13} {:>13} {:>13}",
        "workers", "empty KiB", "+ a bundle", "after swaps", "added"
    );
    for weight in weights {
        println!(
            "{:8} {:13.0} {:13.0} {:13.0} {:13.0}",
            weight.workers,
            weight.empty,
            weight.loaded,
            weight.swapped,
            weight.added()
        );
    }
    let further = further(weights) * 1024.0;
    println!(
        "a further worker: {:.1} MB above one without a bundle (<= {:.0})  {}",
        further / 1e6,
        MOST_BYTES / 1e6,
        reached(further <= MOST_BYTES)
    );
    let rest = weights
        .first()
        .map_or(0.0, |weight| weight.added() * 1024.0)
        - further;
    println!(
        "the rest: {:.1} MB: the VM of the main thread, and {:.1} MB of pages that the host holds",
        rest / 1e6,
        to_float(bytes as u64) / 1e6
    );
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn to_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_read_and_taken_off() {
        let before = Turns::read("3,0.1:9, 10,1:1").unwrap();
        let turns = Turns::read("3,0.1:9, 10,1:100, 170,10:1").unwrap();
        let new = turns.since(&before);
        assert_eq!(new, Turns(vec![(11.0, 99), (180.0, 1)]));
        assert!((new.share(0.99) - 11.0).abs() < 1e-9);
        assert!((new.share(1.0) - 180.0).abs() < 1e-9);
        assert_eq!(Turns::read("3:9"), None);
        assert_eq!(Turns::read(""), Some(Turns::default()));
    }

    #[test]
    fn a_further_worker() {
        let weight = |workers, empty, swapped| Weight {
            workers,
            empty,
            loaded: 0.0,
            swapped,
        };
        let weights = [weight(1, 100.0, 200.0), weight(4, 110.0, 240.0)];
        assert!((further(&weights) - 10.0).abs() < 1e-9);
    }
}
