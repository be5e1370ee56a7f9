//! `--feeds`: what a threat bundle weighs, and what a lookup in it costs, natively and in wasmtime.

use std::time::Duration;

use portcullis_host::{Engine, Metering, Plugin, Settings, World};
use portcullis_threat::bundle::{Fact, FeedEntry, Figures, List, Scope, Set, WriteError, Writer};
use portcullis_threat::{Bundle, Category, Terms};
use serde_json::json;
use xtask::clock::Start;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::module;

#[path = "../lookup/src/probe.rs"]
mod probe;

/// Indicators of the bundles that are measured
const SIZES: [u32; 2] = [1_000_000, 10_000_000];
/// So few that a round fits between two interruptions
const PROBES: u32 = 20_000;
/// The best of so many: what else the machine does only adds
const ROUNDS: usize = 200;
/// Most bytes a key, without its row, and most nanoseconds a lookup in wasmtime
const MOST_BYTES: f64 = 5.0;
const MOST_NANOSECONDS: f64 = 50.0;

/// What was measured of one bundle
#[derive(Clone, Copy, Debug)]
struct Row {
    indicators: u32,
    figures: Figures,
    build: Duration,
    adopt: Duration,
    native: [f64; 2],
    wasmtime: [f64; 2],
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When the guest does not build, or a goal is missed.
pub(crate) fn run(workspace: &Workspace, json: bool) -> Result<()> {
    let guest = module::lookup(workspace)?;
    let engine = Engine::shared(Metering::Off).map_err(|error| failed(&error))?;
    let guest = engine.load(&guest).map_err(|error| failed(&error))?;
    let mut rows = Vec::new();
    for indicators in SIZES {
        eprintln!("{indicators} indicators");
        let start = Start::now();
        let (bytes, figures) = write(indicators).map_err(|error| failed(&error))?;
        let build = start.elapsed();
        let start = Start::now();
        let bundle =
            Bundle::open(bytes.clone(), &Terms::default()).map_err(|error| failed(&error))?;
        let adopt = start.elapsed();
        // Listed ones, then others.
        let native = [0, indicators].map(|first| {
            per_probe(&mut || {
                let start = Start::now();
                let found = probe::probe(&bundle, PROBES, indicators, first);
                assert_eq!(
                    found,
                    if first == 0 { PROBES } else { 0 },
                    "a lookup is wrong"
                );
                start.elapsed()
            })
        });
        let mut wasmtime = [0.0; 2];
        for (nanoseconds, first) in wasmtime.iter_mut().zip([0, indicators]) {
            let mut world = configure(&guest, &bytes, [PROBES, indicators, first])?;
            *nanoseconds = per_probe(&mut || {
                let start = Start::now();
                world.advance(Duration::from_secs(1));
                start.elapsed()
            });
            if !world.logs().is_empty() {
                return Err(failed(&"a lookup in wasmtime is wrong"));
            }
        }
        rows.push(Row {
            indicators,
            figures,
            build,
            adopt,
            native,
            wasmtime,
        });
    }
    print(&rows, json);
    let slow = rows
        .iter()
        .any(|row| row.wasmtime.iter().any(|cost| *cost > MOST_NANOSECONDS));
    if slow || rows.iter().any(|row| row.bytes_a_key() > MOST_BYTES) {
        return Err(Failure::new(
            format!(
                "a key takes more than {MOST_BYTES} bytes, or a lookup more than {MOST_NANOSECONDS} ns"
            ),
            "see filter/threat/src/bundle/keys.rs; on a busy machine try again",
        ));
    }
    Ok(())
}

impl Row {
    fn bytes_a_key(&self) -> f64 {
        ratio(self.figures.key_bytes, self.figures.keys)
    }
}

fn print(rows: &[Row], json: bool) {
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "indicators": row.indicators,
                    "bytes": row.figures.bytes,
                    "key_bytes_each": row.bytes_a_key(),
                    "build_s": row.build.as_secs_f64(),
                    "adopt_native_s": row.adopt.as_secs_f64(),
                    "native_ns": {"hit": row.native[0], "miss": row.native[1]},
                    "wasmtime_ns": {"hit": row.wasmtime[0], "miss": row.wasmtime[1]},
                })
            })
            .collect();
        println!("{}", json!(rows));
        return;
    }
    println!(
        "indicators        bytes   B/key  B/row  build s  adopt s   native hit/miss ns   wasmtime hit/miss ns"
    );
    for row in rows {
        println!(
            "{:10} {:12} {:7.3} {:6.3} {:8.2} {:8.3} {:11.1} / {:5.1} {:13.1} / {:5.1}",
            row.indicators,
            row.figures.bytes,
            row.bytes_a_key(),
            ratio(row.figures.row_bytes, row.figures.keys),
            row.build.as_secs_f64(),
            row.adopt.as_secs_f64(),
            row.native[0],
            row.native[1],
            row.wasmtime[0],
            row.wasmtime[1],
        );
    }
}

fn write(indicators: u32) -> core::result::Result<(Vec<u8>, Figures), WriteError> {
    let mut writer = Writer::new(*b"known to anybody", 1);
    let feed = writer.feed(FeedEntry {
        name: "synthetic".to_owned(),
        licence: "CC0-1.0".to_owned(),
        fetched_at: 0,
        valid_until: u64::MAX,
        sha256: [0; 32],
        allows: false,
    })?;
    let mut fact = Fact {
        feed,
        scope: Scope::EXACT,
        category: Category::Malware,
        confidence: 0,
        block: false,
        first_seen: 0,
        last_seen: 0,
    };
    for number in 0..indicators {
        fact.confidence = u8::try_from(number % 101).unwrap_or(0);
        writer.add(List::Deny, Set::Url, &probe::expression(number), &fact);
    }
    writer.finish()
}

/// A VM that has adopted the bundle and looks so much up at each tick
fn configure(guest: &portcullis_host::Module, bundle: &[u8], asked: [u32; 3]) -> Result<World> {
    let asked = asked.map(|number| number.to_string()).join(" ");
    let settings = Settings {
        vm_configuration: asked.into_bytes(),
        memory_limit: 1 << 30,
        callback_deadline: Duration::from_secs(60),
        trace: false,
        ..Settings::default()
    };
    let mut world = World::new(settings);
    world.add_worker(guest).map_err(|error| failed(&error))?;
    world
        .configure(&Plugin::new("lookup", bundle))
        .map_err(|error| failed(&error))?;
    Ok(world)
}

fn per_probe(round: &mut dyn FnMut() -> Duration) -> f64 {
    let rounds = (0..ROUNDS).map(|_| nanoseconds_each(round()));
    rounds.fold(f64::MAX, f64::min)
}

fn nanoseconds_each(took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(PROBES)
}

#[expect(clippy::cast_precision_loss, reason = "of numbers far below 2^53")]
fn ratio(of: usize, over: usize) -> f64 {
    of as f64 / over.max(1) as f64
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("the bundle's benchmark: {error}"),
        "run the tests of portcullis-host and portcullis-threat",
    )
}
