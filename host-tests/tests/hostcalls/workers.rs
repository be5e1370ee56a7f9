//! Several plugins in a VM, several VMs in a world, and their common time.

use std::time::Duration;

use portcullis_host::{
    Callback as C, Clock, Disconnect, Entropy, Event, FailurePolicy, HostError, MapType as M,
    Origin, Plugin, RequestScript, ResponseScript, Settings, Side, StreamState, Verdict,
    VirtualClock, World, headers,
};

use crate::{
    guest::{Guest, Number, Op, PAUSE, reply},
    logs, module, pass, said, world, world_with,
};

#[test]
fn a_stale_write_of_another_worker_is_refused() {
    let guest = Guest::new().on(C::RequestHeaders, [Op::GetShared("k")]).on(
        C::ResponseHeaders,
        [Op::SetShared("k", "mine", Number::LastCas)],
    );
    let mut world = World::new(Settings::default());
    for _ in 0..2 {
        world.add_worker(&module(&guest)).unwrap();
    }
    world
        .shared_data()
        .set(b"portcullis", b"k", b"old", 0)
        .unwrap();
    let roots = world.configure(&Plugin::new("root", "")).unwrap();
    world.clear_logs();
    // Both read, then both write: the second one has lost.
    let script = RequestScript::new("GET", "/");
    let ids: Vec<_> = (0..2)
        .map(|n| world.worker(n).unwrap().send(roots[n], &script).unwrap())
        .collect();
    for (n, id) in ids.into_iter().enumerate() {
        world
            .worker(n)
            .unwrap()
            .respond(id, &ResponseScript::default())
            .unwrap();
    }
    assert_eq!(
        said(&world),
        [
            "get_shared_data 0 old",
            "get_shared_data 0 old",
            "set_shared_data 0",
            "set_shared_data 8"
        ]
    );
    assert_eq!(
        world.shared_data().dump(b"portcullis"),
        [(b"k".to_vec(), b"mine".to_vec())]
    );
}

#[test]
fn several_plugins_live_in_one_vm() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [
            Op::GetProperty("plugin_name"),
            Op::GetProperty("plugin_root_id"),
        ],
    );
    let (mut world, first) = world(&guest);
    let plugin = Plugin {
        name: b"other".to_vec(),
        ..Plugin::new("second", "")
    };
    let second = world.worker(0).unwrap().configure(&plugin).unwrap();
    world.clear_logs();
    pass(&mut world, 0, first);
    pass(&mut world, 0, second);
    assert_eq!(
        said(&world),
        [
            "get_property 0 root",
            "get_property 0 root",
            "get_property 0 other",
            "get_property 0 second"
        ]
    );
    assert_eq!(world.worker(0).unwrap().root(b"other"), Some(second));
}

#[test]
fn a_new_configuration_is_a_new_root_in_the_same_vm() {
    let guest = Guest::new()
        .on(C::RequestHeaders, [Op::Nth(1, vec![Op::Return(PAUSE)])])
        .on(
            C::Configure,
            [Op::GetBody(
                portcullis_host::BufferType::PluginConfiguration,
                0,
                9,
            )],
        );
    let (mut world, old) = world(&guest);
    let worker = world.worker(0).unwrap();
    let held = worker.send(old, &RequestScript::new("GET", "/")).unwrap();
    assert_eq!(worker.state(held).unwrap(), StreamState::Held);
    let new = worker.configure(&Plugin::new("root", "new")).unwrap();
    assert_eq!(worker.root(b"root"), Some(new));
    let lines = logs(&world);
    assert_eq!(
        lines[2..],
        [
            "on_context_create 3 0",
            "on_vm_start 3 0",
            "on_configure 3 3",
            "get_buffer_bytes 0 new"
        ]
    );
    // New streams belong to the new root; the old one ends with its last stream.
    assert_eq!(pass(&mut world, 0, new).status(), 200);
    assert!(logs(&world).contains(&"on_context_create 4 3".to_owned()));
    world.clear_logs();
    let worker = world.worker(0).unwrap();
    worker.disconnect(held).unwrap();
    assert_eq!(worker.open(old, &[]), Err(HostError::NoSuchRoot));
    assert_eq!(
        logs(&world),
        [
            "on_log 2",
            "on_done 2",
            "on_delete 2",
            "on_done 1",
            "on_delete 1"
        ]
    );
}

