//! Reading one request off a connection (RFC 9112), strictly and within bounds.

use std::io::{self, BufRead, Read};

const MAX_HEAD: u64 = 64 * 1024;
const MAX_FIELDS: usize = 256;
const MAX_BODY: u64 = 8 << 20;
const MAX_TRAILERS: u64 = 16 * 1024;
const MAX_CHUNK_LINE: u64 = 256;

/// Why there is no request to answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client left before the first byte.
    End,
    /// A status and a word to the client; the connection can't go on.
    Answer(u16, &'static str),
}

/// Header or trailer fields: names in lower case, values as they came.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) headers: Fields,
    http_1_0: bool,
}

impl Head {
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Result<Self, Refusal>> {
        let mut budget = MAX_HEAD;
        let line = match read_line(reader, &mut budget)? {
            Line::Whole(line) => line,
            Line::End => return Ok(Err(Refusal::End)),
            Line::Bad => return Ok(Err(Refusal::Answer(400, "the request line is broken"))),
            Line::Long => return Ok(Err(Refusal::Answer(431, "the request line is too long"))),
        };
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Ok(Err(Refusal::Answer(
                400,
                "a request line is `method target version`",
            )));
        };
        if !is_token(method) || target.is_empty() || target.iter().any(|byte| *byte <= b' ') {
            return Ok(Err(Refusal::Answer(
                400,
                "the method or the target is malformed",
            )));
        }
        let http_1_0 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => {
                return Ok(Err(Refusal::Answer(
                    505,
                    "only HTTP/1.1 and HTTP/1.0 are spoken here",
                )));
            }
        };
        let method = String::from_utf8_lossy(method).into_owned();
        let target = target.to_vec();
        Ok(read_fields(reader, &mut budget)?.map(|headers| Self {
            method,
            target,
            headers,
            http_1_0,
        }))
    }

    /// The values of every field called `name` (lower case), in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(field, _)| field == name)
            .map(|(_, value)| value.as_slice())
    }

    /// Whether a comma-separated list header contains `token`, in any case.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    pub(crate) fn expects_continue(&self) -> bool {
        !self.http_1_0 && self.lists("expect", "100-continue")
    }

    /// Whether the connection ends with this request.
    pub(crate) fn closes(&self) -> bool {
        self.lists("connection", "close")
            || (self.http_1_0 && !self.lists("connection", "keep-alive"))
    }

    pub(crate) fn read_body(
        self,
        reader: &mut impl BufRead,
    ) -> io::Result<Result<Request, Refusal>> {
        let framing = match self.framing() {
            Ok(framing) => framing,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let read = match framing {
            Framing::Length(length) => {
                let mut body = Vec::new();
                reader.take(length).read_to_end(&mut body)?;
                if u64::try_from(body.len()).unwrap_or(u64::MAX) < length {
                    return Ok(Err(Refusal::End));
                }
                Ok((body, Fields::new()))
            }
            Framing::Chunked => read_chunks(reader)?,
        };
        Ok(read.map(|(body, trailers)| Request {
            head: self,
            body,
            trailers,
        }))
    }

    fn framing(&self) -> Result<Framing, Refusal> {
        let mut lengths = self.all("content-length");
        let mut codings = self.all("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (Some(_), Some(_)) => Err(Refusal::Answer(
                400,
                "content-length and transfer-encoding exclude each other",
            )),
            (None, None) => Ok(Framing::Length(0)),
            (None, Some(coding))
                if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") =>
            {
                Ok(Framing::Chunked)
            }
            (None, Some(_)) => Err(Refusal::Answer(
                501,
                "the only transfer coding known here is chunked",
            )),
            (Some(length), None) => match number(length, 10) {
                Some(_) if lengths.next().is_some() => Err(Refusal::Answer(
                    400,
                    "there is more than one content-length",
                )),
                Some(length) if length <= MAX_BODY => Ok(Framing::Length(length)),
                Some(_) => Err(Refusal::Answer(413, "the body is larger than 8 MiB")),
                None => Err(Refusal::Answer(400, "content-length is no number")),
            },
        }
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

enum Line {
    Whole(Vec<u8>),
    /// Nothing but the end of the stream.
    End,
    /// No CRLF at its end.
    Bad,
    /// Longer than the budget.
    Long,
}

/// Reads up to CRLF, which is not part of the result, and takes what was read off the budget.
fn read_line(reader: &mut impl BufRead, budget: &mut u64) -> io::Result<Line> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(*budget).read_until(b'\n', &mut line)?;
    *budget = budget.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
    Ok(match line.strip_suffix(b"\r\n") {
        Some(whole) => Line::Whole(whole.to_vec()),
        None if *budget == 0 => Line::Long,
        None if line.is_empty() => Line::End,
        None => Line::Bad,
    })
}

