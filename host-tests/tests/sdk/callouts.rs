//! The SDK panics over the answer to a callout that it did not make. The filter makes none (what it
//! asks of its host is pinned in `hostile`), and no host answers what was not asked.

use portcullis_host::{Callback, CalloutReply, Fault, HostCall, HostError, Settings, Status};

use crate::{assert_dead_of, get, raw, send, world};

const TOKEN: u32 = 7;

#[test]
fn an_answer_that_nobody_waits_for_kills_the_vm() {
    let (mut world, _) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    let died = raw(worker, Callback::HttpCallResponse, &[1, TOKEN, 0, 0, 0]).unwrap_err();
    assert_eq!(died.callback, Callback::HttpCallResponse);
    assert_dead_of(&mut world, "dispatcher.rs");
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

#[test]
fn an_unknown_grpc_answer_is_logged() {
    let (mut world, root) = world(Settings::default());
    let context = world.worker(0).unwrap().root_context(root).unwrap();
    for callback in [
        Callback::GrpcReceiveInitialMetadata,
        Callback::GrpcReceive,
        Callback::GrpcReceiveTrailingMetadata,
        Callback::GrpcClose,
    ] {
        world.clear_logs();
        raw(world.worker(0).unwrap(), callback, &[context, TOKEN, 0]).unwrap();
        let logs = world.logs();
        assert_eq!(logs.len(), 1, "{callback}");
        assert!(logs[0].text.contains("invalid token_id"), "{}", logs[0]);
    }
}

/// `proxy_on_foreign_function` asks for a context and panics if it does not get it. Envoy calls it
/// for foreign functions that call back, and the filter calls none.
#[test]
fn a_foreign_function_needs_its_context() {
    let (mut world, root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    let context = worker.root_context(root).unwrap();
    raw(worker, Callback::ForeignFunction, &[context, 1, 0]).unwrap();
    assert_eq!(worker.calls().of(HostCall::CallForeignFunction), 0);
    worker.fault(Fault::new(
        HostCall::SetEffectiveContext,
        Status::BAD_ARGUMENT,
    ));
    raw(worker, Callback::ForeignFunction, &[context, 1, 0]).unwrap_err();
    assert_dead_of(&mut world, "dispatcher.rs");
}
