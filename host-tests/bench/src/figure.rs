//! Figures out of many rounds.

/// One variant in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Microseconds of Envoy's CPU a request.
    pub(crate) cpu: f64,
    /// Requests a second.
    pub(crate) rate: f64,
}

/// One variant over all rounds; microseconds a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) cpu: f64,
    /// Median of the differences to `none` in the same round.
    pub(crate) added: f64,
    /// The least and the greatest of those differences.
    pub(crate) spread: [f64; 2],
    /// Requests a second, as a share of those of `none` in the same round.
    pub(crate) rate: f64,
}

impl Figure {
    /// Sums up a variant's samples, of the same rounds as the samples of `none`.
    pub(crate) fn of(name: &str, samples: &[Sample], none: &[Sample]) -> Self {
        let rounds = || samples.iter().zip(none);
        let added: Vec<f64> = rounds().map(|(own, none)| own.cpu - none.cpu).collect();
        let rates: Vec<f64> = rounds().map(|(own, none)| own.rate / none.rate).collect();
        let cpu: Vec<f64> = samples.iter().map(|sample| sample.cpu).collect();
        Self {
            name: name.to_owned(),
            cpu: median(&cpu),
            added: median(&added),
            spread: [
                added.iter().copied().fold(f64::INFINITY, f64::min),
                added.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ],
            rate: median(&rates),
        }
    }
}

/// The middle one, or what lies between the two middle ones; zero of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_div(2).unwrap_or_default();
    let upper = sorted.get(middle).copied().unwrap_or_default();
    if sorted.len().is_multiple_of(2) {
        let lower = sorted
            .get(middle.wrapping_sub(1))
            .copied()
            .unwrap_or_default();
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[3.0][..], 3.0),
            (&[4.0, 1.0][..], 2.5),
            (&[9.0, 1.0, 2.0][..], 2.0),
        ] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    /// A machine that slows down between rounds slows all variants down: pairs do not show it.
    #[test]
    fn differences_are_taken_round_by_round() {
        let samples = |cpu: [f64; 3]| {
            cpu.map(|cpu| Sample {
                cpu,
                rate: 1e6 / cpu,
            })
        };
        let none = samples([20.0, 40.0, 21.0]);
        let own = samples([25.0, 46.0, 26.5]);
        let figure = Figure::of("own", &own, &none);
        assert!((figure.added - 5.5).abs() < 1e-9 && (figure.cpu - 26.5).abs() < 1e-9);
        let [low, high] = figure.spread;
        assert!((low - 5.0).abs() < 1e-9 && (high - 6.0).abs() < 1e-9);
        assert!((figure.rate - 0.8).abs() < 1e-9);
    }
}
