//! A running Envoy.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use crate::clock::Start;
use crate::failure::{Failure, Result};
use crate::http;
use crate::process::{self, Running};
use crate::workspace;

/// An Envoy that answers. It ends when dropped.
#[derive(Debug)]
pub struct Edge {
    running: Running,
    address: SocketAddr,
    tls: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

impl Edge {
    /// Starts `envoy` with `config` and waits until it serves. `folder`, which is made, gets the
    /// configuration, `envoy.log` and `access.log`. With `concurrency` of `None` Envoy takes a worker
    /// per core.
    ///
    /// # Errors
    ///
    /// When Envoy ends, with what it says about the reason (a policy's errors, above all), or does
    /// not serve within 60 seconds.
    pub fn start(
        envoy: &Path,
        config: &str,
        folder: &Path,
        concurrency: Option<u32>,
    ) -> Result<Self> {
        let yaml = folder.join("envoy.yaml");
        let admin_file = folder.join("admin");
        workspace::write(&yaml, config)?;
        let _ = fs::remove_file(&admin_file);
        let mut command = Command::new(envoy);
        command
            .arg("-c")
            .arg(&yaml)
            // Hot restart is for replacing a process by another: without it Envoys do not meet.
            .args([
                "--disable-hot-restart",
                "--log-level",
                "warning",
                "--component-log-level",
                "wasm:info",
                // The access log is to be read while it is written.
                "--file-flush-interval-msec",
                "500",
            ])
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdout(create(&folder.join("access.log"))?)
            .stderr(create(&folder.join("envoy.log"))?);
        if let Some(workers) = concurrency {
            command.args(["--concurrency", &workers.to_string()]);
        }
        let mut running = Running::start(&mut command)?;
        let start = Start::now();
        loop {
            if running.ended().is_some() {
                return Err(refused(folder));
            }
            if process::stopped() {
                return Err(Failure::Stopped);
            }
            if let Some((admin, address, tls)) = serving(&admin_file) {
                return Ok(Self {
                    running,
                    address,
                    tls,
                    admin,
                    folder: folder.to_owned(),
                });
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err(Failure::new(
                    "Envoy does not serve within 60 seconds",
                    format!("read {}", folder.join("envoy.log").display()),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect over TLS.
    #[must_use]
    pub const fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// Where the admin interface listens.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// What Envoy and the filter have logged so far.
    ///
    /// # Errors
    ///
    /// When the file can't be read.
    pub fn log(&self) -> Result<String> {
        workspace::read(&self.folder.join("envoy.log"))
    }

    /// Ends it, after which its logs are complete.
    pub fn end(&mut self) {
        self.running.end();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.running.ended()
    }
}

/// Runs `envoy --mode validate` on a configuration. This loads the module and configures the filter.
///
/// # Errors
///
/// When Envoy refuses it, with the reasons.
pub fn validate(envoy: &Path, config: &str, folder: &Path) -> Result<()> {
    let yaml = folder.join("envoy.yaml");
    workspace::write(&yaml, config)?;
    let mut command = Command::new(envoy);
    command
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(&yaml)
        .stdout(create(&folder.join("access.log"))?)
        .stderr(create(&folder.join("envoy.log"))?);
    if process::status(&mut command)?.success() {
        Ok(())
    } else {
        Err(refused(folder))
    }
}

/// What of Envoy's log tells why it does not run: the filter's own lines if there are any (they name
/// the places in the policy), else Envoy's errors. Each is told once, however often it was logged.
#[must_use]
pub fn reasons(log: &str) -> Vec<String> {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in log.lines() {
        match Entry::read(line) {
            Some(entry) => entries.push((entry.level, entry.message.to_owned())),
            // The rest of a message of several lines.
            None => {
                if let (Some((_, message)), false) = (entries.last_mut(), line.trim().is_empty()) {
                    message.push_str("\n    ");
                    message.push_str(line.trim());
                }
            }
        }
    }
    let bad =
        |levels: &'static [&'static str]| move |entry: &&(&str, String)| levels.contains(&entry.0);
    let once = |messages: &mut dyn Iterator<Item = String>| {
        let mut told: Vec<String> = Vec::new();
        for message in messages {
            if !told.contains(&message) {
                told.push(message);
            }
        }
        told
    };
    let ours = once(
        &mut entries
            .iter()
            .filter(bad(&["warning", "error", "critical"]))
            .filter_map(|(_, message)| {
                Some(
                    message
                        .strip_prefix("wasm log")?
                        .split_once(": ")?
                        .1
                        .to_owned(),
                )
            }),
    );
    if ours.is_empty() {
        once(
            &mut entries
                .iter()
                .filter(bad(&["error", "critical"]))
                .map(|(_, message)| message.clone()),
        )
    } else {
        ours
    }
}

/// One line of Envoy's log: `[time][thread][level][component] [source] message`.
struct Entry<'a> {
    level: &'a str,
    message: &'a str,
}

impl<'a> Entry<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (_time, rest) = line.strip_prefix("[2")?.split_once("][")?;
        let (_thread, rest) = rest.split_once("][")?;
        let (level, rest) = rest.split_once("][")?;
        let (_component, rest) = rest.split_once("] ")?;
        let (_source, message) = rest.split_once("] ")?;
        Some(Self { level, message })
    }
}

fn refused(folder: &Path) -> Failure {
    let path = folder.join("envoy.log");
    let reasons = reasons(&workspace::read(&path).unwrap_or_default());
    let list: String = reasons
        .iter()
        .map(|reason| format!("\n  - {reason}"))
        .collect();
    Failure::new(
        format!("Envoy does not take the configuration{list}"),
        format!(
            "change what is named above; the whole log is {}",
            path.display()
        ),
    )
}

/// The addresses of admin, listener and TLS listener, once Envoy serves: it says so, and a connection
/// is taken.
fn serving(admin_file: &Path) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
    let admin = fs::read_to_string(admin_file).ok()?.trim().parse().ok()?;
    http::get(admin, "/ready")
        .ok()
        .filter(|answer| answer.status == 200)?;
    let listeners = http::get(admin, "/listeners").ok()?.body;
    let listener = |name: &str| -> Option<SocketAddr> {
        let address = |line: &str| line.strip_prefix(name)?.strip_prefix("::")?.parse().ok();
        listeners.lines().find_map(address)
    };
    let address = listener("edge")?;
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    Some((admin, address, listener("edge_tls")?))
}

fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|error| Failure::file(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "[2026-11-21 19:25:12.398][9877]";

    #[test]
    fn the_filters_reasons_come_alone_and_once() {
        let log = format!(
            "{PREFIX}[warning][misc] [source/common/protobuf.cc:23] Deprecated field\n\
             {PREFIX}[error][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log portcullis: apis.a.tiers.b.rate: `fast` is no rate: write 1000/min\n\
             {PREFIX}[error][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log portcullis: version: missing\n\
             {PREFIX}[info][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log portcullis: hello\n\
             {PREFIX}[error][wasm] [source/extensions/common/wasm/context.cc:1157] wasm log portcullis portcullis: version: missing\n\
             {PREFIX}[critical][main] [source/server/server.cc:76] error initializing configuration\n"
        );
        assert_eq!(
            reasons(&log),
            [
                "apis.a.tiers.b.rate: `fast` is no rate: write 1000/min",
                "version: missing"
            ]
        );
    }

    #[test]
    fn without_them_envoys_errors_are_told() {
        let log = format!(
            "{PREFIX}[warning][misc] [source/common/protobuf.cc:23] Deprecated field\n\
             {PREFIX}[critical][main] [source/server/server.cc:76] error initializing: no such field: 'a'\n\
             \n  near line 3\n\
             {PREFIX}[info][main] [source/server/server.cc:80] exiting\n"
        );
        assert_eq!(
            reasons(&log),
            ["error initializing: no such field: 'a'\n    near line 3"]
        );
        assert_eq!(reasons("no log at all\n"), [""; 0]);
    }
}
