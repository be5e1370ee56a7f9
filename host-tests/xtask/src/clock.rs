//! The one place that reads a clock.

use std::time::{Duration, Instant};

/// A point from which time is measured.
#[derive(Clone, Copy, Debug)]
pub struct Start(Instant);

impl Start {
    /// Now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "tasks wait for processes and tell how long they took"
    )]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// How long ago that was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
