//! `--judge`: what a verdict by a threat bundle costs a worker, in a real Envoy.
//!
//! One gate has routes that differ in nothing but what is judged: one forwards a body that it reads, one judges it by
//! a screen in shadow mode before it forwards it, one answers with the verdict. They take turns with the same bodies,
//! and what is told is the difference in Envoy's CPU time to the forwarded request of the same round. The upstream is
//! Envoy's own direct response, which costs less than any: the difference of an answered request is the greatest
//! that it can be.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::{self, Workspace};

use crate::bundle;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::figure::{Figure, Sample, median};
use crate::key_service::KeyService;
use crate::module;
use crate::options::Judge;
use crate::placement::Placement;
use crate::policy::HOST;
use crate::scratch::Scratch;
use crate::targets::{self, Shape};
use crate::threats::{self, ANSWERED, FORWARDED, MANY, MANY_SCREENED, SCREENED};
use crate::wrk::{CONNECTIONS, Posts, Wrk};

/// Most microseconds that a verdict adds, of a URL with all of its expressions.
const MOST: f64 = 25.0;
/// Most milliseconds for which one request may hold a worker.
const LONGEST: f64 = 5.0;
/// Bodies that take turns: so many that their lookups don't stay in a processor's nearest memory.
const BODIES: u32 = 5000;
/// Bytes of the largest bodies that screens read, and of those that they read unless a route says otherwise.
const SIZES: [usize; 2] = [63_000, 1_000_000];
/// Requests of a sample of those.
const BURST: u32 = 5;
const NAME: &str = "judge";

/// A kind of target, and its bodies.
struct Lane {
    shape: Shape,
    bodies: PathBuf,
    walked: u64,
    /// Of forwarded, screened and answered ones.
    samples: [Vec<Sample>; 3],
}

/// What one request costs that has as much to judge as one screen judges.
struct Full {
    bytes: usize,
    /// Milliseconds above the same one unjudged.
    added: Vec<f64>,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing, a request is answered otherwise than it has to be, or a goal is missed.
pub(crate) fn run(workspace: &Workspace, judge: Judge) -> Result<()> {
    let placement = Placement::detect();
    let scratch = Scratch::new(workspace, NAME)?;
    let wrk = Wrk::find(scratch.path(), placement, 1)?;
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let service = KeyService::start(scratch.path())?;
    let file = bundle::write(judge.indicators, threats::now(), 0)?;
    let bytes = file.len();
    service.publish(file);
    let policy = threats::policy(Some("1h"));
    let bootstrap = threats::bootstrap(NAME, &module, &policy, service.socket());
    let envoy = Envoy::start(&found.path, &bootstrap, 1, placement, scratch.path())?;
    eprintln!(
        "Envoy {}, 1 worker, {} indicators in {bytes} bytes, {}",
        found.version,
        judge.indicators,
        placement.describe()
    );
    let bench = Bench { envoy, wrk };
    threats::wait_until(
        bench.envoy.address(NAME)?,
        "0-listed-16.example",
        "malicious",
        20,
    )?;
    let mut lanes = Vec::new();
    for shape in Shape::ALL {
        lanes.push(Lane::write(shape, scratch.path())?);
    }
    for lane in &mut lanes {
        bench.probe(lane.shape)?;
        for path in [FORWARDED, SCREENED, ANSWERED] {
            bench.sample(lane, path, 1)?;
        }
    }
    let mut full: Vec<Full> = SIZES
        .into_iter()
        .map(|bytes| Full {
            bytes,
            added: Vec::new(),
        })
        .collect();
    for round in 0..judge.rounds {
        eprintln!("round {} of {}", round.saturating_add(1), judge.rounds);
        for lane in &mut lanes {
            for (place, path) in [FORWARDED, SCREENED, ANSWERED].into_iter().enumerate() {
                let sample = bench.sample(lane, path, judge.seconds)?;
                if let Some(samples) = lane.samples.get_mut(place) {
                    samples.push(sample);
                }
            }
        }
        for full in &mut full {
            full.added.push(bench.full(full.bytes, round)?);
        }
    }
    let rows: Vec<(Shape, [Figure; 3])> = lanes.iter().map(Lane::figures).collect();
    report(judge, bytes, &rows, &full);
    let missed = rows.iter().any(|(shape, [_, screened, answered])| {
        *shape == Shape::Thirty && screened.added.max(answered.added) > MOST
    });
    let held = full.iter().any(|full| median(&full.added) > LONGEST);
    if missed || held {
        return Err(Failure::new(
            format!(
                "a verdict of 30 expressions takes more than {MOST} us, or one request holds a worker for more than {LONGEST} ms"
            ),
            "run it on an idle machine before you doubt the code",
        ));
    }
    Ok(())
}

impl Lane {
    fn write(shape: Shape, folder: &Path) -> Result<Self> {
        // As many bytes of each kind, nearly: wrk holds them all.
        let count = match shape {
            Shape::Text => BODIES / 32,
            _ => BODIES,
        };
        let bodies = folder.join(format!("{}.txt", shape.name()));
        let lines = (0..count).map(|number| threats::body(&shape.target(number)));
        workspace::write(
            &bodies,
            lines.fold(String::new(), |text, line| text + &line + "\n"),
        )?;
        Ok(Self {
            shape,
            bodies,
            walked: 0,
            samples: [const { Vec::new() }; 3],
        })
    }

