//! `--envoy`: the variants against each other, round by round.

use std::path::{Path, PathBuf};

use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::bootstrap::{self, Lane};
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::figure::{Figure, Sample};
use crate::options::{Comparison, Population};
use crate::placement::Placement;
use crate::policy::{BAD, GOOD, HOST, key};
use crate::scratch::Scratch;
use crate::variant::{Answer, Variant};
use crate::wrk::{Keys, Wrk};
use crate::{module, table};

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing, or a variant answers otherwise than it has to.
pub(crate) fn run(workspace: &Workspace, comparison: &Comparison) -> Result<()> {
    let placement = Placement::detect();
    let scratch = Scratch::new(workspace, "envoy")?;
    let wrk = Wrk::find(scratch.path(), placement, comparison.concurrency)?;
    let lanes = lanes(workspace, comparison)?;
    let envoy = envoy::obtain(workspace)?;
    let bootstrap = bootstrap::bootstrap(&lanes, comparison.population);
    eprintln!(
        "Envoy {}, {} worker(s), {}, {}",
        envoy.version,
        comparison.concurrency,
        describe(comparison.population),
        placement.describe()
    );
    let folder = scratch.path();
    let running = Envoy::start(
        &envoy.path,
        &bootstrap,
        comparison.concurrency,
        placement,
        folder,
    )?;
    let mut bench = Bench {
        envoy: running,
        wrk,
        population: comparison.population,
    };
    let mut walks = Vec::new();
    for lane in &lanes {
        bench.probe(lane)?;
        let mut walk = Walk {
            lane,
            walked: 0,
            samples: Vec::new(),
        };
        bench.warm_up(&mut walk)?;
        walks.push(walk);
    }
    for round in 0..comparison.rounds {
        eprintln!("round {} of {}", round.saturating_add(1), comparison.rounds);
        let step = |walk: &mut Walk<'_>| -> Result<()> {
            let sample = bench.sample(walk, comparison.seconds)?;
            walk.samples.push(sample);
            Ok(())
        };
        // There and back, so that what changes with time falls on all alike.
        if round.is_multiple_of(2) {
            walks.iter_mut().try_for_each(step)?;
        } else {
            walks.iter_mut().rev().try_for_each(step)?;
        }
    }
    let none = walks
        .first()
        .map(|walk| walk.samples.clone())
        .unwrap_or_default();
    let figures: Vec<Figure> = walks
        .iter()
        .map(|walk| Figure::of(&walk.lane.name, &walk.samples, &none))
        .collect();
    if comparison.json {
        println!("{}", table::json(&figures));
    } else {
        println!("{}", table::text(&figures));
    }
    Ok(())
}

fn describe(population: Population) -> String {
    match population {
        Population::Principals(count) => format!("{count} principals"),
        Population::Hot => "one hot principal".to_owned(),
    }
}

fn lanes(workspace: &Workspace, comparison: &Comparison) -> Result<Vec<Lane>> {
    let gate = module::gate(workspace)?;
    let noop = if comparison.variants.contains(&Variant::Noop) {
        Some(module::noop(workspace)?)
    } else {
        None
    };
    let mut lanes: Vec<Lane> = comparison
        .variants
        .iter()
        .map(|variant| Lane {
            name: variant.name().to_owned(),
            variant: *variant,
            module: match variant {
                Variant::None | Variant::Native | Variant::Lua => None,
                Variant::Noop => noop.clone(),
                Variant::Core
                | Variant::Full
                | Variant::Unauthorized
                | Variant::Flood
                | Variant::Limited => Some(gate.clone()),
            },
        })
        .collect();
    for (name, file) in &comparison.also {
        let module = absolute(file)?;
        lanes.push(Lane {
            name: name.clone(),
            variant: Variant::Full,
            module: Some(module),
        });
    }
    Ok(lanes)
}

fn absolute(file: &Path) -> Result<PathBuf> {
    file.canonicalize()
        .map_err(|error| Failure::file(file, &error))
}

/// A lane and how far the walk over its keys has come.
struct Walk<'a> {
    lane: &'a Lane,
    walked: u64,
    samples: Vec<Sample>,
}

struct Bench {
    envoy: Envoy,
    wrk: Wrk,
    population: Population,
}

impl Bench {
    /// Sends one request and looks at the answer, so that what is measured is what it says it is.
    fn probe(&self, lane: &Lane) -> Result<()> {
        let address = self.envoy.address(&lane.name)?;
        let key = key(prefix(lane.variant), 1);
        let answer = Connection::open(address)
            .and_then(|mut connection| connection.get(HOST, "/v1/probe", &key))
            .map_err(|error| wrong(lane, &format!("no answer: {error}")))?;
        // The first request of a bucket passes, whatever becomes of the others.
        let first = match lane.variant {
            Variant::Limited => 200,
            Variant::Flood => 401,
            variant => match variant.answer() {
                Answer::Passes => 200,
                Answer::Refused(status) => status,
            },
        };
        let names = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        let has_rates = names.iter().all(|name| answer.header(name).is_some());
        if answer.status == first && has_rates == lane.variant.has_rate_headers() {
            return Ok(());
        }
        Err(wrong(lane, &format!("{answer:?}")))
    }

    /// Until every principal was seen, so that no round meets accounts that others have met.
    fn warm_up(&mut self, walk: &mut Walk<'_>) -> Result<()> {
        let wanted = u64::from(self.population.principals()).saturating_mul(2);
        loop {
            self.send(walk, 1)?;
            if walk.walked >= wanted {
                return Ok(());
            }
        }
    }

    /// Measures a lane once.
    fn sample(&mut self, walk: &mut Walk<'_>, seconds: u32) -> Result<Sample> {
        let lane = walk.lane;
        let (answers, cpu) = (self.envoy.answers(&lane.name)?, self.envoy.cpu()?);
        let rate = self.send(walk, seconds)?;
        let cpu = self.envoy.cpu()?.saturating_sub(cpu);
        let answers = self.envoy.answers(&lane.name)?.since(answers);
        let as_expected = match lane.variant.answer() {
            Answer::Passes => answers.passed,
            Answer::Refused(_) => answers.refused,
        };
        if as_expected == 0 || as_expected != answers.total() {
            return Err(wrong(lane, &format!("{answers:?}")));
        }
        Ok(Sample {
            cpu: to_float(cpu) / 1000.0 / to_float(as_expected),
            rate,
        })
    }

    /// Sends for so many seconds; requests a second.
    fn send(&self, walk: &mut Walk<'_>, seconds: u32) -> Result<f64> {
        let keys = Keys {
            prefix: prefix(walk.lane.variant),
            count: self.population.principals(),
            first: walk.walked,
        };
        let counted = self
            .wrk
            .run(self.envoy.address(&walk.lane.name)?, keys, seconds)?;
        walk.walked = walk.walked.saturating_add(counted.requests);
        Ok(to_float(counted.requests) / counted.seconds)
    }
}

fn prefix(variant: Variant) -> &'static str {
    if variant.has_good_keys() { GOOD } else { BAD }
}

fn wrong(lane: &Lane, answer: &str) -> Failure {
    Failure::new(
        format!(
            "the variant `{}` is not what it should be: {answer}",
            lane.name
        ),
        "run the gate's tests; Envoy's log is above, if it said anything",
    )
}

/// Counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a nanosecond in three months")]
fn to_float(count: u64) -> f64 {
    count as f64
}
