//! How many host calls a request takes. Each costs; one that hands bytes over costs most.

use std::{collections::BTreeMap, time::Duration};

use portcullis_host::{Callback, HostCall, LogLevel, RequestScript, Settings, StreamResult};
use serde_json::{Value, json};

use crate::demo::{ACME, Demo, GLOBEX, analyze, get, recording, request};

const IN: Callback = Callback::RequestHeaders;
const BODY: Callback = Callback::RequestBody;
const OUT: Callback = Callback::ResponseHeaders;

const MAP: HostCall = HostCall::GetHeaderMapPairs;
const CLOCK: HostCall = HostCall::ClockTimeGet;
const READ: HostCall = HostCall::GetSharedData;
const WRITE: HostCall = HostCall::SetSharedData;
const REMOVE: HostCall = HostCall::RemoveHeaderMapValue;
const ADD: HostCall = HostCall::AddHeaderMapValue;
const REPLACE: HostCall = HostCall::ReplaceHeaderMapValue;
const REPLY: HostCall = HostCall::SendLocalResponse;
const ADDRESS: HostCall = HostCall::GetProperty;
const BYTES: HostCall = HostCall::GetBufferBytes;
const PROPERTY: HostCall = HostCall::SetProperty;
const COUNT: HostCall = HostCall::IncrementMetric;

type Counts = BTreeMap<(Callback, HostCall), u64>;

fn counts(result: &StreamResult) -> Counts {
    let calls = result.calls.iter();
    calls
        .map(|(callback, call, n)| ((callback, call), n))
        .collect()
}

fn table(rows: &[(Callback, HostCall, u64)]) -> Counts {
    let rows = rows.iter();
    rows.map(|&(callback, call, n)| ((callback, call), n))
        .collect()
}

/// The demo policy without its rule `record`, and as shipped: no line a request.
fn demo() -> Demo {
    recorded(None)
}

fn recorded(record: Option<Value>) -> Demo {
    let settings = Settings {
        log_level: LogLevel::Info,
        ..Settings::default()
    };
    Demo::with(settings, &recording(record))
}

/// What a request takes that is not the first of its kind.
fn taken(request: &RequestScript, status: u16) -> Counts {
    let mut demo = demo();
    demo.send(request);
    let result = demo.send(request);
    assert_eq!(result.status(), status);
    counts(&result)
}

/// An allowed request: its headers, two clocks, one edit a header, three rate headers.
const ALLOWED: &[(Callback, HostCall, u64)] = &[
    (IN, MAP, 1),
    (IN, CLOCK, 2),
    (IN, REMOVE, 1),
    (IN, ADD, 4),
    (OUT, REPLACE, 3),
];

/// What telling of a decision takes, with `record` all on: its record for the access log, and its
/// counter.
const TOLD: &[(Callback, HostCall, u64)] = &[(IN, PROPERTY, 1), (IN, COUNT, 1)];

/// A trip to shared data.
const TRIP: &[(Callback, HostCall, u64)] = &[(IN, READ, 1), (IN, WRITE, 1)];

#[test]
fn an_allowed_request() {
    let small = [ALLOWED, TRIP].concat();
    assert_eq!(taken(&get(ACME), 200), table(&small));

    // A principal that is asked often reserves several cells a trip.
    let mut demo = demo();
    let (mut with, mut without) = (0, 0);
    for _ in 0..200 {
        demo.world.advance(Duration::from_millis(2));
        let result = demo.send(&get(GLOBEX));
        let counts = counts(&result);
        let trip = counts.contains_key(&(IN, READ));
        let first = with == 0;
        *if trip { &mut with } else { &mut without } += 1;
        if !first {
            let rows = if trip { table(&small) } else { table(ALLOWED) };
            assert_eq!(counts, rows);
        }
        assert_eq!(
            result.calls.returning_data_during(IN),
            if first { 4 } else { 1 + u64::from(trip) },
            "one, outside of trips; the first looks, counts the accounts, and creates its own"
        );
        assert_eq!(result.calls.returning_data_during(OUT), 0);
    }
    assert!(without > with, "{with} trips, {without} without one");
}

#[test]
fn a_claim_costs_its_removal() {
    let request = get(ACME)
        .header("x-portcullis-tier", "a")
        .header("x_portcullis_key", "b");
    let mut expected = table(&[ALLOWED, TRIP].concat());
    expected.insert((IN, REMOVE), 3);
    assert_eq!(taken(&request, 200), expected);
}

#[test]
fn refusals() {
    // By address: asked for only where it is needed. Two clocks for each look.
    let unknown = [
        (IN, MAP, 1),
        (IN, ADDRESS, 1),
        (IN, CLOCK, 4),
        (IN, REPLY, 1),
    ];
    let unknown = [unknown.as_slice(), TRIP, TOLD].concat();
    assert_eq!(taken(&get("unknown"), 401), table(&unknown));
    assert_eq!(taken(&get(""), 401), table(&unknown));
    let nowhere = request("GET", "/nowhere", "");
    assert_eq!(taken(&nowhere, 404), table(&unknown));

    // By principal.
    let denied = request("GET", "/v1/threats/t1", "demo-initech-readonly");
    let denied = taken(&denied, 403);
    let by_key = [(IN, MAP, 1), (IN, CLOCK, 2), (IN, REPLY, 1)];
    assert_eq!(denied, table(&[by_key.as_slice(), TRIP, TOLD].concat()));
}

