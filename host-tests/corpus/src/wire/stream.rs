//! A connection with a deadline for all of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a client connects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How long an exchange may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A point in time by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline that is so far away.
    pub fn after(patience: Duration) -> Self {
        Self(now() + patience)
    }

    /// What is left.
    ///
    /// # Errors
    /// `TimedOut` when nothing is.
    pub fn left(self) -> io::Result<Duration> {
        match self.0.checked_duration_since(now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the deadline has passed",
            )),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "sockets and processes live in real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// A connection; every read and write ends by its deadline.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    deadline: Deadline,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not in time.
    pub fn open(address: &Address, deadline: Deadline) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, deadline.left()?)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        Ok(Self { socket, deadline })
    }

    /// A connection that was accepted.
    pub fn accepted(stream: UnixStream) -> Self {
        Self {
            socket: Socket::Unix(stream),
            deadline: Deadline::after(PATIENCE),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.deadline.left()?);
        let result = match &mut self.socket {
            Socket::Tcp(stream) => stream
                .set_read_timeout(left)
                .and_then(|()| stream.read(buffer)),
            Socket::Unix(stream) => stream
                .set_read_timeout(left)
                .and_then(|()| stream.read(buffer)),
        };
        result.map_err(timed_out)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Some(self.deadline.left()?);
        let result = match &mut self.socket {
            Socket::Tcp(stream) => stream
                .set_write_timeout(left)
                .and_then(|()| stream.write(bytes)),
            Socket::Unix(stream) => stream
                .set_write_timeout(left)
                .and_then(|()| stream.write(bytes)),
        };
        result.map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket's timeout is reported as `WouldBlock` on Unix.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "no answer before the deadline")
        }
        _ => error,
    }
}
