//! The SDK panics over a context that it does not know, and over one that it knows already. That a
//! host names no such context is the host's duty.

use std::{collections::BTreeSet, time::Duration};

use portcullis_host::{
    Callback, Disconnect, FailurePolicy, Invocation, Plugin, RequestScript, ResponseScript,
    Settings, Side, StreamResult, StreamState, TraceEvent, headers,
};

use crate::{POLICY, assert_dead_of, get, raw, send, world};

const UNKNOWN: u32 = 4711;

#[test]
fn an_unknown_context_kills_the_vm() {
    for callback in [
        Callback::RequestHeaders,
        Callback::RequestBody,
        Callback::RequestTrailers,
        Callback::ResponseHeaders,
        Callback::Delete,
        Callback::VmStart,
        Callback::Configure,
    ] {
        let (mut world, _) = world(Settings::default());
        let died = raw(world.worker(0).unwrap(), callback, &[UNKNOWN, 1, 1]).unwrap_err();
        assert_eq!(died.callback, callback);
        assert_dead_of(&mut world, "dispatcher.rs");
    }
    for create in [[UNKNOWN, UNKNOWN + 1], [1, 0]] {
        let (mut world, _) = world(Settings::default());
        raw(world.worker(0).unwrap(), Callback::ContextCreate, &create).unwrap_err();
        assert_dead_of(&mut world, "dispatcher.rs");
    }
}

/// A dead VM refuses, and the next one goes on where it stopped: what was spent is spent.
#[test]
fn a_vm_that_died_lets_nothing_pass_and_forgets_no_limit() {
    let backoff = Duration::from_secs(1);
    let settings = Settings {
        failure: FailurePolicy::Reload { backoff },
        ..Settings::default()
    };
    let (mut world, root) = world(settings);
    let worker = world.worker(0).unwrap();
    let remaining = |result: &StreamResult| {
        let response = result.response.as_ref().unwrap();
        let header = response.header("x-ratelimit-remaining").unwrap();
        header.parse::<u32>().unwrap()
    };
    let before = remaining(&send(worker, root, &get()));
    let held = RequestScript::new("POST", "/write")
        .header("authorization", "Bearer secret")
        .header("content-type", "application/json")
        .disconnect(Disconnect::AfterHeaders);
    let open = worker.open(root, &held.properties).unwrap();
    worker
        .headers(open, Side::Request, held.headers, false)
        .unwrap();

    raw(worker, Callback::Delete, &[UNKNOWN]).unwrap_err();
    let refused = send(worker, root, &get());
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.forwarded, None);
    worker
        .data(open, Side::Request, b"{}".to_vec(), true)
        .unwrap();
    let refused = worker.result(open).unwrap();
    assert_eq!((refused.status(), refused.forwarded), (503, None));

    world.advance(backoff);
    let worker = world.worker(0).unwrap();
    let after = send(worker, root, &get());
    assert_eq!(after.status(), 200);
    assert!(
        remaining(&after) <= before,
        "{} after {before}",
        remaining(&after)
    );
    assert_eq!(worker.reloads(), 1);
}

/// Whatever clients and upstreams do, our host creates a context once, before all else, and deletes
/// it last.
#[test]
fn our_host_names_only_contexts_that_it_made() {
    let (mut world, mut root) = world(Settings::default());
    let worker = world.worker(0).unwrap();
    let write = RequestScript::new("POST", "/write")
        .header("authorization", "Bearer secret")
        .header("content-type", "application/json")
        .piece(r#"{"a":"b"}"#)
        .trailers(headers([("a", "b")]));
    let wrong = get().header("authorization", "Bearer wrong");
    let mut open = Vec::new();
    for round in 0..60 {
        for request in [&get(), &wrong, &write] {
            let id = match round % 5 {
                0 => worker.open(root, &request.properties).unwrap(),
                1 => {
                    let gone = request.clone().disconnect(Disconnect::AfterPieces(1));
                    worker.send(root, &gone).unwrap()
                }
                2 => {
                    let id = worker.open(root, &request.properties).unwrap();
                    let headers = request.headers.clone();
                    worker.headers(id, Side::Request, headers, false).unwrap();
                    id
                }
                _ => worker.send(root, request).unwrap(),
            };
            open.push(id);
        }
        if round % 7 == 0 {
            root = worker.configure(&Plugin::new("gate", POLICY)).unwrap();
        }
        for (n, id) in open.drain(..open.len() / 2).enumerate() {
            let forwarded = worker.state(id) == Ok(StreamState::Forwarded);
            match n % 4 {
                0 if forwarded => worker.respond(id, &ResponseScript::default()).unwrap(),
                1 if forwarded => worker.upstream_reset(id).unwrap(),
                2 => worker.time_out(id).unwrap(),
                _ => worker.disconnect(id).unwrap(),
            }
            worker.forget(id).unwrap();
        }
    }
    let mut alive = BTreeSet::new();
    let mut ever = BTreeSet::new();
    for TraceEvent { invocation, .. } in worker.trace() {
        let Invocation { callback, .. } = *invocation;
        let context = invocation.context();
        let kept = match callback {
            Callback::Initialize | Callback::Start => true,
            Callback::ContextCreate => alive.insert(context) && ever.insert(context),
            Callback::Delete => alive.remove(&context),
            _ => alive.contains(&context),
        };
        assert!(kept, "{callback} of {context}");
    }
    assert!(ever.len() > 150, "{} contexts", ever.len());
    assert_eq!(alive.len(), worker.contexts());
    assert_eq!(worker.traps(), []);
}
