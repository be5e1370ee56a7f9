//! `create_http_context` and `get_type` never return `None`: a root without a policy has streams, and
//! refuses them.

use portcullis_host::{
    Callback, Fault, HostCall, Origin, Plugin, RequestScript, Settings, Status, StreamResult,
    World, headers,
};

use crate::{get, raw, send, shipped, world};

fn assert_not_ready(result: &StreamResult) {
    assert_eq!(result.trap, None);
    assert_eq!(result.forwarded, None);
    assert_eq!(result.status(), 503);
    assert_eq!(result.origin, Some(Origin::Filter));
    assert_eq!(result.details, b"not_ready");
    let response = result.response.as_ref().unwrap();
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

fn requests() -> [RequestScript; 3] {
    let write = RequestScript::new("POST", "/write").piece("{}").piece("  ");
    let trailers = headers([("a", "b")]);
    [get(), write.clone(), write.trailers(trailers)]
}

#[test]
fn streams_of_a_refused_policy_are_refused() {
    let (mut world, good) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    for policy in ["", "{}", "no policy"] {
        let (root, refused) = worker.configure_regardless(&Plugin::new("other", policy));
        assert!(refused.is_some());
        for request in requests() {
            assert_not_ready(&send(worker, root, &request));
        }
        assert_eq!(send(worker, good, &get()).status(), 200);
    }
}

/// Where nothing was ever configured there is not even an engine.
#[test]
fn streams_of_a_vm_that_could_not_start_are_refused() {
    for call in [
        HostCall::ClockTimeGet,
        HostCall::RandomGet,
        HostCall::GetSharedData,
        HostCall::SetSharedData,
        HostCall::GetBufferBytes,
    ] {
        let mut world = World::new(Settings::default());
        world.add_worker(&shipped::module().unwrap()).unwrap();
        let worker = world.worker(0).unwrap();
        worker.fault(Fault::new(call, Status::INTERNAL_FAILURE));
        let plugin = Plugin::new("gate", crate::POLICY);
        let (root, refused) = worker.configure_regardless(&plugin);
        assert!(refused.is_some(), "{call}");
        for request in requests() {
            assert_not_ready(&send(worker, root, &request));
        }
        // And it takes a policy when the host has come to itself.
        worker.clear_faults();
        let root = worker.configure(&plugin).unwrap();
        assert_eq!(send(worker, root, &get()).status(), 200);
    }
}

#[test]
fn a_root_that_was_never_configured_refuses() {
    const ROOT: u32 = 900;
    const STREAM: u32 = 901;
    const PAUSE: u32 = 1;
    let mut world = World::new(Settings::default());
    world.add_worker(&shipped::module().unwrap()).unwrap();
    let worker = world.worker(0).unwrap();
    raw(worker, Callback::ContextCreate, &[ROOT, 0]).unwrap();
    raw(worker, Callback::ContextCreate, &[STREAM, ROOT]).unwrap();
    for callback in [
        Callback::RequestBody,
        Callback::RequestTrailers,
        Callback::RequestHeaders,
        Callback::RequestBody,
        Callback::RequestHeaders,
        Callback::RequestTrailers,
    ] {
        let returned = raw(worker, callback, &[STREAM, 1, 0]).unwrap();
        assert_eq!(returned, Some(PAUSE), "{callback}");
    }
    assert_eq!(worker.calls().of(HostCall::SendLocalResponse), 1);
    for callback in [
        Callback::ResponseHeaders,
        Callback::Log,
        Callback::Done,
        Callback::Delete,
    ] {
        raw(worker, callback, &[STREAM, 1, 1]).unwrap();
    }
}
