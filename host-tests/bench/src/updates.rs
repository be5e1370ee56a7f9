//! `--updates`: the policy is replaced while it is in use.
//!
//! Envoy watches the file of an extension configuration (ECDS). Each update is another policy: another
//! revision, a limit more or less, and a rule that binds or does not. The rate that is measured stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::failure::{Failure, Result};
use xtask::workspace;

use crate::bootstrap;
use crate::envoy::Envoy;

/// The policies, and the file in which the one in force stands.
#[derive(Debug)]
pub(crate) struct Updates {
    folder: PathBuf,
    file: PathBuf,
    module: PathBuf,
    policy: Value,
}

/// What waits between two updates.
const PACE: Duration = Duration::from_secs(1);
const HALF: Duration = Duration::from_millis(500);
/// Envoy takes an update over within this time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Updates {
    /// Writes the first policy.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(crate) fn new(folder: &Path, module: &Path, policy: Value) -> Result<Self> {
        let updates = Self {
            folder: folder.to_owned(),
            file: folder.join("gate.json"),
            module: module.to_owned(),
            policy,
        };
        updates.write(0)?;
        Ok(updates)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Replaces the policy once a second.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(crate) fn replace(&self, start: Start, count: u32) -> Result<()> {
        for number in 1..=count {
            let due = PACE.saturating_mul(number).saturating_sub(HALF);
            thread::sleep(due.saturating_sub(start.elapsed()));
            self.write(number)?;
        }
        Ok(())
    }

    /// Looks whether Envoy has taken each over.
    ///
    /// # Errors
    ///
    /// When it has not, or refused one.
    pub(crate) fn check(&self, envoy: &Envoy, count: u32) -> Result<()> {
        let wanted = u64::from(count).saturating_add(1);
        let start = Start::now();
        loop {
            let counters = envoy.counters("extension_config_discovery.http_filter.law\\.")?;
            let counter = |name: &str| {
                let full = format!("extension_config_discovery.http_filter.law.{name}");
                counters.get(&full).copied().unwrap_or_default()
            };
            let (taken, refused) = (counter("config_reload"), counter("config_fail"));
            if refused > 0 || start.elapsed() > PATIENCE {
                return Err(Failure::new(
                    format!("of {wanted} policies {taken} came into force, {refused} were refused"),
                    "read Envoy's log",
                ));
            }
            if taken >= wanted {
                eprintln!("{count} updates came into force, none was refused");
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts the n-th policy into the file's place: Envoy never reads half of one.
    fn write(&self, number: u32) -> Result<()> {
        let mut policy = self.policy.clone();
        let binds = if number.is_multiple_of(2) {
            "enforce"
        } else {
            "shadow"
        };
        if let Some(policy) = policy.as_object_mut() {
            policy.insert("revision".to_owned(), format!("update-{number}").into());
        }
        let limits = json!({ "extra": { "rate": "1000000/min", "mode": binds } });
        if let Some(api) = policy.pointer_mut("/apis/cybervault") {
            if let Some(api) = api.as_object_mut() {
                api.insert("limits".to_owned(), limits);
            }
            if let Some(read) = api.pointer_mut("/routes/read")
                && let Some(read) = read.as_object_mut()
                && number.is_multiple_of(3)
            {
                read.insert("limits".to_owned(), json!(["tier", "extra"]));
            }
        }
        let next = self.folder.join("next.json");
        let text = bootstrap::extension("law", &self.module, &policy);
        workspace::write(&next, text.to_string())?;
        fs::rename(&next, &self.file).map_err(|error| Failure::file(&self.file, &error))
    }
}
