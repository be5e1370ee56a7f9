//! What real Envoy tells of decisions: its access log, and its statistics with their labels.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use portcullis_corpus::envoy::access::{self, Line};
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::envoy::{Tools, keeps_secrets};
use portcullis_corpus::wire::stream::{Address, Deadline};
use portcullis_corpus::wire::{Message, h1, h2};
use portcullis_corpus::{Answer, Corpus, Document, Profile, Response};
use serde_json::{Value, json};

const HOST: &str = "records.example";

/// Envoy with the policy `records`, or a changed one, and the labels of the shipped configuration.
struct Gate {
    process: Process,
    address: Address,
    corpus: Corpus,
    upstream: Upstream,
}

impl Gate {
    fn start(change: impl FnOnce(&mut Value)) -> Self {
        Self::logging(change, &[], None)
    }

    /// With further access logs, and a cluster that they need.
    fn logging(change: impl FnOnce(&mut Value), logs: &[Value], cluster: Option<Value>) -> Self {
        let tools = Tools::find().unwrap_or_else(|error| panic!("{error}"));
        let corpus = Corpus::load().unwrap();
        let directory = Directory::new().unwrap();
        let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
        let mut policy = corpus.documents["records"].value().clone();
        change(&mut policy);
        let document = Document::new("records", policy);
        let socket = directory.path().join("gate.sock");
        let listener = Listener {
            name: "records",
            socket: &socket,
            profile: Profile::Headers,
            document: &document,
        };
        let mut listener = listener.render(&tools.wasm);
        let http = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        http["access_log"]
            .as_array_mut()
            .unwrap()
            .extend(logs.iter().cloned());
        let listeners = [listener];
        let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &listeners);
        bootstrap["stats_config"] = shipped()["stats_config"].clone();
        let clusters = bootstrap.pointer_mut("/static_resources/clusters");
        clusters.unwrap().as_array_mut().unwrap().extend(cluster);
        let mut process = Process::start(&tools.envoy, directory, &bootstrap).unwrap();
        process
            .wait_until_live(Deadline::after(Duration::from_secs(60)))
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            process,
            address: Address::Unix(socket),
            corpus,
            upstream,
        }
    }

    fn ask(&self, ask: &Ask) -> Option<Response> {
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut header = |name: &str, value: String| headers.push((name.into(), value.into()));
        header("x-forwarded-for", "192.0.2.1".into());
        if !ask.key.is_empty() {
            let key = self.corpus.keys.get(ask.key);
            let key = key.map_or(ask.key, String::as_str);
            header("authorization", format!("Bearer {key}"));
        }
        if let Some(body) = ask.body {
            header("content-type", "application/json".into());
            header("content-length", body.len().to_string());
        }
        let message = Message {
            method: Some(ask.method.into()),
            path: Some(ask.path.into()),
            host: Some(ask.host.into()),
            headers,
            body: ask.body.map(|body| vec![body.into()]),
            ..Message::default()
        };
        if ask.h2 {
            h2::exchange(&self.address, &message).unwrap()
        } else {
            h1::exchange(&self.address, &message).unwrap()
        }
    }

    fn lines(&self, count: usize) -> Vec<Line> {
        let lines = access::lines(&self.process, count).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(lines.len(), count, "a request was told of twice");
        lines
    }
}

fn shipped() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/envoy.yaml");
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// A request, and what comes of it.
#[derive(Clone, Copy, Debug)]
struct Ask {
    method: &'static str,
    path: &'static str,
    host: &'static str,
    key: &'static str,
    body: Option<&'static str>,
    h2: bool,
    status: u16,
    reason: &'static str,
}

const ASK: Ask = Ask {
    method: "GET",
    path: "/v1/things",
    host: HOST,
    key: "rec_acme",
    body: None,
    h2: false,
    status: 200,
    reason: "allowed",
};

