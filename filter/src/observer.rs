//! A request and its response under `mode: observe`: judged as ever, and left as they are.
//!
//! INVARIANT: nothing here edits, holds or answers: of the host it asks only for what there is.

use core::cell::RefCell;
use std::rc::Rc;

use portcullis_policy::{AwaitBody, Body, Ending, Leases, Lesson, Outcome, Policy, Step, Waiting};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::callout::{self, Asker};
use crate::comparing::Comparing;
use crate::hostcall::{self, Buffer};
use crate::kept::Kept;
use crate::shared_data::SharedData;
use crate::stream::{client, examine, give_back, learn};
use crate::vm;
use crate::{quota, recorder};

/// A stream that is only watched
#[derive(Debug)]
pub(crate) struct Observer {
    context: u32,
    root: u32,
    policy: Rc<Policy>,
    phase: Phase,
    /// What ends with the stream
    end: Rc<RefCell<End>>,
}

/// What is to be done when the response comes, or the stream ends
#[derive(Debug, Default)]
struct End {
    leases: Leases,
    lesson: Option<Box<Lesson>>,
    comparing: Option<Box<Comparing>>,
}

/// How far a stream has come
#[derive(Debug)]
enum Phase {
    /// It is judged, or has not begun
    Idle,
    /// Its body goes by
    Watching(Box<Watched>),
    /// Another service has been asked, while the body goes by
    Asked(Rc<RefCell<Asked>>),
}

/// What is shared with the answer to come
#[derive(Debug)]
struct Asked {
    seen: Kept,
    ended: bool,
    /// What came of the answer, when a body is to be judged
    then: Option<AwaitBody>,
}

/// A body that goes by
#[derive(Debug)]
struct Watched {
    waiting: AwaitBody,
    seen: Kept,
}

/// A stream that is not even looked at: `mode: disabled`
#[derive(Debug)]
pub(crate) struct Bystander;

impl Observer {
    pub(crate) fn new(context: u32, root: u32, policy: Rc<Policy>) -> Self {
        Self {
            context,
            root,
            policy,
            phase: Phase::Idle,
            end: Rc::default(),
        }
    }

    /// Goes on with a step
    fn take(&mut self, step: Step, ended: bool) {
        match step {
            Step::Decided(outcome) => note(&self.end, Some(outcome)),
            Step::AwaitClient(waiting) => {
                let client = client();
                let step = vm::decide(|engine, moment| {
                    engine.with_client(waiting, client, moment, &mut SharedData)
                });
                if let Some(step) = step {
                    self.take(step, ended);
                }
            }
            Step::AwaitBody(waiting) if ended => self.judge(waiting, Body::Complete(&[])),
            Step::AwaitBody(waiting) => {
                let seen = Kept::default();
                self.phase = Phase::Watching(Watched { waiting, seen }.into());
            }
            Step::Ask(waiting) => self.ask(waiting, ended),
        }
    }

    fn ask(&mut self, waiting: Box<Waiting>, ended: bool) {
        let asked = Rc::new(RefCell::new(Asked {
            seen: Kept::default(),
            ended,
            then: None,
        }));
        let parked = Parked {
            context: self.context,
            root: self.root,
            asked: Rc::clone(&asked),
            end: Rc::clone(&self.end),
        };
        match parked.ask(waiting) {
            Some(Some(step)) => self.take(step, ended),
            Some(None) => {}
            None => self.phase = Phase::Asked(asked),
        }
    }

    /// Takes over what an answer has brought
    fn settle(&mut self) {
        let brought = match &self.phase {
            Phase::Asked(asked) => asked.try_borrow_mut().ok().and_then(|mut asked| {
                let waiting = asked.then.take()?;
                let seen = core::mem::take(&mut asked.seen);
                Some(Watched { waiting, seen })
            }),
            Phase::Idle | Phase::Watching(_) => None,
        };
        if let Some(watched) = brought {
            self.phase = Phase::Watching(watched.into());
        }
    }

    /// Goes on with what a verdict is compared with
    fn compare(&self, go_on: impl FnOnce(&mut Comparing)) {
        if let Ok(mut end) = self.end.try_borrow_mut()
            && let Some(comparing) = &mut end.comparing
        {
            go_on(comparing);
        }
    }

    fn judge(&mut self, waiting: AwaitBody, body: Body<'_>) {
        judge(&self.end, waiting, body);
    }

    fn finish(&mut self, watched: Watched) {
        finish(&self.end, watched);
    }

    /// Keeps what of a body has come, and judges it when it is whole
    fn watch(&mut self, mut watched: Watched, size: usize, end_of_stream: bool) {
        let max = watched.waiting.max();
        let room = max.saturating_add(1).saturating_sub(watched.seen.len());
        let Ok(piece) = hostcall::buffer(Buffer::RequestBody, room.min(size)) else {
            return;
        };
        if !watched.seen.keep(&piece) {
            return;
        }
        if watched.seen.len() > max {
            self.judge(watched.waiting, Body::TooLarge);
        } else if end_of_stream {
            self.finish(watched);
        } else {
            self.phase = Phase::Watching(watched.into());
        }
    }
}

