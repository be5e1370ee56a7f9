//! Calls that guests make to other services. Nothing goes over a network here: a world knows
//! clusters by name, and what they answer is scripted or given by hand.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    abi::Status,
    clock::nanoseconds,
    headers::{Headers, headers},
};

/// What a guest asked of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalloutRequest {
    /// `proxy_http_call`
    Http {
        /// Headers, pseudo headers among them.
        headers: Headers,
        /// The body.
        body: Vec<u8>,
        /// Trailers.
        trailers: Headers,
    },
    /// `proxy_grpc_call`
    Grpc {
        /// Name of the gRPC service.
        service: Vec<u8>,
        /// Name of its method.
        method: Vec<u8>,
        /// Initial metadata.
        metadata: Headers,
        /// The serialised message.
        message: Vec<u8>,
    },
    /// `proxy_grpc_stream`
    GrpcStream {
        /// Name of the gRPC service.
        service: Vec<u8>,
        /// Name of its method.
        method: Vec<u8>,
        /// Initial metadata.
        metadata: Headers,
        /// Messages sent so far.
        sent: Vec<Vec<u8>>,
        /// Whether the guest has ended its side.
        ended: bool,
    },
}

/// A callout under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Its number in this world.
    pub id: u64,
    /// The worker that made it.
    pub worker: u32,
    /// The root context that gets the answer.
    pub root_context: u32,
    /// The number that the guest knows it by.
    pub token: u32,
    /// The cluster that is asked.
    pub cluster: Vec<u8>,
    /// What is asked.
    pub request: CalloutRequest,
    /// How long the guest wants to wait; zero is for ever.
    pub timeout: Duration,
    /// Monotonic time at which it was made.
    pub made_at: u64,
    pub(crate) vm: u64,
    pub(crate) scripted: Option<(u64, CalloutReply)>,
}

/// What a cluster answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalloutReply {
    /// An HTTP response; `headers` hold `:status`.
    Http {
        /// Headers.
        headers: Headers,
        /// Body.
        body: Vec<u8>,
        /// Trailers.
        trailers: Headers,
    },
    /// The connection broke in the middle of the answer, or the answer was too large: the guest
    /// is called with no headers at all.
    Broken,
    /// A gRPC message, status 0.
    GrpcMessage(Vec<u8>),
    /// A gRPC call or stream ends with this code and text.
    GrpcClose {
        /// gRPC status code.
        code: u32,
        /// Its message.
        message: Vec<u8>,
    },
    /// No host of the cluster takes the connection.
    Unreachable,
    /// The time that the guest gave is over. This comes by itself when it is.
    TimedOut,
    /// Nothing comes back until [`crate::World::answer`] is called or the timeout is over.
    Silence,
    /// The call is refused at once with this status, as if the host had failed.
    Refused(Status),
}

impl CalloutReply {
    /// An HTTP response with a body.
    #[must_use]
    pub fn http(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        let headers = headers([(":status", status.to_string()), ("content-length", length)]);
        Self::Http {
            headers,
            body,
            trailers: Vec::new(),
        }
    }

    /// What a guest gets for this: Envoy answers in the cluster's stead where it can't be reached
    /// or is silent, in the way of the call's protocol.
    pub(crate) fn for_request(self, request: &CalloutRequest) -> Self {
        let (status, text) = match self {
            Self::TimedOut => (504, "upstream request timeout"),
            Self::Unreachable => (
                503,
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: remote connection failure",
            ),
            other => return other,
        };
        let body = text.as_bytes().to_vec();
        if !matches!(request, CalloutRequest::Http { .. }) {
            // Envoy reports both as UNAVAILABLE.
            return Self::GrpcClose {
                code: 14,
                message: body,
            };
        }
        let headers = headers([
            (":status", status.to_string()),
            ("content-length", text.len().to_string()),
            ("content-type", "text/plain".to_owned()),
        ]);
        Self::Http {
            headers,
            body,
            trailers: Vec::new(),
        }
    }
}

/// The answer that a root context can read while it is being told of it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    pub(crate) grpc: bool,
}

/// All clusters and callouts of a world.
#[derive(Debug, Default)]
pub(crate) struct Callouts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<Vec<u8>, Script>,
    pending: BTreeMap<u64, Callout>,
    /// Not yet asked for; no more than [`MAX_MADE`].
    made: Vec<Callout>,
    next: u64,
}

/// Calls that are remembered for [`crate::World::take_made`].
const MAX_MADE: usize = 1024;

