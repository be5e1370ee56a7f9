//! `mode: observe` and `mode: disabled`: whatever comes, not one byte changes in either direction.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_corpus::{Profile, Record, wire::Arrival};
use portcullis_host::{
    Fault, HostCall, LogLine, Plugin, RequestScript, ResponseScript, Settings, Side, StreamId,
    StreamResult, World, headers,
};

use crate::{
    demo::{Demo, GLOBEX, ROOT, analyze, corpus},
    shipped, statuses,
};

/// A verdict of the upstream's own, which comes in two pieces.
const BODY: &[u8] = br#"{"classification":"benign","risk_score":3}"#;

/// Plays the corpus with every policy in this mode; returns the reasons that were noted, and what the upstream was
/// found to say.
fn play(mode: &str, each: impl Fn(&mut World)) -> BTreeMap<String, usize> {
    let corpus = corpus();
    let module = shipped::module().unwrap();
    let mut reasons = BTreeMap::new();
    for run in corpus.cases.iter().flat_map(|case| case.runs()) {
        if run.profile != Profile::Headers {
            continue;
        }
        let mut world = World::new(Settings {
            upstream_codec: false,
            environment: portcullis_corpus::environment(),
            trace: false,
            ..Settings::default()
        });
        world.add_worker(&module).unwrap();
        let mut policy = corpus.documents[&run.case.policy].in_profile(run.profile);
        policy["mode"] = mode.into();
        // It belongs to what is enforced.
        policy.as_object_mut().unwrap().remove("rollout");
        let plugin = Plugin::new(run.to_string(), policy.to_string());
        let root = world.worker(0).unwrap().configure(&plugin).unwrap();
        each(&mut world);
        for step in &run.case.steps {
            let arrival = Arrival::new(&step.request, run.protocol);
            let request = script(&arrival);
            let answer = ResponseScript::new(207)
                .header("content-type", "application/json")
                .header("x-ratelimit-limit", "the upstream's")
                .header("x-portcullis-decision", "the upstream's")
                .piece(&BODY[..20])
                .piece(&BODY[20..]);
            let worker = world.worker(0).unwrap();
            let (id, result) = worker.request(root, &request, &answer).unwrap();
            worker.forget(id).unwrap();
            untouched(&run.to_string(), &arrival, &result);
            for line in &result.logs {
                if let Some(record) = Record::from_log(&line.text) {
                    let record = record.unwrap();
                    assert_eq!(record.get("mode").as_deref(), Some("observe"));
                    let reason = record.get("reason").unwrap();
                    let said = record.get("upstream_verdict");
                    let said = said.map(|word| format!("upstream says {word}"));
                    for noted in [reason].into_iter().chain(said) {
                        *reasons.entry(noted).or_default() += 1;
                    }
                }
            }
        }
        assert_eq!(world.worker(0).unwrap().traps(), [], "{run}");
    }
    reasons
}

fn script(arrival: &Arrival) -> RequestScript {
    let mut request = RequestScript::from_headers(arrival.headers.clone());
    request.body.clone_from(&arrival.body);
    if !arrival.trailers.is_empty() {
        request = request.trailers(arrival.trailers.clone());
    }
    match arrival.source_address() {
        Some(address) => request.source(address),
        None => request,
    }
}

fn untouched(run: &str, arrival: &Arrival, result: &StreamResult) {
    // Our host answers as Envoy's router does where there is no path or authority to route by.
    let routable = [":path", ":method"].iter().all(|name| {
        let named = arrival.headers.iter().find(|(n, _)| n == name.as_bytes());
        named.is_some_and(|(_, value)| !value.is_empty())
    });
    if !routable {
        return;
    }
    let forwarded = result
        .forwarded
        .as_ref()
        .unwrap_or_else(|| panic!("{run}: {result:?}"));
    assert_eq!(forwarded.headers, arrival.headers, "{run}");
    assert_eq!(forwarded.body, arrival.body.concat(), "{run}");
    assert_eq!(
        forwarded.trailers.clone().unwrap_or_default(),
        arrival.trailers,
        "{run}"
    );
    let response = result.response.as_ref().unwrap();
    assert_eq!(response.status(), 207, "{run}");
    assert_eq!(response.header("x-ratelimit-limit"), Some("the upstream's"));
    assert_eq!(
        response.header("x-portcullis-decision"),
        Some("the upstream's")
    );
    assert_eq!(response.headers.len(), 4, "{run}");
    let head = (b":method".to_vec(), b"HEAD".to_vec());
    let body = if arrival.headers.contains(&head) {
        &[]
    } else {
        BODY
    };
    assert_eq!(response.body, body, "{run}");
    assert_eq!(result.violations, [""; 0], "{run}");
}

