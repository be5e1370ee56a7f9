//! One side of an HTTP/1.1 connection, read and written piece by piece: a client, or the upstream.

use std::io::{self, Read, Write};

use portcullis_corpus::wire::stream::{Address, Connection, Deadline};

use crate::stage::PATIENCE;

/// A connection, and what of it was read too far.
#[derive(Debug)]
pub(crate) struct Peer {
    connection: Connection,
    ahead: Vec<u8>,
}

/// The first line of a message and its header fields, names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The value of a field; empty: there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let field = self.fields.iter().find(|(n, _)| n == name);
        field.map_or("", |(_, value)| value)
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1);
        status.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Peer {
    /// A client's connection.
    pub(crate) fn open(address: &Address) -> Self {
        let connection = Connection::open(address, Deadline::after(PATIENCE))
            .unwrap_or_else(|e| panic!("{address:?}: {e}"));
        Self::new(connection)
    }

    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            ahead: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).unwrap();
    }

    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.write_all(bytes.as_ref())
    }

    /// One chunk of a chunked body; an empty one ends it, without trailers.
    pub(crate) fn write_chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let length = format!("{:x}\r\n", bytes.len());
        self.write([length.as_bytes(), bytes, b"\r\n"].concat());
    }

    /// Reads up to an empty line.
    pub(crate) fn head(&mut self) -> Head {
        let mut lines = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|e| panic!("no head: {e}"));
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let line = lines.next().unwrap_or_default();
        Head {
            line,
            fields: lines.map(|line| field(&line)).collect(),
        }
    }

    /// The next `len` bytes as they are.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        self.try_take(len).unwrap()
    }

    /// The next `len` bytes of a chunked body, however it is cut.
    pub(crate) fn take_chunks(&mut self, len: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < len {
            body.extend(self.next_chunk());
        }
        assert_eq!(body.len(), len, "more came than was sent");
        body
    }

    /// The next chunk of a chunked body, which is not the last.
    pub(crate) fn next_chunk(&mut self) -> Vec<u8> {
        let size = self.chunk_size().unwrap();
        assert!(size > 0, "the body has ended");
        let chunk = self.take(size);
        assert_eq!(self.line().unwrap(), "");
        chunk
    }

    /// The end of a chunked body, and its trailers.
    pub(crate) fn end_chunks(&mut self) -> Vec<(String, String)> {
        assert_eq!(self.chunk_size().unwrap(), 0, "the body goes on");
        self.head_fields()
    }

    /// Reads until the other side closes or resets the connection: says what came till then.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.ahead);
        let mut buffer = [0; 4096];
        loop {
            match self.connection.read(&mut buffer) {
                Ok(0) => return bytes,
                Ok(n) => bytes.extend(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return bytes,
                Err(e) => panic!("the connection stays open: {e}"),
            }
        }
    }

    fn head_fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().unwrap();
            if line.is_empty() {
                return fields;
            }
            fields.push(field(&line));
        }
    }

    fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.line()?;
        usize::from_str_radix(&line, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("a chunk `{line}`")))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.try_take(1)?[0] {
                b'\n' => break,
                b'\r' => {}
                byte => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn try_take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 << 10];
        while self.ahead.len() < len {
            match self.connection.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.ahead.extend(&buffer[..n]),
            }
        }
        Ok(self.ahead.drain(..len).collect())
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}
