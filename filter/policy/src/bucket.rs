//! The token bucket, as the generic cell rate algorithm.
//!
//! GCRA (ITU-T I.371) keeps one number, the theoretical arrival time (TAT): the instant at
//! which the bucket will be full again. All times are nanoseconds of a monotonic clock.
//! The law that holds for any interval `t`: passes <= burst + floor(rate x t).

use core::num::NonZeroU64;

/// A token bucket's fixed part: how fast it fills and how much it holds
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bucket {
    /// Cells per window, the number that clients are told
    count: u64,
    /// Nanoseconds from one cell to the next
    emission: NonZeroU64,
    /// Cells that may pass at once
    burst: u64,
    /// Nanoseconds for which a cell that comes too early may be held
    max_wait: u64,
}

/// A charge that the bucket bears later
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reserved {
    /// The TAT afterwards: where the reserved slot ends
    pub tat: u64,
    /// When the request may go
    pub until: u64,
}

/// A charge that the bucket can't bear
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Nanoseconds until the same charge passes, if nothing else does before; at least 1
    pub retry_after: u64,
}

impl Bucket {
    /// A bucket that lets `count` cells per `window` nanoseconds pass, and `burst` at once
    ///
    /// The emission interval is rounded up, so that the rate is never above what is written.
    /// `None` when a number is zero, the interval is below a nanosecond, or the whole bucket
    /// takes longer than ten years to fill.
    #[must_use]
    pub fn new(count: u64, window: u64, burst: u64) -> Option<Self> {
        const TEN_YEARS: u64 = 315_360_000_000_000_000;
        if count == 0 || burst == 0 || count > window {
            return None;
        }
        let emission = NonZeroU64::new(window.div_ceil(count))?;
        emission
            .get()
            .checked_mul(burst)
            .filter(|tolerance| *tolerance <= TEN_YEARS)?;
        Some(Self {
            count,
            emission,
            burst,
            max_wait: 0,
        })
    }

    /// What each of a number of hosts enforces that share the bucket alike
    ///
    /// `None` when the burst is too small to be divided, or the bucket takes too long to fill.
    #[must_use]
    pub fn divided(self, hosts: u64) -> Option<Self> {
        let burst = self.burst.checked_div(hosts)?;
        let window = self.window().checked_mul(hosts)?;
        let count = self.count.checked_div(hosts)?.max(1);
        Self::new(self.count, window, burst).map(|divided| Self { count, ..divided })
    }

    /// Longest time that a bucket may hold a request, in nanoseconds: a minute
    pub const MAX_WAIT: u64 = 60_000_000_000;

    /// How late a release may be without breaking the law, at the least, in nanoseconds
    const SLACK: u64 = 50_000_000;

    /// The same bucket, which holds what comes too early for up to `max_wait` nanoseconds
    ///
    /// `None` for more than [`MAX_WAIT`](Self::MAX_WAIT), and for a burst that lasts less than 50 ms:
    /// hosts let go of requests some milliseconds late, which only what is left of the burst can bear.
    #[must_use]
    pub fn with_queue(self, max_wait: u64) -> Option<Self> {
        (self.bears_delay(1) && max_wait <= Self::MAX_WAIT).then_some(Self { max_wait, ..self })
    }

    fn bears_delay(&self, cells: u64) -> bool {
        self.span(self.burst.saturating_sub(cells)) >= Self::SLACK
    }

    /// The same bucket, which holds nothing
    #[must_use]
    pub fn without_queue(self) -> Self {
        Self {
            max_wait: 0,
            ..self
        }
    }

    /// Whether what comes too early is held
    #[must_use]
    pub fn has_queue(&self) -> bool {
        self.max_wait > 0
    }

    /// Cells per window
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Cells that may pass at once
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds from one cell to the next
    #[must_use]
    pub fn emission(&self) -> u64 {
        self.emission.get()
    }

    /// Nanoseconds that an empty bucket takes to fill
    #[must_use]
    pub fn tolerance(&self) -> u64 {
        self.span(self.burst)
    }

    /// Nanoseconds of the window that [`count`](Self::count) belongs to, rounded up with the rate
    #[must_use]
    pub fn window(&self) -> u64 {
        self.span(self.count)
    }

    /// Nanoseconds that a number of cells stand for
    #[must_use]
    pub fn span(&self, cells: u64) -> u64 {
        self.emission.get().saturating_mul(cells)
    }

    /// Takes cells out of the bucket whose TAT is `tat`, and returns the new TAT
    ///
    /// # Errors
    ///
    /// [`Refused`] when fewer cells are left; nothing is taken then.
    pub fn charge(&self, tat: u64, now: u64, cells: u64) -> Result<u64, Refused> {
        let charged = tat.max(now).saturating_add(self.span(cells));
        let limit = now.saturating_add(self.tolerance());
        if charged > limit {
            return Err(Refused {
                retry_after: charged.saturating_sub(limit),
            });
        }
        Ok(charged)
    }

    /// Reserves a number of cells that can't pass now, but soon enough to wait for
    ///
    /// # Errors
    ///
    /// [`Refused`] when the wait is longer than the queue's `max_wait`; nothing is taken then.
    pub fn reserve(&self, tat: u64, now: u64, cells: u64) -> Result<Reserved, Refused> {
        match self.charge(tat, now, cells) {
            Ok(tat) => Ok(Reserved { tat, until: now }),
            Err(Refused { retry_after })
                if retry_after <= self.max_wait && self.bears_delay(cells) =>
            {
                Ok(Reserved {
                    tat: tat.max(now).saturating_add(self.span(cells)),
                    until: now.saturating_add(retry_after),
                })
            }
            Err(refused) => Err(refused),
        }
    }

