//! Forced statuses and counted calls.

use portcullis_host::{
    BufferType, Callback as C, Fault, HostCall, Invocation, MapType as M, RequestScript,
    ResponseScript, Settings, Status, StreamResult, Worker,
};

use crate::{
    guest::{Guest, Number, Op, reply},
    logs, world, world_with,
};

/// One request through a guest that sets shared data and reads headers and bodies.
fn request(arrange: impl FnOnce(&mut Worker)) -> (Vec<String>, StreamResult) {
    let get = |map| Op::GetHeader(map, "x-none");
    let guest = Guest::new()
        .on(
            C::RequestHeaders,
            [
                Op::SetShared("k", "v", Number::Is(0)),
                Op::SetShared("k", "w", Number::Is(0)),
                get(M::RequestHeaders),
                Op::GetBody(BufferType::HttpRequestBody, 0, 1),
            ],
        )
        .on(
            C::ResponseHeaders,
            [
                Op::SetShared("k", "x", Number::Is(0)),
                Op::AddHeader(M::ResponseHeaders, "a", "b"),
            ],
        );
    let (mut world, root) = world(&guest);
    let worker = world.worker(0).unwrap();
    arrange(worker);
    let script = RequestScript::new("GET", "/");
    let (_, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    let mut lines = logs(&world);
    lines.retain(|line| !line.starts_with("on_"));
    (lines, result)
}

#[test]
fn a_fault_hits_what_it_names_and_nothing_else() {
    let sets = |status: [u32; 3]| {
        vec![
            format!("set_shared_data {}", status[0]),
            format!("set_shared_data {}", status[1]),
            "get_header_map_value 1 ".to_owned(),
            "get_buffer_bytes 0 ".to_owned(),
            format!("set_shared_data {}", status[2]),
            "add_header_map_value 0".to_owned(),
        ]
    };
    let fault = Fault::new(HostCall::SetSharedData, Status::CAS_MISMATCH);
    assert_eq!(request(|_| {}).0, sets([0, 0, 0]));
    assert_eq!(
        request(|worker| worker.fault(fault.clone())).0,
        sets([8, 8, 8])
    );
    assert_eq!(
        request(|worker| worker.fault(fault.clone().nth(2))).0,
        sets([0, 8, 0])
    );
    let during = fault.clone().during(C::ResponseHeaders);
    assert_eq!(request(|worker| worker.fault(during)).0, sets([0, 0, 8]));
    assert_eq!(
        request(|worker| worker.fault(fault.clone().in_context(3))).0,
        sets([0, 0, 0])
    );
    assert_eq!(
        request(|worker| worker.fault(fault.in_context(2))).0,
        sets([8, 8, 8])
    );

    let map = Fault::new(HostCall::GetHeaderMapValue, Status::BAD_ARGUMENT);
    let other = request(|worker| worker.fault(map.clone().on_map(M::ResponseHeaders))).0;
    assert_eq!(other[2], "get_header_map_value 1 ");
    let same = request(|worker| worker.fault(map.on_map(M::RequestHeaders))).0;
    assert_eq!(same[2], "get_header_map_value 2 ");
    let buffer = Fault::new(HostCall::GetBufferBytes, Status(77));
    let lines = request(|worker| worker.fault(buffer.on_buffer(BufferType::HttpRequestBody))).0;
    assert_eq!(lines[3], "get_buffer_bytes 77 ");
}

#[test]
fn a_forced_status_leaves_no_effect() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [reply(403, "no"), Op::SetShared("k", "v", Number::Is(0))],
    );
    let (mut world, root) = world(&guest);
    let worker = world.worker(0).unwrap();
    for call in [HostCall::SendLocalResponse, HostCall::SetSharedData] {
        worker.fault(Fault::new(call, Status::INTERNAL_FAILURE));
    }
    let script = RequestScript::new("GET", "/");
    let (_, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    assert_eq!(result.status(), 200);
    worker.clear_faults();
    let (_, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    assert_eq!(result.status(), 403);
    assert_eq!(world.shared_data().len(b"portcullis"), 1);
}

#[test]
fn a_function_decides_on_every_call() {
    let (lines, _) = request(|worker| {
        worker.decide(|site| {
            (site.call == HostCall::SetSharedData && site.nth % 2 == 0).then_some(Status(5))
        });
    });
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("set_"))
            .collect::<Vec<_>>(),
        [
            "set_shared_data 0",
            "set_shared_data 5",
            "set_shared_data 0"
        ]
    );
}

