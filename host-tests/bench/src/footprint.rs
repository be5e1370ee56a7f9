//! `--footprint`: what the module weighs, and what it takes to build, start and keep.

use std::fs;
use std::path::Path;

use serde_json::json;
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::bootstrap::{self, Lane};
use crate::envoy::Envoy;
use crate::module;
use crate::options::Population;
use crate::placement::Placement;
use crate::policy::GOOD;
use crate::scratch::Scratch;
use crate::variant::Variant;
use crate::wrk::{Keys, Wrk};

/// Most bytes of the module, and the aim.
const MOST_BYTES: u64 = 600_000;
const AIM_BYTES: u64 = 500_000;
/// Most seconds of a build where nothing changed.
const MOST_SECONDS: f64 = 2.0;
/// Most memory that a further worker takes, in KiB.
const MOST_KIB: f64 = 2048.0;
const WORKERS: [u32; 3] = [1, 2, 4];
const PRINCIPALS: u32 = 1000;

/// What Envoy takes with so many workers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weight {
    workers: u32,
    /// Seconds of CPU until it serves, and KiB after a second of load.
    start: f64,
    memory: f64,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing or does not start.
pub(crate) fn run(workspace: &Workspace, json: bool) -> Result<()> {
    let module = module::gate(workspace)?;
    let build = Start::now();
    module::gate(workspace)?;
    let build = build.elapsed().as_secs_f64();
    let bytes = fs::metadata(&module)
        .map_err(|error| Failure::file(&module, &error))?
        .len();
    let found = envoy::obtain(workspace)?;
    let mut weights = Vec::new();
    for workers in WORKERS {
        eprintln!("Envoy {} with {workers} worker(s)", found.version);
        let none = weigh(workspace, &found.path, Variant::None, &module, workers)?;
        let full = weigh(workspace, &found.path, Variant::Full, &module, workers)?;
        weights.push(Weight {
            workers,
            start: full.start - none.start,
            memory: full.memory - none.memory,
        });
    }
    let further = further(&weights);
    if json {
        let rows: Vec<_> = weights
            .iter()
            .map(|weight| {
                json!({
                    "workers": weight.workers,
                    "start_cpu_s": weight.start,
                    "memory_kib": weight.memory,
                })
            })
            .collect();
        let figures = json!({
            "module_bytes": bytes,
            "rebuild_s": build,
            "envoy": rows,
            "further_worker_kib": further,
        });
        println!("{figures}");
        return Ok(());
    }
    let reached = |reached: bool| if reached { "reached" } else { "NOT REACHED" };
    println!(
        "module           {bytes} bytes (<= {MOST_BYTES}, aim {AIM_BYTES})  {}",
        reached(bytes <= MOST_BYTES)
    );
    println!(
        "build again      {build:.2} s (< {MOST_SECONDS})  {}",
        reached(build < MOST_SECONDS)
    );
    for weight in &weights {
        println!(
            "{} worker(s)      +{:.2} s of CPU to start, +{:.1} MiB, {PRINCIPALS} keys",
            weight.workers,
            weight.start,
            weight.memory / 1024.0
        );
    }
    println!(
        "further worker   {:.2} MiB (<= {:.0})  {}",
        further / 1024.0,
        MOST_KIB / 1024.0,
        reached(further <= MOST_KIB)
    );
    Ok(())
}

fn weigh(
    workspace: &Workspace,
    program: &Path,
    variant: Variant,
    module: &Path,
    workers: u32,
) -> Result<Weight> {
    const SETTLED: u32 = 1;
    let placement = Placement::ordinary();
    let scratch = Scratch::new(workspace, "footprint")?;
    let lane = Lane {
        name: variant.name().to_owned(),
        variant,
        module: Some(module.to_owned()),
    };
    let population = Population::Principals(PRINCIPALS);
    let bootstrap = bootstrap::bootstrap(std::slice::from_ref(&lane), population);
    let envoy = Envoy::start(program, &bootstrap, workers, placement, scratch.path())?;
    let wrk = Wrk::find(scratch.path(), placement, workers)?;
    let keys = Keys {
        prefix: GOOD,
        count: PRINCIPALS,
        first: 0,
    };
    wrk.run(envoy.address(&lane.name)?, keys, SETTLED)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(Weight {
        workers,
        start: envoy.start_cpu as f64 / 1e9,
        memory: envoy.memory()? as f64,
    })
}

/// What a worker more takes, from the fewest to the most.
fn further(weights: &[Weight]) -> f64 {
    let (Some(few), Some(many)) = (weights.first(), weights.last()) else {
        return 0.0;
    };
    (many.memory - few.memory) / f64::from(many.workers.saturating_sub(few.workers).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_worker() {
        let weight = |workers, memory| Weight {
            workers,
            start: 0.0,
            memory,
        };
        let weights = [
            weight(1, 30_000.0),
            weight(2, 31_000.0),
            weight(4, 33_600.0),
        ];
        assert!((further(&weights) - 1200.0).abs() < 1e-9);
    }
}
