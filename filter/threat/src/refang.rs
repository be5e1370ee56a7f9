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
    // All of them, because machines look at several at once.
    let has_bracket = text
        .bytes()
        .fold(false, |any, byte| any | matches!(byte, b'[' | b'(' | b'{'));
    if is_usual && !has_bracket {
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
    let is_web = WEB_SCHEMES.iter().any(is_web);
    if is_web {
        let host = rest.trim_start_matches(['/', '\\', '\t', '\n', '\r']);
        plain.push_str(rest.strip_suffix(host)?);
        rest = host;
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end)?;
    changed |= push_host(&mut plain, host, is_web);
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

/// Appends a host; says whether there was something to undo. What browsers drop may stand within a mark of a URL.
fn push_host(plain: &mut String, host: &str, is_web: bool) -> bool {
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
            ']' | ')' | '}' => MARKS.iter().find_map(|(mark, c)| {
                let kept = without_end(written, mark, is_web)?;
                Some((start.saturating_add(kept), *c))
            }),
            _ => None,
        };
        if let Some((kept, c)) = mark {
            plain.truncate(kept);
            plain.push(c);
            changed = true;
        }
    }
    changed
}

/// How much of a text is before the mark that it ends in
fn without_end(text: &str, mark: &str, with_breaks: bool) -> Option<usize> {
    let mut rest = text.char_indices().rev();
    let mut at = text.len();
    for wanted in mark.chars().rev() {
        let is_break = |c: char| with_breaks && matches!(c, '\t' | '\n' | '\r');
        let (place, _) = rest
            .find(|(_, c)| !is_break(*c))
            .filter(|(_, c)| c.eq_ignore_ascii_case(&wanted))?;
        at = place;
    }
    Some(at)
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
            ("http://(\t.)", "http://."),
            ("https://a[d\r\not]b\t/[.]", "https://a.b\t/[.]"),
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
            "evil.example[\t.]b",
        ] {
            assert_eq!(refang(text), None, "{text}");
        }
    }
}
