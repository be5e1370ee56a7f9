//! One request and its response.

use std::rc::Rc;

use portcullis_policy::{
    AwaitBody, Body, Decision, EXPLANATION, Edit, Edits, Outcome, Pause, Policy, RateHeaders,
    Reason, Reply, Request, Step, is_reserved, parse_client,
};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::hostcall::{self, Buffer, HostError, Map};
use crate::shared_data::SharedData;
use crate::vm;
use crate::{queue, recorder};

/// A stream; its whole state is its phase
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the host calls it
    context: u32,
    root: u32,
    policy: Option<Rc<Policy>>,
    phase: Phase,
}

/// How far a stream has come
///
/// Every callback is legal in every phase: a host may end a stream whenever it likes, and a filter
/// before ours may answer before we have seen the request.
#[derive(Debug)]
enum Phase {
    /// Nothing has come yet
    Fresh,
    /// The body is being collected
    Body(Box<AwaitBody>),
    /// The decision is made and waits in the queue
    Held {
        next: Box<Self>,
        rate: Option<RateHeaders>,
    },
    /// The request went on; the response gets these headers
    Forwarded(Option<RateHeaders>, Option<Box<str>>),
    /// We have answered, or tried to
    Replied,
}

impl Stream {
    pub(crate) fn new(context: u32, root: u32, policy: Option<Rc<Policy>>) -> Self {
        Self {
            context,
            root,
            policy,
            phase: Phase::Fresh,
        }
    }

    fn begin(&mut self, end_of_stream: bool) -> Action {
        let Some(policy) = self.policy.clone() else {
            return self.unavailable(Reason::NotReady);
        };
        let Some(step) = examine(&policy, end_of_stream) else {
            return self.unavailable(Reason::HostFailed);
        };
        match step {
            Step::Decided(outcome) => self.apply(outcome, Editing::All),
            Step::AwaitClient(waiting) => {
                let client = client();
                let outcome = vm::decide(|engine, moment| {
                    engine.with_client(waiting, client, moment, &mut SharedData)
                });
                self.apply_or_refuse(outcome, Editing::All)
            }
            Step::AwaitBody(waiting) if end_of_stream => {
                self.judge(waiting, Editing::All, Body::Complete(&[]))
            }
            Step::AwaitBody(waiting) => match policy.pause() {
                Pause::Headers => {
                    self.phase = Phase::Body(Box::new(waiting));
                    Action::Pause
                }
                // The headers go on now, with all that is known without the body.
                Pause::Body => {
                    if edit(waiting.edits()).is_err() {
                        return self.unavailable(Reason::HostFailed);
                    }
                    self.phase = Phase::Body(Box::new(waiting));
                    Action::Continue
                }
            },
        }
    }

    /// Decides on a request whose body is in
    fn judge(&mut self, waiting: AwaitBody, editing: Editing, body: Body<'_>) -> Action {
        let outcome =
            vm::decide(|engine, moment| engine.with_body(waiting, body, moment, &mut SharedData));
        self.apply_or_refuse(outcome, editing)
    }

    /// Reads the body and decides
    fn end_body(&mut self, waiting: AwaitBody) -> Action {
        let editing = self.editing();
        let max = waiting.max();
        match hostcall::buffer(Buffer::RequestBody, max.saturating_add(1)) {
            Ok(body) if body.len() <= max => self.judge(waiting, editing, Body::Complete(&body)),
            Ok(_) => self.judge(waiting, editing, Body::TooLarge),
            Err(_) => self.unavailable(Reason::HostFailed),
        }
    }

    /// What may still be done to the headers when the body is in
    fn editing(&self) -> Editing {
        match self.policy.as_ref().map(|policy| policy.pause()) {
            Some(Pause::Body) => Editing::Done,
            Some(Pause::Headers) | None => Editing::All,
        }
    }

    fn apply_or_refuse(&mut self, outcome: Option<Outcome>, editing: Editing) -> Action {
        match outcome {
            Some(outcome) => self.apply(outcome, editing),
            None => self.unavailable(Reason::HostFailed),
        }
    }

    fn unavailable(&mut self, reason: Reason) -> Action {
        let decision = vm::decide(|_, moment| moment.decision).unwrap_or_default();
        let outcome = Outcome::unavailable(reason, decision).recorded_by(self.policy.as_ref());
        self.apply(outcome, Editing::All)
    }

    /// Carries a decision out: the only place that acts on a request
    fn apply(&mut self, outcome: Outcome, editing: Editing) -> Action {
        let Outcome {
            decision,
            record,
            rate,
            hold,
        } = outcome;
        let next = match &decision {
            Decision::Forward(edits) => {
                if editing == Editing::All && edit(edits).is_err() {
                    // A request whose credential or claims could not be taken off never goes on.
                    return self.unavailable(Reason::HostFailed);
                }
                Phase::Forwarded(rate, record.explanation().map(Into::into))
            }
            Decision::Reply(_) => Phase::Replied,
        };
        let is_held = hold.is_some();
        if let Some(hold) = hold
            && queue::hold(self.context, self.root, hold).is_none()
        {
            return self.unavailable(Reason::HostFailed);
        }
        recorder::tell(&record);
        if is_held {
            let next = Box::new(next);
            self.phase = Phase::Held { next, rate };
            return Action::Pause;
        }
        if let Decision::Reply(reply) = &decision {
            answer(reply, record.reason);
        }
        self.phase = next;
        self.phase.action()
    }

