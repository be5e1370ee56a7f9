//! `--revoke`: how long a key that is taken back goes on being good, in a real Envoy with several workers.
//!
//! Callers on every worker use the key without a pause while it is taken back, and what is told is the
//! time from the push to the last answer that let one of them pass. A key is taken back in each of the ways
//! that there are: its id under `revoked` in a policy that replaces the one in force (ECDS from a file that is
//! moved into place), or one that comes with a new listener (LDS); out of the file that a service publishes; out of
//! what a service tells of one key. The last two are noticed when the gate looks again, which is what the policy says
//! of it. A new listener is for new connections: what becomes of those that are kept is told beside.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis_corpus::envoy::config::named_cluster;
use portcullis_policy::{BundleWriter, DigestScheme};
use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::{self, Workspace};

use crate::bootstrap;
use crate::client::Connection;
use crate::envoy::Envoy;
use crate::key_service::{self, FILE, KeyService, RECORDS};
use crate::module;
use crate::options::Revoke;
use crate::placement::Placement;
use crate::policy::{self, GOOD};
use crate::scratch::Scratch;

const WORKERS: u32 = 2;
/// Envoy deals them out evenly.
const CONNECTIONS: u32 = 4;
/// From one request of a connection to the next, at the least.
const PACE: Duration = Duration::from_millis(2);
/// A connection that was refused so often in a row is refused for good.
const REFUSALS: u32 = 100;
/// A key that is good for longer is not revoked at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// What no way may take longer than, beside the time after which the gate looks again.
const LIMIT: Duration = Duration::from_secs(5);
/// After so long the gate looks at the file again, a tenth more or less, and asks for a key again.
const LOOKS: &str = "1s";
/// Other keys of the file: several pages.
const OTHERS: u32 = 1000;

/// How a key is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the policy.
    Policy,
    /// By the policy, with the listener that it is in.
    Listener,
    /// Out of the file of keys.
    Bundle,
    /// Out of the service's own knowledge.
    Lookup,
}

impl Way {
    const ALL: [Self; 4] = [Self::Policy, Self::Listener, Self::Bundle, Self::Lookup];

    const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Listener => "listener",
            Self::Bundle => "bundle",
            Self::Lookup => "lookup",
        }
    }

    /// What is done, and when it is noticed.
    const fn told(self) -> &'static str {
        match self {
            Self::Policy => "`revoked` in the policy (ECDS)",
            Self::Listener => "the same, new connections (LDS)",
            Self::Bundle => "out of the bundle, refresh 1 s",
            Self::Lookup => "out of the service, ttl 1 s",
        }
    }

    /// After how long the gate looks again at the latest.
    const fn looks(self) -> Duration {
        match self {
            Self::Policy | Self::Listener => Duration::ZERO,
            Self::Bundle => Duration::from_millis(1100),
            Self::Lookup => Duration::from_secs(1),
        }
    }

    fn host(self) -> String {
        match self {
            // Two ways to put the same policy in force.
            Self::Policy | Self::Listener => "policy.example".to_owned(),
            Self::Bundle | Self::Lookup => format!("{}.example", self.name()),
        }
    }

    /// The key of the n-th push.
    fn key(self, number: u32) -> String {
        let kind = match self {
            Self::Policy => 1_000_000,
            Self::Bundle => 2_000_000,
            Self::Lookup => 3_000_000,
            Self::Listener => 4_000_000,
        };
        policy::key(GOOD, number.saturating_add(kind))
    }

    /// The id of the key of the n-th push.
    fn id(self, number: u32) -> String {
        format!("{}_{number}", self.name())
    }
}

/// The gate, the file of its configuration, and the service of its keys.
struct Stage {
    folder: PathBuf,
    /// What stands in the gate's own place, and what its listener is.
    file: PathBuf,
    listeners: PathBuf,
    module: PathBuf,
    pushes: u32,
    service: KeyService,
}

