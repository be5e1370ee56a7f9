//! Counts over the characters of a part of a URL.

use alloc::vec::Vec;

/// What a text is made of
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Profile {
    pub(super) length: usize,
    pub(super) letters: usize,
    pub(super) upper: usize,
    pub(super) vowels: usize,
    pub(super) digits: usize,
    pub(super) hyphens: usize,
    pub(super) dots: usize,
    pub(super) slashes: usize,
    pub(super) escapes: usize,
    /// The longest run of consonants
    pub(super) consonants: usize,
    /// The longest run between dots and slashes
    pub(super) longest: usize,
    /// How often letters and digits take turns
    pub(super) turns: usize,
}

impl Profile {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut profile = Self {
            length: text.len(),
            ..Self::default()
        };
        let (mut consonants, mut segment) = (0usize, 0usize);
        let mut previous = Kind::Other;
        for byte in text {
            let kind = Kind::of(*byte);
            segment = segment.saturating_add(1);
            consonants = match kind {
                Kind::Consonant => consonants.saturating_add(1),
                _ => 0,
            };
            profile.consonants = profile.consonants.max(consonants);
            match kind {
                Kind::Vowel | Kind::Consonant => {
                    count(&mut profile.letters, true);
                    count(&mut profile.vowels, kind == Kind::Vowel);
                    count(&mut profile.upper, byte.is_ascii_uppercase());
                    count(&mut profile.turns, previous == Kind::Digit);
                }
                Kind::Digit => {
                    count(&mut profile.digits, true);
                    let letter = matches!(previous, Kind::Vowel | Kind::Consonant);
                    count(&mut profile.turns, letter);
                }
                Kind::Other => match byte {
                    b'-' => count(&mut profile.hyphens, true),
                    b'%' => count(&mut profile.escapes, true),
                    b'.' => {
                        count(&mut profile.dots, true);
                        segment = 0;
                    }
                    b'/' => {
                        count(&mut profile.slashes, true);
                        segment = 0;
                    }
                    _ => {}
                },
            }
            profile.longest = profile.longest.max(segment);
            previous = kind;
        }
        profile
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Vowel,
    Consonant,
    Digit,
    Other,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte | 0x20 {
            b'a' | b'e' | b'i' | b'o' | b'u' | b'y' => Self::Vowel,
            b'a'..=b'z' => Self::Consonant,
            _ if byte.is_ascii_digit() => Self::Digit,
            _ => Self::Other,
        }
    }
}

/// Whether a label is a number in hexadecimal digits that somebody's program wrote
pub(super) fn is_hexadecimal(label: &[u8]) -> bool {
    label.len() >= 8
        && label.iter().all(u8::is_ascii_hexdigit)
        && label.iter().any(u8::is_ascii_digit)
        && label.iter().any(u8::is_ascii_alphabetic)
}

fn count(counter: &mut usize, holds: bool) {
    *counter = counter.saturating_add(usize::from(holds));
}

/// The words of a text: what letters and digits form
pub(super) fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|token| !token.is_empty())
}

/// A word without the digits at its ends; the word itself if less than two letters remain
pub(super) fn stem(token: &[u8]) -> &[u8] {
    let stem = token.trim_digits();
    if stem.len() >= 2 { stem } else { token }
}

trait TrimDigits {
    fn trim_digits(&self) -> &Self;
}

impl TrimDigits for [u8] {
    fn trim_digits(&self) -> &Self {
        let mut text = self;
        while let [first, rest @ ..] = text
            && first.is_ascii_digit()
        {
            text = rest;
        }
        while let [rest @ .., last] = text
            && last.is_ascii_digit()
        {
            text = rest;
        }
        text
    }
}

/// A text in lower case, in which one character stands for each word that a generator made (a session, a hash,
/// an identifier): its letters say nothing. What doesn't fit into the buffer is left out.
pub(super) fn squeeze<'b>(text: &[u8], buffer: &'b mut [u8]) -> &'b [u8] {
    let mut cells = buffer.iter_mut();
    let mut put = |byte: u8| cells.next().map(|cell| *cell = byte);
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count();
        let (word, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if is_generated(word) {
            let _full = put(GENERATED);
        } else {
            let _full = word
                .iter()
                .try_for_each(|byte| put(byte.to_ascii_lowercase()));
        }
        let between = tail
            .iter()
            .take_while(|byte| !byte.is_ascii_alphanumeric())
            .count();
        let (between, tail) = tail.split_at_checked(between).unwrap_or((tail, &[]));
        if between.iter().try_for_each(|byte| put(*byte)).is_none() {
            break;
        }
        rest = tail;
    }
    let left = cells.len();
    let used = buffer.len().saturating_sub(left);
    buffer.get(..used).unwrap_or_default()
}

