//! Path guards: what no path may look like, whatever it names.
//!
//! A gate and an upstream that read a path differently are the oldest way around a gate, so a
//! path that two readers could take for different ones is refused before any rule is matched
//! (RFC 3986, section 6, names the ways in which paths are normalised). The query is not
//! looked at.

use alloc::vec::Vec;

/// A path that every reader splits into the same segments
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CheckedPath<'a> {
    /// The path without its query; begins with `/`
    pub(crate) path: &'a str,
    /// What stands behind the first `?`
    pub(crate) query: Option<&'a [u8]>,
    /// Whether a letter is a capital
    pub(crate) has_capitals: bool,
    /// One bit a segment, the first one lowest: the segment holds an escape that some readers
    /// decode and others don't. Only a `{name:encoded}` may stand for it.
    pub(crate) encoded: u64,
}

/// Longest path without its query, in bytes
const MAX_PATH: usize = 8192;

/// Checks a request's path
///
/// `None` when it is not absolute, too long, holds a byte that is no visible ASCII or one of
/// `\ ; #`, an empty segment before its end, a dot segment, an escape that is malformed or stands
/// for a control character, or an ambiguous escape behind the 64th segment.
pub(crate) fn check(raw: &[u8]) -> Option<CheckedPath<'_>> {
    let mut seen = 0;
    let mut before = 0;
    let mut length = 0usize;
    for byte in raw {
        let kind = KINDS.get(usize::from(*byte)).copied().unwrap_or(REFUSED);
        if kind == QUERY {
            break;
        }
        // What begins a segment: a dot may be all of it, another slash is an empty one.
        if before == SLASH && kind & (SLASH | DOT) != 0 {
            seen |= DOUBTFUL;
        }
        (seen, before) = (seen | kind, kind);
        length = length.saturating_add(1);
    }
    let (path, rest) = raw.split_at_checked(length)?;
    if length > MAX_PATH || seen & REFUSED != 0 || path.first() != Some(&b'/') {
        return None;
    }
    let path = core::str::from_utf8(path).ok()?;
    let encoded = if seen & (DOUBTFUL | PERCENT) == 0 {
        0
    } else {
        check_segments(path)?
    };
    Some(CheckedPath {
        path,
        query: rest.split_first().map(|(_, query)| query),
        has_capitals: seen & CAPITAL != 0,
        encoded,
    })
}

/// The segments with ambiguous escapes, a bit each; `None` for a path that is refused
fn check_segments(path: &str) -> Option<u64> {
    let mut segments = path.strip_prefix('/')?.split('/').enumerate().peekable();
    let mut encoded = 0;
    while let Some((index, segment)) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == "." || segment == ".." || (segment.is_empty() && !is_last) {
            return None;
        }
        if segment.contains('%') && is_ambiguous(segment)? {
            let bit = u32::try_from(index)
                .ok()
                .and_then(|index| 1u64.checked_shl(index))?;
            encoded |= bit;
        }
    }
    Some(encoded)
}

const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 4;
const CAPITAL: u8 = 8;
const REFUSED: u8 = 16;
const QUERY: u8 = 32;
/// A segment that is empty or begins with a dot
const DOUBTFUL: u8 = 64;

/// What each byte is in a path: the guards are one look at each
static KINDS: [u8; 256] = {
    let mut kinds = [REFUSED; 256];
    let mut rest: &mut [u8] = &mut kinds;
    let mut byte = 0u8;
    while let Some((kind, behind)) = rest.split_first_mut() {
        *kind = match byte {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b'?' => QUERY,
            b'\\' | b';' | b'#' => REFUSED,
            b'A'..=b'Z' => CAPITAL,
            b'!'..=b'~' => 0,
            _ => REFUSED,
        };
        byte = byte.wrapping_add(1);
        rest = behind;
    }
    kinds
};

