//! Requests that wait, while their clients leave, the policy changes, and the host answers what it
//! likes.

use std::time::Duration;

use portcullis_corpus::Profile;
use portcullis_host::{
    Fault, HostCall, Plugin, ResponseScript, Settings, Side, Status, StreamId, StreamResult,
    StreamState,
};

use crate::demo::{ACME, Demo, ROOT, corpus, get, request};

const TICK: Duration = Duration::from_millis(1);
/// From one request to the next: 1,000 a minute.
const TURN: Duration = Duration::from_millis(60);

/// The demo as it is, its account spent.
fn spent() -> Demo {
    let plugin = Plugin::new(
        ROOT,
        corpus().documents["demo"].configuration(Profile::Headers),
    );
    let mut demo = Demo::with(Settings::default(), &plugin);
    for _ in 0..500 {
        assert_eq!(demo.send(&get(ACME)).status(), 200);
    }
    demo
}

impl Demo {
    /// Sends a request that has to wait.
    fn wait(&mut self) -> StreamId {
        let root = self.root;
        let id = self.worker().send(root, &get(ACME)).unwrap();
        assert_eq!(self.worker().state(id), Ok(Held));
        id
    }

    fn pass(&mut self, time: Duration) {
        let mut passed = Duration::ZERO;
        while passed < time {
            self.world.advance(TICK);
            passed += TICK;
        }
    }

    fn states(&mut self, ids: &[StreamId]) -> Vec<StreamState> {
        let worker = self.worker();
        ids.iter().map(|id| worker.state(*id).unwrap()).collect()
    }

    fn end(&mut self, id: StreamId) -> StreamResult {
        let worker = self.worker();
        if worker.state(id) == Ok(Forwarded) {
            worker.respond(id, &ResponseScript::default()).unwrap();
        }
        let result = worker.result(id).unwrap();
        worker.forget(id).unwrap();
        result
    }
}

use StreamState::{Forwarded, Held};

#[test]
fn they_go_in_order_and_the_timer_stops() {
    let mut demo = spent();
    let ids = [demo.wait(), demo.wait(), demo.wait()];
    assert!(demo.worker().next_tick().is_some());
    demo.pass(TURN - 3 * TICK);
    assert_eq!(demo.states(&ids), [Held, Held, Held]);
    demo.pass(10 * TICK);
    assert_eq!(demo.states(&ids), [Forwarded, Held, Held]);
    demo.pass(TURN);
    assert_eq!(demo.states(&ids), [Forwarded, Forwarded, Held]);
    demo.pass(TURN);
    assert_eq!(demo.states(&ids), [Forwarded, Forwarded, Forwarded]);
    demo.pass(10 * TICK);
    assert_eq!(demo.worker().next_tick(), None);
    for id in ids {
        let result = demo.end(id);
        assert_eq!(result.status(), 200);
        assert_eq!(result.violations, [""; 0]);
        let response = result.response.unwrap();
        assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
    }
}

#[test]
fn who_leaves_makes_room() {
    let mut demo = spent();
    let ids = [demo.wait(), demo.wait(), demo.wait()];
    demo.worker().disconnect(ids[0]).unwrap();
    demo.worker().forget(ids[0]).unwrap();
    demo.pass(TURN + 8 * TICK);
    assert_eq!(demo.states(&ids[1..]), [Forwarded, Held]);
    // The last place came back: the next one gets it.
    let next = demo.wait();
    demo.pass(TURN);
    assert_eq!(demo.states(&[ids[2], next]), [Forwarded, Held]);
    demo.pass(TURN);
    assert_eq!(demo.states(&[next]), [Forwarded]);
}

#[test]
fn a_new_policy_lets_go_who_waited_under_the_old_one() {
    let mut demo = spent();
    let waiting = demo.wait();
    let text = br#"{"version": 1, "apis": {"a": {"hosts": ["a.example"], "tiers": {"t": {"rate": "1/s"}}, "keys": [], "routes": {"r": {"match": "GET /"}}}}}"#;
    let root = demo.worker().configure(&Plugin::new(ROOT, text)).unwrap();
    assert_ne!(root, demo.root);
    demo.pass(TURN + 8 * TICK);
    let result = demo.end(waiting);
    assert_eq!(result.status(), 200);
    assert!(result.forwarded.is_some());
}