const GENERATED: u8 = 1;

fn is_generated(word: &[u8]) -> bool {
    let mut turns = 0usize;
    for pair in word.windows(2) {
        if let [a, b] = pair {
            count(&mut turns, a.is_ascii_digit() != b.is_ascii_digit());
        }
    }
    (word.len() >= 6 && turns >= 2) || word.len() >= 24
}

/// Whether a host's labels, or one of them, are punycode
pub(super) fn is_encoded(labels: &[u8]) -> bool {
    labels
        .split(|byte| *byte == b'.')
        .any(|label| label.starts_with(b"xn--"))
}

/// What a punycode label spells; `None` if it doesn't
pub(super) fn unicode(label: &[u8]) -> Option<Vec<char>> {
    let encoded = core::str::from_utf8(label.strip_prefix(b"xn--")?).ok()?;
    idna::punycode::decode(encoded)
}

/// 0 of an ASCII label; of a punycode label 1 if its letters are of one script (ASCII aside: Chinese, Japanese and Korean letters
/// mix with it in good faith), 2 if Latin letters stand with Greek, Cyrillic or Armenian ones
pub(super) fn script(label: &[u8]) -> usize {
    if !label.starts_with(b"xn--") {
        return 0;
    }
    let Some(characters) = unicode(label) else {
        return 2;
    };
    let latin = characters
        .iter()
        .any(|c| matches!(u32::from(*c), 0x61..=0x7a | 0xdf..=0x24f));
    let similar = characters
        .iter()
        .any(|c| matches!(u32::from(*c), 0x250..=0x2af | 0x370..=0x58f | 0x13a0..=0x13ff));
    if latin && similar { 2 } else { 1 }
}

/// The kind of file that holds a program
pub(super) const PROGRAM: usize = 6;
/// Letters of scripts that look alike stand in one label
pub(super) const SCRIPTS_MIXED: usize = 2;

/// The kind of file that a path in lower case ends in
pub(super) fn extension(path: &[u8]) -> usize {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(dot) = last.iter().rposition(|byte| *byte == b'.') else {
        return usize::from(!last.is_empty());
    };
    match last.get(dot..).unwrap_or_default() {
        b".html" | b".htm" | b".shtml" | b".xhtml" => 2,
        b".php" | b".php5" | b".phtml" => 3,
        b".asp" | b".aspx" | b".ashx" => 4,
        b".jsp" | b".do" | b".action" | b".cgi" | b".cfm" | b".pl" => 5,
        b".exe" | b".msi" | b".scr" | b".bat" | b".cmd" | b".ps1" | b".vbs" | b".hta" | b".lnk"
        | b".apk" | b".jar" | b".dll" | b".sh" | b".bin" | b".elf" | b".iso" => PROGRAM,
        b".zip" | b".rar" | b".7z" | b".gz" | b".tar" | b".tgz" => 7,
        b".jpg" | b".jpeg" | b".png" | b".gif" | b".svg" | b".webp" | b".ico" | b".css"
        | b".js" => 8,
        b".pdf" | b".doc" | b".docx" | b".xls" | b".xlsx" | b".txt" | b".xml" | b".json" => 9,
        _ => 10,
    }
}

/// Marks in a path in lower case, each once
pub(super) fn path_marks(path: &[u8], visit: &mut impl FnMut(usize)) {
    let mut found = 0u8;
    for (at, byte) in path.iter().enumerate() {
        let rest = || path.get(at..).unwrap_or_default();
        let mark = match byte {
            b'/' if rest().starts_with(b"//") => 1,
            b'/' if rest().starts_with(b"/.") => 2,
            b'@' => 3,
            b'~' => 4,
            b'.' if rest().starts_with(b".com") => 5,
            b'w' if rest().starts_with(b"www.") => 6,
            _ => continue,
        };
        found |= 1 << mark;
    }
    for mark in 1..=6usize {
        if found & 1 << mark != 0 {
            visit(mark);
        }
    }
}

/// Marks in a query in lower case
pub(super) fn query_marks(query: &[u8], visit: &mut impl FnMut(usize)) {
    let has = |needle: &[u8]| query.windows(needle.len()).any(|window| window == needle);
    let marks: [(&[u8], usize); 4] = [(b"@", 1), (b"%40", 1), (b"http", 2), (b"%2f", 3)];
    for (needle, mark) in marks {
        if has(needle) {
            visit(mark);
        }
    }
    if query.ends_with(b"=") {
        visit(4);
    }
    if !query.contains(&b'=') {
        visit(5);
    }
}
