//! Time. The guest's two clocks (`proxy_get_current_time_nanoseconds` and WASI's
//! `clock_time_get`) and every timer of the host read the same one.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Where time comes from.
pub trait Clock: Debug + Send + Sync {
    /// Nanoseconds since some fixed moment; never goes back, and keeps its pace when the wall
    /// clock is set.
    fn monotonic(&self) -> u64;

    /// Nanoseconds since 1970-01-01 00:00 UTC; may jump both ways.
    fn wall(&self) -> u64;
}

/// A clock that moves when it is told to.
#[derive(Debug)]
pub struct VirtualClock {
    monotonic: AtomicU64,
    wall: AtomicU64,
}

impl VirtualClock {
    /// 2026-11-21 00:00:00 UTC, where a new clock stands.
    pub const START_WALL: u64 = 1_795_219_200_000_000_000;
    /// The monotonic reading of a new clock: an hour and a bit, because a machine that runs a
    /// proxy was not booted this moment.
    pub const START_MONOTONIC: u64 = 4_000_000_000_000;

    /// A clock at the given readings, in nanoseconds.
    #[must_use]
    pub const fn new(monotonic: u64, wall: u64) -> Self {
        Self {
            monotonic: AtomicU64::new(monotonic),
            wall: AtomicU64::new(wall),
        }
    }

    /// Moves both clocks forward by the same time.
    pub fn advance(&self, by: Duration) {
        let by = nanoseconds(by);
        for clock in [&self.monotonic, &self.wall] {
            clock.store(
                clock.load(Ordering::SeqCst).saturating_add(by),
                Ordering::SeqCst,
            );
        }
    }

    /// Sets the wall clock, as an administrator or NTP would; the monotonic one does not notice.
    pub fn set_wall(&self, nanoseconds: u64) {
        self.wall.store(nanoseconds, Ordering::SeqCst);
    }

    /// Sets the monotonic clock. Real ones never go back: this is for tests of what must hold
    /// even then.
    pub fn set_monotonic(&self, nanoseconds: u64) {
        self.monotonic.store(nanoseconds, Ordering::SeqCst);
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new(Self::START_MONOTONIC, Self::START_WALL)
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> u64 {
        self.monotonic.load(Ordering::SeqCst)
    }

    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading is the time since now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the shell's clock")]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> u64 {
        // A machine's clock does not start at zero, and code that subtracts from it must not
        // depend on that: start where a virtual clock does.
        nanoseconds(self.started.elapsed()).saturating_add(VirtualClock::START_MONOTONIC)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the shell's clock")]
    fn wall(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, nanoseconds)
    }
}

/// A duration in nanoseconds; more than 584 years are as many as fit.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_leaves_the_monotonic_one_alone() {
        let clock = VirtualClock::default();
        clock.advance(Duration::from_secs(1));
        clock.set_wall(7);
        assert_eq!(clock.wall(), 7);
        assert_eq!(
            clock.monotonic(),
            VirtualClock::START_MONOTONIC + 1_000_000_000
        );
        clock.advance(Duration::MAX);
        assert_eq!(clock.wall(), u64::MAX);
    }

    #[test]
    fn the_machines_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
        assert!(clock.wall() > VirtualClock::START_WALL);
    }
}
