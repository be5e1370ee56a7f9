//! Callouts: scripted, answered by hand, refused.

use std::time::Duration;

use portcullis_host::{
    BufferType as B, Callback as C, CalloutReply, CalloutRequest, HostError, MapType as M,
    RequestScript, Status, StreamState, World,
};

use crate::{
    guest::{Guest, Number, Op, PAUSE, http_call},
    logs, pass, said, world,
};

#[test]
fn a_callout_is_seen_and_answered_by_hand() {
    let guest = Guest::new()
        .on(
            C::RequestHeaders,
            [Op::SaveContext, http_call("keys", 1000), Op::Return(PAUSE)],
        )
        .on(
            C::HttpCallResponse,
            [
                Op::GetHeader(M::HttpCallResponseHeaders, ":status"),
                Op::GetStatus,
                Op::Act(Number::SavedContext),
                Op::Continue(0),
            ],
        );
    let (mut world, root) = world(&guest);
    world.on("keys", CalloutReply::Silence, Duration::ZERO);
    let worker = world.worker(0).unwrap();
    let id = worker.send(root, &RequestScript::new("GET", "/")).unwrap();
    world.advance(Duration::from_millis(999));
    assert_eq!(
        world.worker(0).unwrap().state(id).unwrap(),
        StreamState::Held
    );
    let calls = world.callouts();
    assert_eq!(
        (calls.len(), calls[0].cluster.as_slice()),
        (1, b"keys".as_slice())
    );
    let CalloutRequest::Http { headers, .. } = &calls[0].request else {
        panic!()
    };
    assert_eq!(
        portcullis_host::header(headers, ":path"),
        Some(b"/".as_slice())
    );
    world.answer(calls[0].id, CalloutReply::Broken).unwrap();
    assert_eq!(
        world.worker(0).unwrap().state(id).unwrap(),
        StreamState::Forwarded
    );
    assert_eq!(
        world.answer(calls[0].id, CalloutReply::Broken),
        Err(HostError::NoSuchCallout)
    );
    let lines = logs(&world);
    assert_eq!(
        lines[3..6],
        [
            "on_http_call_response 1 4 0 0 0",
            "get_header_map_value 2 ",
            "get_status 0 11 reset"
        ]
    );
}

#[test]
fn scripted_answers_come_one_after_the_other_and_the_last_is_repeated() {
    let guest = Guest::new()
        .on(C::RequestHeaders, [http_call("keys", 5000)])
        .on(
            C::HttpCallResponse,
            [Op::GetHeader(M::HttpCallResponseHeaders, ":status")],
        );
    let (mut world, root) = world(&guest);
    world.on(
        "keys",
        CalloutReply::http(200, ""),
        Duration::from_millis(100),
    );
    world.on(
        "keys",
        CalloutReply::Refused(Status::INTERNAL_FAILURE),
        Duration::ZERO,
    );
    world.on("keys", CalloutReply::Unreachable, Duration::ZERO);
    for _ in 0..4 {
        pass(&mut world, 0, root);
    }
    world.advance(Duration::from_millis(99));
    let answers = |world: &World| {
        said(world)
            .into_iter()
            .filter(|l| l.starts_with("get_"))
            .collect::<Vec<_>>()
    };
    assert_eq!(answers(&world), ["get_header_map_value 0 503"; 2]);
    world.advance(Duration::from_millis(1));
    assert_eq!(answers(&world)[2], "get_header_map_value 0 200");
    assert!(said(&world).contains(&"http_call 10 0".to_owned()));
}

#[test]
fn a_grpc_call_is_answered() {
    let guest = Guest::new()
        .on(
            C::RequestHeaders,
            [
                Op::GrpcCall {
                    cluster: "ledger",
                    message: "ask",
                    timeout: 100,
                },
                Op::GrpcStream { cluster: "ledger" },
                Op::GrpcSend(Number::LastToken, "more"),
            ],
        )
        .on(C::GrpcReceive, [Op::GetBody(B::GrpcReceiveBuffer, 0, 100)])
        .on(C::GrpcClose, [Op::GetStatus]);
    let (mut world, root) = world(&guest);
    world.on(
        "ledger",
        CalloutReply::GrpcMessage(b"answer".to_vec()),
        Duration::ZERO,
    );
    world.on("ledger", CalloutReply::Silence, Duration::ZERO);
    pass(&mut world, 0, root);
    world.settle();
    let calls = world.callouts();
    let CalloutRequest::GrpcStream { sent, ended, .. } = &calls[0].request else {
        panic!()
    };
    assert_eq!(
        (sent.as_slice(), *ended),
        ([b"more".to_vec()].as_slice(), true)
    );
    world
        .answer(calls[0].id, CalloutReply::GrpcMessage(b"one".to_vec()))
        .unwrap();
    let close = CalloutReply::GrpcClose {
        code: 13,
        message: b"broken".to_vec(),
    };
    world.answer(calls[0].id, close).unwrap();
    let lines = logs(&world);
    assert_eq!(
        lines[lines.len() - 6..],
        [
            "on_grpc_receive 1 5 6",
            "get_buffer_bytes 0 answer",
            "on_grpc_receive 1 6 3",
            "get_buffer_bytes 0 one",
            "on_grpc_close 1 6 13",
            "get_status 0 13 broken",
        ]
    );
}

#[test]
fn a_callout_of_a_dead_vm_is_forgotten() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [http_call("keys", 0), Op::Nth(2, vec![Op::Trap])],
    );
    let (mut world, root) = world(&guest);
    world.on("keys", CalloutReply::Silence, Duration::ZERO);
    pass(&mut world, 0, root);
    assert_eq!(world.callouts().len(), 1);
    pass(&mut world, 0, root);
    assert_eq!(world.callouts(), []);
}
