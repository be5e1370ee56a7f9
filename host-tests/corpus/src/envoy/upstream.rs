//! The upstream of the ring: it records each request to the byte and answers as the case says.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::case::{Answer, Outage, Service};
use crate::octets::printable;
use crate::ring::Seen;
use crate::wire::h1::{self, Incoming};
use crate::wire::stream::{Connection, Deadline, PATIENCE};

/// A server on a Unix socket. It ends with the process.
#[derive(Debug)]
pub struct Upstream {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    answer: Answer,
    /// In the place of `answer`, where it is one of the gate's own services.
    service: Option<Service>,
    /// Requests since that was said.
    asked: usize,
    requests: Vec<Incoming>,
    /// What came of bodies that were cut off, whenever it came.
    leaks: Vec<String>,
}

/// The header by which a request is known to belong to a decision.
const DECISION: &str = "x-portcullis-decision";

impl Upstream {
    /// Starts to listen.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn start(socket: &Path) -> Result<Self, String> {
        let failed = |e: io::Error| format!("the upstream did not start: {e}");
        let listener = UnixListener::bind(socket).map_err(failed)?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    // A tunnel or a held body must not keep the next request waiting.
                    thread::spawn(move || {
                        let deadline = Deadline::after(PATIENCE);
                        serve(&mut Connection::accepted(stream, deadline), &shared);
                    });
                }
            });
        thread.map_err(failed)?;
        Ok(Self {
            socket: socket.to_owned(),
            state,
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sets the answer to the next request, and forgets what came before.
    pub fn expect(&self, answer: Answer) {
        let mut state = self.lock();
        state.answer = answer;
        state.requests.clear();
    }

    /// Has a service answer this from now on, and forgets what came before.
    pub fn play(&self, service: Option<&Service>) {
        let mut state = self.lock();
        state.service = Some(match service {
            None => Service::Fails(Outage::Unreachable),
            Some(service) => service.clone(),
        });
        state.asked = 0;
        state.requests.clear();
    }

    /// What a service was asked since [`play`](Self::play).
    pub fn asked(&self) -> Vec<Seen> {
        let requests = std::mem::take(&mut self.lock().requests);
        requests.into_iter().map(Incoming::into_seen).collect()
    }

    /// The request that came of this decision; `None`: none did. `may_begin`: the headers of a
    /// request may have gone ahead of a body that was refused.
    ///
    /// # Errors
    /// More than one came, or one that was cut off.
    pub fn seen(&self, decision: Option<&str>, may_begin: bool) -> Result<Option<Seen>, String> {
        let mut requests = std::mem::take(&mut self.lock().requests);
        // A request that the step before began and Envoy gave up may come to its end late; it
        // carries that step's decision. One without any is nobody's: it counts.
        requests.retain(|request| {
            let theirs = request.headers.iter().find(|(name, _)| name == DECISION);
            theirs.is_none_or(|(_, id)| decision.is_some_and(|ours| id == ours.as_bytes()))
        });
        let (whole, begun): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.is_whole);
        if !begun.is_empty() && !may_begin {
            return Err("the upstream got a request that was cut off".to_owned());
        }
        if whole.len() > 1 {
            return Err(format!(
                "the upstream saw {} requests instead of one",
                whole.len()
            ));
        }
        Ok(whole.into_iter().next().map(Incoming::into_seen))
    }

    /// Not one byte of a body that was held ever came, and then not the rest.
    ///
    /// # Errors
    /// What did come.
    pub fn check_leaks(&self) -> Result<(), String> {
        let state = self.lock();
        if state.leaks.is_empty() {
            Ok(())
        } else {
            Err(state.leaks.join("\n"))
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Incoming {
    fn into_seen(self) -> Seen {
        Seen {
            method: self.method,
            path: self.target,
            headers: self.headers,
            body: self.body,
            trailers: self.trailers,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(connection: &mut Connection, state: &Mutex<State>) {
    // A connection without a request is one that Envoy opened and didn't need.
    let Ok(Some(request)) = h1::read_request(connection) else {
        return;
    };
    let (mut answer, outage) = {
        let mut state = lock(state);
        let service = state.service.as_ref();
        let (answer, outage) = match service.and_then(|service| service.nth(state.asked)) {
            None | Some(Service::InTurn(_)) => (state.answer.clone(), None),
            Some(Service::Answers(answer)) => (answer.clone(), None),
            Some(Service::Fails(outage)) => (Answer::default(), Some(*outage)),
        };
        let answer = render(&answer, &request.method);
        state.asked = state.asked.saturating_add(1);
        if !request.is_whole && !request.body.is_empty() {
            let (path, len) = (printable(&request.target), request.body.len());
            state.leaks.push(format!(
                "the upstream got {len} bytes of a body that was cut off: {path}"
            ));
        }
        state.requests.push(request);
        (answer, outage)
    };
    match outage {
        None => {}
        Some(Outage::Unreachable) => return,
        Some(Outage::Broken) => {
            answer.pop();
        }
        Some(Outage::Silent) => {
            // Until Envoy has had enough.
            let _ = connection.read(&mut [0]);
            return;
        }
    }
    // Envoy may have given up meanwhile; then nobody misses the answer.
    let _ = connection.write_all(&answer);
}

/// One answer a connection, so that no request meets a connection that is about to close.
fn render(answer: &Answer, method: &[u8]) -> Vec<u8> {
    let switches = answer.status == 101;
    let mut out = format!("HTTP/1.1 {} Answer\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        out.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    if !switches {
        out.extend(b"connection: close\r\n");
    }
    let body = answer.body.as_bytes();
    if switches || matches!(answer.status, 204 | 304) {
        out.extend(b"\r\n");
    } else {
        out.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        if method != b"HEAD" {
            out.extend(body);
        }
    }
    out
}
