//! Requests that wait for their slot, and the tick that lets them go.

use portcullis_policy::{Hold, Outcome, Release};

use crate::hostcall::{self, HostError};
use crate::recorder;
use crate::shared_data::SharedData;
use crate::stream::answer;
use crate::ticker;
use crate::vm;

/// Holds the request of a stream; `None` when it can't be held
pub(crate) fn hold(stream: u32, root: u32, hold: Hold) -> Option<()> {
    ticker::run(root, ticker::QUEUE)?;
    vm::with(|engine| engine.hold(stream, hold))
}

/// Whether the request of a stream is held
pub(crate) fn holds(stream: u32) -> bool {
    // A VM that is busy has let nothing go.
    vm::with(|engine| engine.holds(stream)).unwrap_or(true)
}

/// Forgets a request that is held; returns what it is answered, if there is somebody to hear it
pub(crate) fn leave(stream: u32) -> Option<Outcome> {
    vm::with(|engine| engine.leave(stream, &mut SharedData)).flatten()
}

/// Lets go whatever may go, as much of it as may in one go: the only place that acts on requests that were held
pub(crate) fn tick(root: u32) {
    let mut released = false;
    for _ in 0..ticker::TURN {
        let Some((stream, release)) = vm::release() else {
            break;
        };
        released = true;
        // A stream that is gone has left the queue; who is not there is not waited for.
        if hostcall::set_effective_context(stream).is_err() {
            continue;
        }
        match release {
            Release::Continue => {
                if hostcall::continue_request().is_err() {
                    let _: Result<(), HostError> = hostcall::close_request();
                }
            }
            Release::Reply(reply, reason) => answer(&reply, reason),
            Release::Late(outcome) => {
                recorder::tell(&outcome.record);
                if let portcullis_policy::Decision::Reply(reply) = &outcome.decision {
                    answer(reply, outcome.record.reason);
                }
            }
        }
    }
    if released {
        let _: Result<(), HostError> = hostcall::set_effective_context(root);
    }
}