/// What came of a way: from push to last pass, each, the shortest first.
struct Outcome {
    way: Way,
    took: Vec<Duration>,
    /// Connections from before that let the key pass when new ones did no more, of all.
    kept: [u32; 2],
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// When something is missing, a request is answered otherwise than it has to be, or a key goes on too long.
pub(crate) fn run(workspace: &Workspace, revoke: Revoke) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let scratch = Scratch::new(workspace, "revoke")?;
    let stage = Stage {
        folder: scratch.path().to_owned(),
        file: scratch.path().join("gate.json"),
        listeners: scratch.path().join("listeners.json"),
        module,
        pushes: revoke.pushes,
        service: KeyService::start(scratch.path())?,
    };
    for number in 1..=revoke.pushes {
        let key = Way::Lookup.key(number);
        let record = key_service::record(&key, &Way::Lookup.id(number), "acme");
        stage.service.add(&key, record);
    }
    stage.publish(0)?;
    stage.push(Way::Policy, 0)?;
    stage.push(Way::Listener, 0)?;
    let mut bootstrap = bootstrap::of(&[bootstrap::discovered("revoke", &stage.file)]);
    if let Some(resources) = bootstrap
        .get_mut("static_resources")
        .and_then(Value::as_object_mut)
    {
        let cluster = named_cluster("keys", stage.service.socket());
        resources.insert("clusters".to_owned(), json!([cluster]));
    }
    if let Some(bootstrap) = bootstrap.as_object_mut() {
        let source = json!({
            "path_config_source": { "path": stage.listeners },
            "resource_api_version": "V3",
        });
        bootstrap.insert(
            "dynamic_resources".to_owned(),
            json!({ "lds_config": source }),
        );
    }
    let placement = Placement::ordinary();
    let envoy = Envoy::start(&found.path, &bootstrap, WORKERS, placement, scratch.path())?;
    eprintln!(
        "Envoy {}, {WORKERS} workers, {CONNECTIONS} connections, {} pushes each way",
        found.version, revoke.pushes
    );
    let mut outcomes = Vec::new();
    for way in Way::ALL {
        let address = match way {
            Way::Listener => envoy.address("listener")?,
            _ => envoy.address("revoke")?,
        };
        let (mut took, mut kept) = (Vec::new(), [0; 2]);
        for number in 1..=revoke.pushes {
            took.push(stage.revoke(way, number, address, &mut kept)?);
            eprint!("\r{} {number} of {} ", way.name(), revoke.pushes);
        }
        eprintln!();
        took.sort_unstable();
        outcomes.push(Outcome { way, took, kept });
    }
    every_worker_served(&envoy)?;
    report(revoke, &outcomes);
    let late = |outcome: &&Outcome| outcome.longest() > outcome.way.looks().saturating_add(LIMIT);
    match outcomes.iter().find(late) {
        None => Ok(()),
        Some(outcome) => Err(Failure::new(
            format!("a key was good for too long: {}", outcome.way.told()),
            "run it on an idle machine before you doubt the code",
        )),
    }
}

impl Stage {
    /// Takes a key back that is in use everywhere; how long it went on.
    fn revoke(
        &self,
        way: Way,
        number: u32,
        address: SocketAddr,
        kept: &mut [u32; 2],
    ) -> Result<Duration> {
        let start = Start::now();
        let bad =
            |error: io::Error| Failure::new(format!("a request: {error}"), "read Envoy's log");
        let idle = match way {
            Way::Listener => CONNECTIONS,
            Way::Policy | Way::Bundle | Way::Lookup => 0,
        };
        let mut connections = Vec::new();
        for _ in 0..idle {
            let mut connection = Connection::open(address).map_err(bad)?;
            let answer = connection.get(&way.host(), "/v1/items", &way.key(number));
            answer.map_err(bad)?;
            connections.push(connection);
        }
        let callers: Vec<Caller> = (0..CONNECTIONS)
            .map(|_| caller(address, way, way.key(number), start))
            .collect();
        // Every one has passed before the key is taken back, and goes on until it is refused.
        for caller in &callers {
            caller.passes(start)?;
        }
        let pushed = start.elapsed();
        match way {
            Way::Policy | Way::Listener => self.push(way, number)?,
            Way::Bundle => self.publish(number)?,
            Way::Lookup => self.service.remove(&way.key(number)),
        }
        let mut last = Duration::ZERO;
        for caller in callers {
            last = last.max(caller.finish()?);
        }
        let [passed, all] = kept;
        for mut connection in connections {
            let answer = connection.get(&way.host(), "/v1/items", &way.key(number));
            // Envoy may have closed it, which is well.
            let passes = answer.is_ok_and(|answer| answer.status == 200);
            *passed = passed.saturating_add(passes.into());
            *all = all.saturating_add(1);
        }
        Ok(last.saturating_sub(pushed))
    }