#[test]
fn a_root_may_take_its_time_to_end() {
    let guest = Guest::new()
        .on(C::Done, [Op::Return(0)])
        .on(C::Tick, [Op::Done, Op::Tick(0)])
        .on(C::Configure, [Op::Nth(1, vec![Op::Tick(100)])]);
    let (mut world, _) = world(&guest);
    world
        .worker(0)
        .unwrap()
        .configure(&Plugin::new("root", "new"))
        .unwrap();
    assert_eq!(logs(&world).last().unwrap(), "on_done 1");
    world.clear_logs();
    world.advance(Duration::from_secs(1));
    assert_eq!(
        logs(&world),
        [
            "on_tick 1",
            "done 0",
            "set_tick_period_milliseconds 0",
            "on_delete 1"
        ]
    );
}

#[test]
fn a_refused_update_reaches_no_worker() {
    let guest = Guest::new().on(C::Configure, [Op::IfLast(3, vec![Op::Return(0)])]);
    let mut world = World::new(Settings::default());
    for _ in 0..2 {
        world.add_worker(&module(&guest)).unwrap();
    }
    let roots = world.configure(&Plugin::new("root", "ok")).unwrap();
    world.clear_logs();
    world.configure(&Plugin::new("root", "bad")).unwrap_err();
    assert!(
        world
            .logs()
            .iter()
            .all(|line| line.worker == portcullis_host::CANARY)
    );
    assert_eq!(world.logs().len(), 3);
    for (n, root) in roots.into_iter().enumerate() {
        assert_eq!(world.worker(n).unwrap().root(b"root"), Some(root));
        assert_eq!(pass(&mut world, n, root).status(), 200);
    }
}

#[test]
fn ticks_come_in_their_order_and_are_wound_up_when_they_are_over() {
    let guest = Guest::new()
        .on(
            C::Configure,
            [
                Op::IfLast(1, vec![Op::Tick(30)]),
                Op::IfLast(2, vec![Op::Tick(50)]),
            ],
        )
        .on(C::Tick, [Op::Time]);
    let mut world = World::new(Settings::default());
    for configuration in ["a", "bb"] {
        world.add_worker(&module(&guest)).unwrap();
        let n = configuration.len() - 1;
        world
            .worker(n)
            .unwrap()
            .configure(&Plugin::new("root", configuration))
            .unwrap();
    }
    world.clear_logs();
    world.advance(Duration::from_millis(100));
    let at = |ms: u64| {
        format!(
            "get_current_time_nanoseconds 0 {}",
            VirtualClock::START_WALL + ms * 1_000_000
        )
    };
    let lines: Vec<(u32, String)> = world
        .logs()
        .into_iter()
        .map(|line| (line.worker, line.text))
        .collect();
    let ticks: Vec<_> = lines
        .into_iter()
        .filter(|(_, text)| text.starts_with("get_"))
        .collect();
    assert_eq!(
        ticks,
        [
            (0, at(30)),
            (1, at(50)),
            (0, at(60)),
            (0, at(90)),
            (1, at(100))
        ]
    );
    assert_eq!(world.clock().wall(), VirtualClock::START_WALL + 100_000_000);
}

#[test]
fn both_clocks_of_the_guest_are_the_worlds() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [Op::Time, Op::WasiTime(0), Op::WasiTime(1), Op::WasiTime(2)],
    );
    let (mut world, root) = world(&guest);
    world.clock().set_wall(5);
    world.clock().set_monotonic(6);
    world.advance(Duration::from_nanos(10));
    pass(&mut world, 0, root);
    assert_eq!(
        said(&world),
        [
            "get_current_time_nanoseconds 0 15",
            "clock_time_get 0 15",
            "clock_time_get 0 16",
            "clock_time_get 58 0",
        ]
    );
}