#[test]
fn calls_are_counted_by_callback() {
    let (_, result) = request(|_| {});
    assert_eq!(result.calls.of(HostCall::SetSharedData), 3);
    assert_eq!(result.calls.returning_data_during(C::RequestHeaders), 2);
    assert_eq!(result.calls.returning_data_during(C::ResponseHeaders), 0);
    let during: Vec<_> = result
        .calls
        .during(C::ResponseHeaders)
        .filter(|(c, _)| *c != HostCall::Log)
        .collect();
    assert_eq!(
        during,
        [
            (HostCall::AddHeaderMapValue, 1),
            (HostCall::SetSharedData, 1)
        ]
    );
}

#[test]
fn only_listed_capabilities_answer() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [
            Op::SetShared("k", "v", Number::Is(0)),
            Op::GetShared("k"),
            Op::Random(4),
        ],
    );
    let capabilities = Some(vec![HostCall::Log, HostCall::SetSharedData]);
    let (mut world, root) = world_with(
        Settings {
            capabilities,
            ..Settings::default()
        },
        &guest,
    );
    let worker = world.worker(0).unwrap();
    worker
        .request(
            root,
            &RequestScript::new("GET", "/"),
            &ResponseScript::default(),
        )
        .unwrap();
    let lines = logs(&world);
    assert_eq!(lines[2..4], ["set_shared_data 0", "get_shared_data 10 "]);
    assert!(lines[4].starts_with("random_get 0 "), "{lines:?}");
}

#[test]
fn what_crashes_envoy_is_noted() {
    let guest = Guest::new()
        .on(C::RequestHeaders, [Op::Continue(0)])
        .on(C::Log, [reply(403, "no")]);
    let (mut world, root) = world(&guest);
    let worker = world.worker(0).unwrap();
    let script = RequestScript::new("GET", "/");
    let (_, result) = worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    assert_eq!(result.status(), 200);
    assert_eq!(
        result.violations,
        [
            "it resumed a Request that was not paused: undefined in Envoy",
            "it replied in proxy_on_log: that crashes Envoy",
        ]
    );
}

#[test]
fn callbacks_can_be_called_in_any_order() {
    let (mut world, root) = world(&Guest::new().on(C::RequestBody, [Op::Nth(3, vec![Op::Trap])]));
    let worker = world.worker(0).unwrap();
    let context = worker.root_context(root).unwrap();
    let mut call = |callback, arguments: &[u32]| {
        worker
            .call_raw(Invocation::new(callback, arguments))
            .map_err(|trap| trap.callback)
    };
    assert_eq!(call(C::ContextCreate, &[9, context]), Ok(Some(0)));
    assert_eq!(call(C::ResponseHeaders, &[9, 3, 1]), Ok(Some(0)));
    assert_eq!(call(C::RequestBody, &[9, 5, 0]), Ok(Some(0)));
    assert_eq!(call(C::Delete, &[9]), Ok(Some(0)));
    assert_eq!(call(C::RequestBody, &[9, 5, 0]), Ok(Some(0)));
    assert_eq!(call(C::Start, &[]), Ok(None));
    assert_eq!(call(C::RequestBody, &[9, 5, 0]), Err(C::RequestBody));
    assert_eq!(call(C::Tick, &[context]), Err(C::RequestBody));
    let lines = logs(&world);
    assert_eq!(
        lines[1..3],
        ["on_response_headers 9 3 1", "on_request_body 9 5 0"]
    );
}
