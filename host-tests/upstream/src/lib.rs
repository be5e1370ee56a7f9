//! A tiny threaded HTTP/1.1 upstream for demos and tests: it answers every request with what it saw.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! let upstream = portcullis_upstream::Upstream::start(([127, 0, 0, 1], 0).into())?;
//! let mut client = std::net::TcpStream::connect(upstream.address())?;
//! client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.contains(r#""method":"GET","path":"/a""#));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The answer
//!
//! `200`, `application/json`:
//!
//! ```json
//! {"upstream":"portcullis-demo","method":"POST","path":"/a?b=c",
//!  "headers":[["host","x"],["content-length","2"]],"body":"hi","trailers":[]}
//! ```
//!
//! Header names are lower-cased, their order is kept, and `path` is the request target as it came. JSON
//! strings hold bytes, not text: each byte is the character of that number (Latin-1), and whatever is
//! not printable ASCII is written `\u00XX`. So nothing is lost: taking every character's number gives
//! the bytes back, UTF-8 or not.
//!
//! # What a request can ask for
//!
//! | request header | effect |
//! |---|---|
//! | `x-upstream-reply: 503` | this status (200 to 599) instead of 200 |
//! | `x-upstream-reply: reset` | the connection is closed without an answer |
//! | `x-upstream-header: name=value` | a response header (may be repeated) |
//! | `x-upstream-delay: 250` | so many milliseconds (at most 60,000) before the answer |
//! | `connection: upgrade`, `upgrade: echo` or `websocket` | `101`, then every byte comes back as it is; no WebSocket handshake is computed |
//!
//! # Bounds
//!
//! A head is at most 64 KiB and 256 lines, a body 8 MiB, trailers 16 KiB; 1,024 connections at once,
//! each closed after 60 s of silence. What breaks a bound or the grammar (RFC 9112) is answered with
//! one of 400, 413, 431, 501, 505 and a closed connection. It never panics on what a client sends.

mod json;
mod reply;
mod request;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::reply::{Answer, Reply};
use crate::request::{Head, Refusal};

/// A running upstream. It stops when dropped: the listener and every open connection are closed.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on `address` (port 0 takes any free one) and serves in threads of its own.
    ///
    /// # Errors
    ///
    /// Those of binding the socket, say that the port is taken.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let acceptor = thread::Builder::new().name("upstream".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens; the port is a real one even if it was started with 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came in whole since the start, refused ones not counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for connection in self.shared.connections().values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // `accept` has no time limit: a connection of our own makes it look at the flag.
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            match wake {
                SocketAddr::V4(_) => wake.set_ip(Ipv4Addr::LOCALHOST.into()),
                SocketAddr::V6(_) => wake.set_ip(Ipv6Addr::LOCALHOST.into()),
            }
        }
        let woken = TcpStream::connect_timeout(&wake, Duration::from_secs(1)).is_ok();
        if let (true, Some(acceptor)) = (woken, self.acceptor.take()) {
            let _ = acceptor.join();
        }
    }
}

const MAX_CONNECTIONS: usize = 1024;
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    requests: AtomicU64,
    serial: AtomicU64,
    /// A second handle on every open connection, so that `drop` can close it.
    connections: Mutex<HashMap<u64, TcpStream>>,
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// Takes a connection off the list when its thread ends, however it ends.
struct Listed<'a> {
    shared: &'a Shared,
    serial: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.serial);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping() {
            return;
        }
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: trying again at once would only burn a core.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let Ok(handle) = stream.try_clone() else {
            continue;
        };
        let serial = shared.serial.fetch_add(1, Ordering::SeqCst);
        {
            let mut connections = shared.connections();
            if connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            connections.insert(serial, handle);
        }
        let spawned = thread::Builder::new()
            .name("upstream-connection".to_owned())
            .spawn({
                let shared = Arc::clone(shared);
                move || {
                    let _listed = Listed {
                        shared: &shared,
                        serial,
                    };
                    // A connection that fails concerns its client only, and the client has seen it.
                    let _ = serve(&stream, &shared);
                }
            });
        if spawned.is_err() {
            shared.connections().remove(&serial);
        }
    }
}

