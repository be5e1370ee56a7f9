//! Expected text in which generated parts are named instead of written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// Text with matchers in it.
///
/// | matcher | matches |
/// |---|---|
/// | `<any>` | anything, nothing included; alone in a JSON body: any value |
/// | `<integer>`, `<integer 1..60>` | a whole number, no sign, no leading zero; between the bounds, both included |
/// | `<ulid>` | 26 characters of Crockford's base 32 in upper case, the first at most 7 |
/// | `<unix-time>`, `<unix-time +1..+60>` | whole seconds since 1970, at most a day (or that many seconds) from the time of the request |
///
/// Everything else is literal, `<` included.
#[derive(Clone, Eq, PartialEq)]
pub struct Pattern {
    pieces: Vec<Piece>,
    text: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Any,
    Integer { low: u64, high: u64 },
    Literal(String),
    Ulid,
    UnixTime { low: i64, high: i64 },
}

const DAY: i64 = 86_400;

impl Pattern {
    /// Parses the text of a case.
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            literal.push_str(before);
            let found = after
                .split_once('>')
                .and_then(|(word, after)| Piece::named(word).map(|piece| (piece, after)));
            if let Some((piece, after)) = found {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
                rest = after;
            } else {
                literal.push('<');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Self {
            pieces,
            text: text.to_owned(),
        }
    }

    /// Whether the whole text matches; `wall` is the time of the request in whole seconds since
    /// 1970.
    pub fn matches(&self, text: &str, wall: u64) -> bool {
        matches(&self.pieces, text, wall)
    }

    /// Whether this stands for any JSON value.
    pub fn is_any(&self) -> bool {
        self.pieces == [Piece::Any]
    }

    /// Whether this stands for a number, and for nothing beside it.
    pub fn is_number(&self) -> bool {
        matches!(
            self.pieces.as_slice(),
            [Piece::Integer { .. } | Piece::UnixTime { .. }]
        )
    }

    /// The pattern as the case wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Pattern;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a whole number")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
                Ok(Pattern::new(text))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Pattern, E> {
                Ok(Pattern::new(&number.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl Piece {
    fn named(word: &str) -> Option<Self> {
        let (name, bounds) = match word.split_once(' ') {
            Some((name, bounds)) => (name, Some(bounds.split_once("..")?)),
            None => (word, None),
        };
        match (name, bounds) {
            ("any", None) => Some(Self::Any),
            ("ulid", None) => Some(Self::Ulid),
            ("integer", None) => Some(Self::Integer {
                low: 0,
                high: u64::MAX,
            }),
            ("integer", Some((low, high))) => Some(Self::Integer {
                low: low.parse().ok()?,
                high: high.parse().ok()?,
            }),
            ("unix-time", None) => Some(Self::UnixTime {
                low: -DAY,
                high: DAY,
            }),
            ("unix-time", Some((low, high))) => Some(Self::UnixTime {
                low: low.parse().ok()?,
                high: high.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// Whether the piece can be exactly this text.
    fn covers(&self, text: &str, wall: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(literal) => literal == text,
            Self::Ulid => {
                text.len() == 26
                    && text.starts_with(|c: char| matches!(c, '0'..='7'))
                    && text
                        .bytes()
                        .all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b))
            }
            Self::Integer { low, high } => {
                integer(text).is_some_and(|number| (*low..=*high).contains(&number))
            }
            Self::UnixTime { low, high } => integer(text)
                .and_then(|time| i64::try_from(i128::from(time).wrapping_sub(wall.into())).ok())
                .is_some_and(|distance| (*low..=*high).contains(&distance)),
        }
    }
}

fn integer(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if digits && canonical {
        text.parse().ok()
    } else {
        None
    }
}

fn matches(pieces: &[Piece], text: &str, wall: u64) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    if rest.is_empty() {
        return piece.covers(text, wall);
    }
    (0..=text.len()).rev().any(|end| {
        text.split_at_checked(end)
            .is_some_and(|(head, tail)| piece.covers(head, wall) && matches(rest, tail, wall))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn check(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text, NOW)
    }

    #[test]
    fn literals_match_themselves() {
        assert!(check("", ""));
        assert!(check("a <b> c", "a <b> c"));
        assert!(check("<script>", "<script>"));
        assert!(
            check("<integer 5..>", "<integer 5..>"),
            "half a range is no matcher"
        );
        assert!(!check("abc", "abcd"));
        assert!(!check("abc", ""));
    }

    #[test]
    fn integers_are_canonical_and_bounded() {
        assert!(check("<integer>", "0"));
        assert!(check("<integer 1..60>", "60"));
        for wrong in [
            "",
            "-1",
            "+1",
            "01",
            "1.0",
            " 1",
            "61",
            "0",
            "99999999999999999999999",
        ] {
            assert!(!check("<integer 1..60>", wrong), "{wrong}");
        }
    }

    #[test]
    fn ulids_have_one_spelling() {
        assert!(check("<ulid>", "01KB4Z9Q3M5N7P8R9S0T1V2W3X"));
        assert!(check("qa_<ulid>", "qa_01KB4Z9Q3M5N7P8R9S0T1V2W3X"));
        assert!(!check("<ulid>", "01KB4Z9Q3M5N7P8R9S0T1V2W3"));
        assert!(!check("<ulid>", "81KB4Z9Q3M5N7P8R9S0T1V2W3X"));
        assert!(!check("<ulid>", "01kb4z9q3m5n7p8r9s0t1v2w3x"));
        assert!(!check("<ulid>", "01KB4Z9Q3M5N7P8R9S0T1V2W3U"));
    }

    #[test]
    fn times_are_measured_from_the_request() {
        assert!(check("<unix-time>", "1795000000"));
        assert!(!check("<unix-time>", "1795086401"));
        assert!(check("<unix-time +1..+60>", "1795000060"));
        assert!(!check("<unix-time +1..+60>", "1795000000"));
        assert!(check("<unix-time -5..+0>", "1794999995"));
    }

    #[test]
    fn matchers_stand_inside_text() {
        assert!(check("a<any>z", "az"));
        assert!(check(
            "wait <integer>s, then <any>.",
            "wait 12s, then try again."
        ));
        assert!(!check("wait <integer>s", "wait s"));
    }
}
