//! The SDK panics over the answer to a callout that it did not make, and over a foreign function
//! whose context it does not get. The shipped module has no such callback: `cargo xtask wasm` takes
//! out those that the filter does not answer, and puts ours in the place of the one for answers.

use portcullis_host::{Callback, CalloutReply, HostCall, HostError, Settings};

use crate::{get, raw, send, world};

const TOKEN: u32 = 7;

#[test]
fn what_the_filter_does_not_answer_is_not_there() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    let context = worker.root_context(root).unwrap();
    for callback in [
        Callback::Done,
        Callback::ForeignFunction,
        Callback::GrpcClose,
        Callback::GrpcReceive,
        Callback::GrpcReceiveInitialMetadata,
        Callback::GrpcReceiveTrailingMetadata,
        Callback::Log,
        Callback::QueueReady,
    ] {
        for context in [context, 4711] {
            let answer = raw(worker, callback, &[context, TOKEN, 0, 0, 0]).unwrap();
            assert_eq!(answer, None, "{callback}");
        }
    }
    assert_eq!(send(worker, root, &get()).status(), 200);
    assert_eq!(world.worker(0).unwrap().traps(), []);
}

/// Nobody has asked: late, made up, or of a policy that is gone.
#[test]
fn an_answer_that_nobody_waits_for_is_nothing() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    let context = worker.root_context(root).unwrap();
    for context in [context, 4711] {
        for sizes in [[0, 0, 0], [3, 100, 0], [u32::MAX, u32::MAX, u32::MAX]] {
            let [headers, body, trailers] = sizes;
            let arguments = [context, TOKEN, headers, body, trailers];
            let answer = raw(worker, Callback::HttpCallResponse, &arguments);
            answer.unwrap();
        }
    }
    assert_eq!(send(worker, root, &get()).status(), 200);
    assert_eq!(world.worker(0).unwrap().traps(), []);
}

#[test]
fn our_host_answers_no_callout_that_was_not_made() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    assert_eq!(send(worker, root, &get()).status(), 200);
    assert_eq!(worker.calls().of(HostCall::HttpCall), 0);
    assert_eq!(world.callouts(), []);
    let answered = world.answer(TOKEN.into(), CalloutReply::Broken);
    assert_eq!(answered, Err(HostError::NoSuchCallout));
    assert_eq!(world.worker(0).unwrap().traps(), []);
}
