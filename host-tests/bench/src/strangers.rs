//! `--strangers`: many wrong keys, each another one, while known callers go about their business.
//!
//! Two questions: does what Envoy remembers grow with the strangers it has seen, and do known callers
//! notice them? The second is asked against the same number of requests by known callers, so that what
//! is measured is the strangers and not the load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, sync::Arc};

use serde_json::json;
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::bootstrap;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::module;
use crate::options::{Population, Strangers};
use crate::placement::Placement;
use crate::policy::{self, BAD, GOOD, HOST};
use crate::scratch::Scratch;
use crate::variant::Variant;

const WORKERS: u32 = 2;
const CONNECTIONS: u32 = 4;
const PRINCIPALS: u32 = 1000;
/// Who is asked how it is to be a known caller: one request at a time, this often.
const KNOWN_PACE: Duration = Duration::from_millis(10);
/// How long known callers alone make the load.
const BASELINE: Duration = Duration::from_secs(20);
/// The share of strangers after which memory is looked at.
const WARM: f64 = 0.2;
/// Known callers' 99th percentile may be so many times that of the baseline.
const MOST_RATIO: f64 = 2.0;

/// Resident memory when so many strangers had been seen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    strangers: f64,
    bytes: f64,
}

/// A straight line's slope, and half of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slope {
    bytes: f64,
    interval: f64,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing, a request is answered otherwise than it has to be, or known callers
/// notice.
pub(crate) fn run(workspace: &Workspace, strangers: Strangers) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let scratch = Scratch::new(workspace, "strangers")?;
    let population = Population::Principals(PRINCIPALS);
    let document = policy::policy(Variant::Unauthorized, population);
    let bootstrap = bootstrap::of(&[bootstrap::gate("strangers", &module, &document)]);
    let placement = Placement::ordinary();
    let envoy = Envoy::start(&found.path, &bootstrap, WORKERS, placement, scratch.path())?;
    let address = envoy.address("strangers")?;
    let Strangers { count, rate, json } = strangers;
    eprintln!(
        "Envoy {}, {WORKERS} workers; {rate} requests/s by {PRINCIPALS} known callers, then by {count} strangers",
        found.version
    );

    let known = Arc::new(AtomicBool::new(true));
    let load = u32::try_from(BASELINE.as_secs())
        .unwrap_or(u32::MAX)
        .saturating_mul(rate);
    let caller = caller(address, &known);
    for worker in press(address, rate, load, GOOD, 200) {
        finish(worker)?;
    }
    let before = percentile(&mut stop(caller, &known)?, 99);

    let known = Arc::new(AtomicBool::new(true));
    let caller = self::caller(address, &known);
    let start = Start::now();
    let workers = press(address, rate, count, BAD, 401);
    let mut samples = Vec::new();
    while workers.iter().any(|worker| !worker.is_finished()) {
        thread::sleep(Duration::from_secs(1));
        let seen = envoy.answers("strangers")?.refused;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let sample = Sample {
            strangers: seen as f64,
            bytes: envoy.memory()? as f64 * 1024.0,
        };
        samples.push(sample);
        eprint!(
            "\r{seen} of {count} strangers, {:.1} MiB ",
            sample.bytes / 1_048_576.0
        );
    }
    eprintln!();
    for worker in workers {
        finish(worker)?;
    }
    let took = start.elapsed().as_secs_f64();
    let after = percentile(&mut stop(caller, &known)?, 99);
    let warm = f64::from(count) * WARM;
    samples.retain(|sample| sample.strangers >= warm);
    let slope = slope(&samples);
    let ratio = after.as_secs_f64() / before.as_secs_f64().max(1e-9);
    if json {
        let figures = json!({
            "strangers": count,
            "seconds": took,
            "bytes_a_stranger": slope.bytes,
            "interval_95": slope.interval,
            "known_p99_us": [micros(before), micros(after)],
            "ratio": ratio,
        });
        println!("{figures}");
    } else {
        println!("strangers        {count} in {took:.0} s, all refused with 401");
        println!(
            "memory           {:+.3} bytes a stranger, 95 % interval +-{:.3}, {} samples after {:.0} % of them",
            slope.bytes,
            slope.interval,
            samples.len(),
            WARM * 100.0
        );
        println!(
            "known callers    p99 {} us among known callers, {} us among strangers: {ratio:.2} times (< {MOST_RATIO})",
            micros(before),
            micros(after)
        );
    }
    if ratio < MOST_RATIO {
        return Ok(());
    }
    Err(Failure::new(
        "known callers notice the strangers",
        "run it on an idle machine before you doubt the code",
    ))
}