/// One request of each kind.
fn kinds() -> Vec<Ask> {
    let refused = |key, status, reason| Ask {
        key,
        status,
        reason,
        ..ASK
    };
    let analysis = |body, status, reason| Ask {
        method: "POST",
        path: "/v1/threats/analyze",
        body: Some(body),
        status,
        reason,
        ..ASK
    };
    vec![
        ASK,
        refused("", 401, "credential_missing"),
        refused("not-a-key", 401, "key_unknown"),
        refused("rec_expired", 401, "key_expired"),
        Ask {
            path: "/v1/secret",
            ..refused("rec_oncall", 403, "scope_missing")
        },
        Ask {
            path: "/v2/things",
            ..refused("rec_acme", 404, "route_unknown")
        },
        Ask {
            method: "DELETE",
            ..refused("rec_acme", 405, "method_not_allowed")
        },
        Ask {
            path: "/v1/a%2fb",
            ..refused("rec_acme", 400, "path_invalid")
        },
        Ask {
            host: "nobody.example",
            ..refused("", 404, "host_unknown")
        },
        Ask {
            path: "/v1/status",
            ..refused("", 200, "public")
        },
        analysis(r#"{"target":"http://malware.example/"}"#, 200, "answered"),
        analysis(
            r#"{"target":"http://a.example/","mode":"deep"}"#,
            200,
            "allowed",
        ),
        analysis(r#"{"mode":"quick"}"#, 400, "field_missing"),
        analysis("[1]", 400, "body_malformed"),
    ]
}

/// Without limits: every kind keeps its reason however often it is asked.
fn unlimited(policy: &mut Value) {
    policy["unauthenticated"] = json!({ "rate": "100000/s" });
    for tier in ["basic", "tight"] {
        policy["apis"]["records"]["tiers"][tier] = json!({ "rate": "unlimited" });
    }
}

/// 40 of each of 14 kinds over HTTP/1.1 and HTTP/2, by four clients at once.
#[test]
fn no_request_is_missing_from_the_access_log() {
    const ROUNDS: usize = 5;
    const CLIENTS: usize = 4;
    let gate = Gate::start(unlimited);
    let replies = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    for (ask, h2) in kinds()
                        .into_iter()
                        .flat_map(|ask| [(ask, false), (ask, true)])
                    {
                        let response = gate.ask(&Ask { h2, ..ask }).unwrap();
                        assert_eq!(response.status, ask.status, "{ask:?}");
                        let decision = response
                            .headers
                            .iter()
                            .find(|(name, _)| name == "x-portcullis-decision");
                        if let Some((_, decision)) = decision {
                            let decision = String::from_utf8(decision.clone()).unwrap();
                            let (status, reason) = (u64::from(ask.status), ask.reason);
                            replies
                                .lock()
                                .unwrap()
                                .insert(decision, (status, reason.to_owned()));
                        }
                    }
                }
            });
        }
    });
    let kinds = kinds();
    let asked = kinds.len() * 2 * ROUNDS * CLIENTS;
    let lines = gate.lines(asked);

    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut decisions = BTreeSet::new();
    let mut joined = 0;
    for line in &lines {
        let record = line.gate.as_ref().unwrap_or_else(|| panic!("{line:?}"));
        let decision = record.get("decision").unwrap();
        let reason = record.get("reason").unwrap();
        if let Some(reply) = replies.lock().unwrap().get(&decision) {
            assert_eq!(*reply, (line.status, reason.clone()));
            joined += 1;
        }
        *reasons.entry(reason).or_default() += 1;
        assert!(decisions.insert(decision), "a decision was told of twice");
    }
    // Every reply of the gate itself, by its decision; the rest went on, and is known by its reason.
    let goes_on = |ask: &&Ask| matches!(ask.reason, "allowed" | "public");
    let went_on = kinds.iter().filter(goes_on).count() * 2 * ROUNDS * CLIENTS;
    assert_eq!(joined, asked - went_on);
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for ask in &kinds {
        *expected.entry(ask.reason.to_owned()).or_default() += 2 * ROUNDS * CLIENTS;
    }
    assert_eq!(reasons, expected);
    let secrets: Vec<String> = gate.corpus.keys.values().cloned().collect();
    keeps_secrets(&gate.process, &secrets).unwrap_or_else(|error| panic!("{error}"));
}

