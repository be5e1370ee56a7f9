//! Where Envoy and its client run, so that they and the rest of the machine disturb each other least.

use std::path::Path;
use std::process::Command;
use std::thread;

use xtask::{process, tools};

/// What this machine allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    cores: usize,
    /// `taskset` is there, and more than one core.
    pins: bool,
    /// `chrt` is there, and we may use it.
    real_time: bool,
}

/// A middling priority: above everything that is not real-time.
const PRIORITY: &str = "20";

impl Placement {
    pub(crate) fn detect() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runs = |program: &str, arguments: &[&str]| {
            tools::on_path(program).is_some_and(|path| {
                let mut command = Command::new(path);
                process::capture(command.args(arguments), tools::QUICK)
                    .is_ok_and(|captured| captured.ok())
            })
        };
        Self {
            cores,
            pins: cores > 1 && runs("taskset", &["-c", "0", "true"]),
            real_time: runs("chrt", &["-r", PRIORITY, "true"]),
        }
    }

    /// Anywhere, at ordinary priority.
    pub(crate) const fn ordinary() -> Self {
        Self {
            cores: 1,
            pins: false,
            real_time: false,
        }
    }

    /// Envoy with so many workers: on the first cores.
    pub(crate) fn envoy(self, program: &Path, workers: u32) -> Command {
        let workers = usize::try_from(workers)
            .unwrap_or(usize::MAX)
            .min(self.cores);
        self.place(&format!("0-{}", workers.saturating_sub(1)), program)
    }

    /// Its client: on the core after Envoy's, or the last one.
    pub(crate) fn client(self, program: &Path, workers: u32) -> Command {
        let workers = usize::try_from(workers).unwrap_or(usize::MAX);
        self.place(
            &workers.min(self.cores.saturating_sub(1)).to_string(),
            program,
        )
    }

    /// In a few words.
    pub(crate) fn describe(self) -> String {
        let pins = if self.pins {
            "pinned"
        } else {
            "not pinned (no taskset, or one core)"
        };
        let priority = if self.real_time {
            "real-time"
        } else {
            "ordinary (no chrt -r)"
        };
        format!("{} cores, {pins}, {priority} priority", self.cores)
    }

    fn place(self, cores: &str, program: &Path) -> Command {
        let mut words: Vec<&str> = Vec::new();
        if self.pins {
            words.extend(["taskset", "-c", cores]);
        }
        if self.real_time {
            words.extend(["chrt", "-r", PRIORITY]);
        }
        match words.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }
}
