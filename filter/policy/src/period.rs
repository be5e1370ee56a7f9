//! Billing periods.

use crate::civil;

/// How a customer's periods follow each other
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Calendar {
    /// A period of so many months after the other, counted from the anchor
    Anchored {
        /// Seconds since the Unix epoch
        anchor: u64,
        months: u64,
    },
    /// The one period that the key's record gives
    Given(Period),
}

/// A billing period, in seconds since the Unix epoch: from `start`, to before `end`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Period {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Calendar {
    /// The period that an instant lies in; `None` before the anchor and outside of the given one
    ///
    /// INVARIANT: period k begins k times the interval after the anchor itself, so that of the
    /// 31st of January come the 28th of February and the 31st of March.
    pub(crate) fn period(&self, now: u64) -> Option<Period> {
        match *self {
            Self::Given(period) => (period.start..period.end).contains(&now).then_some(period),
            Self::Anchored { anchor, months } => {
                if now < anchor {
                    return None;
                }
                let passed = civil::months_between(anchor, now)?;
                let whole = passed.saturating_sub(passed.checked_rem(months)?);
                let start = civil::add_months(anchor, whole)?;
                // In the month in which a period begins, it may not have begun.
                let (start, end) = if start <= now {
                    (
                        start,
                        civil::add_months(anchor, whole.checked_add(months)?)?,
                    )
                } else {
                    let before = whole.checked_sub(months)?;
                    (civil::add_months(anchor, before)?, start)
                };
                Some(Period { start, end })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "test code")]

    use jiff::{Span, Timestamp, tz::TimeZone};
    use proptest::prelude::*;

    use super::*;

    fn instant(text: &str) -> u64 {
        civil::parse_instant(text).unwrap()
    }

    /// What follows an anchor by so many months, as `jiff` has it
    fn jiff_after(anchor: u64, months: u64) -> u64 {
        let anchor = Timestamp::from_second(anchor.try_into().unwrap()).unwrap();
        let months = Span::new().months(i64::try_from(months).unwrap());
        let later = anchor.to_zoned(TimeZone::UTC).checked_add(months).unwrap();
        later.timestamp().as_second().try_into().unwrap()
    }

    #[test]
    fn periods_are_counted_from_the_anchor() {
        let check = |anchor, months, now, start, end| {
            let anchor = instant(anchor);
            let calendar = Calendar::Anchored { anchor, months };
            let expected = Period {
                start: instant(start),
                end: instant(end),
            };
            assert_eq!(calendar.period(instant(now)), Some(expected), "{now}");
        };
        let anchor = "2024-01-31T00:00:00Z";
        let (february, march) = ("2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z");
        check(anchor, 1, anchor, anchor, february);
        check(anchor, 1, "2024-02-28T23:59:59Z", anchor, february);
        check(anchor, 1, february, february, march);
        check(anchor, 1, "2024-03-30T23:59:59Z", february, march);
        check(anchor, 1, march, march, "2024-04-30T00:00:00Z");
        check(
            anchor,
            1,
            "2025-03-01T12:00:00Z",
            "2025-02-28T00:00:00Z",
            "2025-03-31T00:00:00Z",
        );
        let (anchor, first) = ("2024-02-29T10:30:00Z", "2025-02-28T10:30:00Z");
        check(anchor, 12, "2025-02-28T10:29:59Z", anchor, first);
        check(anchor, 12, first, first, "2026-02-28T10:30:00Z");
        check(
            anchor,
            12,
            "2028-02-29T10:30:00Z",
            "2028-02-29T10:30:00Z",
            "2029-02-28T10:30:00Z",
        );
        check(
            "1970-01-01T00:00:00Z",
            1,
            "2026-12-31T23:59:59Z",
            "2026-12-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        );
    }

    #[test]
    fn there_is_no_period_before_the_first() {
        let anchor = instant("2026-01-31T00:00:00Z");
        let calendar = Calendar::Anchored { anchor, months: 1 };
        assert_eq!(calendar.period(anchor.checked_sub(1).unwrap()), None);
        let period = Period {
            start: 100,
            end: 200,
        };
        let given = Calendar::Given(period);
        let found = [99, 100, 199, 200].map(|now| given.period(now));
        assert_eq!(found, [None, Some(period), Some(period), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Every instant lies in the one period whose ends are the anchor and whole intervals, as
        /// another library counts them
        #[test]
        fn periods_are_those_of_jiff(
            anchor in 0..4_102_444_800_u64,
            after in 0..4_102_444_800_u64,
            months in prop_oneof![Just(1_u64), Just(12), 2..40_u64],
            // Near an edge, where an off-by-one shows.
            edge in proptest::option::of((0..1_200_u64, 0..3_u64)),
        ) {
            let calendar = Calendar::Anchored { anchor, months };
            let now = match edge {
                Some((k, off)) => jiff_after(anchor, k).saturating_add(off).saturating_sub(1),
                None => anchor.saturating_add(after),
            };
            let Some(period) = calendar.period(now) else {
                prop_assert!(now < anchor);
                return Ok(());
            };
            prop_assert!((period.start..period.end).contains(&now));
            // At most one k can be right: the one whose interval holds the start.
            let span = period.start.saturating_sub(anchor);
            let near = span / 2_630_000;
            let k = (near.saturating_sub(2)..=near.saturating_add(2))
                .find(|k| jiff_after(anchor, *k) == period.start);
            let k = k.ok_or_else(|| TestCaseError::fail("the start is no anchor"))?;
            prop_assert_eq!(k % months, 0);
            prop_assert_eq!(jiff_after(anchor, k.saturating_add(months)), period.end);
        }

        /// Instants that mean no date do not panic
        #[test]
        fn any_number_is_an_instant(anchor: u64, months in 1..13_u64, now: u64) {
            let calendar = Calendar::Anchored { anchor, months };
            if let Some(period) = calendar.period(now) {
                prop_assert!((period.start..period.end).contains(&now));
            }
        }
    }
}
