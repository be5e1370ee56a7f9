//! HTTP/1.1 by hand (RFC 9112): a client that sends whatever bytes it is given, and the reading of
//! either side's messages.

use std::io::{self, Read, Write};

use super::stream::{Address, Connection, Deadline, PATIENCE};
use super::{Field, Message};
use crate::ring::Response;

/// The most that a head may hold.
const MAX_HEAD: usize = 1 << 20;

/// Sends a message on a connection of its own; `None`: the peer closed it without an answer.
///
/// # Errors
/// No connection, no answer in time, or an answer that breaks RFC 9112.
pub fn exchange(address: &Address, message: &Message) -> io::Result<Option<Response>> {
    let head_only = message.method.as_deref() == Some(b"HEAD");
    exchange_raw(address, &to_bytes(message), head_only)
}

/// Sends these bytes on a connection of their own. `head_only`: the answer to them has no body.
///
/// # Errors
/// As [`exchange`].
pub fn exchange_raw(
    address: &Address,
    pieces: &[Vec<u8>],
    head_only: bool,
) -> io::Result<Option<Response>> {
    let mut connection = Connection::open(address, Deadline::after(PATIENCE))?;
    for piece in pieces {
        match connection.write_all(piece) {
            // Whoever answers early may close early; the answer is there to be read.
            Err(e) if is_closed(&e) => break,
            result => result?,
        }
    }
    let mut reader = Reader::new(&mut connection);
    loop {
        let Some((line, headers)) = reader.head()? else {
            return Ok(None);
        };
        let status = status(&line)?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let framing = match status {
            _ if head_only => Framing::None,
            101 | 204 | 304 => Framing::None,
            _ => Framing::of(&headers)?.unwrap_or(Framing::UntilClose),
        };
        let mut body = Vec::new();
        reader.body(framing, &mut body)?;
        return Ok(Some(Response {
            status,
            headers: lower(headers),
            body,
        }));
    }
}

/// A request as a server reads it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The method.
    pub method: Vec<u8>,
    /// The target of the request line.
    pub target: Vec<u8>,
    /// Header fields with lower-case names.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailers with lower-case names.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether the request came to its end; if not, the body is what had come by then.
    pub is_whole: bool,
}

/// Reads one request; `None`: the client closed before it sent a whole head.
///
/// # Errors
/// The request breaks RFC 9112, or comes too slowly.
pub fn read_request(connection: &mut Connection) -> io::Result<Option<Incoming>> {
    let mut reader = Reader::new(connection);
    let Some((line, headers)) = reader.head()? else {
        return Ok(None);
    };
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(broken("a request line without a target"));
    };
    let (method, target) = (method.to_vec(), target.to_vec());
    let framing = Framing::of(&headers)?.unwrap_or(Framing::None);
    let mut body = Vec::new();
    let trailers = reader.body(framing, &mut body);
    let is_whole = trailers.is_ok();
    let trailers = lower(trailers.unwrap_or_default());
    Ok(Some(Incoming {
        method,
        target,
        headers: lower(headers),
        body,
        trailers,
        is_whole,
    }))
}

/// The bytes of a message in the pieces in which they are written.
fn to_bytes(message: &Message) -> Vec<Vec<u8>> {
    let mut head = Vec::new();
    head.extend_from_slice(message.method.as_deref().unwrap_or_default());
    head.push(b' ');
    // CONNECT has its authority for a target.
    head.extend_from_slice(
        message
            .path
            .as_ref()
            .or(message.host.as_ref())
            .map_or(b"", |p| p),
    );
    head.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = &message.host {
        put_field(&mut head, b"Host", host);
    }
    for (name, value) in &message.headers {
        put_field(&mut head, name, value);
    }
    head.extend_from_slice(b"\r\n");
    let mut pieces = vec![head];
    let body = message.body.iter().flatten();
    if message.is_chunked() {
        for piece in body.filter(|piece| !piece.is_empty()) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            pieces.push(chunk);
        }
        let mut last = b"0\r\n".to_vec();
        for (name, value) in &message.trailers {
            put_field(&mut last, name, value);
        }
        last.extend_from_slice(b"\r\n");
        pieces.push(last);
    } else {
        pieces.extend(body.cloned());
    }
    pieces
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How long a body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Chunked,
    Length(usize),
    None,
    UntilClose,
}

impl Framing {
    /// The framing that the headers state, if they do.
    fn of(headers: &[Field]) -> io::Result<Option<Self>> {
        let named = |name: &str| {
            let name = name.as_bytes();
            headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        if named("transfer-encoding").is_some() {
            return Ok(Some(Self::Chunked));
        }
        let Some(length) = named("content-length") else {
            return Ok(None);
        };
        let length = str::from_utf8(length)
            .ok()
            .and_then(|text| text.parse().ok());
        length
            .map(|length| Some(Self::Length(length)))
            .ok_or_else(|| broken("a bad Content-Length"))
    }
}

/// Reads messages through a buffer of its own.
struct Reader<'a> {
    connection: &'a mut Connection,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(connection: &'a mut Connection) -> Self {
        Self {
            connection,
            buffer: Vec::new(),
        }
    }

    /// Reads more; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut more = [0; 16_384];
        match self.connection.read(&mut more) {
            Ok(len) => {
                self.buffer.extend_from_slice(&more[..len]);
                Ok(len > 0)
            }
            Err(e) if is_closed(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A line without its CRLF; `None`: the end came first.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[searched..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > MAX_HEAD {
                return Err(broken("an endless line"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The first line and the fields; `None`: the peer closed before it sent anything.
    fn head(&mut self) -> io::Result<Option<(Vec<u8>, Vec<Field>)>> {
        match self.line()? {
            Some(line) => Ok(Some((line, self.fields()?))),
            None if self.buffer.is_empty() => Ok(None),
            None => Err(broken("a head that is cut off")),
        }
    }

    fn fields(&mut self) -> io::Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let line = self
                .line()?
                .ok_or_else(|| broken("a head that is cut off"))?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or_else(|| broken("a field without a colon"))?;
            fields.push((
                line[..colon].to_vec(),
                line[colon + 1..].trim_ascii().to_vec(),
            ));
        }
    }

    /// Reads a body, and gives what trails it.
    fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> io::Result<Vec<Field>> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.exactly(length, body)?,
            Framing::UntilClose => {
                while self.fill()? {}
                body.append(&mut self.buffer);
            }
            Framing::Chunked => loop {
                let line = self
                    .line()?
                    .ok_or_else(|| broken("a body that is cut off"))?;
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let length = str::from_utf8(digits)
                    .ok()
                    .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
                    .ok_or_else(|| broken("a bad chunk length"))?;
                if length == 0 {
                    return self.fields();
                }
                self.exactly(length, body)?;
                self.line()?;
            },
        }
        Ok(Vec::new())
    }

    /// Reads so many bytes into `body`, or as many as there are.
    fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let end = body.len() + length;
        loop {
            let len = self.buffer.len().min(end - body.len());
            body.extend(self.buffer.drain(..len));
            if body.len() == end {
                return Ok(());
            }
            if !self.fill()? {
                return Err(broken("a body that is cut off"));
            }
        }
    }
}

fn status(line: &[u8]) -> io::Result<u16> {
    str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or_else(|| broken("a bad status line"))
}

fn lower(fields: Vec<Field>) -> Vec<(String, Vec<u8>)> {
    fields
        .into_iter()
        .map(|(name, value)| (String::from_utf8_lossy(&name).to_ascii_lowercase(), value))
        .collect()
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent {what}"))
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
