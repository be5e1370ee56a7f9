//! Calls to other services, and the streams that wait for their answers.

use core::cell::RefCell;

use portcullis_policy::{Answer, Engine, Failure, Query, Response, Step, Waiting};

use crate::hostcall::{self, Buffer, HostError, Map};
use crate::shared_data::SharedData;
use crate::ticker;
use crate::vm;

/// A stream whose decision waits for an answer: what can be done to it from outside
///
/// The SDK keeps the streams themselves to itself.
pub(crate) trait Asker {
    /// Goes on with the step that came of the answer; the stream is the one that host calls are about
    fn proceed(self: Box<Self>, step: Option<Step>);
}

thread_local! {
    /// By the stream's context; as many as the engine keeps requests
    static ASKERS: RefCell<Vec<(u32, Box<dyn Asker>)>> = const { RefCell::new(Vec::new()) };
}

/// Asks what a request wants to know; the asker hears of it later
///
/// `Some` when there is nothing to wait for: the step then says what is to be done.
pub(crate) fn ask(
    stream: u32,
    root: u32,
    waiting: Box<Waiting>,
    asker: impl FnOnce() -> Box<dyn Asker>,
) -> Option<Option<Step>> {
    if ticker::run(root, ticker::ASKS).is_none() {
        // Without a timer nobody would end a call that the host forgets.
        return Some(decide(*waiting));
    }
    let asked = vm::decide(|engine, moment| engine.ask(stream, *waiting, moment.monotonic));
    let Some(call) = asked else {
        return Some(None);
    };
    if let Some((call, mut query)) = call
        && let Err(failure) = dispatch(call, &mut query)
    {
        learn(call, &Answer::Failed(failure));
        // Who asks first asks alone.
        return Some(give_up(stream));
    }
    let kept = ASKERS.with(|askers| {
        let mut askers = askers.try_borrow_mut().ok()?;
        askers.push((stream, asker()));
        Some(())
    });
    match kept {
        Some(()) => None,
        None => Some(give_up(stream)),
    }
}

/// Forgets a stream that waits; nobody is left to hear the answer
pub(crate) fn leave(stream: u32) {
    take(stream);
    vm::with(|engine| engine.leave_ask(stream));
}

/// Decides on a stream that waits as if nothing came
pub(crate) fn give_up(stream: u32) -> Option<Step> {
    take(stream);
    let waiting = vm::with(|engine| engine.leave_ask(stream)).flatten()?;
    decide(waiting)
}

/// Makes a call for which no stream waits
pub(crate) fn begin(root: u32, call: u32, mut query: Query) {
    if let Err(failure) = dispatch(call, &mut query) {
        learn(call, &Answer::Failed(failure));
        settle(root);
    }
}

/// Takes the host's answer
pub(crate) fn answered(root: u32, token: u32, headers: u32, body_size: u32) {
    let known = vm::with(|engine| engine.call_of(token)).flatten();
    // Late, or never ours: nobody waits for it.
    let Some((call, max)) = known else { return };
    let pairs = (headers > 0)
        .then(|| hostcall::map_pairs(Map::CallResponseHeaders))
        .and_then(Result::ok);
    let headers = pairs.as_ref().and_then(|pairs| pairs.decode().ok());
    let too_large = usize::try_from(body_size).is_ok_and(|size| size > max);
    let body = match &headers {
        Some(_) if !too_large && body_size > 0 => {
            hostcall::buffer(Buffer::CallResponseBody, max).ok()
        }
        _ => Some(Vec::new()),
    };
    let came = match (&headers, &body) {
        _ if too_large => Answer::Failed(Failure::TooLarge),
        (Some(headers), Some(body)) => Answer::Response(Response { headers, body }),
        _ => Answer::Failed(Failure::Broken),
    };
    learn(call, &came);
    settle(root);
}

/// Ends calls whose time is over
pub(crate) fn tick(root: u32) {
    while let Some(call) = vm::decide(|engine, moment| engine.overdue(moment.monotonic)).flatten() {
        learn(call, &Answer::Failed(Failure::TimedOut));
    }
    settle(root);
}

fn dispatch(call: u32, query: &mut Query) -> Result<(), Failure> {
    if query.as_caller {
        // The stream that asks is the one that host calls are about.
        let credential = credential().ok_or(Failure::Refused)?;
        query.headers.push(("authorization", credential));
    }
    let sent =
        hostcall::dispatch_http_call(&query.cluster, &query.headers, &query.body, query.timeout);
    match sent {
        Ok(token) => {
            vm::with(|engine| engine.dispatched(call, token));
            Ok(())
        }
        Err(error) => {
            log::warn!("the cluster `{}` can't be called: {error:?}", query.cluster);
            Err(Failure::Refused)
        }
    }
}

/// The credential of the request that asks, for a call in its caller's name
fn credential() -> Option<String> {
    let pairs = hostcall::map_pairs(Map::RequestHeaders).ok()?;
    let headers = pairs.decode().ok()?;
    let (_, credential) = headers.iter().find(|(name, _)| *name == b"authorization")?;
    Some(core::str::from_utf8(credential).ok()?.to_owned())
}

/// Goes on with requests whose question is answered, as many as may be in one go: the next tick has the others
fn settle(root: u32) {
    let mut is_elsewhere = false;
    for _ in 0..ticker::TURN {
        let Some((stream, waiting)) = vm::with(Engine::take_answered).flatten() else {
            break;
        };
        is_elsewhere = true;
        let Some(asker) = take(stream) else { continue };
        // A stream that is gone has left; who is not there is not waited for.
        if hostcall::set_effective_context(stream).is_ok() {
            asker.proceed(decide(waiting));
        }
    }
    if is_elsewhere {
        let _: Result<(), HostError> = hostcall::set_effective_context(root);
    }
    if vm::with(|engine| engine.has_answered()) == Some(true) {
        // Where there is no timer each of them ends by its stream's own time.
        let _: Option<()> = ticker::run(root, ticker::QUEUE);
    }
}

fn learn(call: u32, came: &Answer<'_>) {
    vm::decide(|engine, moment| engine.answered(call, came, moment.monotonic));
}

fn decide(waiting: Waiting) -> Option<Step> {
    vm::decide(|engine, moment| engine.with_answer(waiting, moment, &mut SharedData))
}

fn take(stream: u32) -> Option<Box<dyn Asker>> {
    ASKERS.with(|askers| {
        let mut askers = askers.try_borrow_mut().ok()?;
        let place = askers.iter().position(|(other, _)| *other == stream)?;
        Some(askers.swap_remove(place).1)
    })
}