#[test]
fn an_answer_of_the_hosts_has_rate_headers_too() {
    let mut demo = spent();
    let waiting = demo.wait();
    demo.worker().time_out(waiting).unwrap();
    let result = demo.end(waiting);
    assert_eq!(result.forwarded, None);
    let response = result.response.unwrap();
    assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
    demo.pass(2 * TURN);
    assert_eq!(demo.worker().traps(), []);
}

#[test]
fn a_held_body_has_a_bound() {
    let plugin = Plugin::new(
        ROOT,
        corpus().documents["queue"].configuration(Profile::Headers),
    );
    for (size, expected) in [(1 << 20, 200), ((1 << 20) + 1, 429)] {
        let settings = Settings {
            buffer_limit: 2 << 20,
            ..Settings::default()
        };
        let mut demo = Demo::with(settings, &plugin);
        let key = &corpus().keys["qu_acme"];
        let put = |demo: &mut Demo| {
            let mut put = request("PUT", "/v1/a", key);
            put.headers[0].1 = b"api.example".to_vec();
            let root = demo.root;
            let worker = demo.worker();
            let id = worker.open(root, &put.properties).unwrap();
            worker
                .headers(id, Side::Request, put.headers, false)
                .unwrap();
            id
        };
        let ids = [put(&mut demo), put(&mut demo), put(&mut demo)];
        let id = ids[2];
        for _ in 0..16 {
            demo.worker()
                .data(id, Side::Request, vec![b'x'; 1 << 16], false)
                .unwrap();
        }
        demo.worker()
            .data(id, Side::Request, vec![b'x'; size - (1 << 20)], false)
            .unwrap();
        demo.pass(4 * TURN);
        if expected == 200 {
            demo.worker()
                .data(id, Side::Request, Vec::new(), true)
                .unwrap();
        }
        let result = demo.end(id);
        assert_eq!(result.status(), expected, "{size}");
        let passed = result.forwarded.map_or(0, |message| message.body.len());
        assert_eq!(passed, if expected == 200 { size } else { 0 });
    }
}

/// Whatever the host says when a request is to be held or let go: it goes, is refused or is cut off.
#[test]
fn whatever_a_call_answers() {
    for status in crate::statuses::all() {
        for call in [
            HostCall::SetTickPeriod,
            HostCall::SetEffectiveContext,
            HostCall::ContinueStream,
            HostCall::SetSharedData,
            HostCall::GetSharedData,
            HostCall::ClockTimeGet,
        ] {
            let mut demo = spent();
            let root = demo.root;
            demo.worker().fault(Fault::new(call, status));
            let id = demo.worker().send(root, &get(ACME)).unwrap();
            demo.pass(2 * TURN);
            demo.worker().clear_faults();
            demo.pass(3 * TURN);
            assert_eq!(demo.worker().traps(), [], "{call:?} {status:?}");
            let state = demo.worker().state(id).unwrap();
            let forged = status == Status::OK;
            // A host that says it has let go and hasn't, or does not know its own stream, keeps it.
            let kept = call == HostCall::SetEffectiveContext
                || forged && call == HostCall::ContinueStream
                || forged && call == HostCall::SetTickPeriod;
            assert!(state != Held || kept, "{call:?} {status:?}");
            if state == StreamState::Answered {
                assert!(demo.worker().result(id).unwrap().status() >= 400);
            }
            demo.worker().forget(id).unwrap();
            // And the next one is served as ever.
            let next = demo.worker().send(root, &get(ACME)).unwrap();
            demo.pass(3 * TURN);
            if !kept {
                assert_eq!(
                    demo.worker().state(next),
                    Ok(Forwarded),
                    "{call:?} {status:?}"
                );
            }
        }
    }
}
