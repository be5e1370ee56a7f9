//! One request and its response.

use core::cell::RefCell;
use std::rc::Rc;

use portcullis_policy::{
    AwaitBody, Body, Decision, EXPLANATION, Edit, Edits, Ending, Leases, Lesson, Mode, Outcome,
    Pause, Policy, RateHeaders, Reason, Reply, Request, Step, Waiting, is_reserved, parse_client,
};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::callout::{self, Asker};
use crate::comparing::Comparing;
use crate::hostcall::{self, Buffer, HostError, Map};
use crate::shared_data::SharedData;
use crate::vm;
use crate::{queue, quota, recorder};

/// A stream; its whole state is its phase
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the host calls it
    context: u32,
    root: u32,
    policy: Option<Rc<Policy>>,
    phase: Phase,
    /// Its headers were held until an answer came
    asked: bool,
    /// What ends with the stream
    leases: Leases,
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
    /// Another service has been asked
    Asked(Rc<RefCell<Asked>>),
    /// The decision is made and waits in the queue
    Held {
        next: Box<Self>,
        rate: Option<RateHeaders>,
    },
    /// The request went on; the response gets these headers, and teaches this
    Forwarded(Option<RateHeaders>, Option<Box<str>>, Lessons),
    /// The request went on, and so does everything else: nothing comes of the decision but what the
    /// response teaches
    Observed(Lessons),
    /// We have answered, or tried to
    Replied,
}

/// What a response teaches
#[derive(Debug, Default)]
struct Lessons {
    domains: Option<Box<Lesson>>,
    /// What it says beside a verdict of which nothing came
    verdict: Option<Box<Comparing>>,
}

impl Stream {
    pub(crate) fn new(context: u32, root: u32, policy: Option<Rc<Policy>>) -> Self {
        Self {
            context,
            root,
            policy,
            phase: Phase::Fresh,
            asked: false,
            leases: Leases::default(),
        }
    }

    fn begin(&mut self, end_of_stream: bool) -> Action {
        let Some(policy) = self.policy.clone() else {
            return self.unavailable(Reason::NotReady);
        };
        let Some(step) = examine(&policy, end_of_stream) else {
            return self.unavailable(Reason::HostFailed);
        };
        let extent = if end_of_stream {
            Extent::Empty
        } else {
            Extent::Open
        };
        self.take(step, extent)
    }

    /// Goes on with a step of a request whose headers are still here
    fn take(&mut self, step: Step, extent: Extent) -> Action {
        match step {
            Step::Decided(outcome) => self.apply(outcome, Editing::All),
            Step::AwaitClient(waiting) => {
                let client = client();
                let step = vm::decide(|engine, moment| {
                    engine.with_client(waiting, client, moment, &mut SharedData)
                });
                self.take_or_refuse(step, extent)
            }
            Step::AwaitBody(waiting) => self.await_body(waiting, extent),
            Step::Ask(waiting) => self.ask(waiting, extent),
        }
    }

    fn take_or_refuse(&mut self, step: Option<Step>, extent: Extent) -> Action {
        match step {
            Some(step) => self.take(step, extent),
            None => self.unavailable(Reason::HostFailed),
        }
    }

    fn await_body(&mut self, waiting: AwaitBody, extent: Extent) -> Action {
        let early = self.editing() == Editing::Done;
        let action = match extent {
            Extent::Empty => return self.judge(waiting, Editing::All, Body::Complete(&[])),
            Extent::Whole => return self.end_body(waiting, Editing::All),
            Extent::Open if early => Action::Continue,
            Extent::Open | Extent::Begun => Action::Pause,
        };
        // With all that is known without the body: the headers go on now, or are not ours to edit later.
        if early && edit(waiting.edits()).is_err() {
            return self.unavailable(Reason::HostFailed);
        }
        self.phase = Phase::Body(Box::new(waiting));
        action
    }

    /// Waits for another service's answer
    fn ask(&mut self, waiting: Box<Waiting>, extent: Extent) -> Action {
        let asked = Rc::new(RefCell::new(Asked::Waiting(extent)));
        let asker = || -> Box<dyn Asker> {
            Box::new(Parked {
                context: self.context,
                root: self.root,
                policy: self.policy.clone(),
                asked: Rc::clone(&asked),
            })
        };
        match callout::ask(self.context, self.root, waiting, asker) {
            Some(step) => self.take_or_refuse(step, extent),
            None => {
                self.phase = Phase::Asked(asked);
                Action::Pause
            }
        }
    }

    /// Decides on a request whose body is in
    fn judge(&mut self, waiting: AwaitBody, editing: Editing, body: Body<'_>) -> Action {
        let outcome =
            vm::decide(|engine, moment| engine.with_body(waiting, body, moment, &mut SharedData));
        self.apply_or_refuse(outcome, editing)
    }