/// What a cluster answers, one after the other; the last answer is repeated.
#[derive(Debug, Default)]
struct Script {
    replies: Vec<(CalloutReply, Duration)>,
    used: usize,
}

impl Callouts {
    /// Forgets what a cluster was to answer, and has it answer this to everything.
    pub(crate) fn replace(&self, cluster: &[u8], reply: CalloutReply, after: Duration) {
        let script = Script {
            replies: vec![(reply, after)],
            used: 0,
        };
        self.lock().clusters.insert(cluster.to_vec(), script);
    }

    /// The calls that clusters got since this was asked last, in order.
    pub(crate) fn take_made(&self) -> Vec<Callout> {
        mem::take(&mut self.lock().made)
    }

    pub(crate) fn script(&self, cluster: &[u8], reply: CalloutReply, after: Duration) {
        self.lock()
            .clusters
            .entry(cluster.to_vec())
            .or_default()
            .replies
            .push((reply, after));
    }

    /// Takes a call.
    ///
    /// # Errors
    /// `unknown` for a cluster that does not exist; what the script says, if it refuses.
    pub(crate) fn dispatch(&self, mut call: Callout, unknown: Status) -> Result<(), Status> {
        let mut state = self.lock();
        let script = state.clusters.get_mut(&call.cluster).ok_or(unknown)?;
        let last = script.replies.len().saturating_sub(1);
        let reply = script.replies.get(script.used.min(last)).cloned();
        script.used = script.used.saturating_add(1);
        match reply {
            Some((CalloutReply::Refused(status), _)) => return Err(status),
            Some((CalloutReply::Silence, _)) | None => {}
            Some((reply, after)) => {
                call.scripted = Some((call.made_at.saturating_add(nanoseconds(after)), reply));
            }
        }
        call.id = state.next;
        state.next = state.next.saturating_add(1);
        if state.made.len() < MAX_MADE {
            state.made.push(call.clone());
        }
        state.pending.insert(call.id, call);
        Ok(())
    }

    /// The time at which the next answer or timeout comes.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.lock()
            .pending
            .values()
            .filter_map(|call| Some(call.next_answer()?.0))
            .min()
    }

    /// Takes the answer that is due first, if one is due.
    pub(crate) fn take_due(&self, now: u64) -> Option<(Callout, CalloutReply)> {
        let mut state = self.lock();
        let due = |call: &Callout| call.next_answer().filter(|(at, _)| *at <= now);
        let (_, id, reply) = state
            .pending
            .values()
            .filter_map(|call| due(call).map(|(at, reply)| (at, call.id, reply)))
            .min_by_key(|(at, id, _)| (*at, *id))?;
        Some((state.pending.remove(&id)?, reply))
    }

    pub(crate) fn take(&self, id: u64) -> Option<Callout> {
        self.lock().pending.remove(&id)
    }

    pub(crate) fn put_back(&self, call: Callout) {
        self.lock().pending.insert(call.id, call);
    }

    pub(crate) fn pending(&self) -> Vec<Callout> {
        self.lock().pending.values().cloned().collect()
    }

    /// Does something with the pending call that a VM knows by this token.
    pub(crate) fn with<R>(
        &self,
        vm: u64,
        token: u32,
        act: impl FnOnce(&mut Callout) -> R,
    ) -> Option<R> {
        let mut state = self.lock();
        state
            .pending
            .values_mut()
            .find(|call| call.vm == vm && call.token == token)
            .map(act)
    }

    pub(crate) fn cancel(&self, vm: u64, token: u32) -> bool {
        let mut state = self.lock();
        let before = state.pending.len();
        state
            .pending
            .retain(|_, call| call.vm != vm || call.token != token);
        state.pending.len() != before
    }

    /// Forgets what a VM asked for; nobody is left to be told.
    pub(crate) fn cancel_all(&self, vm: u64) {
        self.lock().pending.retain(|_, call| call.vm != vm);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callout {
    /// What comes first, the scripted answer or the timeout.
    fn next_answer(&self) -> Option<(u64, CalloutReply)> {
        let timeout = (!self.timeout.is_zero()).then(|| {
            (
                self.made_at.saturating_add(nanoseconds(self.timeout)),
                CalloutReply::TimedOut,
            )
        });
        match (self.scripted.clone(), timeout) {
            (Some(scripted), Some(timeout)) if timeout.0 < scripted.0 => Some(timeout),
            (Some(scripted), _) => Some(scripted),
            (None, timeout) => timeout,
        }
    }
}
