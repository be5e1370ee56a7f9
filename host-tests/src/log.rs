//! What guests write: kept for a test to read, or printed.

use std::{
    fmt::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{abi::LogLevel, world::CANARY};

/// A line that a guest logged, or wrote to its standard output or error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Number of the worker whose VM wrote it.
    pub worker: u32,
    /// The context in whose name it was written.
    pub context: u32,
    /// How serious the guest takes it.
    pub level: LogLevel,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
        };
        write!(f, "{level}: ")?;
        // A guest may log what a client sent: no line of ours is forged by it, no terminal moved.
        self.text.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "{}", c.escape_default())
            } else {
                f.write_char(c)
            }
        })
    }
}

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSink {
    /// Kept, for a test to read.
    Keep,
    /// Written to standard error, from this level up; nothing is kept.
    Print(LogLevel),
}

/// The lines of all workers, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct Logs {
    sink: LogSink,
    lines: Mutex<Vec<LogLine>>,
}

impl Logs {
    pub(crate) fn new(sink: LogSink) -> Self {
        Self {
            sink,
            lines: Mutex::default(),
        }
    }

    pub(crate) fn write(&self, line: LogLine) {
        match self.sink {
            LogSink::Keep => self.lock().push(line),
            // What the canary has to say of a policy is in the error, or said again by the workers.
            LogSink::Print(from) if line.level >= from && line.worker != CANARY => {
                eprintln!("{line}");
            }
            LogSink::Print(_) => {}
        }
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.lock().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The lines from this position on.
    pub(crate) fn since(&self, start: usize) -> Vec<LogLine> {
        self.lock().iter().skip(start).cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LogLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_forged() {
        let text = "{\"a\":1}\nerror: \u{1b}[31mforged é".to_owned();
        let line = LogLine {
            worker: 0,
            context: 1,
            level: LogLevel::Warn,
            text,
        };
        assert_eq!(
            line.to_string(),
            "warning: {\"a\":1}\\nerror: \\u{1b}[31mforged é"
        );
    }
}