#[test]
fn observing_changes_nothing_and_notes_everything() {
    let reasons = play("observe", |_| {});
    for reason in [
        "allowed",
        "answered",
        "rate_limited",
        "key_unknown",
        "path_invalid",
        "upstream says benign",
    ] {
        assert!(reasons.contains_key(reason), "{reason}: {reasons:?}");
    }
    assert!(reasons.len() >= 28, "{reasons:?}");
}

/// What would have been decided is what is decided, step by step: nothing but the effects is left out.
#[test]
fn observing_finds_what_enforcing_finds() {
    let corpus = corpus();
    let module = shipped::module().unwrap();
    let (mut compared, mut differences) = (0, Vec::new());
    for run in corpus.cases.iter().flat_map(|case| case.runs()) {
        let mut policy = corpus.documents[&run.case.policy].in_profile(run.profile);
        let observes = ["mode", "rollout"].map(|field| policy.get(field).is_some());
        // Those that need more than a worker and a clock are played by the corpus' own ring.
        let steps = &run.case.steps;
        let needs_more = steps
            .iter()
            .any(|step| step.fault.is_some() || step.stays_open || !step.clusters.is_empty());
        if run.profile != Profile::Headers || observes != [false, false] || needs_more {
            continue;
        }
        let mut world = World::new(Settings {
            upstream_codec: false,
            environment: portcullis_corpus::environment(),
            trace: false,
            ..Settings::default()
        });
        let start = Duration::from_secs(run.case.starts);
        world.clock().set_wall(start.as_nanos().try_into().unwrap());
        world.add_worker(&module).unwrap();
        policy["mode"] = "observe".into();
        let plugin = Plugin::new(run.to_string(), policy.to_string());
        let root = world.worker(0).unwrap().configure(&plugin).unwrap();
        let mut now = Duration::ZERO;
        for step in steps {
            world.advance(step.at.saturating_sub(now));
            now = now.max(step.at);
            let arrival = Arrival::new(&step.request, run.protocol);
            let answer = ResponseScript::new(step.answer.status).piece(step.answer.body.as_bytes());
            let worker = world.worker(0).unwrap();
            let request = script(&arrival);
            let (id, result) = worker.request(root, &request, &answer).unwrap();
            worker.forget(id).unwrap();
            let lines = result.logs.iter();
            let mut records = lines.filter_map(|line| Record::from_log(&line.text));
            let found = records
                .next()
                .and_then(|record| record.unwrap().get("reason"));
            let found = found.unwrap_or_default();
            let expected = step.expect.reason.as_ref();
            compared += 1;
            if !expected.is_some_and(|expected| expected.matches(&found, 0)) {
                differences.push(format!("{run}: {expected:?}, found {found}"));
            }
        }
    }
    assert_eq!(differences, [""; 0]);
    assert!(compared > 1000, "{compared}");
}

#[test]
fn observing_changes_nothing_whatever_a_call_answers() {
    for call in [
        HostCall::GetHeaderMapPairs,
        HostCall::GetBufferBytes,
        HostCall::GetSharedData,
        HostCall::SetSharedData,
        HostCall::GetProperty,
        HostCall::SetProperty,
        HostCall::DefineMetric,
        HostCall::IncrementMetric,
        HostCall::ClockTimeGet,
        HostCall::Log,
    ] {
        let status = statuses::all()[3];
        play("observe", |world| {
            world.worker(0).unwrap().fault(Fault::new(call, status));
        });
    }
}

#[test]
fn what_is_disabled_asks_for_nothing() {
    let reasons = play("disabled", |_| {});
    assert_eq!(reasons, BTreeMap::new());
}

/// Bodies that are too many at the same time are not looked at; when they are gone, all are again.
#[test]
fn bodies_that_went_by_take_no_room() {
    let mut demo = observing();
    let mut lost = Vec::new();
    for _ in 0..2 {
        lost.push(crowd(&mut demo, Side::Request, |demo, request| {
            let id = open(demo, request);
            let headers = request.headers.clone();
            demo.worker()
                .headers(id, Side::Request, headers, false)
                .unwrap();
            id
        }));
    }
    // Who is given up makes room for the next one: every other of the last 21.
    assert_eq!(lost, [11, 11]);
    for _ in 0..2 {
        lost.push(crowd(&mut demo, Side::Response, |demo, request| {
            let id = sent(demo, request);
            answering(demo, id);
            id
        }));
    }
    assert_eq!(lost[2..], [11, 11]);
}

