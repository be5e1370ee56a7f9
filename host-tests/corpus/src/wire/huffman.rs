//! The Huffman code of HPACK (RFC 7541, appendix B), for reading alone.

/// Bits in the code of each byte; the last is EOS.
///
/// The code is canonical: codes of one length count up in the order of their symbols, so the
/// lengths say it all.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS: usize = 256;
const MAX_LENGTH: u8 = 30;

/// Decodes a Huffman-coded string.
///
/// # Errors
/// A code that doesn't end, EOS inside, or padding that isn't the beginning of EOS (RFC 7541, 5.2).
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut code = Code::default();
    for bit in coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1))
    {
        match code.push(bit)? {
            Some(EOS) => return Err("EOS inside a Huffman string".into()),
            Some(symbol) => out.push(symbol as u8),
            None => {}
        }
    }
    if code.length < 8 && code.is_ones() {
        Ok(out)
    } else {
        Err("a Huffman string ends within a code".into())
    }
}

/// The bits of a code that hasn't ended yet.
#[derive(Default)]
struct Code {
    bits: u32,
    length: u8,
    /// The least code of this length.
    first: u32,
}

impl Code {
    /// Takes a bit, and gives the symbol if it ends a code.
    fn push(&mut self, bit: u8) -> Result<Option<usize>, String> {
        self.first = (self.first + of_length(self.length).count() as u32) << 1;
        self.bits = self.bits << 1 | u32::from(bit);
        self.length += 1;
        let symbol = self
            .bits
            .checked_sub(self.first)
            .and_then(|n| of_length(self.length).nth(n as usize));
        if symbol.is_some() {
            *self = Self::default();
        } else if self.length == MAX_LENGTH {
            return Err("no Huffman code is that long".into());
        }
        Ok(symbol)
    }

    fn is_ones(&self) -> bool {
        self.bits == (1 << self.length) - 1
    }
}

/// The symbols whose code has this length, in the order of their codes.
fn of_length(length: u8) -> impl Iterator<Item = usize> {
    LENGTHS
        .iter()
        .enumerate()
        .filter(move |&(_, l)| *l == length)
        .map(|(symbol, _)| symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, C.4 and C.6.
    #[test]
    fn rfc_examples() {
        let check = |coded: &[u8], text: &str| assert_eq!(decode(coded).unwrap(), text.as_bytes());
        check(
            b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            "www.example.com",
        );
        check(b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache");
        check(b"\x64\x02", "302");
        check(b"\xae\xc3\x77\x1a\x4b", "private");
        check(
            b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
            "Mon, 21 Oct 2013 20:13:21 GMT",
        );
        check(b"", "");
    }

    #[test]
    fn codes_of_any_length() {
        // 28 bits of code, then padding: byte 2 is 0xfffffe2.
        assert_eq!(decode(b"\xff\xff\xfe\x2f").unwrap(), [2]);
    }

    #[test]
    fn broken_strings_are_errors() {
        assert!(decode(b"\xff\xff\xff\xff").is_err(), "EOS");
        assert!(decode(b"\xff").is_err(), "eight bits of padding");
        assert!(decode(b"\x00\x00\x00\x01").is_err(), "padding of zeros");
    }
}
