//! Ring 3: the .wasm in real Envoy. One Envoy serves all runs.
//!
//! Every run has a listener on a Unix socket of its own, with its policy and with its name as
//! `root_id`: accounts are kept apart by it, so every run starts afresh. There is one `vm_id`, so
//! one VM a worker, and one worker.
//!
//! [`edge::Edge`] runs the second list, against the configuration that is shipped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::case::{Profile, Protocol, Run, Step};
use crate::corpus::Corpus;
use crate::document::Document;
use crate::ring::{Exchange, Record, Ring, Seen, Session};
use crate::wire::stream::{Address, Deadline};
use crate::wire::{Message, h1, h2};

pub mod access;
pub mod config;
pub mod edge;
pub mod process;
pub mod upstream;

use config::Listener;
use process::{Directory, Process};
use upstream::Upstream;

/// How long Envoy may take from its start until it is live: each listener configures a VM of its own
/// first, and the machine may have other things to do.
const START: Duration = Duration::from_secs(240);

/// How long the log may lag behind an answer.
const LOG: Duration = Duration::from_secs(5);

/// What this ring needs from outside.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The Envoy binary, from `ENVOY`.
    pub envoy: PathBuf,
    /// The filter, from `PORTCULLIS_WASM`.
    pub wasm: PathBuf,
}

impl Tools {
    /// Finds them.
    ///
    /// # Errors
    /// One line on what is missing and what to do.
    pub fn find() -> Result<Self, String> {
        let file = |variable: &str, what: &str| {
            let path = env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_file());
            path.ok_or_else(|| {
                format!("{variable} names no file: set it to {what}, or run `cargo xtask test`")
            })
        };
        Ok(Self {
            envoy: file("ENVOY", "the Envoy 1.40 binary")?,
            wasm: file("PORTCULLIS_WASM", "the built portcullis.wasm")?,
        })
    }

    /// Whether there is an Envoy for this machine: one that can be had for its platform, or one
    /// that it was given.
    pub fn is_supported() -> bool {
        cfg!(all(target_os = "linux", target_arch = "x86_64")) || env::var_os("ENVOY").is_some()
    }
}

/// The ring.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    upstream: Upstream,
    /// Other services, by cluster.
    services: BTreeMap<String, Upstream>,
    /// Listeners by run.
    listeners: BTreeMap<String, Address>,
    /// The decisions so far.
    decided: RefCell<Vec<Record>>,
    /// What must be said nowhere.
    secrets: Vec<String>,
}

impl Envoy {
    /// Starts Envoy with a listener for each run.
    ///
    /// # Errors
    /// A tool is missing, or Envoy doesn't come up.
    pub fn start(corpus: &Corpus, runs: &[Run<'_>]) -> Result<Self, String> {
        let tools = Tools::find()?;
        let directory = Directory::new()?;
        let upstream = Upstream::start(&directory.path().join("upstream.sock"))?;
        let mut listeners = BTreeMap::new();
        let mut rendered = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let document = corpus.documents.get(&run.case.policy);
            let document =
                document.ok_or_else(|| format!("no policy is named `{}`", run.case.policy))?;
            let socket = directory.path().join(format!("{index}.sock"));
            let name = run.to_string();
            let listener = Listener {
                name: &name,
                socket: &socket,
                profile: run.profile,
                document,
            };
            rendered.push(listener.render(&tools.wasm));
            listeners.insert(name, Address::Unix(socket));
        }
        let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &rendered);
        let mut services = BTreeMap::new();
        for (index, cluster) in corpus.clusters().into_iter().enumerate() {
            let service = Upstream::start(&directory.path().join(format!("service-{index}.sock")))?;
            let clusters = bootstrap.pointer_mut("/static_resources/clusters");
            if let Some(serde_json::Value::Array(clusters)) = clusters {
                clusters.push(config::named_cluster(&cluster, service.socket()));
            }
            services.insert(cluster, service);
        }
        let mut process = Process::start(&tools.envoy, directory, &bootstrap)?;
        process.wait_until_live(Deadline::after(START))?;
        Ok(Self {
            process,
            upstream,
            services,
            listeners,
            decided: RefCell::default(),
            secrets: corpus.secrets().into_iter().map(str::to_owned).collect(),
        })
    }
}

impl Ring for Envoy {
    const NAME: &'static str = "envoy";
    const IS_REAL: bool = true;

