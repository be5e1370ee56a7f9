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
        })
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
        let backlog = tat.saturating_sub(now);
        if emission == self.emission.get() {
            return now.saturating_add(backlog.min(self.tolerance()));
        }
        let cells = NonZeroU64::new(emission)
            .map_or(self.burst, |emission| backlog.div_ceil(emission.get()));
        now.saturating_add(self.span(cells.min(self.burst)))
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
            now + slow.tolerance()
        );
        assert_eq!(slow.convert(u64::MAX, 0, now), now + slow.tolerance());
    }
}
