//! What a guest may use, and what becomes of it when it wants more.

use std::time::Duration;

use portcullis_host::{
    Callback as C, Engine, FailurePolicy, Metering, Plugin, RequestScript, ResponseScript,
    Settings, StreamResult, TrapKind, World,
};

use crate::{
    guest::{Guest, Op},
    module, world_with,
};

fn request(settings: Settings, guest: &Guest) -> (World, StreamResult) {
    let settings = Settings {
        failure: FailurePolicy::Closed,
        ..settings
    };
    let (mut world, root) = world_with(settings, guest);
    let worker = world.worker(0).unwrap();
    let request = RequestScript::new("GET", "/");
    let (_, result) = worker
        .request(root, &request, &ResponseScript::default())
        .unwrap();
    (world, result)
}

fn kind(result: &StreamResult) -> TrapKind {
    result.trap.clone().unwrap().kind
}

#[test]
fn a_loop_without_end_is_cut_off() {
    let settings = Settings {
        callback_deadline: Duration::from_millis(100),
        ..Settings::default()
    };
    let guest = Guest::new().on(C::RequestHeaders, [Op::Loop]);
    let (mut world, result) = request(settings, &guest);
    assert_eq!(kind(&result), TrapKind::Deadline);
    assert_eq!(result.status(), 503);
    let text = world.worker(0).unwrap().traps()[0].to_string();
    assert_eq!(
        text,
        "the VM died in proxy_on_request_headers of context 2: it ran longer than the settings allow"
    );
}

#[test]
fn memory_is_limited() {
    let limit = 8 << 20;
    let settings = Settings {
        memory_limit: limit,
        ..Settings::default()
    };
    let guest = Guest::new().on(C::RequestHeaders, [Op::Grow(32)]);
    let (mut world, result) = request(settings.clone(), &guest);
    assert_eq!(result.status(), 200);
    assert_eq!(world.worker(0).unwrap().memory(), (64 + 32) << 16);
    let (_, result) = request(
        settings,
        &Guest::new().on(C::RequestHeaders, [Op::Grow(100)]),
    );
    assert_eq!(
        kind(&result),
        TrapKind::Memory {
            wanted: (64 + 100) << 16,
            limit
        }
    );
    let small = Settings {
        memory_limit: 1 << 20,
        ..Settings::default()
    };
    let error = World::new(small)
        .add_worker(&module(&Guest::new()))
        .unwrap_err();
    assert!(error.to_string().contains("bytes of memory"), "{error}");
}

#[test]
fn recursion_is_limited() {
    let (_, result) = request(
        Settings::default(),
        &Guest::new().on(C::RequestHeaders, [Op::Recurse]),
    );
    assert_eq!(kind(&result), TrapKind::Stack);
}

#[test]
fn an_exit_is_named_when_it_kills() {
    let guest = Guest::new().on(C::RequestHeaders, [Op::Exit(7), Op::Trap]);
    let (_, result) = request(Settings::default(), &guest);
    assert_eq!(kind(&result), TrapKind::Exit(7));
}

/// The fuel of one request, in all its callbacks.
fn fuel(ops: Vec<Op>, callback_fuel: u64) -> StreamResult {
    let engine = Engine::shared(Metering::Fuel).unwrap();
    let guest = Guest::new().on(C::RequestHeaders, ops);
    let module = engine.compile("fuel", &guest.build()).unwrap();
    let mut world = World::new(Settings {
        callback_fuel,
        ..Settings::default()
    });
    world.add_worker(&module).unwrap();
    let worker = world.worker(0).unwrap();
    let root = worker.configure(&Plugin::new("root", "")).unwrap();
    let request = RequestScript::new("GET", "/");
    worker
        .request(root, &request, &ResponseScript::default())
        .unwrap()
        .1
}

#[test]
fn fuel_is_the_same_in_every_run_and_grows_with_the_work() {
    let little = fuel(vec![Op::Log("a")], u64::MAX);
    let again = fuel(vec![Op::Log("a")], u64::MAX);
    let more = fuel(vec![Op::Log("a"), Op::Log("b")], u64::MAX);
    assert_eq!(little.fuel, again.fuel);
    assert!(little.fuel[&C::RequestHeaders] > 0);
    assert!(more.fuel[&C::RequestHeaders] > little.fuel[&C::RequestHeaders]);
    assert_eq!(
        more.fuel[&C::ResponseHeaders],
        little.fuel[&C::ResponseHeaders]
    );
    assert_eq!(little.total_fuel(), little.fuel.values().sum::<u64>());
}

#[test]
fn fuel_can_be_limited() {
    let result = fuel(vec![Op::Loop], 100_000);
    assert_eq!(kind(&result), TrapKind::Fuel);
    assert_eq!(result.status(), 503);
}

#[test]
fn without_metering_no_fuel_is_counted() {
    let (mut world, result) = request(Settings::default(), &Guest::new());
    assert_eq!(result.total_fuel(), 0);
    assert_eq!(world.worker(0).unwrap().fuel(), 0);
}
