//! A connection of our own, for requests that are looked at one by one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An HTTP/1.1 connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// No answer here takes long: what takes this long does not come.
const LIMIT: Duration = Duration::from_secs(20);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks with a key, and reads the answer.
    ///
    /// # Errors
    ///
    /// Those of the socket, and an answer that is none of HTTP/1.1 with a length.
    pub(crate) fn get(&mut self, host: &str, path: &str, key: &str) -> io::Result<Answer> {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\r\n");
        self.exchange(request.as_bytes())
    }

    /// Sends JSON with a key, and reads the answer.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) fn post(
        &mut self,
        host: &str,
        path: &str,
        key: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.exchange(request.as_bytes())
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.get_mut().write_all(request)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP answer");
        let status = self.line()?;
        let status = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or_else(malformed)?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer {
            status: status.ok_or_else(malformed)?,
            headers,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let length: u64 = length.ok_or_else(malformed)?;
        self.stream
            .by_ref()
            .take(length)
            .read_to_end(&mut answer.body)?;
        Ok(answer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn reads_one_answer_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut bytes = [0; 512];
            for (status, body) in [("200 OK", "ok\n"), ("429 Too Many Requests", "")] {
                let read = peer.read(&mut bytes).unwrap();
                assert!(String::from_utf8_lossy(&bytes[..read]).contains("Bearer secret\r\n"));
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
                peer.write_all(head.as_bytes()).unwrap();
            }
        });
        let mut connection = Connection::open(address).unwrap();
        let answer = connection.get("h", "/", "secret").unwrap();
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, Some("3"))
        );
        assert_eq!(connection.get("h", "/", "secret").unwrap().status, 429);
        server.join().unwrap();
        assert!(connection.get("h", "/", "secret").is_err());
    }
}
