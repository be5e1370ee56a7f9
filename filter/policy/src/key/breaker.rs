//! The breaker: a service that fails is left alone for a while.

/// When a breaker opens, and for how long
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BreakerRule {
    /// Failures in a row that open it
    pub(crate) failures: u64,
    /// Nanoseconds until one call tries again
    pub(crate) pause: u64,
}

/// Whether a service is called
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Breaker {
    /// It is; so many calls in a row have failed
    Closed { failures: u64 },
    /// It is not until then, in monotonic nanoseconds
    Open { until: u64 },
    /// One call is under way that decides
    HalfOpen,
}

impl Breaker {
    /// Whether a call may be made now
    pub(crate) fn admits(self, now: u64) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { until } => now >= until,
            Self::HalfOpen => false,
        }
    }

    /// Notes a call that is made
    pub(crate) fn begin(&mut self) {
        if let Self::Open { .. } = self {
            *self = Self::HalfOpen;
        }
    }

    /// Notes what came of a call
    pub(crate) fn end(&mut self, rule: BreakerRule, good: bool, now: u64) {
        let open = Self::Open {
            until: now.saturating_add(rule.pause),
        };
        *self = match *self {
            _ if good => Self::Closed { failures: 0 },
            Self::Closed { failures } => match failures.saturating_add(1) {
                failures if failures < rule.failures => Self::Closed { failures },
                _ => open,
            },
            Self::HalfOpen => open,
            // A call that was under way when it opened.
            Self::Open { until } => Self::Open { until },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: BreakerRule = BreakerRule {
        failures: 2,
        pause: 100,
    };

    #[test]
    fn it_opens_tries_one_call_and_closes() {
        let mut breaker = Breaker::Closed { failures: 0 };
        breaker.end(RULE, false, 10);
        assert!(breaker.admits(10));
        breaker.end(RULE, false, 10);
        assert!(!breaker.admits(109) && breaker.admits(110));
        // Late word of a call from before changes nothing.
        breaker.end(RULE, false, 50);
        assert_eq!(breaker, Breaker::Open { until: 110 });
        breaker.begin();
        assert!(!breaker.admits(110));
        breaker.end(RULE, false, 120);
        assert_eq!(breaker, Breaker::Open { until: 220 });
        breaker.begin();
        breaker.end(RULE, true, 230);
        assert_eq!(breaker, Breaker::Closed { failures: 0 });
    }

    #[test]
    fn failures_that_are_not_in_a_row_do_not_open_it() {
        let mut breaker = Breaker::Closed { failures: 0 };
        for _ in 0..5 {
            breaker.end(RULE, false, 0);
            breaker.end(RULE, true, 0);
        }
        assert!(breaker.admits(0));
    }
}
