//! Rates, sizes and spans of time as people write them.

use alloc::format;
use alloc::string::String;
use core::ops::RangeInclusive;

use crate::bucket::Bucket;
use crate::reader::{At, Errors, Map};
use crate::window::Window;

/// Reads `rate` and `burst` of a map, divided among so many replicas; `Some(None)` is unlimited
pub(super) fn read_bucket(
    map: &mut Map<'_>,
    replicas: u64,
    errors: &mut Errors,
) -> Option<Option<Bucket>> {
    let rate = map.require("rate", errors);
    let burst = map.take("burst");
    let rate = rate?;
    let text = rate.string(errors)?;
    if text == "unlimited" {
        if let Some(burst) = burst {
            errors.push(&burst.path, "an unlimited rate has no burst");
        }
        return Some(None);
    }
    let (count, window) = parse_rate(text)
        .map_err(|error| errors.push(&rate.path, error))
        .ok()?;
    let burst = match &burst {
        Some(burst) => burst.integer(1..=1_000_000_000, errors)?,
        None => count,
    };
    let bucket = Bucket::new(count, window, burst);
    if bucket.is_none() {
        errors.push(
            &rate.path,
            "can't be kept: a bucket must fill within ten years, at most one cell a nanosecond",
        );
    }
    let divided = bucket?.divided(replicas);
    if divided.is_none() {
        errors.push(
            &rate.path,
            format!(
                "can't be divided among {replicas} replicas: write a burst of {replicas} or more"
            ),
        );
    }
    divided.map(Some)
}

/// Reads `queue` of a map, and gives it to the bucket
pub(super) fn read_queue(
    map: &mut Map<'_>,
    bucket: Option<Bucket>,
    errors: &mut Errors,
) -> Option<Bucket> {
    let Some(at) = map.take("queue") else {
        return bucket;
    };
    let mut map = at.map(errors)?;
    let max_wait = map.require("max_wait", errors);
    let max_wait = max_wait.and_then(|at| read_span(&at, 1..=Bucket::MAX_WAIT, errors));
    map.finish(errors);
    let Some(bucket) = bucket else {
        errors.push(&at.path, "an unlimited rate has no queue");
        return None;
    };
    let held = bucket.with_queue(max_wait?);
    if held.is_none() {
        errors.push(
            &at.path,
            "can't keep the rate: a queue needs a burst of two or more that lasts 50 ms",
        );
    }
    held
}

/// Reads a span of time such as `2s` or `500ms`, in nanoseconds
pub(super) fn read_span(
    at: &At<'_>,
    range: RangeInclusive<u64>,
    errors: &mut Errors,
) -> Option<u64> {
    let text = at.string(errors)?;
    let parsed = text
        .find(|c: char| !c.is_ascii_digit())
        .and_then(|unit| text.split_at_checked(unit))
        .and_then(|(count, unit)| {
            let unit = match unit {
                "ms" => 1_000_000,
                _ => seconds_of(unit)?.checked_mul(1_000_000_000)?,
            };
            number(count)?.checked_mul(unit)
        })
        .filter(|span| range.contains(span));
    if parsed.is_none() {
        errors.push(
            &at.path,
            format!(
                "`{}` is not a time: write `500ms` or `2s`, {} seconds at the most",
                text.escape_default(),
                range.end().div_ceil(1_000_000_000)
            ),
        );
    }
    parsed
}

/// A count divided among so many replicas: each gets the whole part
pub(super) fn divide(count: u64, replicas: u64, at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let part = count.checked_div(replicas).filter(|part| *part > 0);
    if part.is_none() {
        let message = format!("can't be divided among {replicas} replicas: {count} is too few");
        errors.push(&at.path, message);
    }
    part
}

/// Reads `5 in 60s`: a count, and a span in nanoseconds
pub(super) fn read_window(at: &At<'_>, errors: &mut Errors) -> Option<(u64, u64)> {
    let text = at.string(errors)?;
    let parsed = text.split_once(" in ").and_then(|(count, span)| {
        let (_, span) = parse_rate(&format!("1/{span}")).ok()?;
        Some((number(count)?, span))
    });
    let good = parsed.filter(|(count, _)| (1..=Window::MAX_COUNT).contains(count));
    if good.is_none() {
        let most = Window::MAX_COUNT;
        errors.push(
            &at.path,
            format!(
                "`{}` is not a window: write `5 in 60s`, with {most} at the most",
                text.escape_default()
            ),
        );
    }
    good
}

