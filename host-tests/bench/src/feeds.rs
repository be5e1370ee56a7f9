//! `--feeds`: what a threat bundle weighs, and what a lookup in it costs, natively and in wasmtime.
//!
//! Listed and other expressions are looked up in turn, and probes that look nothing up between them: what these cost is
//! taken off, so that what is told is the lookup. Fuel is counted in a VM of its own, because counting takes time.

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
const SIZES: [u32; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
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
    /// Of a hit, a miss
    native: [f64; 2],
    wasmtime: [f64; 2],
    fuel: [f64; 2],
}

/// What probes look up: what is listed, what is not, nothing
const KINDS: usize = 3;

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When the guest does not build, or a goal is missed.
pub(crate) fn run(workspace: &Workspace, json: bool) -> Result<()> {
    let guest = module::lookup(workspace)?;
    let engine = Engine::shared(Metering::Off).map_err(|error| failed(&error))?;
    let counting = Engine::shared(Metering::Fuel).map_err(|error| failed(&error))?;
    let counted = counting.load(&guest).map_err(|error| failed(&error))?;
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
        let native = timed(&mut |kind| {
            let start = Start::now();
            let (found, expected) = match kind {
                0 => (probe::probe(&bundle, PROBES, indicators, 0), PROBES),
                1 => (probe::probe(&bundle, PROBES, indicators, indicators), 0),
                _ => (probe::blank(PROBES, indicators, 0), 0),
            };
            assert_eq!(found, expected, "a lookup is wrong");
            start.elapsed()
        });
        drop(bundle);
        let mut worlds = worlds(&guest, &bytes, indicators)?;
        let wasmtime = timed(&mut |kind| {
            let start = Start::now();
            if let Some(world) = worlds.get_mut(kind) {
                world.advance(Duration::from_secs(1));
            }
            start.elapsed()
        });
        drop(worlds);
        let mut worlds = self::worlds(&counted, &bytes, indicators)?;
        let mut fuel = [0; KINDS];
        for (fuel, world) in fuel.iter_mut().zip(&mut worlds) {
            let before = spent(world)?;
            world.advance(Duration::from_secs(1));
            *fuel = spent(world)?.saturating_sub(before);
            if !world.logs().is_empty() {
                return Err(failed(&"a lookup in wasmtime is wrong"));
            }
        }
        let [hit, miss, blank] = fuel;
        let fuel = [hit, miss].map(|fuel| ratio_of(fuel.saturating_sub(blank), PROBES));
        rows.push(Row {
            indicators,
            figures,
            build,
            adopt,
            native,
            wasmtime,
            fuel,
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
            "see filter/threat/src/bundle/lines.rs; on a busy machine try again",
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
                    "fuel": {"hit": row.fuel[0], "miss": row.fuel[1]},
                })
            })
            .collect();
        println!("{}", json!(rows));
        return;
    }
    println!(
        "indicators        bytes   B/key  B/row  build s  adopt s   native hit/miss ns   wasmtime hit/miss ns   fuel hit/miss"
    );
    for row in rows {
        println!(
            "{:10} {:12} {:7.3} {:6.3} {:8.2} {:8.3} {:11.1} / {:5.1} {:13.1} / {:5.1} {:9.0} / {:4.0}",
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
            row.fuel[0],
            row.fuel[1],
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

fn spent(world: &mut World) -> Result<u64> {
    let worker = world.worker(0).map_err(|error| failed(&error))?;
    Ok(worker.fuel())
}

/// A VM for each kind of probes
fn worlds(guest: &portcullis_host::Module, bundle: &[u8], indicators: u32) -> Result<Vec<World>> {
    let asked = [
        format!("{PROBES} {indicators} 0"),
        format!("{PROBES} {indicators} {indicators}"),
        format!("{PROBES} {indicators} 0 1"),
    ];
    asked
        .into_iter()
        .map(|asked| configure(guest, bundle, asked))
        .collect()
}

/// A VM that has adopted the bundle and looks so much up at each tick
fn configure(guest: &portcullis_host::Module, bundle: &[u8], asked: String) -> Result<World> {
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

/// Nanoseconds of a hit and of a miss: the least of many rounds, in which all kinds of probes take turns
fn timed(round: &mut dyn FnMut(usize) -> Duration) -> [f64; 2] {
    let mut least = [f64::MAX; KINDS];
    for _ in 0..ROUNDS {
        for (kind, least) in least.iter_mut().enumerate() {
            *least = least.min(nanoseconds_each(round(kind)));
        }
    }
    let [hit, miss, blank] = least;
    [hit - blank, miss - blank]
}

fn nanoseconds_each(took: Duration) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(PROBES)
}

#[expect(clippy::cast_precision_loss, reason = "of numbers far below 2^53")]
fn ratio_of(of: u64, over: u32) -> f64 {
    of as f64 / f64::from(over.max(1))
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
