//! `--fuel`: what a decision costs in wasmtime's fuel, about one unit an instruction.
//!
//! It is the same number in every run and on every machine, so it can be a budget: a test compares it
//! with the committed one. It does not see what a host call costs, which `--envoy` does; how many
//! there are is part of the budget instead.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use portcullis_host::{
    Engine, HostCall, LogLevel, Metering, Plugin, RequestScript, ResponseScript, Root, Settings,
    StreamResult, World,
};
use serde_json::{Value, json};
use xtask::failure::{Failure, Result};
use xtask::workspace::{self, Workspace};

use crate::module;
use crate::options::Population;
use crate::policy::{self, BAD, GOOD, HOST};
use crate::variant::Variant;

/// What one request costs, all its callbacks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    fuel: u64,
    /// Calls that the module makes into its host.
    host_calls: u64,
    /// Those of them that return bytes: for each the host calls the module back for memory, which is
    /// what costs most in Envoy.
    returning_data: u64,
}

/// A kind of request.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// Whose policy is in force.
    variant: Variant,
    /// Whether every decision goes to the access log and is counted; refusals are by default.
    told: bool,
    ask: fn() -> RequestScript,
    /// Requests before those that are counted.
    before: u64,
    /// Requests that are counted; the cost is their mean.
    counted: u64,
    status: u16,
}

const CASES: [Case; 8] = [
    // Some of them go to the shared store for a slice, most don't.
    Case {
        name: "allowed",
        variant: Variant::Full,
        told: false,
        ask: || get(GOOD),
        before: 100,
        counted: 100,
        status: 200,
    },
    Case {
        name: "allowed, told",
        variant: Variant::Full,
        told: true,
        ask: || get(GOOD),
        before: 100,
        counted: 100,
        status: 200,
    },
    // The account does not exist yet.
    Case {
        name: "allowed, first",
        variant: Variant::Full,
        told: false,
        ask: || get(GOOD),
        before: 0,
        counted: 1,
        status: 200,
    },
    Case {
        name: "unknown key",
        variant: Variant::Unauthorized,
        told: false,
        ask: || get(BAD),
        before: 10,
        counted: 10,
        status: 401,
    },
    Case {
        name: "unknown key, flood",
        variant: Variant::Flood,
        told: false,
        ask: || get(BAD),
        before: 100,
        counted: 10,
        status: 429,
    },
    Case {
        name: "rate exceeded",
        variant: Variant::Limited,
        told: false,
        ask: || get(GOOD),
        before: 10,
        counted: 10,
        status: 429,
    },
    Case {
        name: "quick verdict",
        variant: Variant::Full,
        told: false,
        ask: || analyze("quick"),
        before: 100,
        counted: 100,
        status: 200,
    },
    Case {
        name: "deep analysis",
        variant: Variant::Full,
        told: false,
        ask: || analyze("deep"),
        before: 100,
        counted: 100,
        status: 200,
    },
];

/// From one request to the next: what one of 1,000 principals does that share 40,000 a second.
const PACE: Duration = Duration::from_millis(25);
const PRINCIPALS: u32 = 1000;

/// What the compilers that can build the module differ by, and a little: rustup's and Debian's use
/// other versions of LLVM and another libc.
const SLACK_PERCENT: u64 = 5;

/// The committed budget, in the repository.
const BUDGET: &str = "host-tests/bench/fuel-budget.json";

/// How a changed cost becomes the budget.
const REMEDY: &str = "make it cheaper; if it is worth its price, `cargo xtask bench --fuel --write` takes the new numbers, for the change to be reviewed with its reason";

/// Runs the benchmark and prints its figures beside the budget.
///
/// # Errors
///
/// When something is missing, or the budget is exceeded and not written.
pub(crate) fn run(workspace: &Workspace, json: bool, write: bool) -> Result<()> {
    let costs = measure(&module::gate(workspace)?)?;
    if write {
        let text = serde_json::to_string_pretty(&to_json(&costs)).unwrap_or_default();
        workspace::write(&workspace.join(BUDGET), format!("{text}\n"))?;
    }
    let budget = read(&workspace.join(BUDGET))?;
    if json {
        println!("{}", to_json(&costs));
    } else {
        println!("{}", table(&costs, &budget));
    }
    let excess = excess(&costs, &budget);
    if excess.is_empty() {
        return Ok(());
    }
    Err(Failure::new(excess.join("; "), REMEDY))
}

type Costs = BTreeMap<String, Cost>;

