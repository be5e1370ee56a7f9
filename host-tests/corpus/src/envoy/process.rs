//! An Envoy process: started, watched, and ended by its pid.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::document::ENVIRONMENT;
use crate::wire::stream::{Address, Deadline};
use crate::wire::{Message, h1};

/// A directory of our own that goes when this goes.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes a fresh one. Its path is short: a Unix socket's path has at most 107 bytes.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portcullis-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The file with all that Envoy wrote.
const TRANSCRIPT: &str = "envoy.log";

/// A running Envoy.
#[derive(Debug)]
pub struct Process {
    child: Child,
    directory: Directory,
    log: Arc<Log>,
}

/// What Envoy has written, sorted by who said it.
#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    /// Messages of the filter by root.
    filters: BTreeMap<String, Vec<String>>,
    /// All the rest.
    others: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts Envoy with one worker. Its log has all that is said about the filter and its host calls,
    /// and warnings of the rest: Envoy's own trace of HTTP shows every header, keys among them.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(envoy: &Path, directory: Directory, bootstrap: &Value) -> Result<Self, String> {
        let file = directory.path().join("envoy.json");
        fs::write(&file, bootstrap.to_string()).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::start_file(envoy, directory, &file)
    }

    /// As [`start`](Self::start), with so many workers.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_workers(
        envoy: &Path,
        directory: Directory,
        bootstrap: &Value,
        workers: u32,
    ) -> Result<Self, String> {
        let file = directory.path().join("envoy.json");
        fs::write(&file, bootstrap.to_string()).map_err(|e| format!("{}: {e}", file.display()))?;
        Self::run(envoy, directory, &file, workers)
    }

    /// Starts Envoy with a configuration file.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_file(envoy: &Path, directory: Directory, file: &Path) -> Result<Self, String> {
        Self::run(envoy, directory, file, 1)
    }

    fn run(envoy: &Path, directory: Directory, file: &Path, workers: u32) -> Result<Self, String> {
        let mut child = Command::new(envoy)
            .envs(ENVIRONMENT.iter().copied())
            .args(["--concurrency", &workers.to_string()])
            .args(["--use-dynamic-base-id", "--disable-hot-restart"])
            .args([
                "--log-level",
                "warning",
                "--component-log-level",
                "wasm:trace",
                "--log-format",
                "%l %v",
                "--file-flush-interval-msec",
                "50",
            ])
            .arg("--config-path")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{} did not start: {e}", envoy.display()))?;
        let log = Arc::new(Log::default());
        let transcript = directory.path().join(TRANSCRIPT);
        let mut transcript =
            File::create(&transcript).map_err(|e| format!("{}: {e}", transcript.display()))?;
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.follow(BufReader::new(stderr), &mut transcript));
        }
        Ok(Self {
            child,
            directory,
            log,
        })
    }

    /// The directory that lives as long as the process.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until Envoy is live.
    ///
    /// # Errors
    /// It ended, or isn't live in time; with what it said.
    pub fn wait_until_live(&mut self, deadline: Deadline) -> Result<(), String> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("Envoy ended with {status}:\n{}", self.said()));
            }
            if self
                .admin("/ready")
                .is_ok_and(|answer| answer.trim() == "LIVE")
            {
                return Ok(());
            }
            deadline
                .left()
                .map_err(|_| format!("Envoy is not live in time:\n{}", self.said()))?;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until Envoy has ended by itself.
    ///
    /// # Errors
    /// It goes on.
    pub fn wait_until_ended(&mut self, deadline: Deadline) -> Result<ExitStatus, String> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    drop(self.log.wait(deadline, |state| state.ended));
                    return Ok(status);
                }
                Ok(None) => {}
                Err(e) => return Err(format!("Envoy's end could not be awaited: {e}")),
            }
            deadline
                .left()
                .map_err(|_| format!("Envoy goes on:\n{}", self.said()))?;
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the admin interface.
    ///
    /// # Errors
    /// No answer.
    pub fn admin(&self, path: &str) -> Result<String, String> {
        let address = Address::Unix(self.directory.path().join("admin.sock"));
        let message = Message {
            method: Some(b"GET".to_vec()),
            path: Some(path.into()),
            host: Some(b"admin".to_vec()),
            ..Message::default()
        };
        let response =
            h1::exchange(&address, &message).map_err(|e| format!("admin {path}: {e}"))?;
        let response = response.ok_or_else(|| format!("admin {path}: no answer"))?;
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Forgets what the filter of this root has said so far.
    pub fn forget_lines(&self, root: &str) {
        self.log.lock().filters.remove(root);
    }

    /// What the filter of this root has said since, once there is a decision among it if one is
    /// `decided`.
    ///
    /// # Errors
    /// Envoy has ended.
    pub fn lines(
        &self,
        root: &str,
        decided: bool,
        deadline: Deadline,
    ) -> Result<Vec<String>, String> {
        let has_decision = |state: &LogState| {
            let lines = state.filters.get(root).into_iter().flatten();
            state.ended || !decided || lines.into_iter().any(|line| line.starts_with("decision "))
        };
        let mut state = self.log.wait(deadline, has_decision);
        if state.ended {
            return Err(format!("Envoy has ended:\n{}", state.others.join("\n")));
        }
        Ok(state.filters.remove(root).unwrap_or_default())
    }

    /// Waits for a line of Envoy itself that contains this, and gives it.
    pub fn line(&self, part: &str, deadline: Deadline) -> Option<String> {
        let state = self.log.wait(deadline, |state| {
            state.others.iter().any(|line| line.contains(part))
        });
        state
            .others
            .iter()
            .find(|line| line.contains(part))
            .cloned()
    }

    /// All lines that Envoy has written so far, as it wrote them.
    ///
    /// # Errors
    /// The file is gone.
    pub fn transcript(&self) -> Result<Vec<u8>, String> {
        let path = self.directory().join(TRANSCRIPT);
        fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// What Envoy said that nothing may make it say: warnings, errors, and what follows them.
    pub fn alarms(&self) -> Vec<String> {
        let state = self.log.lock();
        let is_alarm = |line: &&String| {
            !["debug ", "info ", "trace "]
                .iter()
                .any(|l| line.starts_with(l))
        };
        state.others.iter().filter(is_alarm).cloned().collect()
    }

    /// All that Envoy and the filters have said.
    pub fn said(&self) -> String {
        let state = self.log.lock();
        let filters = state
            .filters
            .iter()
            .flat_map(|(root, lines)| lines.iter().map(move |line| format!("{root}: {line}")));
        state
            .others
            .iter()
            .cloned()
            .chain(filters)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is so, or the deadline passes.
    fn wait(
        &self,
        deadline: Deadline,
        until: impl Fn(&LogState) -> bool,
    ) -> std::sync::MutexGuard<'_, LogState> {
        let mut state = self.lock();
        while !until(&state)
            && let Ok(left) = deadline.left()
        {
            let waited = self.grown.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Takes lines in until there are no more, and writes each down.
    fn follow(&self, mut from: impl BufRead, transcript: &mut impl Write) {
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            // A test that looks at the transcript finds it short.
            let _ = transcript.write_all(&line);
            self.add(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        self.lock().ended = true;
        self.grown.notify_all();
    }

    /// Sorts a line in. The filter's are `LEVEL wasm log PLUGIN ROOT VM: MESSAGE`, without what is
    /// empty.
    fn add(&self, line: &str) {
        let mut state = self.lock();
        let said = line
            .split_once(" wasm log portcullis ")
            .and_then(|(_, rest)| rest.split_once(": "));
        match said {
            Some((who, message)) => {
                let root = who.split_once(' ').map_or("", |(root, _)| root);
                state
                    .filters
                    .entry(root.to_owned())
                    .or_default()
                    .push(message.to_owned());
            }
            // Host calls, two lines each: only the transcript has them.
            None if line.starts_with("trace ") => {}
            None => state.others.push(line.to_owned()),
        }
        self.grown.notify_all();
    }
}
