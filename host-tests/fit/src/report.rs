//! Recall at given rates of false alarms, with intervals, and the thresholds of the score.

use crate::data::Source;
use portcullis_threat::structure::model::GREATEST;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    pub(crate) source: usize,
    pub(crate) phish: bool,
    pub(crate) full: bool,
    pub(crate) score: i32,
}

pub(crate) struct Table<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) scored: &'a [Scored],
    pub(crate) full: bool,
    /// Whether benign URLs of additional sources set the threshold, too
    pub(crate) additional: bool,
}

/// The rates of false alarms that are reported
const RATES: [f64; 4] = [0.0005, 0.001, 0.0032, 0.01];

impl Table<'_> {
    fn counts(&self, row: &Scored) -> bool {
        self.additional
            || self
                .sources
                .get(row.source)
                .is_some_and(|source| !source.additional)
    }

    pub(crate) fn print(&self, name: &str) {
        let rows = || self.scored.iter().filter(|row| row.full == self.full);
        let mut benign: Vec<i32> = rows()
            .filter(|row| !row.phish && self.counts(row))
            .map(|row| row.score)
            .collect();
        benign.sort_unstable_by_key(|score| std::cmp::Reverse(*score));
        for rate in RATES {
            let threshold = threshold(&benign, rate);
            let alarms = benign.iter().filter(|score| **score >= threshold).count();
            let mut line = format!(
                "{name:>8}{} FPR <= {:.2} % (real {}): ",
                if self.additional { ", all benign," } else { "" },
                rate * 100.0,
                interval(alarms, benign.len())
            );
            for (source, Source { name, .. }) in self.sources.iter().enumerate() {
                let of: Vec<&Scored> = rows()
                    .filter(|row| row.source == source && row.phish)
                    .collect();
                if !of.is_empty() {
                    let found = of.iter().filter(|row| row.score >= threshold).count();
                    line += &format!(" {name} {}", interval(found, of.len()));
                }
            }
            println!("{line}");
        }
    }
}

/// The least score that no more than a share `rate` of them reach
fn threshold(descending: &[i32], rate: f64) -> i32 {
    let allowed = (descending.len() as f64 * rate).floor() as usize;
    descending
        .get(allowed)
        .map_or(i32::MIN, |score| score.saturating_add(1))
}

/// A share with its 95 % interval (Wilson)
pub(crate) fn interval(part: usize, whole: usize) -> String {
    if whole == 0 {
        return String::from("-");
    }
    let (n, p, z) = (whole as f64, part as f64 / whole as f64, 1.96f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    format!(
        "{:.2} % [{:.2}, {:.2}]",
        p * 100.0,
        (centre - spread) / scale * 100.0,
        (centre + spread) / scale * 100.0
    )
}

/// The rates of false alarms at which scores lie; between them it is linear in the logarithm of the rate
const SCALE: [(f64, f64); 8] = [
    (0.5, 0.0),
    (0.1, 8.0),
    (0.02, 20.0),
    (0.01, 27.0),
    (0.002, 40.0),
    (0.001, 48.0),
    (0.0002, 65.0),
    (0.00002, 79.0),
];

/// The sums at which the scores 1.. start, from cross-validated benign URLs; each source counts by its weight
pub(crate) fn thresholds(
    sources: &[Source],
    scored: &[Scored],
    full: bool,
) -> [i32; GREATEST as usize] {
    let mut benign: Vec<(i32, f64)> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let rows = || {
            scored
                .iter()
                .filter(|row| row.source == index && row.full == full && !row.phish)
        };
        // A source with few URLs of this kind says little about the tail.
        let many = rows().count() as f64;
        let each = f64::from(source.weight()) * many.min(5_000.0) / many;
        benign.extend(rows().map(|row| (row.score, each)));
    }
    benign.sort_unstable_by_key(|(score, _)| std::cmp::Reverse(*score));
    let mass: f64 = benign.iter().map(|(_, each)| each).sum();
    let quantile = |rate: f64| {
        let mut left = rate * mass;
        let found = benign.iter().find(|(_, each)| {
            left -= each;
            left < 0.0
        });
        found.map_or(f64::from(i32::MAX), |(score, _)| f64::from(*score))
    };
    // Few benign URLs lie in the tail: there it is a straight line through where 3 % and 0.1 % lie.
    let (near, far) = (0.03f64, 0.001f64);
    let slope = (quantile(far) - quantile(near)) / (near.ln() - far.ln());
    let sum_at = |rate: f64| {
        if rate > near {
            quantile(rate)
        } else {
            quantile(near) + slope * (near.ln() - rate.ln())
        }
    };
    let rate_of = |score: f64| {
        for (low, high) in SCALE.iter().zip(SCALE.iter().skip(1)) {
            if score <= high.1 {
                let part = (score - low.1) / (high.1 - low.1);
                return (low.0.ln() + part * (high.0.ln() - low.0.ln())).exp();
            }
        }
        0.00001
    };
    let mut thresholds = [i32::MAX; GREATEST as usize];
    let mut floor = i32::MIN;
    for (threshold, score) in thresholds.iter_mut().zip(1..) {
        floor = floor.max(sum_at(rate_of(f64::from(score))).round() as i32);
        *threshold = floor;
    }
    thresholds
}

pub(crate) fn score(thresholds: &[[i32; GREATEST as usize]; 2], full: bool, sum: i32) -> i32 {
    let [host, path] = thresholds;
    let count = if full { path } else { host }
        .iter()
        .filter(|at| **at <= sum)
        .count();
    i32::try_from(count).unwrap_or(0)
}

/// Shares of each source that reach a score
pub(crate) fn bands(sources: &[Source], scored: &[Scored]) {
    for band in [20, 27, 40, 48, 60, 70, 79] {
        let mut line = format!("score >= {band}:");
        for (source, Source { name, .. }) in sources.iter().enumerate() {
            for full in [false, true] {
                let of: Vec<&Scored> = scored
                    .iter()
                    .filter(|row| row.source == source && row.full == full)
                    .collect();
                if !of.is_empty() {
                    let found = of.iter().filter(|row| row.score >= band).count();
                    line += &format!(
                        " | {name}{} {}",
                        if full { "+path" } else { "" },
                        interval(found, of.len())
                    );
                }
            }
        }
        println!("{line}");
    }
    for rate in [0.0005, 0.001, 0.01] {
        let mut benign: Vec<i32> = scored
            .iter()
            .filter(|row| !row.phish)
            .map(|row| row.score)
            .collect();
        benign.sort_unstable_by_key(|score| std::cmp::Reverse(*score));
        let threshold = threshold(&benign, rate);
        let mut line = format!("FPR <= {} % over all (score {threshold}):", rate * 100.0);
        for (source, Source { name, .. }) in sources.iter().enumerate() {
            let of: Vec<&Scored> = scored.iter().filter(|row| row.source == source).collect();
            let found = of.iter().filter(|row| row.score >= threshold).count();
            line += &format!(" | {name} {}", interval(found, of.len()));
        }
        println!("{line}");
    }
}