    /// Cells that can pass now without waiting
    #[must_use]
    pub fn remaining(&self, tat: u64, now: u64) -> u64 {
        let limit = now.saturating_add(self.tolerance());
        limit
            .saturating_sub(tat.max(now))
            .checked_div(self.emission.get())
            .unwrap_or_default()
    }

    /// Nanoseconds until the bucket is full
    #[must_use]
    pub fn full_in(&self, tat: u64, now: u64) -> u64 {
        tat.saturating_sub(now)
    }

    /// The TAT of this bucket for an account that was charged under another emission interval
    ///
    /// INVARIANT: what was spent stays spent, cell by cell; a change of the policy never
    /// refills a bucket.
    #[must_use]
    pub fn convert(&self, tat: u64, emission: u64, now: u64) -> u64 {
        // Beyond the tolerance lie the slots of requests that are held, by whatever policy.
        let most = self.tolerance().saturating_add(Self::MAX_WAIT);
        let backlog = tat.saturating_sub(now);
        if emission == self.emission.get() {
            return now.saturating_add(backlog.min(most));
        }
        let backlog = NonZeroU64::new(emission)
            .map_or(most, |emission| self.span(backlog.div_ceil(emission.get())));
        now.saturating_add(backlog.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_is_worth_its_burst_and_then_its_rate() {
        let bucket = Bucket::new(60, 60 * SECOND, 3).unwrap();
        let mut tat = 0;
        let now = 100 * SECOND;
        for left in [2, 1, 0] {
            tat = bucket.charge(tat, now, 1).unwrap();
            assert_eq!(bucket.remaining(tat, now), left);
        }
        assert_eq!(
            bucket.charge(tat, now, 1),
            Err(Refused {
                retry_after: SECOND
            })
        );
        assert_eq!(
            bucket.charge(tat, now + SECOND - 1, 1),
            Err(Refused { retry_after: 1 })
        );
        assert_eq!(bucket.charge(tat, now + SECOND, 1), Ok(now + 4 * SECOND));
        assert_eq!(bucket.full_in(tat, now), 3 * SECOND);
        assert_eq!(
            bucket.charge(tat, now, 4),
            Err(Refused {
                retry_after: 4 * SECOND
            })
        );
    }

    #[test]
    fn a_rate_is_never_rounded_up() {
        let bucket = Bucket::new(7, SECOND, 1).unwrap();
        assert!(bucket.emission() * 7 >= SECOND);
        assert_eq!(Bucket::new(0, SECOND, 1), None);
        assert_eq!(Bucket::new(1, SECOND, 0), None);
        assert_eq!(Bucket::new(2, 1, 1), None);
        assert_eq!(Bucket::new(1, u64::MAX, 2), None);
    }

    #[test]
    fn hosts_that_share_a_bucket_exceed_it_together_never() {
        let whole = Bucket::new(1000, 60 * SECOND, 10).unwrap();
        let quarter = whole.divided(4).unwrap();
        assert_eq!((quarter.count(), quarter.burst()), (250, 2));
        assert_eq!(quarter.emission(), whole.emission() * 4);
        let few = Bucket::new(3, SECOND, 8).unwrap().divided(4).unwrap();
        assert_eq!((few.count(), few.burst()), (1, 2));
        assert!(few.emission() * 3 >= 4 * SECOND);
        assert_eq!(whole.divided(11), None);
        assert_eq!(whole.divided(0), None);
    }

    #[test]
    fn a_change_of_rate_refills_nothing() {
        let slow = Bucket::new(60, 60 * SECOND, 60).unwrap();
        let fast = Bucket::new(600, 60 * SECOND, 600).unwrap();
        let now = 1_000 * SECOND;
        let mut tat = now;
        for _ in 0..60 {
            tat = slow.charge(tat, now, 1).unwrap();
        }
        let converted = fast.convert(tat, slow.emission(), now);
        assert_eq!(fast.remaining(converted, now), 540);
        assert_eq!(
            slow.remaining(slow.convert(converted, fast.emission(), now), now),
            0
        );
        assert_eq!(
            slow.convert(u64::MAX, slow.emission(), now),
            now + slow.tolerance() + Bucket::MAX_WAIT
        );
        assert_eq!(
            slow.convert(u64::MAX, 0, now),
            now + slow.tolerance() + Bucket::MAX_WAIT
        );
    }

    #[test]
    fn what_comes_too_early_may_wait() {
        let plain = Bucket::new(60, 60 * SECOND, 2).unwrap();
        let bucket = plain.with_queue(2 * SECOND).unwrap();
        let now = 100 * SECOND;
        let mut tat = 0;
        for wait in [0, 0, 1, 2] {
            let reserved = bucket.reserve(tat, now, 1).unwrap();
            assert_eq!(reserved.until, now + wait * SECOND);
            assert!(plain.charge(tat, reserved.until, 1).is_ok());
            tat = reserved.tat;
        }
        let refused = bucket.reserve(tat, now, 1);
        assert_eq!(
            refused,
            Err(Refused {
                retry_after: 3 * SECOND
            })
        );
        assert_eq!(bucket.convert(tat, bucket.emission(), now), tat);
        assert!(bucket.reserve(now, now, 3).is_err());
        assert_eq!(plain.with_queue(Bucket::MAX_WAIT + 1), None);
        let one = Bucket::new(60, 60 * SECOND, 1).unwrap();
        assert_eq!(one.with_queue(SECOND), None);
    }
}
