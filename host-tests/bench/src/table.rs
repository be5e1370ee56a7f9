//! Figures, for people and for machines.

use serde_json::{Value, json};

use crate::figure::Figure;
use crate::target::{Bound, TARGETS, Verdict};

/// `[{"variant","cpu_us","added_cpu_us","spread_us":[lo,hi],"rps_ratio"}]`
pub(crate) fn json(figures: &[Figure]) -> Value {
    let rows = figures.iter().map(|figure| {
        json!({
            "variant": figure.name,
            "cpu_us": round(figure.cpu),
            "added_cpu_us": round(figure.added),
            "spread_us": figure.spread.map(round),
            "rps_ratio": round(figure.rate),
        })
    });
    rows.collect()
}

/// A table of the figures, and one of the targets.
pub(crate) fn text(figures: &[Figure]) -> String {
    let mut lines = vec![format!(
        "{:12} {:>8} {:>9} {:>15} {:>9}",
        "variant", "cpu us", "added us", "spread us", "rps ratio"
    )];
    for figure in figures {
        let [low, high] = figure.spread;
        lines.push(format!(
            "{:12} {:8.2} {:9.2} {:>15} {:9.3}",
            figure.name,
            figure.cpu,
            figure.added,
            format!("{low:.2} .. {high:.2}"),
            figure.rate
        ));
    }
    let verdicts: Vec<Verdict> = TARGETS
        .iter()
        .filter_map(|target| target.judge(figures))
        .collect();
    if !verdicts.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{:15} {:>9} {:>9}",
            "added CPU", "measured", "target"
        ));
    }
    for Verdict {
        target,
        measured,
        reached,
    } in verdicts
    {
        let (name, measured, bound) = match target.bound {
            Bound::Times(most) => (
                format!("{} / {}", target.variant, target.than),
                format!("{measured:.2}"),
                format!("<= {most:.2}"),
            ),
            Bound::Plus(most) => (
                format!("{} - {}", target.variant, target.than),
                format!("{measured:.2} us"),
                format!("<= {most:.1} us"),
            ),
        };
        let reached = if reached { "reached" } else { "NOT REACHED" };
        lines.push(format!("{name:15} {measured:>9} {bound:>9}  {reached}"));
    }
    lines.join("\n")
}

/// To a nanosecond: more digits are noise.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> [Figure; 2] {
        let figure = |name: &str, added: f64| Figure {
            name: name.to_owned(),
            cpu: 18.6 + added,
            added,
            spread: [added - 0.25, added + 0.5],
            rate: 0.75,
        };
        [figure("noop", 4.0), figure("core", 6.00049)]
    }

    #[test]
    fn for_machines() {
        assert_eq!(
            json(&figures()).to_string(),
            concat!(
                r#"[{"added_cpu_us":4.0,"cpu_us":22.6,"rps_ratio":0.75,"spread_us":[3.75,4.5],"variant":"noop"},"#,
                r#"{"added_cpu_us":6.0,"cpu_us":24.6,"rps_ratio":0.75,"spread_us":[5.75,6.5],"variant":"core"}]"#
            )
        );
    }

    #[test]
    fn for_people() {
        let text = text(&figures());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert_eq!(
            lines[1],
            "noop            22.60      4.00    3.75 .. 4.50     0.750"
        );
        assert_eq!(lines[5], "core / noop          1.50   <= 1.80  reached");
    }
}