    fn figures(&self) -> (Shape, [Figure; 3]) {
        let [forwarded, screened, answered] = &self.samples;
        let figure = |name, samples| Figure::of(name, samples, forwarded);
        let figures = [
            figure("forwarded", forwarded),
            figure("screened", screened),
            figure("answered", answered),
        ];
        (self.shape, figures)
    }
}

struct Bench {
    envoy: Envoy,
    wrk: Wrk,
}

impl Bench {
    /// Looks at one answer of each kind, so that what is measured is what it says it is.
    fn probe(&self, shape: Shape) -> Result<()> {
        let wrong = |what: &str| {
            Failure::new(
                format!("`{}` is not answered as it has to be: {what}", shape.name()),
                "run the gate's tests",
            )
        };
        let body = threats::body(&shape.target(0));
        for path in [FORWARDED, SCREENED, ANSWERED] {
            let answer = Connection::open(self.envoy.address(NAME)?)
                .and_then(|mut connection| connection.post(HOST, path, &threats::the_key(), &body))
                .map_err(|error| wrong(&format!("{path}: {error}")))?;
            let text = String::from_utf8_lossy(&answer.body);
            let verdict: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let at = |place: &str| verdict.pointer(place);
            let is_verdict = at("/analysis/stale") == Some(&false.into())
                // Nothing is found, so nothing was left out.
                && at("/indicators") == Some(&json!([]))
                && at("/classification").is_some_and(|word| word != "benign");
            let is_forwarded = text == "ok\n";
            if answer.status != 200
                || is_verdict != (path == ANSWERED)
                || is_forwarded == is_verdict
            {
                return Err(wrong(&format!("{path}: {} {text}", answer.status)));
            }
        }
        Ok(())
    }

    fn sample(&self, lane: &mut Lane, path: &str, seconds: u32) -> Result<Sample> {
        let (answers, cpu) = (self.envoy.answers(NAME)?, self.envoy.cpu()?);
        let posts = Posts {
            path,
            key: &threats::the_key(),
            bodies: &lane.bodies,
            first: lane.walked,
            connections: CONNECTIONS,
            pause: 0,
        };
        let counted = self.wrk.post(self.envoy.address(NAME)?, posts, seconds)?;
        let cpu = self.envoy.cpu()?.saturating_sub(cpu);
        let answers = self.envoy.answers(NAME)?.since(answers);
        if answers.passed == 0 || answers.passed != answers.total() {
            return Err(Failure::new(
                format!("`{}`: {answers:?}", lane.shape.name()),
                "run the gate's tests",
            ));
        }
        lane.walked = lane.walked.wrapping_add(counted.requests);
        Ok(Sample {
            cpu: to_float(cpu) / 1000.0 / to_float(answers.passed),
            rate: to_float(counted.requests) / counted.seconds,
        })
    }

