//! The trace that a request belongs to (W3C Trace Context).

use alloc::rc::Rc;

use crate::request::One;

/// The id of a trace: 32 hexadecimal digits in lower case, not all of them zero
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TraceId(Rc<str>);

impl TraceId {
    /// Reads the trace id of a `traceparent` header
    ///
    /// `None` for a header that is absent, repeated or not valid: then there is no trace
    /// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
    pub(crate) fn of(traceparent: One<'_>) -> Option<Self> {
        match traceparent {
            One::Once(value) => Self::parse(value),
            One::Absent | One::Repeated => None,
        }
    }

    /// Parses `VERSION-TRACE-PARENT-FLAGS`; what stands behind is a later version's
    fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = field::<2>(value)?;
        let (trace, rest) = field::<32>(rest.strip_prefix(b"-")?)?;
        let (parent, rest) = field::<16>(rest.strip_prefix(b"-")?)?;
        let (_, rest) = field::<2>(rest.strip_prefix(b"-")?)?;
        let is_whole = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let is_zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        (is_whole && !is_zero(trace) && !is_zero(parent)).then(|| Self(trace.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// So many hexadecimal digits in lower case, and what stands behind
fn field<const DIGITS: usize>(text: &[u8]) -> Option<(&str, &[u8])> {
    let (digits, rest) = text.split_at_checked(DIGITS)?;
    let good = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let digits = digits.iter().all(good).then_some(digits)?;
    Some((core::str::from_utf8(digits).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_valid_traceparent_names_its_trace() {
        let check = |value: &str, valid: bool| {
            let id = TraceId::of(One::Once(value.as_bytes()));
            let id = id.as_ref().map(TraceId::as_str);
            assert_eq!(id, valid.then_some(TRACE), "{value}");
        };
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        );
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            true,
        );
        // A later version may have more behind a dash.
        check(
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            true,
        );
        check(
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        );
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            check(value, false);
        }
        assert_eq!(TraceId::of(One::Repeated), None);
        assert_eq!(TraceId::of(One::Absent), None);
    }
}
