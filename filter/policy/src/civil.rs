//! Instants as people write them.

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

/// Writes an instant as [`read_instant`] reads it; `None` behind the year 9999
#[cfg(any(test, feature = "bundle-writer"))]
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

fn days_from_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let years: u64 = (1970..year)
        .map(|year| if is_leap(year) { 366 } else { 365 })
        .sum();
    let months: u64 = (1..month).map(|month| days_in_month(year, month)).sum();
    years.checked_add(months)?.checked_add(day)?.checked_sub(1)
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
