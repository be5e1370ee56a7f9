//! Names that some readers take for one and the same.

use alloc::string::String;
use alloc::vec::Vec;

use crate::path;

/// A name as it is for readers who do not tell cases apart
///
/// A letter outside ASCII has one inside as its other case (the long s), and sigma has two small
/// forms: Go's `encoding/json`, for one, takes them for equal.
pub(crate) fn folded(name: &str) -> String {
    let one = |letter| match letter {
        'ſ' => 's',
        'ς' => 'σ',
        other => other,
    };
    name.chars().flat_map(char::to_lowercase).map(one).collect()
}

/// Whether a key is another spelling of a name: not the name, but equal to it when case is folded
pub(crate) fn is_variant(key: &str, name: &str) -> bool {
    if key == name {
        return false;
    }
    let is_plain = || key.is_ascii() && name.is_ascii();
    key.eq_ignore_ascii_case(name) || (!is_plain() && folded(key) == folded(name))
}

/// The raw name of a query's parameter, as some reader takes it
///
/// Readers decode escapes (some twice), fold case, trim blanks, read `name[]` and `name[0]` as the
/// name, end it at NUL, and write `_` for blanks and dots (PHP does the last four).
pub(crate) struct Reading(Vec<u8>);

impl Reading {
    pub(crate) fn of(raw: &[u8]) -> Self {
        let mut name = raw.to_vec();
        for _ in 0..3 {
            if name.contains(&b'%') {
                name = decode(&name).bytes;
            }
        }
        let mut rest = name.as_slice();
        while let [b'?' | b'+' | 1..=b' ' | 0x7f, behind @ ..] = rest {
            rest = behind;
        }
        let end = rest.iter().position(|byte| matches!(byte, b'[' | 0));
        rest = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        while let [before @ .., b'+' | 1..=b' ' | 0x7f] = rest {
            rest = before;
        }
        let mut plain = Vec::with_capacity(rest.len());
        while let [first, tail @ ..] = rest {
            let (mut byte, mut behind) = (*first, tail);
            // The two letters outside ASCII whose other case is within: long s and Kelvin sign.
            if let [0xc5, 0xbf, after @ ..] = rest {
                (byte, behind) = (b's', after);
            } else if let [0xe2, 0x84, 0xaa, after @ ..] = rest {
                (byte, behind) = (b'k', after);
            }
            plain.push(loose(byte));
            rest = behind;
        }
        Self(plain)
    }

    /// Whether some reader takes it for a name, which is ASCII
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.len() == name.len() && name.bytes().zip(&self.0).all(|(a, b)| loose(a) == *b)
    }
}

/// A byte as the most careless reader takes it
fn loose(byte: u8) -> u8 {
    match byte {
        b'.' | b'+' | 0..=b' ' | 0x7f => b'_',
        byte => byte.to_ascii_lowercase(),
    }
}

/// What was escaped with `%`, decoded once
pub(crate) struct Decoded {
    /// What is no escape stays as it is
    pub(crate) bytes: Vec<u8>,
    /// Whether every `%` began an escape
    pub(crate) is_whole: bool,
}

/// Decodes the bytes that are escaped with `%`
pub(crate) fn decode(raw: &[u8]) -> Decoded {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut is_whole = true;
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        let (mut byte, mut behind) = (*first, tail);
        if byte == b'%' {
            let escaped = match behind {
                [high, low, after @ ..] => path::hex(*high).zip(path::hex(*low)).zip(Some(after)),
                _ => None,
            };
            match escaped {
                Some(((high, low), after)) => {
                    (byte, behind) = (high.wrapping_mul(16) | low, after);
                }
                None => is_whole = false,
            }
        }
        bytes.push(byte);
        rest = behind;
    }
    Decoded { bytes, is_whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants() {
        let check = |key: &str, name: &str, variant| {
            assert_eq!(is_variant(key, name), variant, "{key} {name}");
        };
        check("Profile", "profile", true);
        check("pROFILE", "profile", true);
        check("ſcope", "scope", true);
        check("\u{212a}ey", "key", true);
        check("É", "é", true);
        check("ΟΔΟΣ", "οδος", true);
        check("profile", "profile", false);
        check("profiles", "profile", false);
        check("profil", "profile", false);
        check("prof_ile", "profile", false);
    }

    fn reads_as(raw: &[u8], name: &str) -> bool {
        Reading::of(raw).is(name)
    }

    #[test]
    fn readings_of_a_name() {
        let check = |raw: &str, reads| {
            assert_eq!(reads_as(raw.as_bytes(), "per_page"), reads, "{raw}");
        };
        for raw in [
            "per_page",
            "Per_Page",
            "PER_PAGE",
            "per%5Fpage",
            "%70er_page",
            "per%255fpage",
            "per%25255fpage",
            "per_page[]",
            "per_page[0]",
            "per_page[a][b]",
            "per_page%5B%5D",
            "per_page%5b0",
            "per.page",
            "per+page",
            "per%20page",
            "+per_page",
            "%20per_page%20",
            "%09per_page",
            "?per_page",
            "per_page%00",
            "per_page%00x",
            "per_page%0d%0a",
        ] {
            check(raw, true);
        }
        for raw in [
            "",
            "page",
            "per_pages",
            "per_pag",
            "xper_page",
            "per-page",
            "perpage",
            "filter[per_page]",
            "%zz",
            "per%5",
            "per_page%",
            "per_page%ff",
        ] {
            check(raw, false);
        }
        assert!(!reads_as(b"per_page\xff", "per_page"));
        assert!(reads_as("ſort_by".as_bytes(), "sort_by"));
        assert!(reads_as(b"%C5%BFort_by", "sort_by"));
        assert!(reads_as(b"a_b", "a.b"));
    }
}
