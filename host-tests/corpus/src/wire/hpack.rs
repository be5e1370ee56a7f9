//! Header compression (RFC 7541), as plain as it can be: nothing is indexed, so any bytes can be
//! sent and no state is kept.

use super::{Field, huffman};

/// Writes fields as literals without indexing and without Huffman: the bytes as they are.
pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            put_integer(&mut out, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// Reads a header block of a peer that was told that our dynamic table has size 0.
///
/// # Errors
/// The block breaks RFC 7541, or refers to a dynamic table.
pub fn decode(block: &[u8]) -> Result<Vec<Field>, String> {
    let mut reader = Reader(block);
    let mut fields = Vec::new();
    while let Some(&first) = reader.0.first() {
        if first & 0x80 != 0 {
            let (name, value) = entry(reader.integer(7)?)?;
            fields.push((name.into(), value.into()));
        } else if first & 0xe0 == 0x20 {
            if reader.integer(5)? != 0 {
                return Err("the dynamic table may not grow".into());
            }
        } else {
            let bits = if first & 0x40 != 0 { 6 } else { 4 };
            let name = match reader.integer(bits)? {
                0 => reader.string()?,
                index => entry(index)?.0.into(),
            };
            fields.push((name, reader.string()?));
        }
    }
    Ok(fields)
}

fn put_integer(out: &mut Vec<u8>, mut number: usize) {
    if number < 0x7f {
        out.push(number as u8);
        return;
    }
    out.push(0x7f);
    number -= 0x7f;
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (&byte, rest) = self.0.split_first().ok_or("the header block is cut off")?;
        self.0 = rest;
        Ok(byte)
    }

    /// An integer with a prefix of so many bits (RFC 7541, 5.1).
    fn integer(&mut self, bits: u8) -> Result<usize, String> {
        let mask = (1 << bits) - 1;
        let prefix = self.byte()? & mask;
        let mut number = usize::from(prefix);
        if prefix < mask {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("an integer of the header block is too long".into())
    }

    /// A string literal (RFC 7541, 5.2).
    fn string(&mut self) -> Result<Vec<u8>, String> {
        let coded = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let len = self.integer(7)?;
        let (text, rest) = self
            .0
            .split_at_checked(len)
            .ok_or("the header block is cut off")?;
        self.0 = rest;
        if coded {
            huffman::decode(text)
        } else {
            Ok(text.to_vec())
        }
    }
}

fn entry(index: usize) -> Result<(&'static str, &'static str), String> {
    let entry = index.checked_sub(1).and_then(|index| STATIC.get(index));
    entry
        .copied()
        .ok_or_else(|| format!("index {index} is beyond the static table"))
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        (name.into(), value.into())
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(70_000);
        let fields = [
            field(":path", "/"),
            (b"a b".to_vec(), b"\xff\r\n\0".to_vec()),
            field("long", &long),
        ];
        assert_eq!(decode(&encode(&fields)).unwrap(), fields);
    }

    /// RFC 7541, C.2 and C.4.1 up to what the dynamic table would add.
    #[test]
    fn rfc_examples() {
        let block = b"\x40\x0acustom-key\x0dcustom-header";
        assert_eq!(
            decode(block).unwrap(),
            [field("custom-key", "custom-header")]
        );
        assert_eq!(
            decode(b"\x04\x0c/sample/path").unwrap(),
            [field(":path", "/sample/path")]
        );
        assert_eq!(
            decode(b"\x10\x08password\x06secret").unwrap(),
            [field("password", "secret")]
        );
        assert_eq!(decode(b"\x82").unwrap(), [field(":method", "GET")]);
        let block = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(
            decode(block).unwrap(),
            [
                field(":method", "GET"),
                field(":scheme", "http"),
                field(":path", "/"),
                field(":authority", "www.example.com"),
            ]
        );
        assert_eq!(decode(b"\x20\x88").unwrap(), [field(":status", "200")]);
    }

    #[test]
    fn broken_blocks_are_errors() {
        for block in [
            b"\x80".as_slice(),
            b"\xbe",
            b"\x40\x0acus",
            b"\x7f\xff\xff\xff\xff\xff",
            b"\x3f\x01",
        ] {
            assert!(decode(block).is_err(), "{block:x?}");
        }
    }
}