    fn begin<'a>(
        &'a mut self,
        run: Run<'a>,
        _document: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String> {
        let root = run.to_string();
        let address = self.listeners.get(&root);
        let address = address.ok_or_else(|| format!("Envoy has no listener for {root}"))?;
        Ok(Box::new(Wire {
            process: &self.process,
            upstream: &self.upstream,
            services: &self.services,
            address,
            root,
            run,
            decided: &self.decided,
        }))
    }

    fn finish(&mut self) -> Result<(), String> {
        self.upstream.check_leaks()?;
        outlived(&self.process)?;
        access::tells_all(&self.process, &self.decided.borrow())?;
        keeps_secrets(&self.process, &self.secrets)
    }
}

/// No secret is in anything that Envoy tells: its log, with every host call of the filter, statistics,
/// configuration, access log.
///
/// # Errors
/// Where one is.
pub fn keeps_secrets(process: &Process, secrets: &[String]) -> Result<(), String> {
    let mut told = vec![
        ("the log", process.transcript()?),
        ("the access log", access::read(process)?.into_bytes()),
    ];
    for page in ["/stats", "/stats/prometheus", "/config_dump"] {
        told.push((page, process.admin(page)?.into_bytes()));
    }
    for (place, text) in told {
        if text.is_empty() {
            return Err(format!("{place} is empty"));
        }
        for secret in secrets {
            let found = text
                .windows(secret.len())
                .position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let around = text.get(at.saturating_sub(80)..at).unwrap_or_default();
                let around = around.escape_ascii();
                return Err(format!("a secret is in {place}, behind `{around}`"));
            }
        }
    }
    Ok(())
}

/// The law of the whole: nothing that was sent made a VM trap, or Envoy warn.
///
/// # Errors
/// What broke it.
pub fn outlived(process: &Process) -> Result<(), String> {
    for line in process.admin("/stats?filter=vm_reload")?.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && value != "0"
        {
            return Err(format!("a VM died: {name} is {value}"));
        }
    }
    let alarms = process.alarms();
    if alarms.is_empty() {
        Ok(())
    } else {
        Err(format!("Envoy's log:\n{}", alarms.join("\n")))
    }
}

/// A run over real sockets.
struct Wire<'a> {
    process: &'a Process,
    upstream: &'a Upstream,
    services: &'a BTreeMap<String, Upstream>,
    address: &'a Address,
    /// The `root_id` of the filter, by which its lines in the log are known.
    root: String,
    run: Run<'a>,
    /// Where decisions are noted.
    decided: &'a RefCell<Vec<Record>>,
}

impl Session for Wire<'_> {
    fn exchange(&mut self, step: &Step) -> Result<Exchange, String> {
        self.upstream.expect(step.answer.clone());
        for (cluster, service) in self.services {
            service.play(step.clusters.get(cluster));
        }
        self.process.forget_lines(&self.root);
        let wall = unix_time();
        let message = Message::new(&step.request, self.run.protocol);
        let response = match (&step.request.raw, self.run.protocol) {
            (Some(raw), _) => {
                let head_only = raw.as_bytes().starts_with(b"HEAD ");
                h1::exchange_raw(self.address, &[raw.as_bytes().to_vec()], head_only)
            }
            (None, Protocol::H1) => h1::exchange(self.address, &message),
            (None, Protocol::H2) => h2::exchange(self.address, &message),
        }
        .map_err(|e| {
            format!(
                "the exchange failed: {e}; {}",
                self.process.alarms().join("; ")
            )
        })?;
        let decided = step.expect.is_decided(self.run.protocol);
        let log = self
            .process
            .lines(&self.root, decided, Deadline::after(LOG))?;
        let records: Vec<Record> = log
            .iter()
            .filter_map(|line| Record::from_log(line))
            .collect::<Result<_, _>>()?;
        if records.len() > 1 {
            return Err(format!(
                "{} decisions were made for one request",
                records.len()
            ));
        }
        let record = records.into_iter().next();
        self.decided.borrow_mut().extend(record.clone());
        let decision = record.as_ref().and_then(|record| record.get("decision"));
        let may_begin = self.run.profile == Profile::Body && step.request.body.is_some();
        let upstream = self.upstream.seen(decision.as_deref(), may_begin)?;
        Ok(Exchange {
            response,
            upstream,
            record,
            asked: asked(self.services),
            log,
            wall,
        })
    }
}

/// What services were asked, by cluster.
fn asked(services: &BTreeMap<String, Upstream>) -> BTreeMap<String, Vec<Seen>> {
    services
        .iter()
        .map(|(cluster, service)| (cluster.clone(), service.asked()))
        .filter(|(_, asked)| !asked.is_empty())
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "real Envoy lives in real time")]
fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A path as JSON needs it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
