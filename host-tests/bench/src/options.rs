//! What is asked on the command line.

use std::path::PathBuf;

use xtask::failure::{Failure, Result};

use crate::variant::Variant;

/// How the command is used.
pub(crate) const USAGE: &str = "\
cargo xtask bench --envoy | --law | --updates | --observe | --strangers | --revoke | --lookup | --judge | --swaps | --fuel | --footprint | --feeds | --draws DIR  [--json]
  --envoy       CPU that each variant adds to a request in a real Envoy, in interleaved rounds (needs wrk)
    --rounds N         at least 5 for figures to publish (5)
    --seconds N        seconds a variant and round (1)
    --concurrency N    Envoy's workers (1)
    --keys N           API keys, each of a principal of its own (1000)
    --hot              one key only, its rate high enough for all
    --only A,B         these variants only; `none` is always there
    --also NAME=FILE   one more variant: `full` by another module
  --law         passes of a bucket at twice its rate, over all workers, against burst + rate x time
    --runs N           each with a key of its own, all at the same time (10)
    --seconds N        (60)
    --queue            1,000 requests a second and run, which wait for two seconds at the most (1 run)
  --strangers   memory and known callers' latency while wrong keys come, each another one
    --count N          (1000000)
    --rate N           requests a second (4000)
  --revoke      from taking a key back (by the policy, out of a bundle, out of a key service) to the last request that it lets pass
    --pushes N         (20)
  --lookup      a key service that goes away, is slow, talks nonsense and flaps, under load: known keys go on, others are 503,
                nothing waits beyond its deadline, memory stays
    --seconds N        (300)
    --plain            keys by their plain digests, not by those under two peppers of which one takes over from the other
  --judge       CPU that a verdict by a bundle adds to a request in a real Envoy, by kind of target, and for how long one request
                holds a worker that gives a screen as much as it judges (needs wrk)
    --rounds N         (5)
    --seconds N        a sample (1)
    --indicators N     of the bundle (1000000)
  --swaps       for how long a worker is held while a threat bundle is fetched, adopted, verified and put in force, with and
                without load, and what memory 1, 2 and 4 workers take for it (needs wrk)
    --count N          swaps of each (4)
    --seconds N        a window with or without one (8)
    --indicators N     of each bundle (1000000)
  --updates     the same while the policy is replaced once a second, by the extension configuration discovery
                service (ECDS) from a file: no request may fail, and no bucket may be refilled
    --runs N           (4)
    --seconds N        as many updates (60)
  --observe     the same requests through Envoy with the gate under `mode: observe` and without it: answers, and what
                the upstream saw, may not differ in one byte
    --requests N       (100000)
    --seed N           (1)
  --fuel        wasmtime fuel of a decision: a number that no machine changes
    --write            takes what was measured as the new budget
  --footprint   the module's size, its build when nothing changed, start-up CPU, memory a worker
  --feeds       bytes of a threat bundle of 10 thousand to 10 million indicators, and what a lookup takes: nanoseconds natively and
                in wasmtime, its fuel; hits, misses and probes that look nothing up take turns, and the last are taken off
                (cargo run --release -p portcullis-bench -- --feeds, for native figures that mean something)
  --draws DIR   rows drawn of each feed in a folder, looked up in the bundle of all of them; each one missed is named
    --count N          of each feed (1000)
    --seed N           of the draw (1)
    --benign FILE      targets, one a line, that no feed should list; each one hit is named with what lists it
  Figures mean little on a busy machine: see the spreads.";

/// One benchmark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Envoy(Comparison),
    Law(Law),
    Strangers(Strangers),
    Revoke(Revoke),
    Lookup(Lookup),
    Judge(Judge),
    Swaps(Swaps),
    Observe(Observe),
    Fuel { json: bool, write: bool },
    Footprint { json: bool },
    Feeds { json: bool },
    Draws(Draws),
}

/// What `--envoy` compares, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) json: bool,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) concurrency: u32,
    pub(crate) population: Population,
    pub(crate) variants: Vec<Variant>,
    /// Modules that are compared besides, each with its name.
    pub(crate) also: Vec<(String, PathBuf)>,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Population {
    /// So many principals in turn, each with a key of its own.
    Principals(u32),
    /// One principal, as fast as it can.
    Hot,
}

/// How `--law` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Law {
    pub(crate) json: bool,
    pub(crate) runs: u32,
    pub(crate) seconds: u32,
    /// Whether what comes too early waits.
    pub(crate) queue: bool,
    /// Whether the policy is replaced every second.
    pub(crate) updates: bool,
}

/// How `--observe` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observe {
    pub(crate) json: bool,
    pub(crate) requests: u32,
    pub(crate) seed: u32,
}

