//! Undoes the usual ways of making a link harmless.

use alloc::borrow::Cow;
use alloc::string::String;

use crate::safe_browsing::WEB_SCHEMES;

/// The text as it was before somebody made it harmless; `None` when there is nothing to undo
///
/// The path of a URL stays as it is: a real one may hold `[.]`. Time is linear in the text.
pub(crate) fn refang(text: &str) -> Option<String> {
    // What a URL parser drops hides no scheme from us (WHATWG URL, section 4.4).
    let hides = text.bytes().take(LONGEST_SCHEME).any(|byte| byte < b' ');
    let text = if hides {
        let mut plain = String::from(text);
        plain.retain(|c| !matches!(c, '\t' | '\n' | '\r'));
        Cow::Owned(String::from(plain.trim_matches(|c: char| c <= ' ')))
    } else {
        Cow::Borrowed(text)
    };
    let text = text.as_ref();
    let is_usual = text.starts_with("http") || !text.starts_with(['h', 'H', 'm', 'M', 'f', 'F']);
    if is_usual && !text.bytes().any(|byte| matches!(byte, b'[' | b'(' | b'{')) {
        return None;
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    for (fanged, scheme) in SCHEMES {
        if let Some(after) = strip_word(text, fanged)
            && after.starts_with([':', '[', '('])
        {
            plain.push_str(scheme);
            rest = after;
            changed = true;
            break;
        }
    }
    if !changed {
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric();
        let end = rest.bytes().position(|byte| !is_scheme(byte))?;
        let (scheme, after) = rest.split_at_checked(end)?;
        if after.starts_with("://")
            || SEPARATORS
                .iter()
                .any(|(fanged, _)| after.starts_with(fanged))
        {
            plain.push_str(scheme);
            rest = after;
        }
    }
    if !plain.is_empty() {
        for (fanged, separator) in SEPARATORS {
            if let Some(after) = rest.strip_prefix(fanged) {
                plain.push_str(separator);
                rest = after;
                changed = true;
                break;
            }
        }
        if let Some(after) = rest.strip_prefix("://") {
            plain.push_str("://");
            rest = after;
        }
    }
    // Browsers look for the host behind however many slashes, and see no line breaks.
    let scheme = WEB_SCHEMES.iter().find_map(|web| {
        let after = strip_word(text, web).filter(|_| plain.is_empty())?;
        after.strip_prefix(':')
    });
    if let Some(after) = scheme {
        plain.push_str(text.strip_suffix(after)?);
        rest = after;
    }
    let is_web = |web: &&str| strip_word(&plain, web).is_some_and(|rest| rest.starts_with(':'));
    if WEB_SCHEMES.iter().any(is_web) {
        let host = rest.trim_start_matches(['/', '\\', '\t', '\n', '\r']);
        plain.push_str(rest.strip_suffix(host)?);
        rest = host;
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end)?;
    changed |= push_host(&mut plain, host);
    plain.push_str(path);
    changed.then_some(plain)
}

const LONGEST_SCHEME: usize = 6;

/// Longer ones first, where one begins another
const SCHEMES: &[(&str, &str)] = &[
    ("hxxps", "https"),
    ("hxxp", "http"),
    ("h**ps", "https"),
    ("h**p", "http"),
    ("hxtps", "https"),
    ("hxtp", "http"),
    ("htxps", "https"),
    ("htxp", "http"),
    ("meows", "https"),
    ("meow", "http"),
    ("fxp", "ftp"),
];

const SEPARATORS: &[(&str, &str)] = &[
    ("[://]", "://"),
    ("[:]//", "://"),
    ("(:)//", "://"),
    ("[:/]/", "://"),
    (":[//]", "://"),
    (":[/][/]", "://"),
    ("[:][/][/]", "://"),
    ("[:]", ":"),
];

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// Appends a host; says whether there was something to undo
fn push_host(plain: &mut String, host: &str) -> bool {
    const MARKS: &[(&str, char)] = &[
        ("[.]", '.'),
        ("(.)", '.'),
        ("{.}", '.'),
        ("[dot]", '.'),
        ("(dot)", '.'),
        ("{dot}", '.'),
        ("[@]", '@'),
        ("(@)", '@'),
        ("[at]", '@'),
        ("[:]", ':'),
    ];
    if !host.contains(['[', '(', '{']) {
        plain.push_str(host);
        return false;
    }
    let start = plain.len();
    let mut changed = false;
    for c in host.chars() {
        plain.push(c);
        // What is undone may be a part of the next, so the end is looked at, not the host.
        let written = plain.get(start..).unwrap_or("");
        let mark = match c {
            ']' | ')' | '}' => MARKS.iter().find(|(mark, _)| ends_with(written, mark)),
            _ => None,
        };
        if let Some((mark, c)) = mark {
            plain.truncate(plain.len().saturating_sub(mark.len()));
            plain.push(*c);
            changed = true;
        }
    }
    changed
}

fn ends_with(text: &str, end: &str) -> bool {
    let at = text.len().checked_sub(end.len());
    at.and_then(|at| text.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undone() {
        for (fanged, plain) in [
            ("hxxp://evil[.]example/x", "http://evil.example/x"),
            ("hXXps[:]//evil.example/x", "https://evil.example/x"),
            ("hxxp[://]evil(.)example", "http://evil.example"),
            ("hxxp[:][/][/]evil[DOT]example", "http://evil.example"),
            ("h**p://a[.]b", "http://a.b"),
            ("fxp://a{.}b", "ftp://a.b"),
            ("http://user[@]a([.])b[:]80/", "http://user@a.b:80/"),
            ("evil[.]example", "evil.example"),
            ("203[.]0[.]113[.]7", "203.0.113.7"),
            ("hxxp://[::1]/", "http://[::1]/"),
            ("hxxp\t://evil.example/x", "http://evil.example/x"),
            ("http:////a(.)b/c[.]d", "http:////a.b/c[.]d"),
            ("http:/a[.]b", "http:/a.b"),
            ("http://\t//(.)", "http://\t//."),
        ] {
            assert_eq!(refang(fanged).as_deref(), Some(plain), "{fanged}");
            assert_eq!(refang(plain), None, "{plain}");
        }
    }

    #[test]
    fn nothing_to_undo() {
        for text in [
            "",
            "hxxp",
            "hxxpress.example",
            "http://[::1]:80/",
            "http://evil.example/a[.]b",
            "evil.example/x?y=(dot)",
            "[2001:db8::1]:443",
        ] {
            assert_eq!(refang(text), None, "{text}");
        }
    }
}