/// Serves one connection until it ends.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while !shared.stopping() {
        let request = match read_request(&mut reader, &mut writer)? {
            Ok(request) => request,
            Err(Refusal::End) => return Ok(()),
            Err(Refusal::Answer(status, why)) => {
                writer.write_all(&reply::refusal(status, why))?;
                return linger(stream, &mut reader);
            }
        };
        shared.requests.fetch_add(1, Ordering::SeqCst);
        match reply::answer(&request) {
            Answer::Reset => return stream.shutdown(Shutdown::Both),
            Answer::Echo(head) => {
                writer.write_all(&head)?;
                return echo(&mut reader, &mut writer);
            }
            Answer::Reply(Reply {
                after,
                bytes,
                close,
            }) => {
                wait(after, shared);
                writer.write_all(&bytes)?;
                if close {
                    return linger(stream, &mut reader);
                }
            }
        }
    }
    Ok(())
}

fn read_request(
    reader: &mut impl BufRead,
    writer: &mut impl Write,
) -> io::Result<Result<request::Request, Refusal>> {
    let head = match Head::read(reader)? {
        Ok(head) => head,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if head.expects_continue() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    head.read_body(reader)
}

/// Sleeps in slices, so that stopping does not wait for a slow answer.
fn wait(mut left: Duration, shared: &Shared) {
    while !left.is_zero() && !shared.stopping() {
        let slice = left.min(Duration::from_millis(20));
        thread::sleep(slice);
        left = left.saturating_sub(slice);
    }
}

fn echo(reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = reader.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => writer.write_all(bytes)?,
            _ => return Ok(()),
        }
    }
}

/// Closes our half and reads what is still on its way: closing with unread bytes would reset the
/// connection, and the client might lose the answer.
fn linger(stream: &TcpStream, reader: &mut impl Read) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    io::copy(&mut reader.take(16 << 20), &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Upstream {
        Upstream::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
    }

    /// Sends `bytes`, closes the sending half, and returns all that came back.
    fn send(upstream: &Upstream, bytes: &[u8]) -> String {
        let mut client = TcpStream::connect(upstream.address()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn keeps_the_connection_and_the_order_of_requests() {
        let upstream = start();
        let answer = send(
            &upstream,
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi",
        );
        let first = answer.find(r#""method":"GET","path":"/1","headers":[["host","x"]],"body":"""#);
        let second = answer
            .find(r#""path":"/2","headers":[["host","x"],["content-length","2"]],"body":"hi""#);
        assert!(first.is_some() && first < second, "{answer}");
        assert_eq!(upstream.requests(), 2);
    }

    #[test]
    fn answers_100_continue_before_the_body() {
        let upstream = start();
        let answer = send(
            &upstream,
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nz",
        );
        assert!(
            answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn resets_when_asked() {
        let upstream = start();
        assert_eq!(
            send(
                &upstream,
                b"GET / HTTP/1.1\r\nhost: x\r\nx-upstream-reply: reset\r\n\r\n"
            ),
            ""
        );
    }

    #[test]
    fn echoes_an_upgraded_connection() {
        let upstream = start();
        let answer = send(
            &upstream,
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n\r\n\x00frames",
        );
        assert_eq!(
            answer,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n\0frames"
        );
    }

    #[test]
    fn refuses_garbage_and_serves_on() {
        let upstream = start();
        assert!(send(&upstream, b"\x16\x03\x01 tls?\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(send(&upstream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert_eq!(upstream.requests(), 1);
    }

    #[test]
    fn a_dropped_upstream_listens_no_more_and_closes_what_was_open() {
        let upstream = start();
        let address = upstream.address();
        let mut open = TcpStream::connect(address).unwrap();
        open.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut start_of_answer = [0; 12];
        open.read_exact(&mut start_of_answer).unwrap();
        drop(upstream);
        open.read_to_end(&mut Vec::new()).unwrap();
        assert!(TcpStream::connect(address).is_err());
    }
}