/// The ways of the README to read a record.
#[test]
fn a_record_can_be_taken_apart() {
    let folder = Directory::new().unwrap();
    let log = |name: &str, gate: &str| {
        json!({ "name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": folder.path().join(name),
            "log_format": { "json_format": { "gate": gate } },
        } })
    };
    let mut filtered = log("rule", "%CEL(filter_state['wasm.portcullis'].rule)%");
    filtered["filter"] = json!({ "extension_filter": {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": "filter_state['wasm.portcullis'].reason == 'scope_missing'",
        },
    } });
    let logs = [
        log("typed", "%FILTER_STATE(wasm.portcullis:TYPED)%"),
        log("reason", "%CEL(filter_state['wasm.portcullis'].reason)%"),
        filtered,
    ];
    let gate = Gate::logging(unlimited, &logs, None);
    let read = |name: &str, count: usize| -> Vec<Value> {
        let deadline = Deadline::after(Duration::from_secs(10));
        loop {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            if text.ends_with('\n') && text.lines().count() >= count {
                let lines = text.lines();
                return lines
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
            }
            deadline.left().unwrap_or_else(|_| panic!("{name}: {text}"));
            thread::sleep(Duration::from_millis(20));
        }
    };
    let kinds = kinds();
    for ask in &kinds {
        gate.ask(ask).unwrap();
    }
    let reasons: Vec<&str> = kinds.iter().map(|ask| ask.reason).collect();
    let typed = read("typed", kinds.len());
    let typed: Vec<_> = typed
        .iter()
        .map(|line| line["gate"]["value"]["reason"].as_str().unwrap())
        .collect();
    assert_eq!(typed, reasons);
    let fields = read("reason", kinds.len());
    let fields: Vec<_> = fields
        .iter()
        .map(|line| line["gate"].as_str().unwrap())
        .collect();
    assert_eq!(fields, reasons);
    let rule = json!({ "gate": "apis.records.routes.secret.scope" });
    assert_eq!(read("rule", 1), [rule]);
}

/// A server of the access log service that needs to understand nothing: it takes in what streams send
/// (HTTP/2: RFC 9113, section 4.1) until all of these have come, and says what has not.
fn collect(listener: &UnixListener, mut awaited: Vec<&str>) -> Vec<String> {
    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    let (mut stream, _) = listener.accept().unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    let settings = |flags| [0, 0, 0, SETTINGS, flags, 0, 0, 0, 0];
    stream.write_all(&settings(0)).unwrap();
    let mut taken = Vec::new();
    while !awaited.is_empty() {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            break;
        }
        let [a, b, c, kind, flags, stream_id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; length.try_into().unwrap()];
        stream.read_exact(&mut payload).unwrap();
        match kind {
            DATA => {
                taken.extend(payload);
                // The first message alone, which names Envoy's extensions, fills the window.
                for id in [[0; 4], stream_id] {
                    let update = [&[0, 0, 4, WINDOW_UPDATE, 0], id.as_slice(), &[0, a, b, c]];
                    stream.write_all(&update.concat()).unwrap();
                }
            }
            SETTINGS if flags == 0 => stream.write_all(&settings(1)).unwrap(),
            _ => {}
        }
        awaited.retain(|word| !taken.windows(word.len()).any(|at| at == word.as_bytes()));
    }
    awaited.into_iter().map(str::to_owned).collect()
}

/// As the shipped configuration has it in comments.
#[test]
fn the_access_log_over_grpc_has_the_record() {
    let folder = Directory::new().unwrap();
    let socket = folder.path().join("als.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let log = json!({ "name": "grpc", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        "common_config": {
            "log_name": "edge",
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "access_log" }, "timeout": "1s" },
            "filter_state_objects_to_log": ["wasm.portcullis"],
        },
    } });
    let cluster = json!({
        "name": "access_log",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "load_assignment": { "cluster_name": "access_log", "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "pipe": { "path": socket } } },
        }] }] },
    });
    let gate = Gate::logging(unlimited, &[log], Some(cluster));
    let missing = thread::scope(|scope| {
        let awaited = vec![
            "wasm.portcullis",
            "type.googleapis.com/google.protobuf.Struct",
            "apis.records.routes.secret.scope",
            "rec_oncall",
            "host_unknown",
        ];
        let collected = scope.spawn(|| collect(&listener, awaited));
        for ask in kinds() {
            gate.ask(&ask).unwrap();
        }
        collected.join().unwrap()
    });
    assert_eq!(missing, [""; 0]);
}