#[test]
fn random_bytes_depend_on_the_seed_and_the_worker_alone() {
    let bytes = |seed| {
        let guest = Guest::new().on(C::Configure, [Op::Random(8)]);
        let entropy = Entropy::Seeded(seed);
        let mut world = World::new(Settings {
            entropy,
            ..Settings::default()
        });
        for n in 0..2 {
            world.add_worker(&module(&guest)).unwrap();
            world
                .worker(n)
                .unwrap()
                .configure(&Plugin::new("root", ""))
                .unwrap();
        }
        said(&world)
    };
    let one = bytes(1);
    assert!(one[0].starts_with("random_get 0 "));
    assert_ne!(one[0], one[1]);
    assert_eq!(one, bytes(1));
    assert_ne!(one, bytes(2));
}

#[test]
fn one_worker_wakes_another_through_a_queue() {
    let guest = Guest::new()
        .on(C::Configure, [Op::IfLast(1, vec![Op::RegisterQueue("q")])])
        .on(C::QueueReady, [Op::Dequeue(Number::LastToken)])
        .on(
            C::RequestHeaders,
            [
                Op::ResolveQueue("portcullis", "q"),
                Op::Enqueue(Number::LastToken, "hello"),
            ],
        );
    let mut world = World::new(Settings::default());
    let mut roots = Vec::new();
    for configuration in ["a", "bb"] {
        let n = world.add_worker(&module(&guest)).unwrap();
        roots.push(
            world
                .worker(n)
                .unwrap()
                .configure(&Plugin::new("root", configuration))
                .unwrap(),
        );
    }
    pass(&mut world, 1, roots[1]);
    world.clear_logs();
    world.settle();
    let lines: Vec<_> = world
        .logs()
        .into_iter()
        .map(|line| (line.worker, line.text))
        .collect();
    assert_eq!(
        lines,
        [
            (0, "on_queue_ready 1 1".to_owned()),
            (0, "dequeue_shared_queue 0 hello".to_owned())
        ]
    );
}

#[test]
fn clients_go_away_at_every_point() {
    let guest = Guest::new().on(C::RequestBody, [Op::IfLast(0, vec![Op::Return(PAUSE)])]);
    let script = RequestScript::new("POST", "/").piece("one").piece("two");
    for (point, bodies) in [
        (Disconnect::AfterHeaders, 0),
        (Disconnect::AfterPieces(1), 1),
        (Disconnect::AfterPieces(2), 2),
        (Disconnect::AfterRequest, 3),
    ] {
        let (mut world, root) = world(&guest);
        let worker = world.worker(0).unwrap();
        let id = worker
            .send(root, &script.clone().disconnect(point))
            .unwrap();
        let result = worker.result(id).unwrap();
        assert_eq!(result.state, StreamState::Disconnected);
        let forwarded = result.forwarded.as_ref().unwrap();
        assert!(forwarded.reset, "the upstream is told");
        assert_eq!(
            worker.respond(id, &ResponseScript::default()),
            Err(HostError::AlreadyAnswered)
        );
        assert_eq!(worker.contexts(), 1);
        worker.forget(id).unwrap();
        assert_eq!(worker.state(id), Err(HostError::NoSuchStream));
        let lines = logs(&world);
        let count = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!(count("on_request_body"), bodies);
        assert_eq!(
            (count("on_log"), count("on_done"), count("on_delete")),
            (1, 1, 1)
        );
    }
}

#[test]
fn an_upstream_that_breaks_off_is_a_503_that_the_filter_sees() {
    let guest = Guest::new().on(
        C::ResponseHeaders,
        [Op::AddHeader(M::ResponseHeaders, "x-mark", "1")],
    );
    let (mut world, root) = world(&guest);
    let worker = world.worker(0).unwrap();
    let id = worker.send(root, &RequestScript::new("GET", "/")).unwrap();
    worker.upstream_reset(id).unwrap();
    let result = worker.result(id).unwrap();
    let Verdict::Local { response, origin } = result.verdict() else {
        panic!("{result:?}")
    };
    assert_eq!(
        origin,
        Origin::Host("upstream_reset_before_response_started")
    );
    assert_eq!(
        (response.status(), response.header("x-mark")),
        (503, Some("1"))
    );
    assert!(!result.forwarded.unwrap().reset);
}

