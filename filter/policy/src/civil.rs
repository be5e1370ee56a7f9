//! Instants as people write them, and months of the calendar.

/// Parses an instant in UTC, `2026-11-22T06:00:00Z` (RFC 3339 without offsets and fractions)
///
/// Returns seconds since the Unix epoch; `None` for anything else, dates before 1970 included.
pub(crate) fn parse_instant(text: &str) -> Option<u64> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        mo0,
        mo1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        mi0,
        mi1,
        b':',
        s0,
        s1,
        b'Z',
    ] = bytes
    else {
        return None;
    };
    let year = number(&[*y0, *y1, *y2, *y3])?;
    let month = number(&[*mo0, *mo1])?;
    let day = number(&[*d0, *d1])?;
    let (hour, minute, second) = (
        number(&[*h0, *h1])?,
        number(&[*mi0, *mi1])?,
        number(&[*s0, *s1])?,
    );
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let days = days_from_epoch(year, month, day)?;
    days.checked_mul(24)?
        .checked_add(hour)?
        .checked_mul(60)?
        .checked_add(minute)?
        .checked_mul(60)?
        .checked_add(second)
}

/// Parses an instant in UTC, `2026-11-22T06:00:00Z`, to seconds since the Unix epoch
#[cfg(any(test, feature = "bundle-writer"))]
#[must_use]
pub fn read_instant(text: &str) -> Option<u64> {
    parse_instant(text)
}

/// Writes an instant as `parse_instant` reads it; `None` behind the year 9999
#[must_use]
pub fn format_instant(instant: u64) -> Option<alloc::string::String> {
    let (days, second) = (instant / 86_400, instant % 86_400);
    let mut year = 1970;
    let mut day = days;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if year > 9999 {
            return None;
        }
        if day < length {
            break;
        }
        day = day.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day = day.saturating_sub(days_in_month(year, month));
        month = month.saturating_add(1);
    }
    let day = day.saturating_add(1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(alloc::format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
    ))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| digit.saturating_sub(b'0'))?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// An instant so many months later, in seconds since the Unix epoch
///
/// Day and time stay; where a month has no such day it is the month's last one. `None` past the
/// range of numbers.
pub(crate) fn add_months(instant: u64, months: u64) -> Option<u64> {
    let (year, month, day) = date(instant)?;
    let later = year
        .checked_mul(12)?
        .checked_add(month.checked_sub(1)?)?
        .checked_add(months)?;
    let (year, month) = (later / 12, (later % 12).checked_add(1)?);
    let day = day.min(days_in_month(year, month));
    days_from_epoch(year, month, day)?
        .checked_mul(DAY)?
        .checked_add(instant % DAY)
}

/// Whole months of the calendar from one instant's to another's; 0 when that is earlier
pub(crate) fn months_between(from: u64, to: u64) -> Option<u64> {
    let months = |instant| {
        let (year, month, _) = date(instant)?;
        year.checked_mul(12)?.checked_add(month)
    };
    Some(months(to)?.saturating_sub(months(from)?))
}

const DAY: u64 = 86_400;

/// Year, month and day of an instant (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`)
///
/// The years of the algorithm begin in March, so that a leap day is the last of its year.
fn date(instant: u64) -> Option<(u64, u64, u64)> {
    let days = (instant / DAY).checked_add(719_468)?;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let common_days = of_era
        .checked_sub(of_era / 1_460)?
        .checked_add(of_era / 36_524)?
        .checked_sub(of_era / 146_096)?;
    let year_of_era = common_days / 365;
    let years = year_of_era.checked_mul(365)?.checked_add(year_of_era / 4)?;
    let of_year = of_era.checked_add(year_of_era / 100)?.checked_sub(years)?;
    let from_march = of_year.checked_mul(5)?.checked_add(2)? / 153;
    let before = from_march.checked_mul(153)?.checked_add(2)? / 5;
    let day = of_year.checked_sub(before)?.checked_add(1)?;
    let is_after_december = from_march >= 10;
    let month = if is_after_december {
        from_march.checked_sub(9)?
    } else {
        from_march.checked_add(3)?
    };
    let year = era.checked_mul(400)?.checked_add(year_of_era)?;
    Some((year.checked_add(is_after_december.into())?, month, day))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date that is not before it (Hinnant's `days_from_civil`)
fn days_from_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_before_march = month <= 2;
    let year = year.checked_sub(is_before_march.into())?;
    let from_march = if is_before_march {
        month.checked_add(9)?
    } else {
        month.checked_sub(3)?
    };
    let of_year = from_march.checked_mul(153)?.checked_add(2)? / 5;
    let leap_days = (year / 4)
        .checked_sub(year / 100)?
        .checked_add(year / 400)?;
    year.checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(of_year)?
        .checked_add(day)?
        .checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let check = |text: &str, seconds| {
            assert_eq!(parse_instant(text), seconds, "{text}");
            if let Some(seconds) = seconds {
                assert_eq!(format_instant(seconds).as_deref(), Some(text));
            }
        };
        assert_eq!(format_instant(u64::MAX), None);
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T12:34:56Z", Some(951_827_696));
        check("2026-11-22T06:00:00Z", Some(1_795_327_200));
        check("9999-12-31T23:59:59Z", Some(253_402_300_799));
        check("2100-02-29T00:00:00Z", None);
        check("2026-11-22T24:00:00Z", None);
        check("2026-13-01T00:00:00Z", None);
        check("1969-12-31T23:59:59Z", None);
        check("2026-11-22 06:00:00Z", None);
        check("2026-11-22T06:00:00+01:00", None);
        check("2026-11-22", None);
        check("2026-11-22T06:0a:00Z", None);
    }
}
