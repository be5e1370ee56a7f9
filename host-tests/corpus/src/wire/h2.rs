//! HTTP/2 by hand (RFC 9113): one request on a connection of its own, with any bytes in its fields,
//! all at once ([`exchange`]) or piece by piece ([`Call`]).

use std::io::{self, Read, Write};

use super::stream::{Address, Connection, Deadline, PATIENCE};
use super::{Field, Message, hpack};
use crate::ring::Response;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_FRAME: usize = 16_384;
const STREAM: u32 = 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Sends a message; `None`: the stream was reset or the connection closed without a whole answer.
///
/// # Errors
/// No connection, nothing in time, or frames that break RFC 9113.
pub fn exchange(address: &Address, message: &Message) -> io::Result<Option<Response>> {
    let mut client = Call::open(address, Deadline::after(PATIENCE))?;
    match client.run(message) {
        // A peer that has had enough closes; what it said before counts.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            client.read_to_end()?;
        }
        result => result?,
    }
    Ok(client.into_response())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The response is whole.
    Whole,
    /// The peer gave up the stream or the connection.
    Reset,
}

/// A request and its response under way.
#[derive(Debug)]
pub struct Call {
    connection: Connection,
    initial_window: i64,
    stream_window: i64,
    connection_window: i64,
    /// The header block under way.
    block: Vec<u8>,
    block_ends_stream: bool,
    response: Option<Response>,
    trailers: Vec<(String, Vec<u8>)>,
    /// Whether the response had no more than its headers.
    headers_end_stream: bool,
    end: Option<End>,
}

impl Call {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not in time.
    pub fn open(address: &Address, deadline: Deadline) -> io::Result<Self> {
        let mut call = Self {
            connection: Connection::open(address, deadline)?,
            initial_window: 65_535,
            stream_window: 65_535,
            connection_window: 65_535,
            block: Vec::new(),
            block_ends_stream: false,
            response: None,
            trailers: Vec::new(),
            headers_end_stream: false,
            end: None,
        };
        call.greet()?;
        Ok(call)
    }

    /// Sends the headers of a message and nothing of its body.
    ///
    /// # Errors
    /// The connection is gone, or the deadline has passed; so for all that follow.
    pub fn begin(&mut self, message: &Message, end_stream: bool) -> io::Result<()> {
        let mut fields = Vec::new();
        let pseudo = [
            (":method", &message.method),
            (":path", &message.path),
            (":authority", &message.host),
        ];
        for (name, value) in pseudo {
            if let Some(value) = value {
                fields.push((name.as_bytes().to_vec(), value.clone()));
            }
        }
        // CONNECT alone has neither path nor scheme (RFC 9113, 8.5).
        if message.path.is_some() && !message.has(":scheme") {
            fields.push((b":scheme".to_vec(), b"http".to_vec()));
        }
        let (more, ordinary): (Vec<Field>, Vec<Field>) = message
            .headers
            .iter()
            .cloned()
            .partition(|(name, _)| name.starts_with(b":"));
        fields.extend(more);
        fields.extend(ordinary);
        self.send_fields(&fields, end_stream)
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), or the peer broke RFC 9113.
    pub fn send_body(&mut self, data: &[u8], end_stream: bool) -> io::Result<()> {
        self.send_data(data, end_stream)
    }