    /// Goes on where the queue has let the request go
    fn settle(&mut self) {
        if matches!(self.phase, Phase::Held { .. })
            && !queue::holds(self.context)
            && let Phase::Held { next, .. } = core::mem::replace(&mut self.phase, Phase::Replied)
        {
            self.phase = *next;
        }
    }
}

impl Phase {
    /// What a callback returns that decides nothing
    fn action(&self) -> Action {
        match self {
            Self::Forwarded(..) => Action::Continue,
            // A body before its headers is nothing that we have let through.
            Self::Fresh | Self::Body(_) | Self::Held { .. } | Self::Replied => Action::Pause,
        }
    }
}

/// Answers the request
pub(crate) fn answer(reply: &Reply, reason: Reason) {
    let sent = hostcall::send_local_response(
        reply.status,
        reason.word(),
        &reply.headers,
        &reply.body,
        reply.grpc_status,
    );
    if sent.is_err() {
        // Held for good is worse than cut off.
        let _: Result<(), HostError> = hostcall::close_request();
    }
}

/// Whether a request's headers are still ours to edit
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Editing {
    All,
    Done,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match self.phase {
            Phase::Fresh => self.begin(end_of_stream),
            _ => self.phase.action(),
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.settle();
        match core::mem::replace(&mut self.phase, Phase::Replied) {
            Phase::Body(waiting) if size > waiting.max() => {
                let editing = self.editing();
                self.judge(*waiting, editing, Body::TooLarge)
            }
            Phase::Body(waiting) if end_of_stream => self.end_body(*waiting),
            Phase::Held { .. } if size > MAX_HELD_BODY => match queue::leave(self.context) {
                Some(late) => self.apply(late, Editing::Done),
                None => self.unavailable(Reason::HostFailed),
            },
            phase => {
                self.phase = phase;
                self.phase.action()
            }
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if strip_trailers().is_err() {
            queue::leave(self.context);
            return self.unavailable(Reason::HostFailed);
        }
        self.settle();
        match core::mem::replace(&mut self.phase, Phase::Replied) {
            Phase::Body(waiting) => self.end_body(*waiting),
            phase => {
                self.phase = phase;
                self.phase.action()
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.settle();
        let (rate, explanation) = match &self.phase {
            Phase::Forwarded(rate, explanation) => (*rate, explanation.as_deref()),
            // The host answered before the body was in, or the time had come.
            Phase::Body(waiting) => (waiting.rate(), None),
            Phase::Held { rate, .. } => (*rate, None),
            Phase::Fresh | Phase::Replied => (None, None),
        };
        // A response that can't be given a header is still the response.
        if let Some(rate) = rate {
            rate.each(|name, value| {
                let _: Result<(), HostError> =
                    hostcall::replace_header(Map::ResponseHeaders, name, value);
            });
        }
        if let Some(explanation) = explanation {
            let _: Result<(), HostError> =
                hostcall::replace_header(Map::ResponseHeaders, EXPLANATION, explanation);
        }
        Action::Continue
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if matches!(self.phase, Phase::Held { .. }) {
            queue::leave(self.context);
        }
    }
}

/// Longest part of a body that is kept while its request is held, in bytes
///
/// The host buffers it; what it can't buffer it would refuse with a 413 that means nothing here.
const MAX_HELD_BODY: usize = 1024 * 1024;

/// Hands the headers to the engine; `None` when the host does not give them
pub(crate) fn examine(policy: &Rc<Policy>, end_of_stream: bool) -> Option<Step> {
    let pairs = hostcall::map_pairs(Map::RequestHeaders).ok()?;
    let headers = pairs.decode().ok()?;
    let client = policy.wants_client().then(client);
    let request = Request {
        headers: &headers,
        client,
        end_of_stream,
    };
    vm::decide(|engine, moment| engine.on_headers(policy, &request, moment, &mut SharedData))
}

pub(crate) fn client() -> Option<core::net::IpAddr> {
    let address = hostcall::property(&["source", "address"]).ok()?;
    parse_client(&address)
}

/// Edits the request's headers; all of it or an error
fn edit(edits: &Edits) -> Result<(), HostError> {
    let mut result = Ok(());
    edits.each(|edit| {
        let done = match edit {
            Edit::Remove(name) => hostcall::remove_header(Map::RequestHeaders, name),
            Edit::Add(name, value) => hostcall::add_header(Map::RequestHeaders, name, value),
        };
        result = result.and(done);
    });
    result
}

/// Takes claims that only we may make off the trailers
fn strip_trailers() -> Result<(), HostError> {
    let pairs = hostcall::map_pairs(Map::RequestTrailers)?;
    for (name, _) in pairs.decode()? {
        if is_reserved(name) {
            hostcall::remove_header(Map::RequestTrailers, name)?;
        }
    }
    Ok(())
}
