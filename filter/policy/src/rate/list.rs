//! Lists of named limits, as `RateLimit` and `RateLimit-Policy` are: Lists of RFC 9651 whose members are Strings or
//! Tokens with parameters.

use alloc::vec::Vec;

/// A named limit of a list
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Item<'a> {
    /// As it is written
    pub(super) text: &'a str,
    /// Without quotation marks; escapes are left as they are
    pub(super) name: &'a str,
    /// The parameter `r`, where it is a whole number
    pub(super) remaining: Option<u64>,
}

/// Longest field that is read, in bytes of all its lines
const MAX_FIELD: usize = 4096;

/// The items of a field, of which a response has any number of lines
///
/// A field that is malformed or too long has none: who reads it has to ignore all of it, and what is added to it.
pub(super) fn items<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let mut length = 0usize;
    for line in lines {
        length = length.saturating_add(line.len());
        let text = core::str::from_utf8(line).ok();
        let read = text.filter(|_| length <= MAX_FIELD);
        if read.and_then(|text| read_line(text, &mut items)).is_none() {
            return Vec::new();
        }
    }
    items
}

fn read_line<'a>(line: &'a str, items: &mut Vec<Item<'a>>) -> Option<()> {
    let mut rest = line.trim_matches(' ');
    if rest.is_empty() {
        return Some(());
    }
    loop {
        let (item, after) = read_item(rest)?;
        items.push(item);
        let after = after.trim_start_matches(SPACES);
        if after.is_empty() {
            return Some(());
        }
        rest = after.strip_prefix(',')?.trim_start_matches(SPACES);
    }
}

const SPACES: [char; 2] = [' ', '\t'];

fn read_item(text: &str) -> Option<(Item<'_>, &str)> {
    let (Bare::Name(name), mut rest) = read_bare(text)? else {
        return None;
    };
    let mut remaining = None;
    while let Some(after) = rest.strip_prefix(';') {
        let after = after.trim_start_matches(' ');
        after
            .starts_with(|first: char| first == '*' || first.is_ascii_lowercase())
            .then_some(())?;
        let (key, after) = split(after, |byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        });
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => read_bare(value)?,
            None => (Bare::Other, after),
        };
        if key == "r" {
            remaining = match value {
                Bare::Integer(number) => number.parse().ok(),
                _ => None,
            };
        }
        rest = after;
    }
    let item = Item {
        text: text.strip_suffix(rest)?,
        name,
        remaining,
    };
    Some((item, rest))
}

/// A value without parameters
#[derive(Clone, Copy, Debug)]
enum Bare<'a> {
    /// A String or a Token
    Name(&'a str),
    Integer(&'a str),
    Other,
}

fn read_bare(text: &str) -> Option<(Bare<'_>, &str)> {
    let (first, rest) = text.split_at_checked(1)?;
    match first {
        "\"" => {
            let (inner, rest) = read_quoted(rest)?;
            Some((Bare::Name(inner), rest))
        }
        "?" => {
            let rest = rest.strip_prefix(['0', '1'])?;
            Some((Bare::Other, rest))
        }
        ":" => {
            let of = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            let (_, rest) = split(rest, of);
            Some((Bare::Other, rest.strip_prefix(':')?))
        }
        "@" => {
            let (number, rest) = read_number(rest)?;
            matches!(number, Bare::Integer(_)).then_some((Bare::Other, rest))
        }
        "%" => {
            let (_, rest) = read_quoted(rest.strip_prefix('"')?)?;
            Some((Bare::Other, rest))
        }
        _ if first == "*" || first.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            let of =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
            let (name, rest) = split(text, of);
            Some((Bare::Name(name), rest))
        }
        _ => read_number(text),
    }
}

/// What stands before the closing quotation mark, and behind it
fn read_quoted(text: &str) -> Option<(&str, &str)> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((text.get(..at)?, text.get(at.checked_add(1)?..)?)),
            b'\\' => {
                bytes
                    .next()
                    .filter(|(_, byte)| matches!(byte, b'"' | b'\\'))?;
            }
            b' '..=b'~' => {}
            _ => return None,
        }
    }
    None
}

