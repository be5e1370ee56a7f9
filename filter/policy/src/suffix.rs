//! Public suffixes: names under which others register theirs, so that nobody has access to one.
//!
//! The whole list of publicsuffix.org, both parts of it, with its wildcards and exceptions, as an automaton that
//! reads a name backwards. `suffix/README.md` says where it comes from and under which licence.

/// Made by `portcullis-suffixes` of the crate `portcullis-fit`, whose `suffix_table` describes it
const TABLE: &[u8] = include_bytes!("suffix/list.bin");

/// The day of the list, such as `2026-10-22`
#[cfg(any(test, feature = "advice"))]
pub(crate) fn list_date() -> &'static str {
    let date = TABLE.get(..WORDS).unwrap_or_default();
    core::str::from_utf8(date).unwrap_or_default()
}

/// Whether a name in its ASCII form is a public suffix
///
/// As the list's own algorithm has it: every top-level domain is one, an exception is none, and of the other rules
/// the longest counts. What the list does not know yet is named by the policy (`domain_access.suffixes`).
pub(crate) fn is_public(name: &str) -> bool {
    let Some((label, zone)) = name.split_once('.') else {
        return true;
    };
    let first = State::Edges { at: FIRST, word: 0 };
    let Some(below) = first.walk(zone).and_then(|zone| zone.step(DOT)) else {
        return false;
    };
    let rule = below.walk(label);
    if rule.and_then(|rule| rule.step(EXCEPTION)).is_some() {
        return false;
    }
    rule.is_some_and(|rule| rule == State::Leaf || rule.step(END).is_some())
        || below.step(WILDCARD).is_some()
}

/// Where the words begin, behind the date
const WORDS: usize = 10;
const WORD: usize = 8;
/// Where the edges begin
const FIRST: usize = WORDS + 91 * WORD;
/// An edge of which nothing but the end of a rule comes
const LEAF: u8 = 0x40;
/// The last edge of its state
const LAST: u8 = 0x80;
/// The bits of a symbol; from 41 on it is a word's
const SYMBOL: u8 = 0x3f;
const DOT: u8 = 37;
const WILDCARD: u8 = 38;
const EXCEPTION: u8 = 39;
/// The symbol with which a rule ends
const END: u8 = 40;
/// Stands in place of edges that come later, and of those that a word hasn't
const NONE: u8 = 0xff;

/// Where in the automaton a reader is
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A rule ends, and none goes on
    Leaf,
    /// Where its edges begin, and how many of them were read if that is a word
    Edges { at: usize, word: usize },
}

impl State {
    /// Reads a text from its end
    fn walk(self, text: &str) -> Option<Self> {
        text.bytes()
            .rev()
            .try_fold(self, |state, byte| state.step(symbol(byte)?))
    }

    // INVARIANT: it only ever goes on to later bytes, so it ends whatever the table says.
    fn step(self, symbol: u8) -> Option<Self> {
        let Self::Edges { mut at, word } = self else {
            return None;
        };
        if byte(at)? == NONE {
            let later = u16::from_be_bytes([byte(at.checked_add(1)?)?, byte(at.checked_add(2)?)?]);
            at = at.checked_add(usize::from(later))?;
        }
        loop {
            let edge = byte(at)?;
            if edge & SYMBOL > END {
                return word_step(at, edge, word, symbol);
            }
            at = at.checked_add(1)?;
            let mut inner = 0;
            if edge & (LEAF | LAST) == 0 {
                inner = usize::from(byte(at)?);
                at = at.checked_add(1)?;
                if inner & 0x80 != 0 {
                    inner = (inner & 0x7f) << 8 | usize::from(byte(at)?);
                    at = at.checked_add(1)?;
                }
            }
            if edge & SYMBOL == symbol {
                return Some(if edge & LEAF == 0 {
                    Self::Edges { at, word: 0 }
                } else {
                    Self::Leaf
                });
            }
            if edge & LAST != 0 {
                return None;
            }
            at = at.checked_add(inner)?;
        }
    }
}

/// Takes the next edge of the word that stands somewhere
fn word_step(at: usize, code: u8, word: usize, symbol: u8) -> Option<State> {
    let number = usize::from(code >> 6)
        .checked_mul(23)?
        .checked_add(usize::from((code & SYMBOL).checked_sub(END + 1)?))?;
    let edges = number.checked_mul(WORD)?.checked_add(WORDS)?;
    let edge = byte(edges.checked_add(word)?)?;
    if edge & SYMBOL != symbol {
        return None;
    }
    let word = word.checked_add(1)?;
    if edge & LEAF != 0 {
        Some(State::Leaf)
    } else if word == WORD || byte(edges.checked_add(word)?)? == NONE {
        let at = at.checked_add(1)?;
        Some(State::Edges { at, word: 0 })
    } else {
        Some(State::Edges { at, word })
    }
}

fn byte(at: usize) -> Option<u8> {
    TABLE.get(at).copied()
}

fn symbol(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => byte.checked_sub(b'0'),
        b'a'..=b'z' => byte.checked_sub(b'a' - 10),
        b'-' => Some(36),
        b'.' => Some(DOT),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