    /// Milliseconds of CPU that a request of so many bytes takes more where a screen judges all that it may.
    fn full(&self, bytes: usize, round: u32) -> Result<f64> {
        let mut took = [0_u64; 2];
        let mut connection =
            Connection::open(self.envoy.address(NAME)?).map_err(|error| bad(&error))?;
        for turn in 0..BURST {
            let number = round.wrapping_mul(BURST).wrapping_add(turn);
            let body = json!({ "targets": targets::texts(number, bytes) }).to_string();
            for (took, path) in took.iter_mut().zip([MANY, MANY_SCREENED]) {
                let cpu = self.envoy.cpu()?;
                let answer = connection
                    .post(HOST, path, &threats::the_key(), &body)
                    .map_err(|error| bad(&error))?;
                *took = took.saturating_add(self.envoy.cpu()?.saturating_sub(cpu));
                if answer.status != 200 {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(bad(&format!("{path}: {} {text}", answer.status)));
                }
            }
        }
        let [plain, judged] = took;
        Ok((to_float(judged) - to_float(plain)) / 1e6 / f64::from(BURST))
    }
}

fn report(judge: Judge, bytes: usize, rows: &[(Shape, [Figure; 3])], full: &[Full]) {
    if judge.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(shape, [forwarded, screened, answered])| {
                json!({
                    "target": shape.name(),
                    "forwarded_cpu_us": forwarded.cpu,
                    "screened_ratio": screened.added / forwarded.cpu,
                    "screened_added_us": screened.added,
                    "screened_spread_us": screened.spread,
                    "answered_added_us": answered.added,
                    "answered_spread_us": answered.spread,
                })
            })
            .collect();
        let full: Vec<Value> = full
            .iter()
            .map(|full| {
                json!({
                    "bytes": full.bytes,
                    "added_ms": median(&full.added),
                    "longest_ms": greatest(&full.added),
                })
            })
            .collect();
        let figures = json!({
            "indicators": judge.indicators,
            "bundle_bytes": bytes,
            "targets": rows,
            "one_screen": full,
        });
        println!("{figures}");
        return;
    }
    println!(
        "{:9} {:>9} {:>9} {:>17} {:>6} {:>9} {:>17}",
        "target", "forwarded", "+screened", "spread us", "ratio", "+answered", "spread us"
    );
    let spread = |[low, high]: [f64; 2]| format!("{low:.2} .. {high:.2}");
    for (shape, [forwarded, screened, answered]) in rows {
        let goal = match shape {
            Shape::Thirty if screened.added.max(answered.added) <= MOST => "  <= 25 us reached",
            Shape::Thirty => "  <= 25 us NOT REACHED",
            _ => "",
        };
        println!(
            "{:9} {:9.2} {:9.2} {:>17} {:6.2} {:9.2} {:>17}  {}{goal}",
            shape.name(),
            forwarded.cpu,
            screened.added,
            spread(screened.spread),
            screened.added / forwarded.cpu,
            answered.added,
            spread(answered.spread),
            shape.told(),
        );
    }
    println!();
    for full in full {
        let longest = median(&full.added);
        println!(
            "one request that a screen judges 32 texts of 32 URLs of, {} bytes: {longest:.2} ms (longest {:.2}; <= {LONGEST} ms {})",
            full.bytes,
            greatest(&full.added),
            if longest <= LONGEST {
                "reached"
            } else {
                "NOT REACHED"
            },
        );
    }
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn bad(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("a request: {error}"), "read Envoy's log")
}

/// Counts here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a nanosecond in three months")]
fn to_float(count: u64) -> f64 {
    count as f64
}