    /// Reads the body and decides
    fn end_body(&mut self, waiting: AwaitBody, editing: Editing) -> Action {
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
            leases,
            lesson,
            comparison,
        } = outcome;
        self.leases.extend(leases);
        let lessons = Lessons {
            domains: lesson,
            verdict: None,
        };
        let mut next = match &decision {
            Decision::Forward(_) if record.mode == Mode::Observe => Phase::Observed(lessons),
            Decision::Forward(edits) => {
                if editing == Editing::All && edit(edits).is_err() {
                    // A request whose credential or claims could not be taken off never goes on.
                    return self.unavailable(Reason::HostFailed);
                }
                Phase::Forwarded(rate.clone(), record.explanation().map(Into::into), lessons)
            }
            Decision::Reply(_) => {
                quota::end(&mut self.leases, Ending::NotForwarded);
                Phase::Replied
            }
        };
        let is_held = hold.is_some();
        if let Some(hold) = hold
            && queue::hold(self.context, self.root, hold).is_none()
        {
            return self.unavailable(Reason::HostFailed);
        }
        let reason = record.reason;
        match (comparison, next.lessons()) {
            (Some(comparison), Some(lessons)) => {
                lessons.verdict = Some(Comparing::new(record, comparison));
            }
            _ => recorder::tell(&record),
        }
        if is_held {
            let next = Box::new(next);
            self.phase = Phase::Held { next, rate };
            return Action::Pause;
        }
        if let Decision::Reply(reply) = &decision {
            answer(reply, reason);
        }
        self.phase = next;
        self.phase.action()
    }

    /// Goes on where the queue has let the request go, or an answer has come
    fn settle(&mut self) {
        while let Phase::Asked(asked) = &self.phase
            && let Some((phase, leases)) = Asked::take(asked)
        {
            self.phase = phase;
            self.leases.extend(leases);
            self.asked = true;
        }
        if matches!(self.phase, Phase::Held { .. })
            && !queue::holds(self.context)
            && let Phase::Held { next, .. } = core::mem::replace(&mut self.phase, Phase::Replied)
        {
            self.phase = *next;
        }
    }
}

impl Phase {
    /// Whether not one byte of the request may change
    fn is_observed(&self) -> bool {
        match self {
            Self::Observed(_) => true,
            Self::Body(waiting) => waiting.is_observed(),
            _ => false,
        }
    }

    /// What the response is to teach; `None` before the request went on
    fn lessons(&mut self) -> Option<&mut Lessons> {
        match self {
            Self::Forwarded(_, _, lessons) | Self::Observed(lessons) => Some(lessons),
            _ => None,
        }
    }

    fn comparing(&mut self) -> Option<&mut Comparing> {
        self.lessons()?.verdict.as_deref_mut()
    }

    /// What a callback returns that decides nothing
    fn action(&self) -> Action {
        match self {
            Self::Forwarded(..) | Self::Observed(_) => Action::Continue,
            // A body before its headers is nothing that we have let through.
            Self::Fresh | Self::Asked(_) | Self::Body(_) | Self::Held { .. } | Self::Replied => {
                Action::Pause
            }
        }
    }
}

/// How much of a request has come
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extent {
    /// Its headers
    Open,
    /// Its headers, and some of its body
    Begun,
    /// Its headers, and nothing else will
    Empty,
    /// All of it
    Whole,
}

/// A stream that waits for another service's answer
#[derive(Debug)]
enum Asked {
    Waiting(Extent),
    /// The answer came: the phase is to be taken over by the stream
    Done(Phase, Leases),
    /// It was taken over
    Gone,
}

impl Asked {
    /// The phase that the stream is in since the answer came
    fn take(asked: &RefCell<Self>) -> Option<(Phase, Leases)> {
        let mut asked = asked.try_borrow_mut().ok()?;
        match core::mem::replace(&mut *asked, Self::Gone) {
            Self::Done(phase, leases) => Some((phase, leases)),
            other => {
                *asked = other;
                None
            }
        }
    }

    fn note(asked: &RefCell<Self>, extent: Extent) {
        if let Ok(mut asked) = asked.try_borrow_mut()
            && let Self::Waiting(known) = &mut *asked
        {
            *known = extent;
        }
    }
}

/// What is needed of a stream to go on with it while the SDK has it
struct Parked {
    context: u32,
    root: u32,
    policy: Option<Rc<Policy>>,
    asked: Rc<RefCell<Asked>>,
}

