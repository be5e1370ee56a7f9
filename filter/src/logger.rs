//! The host's log, as the back end of the `log` crate.
//!
//! The SDK has one too, but that one panics when the host refuses a line, and its panic hook
//! prints messages, in which a key may stand.

use log::{LevelFilter, Log, Metadata, Record};

use crate::hostcall;

struct HostLog;

/// Sends log lines to the host, and of a panic its place only
pub(crate) fn install() {
    static LOG: HostLog = HostLog;
    // A second logger can't be there: this module is the only one that installs any.
    let _: Result<(), log::SetLoggerError> = log::set_logger(&LOG);
    log::set_max_level(LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|place| format!("{}:{}", place.file(), place.line()));
        hostcall::log(CRITICAL, &format!("panic at {}", place.unwrap_or_default()));
    }));
}

/// Takes over the level that the host's log has now
pub(crate) fn adopt_level() {
    let level = match hostcall::log_level() {
        Ok(0) => LevelFilter::Trace,
        Ok(1) => LevelFilter::Debug,
        Ok(2) | Err(_) => LevelFilter::Info,
        Ok(3) => LevelFilter::Warn,
        Ok(_) => LevelFilter::Error,
    };
    log::set_max_level(level);
}

const CRITICAL: u32 = 5;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        hostcall::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