#[test]
fn telling_of_a_decision() {
    let taken = |record: Value, request: &RequestScript| {
        let mut demo = recorded(Some(record));
        demo.send(request);
        counts(&demo.send(request))
    };
    let plain = [ALLOWED, TRIP].concat();
    let all = json!({ "access_log": "all", "metrics": "all", "target": "hash" });
    assert_eq!(taken(all, &get(ACME)), table(&[&plain, TOLD].concat()));
    let log = json!({ "access_log": "all" });
    let told = [plain.as_slice(), &[(IN, PROPERTY, 1)]].concat();
    assert_eq!(taken(log, &get(ACME)), table(&told));
    let counters = json!({ "metrics": "all" });
    let told = [plain.as_slice(), &[(IN, COUNT, 1)]].concat();
    assert_eq!(taken(counters, &get(ACME)), table(&told));
    let nothing = json!({ "access_log": "none", "metrics": "none" });
    assert_eq!(taken(nothing.clone(), &get(ACME)), table(&plain));
    let denied = request("GET", "/v1/threats/t1", "demo-initech-readonly");
    let by_key = [(IN, MAP, 1), (IN, CLOCK, 2), (IN, REPLY, 1)];
    let untold = table(&[by_key.as_slice(), TRIP].concat());
    assert_eq!(taken(nothing, &denied), untold);
    // The address is asked for where the record is to have it.
    let client = json!({ "client": "prefix" });
    let told = [plain.as_slice(), &[(IN, ADDRESS, 1)]].concat();
    assert_eq!(taken(client, &get(ACME)), table(&told));
    // And a line is written where the decision is among the sampled ones.
    let lines = json!({ "sample": { "allowed": "100%" } });
    let told = [plain.as_slice(), &[(IN, HostCall::Log, 1)]].concat();
    assert_eq!(taken(lines, &get(ACME)), table(&told));
}

#[test]
fn a_flood_costs_no_trips() {
    // A worker that has seen a bucket empty refuses from its own memory.
    let mut demo = demo();
    let last = |demo: &mut Demo, request: &RequestScript| {
        let mut result = demo.send(request);
        for _ in 0..1200 {
            result = demo.send(request);
        }
        assert_eq!(result.status(), 429);
        counts(&result)
    };
    let by_key = [(IN, MAP, 1), (IN, CLOCK, 2), (IN, REPLY, 1)];
    let by_key = [by_key.as_slice(), TOLD].concat();
    assert_eq!(last(&mut demo, &get(ACME)), table(&by_key));
    let by_address = [
        (IN, MAP, 1),
        (IN, ADDRESS, 1),
        (IN, CLOCK, 4),
        (IN, REPLY, 1),
    ];
    let by_address = [by_address.as_slice(), TOLD].concat();
    assert_eq!(last(&mut demo, &get("unknown")), table(&by_address));
}

#[test]
fn an_analysis() {
    // The body is read once, at its end; a peek at the bucket spares reading it for nothing.
    let looks = [(IN, MAP, 1), (IN, CLOCK, 2), (IN, READ, 1)];
    let judged = [
        (BODY, BYTES, 1),
        (BODY, CLOCK, 2),
        (BODY, READ, 1),
        (BODY, WRITE, 1),
    ];
    let quick = [looks.as_slice(), &judged, &[(BODY, REPLY, 1)]].concat();
    assert_eq!(taken(&analyze(ACME, "quick"), 200), table(&quick));
    let goes_on = [(BODY, REMOVE, 1), (BODY, ADD, 6), (OUT, REPLACE, 3)];
    let deep = [looks.as_slice(), &judged, &goes_on].concat();
    assert_eq!(taken(&analyze(ACME, "deep"), 200), table(&deep));
}

#[test]
fn what_needs_no_key() {
    let mut ready = request("GET", "/_portcullis/ready", "");
    ready.headers[0].1 = b"anything.example".to_vec();
    // The bucket is only shown.
    let shown = [
        (IN, MAP, 1),
        (IN, ADDRESS, 1),
        (IN, CLOCK, 4),
        (IN, READ, 1),
        (IN, REPLY, 1),
    ];
    assert_eq!(taken(&ready, 200), table(&shown));
    let health = request("GET", "/healthz", "");
    let exempt = [
        (IN, MAP, 1),
        (IN, ADDRESS, 1),
        (IN, CLOCK, 4),
        (IN, READ, 1),
        (IN, ADD, 1),
        (OUT, REPLACE, 3),
    ];
    assert_eq!(taken(&health, 200), table(&exempt));
}