fn measure(module: &Path) -> Result<Costs> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("{}: {error}", module.display()),
            "run the gate's tests",
        )
    };
    let engine = Engine::shared(Metering::Fuel).map_err(|error| failed(&error))?;
    let loaded = engine.load(module).map_err(|error| failed(&error))?;
    let mut costs = Costs::new();
    for case in CASES {
        let settings = Settings {
            log_level: LogLevel::Warn,
            trace: false,
            ..Settings::default()
        };
        let mut world = World::new(settings);
        world.add_worker(&loaded).map_err(|error| failed(&error))?;
        let mut policy = policy::policy(case.variant, Population::Principals(PRINCIPALS));
        if case.told
            && let Some(fields) = policy.as_object_mut()
        {
            let all = json!({ "access_log": "all", "metrics": "all" });
            fields.insert("record".to_owned(), all);
        }
        let plugin = Plugin::new("bench", policy.to_string());
        let roots = world.configure(&plugin).map_err(|error| failed(&error))?;
        let root = roots.first().copied().ok_or_else(|| failed(&"no worker"))?;
        // Full buckets, as they are some time after a start.
        world.advance(Duration::from_secs(3600));
        for _ in 0..case.before {
            ask(&mut world, root, &(case.ask)())?;
        }
        let mut sum = Cost::default();
        for _ in 0..case.counted {
            let result = ask(&mut world, root, &(case.ask)())?;
            if result.status() != case.status || !result.violations.is_empty() {
                return Err(failed(&format!("{}: {result:?}", case.name)));
            }
            sum = sum.plus(Cost::of(&result));
        }
        costs.insert(case.name.to_owned(), sum.over(case.counted));
    }
    Ok(costs)
}

fn ask(world: &mut World, root: Root, request: &RequestScript) -> Result<StreamResult> {
    let failed = |error| {
        Failure::new(
            format!("the host: {error}"),
            "run the tests of portcullis-host",
        )
    };
    world.advance(PACE);
    let worker = world.worker(0).map_err(failed)?;
    let (stream, result) = worker
        .request(root, request, &ResponseScript::default())
        .map_err(failed)?;
    worker.forget(stream).map_err(failed)?;
    Ok(result)
}

/// As `walk.lua` sends it, with what Envoy adds.
fn get(prefix: &str) -> RequestScript {
    headers("GET", "/v1/threats/feeds/latest?page=2", prefix)
}

fn analyze(mode: &str) -> RequestScript {
    let body = json!({
        "target": "https://download.example.net/files/installer.exe?session=8d1f&lang=en",
        "mode": mode,
        "metadata": { "source": "mail-gateway", "message_id": "20261121.1843.77@mx.example" },
    });
    let body = body.to_string();
    headers("POST", "/v1/threats/analyze", GOOD)
        .header("content-type", "application/json")
        .header("content-length", body.len().to_string())
        .piece(body)
}

fn headers(method: &str, path: &str, prefix: &str) -> RequestScript {
    let mut request = RequestScript::from_headers(Vec::new())
        .source("192.0.2.7:50000")
        .header(":authority", HOST)
        .header(":path", path)
        .header(":method", method)
        .header(":scheme", "http")
        .header(
            "authorization",
            format!("Bearer {}", policy::key(prefix, 1)),
        )
        .header("user-agent", "bench-client/1.0")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate, br")
        .header("accept-language", "en");
    for number in 1..=10 {
        let value = format!("value-of-header-number-{number}");
        request = request.header(format!("x-h{number}"), value);
    }
    request
        .header("x-forwarded-proto", "http")
        .header("x-request-id", "5f3c1f8e-5ad1-4b0e-9c1e-0a9d5f3c1f8e")
}

impl Cost {
    fn of(result: &StreamResult) -> Self {
        let calls = |counts: fn(HostCall) -> bool| {
            let counted = result.calls.iter().filter(|(_, call, _)| counts(*call));
            counted.map(|(_, _, number)| number).sum()
        };
        Self {
            fuel: result.total_fuel(),
            host_calls: calls(|_| true),
            returning_data: calls(HostCall::returns_data),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            fuel: self.fuel.saturating_add(other.fuel),
            host_calls: self.host_calls.saturating_add(other.host_calls),
            returning_data: self.returning_data.saturating_add(other.returning_data),
        }
    }

    /// The mean, rounded up.
    fn over(self, count: u64) -> Self {
        let mean = |sum: u64| sum.div_ceil(count.max(1));
        Self {
            fuel: mean(self.fuel),
            host_calls: mean(self.host_calls),
            returning_data: mean(self.returning_data),
        }
    }
}

fn to_json(costs: &Costs) -> Value {
    let rows = costs.iter().map(|(name, cost)| {
        let cost = json!({
            "fuel": cost.fuel,
            "host_calls": cost.host_calls,
            "returning_data": cost.returning_data,
        });
        (name.clone(), cost)
    });
    rows.collect()
}

