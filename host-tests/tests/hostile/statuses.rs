//! Every host call that the filter makes, with every status: one at a time, and every time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis_corpus::Profile;
use portcullis_host::{
    CallSite, Callback, Fault, HostCall, LogLevel, Message, Origin, Plugin, Refusal, RequestScript,
    Settings, Status, StreamResult, StreamState, Worker, headers,
};

use crate::{
    demo::{ACME, Demo, ROOT, analyze, get, plugin},
    traffic::SPOOF,
};

/// The calls that the filter makes.
pub(crate) const MADE: &[HostCall] = &[
    HostCall::Log,
    HostCall::GetLogLevel,
    HostCall::GetBufferBytes,
    HostCall::GetHeaderMapPairs,
    HostCall::AddHeaderMapValue,
    HostCall::ReplaceHeaderMapValue,
    HostCall::RemoveHeaderMapValue,
    HostCall::GetProperty,
    HostCall::SetProperty,
    HostCall::GetSharedData,
    HostCall::SetSharedData,
    HostCall::SendLocalResponse,
    HostCall::CloseStream,
    HostCall::ContinueStream,
    HostCall::SetEffectiveContext,
    HostCall::SetTickPeriod,
    HostCall::RandomGet,
    HostCall::ClockTimeGet,
    HostCall::DefineMetric,
    HostCall::IncrementMetric,
    HostCall::RecordMetric,
    HostCall::CallForeignFunction,
    HostCall::HttpCall,
];

