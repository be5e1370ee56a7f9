//! A connection with a deadline for all of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where a client connects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// TLS over TCP.
    Tls {
        /// Where the server listens.
        address: SocketAddr,
        /// The name that it is asked for, and that its certificate must have.
        name: String,
        /// The protocol to agree on (ALPN).
        protocol: &'static str,
        /// The certificate of the authority that vouches for it, as a PEM file.
        authority: PathBuf,
    },
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
    Tls(Tls),
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
            Address::Tls {
                address,
                name,
                protocol,
                authority,
            } => Socket::Tls(Tls::open(*address, name, protocol, authority)?),
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        Ok(Self { socket, deadline })
    }

    /// A connection that was accepted.
    pub fn accepted(stream: UnixStream, deadline: Deadline) -> Self {
        Self {
            socket: Socket::Unix(stream),
            deadline,
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
            Socket::Unix(stream) | Socket::Tls(Tls { stream, .. }) => stream
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
            Socket::Unix(stream) | Socket::Tls(Tls { stream, .. }) => stream
                .set_write_timeout(left)
                .and_then(|()| stream.write(bytes)),
        };
        result.map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection whose bytes `openssl s_client` encrypts: a TLS stack of our own would be the largest
/// thing here.
#[derive(Debug)]
struct Tls {
    client: Child,
    stream: UnixStream,
}

impl Tls {
    fn open(address: SocketAddr, name: &str, protocol: &str, authority: &Path) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let client = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_quiet",
                "-verify_return_error",
            ])
            .args(["-connect", &address.to_string(), "-alpn", protocol])
            .args(["-servername", name, "-verify_hostname", name])
            .arg("-CAfile")
            .arg(authority)
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { client, stream })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
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