/// An Integer of up to 15 digits, or a Decimal of up to 12 and 3
fn read_number(text: &str) -> Option<(Bare<'_>, &str)> {
    let digits = |byte: u8| byte.is_ascii_digit();
    let (whole, rest) = split(text.strip_prefix('-').unwrap_or(text), digits);
    let Some(rest) = rest.strip_prefix('.') else {
        let number = text.strip_suffix(rest)?;
        return (1..=15)
            .contains(&whole.len())
            .then_some((Bare::Integer(number), rest));
    };
    let (fraction, rest) = split(rest, digits);
    let is_good = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
    is_good.then_some((Bare::Other, rest))
}

/// What begins a text and is of a kind, and the rest
fn split(text: &str, of: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !of(byte));
    let end = end.unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;
    use sfv::{BareItem, ListEntry, Parser};

    use super::*;

    fn read(text: &str) -> Vec<Item<'_>> {
        items([text.as_bytes()].into_iter())
    }

    /// Names and what is left, as `sfv` reads them; `None` if a member is a list or has no name
    fn model(text: &str) -> Option<Vec<(String, Option<u64>)>> {
        let list: sfv::List = Parser::new(text).parse().ok()?;
        let each = |entry: &ListEntry| {
            let ListEntry::Item(item) = entry else {
                return None;
            };
            let name = match &item.bare_item {
                BareItem::String(name) => name.as_str(),
                BareItem::Token(name) => name.as_str(),
                _ => return None,
            };
            let remaining = item.params.get("r").and_then(BareItem::as_integer);
            let remaining = remaining.and_then(|r| u64::try_from(i64::from(r)).ok());
            Some((name.into(), remaining))
        };
        list.iter().map(each).collect()
    }

    fn check(text: &str) {
        let found: Vec<_> = read(text)
            .iter()
            .map(|item| {
                (
                    item.name.replace("\\\"", "\"").replace("\\\\", "\\"),
                    item.remaining,
                )
            })
            .collect();
        assert_eq!(found, model(text).unwrap_or_default(), "{text:?}");
    }

    #[test]
    fn lists_and_what_is_none() {
        for text in [
            "",
            "a",
            "a;r=1",
            "\"a b\";r=1;t=2 , b",
            "a;q=1;pk=:AQ==:",
            "a;r",
            "a;r=1.5",
            "a;r=-1",
            "a;r=999999999999999",
            "a;r=1;r=2",
            "\"a\\\"b\"",
            "a;x=?1;y=@7;z=%\"f%c3%bc\"",
            "limit=10, remaining=5",
            "10;r=1",
            "(a b);r=1",
            "a,",
            ",a",
            "a b",
            "a;R=1",
            "a;r=1e3",
            "a;r=1000000000000000",
            "\"a",
            "\"\u{fc}\"",
        ] {
            check(text);
        }
        assert_eq!(read("a;r=1\u{0}"), []);
        let long = String::from_utf8(alloc::vec![b'a'; MAX_FIELD + 1]).unwrap();
        assert_eq!(read(&long), []);
        let (_, shorter) = long.split_at(1);
        assert_eq!(read(shorter).len(), 1);
    }

    #[test]
    fn a_field_of_several_lines_is_one_list() {
        let lines: [&[u8]; 3] = [b"a;r=1, b", b"", b"c;t=3"];
        let found: Vec<_> = items(lines.into_iter())
            .iter()
            .map(|item| item.text)
            .collect();
        assert_eq!(found, ["a;r=1", "b", "c;t=3"]);
        let lines: [&[u8]; 2] = [b"a;r=1", b"b;;"];
        assert_eq!(items(lines.into_iter()), []);
    }

    proptest! {
        #[test]
        fn items_are_those_of_the_standard(
            parts in proptest::collection::vec(
                prop_oneof!["[a-c\"*]{1,2}", "[;=, ]{1,2}", "[-0-9.?@\t]{1,3}", Just(";r=".into()), Just("\"b\\\\\"".into())],
                0..9,
            ),
        ) {
            check(&parts.concat());
        }
    }
}