/// Reads field lines up to and with the empty line.
fn read_fields(reader: &mut impl BufRead, budget: &mut u64) -> io::Result<Result<Fields, Refusal>> {
    let mut fields = Fields::new();
    loop {
        let line = match read_line(reader, budget)? {
            Line::Whole(line) if line.is_empty() => return Ok(Ok(fields)),
            Line::Whole(line) => line,
            Line::End => return Ok(Err(Refusal::End)),
            Line::Bad => {
                return Ok(Err(Refusal::Answer(
                    400,
                    "a field line does not end with CRLF",
                )));
            }
            Line::Long => return Ok(Err(Refusal::Answer(431, "the fields are too long"))),
        };
        if fields.len() >= MAX_FIELDS {
            return Ok(Err(Refusal::Answer(431, "there are too many fields")));
        }
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return Ok(Err(Refusal::Answer(400, "a field line has no colon")));
        };
        // A folded line starts with a blank, which is no token character either.
        if !is_token(name) || value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Ok(Err(Refusal::Answer(400, "a field is malformed")));
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value.trim_ascii().to_vec()));
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Result<(Vec<u8>, Fields), Refusal>> {
    let mut body = Vec::new();
    let mut room = MAX_BODY;
    loop {
        let Line::Whole(line) = read_line(reader, &mut { MAX_CHUNK_LINE })? else {
            return Ok(Err(Refusal::Answer(400, "a chunk has no size line")));
        };
        let size = line
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii_end();
        let Some(size) = number(size, 16) else {
            return Ok(Err(Refusal::Answer(400, "a chunk's size is no number")));
        };
        if size == 0 {
            let trailers = read_fields(reader, &mut { MAX_TRAILERS })?;
            return Ok(trailers.map(|trailers| (body, trailers)));
        }
        if size > room {
            return Ok(Err(Refusal::Answer(413, "the body is larger than 8 MiB")));
        }
        room = room.saturating_sub(size);
        let read = reader.by_ref().take(size).read_to_end(&mut body)?;
        if u64::try_from(read).unwrap_or(u64::MAX) < size {
            return Ok(Err(Refusal::End));
        }
        match read_line(reader, &mut 2)? {
            Line::Whole(line) if line.is_empty() => {}
            _ => return Ok(Err(Refusal::Answer(400, "a chunk is longer than it says"))),
        }
    }
}

/// Digits only: no sign, no blank, no overflow.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty()
        || !digits
            .iter()
            .all(|digit| char::from(*digit).is_digit(radix))
    {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Request, Refusal> {
        match Head::read(&mut bytes).unwrap() {
            Ok(head) => head.read_body(&mut bytes).unwrap(),
            Err(refusal) => Err(refusal),
        }
    }

    #[track_caller]
    fn refused(bytes: &[u8]) -> u16 {
        match read(bytes) {
            Err(Refusal::Answer(status, _)) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_chunks_extensions_and_trailers() {
        let request = read(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;q=1\r\nabc\r\nA \r\n0123456789\r\n0\r\nX-T: \xff \r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.body, b"abc0123456789");
        assert_eq!(request.trailers, [("x-t".to_owned(), b"\xff".to_vec())]);
    }

    #[test]
    fn refuses_every_ambiguous_framing() {
        for fields in [
            "content-length: 1\r\ntransfer-encoding: chunked",
            "content-length: 1\r\ncontent-length: 1",
            "content-length: +1",
            "content-length: 0x1",
            "content-length: ",
            "content-length: 99999999999999999999",
            "content-length : 1",
            "x: a\r\n folded",
        ] {
            assert_eq!(
                refused(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n1").as_bytes()),
                400,
                "{fields}"
            );
        }
        for coding in [
            "gzip, chunked",
            "xchunked",
            "chunked\r\ntransfer-encoding: identity",
        ] {
            let text = format!("POST / HTTP/1.1\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
            assert_eq!(refused(text.as_bytes()), 501, "{coding}");
        }
    }

    #[test]
    fn refuses_what_is_too_large() {
        assert_eq!(
            refused(b"POST / HTTP/1.1\r\ncontent-length: 8388609\r\n\r\n"),
            413
        );
        assert_eq!(
            refused(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n800001\r\n"),
            413
        );
        let long = "x".repeat(70_000);
        assert_eq!(
            refused(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes()),
            431
        );
        assert_eq!(
            refused(format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n").as_bytes()),
            431
        );
        let many = "x: y\r\n".repeat(257);
        assert_eq!(
            refused(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()),
            431
        );
        let trailers = "x: yyyyyyyyyyyyyyyyyyyy\r\n".repeat(800);
        let text =
            format!("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{trailers}\r\n");
        assert_eq!(refused(text.as_bytes()), 431);
    }

    #[test]
    fn a_client_that_leaves_is_no_error() {
        let whole = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        assert!(read(whole).is_ok());
        assert_eq!(read(b"").unwrap_err(), Refusal::End);
        assert_eq!(read(&whole[..whole.len() - 1]).unwrap_err(), Refusal::End);
    }

    /// Any truncation and any single changed byte of a request reads to an end without a panic.
    #[test]
    fn no_input_panics() {
        let whole: &[u8] =
            b"PUT /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nt: u\r\n\r\n";
        for end in 0..whole.len() {
            let _ = read(&whole[..end]);
            for byte in 0..=255 {
                let mut changed = whole.to_vec();
                changed[end] = byte;
                let _ = read(&changed);
            }
        }
        assert!(read(whole).is_ok());
    }
}