    /// The policy in which so many keys are revoked, in the place of the one in force.
    fn push(&self, way: Way, revoked: u32) -> Result<()> {
        let next = self.folder.join("next.json");
        let policy = self.policy(way, revoked);
        let (file, resources) = match way {
            Way::Listener => {
                let mut listener = bootstrap::gate("listener", &self.module, &policy);
                if let Some(listener) = listener.as_object_mut() {
                    let kind = "type.googleapis.com/envoy.config.listener.v3.Listener";
                    listener.insert("@type".to_owned(), kind.into());
                }
                (&self.listeners, json!({ "resources": [listener] }))
            }
            _ => {
                let extension = bootstrap::extension("revoke", &self.module, &policy);
                (&self.file, extension)
            }
        };
        workspace::write(&next, resources.to_string())?;
        fs::rename(&next, file).map_err(|error| Failure::file(file, &error))
    }

    fn policy(&self, way: Way, revoked: u32) -> Value {
        let numbers = 1..=self.pushes;
        let inline: Vec<Value> = numbers
            .map(|number| {
                let digest = key_service::digest(&way.key(number));
                json!({ "id": way.id(number), "sha256": digest, "principal": "acme", "tier": "basic" })
            })
            .collect();
        let ids: Vec<String> = (1..=revoked).map(|number| way.id(number)).collect();
        let bundle = json!({ "bundle": { "cluster": "keys", "path": FILE, "refresh": LOOKS } });
        let lookup = json!({ "lookup": { "cluster": "keys", "path": RECORDS, "ttl": LOOKS } });
        let api = |way: Way, keys: Value| {
            json!({
                "hosts": [way.host()],
                "tiers": { "basic": { "rate": "unlimited" } },
                "keys": keys,
                "routes": { "read": { "match": "GET /v1/**" } },
            })
        };
        json!({
            "version": 1,
            "revision": format!("revoked-{revoked}"),
            // All callers of a benchmark have one address.
            "unauthenticated": { "rate": "1000000/s" },
            "revoked": ids,
            "apis": {
                "policy": api(Way::Policy, inline.into()),
                "bundle": api(Way::Bundle, bundle),
                "lookup": api(Way::Lookup, lookup),
            },
        })
    }

    /// The file without so many of its keys.
    fn publish(&self, removed: u32) -> Result<()> {
        let bad = |error| Failure::new(format!("the file of keys: {error}"), "mend the benchmark");
        let own = removed.saturating_add(1)..=self.pushes;
        let keys = own.map(|number| Way::Bundle.key(number));
        let others = (0..OTHERS).map(|number| format!("other-{number}"));
        let revision = format!("r{removed}");
        let at = 1_800_000_000_u64.saturating_add(removed.into());
        let mut writer = BundleWriter::new("bundle", &revision, at, DigestScheme::Plain)
            .map_err(|error| bad(error.to_string()))?;
        for (number, key) in keys.chain(others).enumerate() {
            let id = format!("bundled_{number}");
            let record = json!({ "id": id, "principal": "acme", "tier": "basic" });
            writer
                .add(&key_service::digest(&key), record.to_string().into_bytes())
                .map_err(|error| bad(error.to_string()))?;
        }
        let file = writer.finish().map_err(|error| bad(error.to_string()))?;
        self.service.publish(file);
        Ok(())
    }
}

/// A connection that uses a key until it is refused for good.
struct Caller {
    thread: JoinHandle<io::Result<Duration>>,
    passed: Receiver<()>,
}

