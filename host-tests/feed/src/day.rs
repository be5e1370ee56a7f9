//! Days, as feeds write them.

/// The day of a time that begins with `YYYY-MM-DD`, in days since 1970
pub(crate) fn of(text: &str) -> Option<u16> {
    let date = text.trim().get(..10)?;
    let mut parts = date.split('-').map(str::parse::<i64>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if !(1970..2149).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    u16::try_from(days_from_civil(year, month, day)).ok()
}

/// The day of seconds since 1970
pub(crate) fn of_seconds(seconds: u64) -> Option<u16> {
    u16::try_from(seconds.checked_div(DAY)?).ok()
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SSZ`; the time of day may be missing
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let midnight = u64::from(of(text)?).checked_mul(DAY)?;
    let Some(time) = text.trim().get(11..19) else {
        return Some(midnight);
    };
    let mut parts = time.split(':').map(str::parse::<u64>);
    let (Some(Ok(hour)), Some(Ok(minute)), Some(Ok(second))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let of_day = hour
        .checked_mul(3600)?
        .checked_add(minute.checked_mul(60)?)?;
    midnight.checked_add(of_day)?.checked_add(second)
}

/// `YYYY-MM-DDTHH:MM:SSZ` of seconds since 1970
#[must_use]
pub fn write(seconds: u64) -> String {
    let day = i64::try_from(seconds.checked_div(DAY).unwrap_or(0)).unwrap_or(0);
    let rest = seconds.checked_rem(DAY).unwrap_or(0);
    let part = |size: u64, of: u64| {
        rest.checked_div(size)
            .unwrap_or(0)
            .checked_rem(of)
            .unwrap_or(0)
    };
    let (year, month, day) = civil_from_days(day);
    let (hour, minute, second) = (part(3600, 24), part(60, 60), part(1, 60));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

pub(crate) const DAY: u64 = 86_400;

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for years from 1970 on
#[expect(
    clippy::arithmetic_side_effects,
    reason = "of years before 2149, checked by the caller"
)]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "of days that come from a u64 of seconds: far from the ends of an i64"
)]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days - era * 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, number) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-11-22T01:02:03Z", 1_795_309_323),
        ] {
            assert_eq!(seconds(text), Some(number));
            assert_eq!(write(number), text);
        }
        assert_eq!(of("2026-11-22 01:02:03 UTC"), Some(20_779));
        assert_eq!(seconds("2026-11-22"), Some(20_779 * DAY));
        for text in [
            "",
            "22.11.2026",
            "2026-13-01",
            "2026-00-10",
            "None",
            "2026-11-2",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
