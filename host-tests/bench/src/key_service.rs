//! A key service that can be told to fail: records by digest, and a file of them all.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use portcullis_corpus::wire::h1::{self, Incoming};
use portcullis_corpus::wire::stream::{Connection, Deadline};
use serde_json::json;
use sha2::{Digest, Sha256};
use xtask::failure::{Failure, Result};

/// A running service on a Unix socket. It ends with the process.
#[derive(Debug)]
pub(crate) struct KeyService {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By digest.
    records: BTreeMap<String, String>,
    /// A file of keys, and its entity tag.
    file: Option<(Vec<u8>, String)>,
    mood: Mood,
    /// Questions so far.
    calls: u64,
}

/// How a service answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    #[default]
    Good,
    /// Not at all.
    Away,
    /// As it should, but so much later.
    Slow(Duration),
    /// With what is no answer: another kind of it each time.
    Garbage,
    /// By turns as it should and not at all.
    Flapping,
}

/// Whoever asks and is not served by then has given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where records are: the digest comes behind it.
pub(crate) const RECORDS: &str = "/keys/";
/// Where the file is.
pub(crate) const FILE: &str = "/file";

impl KeyService {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When the socket can't be made.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("keys.sock");
        let listener =
            UnixListener::bind(&socket).map_err(|error| Failure::file(&socket, &error))?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Ok(Self { socket, state })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has it know a key from now on.
    pub(crate) fn add(&self, key: &str, record: String) {
        self.insert(digest(key), record);
    }

    /// As [`add`](Self::add), by whatever digest.
    pub(crate) fn insert(&self, digest: String, record: String) {
        self.lock().records.insert(digest, record);
    }

    /// Has it know the key with this digest no more.
    pub(crate) fn remove(&self, digest: &str) {
        self.lock().records.remove(digest);
    }

    /// Puts another file in the place of the one that there was.
    pub(crate) fn publish(&self, file: Vec<u8>) {
        let tag: String = Sha256::digest(&file)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.lock().file = Some((file, format!("\"{tag}\"")));
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Questions so far.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The digest of a key in hexadecimal digits.
pub(crate) fn digest(key: &str) -> String {
    let digest = Sha256::digest(key);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record of a key of a principal, as a service tells it.
pub(crate) fn record(key: &str, id: &str, principal: &str) -> String {
    let record =
        json!({ "id": id, "principal": principal, "tier": "basic", "sha256": digest(key) });
    record.to_string()
}

fn serve(stream: UnixStream, state: &Mutex<State>) {
    let mut connection = Connection::accepted(stream, Deadline::after(PATIENCE));
    let Ok(Some(request)) = h1::read_request(&mut connection) else {
        return;
    };
    let (answer, wait) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls = state.calls.saturating_add(1);
        state.answer(&request)
    };
    thread::sleep(wait);
    // Whoever has asked may have given up.
    let _ = connection.write_all(&answer);
}

impl State {
    /// The bytes of an answer, and how long it takes.
    fn answer(&self, request: &Incoming) -> (Vec<u8>, Duration) {
        let none = (Vec::new(), Duration::ZERO);
        match self.mood {
            Mood::Good => (self.truth(request), Duration::ZERO),
            Mood::Away => none,
            Mood::Slow(wait) => (self.truth(request), wait),
            Mood::Garbage => (self.garbage(request), Duration::ZERO),
            Mood::Flapping if self.calls.is_multiple_of(2) => none,
            Mood::Flapping => (self.truth(request), Duration::ZERO),
        }
    }

    fn truth(&self, request: &Incoming) -> Vec<u8> {
        let target = String::from_utf8_lossy(&request.target);
        match target.strip_prefix(RECORDS) {
            Some(digest) => match self.records.get(digest) {
                Some(record) => response("200 OK", "", record.as_bytes()),
                None => response("404 Not Found", "", b""),
            },
            None => self.page(request),
        }
    }

    /// A page of the file (RFC 9110, sections 13.1.2 and 14).
    fn page(&self, request: &Incoming) -> Vec<u8> {
        let Some((file, tag)) = &self.file else {
            return response("404 Not Found", "", b"");
        };
        let field = |name: &str| {
            let found = request.headers.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let tagged = format!("etag: {tag}\r\n");
        if field("if-none-match").as_ref() == Some(tag) {
            return response("304 Not Modified", &tagged, b"");
        }
        let range = field("range").unwrap_or_default();
        let range = range.strip_prefix("bytes=").and_then(|range| {
            let (from, to) = range.split_once('-')?;
            let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
            Some((from, to.min(file.len().saturating_sub(1))))
        });
        let Some((from, to)) = range else {
            return response("200 OK", &tagged, file);
        };
        let page = file.get(from..=to).unwrap_or_default();
        let whole = format!(
            "{tagged}content-range: bytes {from}-{to}/{}\r\n",
            file.len()
        );
        response("206 Partial Content", &whole, page)
    }

    /// Anything but an answer.
    fn garbage(&self, request: &Incoming) -> Vec<u8> {
        let target = String::from_utf8_lossy(&request.target);
        let digest = target.strip_prefix(RECORDS).unwrap_or_default();
        let known = self.records.get(digest);
        let good = known.map_or("{}", String::as_str).as_bytes();
        match self.calls.checked_rem(10).unwrap_or_default() {
            0 => {
                let half = good.len().checked_div(2).unwrap_or_default();
                response("200 OK", "", good.get(..half).unwrap_or_default())
            }
            1 => {
                // Never the same digest: the least bit of a digit is another digit, or none.
                let at = String::from_utf8_lossy(good).find(digest);
                let mut flipped = good.to_vec();
                if let Some(byte) = at.and_then(|at| flipped.get_mut(at)) {
                    *byte ^= 1;
                }
                response("200 OK", "", &flipped)
            }
            2 => response(
                "200 OK",
                "",
                record("another", "k_other", "other").as_bytes(),
            ),
            3 => response("500 Internal Server Error", "", b"oops"),
            4 => response("302 Found", "location: /login\r\n", b""),
            5 => response("401 Unauthorized", "", b""),
            6 => response("200 OK", "", &vec![b'x'; 100_000]),
            7 => response("200 OK", "", b""),
            8 => b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_vec(),
            _ => b"\x16\x03\x01 this is no HTTP".to_vec(),
        }
    }
}

/// One answer a connection.
fn response(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let length = match status {
        "304 Not Modified" => String::new(),
        _ => format!("content-length: {length}\r\n"),
    };
    let head = format!("HTTP/1.1 {status}\r\n{fields}{length}connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}
