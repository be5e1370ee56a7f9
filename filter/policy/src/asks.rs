//! Calls to other services that are under way, and the requests that wait for them.

use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::access::DomainAccess;
use crate::account::AccountKey;
use crate::engine::Waiting;
use crate::key::KeyDigest;
use crate::key::lookup::Lookup;
use crate::listing::Place;

/// What a worker has asked
///
/// Requests that ask the same share one call; it is the worker's, not the request's that asked
/// first, so who leaves takes it from nobody. Bounded: [`MAX_CALLS`], [`MAX_WAITING`] and
/// [`MAX_BYTES`], past which a request is not kept and is decided without an answer.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    calls: Vec<Call>,
    /// Requests whose question is answered, and that are not decided yet; the first comes last
    answered: Vec<(u32, Waiting)>,
    last: u32,
    waiting: usize,
    bytes: usize,
}

/// What a call is about
#[derive(Clone, Debug)]
pub(crate) enum Topic {
    /// Whether there is a key with this digest
    Key(Rc<Lookup>, KeyDigest),
    /// A page of a file that workers share, and its bytes at the most
    Page(AccountKey, usize),
    /// A page of the list of a principal's domains; by the principal's account
    Domains(Rc<DomainAccess>, AccountKey, Place),
}

#[derive(Debug)]
struct Call {
    id: u32,
    topic: Topic,
    /// The host's number for it
    token: Option<u32>,
    /// When it is given up, in monotonic nanoseconds
    deadline: u64,
    /// By the shell's number of the stream
    waiting: Vec<(u32, Waiting)>,
}

/// Calls of a worker at the same time
const MAX_CALLS: usize = 256;

/// Requests that wait at the same time
const MAX_WAITING: usize = 1024;

/// Bytes of requests that wait
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How much longer than the host we wait, in nanoseconds: it has the first word
const GRACE: u64 = 100_000_000;

/// What becomes of a request that asks
#[derive(Debug)]
pub(crate) enum Joined {
    /// A call has to be made
    Call(u32),
    /// One is under way
    Waits,
}

impl Asks {
    /// Whether a request can be kept; `topic` is under way already, or a call can be made
    pub(crate) fn admits(&self, topic: &Topic, bytes: usize) -> bool {
        self.waiting < MAX_WAITING
            && self.bytes.saturating_add(bytes) <= MAX_BYTES
            && (self.calls.len() < MAX_CALLS || self.is_asked(topic))
    }

    pub(crate) fn is_asked(&self, topic: &Topic) -> bool {
        self.calls.iter().any(|call| call.topic.is(topic))
    }

    /// Keeps a request that [`admits`](Self::admits) let in until its topic is answered
    pub(crate) fn join(&mut self, stream: u32, waiting: Waiting, timeout: u32, now: u64) -> Joined {
        self.waiting = self.waiting.saturating_add(1);
        self.bytes = self.bytes.saturating_add(waiting.bytes());
        let topic = waiting.topic();
        if let Some(call) = self.calls.iter_mut().find(|call| call.topic.is(&topic)) {
            call.waiting.push((stream, waiting));
            return Joined::Waits;
        }
        Joined::Call(self.begin(topic, [(stream, waiting)].into(), timeout, now))
    }

    /// A call for which no request waits; `None` when there are too many, or this one is under way
    pub(crate) fn open(&mut self, topic: Topic, timeout: u32, now: u64) -> Option<u32> {
        let may = self.calls.len() < MAX_CALLS && !self.is_asked(&topic);
        may.then(|| self.begin(topic, Vec::new(), timeout, now))
    }

    fn begin(&mut self, topic: Topic, waiting: Vec<(u32, Waiting)>, timeout: u32, now: u64) -> u32 {
        self.last = self.last.wrapping_add(1);
        let span = u64::from(timeout).saturating_mul(1_000_000);
        self.calls.push(Call {
            id: self.last,
            topic,
            token: None,
            deadline: now.saturating_add(span).saturating_add(GRACE),
            waiting,
        });
        self.last
    }

    /// Notes the host's number of a call
    pub(crate) fn dispatched(&mut self, id: u32, token: u32) {
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.token = Some(token);
        }
    }

    /// The call that the host knows by this number, and what it is about
    pub(crate) fn of_token(&self, token: u32) -> Option<(u32, &Topic)> {
        let mut calls = self.calls.iter();
        let call = calls.find(|call| call.token == Some(token))?;
        Some((call.id, &call.topic))
    }

    /// A call whose time is over
    pub(crate) fn overdue(&self, now: u64) -> Option<u32> {
        let mut calls = self.calls.iter();
        calls.find(|call| call.deadline <= now).map(|call| call.id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.answered.is_empty()
    }

    /// Ends a call; returns the requests that wait for it, for [`keep`](Self::keep)
    pub(crate) fn end(&mut self, id: u32) -> Option<(Topic, Vec<(u32, Waiting)>)> {
        let place = self.calls.iter().position(|call| call.id == id)?;
        let call = self.calls.swap_remove(place);
        Some((call.topic, call.waiting))
    }

    /// Keeps requests that an answer has come for until they are taken; they count as waiting
    pub(crate) fn keep(&mut self, mut answered: Vec<(u32, Waiting)>) {
        answered.reverse();
        answered.append(&mut self.answered);
        self.answered = answered;
    }

    pub(crate) fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// Takes the request out that an answer has come for first
    pub(crate) fn take(&mut self) -> Option<(u32, Waiting)> {
        let (stream, waiting) = self.answered.pop()?;
        self.forget(waiting.bytes());
        Some((stream, waiting))
    }

    /// Takes a request out whose client has left; its call goes on
    pub(crate) fn leave(&mut self, stream: u32) -> Option<Waiting> {
        let from = |waiting: &mut Vec<(u32, Waiting)>| {
            let place = waiting.iter().position(|(other, _)| *other == stream)?;
            Some(waiting.remove(place).1)
        };
        let mut calls = self.calls.iter_mut();
        let left = calls.find_map(|call| from(&mut call.waiting));
        let left = left.or_else(|| from(&mut self.answered))?;
        self.forget(left.bytes());
        Some(left)
    }

    fn forget(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Topic {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(lookup, digest), Self::Key(others, other)) => {
                Rc::ptr_eq(lookup, others) && digest == other
            }
            (Self::Page(file, _), Self::Page(other, _)) => file == other,
            (Self::Domains(access, account, place), Self::Domains(others, other, another)) => {
                Rc::ptr_eq(access, others) && account == other && place == another
            }
            _ => false,
        }
    }
}