/// Parses `1000/min` or `5/60s`: a count, and a window in nanoseconds
fn parse_rate(text: &str) -> Result<(u64, u64), String> {
    let help = || {
        format!(
            "`{}` is not a rate: write `1000/min`, `5/60s` or `unlimited`",
            text.escape_default()
        )
    };
    let (count, window) = text.split_once('/').ok_or_else(help)?;
    let count = number(count).ok_or_else(help)?;
    let unit_at = window
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(help)?;
    let (units, unit) = window.split_at_checked(unit_at).ok_or_else(help)?;
    let units = if units.is_empty() {
        Some(1)
    } else {
        number(units)
    };
    let window = units
        .zip(seconds_of(unit))
        .and_then(|(units, seconds)| units.checked_mul(seconds)?.checked_mul(1_000_000_000));
    match window {
        Some(window) if count > 0 && window > 0 => Ok((count, window)),
        _ => Err(help()),
    }
}

fn seconds_of(unit: &str) -> Option<u64> {
    match unit {
        "s" => Some(1),
        "min" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    }
}

/// A number without sign and leading zero
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Reads a size in bytes: `64KiB`, `1MiB` or a number
pub(super) fn read_size(at: &At<'_>, max: u64, errors: &mut Errors) -> Option<u64> {
    let text = match at.node {
        crate::node::Node::Number(_) => return at.integer(1..=max, errors),
        _ => at.string(errors)?,
    };
    let (digits, unit) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(digits), _) => (digits, 1024),
        (_, Some(digits)) => (digits, 1024 * 1024),
        _ => (text, 1),
    };
    let size = number(digits)
        .and_then(|size: u64| size.checked_mul(unit))
        .filter(|size| (1..=max).contains(size));
    if size.is_none() {
        errors.push(
            &at.path,
            format!("must be a size of up to {max} bytes, such as 64KiB or 1MiB"),
        );
    }
    size
}

/// Reads `1%`, `0.5%` or `100%`, in parts of a million
pub(super) fn read_percentage(at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let text = at.string(errors)?;
    let parts = parse_percentage(text);
    if parts.is_none() {
        let message = format!(
            "`{}` is not a percentage: write `1%`, `0.5%` or `100%`, four decimals at most",
            text.escape_default()
        );
        errors.push(&at.path, message);
    }
    parts
}

fn parse_percentage(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole = if whole == "0" { 0 } else { number(whole)? };
    let places = u32::try_from(decimals.len())
        .ok()
        .filter(|places| (1..=4).contains(places))?;
    if !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10u64.checked_pow(4u32.checked_sub(places)?)?;
    let decimals = decimals.parse::<u64>().ok()?.checked_mul(scale)?;
    let parts = whole.checked_mul(10_000)?.checked_add(decimals)?;
    (parts <= 1_000_000).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let check = |text, expected| assert_eq!(parse_percentage(text), expected, "{text}");
        check("0%", Some(0));
        check("1%", Some(10_000));
        check("0.5%", Some(5_000));
        check("12.3456%", Some(123_456));
        check("0.0001%", Some(1));
        check("100%", Some(1_000_000));
        check("100.0000%", Some(1_000_000));
        for text in [
            "",
            "%",
            "1",
            ".5%",
            "1.%",
            "1.00001%",
            "100.0001%",
            "101%",
            "01%",
            "-1%",
            "+1%",
            "1 %",
            "1%%",
            "1.-1%",
            "99999999999999999999%",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn rates() {
        let check = |text, expected| assert_eq!(parse_rate(text).ok(), expected, "{text}");
        check("1000/min", Some((1000, 60_000_000_000)));
        check("5/60s", Some((5, 60_000_000_000)));
        check("1/d", Some((1, 86_400_000_000_000)));
        check("7/2h", Some((7, 7_200_000_000_000)));
        for text in [
            "",
            "5",
            "5/",
            "/min",
            "0/min",
            "-1/min",
            "+1/min",
            "1.5/s",
            "5/0s",
            "5/m",
            "5/minute",
            "05/s",
            "5 / s",
            "5/99999999999999d",
        ] {
            check(text, None);
        }
    }
}
