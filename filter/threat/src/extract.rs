//! URLs and addresses in a payload.

/// Longest URL that is taken from a payload, in bytes
const MAX_URL: usize = 2048;

/// How far a payload is looked through, in bytes
pub const MAX_SCAN: usize = 1 << 20;

/// Pieces of a payload that are URLs or addresses, in their order; not yet classified, and not each one once
///
/// Each byte is looked at a bounded number of times, whatever the payload.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    text: &'a str,
    at: usize,
    /// Where the bytes end that an address may be made of and that were last looked at
    run: usize,
    steps: usize,
}

impl<'a> Candidates<'a> {
    /// Of a payload, or of its first [`MAX_SCAN`] bytes
    #[must_use]
    pub fn of(payload: &'a str) -> Self {
        let end = (0..=MAX_SCAN.min(payload.len()))
            .rev()
            .find(|end| payload.is_char_boundary(*end));
        let text = payload.get(..end.unwrap_or(0)).unwrap_or("");
        Self {
            text,
            at: 0,
            run: 0,
            steps: 0,
        }
    }

    /// Bytes looked at so far
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    fn take(&mut self, start: usize, end: usize) -> Option<&'a str> {
        self.at = end;
        self.text.get(start..end)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Where an address ends that begins at a place, if one does; many may begin in one run
    fn address_end(&mut self, start: usize) -> usize {
        if start >= self.run {
            self.run = self.run(start, usize::MAX, in_address);
        }
        self.run.min(start.saturating_add(MAX_ADDRESS))
    }

    /// How far a run of bytes goes from a place
    fn run(&mut self, from: usize, longest: usize, fits: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(from..).unwrap_or(b"");
        let count = bytes
            .iter()
            .take(longest)
            .take_while(|byte| fits(**byte))
            .count();
        self.steps = self.steps.saturating_add(count).saturating_add(1);
        from.saturating_add(count)
    }
}

impl<'a> Iterator for Candidates<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // Words begin where nothing of them stands before.
        while self.at < self.text.len() {
            let start = self.run(self.at, usize::MAX, |byte| !begins(byte));
            let word = self.run(start, usize::MAX, continues);
            if let Some(scheme) = self.text.get(start..word)
                && let Some(scheme_at) = scheme_at(scheme)
                && is_separator(self.text.as_bytes().get(word..).unwrap_or(b""))
            {
                let end = self.run(word, MAX_URL, in_url);
                let start = start.saturating_add(scheme_at);
                let url = self.text.get(start..end).unwrap_or("");
                let kept =
                    url.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '\'', '\\']);
                if let Some(url) = self.take(start, end).and_then(|url| url.get(..kept.len())) {
                    return Some(url);
                }
                continue;
            }
            let end = self.address_end(start);
            let next = self.byte(end).unwrap_or(b' ');
            if let Some(address) = self.text.get(start..end)
                && !next.is_ascii_alphanumeric()
                && looks_like_address(address)
            {
                self.take(start, end);
                return Some(address.trim_end_matches(['.', ':', '[', '(']));
            }
            let end = word.max(start.saturating_add(1)).min(self.text.len());
            self.take(end, end);
        }
        None
    }
}

/// `[ffff:...:255.255.255.255]` with defanged dots
const MAX_ADDRESS: usize = 64;

fn begins(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'*')
}

fn continues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'*'
}

/// Where a scheme begins that a word ends in
fn scheme_at(word: &str) -> Option<usize> {
    const SCHEMES: &[&str] = &[
        "https", "http", "hxxps", "hxxp", "h**ps", "h**p", "ftp", "wss", "ws",
    ];
    SCHEMES.iter().find_map(|scheme| {
        let at = word.len().checked_sub(scheme.len())?;
        let tail = word.get(at..)?;
        tail.eq_ignore_ascii_case(scheme).then_some(at)
    })
}

/// `://`, or as JSON and those who defang write it
fn is_separator(rest: &[u8]) -> bool {
    [&b"://"[..], b":\\/\\/", b":\\\\", b"[:]//", b"[://]"]
        .iter()
        .any(|separator| rest.starts_with(separator))
}

/// What a URL in running text may be made of
fn in_url(byte: u8) -> bool {
    !byte.is_ascii_whitespace()
        && !byte.is_ascii_control()
        && !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'|' | b'^')
}

fn in_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']' | b'(' | b')')
}

/// Four parts with dots between them, or at least two colons
fn looks_like_address(text: &str) -> bool {
    let count = |wanted: u8| text.bytes().filter(|byte| *byte == wanted).count();
    let starts_with_digit = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    (starts_with_digit && count(b'.') >= 3) || count(b':') >= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn found() {
        for (payload, expected) in [
            ("", &[][..]),
            ("see http://evil.example/x. Bye", &["http://evil.example/x"]),
            (
                r#"{"a":"https:\/\/evil.example\/x","b":"1.2.3.4"}"#,
                &[r"https:\/\/evil.example\/x", "1.2.3.4"],
            ),
            ("<a href='HTTP://a.example/'>x</a>", &["HTTP://a.example/"]),
            ("(hxxp[:]//evil[.]example/)", &["hxxp[:]//evil[.]example/"]),
            (
                "curl 10.0.0.1:80|sh;nc 2001:db8::1",
                &["10.0.0.1:80", "2001:db8::1"],
            ),
            ("at ::1, 1[.]2[.]3[.]4.", &["::1", "1[.]2[.]3[.]4"]),
            ("xhttp://a.example", &["http://a.example"]),
            ("12:30:45 a1.2.3.4 1.2.3.4x 1.2.3", &["12:30:45"]),
            (
                "ünïcode http://bücher.example/ä ok",
                &["http://bücher.example/ä"],
            ),
        ] {
            let found: Vec<&str> = Candidates::of(payload).collect();
            assert_eq!(found, expected, "{payload}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Looking at a run once finds what looking from each of its places finds
        #[test]
        fn no_address_is_lost(text in "([0-9a-f]{1,3}|[:.\\[\\]()]{1,2}|:80|1\\.2\\.3\\.4|[ g/é]|http://){1,90}") {
            let mut candidates = Candidates::of(&text);
            for start in 0..text.len() {
                let alone = candidates.run(start, MAX_ADDRESS, in_address);
                prop_assert_eq!(candidates.address_end(start), alone);
            }
        }

        /// Whatever the payload, each byte costs a bounded number of looks
        #[test]
        fn the_work_is_linear(unit in "(http|::|[0-9a-f.:\\[\\]/ *é]){1,12}") {
            let payload = unit.repeat(65_536_usize.div_ceil(unit.len().max(1)));
            let mut candidates = Candidates::of(&payload);
            let found: Vec<&str> = candidates.by_ref().collect();
            prop_assert!(candidates.steps() <= payload.len().saturating_add(1).saturating_mul(4), "{}", candidates.steps());
            prop_assert!(found.iter().all(|piece| piece.len() <= MAX_URL + 64));
        }
    }
}
