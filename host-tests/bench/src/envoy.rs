//! A running Envoy, and what it tells of itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use xtask::clock::Start;
use xtask::failure::{Failure, Result};
use xtask::process::{self, Running};
use xtask::{http, workspace};

use crate::placement::Placement;

/// An Envoy that serves. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Envoy {
    running: Running,
    admin: SocketAddr,
    addresses: BTreeMap<String, SocketAddr>,
    /// Nanoseconds of CPU that it took to start.
    pub(crate) start_cpu: u64,
}

/// How requests were answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) passed: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

impl Answers {
    pub(crate) const fn total(self) -> u64 {
        self.passed
            .saturating_add(self.refused)
            .saturating_add(self.failed)
    }

    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            passed: self.passed.saturating_sub(before.passed),
            refused: self.refused.saturating_sub(before.refused),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

/// Tens of thousands of keys take a while to compile, in each VM.
const START: Duration = Duration::from_secs(180);

impl Envoy {
    /// Starts it in `folder`, which is made, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it ends, with what it said last, or does not serve in time.
    pub(crate) fn start(
        program: &Path,
        bootstrap: &Value,
        concurrency: u32,
        placement: Placement,
        folder: &Path,
    ) -> Result<Self> {
        let config = folder.join("envoy.json");
        let admin_file = folder.join("admin");
        let log = folder.join("envoy.log");
        workspace::write(&config, bootstrap.to_string())?;
        let _ = fs::remove_file(&admin_file);
        let stderr = File::create(&log).map_err(|error| Failure::file(&log, &error))?;
        let mut command = placement.envoy(program, concurrency);
        command
            .arg("--config-path")
            .arg(&config)
            .args(["--concurrency", &concurrency.to_string()])
            // Hot restart is for replacing a process by another: without it Envoys do not meet.
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stderr(stderr);
        let mut running = Running::start(&mut command)?;
        let start = Start::now();
        loop {
            if running.ended().is_some() {
                let said = workspace::read(&log).unwrap_or_default();
                let lines: Vec<&str> = said.lines().rev().take(12).collect();
                let lines: Vec<&str> = lines.into_iter().rev().collect();
                return Err(Failure::new(
                    format!("Envoy does not start:\n{}", lines.join("\n")),
                    format!("read {} and {}", log.display(), config.display()),
                ));
            }
            if process::stopped() {
                return Err(Failure::Stopped);
            }
            if let Some((admin, addresses)) = serving(&admin_file) {
                let mut envoy = Self {
                    running,
                    admin,
                    addresses,
                    start_cpu: 0,
                };
                envoy.start_cpu = envoy.cpu()?;
                return Ok(envoy);
            }
            if start.elapsed() > START {
                return Err(Failure::new(
                    format!("Envoy does not serve within {} s", START.as_secs()),
                    format!("read {}", log.display()),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where a listener listens.
    ///
    /// # Errors
    ///
    /// When there is no such listener.
    pub(crate) fn address(&self, listener: &str) -> Result<SocketAddr> {
        self.addresses.get(listener).copied().ok_or_else(|| {
            Failure::new(
                format!("Envoy has no listener `{listener}`"),
                "run the benchmark again",
            )
        })
    }

    /// Nanoseconds that all its threads have run.
    ///
    /// # Errors
    ///
    /// When /proc does not tell: this is not Linux, or Envoy is gone.
    pub(crate) fn cpu(&self) -> Result<u64> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.running.id()));
        let entries = fs::read_dir(&tasks).map_err(|error| Failure::file(&tasks, &error))?;
        let mut sum = 0_u64;
        for entry in entries {
            let file = entry
                .map_err(|error| Failure::file(&tasks, &error))?
                .path()
                .join("schedstat");
            // A thread that has just ended is none of those that serve.
            let text = fs::read_to_string(&file).unwrap_or_default();
            let ran: Option<u64> = text.split(' ').next().and_then(|ran| ran.parse().ok());
            sum = sum.saturating_add(ran.unwrap_or_default());
        }
        if sum == 0 {
            return Err(Failure::new(
                format!("{} tells no running time", tasks.display()),
                "run this on Linux, with a kernel that has CONFIG_SCHED_INFO",
            ));
        }
        Ok(sum)
    }

    /// Its resident memory in KiB.
    ///
    /// # Errors
    ///
    /// When /proc does not tell.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = workspace::read(Path::new(&format!("/proc/{}/status", self.running.id())))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        resident
            .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
            .ok_or_else(|| Failure::new("/proc tells no resident memory", "run this on Linux"))
    }

    /// How the requests of a listener were answered so far.
    ///
    /// # Errors
    ///
    /// When Envoy does not answer.
    pub(crate) fn answers(&self, listener: &str) -> Result<Answers> {
        let prefix = format!("http.{listener}.downstream_rq_");
        let counters = self.counters(&format!("^http\\.{listener}\\.downstream_rq_[245]xx$"))?;
        let count = |class: &str| {
            counters
                .get(&format!("{prefix}{class}"))
                .copied()
                .unwrap_or_default()
        };
        Ok(Answers {
            passed: count("2xx"),
            refused: count("4xx"),
            failed: count("5xx"),
        })
    }

    /// Counters and gauges whose names match a regular expression.
    ///
    /// # Errors
    ///
    /// When Envoy does not answer.
    pub(crate) fn counters(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let text = ask(self.admin, &format!("/stats?filter={}", escape(filter)))?;
        let pairs = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(pairs.collect())
    }
}

impl Envoy {
    /// All that a histogram has counted, as `low,width:count, ...`; empty where it has counted nothing.
    ///
    /// # Errors
    ///
    /// When Envoy does not answer.
    pub(crate) fn histogram(&self, name: &str) -> Result<String> {
        let filter = escape(&format!("^{name}$"));
        let path = format!("/stats?histogram_buckets=detailed&filter={filter}");
        let text = ask(self.admin, &path)?;
        let totals = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("totals="));
        Ok(totals.unwrap_or_default().to_owned())
    }
}

fn ask(admin: SocketAddr, path: &str) -> Result<String> {
    let answer = http::get(admin, path).map_err(|error| {
        Failure::new(
            format!("Envoy's admin interface: {error}"),
            "run the benchmark again",
        )
    })?;
    Ok(answer.body)
}

/// Percent-encodes what a query can't hold as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The admin interface's address and the listeners', once Envoy is live.
fn serving(admin_file: &Path) -> Option<(SocketAddr, BTreeMap<String, SocketAddr>)> {
    let admin = fs::read_to_string(admin_file).ok()?.trim().parse().ok()?;
    if http::get(admin, "/ready").ok()?.body.trim() != "LIVE" {
        return None;
    }
    let listeners = http::get(admin, "/listeners?format=json").ok()?.body;
    let listeners: Value = serde_json::from_str(&listeners).ok()?;
    let mut addresses = BTreeMap::new();
    for listener in listeners.get("listener_statuses")?.as_array()? {
        let socket = listener.get("local_address")?.get("socket_address")?;
        let port = u16::try_from(socket.get("port_value")?.as_u64()?).ok()?;
        let name = listener.get("name")?.as_str()?.to_owned();
        addresses.insert(name, ([127, 0, 0, 1], port).into());
    }
    Some((admin, addresses))
}
