//! Just enough of an HTTP/1.1 client to ask Envoy something.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Without its transfer coding; bytes that are not UTF-8 are replaced.
    pub body: String,
}

impl Answer {
    /// The value of the first header called `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

/// GETs `path`.
///
/// # Errors
///
/// Those of [`ask`].
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    ask(address, request.as_bytes(), Duration::from_secs(5))
}

/// Sends `request` as it is and reads one answer, which is to come within `limit`.
///
/// # Errors
///
/// Those of the connection, a time-out among them, and when what comes is no HTTP/1.1.
pub fn ask(address: SocketAddr, request: &[u8], limit: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // A server may answer and close before it has read everything: the answer counts.
    let sent = stream.write_all(request);
    let answer = read(&mut BufReader::new(&stream).take(16 << 20));
    match (answer, sent) {
        (Err(_), Err(sent)) => Err(sent),
        (answer, _) => answer,
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Answer> {
    let status = line(reader)?
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| malformed("a status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: String::new(),
    };
    let mut body = Vec::new();
    if answer
        .header("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let size =
                u64::from_str_radix(&line(reader)?, 16).map_err(|_| malformed("a chunk's size"))?;
            exactly(reader, size, &mut body)?;
            line(reader)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = answer.header("content-length") {
        exactly(
            reader,
            length.parse().map_err(|_| malformed("a content-length"))?,
            &mut body,
        )?;
    } else if !matches!(status, 100..=199 | 204 | 304) {
        reader.read_to_end(&mut body)?;
    }
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Ok(answer)
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.strip_suffix("\r\n")
        .map(str::to_owned)
        .ok_or_else(|| malformed("a whole line"))
}

fn exactly(reader: &mut impl BufRead, size: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.by_ref().take(size).read_to_end(body)?;
    if u64::try_from(read).is_ok_and(|read| read == size) {
        Ok(())
    } else {
        Err(malformed("a whole body"))
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the answer lacks {what} of HTTP/1.1"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer() {
        let upstream = portcullis_upstream::Upstream::start(([127, 0, 0, 1], 0).into()).unwrap();
        let answer = get(upstream.address(), "/ready?a").unwrap();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("application/json"))
        );
        assert!(answer.body.contains(r#""path":"/ready?a""#));
    }

    #[test]
    fn undoes_chunks() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nLIVE\r\n1\r\n\n\r\n0\r\n\r\n";
        assert_eq!(read(&mut text.as_bytes()).unwrap().body, "LIVE\n");
    }

    #[test]
    fn what_is_cut_or_none_of_http_is_an_error() {
        for text in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nLIVE",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nLIVE\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(read(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