/// Statuses that the ABI defines, those between and after them, and some that no host would think
/// of.
pub(crate) fn all() -> Vec<Status> {
    let far = [255, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    (0..=20).chain(far).map(Status).collect()
}

#[test]
fn a_request_is_refused_or_right_whatever_a_call_answers() {
    let spoof = || headers([("x-portcullis-tier", SPOOF)]);
    let requests = [
        ("allowed", get(ACME).header("x-portcullis-key", SPOOF)),
        ("unknown key", get("unknown")),
        ("quick analysis", analyze(ACME, "quick")),
        ("deep analysis", analyze(ACME, "deep").trailers(spoof())),
    ];
    for profile in [Profile::Headers, Profile::Body] {
        for (name, request) in &requests {
            let mut demo = Demo::with(settings(profile), &plugin(profile));
            demo.send(request);
            let (right, made) = observe(&mut demo, request);
            let (mut refused, mut passed) = (0, 0);
            for (place, nth, status) in faults(&made) {
                force(demo.worker(), place, nth, status);
                let result = demo.send(request);
                demo.worker().clear_faults();
                // Buckets are full again.
                demo.world.advance(Duration::from_secs(60));
                let case = format!("{name}, {profile:?}: {place} {nth:?} answers {status:?}");
                judge(&case, &right, &result, place.call, status);
                *if has_passed(&result) {
                    &mut passed
                } else {
                    &mut refused
                } += 1;
            }
            let forwards = has_passed(&right);
            assert!(
                refused > 100 && (passed > 100) == forwards,
                "{name}: {refused}, {passed}"
            );
            let (after, _) = observe(&mut demo, request);
            assert_eq!(
                outcome(&after),
                outcome(&right),
                "{name}: it did not recover"
            );
            assert_eq!(demo.worker().traps(), []);
        }
    }
}

/// The first request of a principal or client makes calls that no later one makes.
#[test]
fn a_first_request_is_refused_or_right_whatever_a_call_answers() {
    let policy = plugin(Profile::Headers);
    let fresh = || Demo::with(settings(Profile::Headers), &policy);
    for request in [get(ACME), get("unknown")] {
        let (right, made) = observe(&mut fresh(), &request);
        for (place, nth, status) in faults(&made) {
            let mut demo = fresh();
            force(demo.worker(), place, nth, status);
            demo.world.advance(Duration::from_secs(60));
            let result = demo.send(&request);
            demo.worker().clear_faults();
            let case = format!("{place} {nth:?} answers {status:?}");
            judge(&case, &right, &result, place.call, status);
            demo.world.advance(Duration::from_secs(60));
            let again = demo.send(&request);
            assert_eq!(
                outcome(&again),
                outcome(&right),
                "{case}: it did not recover"
            );
            assert_eq!(demo.worker().traps(), []);
        }
    }
}

#[test]
fn a_policy_is_refused_or_in_force_whatever_a_call_answers() {
    let (right, made) = {
        let mut demo = Demo::new(settings(Profile::Headers));
        let made = demo.worker().calls().clone();
        let (right, _) = observe(&mut demo, &get(ACME));
        let during = made.during(Callback::Configure);
        let made: Made = during
            .map(|(call, n)| (Place::new(Callback::Configure, call), n))
            .collect();
        (right, made)
    };
    let good = plugin(Profile::Headers);
    let mut refusals = 0;
    for (place, nth, status) in faults(&made) {
        let case = format!("{place} {nth:?} answers {status:?}");
        let mut world = portcullis_host::World::new(settings(Profile::Headers));
        world
            .add_worker(&crate::shipped::module().unwrap())
            .unwrap();
        let worker = world.worker(0).unwrap();
        force(worker, place, nth, status);
        let configured = worker.configure(&good);
        worker.clear_faults();
        let root = match configured {
            Ok(root) => root,
            Err(error) => {
                refusals += 1;
                assert_eq!(error.refusal, Refusal::Configure, "{case}");
                let told = error.logs.iter().any(|line| line.level == LogLevel::Error);
                assert!(told || place.call == HostCall::Log, "{case}: no word why");
                worker.configure(&good).unwrap()
            }
        };
        let mut demo = Demo { world, root };
        let result = demo.send(&get(ACME));
        assert_eq!(outcome(&result), outcome(&right), "{case}");
        assert_eq!(demo.worker().traps(), [], "{case}");
    }
    assert!(refusals > 50, "only {refusals} refusals");
}

#[test]
fn a_refused_update_leaves_the_old_policy_in_force() {
    let mut demo = Demo::new(settings(Profile::Headers));
    let (right, _) = observe(&mut demo, &get(ACME));
    for status in all().into_iter().filter(|status| *status != Status::OK) {
        let fault = Fault::new(HostCall::GetBufferBytes, status).during(Callback::Configure);
        let good = plugin(Profile::Headers);
        demo.worker().fault(fault);
        let refused = demo.worker().configure(&good).unwrap_err();
        demo.worker().clear_faults();
        assert_eq!(refused.refusal, Refusal::Configure, "{status:?}");
        let empty = demo.worker().configure(&Plugin::new(ROOT, "")).unwrap_err();
        assert!(empty.to_string().contains("there is no policy"), "{empty}");
        assert_eq!(demo.worker().root(ROOT.as_bytes()), Some(demo.root));
        assert_eq!(
            outcome(&demo.send(&get(ACME))),
            outcome(&right),
            "{status:?}"
        );
    }
}

/// Where neither a reply nor the stream's end can be had, a request is held: it does not pass.
#[test]
fn a_host_that_takes_no_refusal_holds_the_request() {
    for profile in [Profile::Headers, Profile::Body] {
        for request in [
            get("unknown"),
            analyze("unknown", "deep"),
            analyze(ACME, "quick"),
        ] {
            for status in all() {
                let mut demo = Demo::with(settings(profile), &plugin(profile));
                for call in [HostCall::SendLocalResponse, HostCall::CloseStream] {
                    demo.worker().fault(Fault::new(call, status));
                }
                let root = demo.root;
                let id = demo.worker().send(root, &request).unwrap();
                let result = demo.worker().result(id).unwrap();
                assert!(!has_passed(&result), "{status:?}: {result:?}");
                assert_eq!(result.state, StreamState::Held, "{status:?}");
                // It can still be ended.
                demo.worker().time_out(id).unwrap();
                let result = demo.worker().result(id).unwrap();
                assert_eq!(result.status(), 504, "{status:?}");
                assert_eq!(demo.worker().traps(), []);
            }
        }
    }
}

fn settings(profile: Profile) -> Settings {
    Settings {
        allow_on_headers_stop_iteration: profile == Profile::Headers,
        trace: false,
        ..Settings::default()
    }
}

/// A call in a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    callback: Callback,
    call: HostCall,
}

impl Place {
    const fn new(callback: Callback, call: HostCall) -> Self {
        Self { callback, call }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.call, self.callback)
    }
}