fn read(file: &Path) -> Result<Costs> {
    let malformed = || {
        Failure::new(
            format!("{} is no budget", file.display()),
            "cargo xtask bench --fuel --write",
        )
    };
    let text = workspace::read(file)?;
    let document: Value = serde_json::from_str(&text).map_err(|_| malformed())?;
    let mut costs = Costs::new();
    for (name, row) in document.as_object().ok_or_else(malformed)? {
        let number = |field: &str| row.get(field).and_then(Value::as_u64).ok_or_else(malformed);
        let cost = Cost {
            fuel: number("fuel")?,
            host_calls: number("host_calls")?,
            returning_data: number("returning_data")?,
        };
        costs.insert(name.clone(), cost);
    }
    Ok(costs)
}

/// Everything that costs more than it may, or has no budget.
fn excess(costs: &Costs, budget: &Costs) -> Vec<String> {
    let mut excess = Vec::new();
    for (name, cost) in costs {
        let Some(budget) = budget.get(name) else {
            excess.push(format!("`{name}` has no budget"));
            continue;
        };
        let most = budget
            .fuel
            .saturating_mul(SLACK_PERCENT.saturating_add(100))
            .div_ceil(100);
        if cost.fuel > most {
            excess.push(format!(
                "`{name}` takes {} of fuel, budget {} + {SLACK_PERCENT} %",
                cost.fuel, budget.fuel
            ));
        }
        // No compiler adds a host call.
        if cost.host_calls > budget.host_calls || cost.returning_data > budget.returning_data {
            excess.push(format!(
                "`{name}` makes {} host calls, {} of them for data; budget {} and {}",
                cost.host_calls, cost.returning_data, budget.host_calls, budget.returning_data
            ));
        }
    }
    excess
}

fn table(costs: &Costs, budget: &Costs) -> String {
    let mut lines = vec![format!(
        "{:20} {:>8} {:>8} {:>7} {:>11} {:>10}",
        "request", "fuel", "budget", "", "host calls", "for data"
    )];
    for (name, cost) in costs {
        let most = budget.get(name).map_or(0, |budget| budget.fuel);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let change = (cost.fuel as f64 / most.max(1) as f64 - 1.0) * 100.0;
        lines.push(format!(
            "{name:20} {:8} {most:8} {change:+6.1}% {:11} {:10}",
            cost.fuel, cost.host_calls, cost.returning_data
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The module under test: that of `cargo xtask test`, or of the last `cargo xtask wasm`.
    fn module(workspace: &Workspace) -> PathBuf {
        let given = std::env::var_os("PORTCULLIS_WASM").filter(|value| !value.is_empty());
        let module = given.map_or_else(|| workspace.wasm(), PathBuf::from);
        assert!(
            module.exists(),
            "{} is missing: cargo xtask wasm",
            module.display()
        );
        module
    }

    #[test]
    fn no_decision_costs_more_than_its_budget() {
        let workspace = Workspace::find().unwrap();
        let costs = measure(&module(&workspace)).unwrap();
        let budget = read(&workspace.join(BUDGET)).unwrap();
        let excess = excess(&costs, &budget);
        assert!(excess.is_empty(), "{}\n{REMEDY}", excess.join("\n"));
        let names = |costs: &Costs| costs.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&costs), names(&budget), "a budget without its case");
    }

    #[test]
    fn what_is_above_the_budget_is_named() {
        let cost = |fuel, host_calls| Cost {
            fuel,
            host_calls,
            returning_data: 1,
        };
        let costs = |cost| Costs::from([("a".to_owned(), cost)]);
        let budget = costs(cost(1000, 5));
        assert_eq!(excess(&costs(cost(1050, 5)), &budget), [""; 0]);
        assert_eq!(excess(&costs(cost(1051, 5)), &budget).len(), 1);
        assert_eq!(excess(&costs(cost(900, 6)), &budget).len(), 1);
        assert_eq!(
            excess(&costs(cost(1, 1)), &Costs::new()),
            ["`a` has no budget"]
        );
    }

    #[test]
    fn a_budget_is_read_as_it_was_written() {
        let costs = Costs::from([(
            "a".to_owned(),
            Cost {
                fuel: 7,
                host_calls: 2,
                returning_data: 1,
            },
        )]);
        let file = std::env::temp_dir().join(format!("portcullis-budget-{}", std::process::id()));
        std::fs::write(&file, to_json(&costs).to_string()).unwrap();
        let read = read(&file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read, Ok(costs));
    }
}
