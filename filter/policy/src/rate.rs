//! What clients are told of their limit.

use crate::reply::ResetUnit;

/// How an account's bucket stands
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// Cells per window
    pub(crate) limit: u64,
    /// Cells that can pass now without waiting
    pub(crate) remaining: u64,
    /// Nanoseconds until the bucket is full
    pub(crate) full_in: u64,
}

impl Standing {
    /// The one of two limits that lets fewer requests pass now
    pub(crate) fn tighter(self, other: Option<Self>) -> Option<Self> {
        Some(match other {
            Some(other) if other.remaining <= self.remaining => other,
            _ => self,
        })
    }
}

/// The three rate headers of a response, ready to be written
///
/// `X-RateLimit-Limit` (count per window), `-Remaining` (requests that can pass now without
/// waiting) and `-Reset` (when the bucket is full, in the unit of the API's dialect).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateHeaders {
    limit: u64,
    remaining: u64,
    reset: u64,
}

impl RateHeaders {
    pub(crate) fn new(standing: Standing, wall: u64, unit: ResetUnit) -> Self {
        let reset = match unit {
            ResetUnit::Seconds => seconds_up(standing.full_in),
            ResetUnit::UnixTime => seconds_up(wall.saturating_add(standing.full_in)),
        };
        Self {
            limit: standing.limit,
            remaining: standing.remaining,
            reset,
        }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Hands out each header, name in lower case
    pub fn each(&self, mut header: impl FnMut(&'static str, &str)) {
        let mut digits = itoa::Buffer::new();
        header("x-ratelimit-limit", digits.format(self.limit));
        header("x-ratelimit-remaining", digits.format(self.remaining));
        header("x-ratelimit-reset", digits.format(self.reset));
    }
}

/// Nanoseconds as whole seconds, rounded up: never promise an instant that is too early
pub(crate) fn seconds_up(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}