/// Has bodies come in turns, 150 of 60,000 bytes; returns how many were not kept.
fn crowd(
    demo: &mut Demo,
    side: Side,
    begin: impl Fn(&mut Demo, &RequestScript) -> StreamId,
) -> usize {
    demo.world.clear_logs();
    let request = analyze(GLOBEX, "quick");
    let ids: Vec<_> = (0..150).map(|_| begin(demo, &request)).collect();
    // All have begun when there is no more room.
    for _ in 0..2 {
        for id in &ids {
            let piece = vec![b' '; 30_000];
            demo.worker().data(*id, side, piece, false).unwrap();
        }
    }
    let told = |line: &&LogLine| line.text.starts_with("not looked at");
    let lost = demo.world.logs().iter().filter(told).count();
    for id in ids {
        demo.worker().disconnect(id).unwrap();
        demo.worker().forget(id).unwrap();
    }
    lost
}

/// A decision whose verdict is compared is told of once, however its stream ends.
#[test]
fn what_is_compared_is_told_of_once() {
    type End = fn(&mut Demo, StreamId);
    let ends: [(&str, End); 9] = [
        ("absent", |_, _| {}),
        ("absent", |demo, id| {
            demo.worker().upstream_reset(id).unwrap();
        }),
        ("absent", |demo, id| demo.worker().time_out(id).unwrap()),
        ("absent", answering),
        ("absent", |demo, id| {
            answering(demo, id);
            let piece = BODY[..20].to_vec();
            demo.worker()
                .data(id, Side::Response, piece, false)
                .unwrap();
        }),
        // The body is there, but nobody has said that it is all.
        ("absent", |demo, id| {
            answering(demo, id);
            let worker = demo.worker();
            worker
                .data(id, Side::Response, BODY.to_vec(), false)
                .unwrap();
        }),
        ("benign", |demo, id| {
            answering(demo, id);
            let worker = demo.worker();
            worker
                .data(id, Side::Response, BODY.to_vec(), true)
                .unwrap();
        }),
        ("benign", |demo, id| {
            answering(demo, id);
            let worker = demo.worker();
            worker
                .data(id, Side::Response, BODY.to_vec(), false)
                .unwrap();
            let trailers = headers([("x-checksum", "1")]);
            worker.trailers(id, Side::Response, trailers).unwrap();
        }),
        ("unreadable", |demo, id| {
            let json = headers([(":status", "200"), ("content-type", "application/json")]);
            demo.worker()
                .headers(id, Side::Response, json, true)
                .unwrap();
        }),
    ];
    for (nth, (word, end)) in ends.into_iter().enumerate() {
        let mut demo = observing();
        let id = sent(&mut demo, &analyze(GLOBEX, "quick"));
        assert_eq!(decisions(&mut demo), [""; 0], "{nth}");
        end(&mut demo, id);
        demo.worker().disconnect(id).unwrap();
        demo.worker().forget(id).unwrap();
        assert_eq!(decisions(&mut demo), [word], "{nth}");
        let name = format!(
            "portcullis.compared.api.cybervault.route.analyze.edge.malicious.upstream.{word}"
        );
        let count = demo.world.metrics().counter(&name);
        assert_eq!(count, Some(1), "{nth}");
        assert_eq!(demo.worker().traps(), [], "{nth}");
    }
}

/// What decisions that were logged say of the upstream's verdict.
fn decisions(demo: &mut Demo) -> Vec<String> {
    let lines = demo.world.logs();
    let records = lines.iter().filter_map(|line| Record::from_log(&line.text));
    let word = |record: Record| record.get("upstream_verdict").unwrap_or_default();
    records.map(|record| word(record.unwrap())).collect()
}

fn observing() -> Demo {
    let mut policy = corpus().documents["demo"].in_profile(Profile::Headers);
    policy["mode"] = "observe".into();
    Demo::with(Settings::default(), &Plugin::new(ROOT, policy.to_string()))
}

fn open(demo: &mut Demo, request: &RequestScript) -> StreamId {
    let root = demo.root;
    demo.worker().open(root, &request.properties).unwrap()
}

/// A request that is on its way to the upstream.
fn sent(demo: &mut Demo, request: &RequestScript) -> StreamId {
    let id = open(demo, request);
    let worker = demo.worker();
    let headers = request.headers.clone();
    worker.headers(id, Side::Request, headers, false).unwrap();
    let body = request.body.concat();
    worker.data(id, Side::Request, body, true).unwrap();
    id
}

/// The upstream begins to answer.
fn answering(demo: &mut Demo, id: StreamId) {
    let json = headers([(":status", "200"), ("content-type", "application/json")]);
    let worker = demo.worker();
    worker.headers(id, Side::Response, json, false).unwrap();
}