/// How `--draws` is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draws {
    pub(crate) json: bool,
    pub(crate) folder: PathBuf,
    pub(crate) benign: Option<PathBuf>,
    pub(crate) count: usize,
    pub(crate) seed: u32,
}

/// How `--strangers` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strangers {
    pub(crate) json: bool,
    pub(crate) count: u32,
    /// Requests a second.
    pub(crate) rate: u32,
}

/// How `--revoke` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revoke {
    pub(crate) json: bool,
    /// Keys that are taken back in each way.
    pub(crate) pushes: u32,
}

/// How `--lookup` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) json: bool,
    pub(crate) seconds: u32,
    /// Whether keys have plain digests, not those under two peppers.
    pub(crate) plain: bool,
}

/// How `--judge` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judge {
    pub(crate) json: bool,
    pub(crate) rounds: u32,
    /// A sample.
    pub(crate) seconds: u32,
    /// Of the bundle.
    pub(crate) indicators: u32,
}

/// How `--swaps` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swaps {
    pub(crate) json: bool,
    /// Under load, without, and with each number of workers.
    pub(crate) swaps: u32,
    /// A window.
    pub(crate) seconds: u32,
    /// Of each bundle.
    pub(crate) indicators: u32,
}

impl Population {
    /// How many principals there are.
    pub(crate) const fn principals(self) -> u32 {
        match self {
            Self::Principals(count) => count,
            Self::Hot => 1,
        }
    }
}

impl Task {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// When they don't say one benchmark, or say what it does not take.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let mut given = Given(arguments.to_vec());
        let json = given.flag("--json");
        if let Some(folder) = given.value("--draws")? {
            let draws = Draws {
                json,
                folder: folder.into(),
                benign: given.value("--benign")?.map(PathBuf::from),
                count: given.number("--count", 1000)? as usize,
                seed: given.number("--seed", 1)?,
            };
            return given.nothing_left(Self::Draws(draws));
        }
        let names = [
            "--envoy",
            "--law",
            "--updates",
            "--observe",
            "--fuel",
            "--footprint",
            "--strangers",
            "--revoke",
            "--lookup",
            "--judge",
            "--swaps",
            "--feeds",
        ];
        let chosen: Vec<&str> = names.into_iter().filter(|name| given.flag(name)).collect();
        let task = match chosen.as_slice() {
            ["--envoy"] => Self::Envoy(Comparison {
                json,
                rounds: given.number("--rounds", 5)?,
                seconds: given.number("--seconds", 1)?,
                concurrency: given.number("--concurrency", 1)?,
                population: population(&mut given)?,
                variants: variants(given.value("--only")?)?,
                also: also(&mut given)?,
            }),
            ["--law"] => {
                let queue = given.flag("--queue");
                Self::Law(Law {
                    json,
                    runs: given.number("--runs", if queue { 1 } else { 10 })?,
                    seconds: given.number("--seconds", 60)?,
                    queue,
                    updates: false,
                })
            }
            ["--updates"] => Self::Law(Law {
                json,
                runs: given.number("--runs", 4)?,
                seconds: given.number("--seconds", 60)?,
                queue: false,
                updates: true,
            }),
            ["--observe"] => Self::Observe(Observe {
                json,
                requests: given.number("--requests", 100_000)?,
                seed: given.number("--seed", 1)?,
            }),
            ["--fuel"] => Self::Fuel {
                json,
                write: given.flag("--write"),
            },
            ["--footprint"] => Self::Footprint { json },
            ["--strangers"] => Self::Strangers(Strangers {
                json,
                count: given.number("--count", 1_000_000)?,
                rate: given.number("--rate", 4000)?,
            }),
            ["--revoke"] => Self::Revoke(Revoke {
                json,
                pushes: given.number("--pushes", 20)?,
            }),
            ["--lookup"] => Self::Lookup(Lookup {
                json,
                seconds: given.number("--seconds", 300)?,
                plain: given.flag("--plain"),
            }),
            ["--judge"] => Self::Judge(Judge {
                json,
                rounds: given.number("--rounds", 5)?,
                seconds: given.number("--seconds", 1)?,
                indicators: given.number("--indicators", 1_000_000)?,
            }),
            ["--swaps"] => Self::Swaps(Swaps {
                json,
                swaps: given.number("--count", 4)?,
                seconds: given.number("--seconds", 8)?,
                indicators: given.number("--indicators", 1_000_000)?,
            }),
            ["--feeds"] => Self::Feeds { json },
            _ => return Err(Failure::new("name one benchmark", USAGE)),
        };
        given.nothing_left(task)
    }
}