/// Whether readers disagree on a segment's escapes; `None` where an escape is never right
fn is_ambiguous(segment: &str) -> Option<bool> {
    let mut ambiguous = false;
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let byte = hex(bytes.next()?)?
            .checked_mul(16)?
            .checked_add(hex(bytes.next()?)?)?;
        if byte.is_ascii_control() {
            return None;
        }
        ambiguous |= byte.is_ascii_alphanumeric() || b"-._~/\\%;".contains(&byte);
        decoded.push(byte);
    }
    Some(ambiguous || core::str::from_utf8(&decoded).is_err())
}

/// The value of a hexadecimal digit
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Whether a query holds a parameter of that name, however its name is escaped
pub(crate) fn has_parameter(query: &[u8], name: &str) -> bool {
    query
        .split(|byte| matches!(byte, b'&' | b';'))
        .any(|parameter| {
            let mut bytes = parameter.iter().copied().take_while(|byte| *byte != b'=');
            let mut expected = name.bytes();
            loop {
                let byte = match bytes.next() {
                    Some(b'%') => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                        (Some(high), Some(low)) => Some(high.wrapping_mul(16) | low),
                        _ => return false,
                    },
                    byte => byte,
                };
                match (byte, expected.next()) {
                    (None, None) => return true,
                    (Some(byte), Some(wanted)) if byte == wanted => {}
                    _ => return false,
                }
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/~d/..e/f..",
            "/a%20b/%C3%A9",
            "/a:b@c!$&'()*+,=",
            "/*",
        ] {
            let checked = check(path.as_bytes());
            assert_eq!(
                checked,
                Some(CheckedPath {
                    path,
                    query: None,
                    has_capitals: path.contains(char::is_uppercase),
                    encoded: 0
                })
            );
        }
        let checked = check(b"/a?b?c/../\xff").unwrap();
        assert_eq!(
            (checked.path, checked.query),
            ("/a", Some(&b"b?c/../\xff"[..]))
        );
    }

    #[test]
    fn no_path_at_all() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/./a",
            "/a/.",
            "/a/..",
            "/a/../b",
            "/a\\b",
            "/a;b",
            "/a#b",
            "/a b",
            "/a\tb",
            "/a\x7f",
            "/é",
            "/%",
            "/%2",
            "/%zz",
            "/%00",
            "/%0a",
            "/%7f",
            "http://a/b",
        ] {
            assert_eq!(check(path.as_bytes()), None, "{path}");
        }
        assert_eq!(check(b"/\xff"), None);
        let long = [b"/".as_slice(), &[b'a'; MAX_PATH]].concat();
        assert_eq!(check(&long), None);
        assert!(check(&long[..MAX_PATH]).is_some());
    }

    #[test]
    fn ambiguous_escapes_are_marked() {
        for escape in [
            "%2f", "%2F", "%5c", "%2e", "%2E%2e", "%25", "%252e", "%41", "%7e", "%3b", "%c0%ae",
            "%ff",
        ] {
            let path = std::format!("/a/{escape}/b");
            assert_eq!(
                check(path.as_bytes()).map(|checked| checked.encoded),
                Some(0b10),
                "{path}"
            );
        }
        let deep = std::format!("{}/%41", "/a".repeat(63));
        assert_eq!(
            check(deep.as_bytes()).map(|checked| checked.encoded),
            Some(1 << 63)
        );
        let deeper = std::format!("{}/%41", "/a".repeat(64));
        assert_eq!(check(deeper.as_bytes()), None);
    }

    #[test]
    fn parameters() {
        let check = |query: &str, has| {
            assert_eq!(
                has_parameter(query.as_bytes(), "access_token"),
                has,
                "{query}"
            )
        };
        check("access_token=x", true);
        check("a=b&access_token", true);
        check("a;access_token=x", true);
        check("access%5Ftoken=x", true);
        check("%61ccess_token=", true);
        check("access_tokens=x", false);
        check("access_toke=x", false);
        check("a=access_token", false);
        check("access%5", false);
        check("", false);
    }
}
