//! What the figures have to reach.

use crate::figure::Figure;

/// A bound on a variant's added CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) variant: &'static str,
    pub(crate) than: &'static str,
    pub(crate) bound: Bound,
}

/// How far a variant may be from another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// So many times the other's added CPU.
    Times(f64),
    /// So many microseconds more.
    Plus(f64),
}

/// All there are. They were set for Envoy with one worker and 1,000 principals.
pub(crate) const TARGETS: [Target; 8] = [
    times("core", "noop", 1.8),
    times("core", "native", 1.35),
    times("core", "lua", 0.65),
    times("full", "native", 1.6),
    times("full", "lua", 0.85),
    plus("401", "full", 2.0),
    plus("flood", "full", 2.0),
    plus("429", "full", 2.0),
];

/// A bound, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) target: Target,
    /// In the unit of the bound.
    pub(crate) measured: f64,
    pub(crate) reached: bool,
}

impl Target {
    /// `None` where one of the two was not measured.
    pub(crate) fn judge(self, figures: &[Figure]) -> Option<Verdict> {
        let added = |name: &str| {
            figures
                .iter()
                .find(|figure| figure.name == name)
                .map(|figure| figure.added)
        };
        let (own, other) = (added(self.variant)?, added(self.than)?);
        let (measured, most) = match self.bound {
            Bound::Times(most) => (own / other, most),
            Bound::Plus(most) => (own - other, most),
        };
        Some(Verdict {
            target: self,
            measured,
            reached: measured <= most,
        })
    }
}

const fn times(variant: &'static str, than: &'static str, most: f64) -> Target {
    Target {
        variant,
        than,
        bound: Bound::Times(most),
    }
}

const fn plus(variant: &'static str, than: &'static str, most: f64) -> Target {
    Target {
        variant,
        than,
        bound: Bound::Plus(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, added: f64) -> Figure {
        Figure {
            name: name.to_owned(),
            cpu: 0.0,
            added,
            spread: [added, added],
            rate: 1.0,
        }
    }

    #[test]
    fn bounds() {
        let figures = [
            figure("core", 6.0),
            figure("noop", 4.0),
            figure("full", 7.0),
        ];
        let figures = [&figures[..], &[figure("401", 9.5)]].concat();
        let verdicts: Vec<(&str, bool)> = TARGETS
            .iter()
            .filter_map(|target| target.judge(&figures))
            .map(|verdict| (verdict.target.variant, verdict.reached))
            .collect();
        assert_eq!(verdicts, [("core", true), ("401", false)]);
    }
}