/// How often each call is made when nothing fails.
type Made = BTreeMap<Place, u64>;

/// What comes of a request on a good host, and the calls that it takes.
fn observe(demo: &mut Demo, request: &RequestScript) -> (StreamResult, Made) {
    demo.world.advance(Duration::from_secs(60));
    let result = demo.send(request);
    let made = result.calls.iter();
    let made = made
        .map(|(callback, call, n)| (Place::new(callback, call), n))
        .collect();
    (result, made)
}

/// All calls of a kind, and each alone, with all statuses.
fn faults(made: &Made) -> Vec<(Place, Option<u64>, Status)> {
    let mut faults = Vec::new();
    for (&place, &n) in made {
        let each = (1..=n).map(Some).filter(|_| n > 1);
        for nth in each.chain([None]) {
            faults.extend(all().into_iter().map(|status| (place, nth, status)));
        }
    }
    faults
}

fn force(worker: &mut Worker, place: Place, nth: Option<u64>, status: Status) {
    let seen = Arc::new(Mutex::new(0));
    worker.decide(move |site: &CallSite| {
        if Place::new(site.callback, site.call) != place {
            return None;
        }
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        nth.is_none_or(|nth| nth == *seen).then_some(status)
    });
}

fn judge(case: &str, right: &StreamResult, result: &StreamResult, call: HostCall, status: Status) {
    assert_eq!(result.trap, None, "{case}");
    assert_eq!(result.violations, [""; 0], "{case}");
    let edits = [
        HostCall::AddHeaderMapValue,
        HostCall::RemoveHeaderMapValue,
        HostCall::GetHeaderMapPairs,
    ];
    // What the host says is done, and is not, and what it says is there, and is not, nobody knows.
    if edits.contains(&call) && status == Status::OK {
        return;
    }
    let refused = !has_passed(result)
        && match result.state {
            StreamState::Answered => {
                result.status() >= 400 && result.origin == Some(Origin::Filter)
            }
            StreamState::Reset => true,
            // It was told that its reply is on the way.
            StreamState::Held => call == HostCall::SendLocalResponse && status == Status::OK,
            _ => false,
        };
    let mut expected = outcome(right);
    let mut found = outcome(result);
    if call == HostCall::ReplaceHeaderMapValue {
        for outcome in [&mut expected, &mut found] {
            outcome
                .response_headers
                .retain(|name| !name.starts_with("x-ratelimit-"));
        }
    }
    let as_right = found == expected;
    assert!(
        refused || as_right,
        "{case}: {found:#?}, and not {expected:#?}"
    );
}

/// Whether the upstream got a whole request, or any of it beyond headers that went ahead.
fn has_passed(result: &StreamResult) -> bool {
    let passed = |message: &Message| message.complete || !message.body.is_empty();
    result.forwarded.as_ref().is_some_and(passed)
}

/// What is the same whenever the same request is decided alike.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    state: StreamState,
    status: u16,
    response_headers: Vec<String>,
    body: String,
    upstream: Option<Upstream>,
}

/// Headers, body and names of trailers of a forwarded request.
type Upstream = (Vec<(String, String)>, Vec<u8>, Vec<String>);

fn outcome(result: &StreamResult) -> Outcome {
    const ID: &str = "x-portcullis-decision";
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let names = |message: &Message| {
        let names = message.headers.iter().map(|(name, _)| text(name));
        names.collect::<Vec<_>>()
    };
    let response = result.response.clone().unwrap_or_default();
    let id = response.header(ID).unwrap_or("no id").to_owned();
    let upstream = result.forwarded.as_ref().filter(|message| message.complete);
    let upstream = upstream.map(|message| {
        let headers = message.headers.iter();
        let headers = headers.map(|(name, value)| (text(name), text(value)));
        let headers = headers.map(|(name, value)| match name.as_str() {
            ID => (name, value.len().to_string()),
            _ => (name, value),
        });
        let trailers = message.trailers.iter().flatten();
        let trailers = trailers.map(|(name, _)| text(name)).collect();
        (headers.collect(), message.body.clone(), trailers)
    });
    Outcome {
        state: result.state,
        status: result.status(),
        response_headers: names(&response),
        body: text(&response.body).replace(&id, "the id"),
        upstream,
    }
}