    /// Sends trailers, which end the request.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn send_trailers(&mut self, trailers: &[Field]) -> io::Result<()> {
        self.send_fields(trailers, true)
    }

    /// Reads until there is so much of the response's body, or the stream has ended. With 0: until
    /// there are its headers.
    ///
    /// # Errors
    /// As [`send_body`](Self::send_body).
    pub fn read(&mut self, len: usize) -> io::Result<()> {
        while self.end.is_none() && self.response.as_ref().is_none_or(|r| r.body.len() < len) {
            self.receive()?;
        }
        Ok(())
    }

    /// Reads until the stream has ended.
    ///
    /// # Errors
    /// As [`send_body`](Self::send_body).
    pub fn read_to_end(&mut self) -> io::Result<()> {
        while self.end.is_none() {
            self.receive()?;
        }
        Ok(())
    }

    /// What has come of the response.
    pub fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// The trailers that have come.
    pub fn trailers(&self) -> &[(String, Vec<u8>)] {
        &self.trailers
    }

    /// Whether the response was one header block that ended the stream.
    pub fn is_trailers_only(&self) -> bool {
        self.headers_end_stream
    }

    /// Whether the stream has ended, as it should and not by a reset.
    pub fn is_whole(&self) -> bool {
        self.end == Some(End::Whole)
    }

    fn into_response(self) -> Option<Response> {
        let whole = self.is_whole();
        self.response.filter(|_| whole)
    }

    fn run(&mut self, message: &Message) -> io::Result<()> {
        self.begin(message, message.body.is_none())?;
        if let Some(body) = &message.body {
            let has_trailers = !message.trailers.is_empty();
            let mut pieces = body.iter().peekable();
            while let Some(piece) = pieces.next() {
                self.send_data(piece, pieces.peek().is_none() && !has_trailers)?;
            }
            if body.is_empty() && !has_trailers {
                self.send_data(&[], true)?;
            }
            if has_trailers && self.end.is_none() {
                self.send_fields(&message.trailers, true)?;
            }
        }
        self.read_to_end()
    }

    /// The preface, and windows so large that the peer never waits for us.
    fn greet(&mut self) -> io::Result<()> {
        let mut settings = Vec::new();
        for (id, value) in [(1_u16, 0_u32), (2, 0), (4, 0x7fff_ffff)] {
            settings.extend(id.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        self.connection.write_all(PREFACE)?;
        self.send(SETTINGS, 0, 0, &settings)?;
        self.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes())
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.connection.write_all(&frame)
    }

    fn send_fields(&mut self, fields: &[Field], end_stream: bool) -> io::Result<()> {
        let block = hpack::encode(fields);
        let mut kind = HEADERS;
        let mut flags = if end_stream { END_STREAM } else { 0 };
        let mut chunks = block.chunks(MAX_FRAME).peekable();
        while let Some(chunk) = chunks.next() {
            if chunks.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.send(kind, flags, STREAM, chunk)?;
            (kind, flags) = (CONTINUATION, 0);
        }
        Ok(())
    }

    fn send_data(&mut self, data: &[u8], end_stream: bool) -> io::Result<()> {
        if data.is_empty() {
            return self.send(DATA, if end_stream { END_STREAM } else { 0 }, STREAM, &[]);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let window = self.stream_window.min(self.connection_window).max(0) as usize;
            if window == 0 {
                self.receive()?;
                if self.end.is_some() {
                    return Ok(());
                }
                continue;
            }
            let (chunk, after) = rest.split_at(rest.len().min(window).min(MAX_FRAME));
            let last = end_stream && after.is_empty();
            self.send(DATA, if last { END_STREAM } else { 0 }, STREAM, chunk)?;
            self.stream_window -= chunk.len() as i64;
            self.connection_window -= chunk.len() as i64;
            rest = after;
        }
        Ok(())
    }

    /// Reads one frame and does what it asks.
    fn receive(&mut self) -> io::Result<()> {
        let mut head = [0; 9];
        match self.connection.read_exact(&mut head) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.end = Some(End::Reset);
                return Ok(());
            }
            result => result?,
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.connection.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes(stream);
        match kind {
            SETTINGS if flags & ACK == 0 => {
                self.apply(&payload);
                self.send(SETTINGS, ACK, 0, &[])?;
            }
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload)?,
            WINDOW_UPDATE => {
                let more: [u8; 4] = payload
                    .try_into()
                    .map_err(|_| broken("a short WINDOW_UPDATE"))?;
                let window = if stream == 0 {
                    &mut self.connection_window
                } else {
                    &mut self.stream_window
                };
                *window += i64::from(u32::from_be_bytes(more));
            }
            HEADERS | CONTINUATION => {
                if kind == HEADERS {
                    self.block_ends_stream = flags & END_STREAM != 0;
                    payload = unpadded(&payload, flags)?;
                    if flags & PRIORITY != 0 {
                        payload.drain(..5.min(payload.len()));
                    }
                }
                self.block.extend(payload);
                if flags & END_HEADERS != 0 {
                    self.fields()?;
                }
            }
            DATA => {
                let data = unpadded(&payload, flags)?;
                let response = self
                    .response
                    .as_mut()
                    .ok_or_else(|| broken("DATA before HEADERS"))?;
                response.body.extend(data);
                if flags & END_STREAM != 0 {
                    self.end = Some(End::Whole);
                }
            }
            RST_STREAM => self.end = Some(End::Reset),
            GOAWAY if payload.get(4..8).is_some_and(|code| code != [0; 4]) => {
                self.end = Some(End::Reset);
            }
            _ => {}
        }
        Ok(())
    }

    /// A whole header block: interim response, response, or trailers.
    fn fields(&mut self) -> io::Result<()> {
        let fields = hpack::decode(&std::mem::take(&mut self.block)).map_err(|e| broken(&e))?;
        if self.response.is_none() {
            let mut response = Response::default();
            for (name, value) in fields {
                let name = String::from_utf8_lossy(&name).into_owned();
                if name == ":status" {
                    let status = str::from_utf8(&value)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    response.status = status.ok_or_else(|| broken("a bad :status"))?;
                } else {
                    response.headers.push((name, value));
                }
            }
            if response.status >= 200 {
                self.response = Some(response);
                self.headers_end_stream = self.block_ends_stream;
            }
        } else {
            for (name, value) in fields {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.trailers.push((name, value));
            }
        }
        if self.block_ends_stream {
            self.end = Some(End::Whole);
        }
        Ok(())
    }

    fn apply(&mut self, settings: &[u8]) {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let (settings, _) = settings.as_chunks::<6>();
        for &[a, b, value @ ..] in settings {
            if u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE {
                let window = i64::from(u32::from_be_bytes(value));
                self.stream_window += window - self.initial_window;
                self.initial_window = window;
            }
        }
    }
}

fn unpadded(payload: &[u8], flags: u8) -> io::Result<Vec<u8>> {
    if flags & PADDED == 0 {
        return Ok(payload.to_vec());
    }
    let (pad, rest) = payload
        .split_first()
        .ok_or_else(|| broken("a padded frame without padding"))?;
    let end = rest.len().checked_sub(usize::from(*pad));
    end.map(|end| rest[..end].to_vec())
        .ok_or_else(|| broken("more padding than frame"))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent {what}"))
}