fn population(given: &mut Given) -> Result<Population> {
    let keys = given.number("--keys", 1000)?;
    Ok(if given.flag("--hot") {
        Population::Hot
    } else {
        Population::Principals(keys)
    })
}

fn variants(only: Option<String>) -> Result<Vec<Variant>> {
    let Some(only) = only else {
        return Ok(Variant::ALL.to_vec());
    };
    let mut chosen = vec![Variant::None];
    for name in only.split(',') {
        let variant = Variant::ALL
            .into_iter()
            .find(|variant| variant.name() == name);
        let variant = variant.ok_or_else(|| {
            let names = Variant::ALL.map(Variant::name).join(" ");
            Failure::new(
                format!("there is no variant `{name}`"),
                format!("one of {names}"),
            )
        })?;
        if !chosen.contains(&variant) {
            chosen.push(variant);
        }
    }
    Ok(chosen)
}

fn also(given: &mut Given) -> Result<Vec<(String, PathBuf)>> {
    let mut modules: Vec<(String, PathBuf)> = Vec::new();
    while let Some(value) = given.value("--also")? {
        let named = value.split_once('=').filter(|(name, _)| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !name.is_empty() && name.bytes().all(plain)
        });
        let (name, file) = named.ok_or_else(|| {
            Failure::new(
                format!("`{value}` is not NAME=FILE"),
                "--also o3=target/o3.wasm",
            )
        })?;
        let taken = modules.iter().any(|(other, _)| other == name)
            || Variant::ALL.iter().any(|variant| variant.name() == name);
        if taken {
            return Err(Failure::new(
                format!("two variants are called `{name}`"),
                "rename one",
            ));
        }
        modules.push((name.to_owned(), file.into()));
    }
    Ok(modules)
}

/// The arguments that nobody has taken yet.
struct Given(Vec<String>);

impl Given {
    fn nothing_left(&self, task: Task) -> Result<Task> {
        match self.0.first() {
            None => Ok(task),
            Some(unknown) => Err(Failure::new(format!("unknown argument: {unknown}"), USAGE)),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|argument| argument == name);
        if let Some(at) = at {
            self.0.remove(at);
        }
        at.is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        let mut taken = self.0.drain(at..at.saturating_add(2).min(self.0.len()));
        match (taken.next(), taken.next()) {
            (_, Some(value)) => Ok(Some(value)),
            _ => Err(Failure::new(format!("{name} needs a value"), USAGE)),
        }
    }

    fn number(&mut self, name: &str, default: u32) -> Result<u32> {
        let Some(text) = self.value(name)? else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Failure::new(format!("{name} {text}: not a number from 1 on"), USAGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Task::parse(&arguments)
    }

    #[test]
    fn defaults() {
        let Ok(Task::Envoy(comparison)) = parse("--envoy") else {
            panic!("no comparison")
        };
        assert_eq!((comparison.rounds, comparison.concurrency), (5, 1));
        assert_eq!(comparison.population, Population::Principals(1000));
        assert_eq!(comparison.variants, Variant::ALL);
        assert_eq!(
            parse("--law --json"),
            Ok(Task::Law(Law {
                json: true,
                runs: 10,
                seconds: 60,
                queue: false,
                updates: false
            }))
        );
    }

    #[test]
    fn bundles_have_a_million_indicators() {
        assert_eq!(
            parse("--judge --rounds 3"),
            Ok(Task::Judge(Judge {
                json: false,
                rounds: 3,
                seconds: 1,
                indicators: 1_000_000
            }))
        );
        assert_eq!(
            parse("--swaps --count 2 --indicators 1000 --json"),
            Ok(Task::Swaps(Swaps {
                json: true,
                swaps: 2,
                seconds: 8,
                indicators: 1000
            }))
        );
    }

    #[test]
    fn everything_given() {
        let line = "--concurrency 2 --hot --envoy --only full,core --also b=x/y.wasm --rounds 9";
        let Ok(Task::Envoy(comparison)) = parse(line) else {
            panic!("no comparison")
        };
        assert_eq!((comparison.rounds, comparison.concurrency), (9, 2));
        assert_eq!(comparison.population, Population::Hot);
        assert_eq!(
            comparison.variants,
            [Variant::None, Variant::Full, Variant::Core]
        );
        assert_eq!(comparison.also, [("b".to_owned(), "x/y.wasm".into())]);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "--law --envoy",
            "--envoy --rounds",
            "--envoy --rounds 0",
            "--envoy --only nope",
            "--envoy --also full=x",
            "--envoy --also x",
            "--fuel --hot",
            "--judge --count 3",
            "--swaps --rounds 3",
            "--envoy more",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
