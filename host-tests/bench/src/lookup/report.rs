//! What came of a soak, and whether it is as it should be.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xtask::failure::{Failure, Result};

use super::{Calls, FAILURES, IN_FLIGHT, Kind, SPELL, TIMEOUT, Tally, WORKERS};
use crate::options::Lookup;

/// Resident memory may grow by so many MiB after the first half of the time.
const GROWTH: f64 = 8.0;

/// Prints what came of a soak.
pub(super) fn print(lookup: Lookup, tally: &Tally, calls: &Calls, memory: &[f64]) {
    let (first, last) = quarters(memory);
    let names = ["good", "away", "slow", "garbage", "flapping"];
    let count = |kind: Kind, name: &'static str, status: u16| {
        let count = tally.answers.get(&(kind, name, status));
        count.copied().unwrap_or_default()
    };
    let asked = |name: &str| {
        let of = calls.iter().filter(|(other, _)| *other == name);
        of.map(|(_, count)| *count).max().unwrap_or_default()
    };
    if lookup.json {
        let spells: BTreeMap<&str, Value> = names
            .into_iter()
            .map(|name| {
                let figures = json!({
                    "known_200": count(Kind::Known, name, 200),
                    "new_200": count(Kind::New, name, 200),
                    "new_503": count(Kind::New, name, 503),
                    "wrong_401": count(Kind::Wrong, name, 401),
                    "wrong_503": count(Kind::Wrong, name, 503),
                    "most_calls": asked(name),
                });
                (name, figures)
            })
            .collect();
        let longest = tally.longest.as_millis();
        println!(
            "{}",
            json!({ "spells": spells, "longest_ms": longest, "mib": [first, last] })
        );
        return;
    }
    println!(
        "service     known 200    new 200    new 503  wrong 401  wrong 503  most calls in a spell"
    );
    for name in names {
        println!(
            "{name:<9} {:>11} {:>10} {:>10} {:>10} {:>10} {:>12}",
            count(Kind::Known, name, 200),
            count(Kind::New, name, 200),
            count(Kind::New, name, 503),
            count(Kind::Wrong, name, 401),
            count(Kind::Wrong, name, 503),
            asked(name)
        );
    }
    println!(
        "longest wait {} ms (timeout {} ms), memory {first:.1} MiB in the third quarter, {last:.1} MiB in the last",
        tally.longest.as_millis(),
        TIMEOUT.as_millis()
    );
}

/// A service that fails is left alone: one call a pause and worker, beside those that it took to see it.
///
/// # Errors
///
/// When it was asked more often.
pub(super) fn check_calls(calls: &Calls) -> Result<()> {
    let tries = FAILURES
        .saturating_add(IN_FLIGHT)
        .saturating_add(SPELL.into());
    let most = tries.saturating_mul(WORKERS.into());
    let fails = |name: &str| ["away", "slow", "garbage"].contains(&name);
    match calls
        .iter()
        .find(|(name, count)| fails(name) && *count > most)
    {
        None => Ok(()),
        Some((name, count)) => Err(Failure::new(
            format!("while the service was {name} it was asked {count} times instead of {most}"),
            "look at the breaker",
        )),
    }
}

/// Memory stays.
///
/// # Errors
///
/// When it grows.
pub(super) fn check_memory(memory: &[f64]) -> Result<()> {
    let (first, last) = quarters(memory);
    if last - first < GROWTH {
        return Ok(());
    }
    Err(Failure::new(
        format!("memory grew from {first:.1} MiB to {last:.1} MiB"),
        "run it for longer: what grows for ever grows more",
    ))
}

/// The means of the third and of the last quarter: before, caches fill.
fn quarters(memory: &[f64]) -> (f64, f64) {
    let quarter = memory.len().checked_div(4).unwrap_or_default();
    let mean = |skipped: usize| {
        let part: Vec<f64> = memory.iter().skip(skipped).take(quarter).copied().collect();
        #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
        let count = part.len().max(1) as f64;
        part.iter().sum::<f64>() / count
    };
    (
        mean(quarter.saturating_mul(2)),
        mean(memory.len().saturating_sub(quarter)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_fails_is_left_alone() {
        assert!(check_calls(&[("good", 5000), ("away", 94), ("flapping", 900)].into()).is_ok());
        assert!(check_calls(&[("good", 5000), ("slow", 95)].into()).is_err());
    }

    #[test]
    fn memory_that_grows_is_seen() {
        let flat: Vec<f64> = (0..100)
            .map(|at| if at < 40 { 100.0 } else { 120.0 })
            .collect();
        assert!(check_memory(&flat).is_ok());
        let growing: Vec<f64> = (0..100).map(f64::from).collect();
        assert!(check_memory(&growing).is_err());
    }
}