impl Asker for Parked {
    fn proceed(self: Box<Self>, step: Option<Step>) {
        let extent = match self.asked.try_borrow().as_deref() {
            Ok(Asked::Waiting(extent)) => *extent,
            _ => return,
        };
        let mut stream = Stream::new(self.context, self.root, self.policy);
        let action = stream.take_or_refuse(step, extent);
        let phase = core::mem::replace(&mut stream.phase, Phase::Replied);
        let leases = core::mem::take(&mut stream.leases);
        if let Ok(mut asked) = self.asked.try_borrow_mut() {
            *asked = Asked::Done(phase, leases);
        }
        if action == Action::Continue && hostcall::continue_request().is_err() {
            let _: Result<(), HostError> = hostcall::close_request();
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
            Phase::Body(waiting) if end_of_stream => {
                let editing = self.editing();
                self.end_body(*waiting, editing)
            }
            Phase::Asked(_) if size > MAX_HELD_BODY => {
                let step = callout::give_up(self.context);
                self.take_or_refuse(step, Extent::Begun)
            }
            Phase::Asked(asked) => {
                let extent = match (end_of_stream, size) {
                    (true, _) => Extent::Whole,
                    (false, 0) => Extent::Open,
                    (false, _) => Extent::Begun,
                };
                Asked::note(&asked, extent);
                self.phase = Phase::Asked(asked);
                Action::Pause
            }
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
        self.settle();
        if !self.phase.is_observed() && strip_trailers().is_err() {
            queue::leave(self.context);
            callout::leave(self.context);
            return self.unavailable(Reason::HostFailed);
        }
        match core::mem::replace(&mut self.phase, Phase::Replied) {
            // Headers, body and trailers held one after the other: Envoy, where it can't stop at headers
            // alone, loses the body then.
            Phase::Body(_) if self.asked && self.editing() == Editing::Done => {
                self.unavailable(Reason::HostFailed)
            }
            Phase::Body(waiting) => {
                let editing = self.editing();
                self.end_body(*waiting, editing)
            }
            Phase::Asked(asked) => {
                Asked::note(&asked, Extent::Whole);
                self.phase = Phase::Asked(asked);
                Action::Pause
            }
            phase => {
                self.phase = phase;
                self.phase.action()
            }
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        self.settle();
        match self.phase {
            Phase::Forwarded(..) | Phase::Observed(_) => quota::respond(&mut self.leases),
            _ => quota::end(&mut self.leases, Ending::NotForwarded),
        }
        if let Some(lessons) = self.phase.lessons() {
            learn(lessons.domains.take());
            if let Some(comparing) = &mut lessons.verdict {
                comparing.headers(end_of_stream);
            }
        }
        let (rate, explanation) = match &self.phase {
            Phase::Forwarded(rate, explanation, _) => (rate.as_ref(), explanation.as_deref()),
            // The host answered before the body was in, or the time had come.
            Phase::Body(waiting) => (waiting.rate(), None),
            Phase::Held { rate, .. } => (rate.as_ref(), None),
            Phase::Fresh | Phase::Asked(_) | Phase::Observed(_) | Phase::Replied => (None, None),
        };
        // A response that can't be given a header is still the response.
        if let Some(rate) = rate {
            let merged = rate.merges().then(|| merge(rate)).flatten();
            let rate = merged.as_ref().unwrap_or(rate);
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

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(comparing) = self.phase.comparing() {
            comparing.body(size, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if let Some(comparing) = self.phase.comparing() {
            comparing.end();
        }
        Action::Continue
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // An answer may have come since the last callback.
        self.settle();
        match self.phase {
            Phase::Held { .. } => {
                queue::leave(self.context);
            }
            Phase::Asked(_) => callout::leave(self.context),
            Phase::Forwarded(..) | Phase::Observed(_) => {
                quota::end(&mut self.leases, Ending::ClientLeft);
            }
            _ => {}
        }
        quota::end(&mut self.leases, Ending::NotForwarded);
        give_back(&mut self.leases);
    }
}

/// Gives back what ends with a stream, however it ends
pub(crate) fn give_back(leases: &mut Leases) {
    if !leases.is_empty() {
        core::mem::take(leases).give_back(&mut SharedData);
    }
}

/// The rate headers with what the upstream says of its own limits; `None` when the host does not tell
fn merge(rate: &RateHeaders) -> Option<RateHeaders> {
    let pairs = hostcall::map_pairs(Map::ResponseHeaders).ok()?;
    let headers = pairs.decode().ok()?;
    Some(rate.clone().merged(&headers))
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

/// Learns what the response's status teaches
pub(crate) fn learn(lesson: Option<Box<Lesson>>) {
    let Some(lesson) = lesson else {
        return;
    };
    // What has no status is no success.
    let status = status().unwrap_or_default();
    let learned =
        vm::decide(|engine, moment| engine.learn(&lesson, status, moment, &mut SharedData));
    if !matches!(learned, Some(Ok(()))) {
        log::warn!("not learned from a response: whose domain it made or unmade");
    }
}

/// The status of the response
fn status() -> Option<u16> {
    let pairs = hostcall::map_pairs(Map::ResponseHeaders).ok()?;
    let headers = pairs.decode().ok()?;
    let (_, status) = headers.iter().find(|(name, _)| *name == b":status")?;
    core::str::from_utf8(status).ok()?.parse().ok()
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
