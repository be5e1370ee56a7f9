//! Bytes as a case writes them: readable where they are text, and no byte out of reach.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// The most bytes that one value may grow to, so that a slip in `times` can't eat the machine.
const MAX_LEN: usize = 32 << 20;

/// Any sequence of bytes.
///
/// | in the case file | the bytes |
/// |---|---|
/// | `text` or `15` | its UTF-8 |
/// | `{ bytes: "/\xff" }` | one byte for each character up to U+00FF |
/// | `{ hex: 00ff }` | these |
/// | `{ repeat: x, times: 70000 }` | `x` that many times; `x` is itself any of these forms |
/// | `{ join: [a, { hex: ff }] }` | one after the other |
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Octets(Vec<u8>);

impl Octets {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Octets {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", printable(&self.0))
    }
}

/// The bytes for a terminal: what isn't printable ASCII is escaped, what is long is cut in the
/// middle.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const HEAD: usize = 600;
    const TAIL: usize = 60;
    // Quotes stay readable: JSON is what is printed most.
    let text = |bytes: &[u8]| {
        bytes
            .escape_ascii()
            .to_string()
            .replace("\\\"", "\"")
            .replace("\\'", "'")
    };
    if bytes.len() <= HEAD + TAIL {
        return text(bytes);
    }
    let (head, tail) = (&bytes[..HEAD], &bytes[bytes.len() - TAIL..]);
    format!(
        "{}[... {} bytes in all ...]{}",
        text(head),
        bytes.len(),
        text(tail)
    )
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OctetsVisitor).map(Self)
    }
}

struct OctetsVisitor;

impl<'de> Visitor<'de> for OctetsVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, {hex}, {bytes}, {repeat, times} or {join}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<u8>, E> {
        Ok(number.to_string().into_bytes())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<u8>, E> {
        Ok(number.to_string().into_bytes())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<u8>, A::Error> {
        let form = Form::deserialize(MapAccessDeserializer::new(map))?;
        form.build().map_err(A::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    bytes: Option<String>,
    hex: Option<String>,
    join: Option<Vec<Octets>>,
    repeat: Option<Box<Octets>>,
    times: Option<usize>,
}

impl Form {
    fn build(self) -> Result<Vec<u8>, String> {
        match self {
            Self {
                bytes: Some(text),
                hex: None,
                join: None,
                repeat: None,
                times: None,
            } => text
                .chars()
                .map(|c| u8::try_from(c).map_err(|_| format!("`{c}` in `bytes` is above U+00FF")))
                .collect(),
            Self {
                bytes: None,
                hex: Some(text),
                join: None,
                repeat: None,
                times: None,
            } => from_hex(&text),
            Self {
                bytes: None,
                hex: None,
                join: Some(parts),
                repeat: None,
                times: None,
            } => Ok(parts.into_iter().flat_map(|part| part.0).collect()),
            Self {
                bytes: None,
                hex: None,
                join: None,
                repeat: Some(unit),
                times: Some(times),
            } => match unit.0.len().checked_mul(times) {
                Some(len) if len <= MAX_LEN => Ok(unit.0.repeat(times)),
                _ => Err(format!("`repeat` gives more than {MAX_LEN} bytes")),
            },
            Self { .. } => {
                Err("write one of `hex`, `bytes`, `join`, or `repeat` with `times`".into())
            }
        }
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ' ')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("`{text}` in `hex` has a character that is no hexadecimal digit"))?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[high, low]| (high << 4) | low).collect())
    } else {
        Err(format!("`{text}` in `hex` has half a byte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(yaml: &str) -> Result<Vec<u8>, String> {
        serde_saphyr::from_str::<Octets>(yaml)
            .map(|o| o.0)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_gives_its_bytes() {
        assert_eq!(octets("abc").unwrap(), b"abc");
        assert_eq!(octets("15").unwrap(), b"15");
        assert_eq!(octets(r#"{ bytes: "/\xff\x00" }"#).unwrap(), b"/\xff\0");
        assert_eq!(octets("{ hex: 00 ff }").unwrap(), b"\0\xff");
        assert_eq!(octets("{ repeat: ab, times: 3 }").unwrap(), b"ababab");
        assert_eq!(
            octets("{ join: [a, { hex: ff }, { repeat: z, times: 2 }] }").unwrap(),
            b"a\xffzz"
        );
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for wrong in [
            "{ hex: 0 }",
            "{ hex: zz }",
            "{ repeat: a }",
            "{ repeat: a, times: 99999999 }",
            "{ hex: 00, bytes: a }",
            "{ text: a }",
            "{}",
            "true",
            "1.5",
            "~",
            r#"{ bytes: "\u0100" }"#,
        ] {
            assert!(octets(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn long_bytes_are_cut_in_the_middle() {
        let text = printable(&[b'a'; 5_000]);
        assert!(text.contains("5000 bytes") && text.len() < 800, "{text}");
        assert_eq!(printable(b"\xff\"x\""), "\\xff\"x\"");
    }
}
