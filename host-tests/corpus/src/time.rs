//! Times as people write them.

use std::time::Duration;

/// `500us`, `1500ms`, `2s`, `3m`, `1h`, `2d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let micros = text.split_at_checked(digits).and_then(|(number, unit)| {
        let unit: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    });
    micros.map(Duration::from_micros).ok_or_else(|| {
        format!("`{text}` is no time: write a whole number with us, ms, s, m, h or d")
    })
}

/// Seconds since 1970 of `2026-11-21T12:00:00Z` (days by Howard Hinnant's `days_from_civil`).
pub(crate) fn unix_time(text: &str) -> Result<u64, String> {
    let parse = || {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let numbers = |text: &str, by: char| {
            text.split(by)
                .map(|part| part.parse::<u64>().ok())
                .collect::<Option<Vec<_>>>()
        };
        let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
        let (&[year, month, day], &[hour, minute, second]) = (date.as_slice(), time.as_slice())
        else {
            return None;
        };
        let in_range = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !in_range {
            return None;
        }
        // March is month 0, so that the leap day is the last of its year.
        let year = if month <= 2 {
            year.checked_sub(1)?
        } else {
            year
        };
        let month = month.checked_add(9)?.checked_rem(12)?;
        let (era, of_era) = (year.checked_div(400)?, year.checked_rem(400)?);
        let of_year = (month * 153 + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
    };
    parse().ok_or_else(|| format!("`{text}` is no time: write 2026-11-21T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert!(duration("1").is_err() && duration("s").is_err() && duration("-1s").is_err());
        assert_eq!(unix_time("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(unix_time("2026-11-21T12:00:00Z"), Ok(1_795_262_400));
        assert_eq!(unix_time("2000-02-29T23:59:59Z"), Ok(951_868_799));
        assert!(unix_time("2026-13-01T00:00:00Z").is_err() && unix_time("2026-11-21").is_err());
    }
}