type Worker = JoinHandle<io::Result<()>>;

/// `count` requests, each with another key, evenly spread over time.
fn press(
    address: SocketAddr,
    rate: u32,
    count: u32,
    prefix: &'static str,
    status: u16,
) -> Vec<Worker> {
    let start = Start::now();
    let step = usize::try_from(CONNECTIONS).unwrap_or(1);
    let pace = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
    let connection = |first: u32| {
        thread::spawn(move || -> io::Result<()> {
            let mut connection = Connection::open(address)?;
            for number in (first..count).step_by(step) {
                thread::sleep(pace.saturating_mul(number).saturating_sub(start.elapsed()));
                let number = match prefix {
                    GOOD => number.checked_rem(PRINCIPALS).unwrap_or_default(),
                    _ => number,
                };
                let key = policy::key(prefix, number.saturating_add(1));
                let answer = connection.get(HOST, "/v1/strangers", &key)?.status;
                if answer != status {
                    return Err(io::Error::other(format!("status {answer} for {status}")));
                }
            }
            Ok(())
        })
    };
    (0..CONNECTIONS).map(connection).collect()
}

fn finish(worker: Worker) -> Result<()> {
    let done = worker
        .join()
        .map_err(|_| Failure::new("a client died", "read its message above"))?;
    done.map_err(|error| Failure::new(format!("a request failed: {error}"), "read Envoy's log"))
}

type Caller = JoinHandle<io::Result<Vec<Duration>>>;

/// One known caller, until it is told to stop: how long each of its requests took.
fn caller(address: SocketAddr, goes_on: &Arc<AtomicBool>) -> Caller {
    let goes_on = Arc::clone(goes_on);
    thread::spawn(move || {
        let mut connection = Connection::open(address)?;
        let key = policy::key(GOOD, PRINCIPALS);
        let mut took = Vec::new();
        while goes_on.load(Ordering::Relaxed) {
            let start = Start::now();
            let status = connection.get(HOST, "/v1/known", &key)?.status;
            took.push(start.elapsed());
            if status != 200 {
                return Err(io::Error::other(format!(
                    "status {status} for a known caller"
                )));
            }
            thread::sleep(KNOWN_PACE.saturating_sub(start.elapsed()));
        }
        Ok(took)
    })
}

fn stop(caller: Caller, goes_on: &AtomicBool) -> Result<Vec<Duration>> {
    goes_on.store(false, Ordering::Relaxed);
    let took = caller
        .join()
        .map_err(|_| Failure::new("the known caller died", "read its message above"))?;
    took.map_err(|error| Failure::new(format!("the known caller: {error}"), "read Envoy's log"))
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    let at = took.len().saturating_mul(percent).checked_div(100);
    let last = took.len().saturating_sub(1);
    took.get(at.unwrap_or_default().min(last))
        .copied()
        .unwrap_or_default()
}

fn micros(duration: Duration) -> u128 {
    duration.as_micros()
}

/// The slope of the line of least squares, with the interval that its residuals give (normal
/// distribution; the samples are many).
fn slope(samples: &[Sample]) -> Slope {
    #[expect(clippy::cast_precision_loss, reason = "hundreds of samples")]
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count.max(1.0);
    let (x, y) = (mean(|sample| sample.strangers), mean(|sample| sample.bytes));
    let spread: f64 = samples
        .iter()
        .map(|sample| (sample.strangers - x).powi(2))
        .sum();
    let together: f64 = samples
        .iter()
        .map(|sample| (sample.strangers - x) * (sample.bytes - y))
        .sum();
    let bytes = together / spread.max(1.0);
    let residuals: f64 = samples
        .iter()
        .map(|sample| (sample.bytes - y - bytes * (sample.strangers - x)).powi(2))
        .sum();
    let error = (residuals / (count - 2.0).max(1.0) / spread.max(1.0)).sqrt();
    Slope {
        bytes,
        interval: 1.96 * error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        let samples: Vec<Sample> = (0..100_u8)
            .map(|number| Sample {
                strangers: f64::from(number) * 1000.0,
                bytes: 5e6 + f64::from(number) * 2000.0 + f64::from(number % 2),
            })
            .collect();
        let slope = slope(&samples);
        assert!((slope.bytes - 2.0).abs() < 1e-4, "{slope:?}");
        assert!(slope.interval > 0.0 && slope.interval < 1e-3, "{slope:?}");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut took: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut took, 99), Duration::from_millis(199));
        assert_eq!(percentile(&mut [], 99), Duration::ZERO);
    }
}