#[test]
fn a_held_stream_is_a_state_of_its_own_and_times_out() {
    let guest = Guest::new().on(C::RequestHeaders, [Op::Return(PAUSE)]);
    let (mut world, root) = world(&guest);
    let result = pass(&mut world, 0, root);
    assert_eq!(
        (result.state, result.verdict()),
        (StreamState::Held, Verdict::Held)
    );
    let worker = world.worker(0).unwrap();
    let id = worker.streams().next().unwrap();
    worker.time_out(id).unwrap();
    let result = worker.result(id).unwrap();
    assert_eq!(
        (result.status(), result.origin),
        (504, Some(Origin::Host("stream_idle_timeout")))
    );
    let half = worker.open(root, &[]).unwrap();
    let request = RequestScript::new("POST", "/");
    worker
        .headers(half, Side::Request, request.headers, false)
        .unwrap();
    assert_eq!(worker.state(half).unwrap(), StreamState::Receiving);
    worker.time_out(half).unwrap();
    assert_eq!(worker.result(half).unwrap().status(), 408);
}

#[test]
fn streams_of_a_dead_vm_hang_while_new_ones_get_a_new_vm() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [
            Op::Nth(1, vec![Op::Return(PAUSE)]),
            Op::Nth(2, vec![Op::Trap]),
        ],
    );
    let backoff = Duration::from_secs(1);
    let failure = FailurePolicy::Reload { backoff };
    let (mut world, root) = world_with(
        Settings {
            failure,
            ..Settings::default()
        },
        &guest,
    );
    let held = {
        let worker = world.worker(0).unwrap();
        worker.send(root, &RequestScript::new("GET", "/")).unwrap()
    };
    assert_eq!(pass(&mut world, 0, root).status(), 503);
    // Too soon after the start for another.
    assert_eq!(pass(&mut world, 0, root).status(), 503);
    world.advance(backoff);
    assert_eq!(pass(&mut world, 0, root).state, StreamState::Held);
    let worker = world.worker(0).unwrap();
    assert_eq!((worker.reloads(), worker.traps().len()), (1, 1));
    assert_eq!(worker.state(held).unwrap(), StreamState::Held);
    assert!(worker.result(held).unwrap().trap.is_some());
    worker.disconnect(held).unwrap();
    assert_eq!(worker.state(held).unwrap(), StreamState::Disconnected);
    worker.forget(held).unwrap();
}

#[test]
fn a_response_that_was_under_way_in_a_dead_vm_is_a_503() {
    let guest = Guest::new().on(C::RequestHeaders, [Op::Nth(2, vec![Op::Trap])]);
    let (mut world, root) = world(&guest);
    let worker = world.worker(0).unwrap();
    let script = RequestScript::new("GET", "/");
    let first = worker.send(root, &script).unwrap();
    worker.send(root, &script).unwrap();
    worker.respond(first, &ResponseScript::default()).unwrap();
    let result = worker.result(first).unwrap();
    assert_eq!(
        (result.status(), result.origin),
        (503, Some(Origin::Host("wasm_fail_stream")))
    );
}

#[test]
fn the_end_may_come_with_the_last_piece() {
    let (mut world, root) = world(&Guest::new());
    let mut script = RequestScript::new("POST", "/").piece("one").piece("two");
    script.separate_end = false;
    let worker = world.worker(0).unwrap();
    worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    assert_eq!(
        logs(&world)[2..4],
        ["on_request_body 2 3 0", "on_request_body 2 3 1"]
    );
}