impl Caller {
    /// Waits until it has passed.
    fn passes(&self, start: Start) -> Result<()> {
        let left = PATIENCE.saturating_sub(start.elapsed());
        match self.passed.recv_timeout(left) {
            // One that has ended says why in the end.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(Failure::new(
                "a key is not good before it is revoked",
                "read Envoy's log",
            )),
        }
    }

    /// When it passed last.
    fn finish(self) -> Result<Duration> {
        let done = self
            .thread
            .join()
            .map_err(|_| Failure::new("a caller died", "read its message above"))?;
        done.map_err(|error| Failure::new(format!("a request: {error}"), "read Envoy's log"))
    }
}

fn caller(address: SocketAddr, way: Way, key: String, start: Start) -> Caller {
    let (tell, passed) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut connection = Connection::open(address)?;
        let (host, mut last, mut refused) = (way.host(), None, 0);
        while refused < REFUSALS {
            let sent = start.elapsed();
            if way == Way::Listener {
                connection = Connection::open(address)?;
            }
            if sent > PATIENCE {
                return Err(io::Error::other("the key stays good"));
            }
            let status = connection.get(&host, "/v1/items", &key)?.status;
            match (status, last) {
                (200, _) => {
                    (last, refused) = (Some(start.elapsed()), 0);
                    // Nobody listens any more after the first.
                    let _ = tell.send(());
                }
                (401, Some(_)) => refused = refused.saturating_add(1),
                // Before the first file is there its keys are not known.
                (503, None) => {}
                _ => return Err(io::Error::other(format!("status {status}"))),
            }
            thread::sleep((sent.saturating_add(PACE)).saturating_sub(start.elapsed()));
        }
        Ok(last.unwrap_or_default())
    });
    Caller { thread, passed }
}

/// Looks whether the callers were on all workers.
fn every_worker_served(envoy: &Envoy) -> Result<()> {
    let counters = envoy.counters(r"^listener\..*\.worker_\d+\.downstream_cx_total$")?;
    let ours = counters.iter().filter(|(name, _)| !name.contains("admin"));
    let idle = ours.clone().any(|(_, count)| *count == 0);
    if idle || ours.count() < usize::try_from(WORKERS).unwrap_or_default() {
        return Err(Failure::new(
            format!("not every worker had a caller: {counters:?}"),
            "run the benchmark again",
        ));
    }
    Ok(())
}

impl Outcome {
    fn longest(&self) -> Duration {
        self.took.last().copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        let middle = self.took.len().checked_div(2).unwrap_or_default();
        self.took.get(middle).copied().unwrap_or_default()
    }
}

fn report(revoke: Revoke, outcomes: &[Outcome]) {
    if revoke.json {
        let figures: Vec<Value> = outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "way": outcome.way.name(),
                    "pushes": outcome.took.len(),
                    "median_ms": outcome.median().as_millis(),
                    "longest_ms": outcome.longest().as_millis(),
                    "kept_connections": outcome.kept,
                })
            })
            .collect();
        println!("{}", Value::from(figures));
        return;
    }
    println!("from the push to the last request that passes, on every worker");
    for outcome in outcomes {
        let limit = outcome.way.looks().saturating_add(LIMIT);
        println!(
            "{:<32} median {:>5} ms, longest of {} {:>5} ms (<= {} ms)",
            outcome.way.told(),
            outcome.median().as_millis(),
            outcome.took.len(),
            outcome.longest().as_millis(),
            limit.as_millis()
        );
        let [passed, all] = outcome.kept;
        if all > 0 {
            println!(
                "{:<32} {passed} of {all} kept connections let it pass then",
                ""
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_way_has_keys_of_its_own() {
        let keys = Way::ALL.map(|way| way.key(7));
        let different: BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn the_longest_is_told() {
        let outcome = Outcome {
            way: Way::Bundle,
            took: [1, 2, 9].map(Duration::from_secs).into(),
            kept: [0; 2],
        };
        assert_eq!(outcome.longest(), Duration::from_secs(9));
        assert_eq!(outcome.median(), Duration::from_secs(2));
    }
}
