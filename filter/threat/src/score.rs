//! From evidence to a number.

use crate::evidence::Points;

/// What a score without a feed's match or a decisive proof ends at: heuristics alone never say `malicious`
pub const GREATEST_WITHOUT_PROOF: Points = Points::new(79);

/// From here on a target is malicious, if something proves it
pub const MALICIOUS: Points = Points::new(80);

/// From here on a target is suspicious
pub const SUSPICIOUS: Points = Points::new(40);

/// What independent pieces of evidence come to: 1 - (1 - p1)(1 - p2)..., "noisy or" (Pearl 1988, section 4.3.2)
///
/// No order matters, a piece never lowers the score, and one alone is what it is.
#[must_use]
pub fn noisy_or(points: impl Iterator<Item = Points>) -> Points {
    const WHOLE: u64 = 1 << 40;
    let left = points.fold(WHOLE, |left, points| {
        let stays = 100u64.saturating_sub(points.get().into());
        left.saturating_mul(stays).checked_div(100).unwrap_or(0)
    });
    let percent = WHOLE.saturating_sub(left).saturating_mul(100);
    let percent = percent.saturating_add(WHOLE / 2) >> 40;
    Points::new(u8::try_from(percent).unwrap_or(100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn score(points: &[u8]) -> u8 {
        noisy_or(points.iter().copied().map(Points::new)).get()
    }

    #[test]
    fn known_values() {
        for (points, expected) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[50, 50], 75),
            (&[90, 25], 93),
            (&[100, 0], 100),
            (&[40, 40, 40], 78),
        ] {
            assert_eq!(score(points), expected, "{points:?}");
        }
    }

    proptest! {
        #[test]
        fn laws(mut points in proptest::collection::vec(0u8..=100, 0..12), more in 0u8..=100) {
            let before = score(&points);
            let least = points.iter().copied().max().unwrap_or(0);
            prop_assert!((least..=100).contains(&before));
            points.reverse();
            prop_assert!(score(&points).abs_diff(before) <= 1);
            points.push(more);
            prop_assert!(score(&points) >= before);
        }

        #[test]
        fn one_alone_is_what_it_is(points in 0u8..=100) {
            prop_assert_eq!(score(&Vec::from([points])), points);
        }
    }
}