/// What Envoy refuses itself has a line too, without a record: no filter was asked.
#[test]
fn what_envoy_refuses_has_no_record() {
    let gate = Gate::start(|_| {});
    for (raw, status) in [
        (
            "GET /v1/things HTTP/1.0\r\nhost: records.example\r\n\r\n",
            426,
        ),
        ("GET /v1/things HTTP/1.1\r\n\r\n", 400),
        ("GET /v1/things HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n", 400),
    ] {
        let response = h1::exchange_raw(&gate.address, &[raw.into()], false).unwrap();
        assert_eq!(response.unwrap().status, status, "{raw}");
    }
    let long = format!(
        "GET /v1/things HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    let response = h1::exchange_raw(&gate.address, &[long.into()], false).unwrap();
    assert_eq!(response.unwrap().status, 431);
    assert_eq!(gate.ask(&ASK).unwrap().status, 200);
    let lines = gate.lines(5);
    let told = lines.iter().filter(|line| line.gate.is_some()).count();
    assert_eq!(told, 1, "{lines:?}");
    for line in lines.iter().filter(|line| line.gate.is_none()) {
        assert_ne!(line.details, "via_upstream", "{line:?}");
    }
}

#[test]
fn refusals_alone_are_told_unless_the_policy_says_more() {
    let gate = Gate::start(|policy| {
        unlimited(policy);
        policy.as_object_mut().unwrap().remove("record");
    });
    let kinds = kinds();
    for ask in &kinds {
        assert_eq!(gate.ask(ask).unwrap().status, ask.status, "{ask:?}");
    }
    for line in gate.lines(kinds.len()) {
        assert_eq!(line.gate.is_some(), line.status >= 400, "{line:?}");
    }
    let stats = gate.process.admin("/stats/prometheus").unwrap();
    assert!(stats.contains(r#"reason="scope_missing""#), "{stats}");
    assert!(!stats.contains(r#"reason="allowed""#), "{stats}");
}

#[test]
fn nothing_is_told_where_the_policy_says_so() {
    let gate = Gate::start(|policy| {
        unlimited(policy);
        policy["record"] = json!({ "access_log": "none", "metrics": "none" });
    });
    let kinds = kinds();
    for ask in &kinds {
        assert_eq!(gate.ask(ask).unwrap().status, ask.status, "{ask:?}");
    }
    for line in gate.lines(kinds.len()) {
        assert!(line.gate.is_none(), "{line:?}");
    }
    let stats = gate.process.admin("/stats").unwrap();
    assert!(!stats.contains("portcullis.decisions"), "{stats}");
}

/// Samples of `portcullis_decisions` by their labels, and all others of ours by name.
fn samples(gate: &Gate) -> BTreeMap<String, u64> {
    let text = gate.process.admin("/stats/prometheus").unwrap();
    let ours = text
        .lines()
        .filter(|line| line.starts_with("portcullis_") && !line.contains("_bucket{"));
    ours.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    })
    .collect()
}

#[test]
fn counters_have_labels() {
    let gate = Gate::start(unlimited);
    for ask in kinds() {
        gate.ask(&ask).unwrap();
        gate.ask(&ask).unwrap();
    }
    let found = samples(&gate);
    let fingerprint = found
        .iter()
        .find(|(name, _)| name.starts_with("portcullis_policy_fingerprint"));
    assert!(*fingerprint.unwrap().1 > 0);
    let decisions: BTreeMap<&str, u64> = found
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("portcullis_decisions")?, *value)))
        .collect();
    let expected = [
        (r#"{reason="host_unknown"}"#, 2),
        (r#"{reason="key_unknown",api="records"}"#, 2),
        (r#"{reason="key_expired",api="records"}"#, 2),
        (r#"{reason="credential_missing",api="records"}"#, 2),
        (r#"{reason="method_not_allowed",api="records"}"#, 2),
        (r#"{reason="path_invalid",api="records"}"#, 2),
        (r#"{reason="route_unknown",api="records"}"#, 2),
        (r#"{reason="allowed",api="records",route="read"}"#, 2),
        (
            r#"{reason="scope_missing",api="records",route="secret"}"#,
            2,
        ),
        (r#"{reason="public",api="records",route="status"}"#, 2),
        (r#"{reason="answered",api="records",route="analyze"}"#, 2),
        (r#"{reason="allowed",api="records",route="analyze"}"#, 2),
        (
            r#"{reason="field_missing",api="records",route="analyze"}"#,
            2,
        ),
        (
            r#"{reason="body_malformed",api="records",route="analyze"}"#,
            2,
        ),
    ];
    let labels = |text: &str| -> BTreeSet<String> {
        let inner = text.trim_start_matches('{').trim_end_matches('}');
        inner.split(',').map(str::to_owned).collect()
    };
    let decisions: BTreeMap<BTreeSet<String>, u64> = decisions
        .into_iter()
        .map(|(text, value)| (labels(text), value))
        .collect();
    let expected: BTreeMap<BTreeSet<String>, u64> = expected
        .into_iter()
        .map(|(text, value)| (labels(text), value))
        .collect();
    assert_eq!(decisions, expected);
}

/// Under `mode: observe` the upstream's answer is looked at beside the verdict, and the two are counted by label.
#[test]
fn verdicts_are_compared_with_the_upstreams() {
    let gate = Gate::start(|policy| {
        unlimited(policy);
        policy["mode"] = "observe".into();
        policy["threat"] = json!({ "indicators": { "domains": ["malware.example"] } });
        policy.as_object_mut().unwrap().remove("record");
    });
    let listed = r#"{"target":"http://malware.example/"}"#;
    let unheard = r#"{"target":"http://a.example/"}"#;
    let json = |body: &str| Answer {
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.into(),
        ..Answer::default()
    };
    let said = |word: &str| json(&format!(r#"{{"classification":"{word}","risk_score":50}}"#));
    let rows = [
        (listed, said("malicious"), "malicious", "malicious", false),
        (listed, said("benign"), "malicious", "benign", true),
        (unheard, said("benign"), "unknown", "benign", false),
        (unheard, said("malicious"), "unknown", "malicious", true),
        (unheard, Answer::default(), "unknown", "unreadable", false),
        (
            unheard,
            Answer {
                status: 500,
                ..said("benign")
            },
            "unknown",
            "absent",
            false,
        ),
    ];
    for (body, answer, ..) in &rows {
        for h2 in [false, true] {
            gate.upstream.expect(answer.clone());
            let ask = Ask {
                method: "POST",
                path: "/v1/threats/analyze",
                body: Some(body),
                h2,
                ..ASK
            };
            let response = gate.ask(&ask).unwrap();
            assert_eq!(response.status, answer.status, "{answer:?}");
            assert_eq!(response.body, answer.body.as_bytes(), "{answer:?}");
        }
    }
    let found = samples(&gate);
    for (_, _, edge, upstream, _) in &rows {
        let labels = [
            format!(r#"edge="{edge}""#),
            format!(r#"upstream="{upstream}""#),
            r#"api="records""#.to_owned(),
            r#"route="analyze""#.to_owned(),
        ];
        let counted: Vec<u64> = found
            .iter()
            .filter(|(name, _)| name.starts_with("portcullis_compared{"))
            .filter(|(name, _)| labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| *value)
            .collect();
        assert_eq!(counted, [2], "{labels:?}: {found:?}");
    }
    // Where one warns and the other does not the access log tells of it, unless the policy says otherwise.
    let lines = gate.lines(2 * rows.len());
    let told = lines.iter().filter_map(|line| line.gate.as_ref());
    let mut told: Vec<_> = told
        .map(|record| {
            ["verdict", "upstream_verdict", "upstream_score"].map(|name| record.get(name))
        })
        .collect();
    told.sort();
    let row = |edge: &str, upstream: &str| [edge, upstream, "50"].map(|text| Some(text.to_owned()));
    let expected = [row("malicious", "benign"), row("unknown", "malicious")];
    assert_eq!(told, expected.map(|row| [row.clone(), row]).concat());
}