#[test]
fn pieces_leave_as_they_arrive() {
    let (mut world, root) = world(&Guest::new());
    let worker = world.worker(0).unwrap();
    let id = worker.open(root, &[]).unwrap();
    let request = RequestScript::new("POST", "/");
    worker
        .headers(id, Side::Request, request.headers.clone(), false)
        .unwrap();
    assert_eq!(
        worker.take_events(id).unwrap(),
        [Event::Headers {
            side: Side::Request,
            headers: request.headers,
            end: false
        }]
    );
    worker
        .data(id, Side::Request, b"one".to_vec(), false)
        .unwrap();
    assert_eq!(
        worker.take_events(id).unwrap(),
        [Event::Data {
            side: Side::Request,
            data: b"one".to_vec(),
            end: false
        }]
    );
    // A response before the request's end ends the exchange.
    worker
        .headers(id, Side::Response, headers([(":status", "400")]), true)
        .unwrap();
    assert_eq!(
        worker.take_events(id).unwrap(),
        [
            Event::Headers {
                side: Side::Response,
                headers: headers([(":status", "400")]),
                end: true
            },
            Event::Reset {
                side: Side::Request
            },
        ]
    );
    assert_eq!(
        worker.data(id, Side::Request, b"two".to_vec(), true),
        Ok(())
    );
    assert_eq!(worker.take_events(id).unwrap(), []);
}

#[test]
fn what_comes_at_the_wrong_time_is_refused() {
    let (mut world, root) = world(&Guest::new().on(C::RequestHeaders, [Op::Return(PAUSE)]));
    let worker = world.worker(0).unwrap();
    let id = worker.open(root, &[]).unwrap();
    let request = RequestScript::new("GET", "/").headers;
    let (one, none) = (b"x".to_vec(), Vec::new());
    assert_eq!(
        worker.data(id, Side::Request, one.clone(), false),
        Err(HostError::NotForwarded)
    );
    worker
        .headers(id, Side::Request, request.clone(), true)
        .unwrap();
    assert_eq!(
        worker.headers(id, Side::Request, request, true),
        Err(HostError::RequestComplete)
    );
    assert_eq!(
        worker.data(id, Side::Request, one, true),
        Err(HostError::RequestComplete)
    );
    assert_eq!(
        worker.headers(id, Side::Response, none, true),
        Err(HostError::NotForwarded)
    );
    assert_eq!(worker.upstream_reset(id), Err(HostError::NotForwarded));
    assert!(matches!(world.worker(7), Err(HostError::NoSuchWorker)));
}

#[test]
fn a_result_tells_what_the_filter_said_of_itself() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [
            Op::SetProperty("rule", "r1"),
            Op::Log("why"),
            reply(403, "no"),
        ],
    );
    let (mut world, root) = world(&guest);
    pass(&mut world, 0, root);
    let result = pass(&mut world, 0, root);
    assert_eq!(
        (result.origin, result.details.as_slice()),
        (Some(Origin::Filter), b"detail".as_slice())
    );
    assert_eq!(result.properties[b"rule".as_slice()], b"r1");
    assert!(result.logs.iter().all(|line| line.context == 3));
    assert!(result.logs.iter().any(|line| line.text == "why"));
    let worker = world.worker(0).unwrap();
    let ids: Vec<_> = worker.streams().collect();
    assert_eq!(
        ids.into_iter()
            .map(|id| worker.context(id))
            .collect::<Vec<_>>(),
        [Ok(2), Ok(3)]
    );
}

#[test]
fn a_204_of_the_filter_has_no_body() {
    let guest = Guest::new().on(C::RequestHeaders, [reply(204, "none")]);
    let (mut world, root) = world(&guest);
    let result = pass(&mut world, 0, root);
    assert_eq!(
        (result.status(), result.state),
        (204, StreamState::Answered)
    );
    assert_eq!(result.response.unwrap().body, b"");
}

#[test]
fn attributes_are_given_with_the_stream() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [
            Op::GetProperty("source\0address"),
            Op::GetProperty("source\0port"),
            Op::GetProperty("connection_id"),
        ],
    );
    let (mut world, root) = world(&guest);
    let mut script = RequestScript::new("GET", "/").source("[::1]:80");
    script
        .properties
        .push((b"source\0port".to_vec(), 80_i64.to_le_bytes().to_vec()));
    let worker = world.worker(0).unwrap();
    worker
        .request(root, &script, &ResponseScript::default())
        .unwrap();
    let lines = said(&world);
    assert_eq!(
        lines[..2],
        ["get_property 0 [::1]:80", "get_property 0 P\0\0\0\0\0\0\0"]
    );
    assert_eq!(lines[2].len(), "get_property 0 ".len() + 8);
}
