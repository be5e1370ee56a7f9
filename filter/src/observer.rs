//! A request and its response under `mode: observe`: judged as ever, and left as they are.
//!
//! INVARIANT: nothing here edits, holds or answers: of the host it asks only for what there is.

use core::cell::Cell;
use std::rc::Rc;

use portcullis_policy::{AwaitBody, Body, Outcome, Policy, Step};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::hostcall::{self, Buffer};
use crate::recorder;
use crate::shared_data::SharedData;
use crate::stream::{client, examine};
use crate::vm;

/// A stream that is only watched
#[derive(Debug)]
pub(crate) struct Observer {
    policy: Rc<Policy>,
    watched: Option<Watched>,
}

/// A body that goes by
#[derive(Debug)]
struct Watched {
    waiting: AwaitBody,
    seen: Kept,
}

/// What has come of a body
///
/// INVARIANT: it counts in [`KEPT`] as long as it is there, however its stream ends.
#[derive(Debug, Default)]
struct Kept(Vec<u8>);

/// A stream that is not even looked at: `mode: disabled`
#[derive(Debug)]
pub(crate) struct Bystander;

/// Bytes of bodies that a VM keeps at the same time, all streams together: what exceeds them is
/// not judged. In `mode: enforce` the host keeps them.
const MAX_KEPT: usize = 8 * 1024 * 1024;

thread_local! {
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

impl Observer {
    pub(crate) fn new(policy: Rc<Policy>) -> Self {
        Self {
            policy,
            watched: None,
        }
    }

    fn judge(waiting: AwaitBody, body: Body<'_>) {
        note(vm::decide(|engine, moment| {
            engine.with_body(waiting, body, moment, &mut SharedData)
        }));
    }

    /// Keeps what of a body has come, and judges it when it is whole
    fn watch(&mut self, mut watched: Watched, size: usize, end_of_stream: bool) {
        let max = watched.waiting.max();
        let room = max.saturating_add(1).saturating_sub(watched.seen.0.len());
        let Ok(piece) = hostcall::buffer(Buffer::RequestBody, room.min(size)) else {
            return;
        };
        if !watched.seen.keep(&piece) {
            log::warn!("not observed: more than 8 MiB of bodies at the same time");
            return;
        }
        if watched.seen.0.len() > max {
            Self::judge(watched.waiting, Body::TooLarge);
        } else if end_of_stream {
            watched.finish();
        } else {
            self.watched = Some(watched);
        }
    }
}

impl Watched {
    fn finish(self) {
        Observer::judge(self.waiting, Body::Complete(&self.seen.0));
    }
}

impl Kept {
    /// Adds a piece; false when too much is kept already
    fn keep(&mut self, piece: &[u8]) -> bool {
        let kept = KEPT.get().saturating_add(piece.len());
        if kept > MAX_KEPT {
            return false;
        }
        KEPT.set(kept);
        self.0.extend_from_slice(piece);
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.set(KEPT.get().saturating_sub(self.0.len()));
    }
}

/// Says what would have been done
fn note(outcome: Option<Outcome>) {
    if let Some(outcome) = outcome {
        recorder::tell(&outcome.record);
    }
}

impl Context for Observer {}

impl HttpContext for Observer {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match examine(&self.policy, end_of_stream) {
            None => {}
            Some(Step::Decided(outcome)) => note(Some(outcome)),
            Some(Step::AwaitClient(waiting)) => {
                let client = client();
                note(vm::decide(|engine, moment| {
                    engine.with_client(waiting, client, moment, &mut SharedData)
                }));
            }
            Some(Step::AwaitBody(waiting)) if end_of_stream => {
                Self::judge(waiting, Body::Complete(&[]));
            }
            Some(Step::AwaitBody(waiting)) => {
                self.watched = Some(Watched {
                    waiting,
                    seen: Kept::default(),
                });
            }
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if let Some(watched) = self.watched.take() {
            self.watch(watched, size, end_of_stream);
        }
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if let Some(watched) = self.watched.take() {
            watched.finish();
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        Action::Continue
    }
}

impl Context for Bystander {}

impl HttpContext for Bystander {}
