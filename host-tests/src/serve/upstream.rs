//! The upstream: where it is, connections to it, and bodies that are sent piece by piece.

use std::{
    cell::RefCell,
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    Request, Response, Uri,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc};

use super::ServeError;

/// Address of an upstream that speaks HTTP/1.1 in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    host: String,
    port: u16,
}

impl UpstreamUrl {
    /// Reads `http://HOST:PORT`; the port may be left out.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(url: &str) -> Result<Self, ServeError> {
        let refused = || ServeError::Upstream(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let plain = uri.scheme_str() == Some("http");
        let bare = matches!(
            uri.path_and_query().map(|path| path.as_str()),
            None | Some("/")
        );
        let authority = uri
            .authority()
            .filter(|authority| plain && bare && !authority.as_str().contains('@'));
        let host = authority.ok_or_else(refused)?.host();
        // An IPv6 address is written in brackets, and connected to without.
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
        })
    }
}

impl From<std::net::SocketAddr> for UpstreamUrl {
    fn from(address: std::net::SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

/// Connections that wait for the next request, of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    url: UpstreamUrl,
    idle: RefCell<Vec<SendRequest<PieceBody>>>,
}

/// Idle connections that are kept.
const MOST_IDLE: usize = 32;

/// A connection that is in use, to be given back when the response is complete.
pub(super) struct Connection(SendRequest<PieceBody>);

impl Pool {
    pub(super) const fn new(url: UpstreamUrl) -> Self {
        Self {
            url,
            idle: RefCell::new(Vec::new()),
        }
    }

    /// Sends a request, on an idle connection if there is one that still works.
    pub(super) async fn send(
        &self,
        mut request: Request<PieceBody>,
    ) -> io::Result<(Response<Incoming>, Connection)> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let (mut connection, fresh) = match idle {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            if connection.ready().await.is_err() {
                if fresh {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, Connection(connection))),
                // An idle connection that the upstream had closed took nothing.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(io::Error::other(error.into_error())),
                },
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_IDLE && !connection.0.is_closed() {
            idle.push(connection.0);
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<PieceBody>> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

/// A piece of a body on its way, or the news that the rest will not come.
pub(super) type Piece = Result<Frame<Bytes>, Broken>;

/// The sender gave up in the middle.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was reset")
    }
}

impl std::error::Error for Broken {}

/// A body whose pieces come through a channel; it ends when the sender is dropped.
#[derive(Debug)]
pub(super) struct PieceBody {
    pieces: Option<mpsc::Receiver<Piece>>,
}

/// Pieces that may wait in a channel before the sender has to.
const IN_FLIGHT: usize = 4;

impl PieceBody {
    pub(super) const fn empty() -> Self {
        Self { pieces: None }
    }

    pub(super) fn channel() -> (mpsc::Sender<Piece>, Self) {
        let (sender, pieces) = mpsc::channel(IN_FLIGHT);
        (
            sender,
            Self {
                pieces: Some(pieces),
            },
        )
    }
}

impl Body for PieceBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.pieces {
            Some(pieces) => pieces.poll_recv(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for (url, host, port) in [
            ("http://localhost:8080", "localhost", 8080),
            ("http://127.0.0.1:9/", "127.0.0.1", 9),
            ("http://[::1]:80", "::1", 80),
            ("http://api.example", "api.example", 80),
        ] {
            let parsed = UpstreamUrl::parse(url).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{url}");
            assert_eq!(UpstreamUrl::parse(&parsed.to_string()).unwrap(), parsed);
        }
        for url in [
            "https://x",
            "localhost:80",
            "http://u:p@x",
            "http://x/path",
            "http://",
            "",
        ] {
            let error = UpstreamUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{url}: {error}");
        }
    }
}