/// Judges a body that has gone by
fn finish(end: &RefCell<End>, watched: Watched) {
    let Watched { waiting, seen } = watched;
    let body = if seen.len() > waiting.max() {
        Body::TooLarge
    } else {
        Body::Complete(seen.bytes())
    };
    judge(end, waiting, body);
}

fn judge(end: &RefCell<End>, waiting: AwaitBody, body: Body<'_>) {
    let outcome =
        vm::decide(|engine, moment| engine.with_body(waiting, body, moment, &mut SharedData));
    note(end, outcome);
}

/// Says what would have been done
fn note(end: &RefCell<End>, outcome: Option<Outcome>) {
    let Some(outcome) = outcome else {
        return;
    };
    let mut taken = outcome.leases;
    let comparing = match outcome.comparison {
        Some(comparison) => Some(Comparing::new(outcome.record, comparison)),
        None => {
            recorder::tell(&outcome.record);
            None
        }
    };
    match end.try_borrow_mut() {
        Ok(mut end) => {
            end.leases.extend(taken);
            end.lesson = outcome.lesson;
            end.comparing = comparing;
        }
        Err(_) => give_back(&mut taken),
    }
}

/// Keeps a piece of a body that goes by while an answer is to come; false when it can't be kept
fn asked_on(asked: &RefCell<Asked>, size: usize, end_of_stream: bool) -> bool {
    let Ok(mut asked) = asked.try_borrow_mut() else {
        return false;
    };
    asked.ended = end_of_stream;
    let Ok(piece) = hostcall::buffer(Buffer::RequestBody, size) else {
        return false;
    };
    let room = MAX_ASKED.saturating_sub(asked.seen.len());
    piece.len() <= room && asked.seen.keep(&piece)
}

/// Longest body that is kept while an answer is to come, in bytes
const MAX_ASKED: usize = 1024 * 1024;

/// What an answer needs of a stream
#[derive(Clone)]
struct Parked {
    context: u32,
    root: u32,
    asked: Rc<RefCell<Asked>>,
    end: Rc<RefCell<End>>,
}

impl Parked {
    fn ask(&self, waiting: Box<Waiting>) -> Option<Option<Step>> {
        callout::ask(self.context, self.root, waiting, || Box::new(self.clone()))
    }
}

impl Asker for Parked {
    fn proceed(self: Box<Self>, mut step: Option<Step>) {
        loop {
            step = match step {
                Some(Step::Ask(waiting)) => match self.ask(waiting) {
                    Some(next) => next,
                    None => return,
                },
                // What the answer says of the key wants to know where its client is.
                Some(Step::AwaitClient(waiting)) => {
                    let client = client();
                    vm::decide(|engine, moment| {
                        engine.with_client(waiting, client, moment, &mut SharedData)
                    })
                }
                other => {
                    step = other;
                    break;
                }
            };
        }
        let Ok(mut asked) = self.asked.try_borrow_mut() else {
            return;
        };
        match step {
            Some(Step::Decided(outcome)) => note(&self.end, Some(outcome)),
            Some(Step::AwaitBody(waiting)) if asked.ended => {
                let seen = core::mem::take(&mut asked.seen);
                finish(&self.end, Watched { waiting, seen });
            }
            Some(Step::AwaitBody(waiting)) => asked.then = Some(waiting),
            Some(Step::AwaitClient(_) | Step::Ask(_)) | None => {}
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Phase::Asked(_) = self.phase {
            callout::leave(self.context);
        }
        if let Ok(mut end) = self.end.try_borrow_mut() {
            quota::end(&mut end.leases, Ending::ClientLeft);
            give_back(&mut end.leases);
        }
    }
}

impl Context for Observer {}

impl HttpContext for Observer {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        if let Some(step) = examine(&self.policy, end_of_stream) {
            self.take(step, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.settle();
        match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {}
            Phase::Watching(watched) => self.watch(*watched, size, end_of_stream),
            Phase::Asked(asked) => {
                if asked_on(&asked, size, end_of_stream) {
                    self.phase = Phase::Asked(asked);
                } else {
                    callout::leave(self.context);
                }
            }
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.settle();
        match core::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {}
            Phase::Watching(watched) => self.finish(*watched),
            Phase::Asked(asked) => {
                asked_on(&asked, 0, true);
                self.phase = Phase::Asked(asked);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let lesson = self.end.try_borrow_mut().ok().and_then(|mut end| {
            quota::respond(&mut end.leases);
            end.lesson.take()
        });
        learn(lesson);
        self.compare(|comparing| comparing.headers(end_of_stream));
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.compare(|comparing| comparing.body(size, end_of_stream));
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.compare(Comparing::end);
        Action::Continue
    }
}

impl Context for Bystander {}

impl HttpContext for Bystander {}
