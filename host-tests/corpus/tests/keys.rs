//! Keys that come over HTTP, in real Envoy: bundles that change under load, questions that are shared.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code"
)]

mod served;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::wire::h1;
use portcullis_corpus::wire::stream::{Address, Connection};
use portcullis_corpus::wire::{Message, h1 as client};
use portcullis_corpus::{Document, Profile};
use portcullis_policy::{BundleWriter, DigestScheme};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use served::{deadline, serve};

fn hex(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A bundle of these keys and a thousand others: several pages.
fn bundle(keys: &[&str], generated_at: u64) -> Vec<u8> {
    let mut writer = BundleWriter::new("shop", "r", generated_at, DigestScheme::Plain).unwrap();
    let others = (0..1000).map(|number| format!("other-{number}"));
    for (number, key) in others
        .chain(keys.iter().map(|key| (*key).to_owned()))
        .enumerate()
    {
        let record = json!({ "id": format!("k{number}"), "principal": "acme", "tier": "basic" });
        writer
            .add(&hex(&key), record.to_string().into_bytes())
            .unwrap();
    }
    writer.finish().unwrap()
}

fn policy(keys: &Value) -> Document {
    let policy = json!({
        "version": 1,
        "probes": { "ready": "/ready" },
        "unauthenticated": { "rate": "1000000/s" },
        "apis": { "shop": {
            "hosts": ["shop.example"],
            "keys": keys,
            "tiers": { "basic": { "rate": "unlimited" } },
            "routes": { "items": { "match": "GET /items" } },
        } },
    });
    Document::new("keys", policy)
}

struct Gate {
    process: Process,
    address: Address,
    _upstream: Upstream,
}

impl Gate {
    fn start(directory: Directory, service: &Path, policy: &Document, workers: u32) -> Self {
        let tools = Tools::find().unwrap_or_else(|error| panic!("{error}"));
        let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
        let socket = directory.path().join("gate.sock");
        let listener = Listener {
            name: "gate",
            socket: &socket,
            profile: Profile::Headers,
            document: policy,
        };
        let listeners = [listener.render(&tools.wasm)];
        let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &listeners);
        let clusters = bootstrap.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).unwrap();
        clusters.push(config::named_cluster("keys", service));
        let mut process =
            Process::start_workers(&tools.envoy, directory, &bootstrap, workers).unwrap();
        process
            .wait_until_live(deadline())
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            process,
            address: Address::Unix(socket),
            _upstream: upstream,
        }
    }

    fn status(&self, path: &str, key: &str) -> u16 {
        let message = Message {
            method: Some(b"GET".to_vec()),
            path: Some(path.into()),
            host: Some(b"shop.example".to_vec()),
            headers: vec![(
                b"authorization".to_vec(),
                format!("Bearer {key}").into_bytes(),
            )],
            ..Message::default()
        };
        client::exchange(&self.address, &message)
            .unwrap()
            .unwrap()
            .status
    }

    /// Waits until a key gets this status many times in a row, so on every worker; meanwhile another
    /// one always gets 200.
    fn await_everywhere(&self, key: &str, status: u16, good: Option<&str>) {
        let deadline = deadline();
        let mut in_a_row = 0;
        while in_a_row < 40 {
            if let Some(good) = good {
                assert_eq!(self.status("/items", good), 200, "{}", self.process.said());
            }
            let found = self.status("/items", key);
            in_a_row = if found == status { in_a_row + 1 } else { 0 };
            deadline
                .left()
                .unwrap_or_else(|_| panic!("{key} gets {found}:\n{}", self.process.said()));
        }
    }

    /// Nothing made a VM trap, or Envoy warn but of a source that is away.
    fn outlived(&self) {
        let died = self.stat("vm_reload");
        assert!(died.iter().all(|(_, count)| *count == 0), "{died:?}");
        let mut alarms = self.process.alarms();
        alarms.retain(|line| !line.contains("key bundle of shop not loaded"));
        assert_eq!(alarms, Vec::<String>::new());
    }

    fn stat(&self, part: &str) -> Vec<(String, u64)> {
        let stats = self.process.admin("/stats").unwrap();
        let lines = stats.lines().filter(|line| line.contains(part));
        lines
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}

#[test]
fn a_bundle_is_fetched_by_one_adopted_by_all_and_outlives_its_source() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("keys.sock");
    let served = serve(&socket);
    let source = json!({ "cluster": "keys", "path": "/shop", "refresh": "1s", "max_stale": "1h" });
    let gate = Gate::start(directory, &socket, &policy(&json!({ "bundle": source })), 2);
    assert_eq!(gate.status("/ready", "x"), 503);
    assert_eq!(gate.status("/items", "kept"), 503);

    let first = bundle(&["kept", "revoked"], 1);
    let pages = first.len().div_ceil(64 * 1024);
    assert!(pages > 1);
    served.lock().unwrap().file = Some((first, "\"1\""));
    gate.await_everywhere("revoked", 200, None);
    assert_eq!(gate.status("/ready", "x"), 200);
    assert_eq!(gate.status("/items", "wrong"), 401);
    // Three VMs have it, and one of them has asked.
    assert_eq!(served.lock().unwrap().pages, pages);

    let second = bundle(&["kept"], 2);
    served.lock().unwrap().file = Some((second, "\"2\""));
    gate.await_everywhere("revoked", 401, Some("kept"));
    assert_eq!(served.lock().unwrap().pages, 2 * pages);

    let asked = {
        let mut served = served.lock().unwrap();
        served.file = None;
        served.asked
    };
    let deadline = deadline();
    while served.lock().unwrap().asked < asked + 3 {
        assert_eq!(gate.status("/items", "kept"), 200);
        deadline.left().unwrap();
    }
    assert_eq!(gate.status("/ready", "x"), 200);

    let served_by = gate.stat("downstream_cx_total");
    let workers = served_by
        .iter()
        .filter(|(name, count)| name.contains(".worker_") && *count > 0);
    assert_eq!(workers.count(), 2, "{served_by:?}");
    let keys = gate.stat("portcullis.keys.shop.keys");
    assert!(keys.iter().any(|(_, count)| *count == 1001), "{keys:?}");
    gate.outlived();
}

#[test]
fn a_seed_opens_before_its_source_is_there() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("keys.sock");
    let seed = base64(&bundle(&["kept"], 1));
    let source = json!({ "cluster": "keys", "path": "/shop", "refresh": "1s", "seed": seed });
    let gate = Gate::start(directory, &socket, &policy(&json!({ "bundle": source })), 2);
    // From the first request on, on whichever worker, no known key is refused.
    for _ in 0..200 {
        assert_eq!(
            gate.status("/items", "kept"),
            200,
            "{}",
            gate.process.said()
        );
    }
    let first = gate.stat("downstream_cx_total");
    let serving = |(name, count): &&(String, u64)| name.contains(".worker_") && *count > 0;
    assert_eq!(first.iter().filter(serving).count(), 2, "{first:?}");
    assert_eq!(gate.status("/ready", "x"), 200);
    assert_eq!(gate.status("/items", "wrong"), 401);
    let served = serve(&socket);
    served.lock().unwrap().file = Some((bundle(&["later"], 2), "\"2\""));
    gate.await_everywhere("later", 200, None);
    gate.await_everywhere("kept", 401, Some("later"));
    gate.outlived();
}

/// Who asks first leaves; who waits with it is answered.
#[test]
fn a_question_outlives_who_asked_it() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("keys.sock");
    let service = UnixListener::bind(&socket).unwrap();
    let lookup = json!({ "cluster": "keys", "path": "/k/", "timeout": "10s" });
    let gate = Gate::start(directory, &socket, &policy(&json!({ "lookup": lookup })), 1);
    let Address::Unix(listener) = &gate.address else {
        panic!("it listens elsewhere")
    };
    let ask = || {
        let mut stream = UnixStream::connect(listener).unwrap();
        let request = "GET /items HTTP/1.1\r\nhost: shop.example\r\nauthorization: Bearer shared\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let await_stat = |part: &str, at_least: u64| {
        let deadline = deadline();
        while !gate.stat(part).iter().any(|(_, count)| *count >= at_least) {
            deadline.left().unwrap_or_else(|_| panic!("{part} stays"));
        }
    };
    let leader = ask();
    let (question, _) = service.accept().unwrap();
    let mut question = Connection::accepted(question, deadline());
    let asked = h1::read_request(&mut question).unwrap().unwrap();
    assert_eq!(asked.target, format!("/k/{}", hex("shared")).into_bytes());
    let mut followers = [ask(), ask()];
    await_stat("http.http.downstream_rq_active", 3);
    drop(leader);
    await_stat("http.http.downstream_cx_destroy_remote_active_rq", 1);
    let record =
        json!({ "id": "k1", "principal": "acme", "tier": "basic", "sha256": hex("shared") });
    let record = record.to_string();
    let length = record.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    question.write_all((head + &record).as_bytes()).unwrap();
    for follower in &mut followers {
        let mut answer = String::new();
        follower.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // What was learned is known.
    assert_eq!(gate.status("/items", "shared"), 200);
    service.set_nonblocking(true).unwrap();
    assert!(service.accept().is_err(), "it was asked once");
    gate.outlived();
}

/// As many as may wait for one answer are answered, whatever it takes the host to do so.
#[test]
fn a_crowd_that_waits_for_one_answer_is_answered() {
    const CROWD: usize = 990;
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("keys.sock");
    let service = UnixListener::bind(&socket).unwrap();
    let lookup = json!({ "cluster": "keys", "path": "/k/", "timeout": "10s" });
    let gate = Gate::start(directory, &socket, &policy(&json!({ "lookup": lookup })), 1);
    let Address::Unix(listener) = &gate.address else {
        panic!("it listens elsewhere")
    };
    let ask = |_| {
        let mut stream = UnixStream::connect(listener).unwrap();
        let request = "GET /items HTTP/1.1\r\nhost: shop.example\r\nauthorization: Bearer shared\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut crowd: Vec<_> = (0..CROWD).map(ask).collect();
    let (question, _) = service.accept().unwrap();
    let deadline = deadline();
    let waits = |(_, count): &(String, u64)| *count >= CROWD as u64;
    while !gate
        .stat("http.http.downstream_rq_active")
        .iter()
        .any(waits)
    {
        deadline.left().unwrap();
    }
    drop(question);
    for stream in &mut crowd {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    gate.outlived();
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word.get_mut(..chunk.len()).unwrap().copy_from_slice(chunk);
        let [a, b, c] = word.map(usize::from);
        let digits = [
            a >> 2,
            (a & 3) << 4 | b >> 4,
            (b & 15) << 2 | c >> 6,
            c & 63,
        ];
        for (place, digit) in digits.into_iter().enumerate() {
            let is_filler = place > chunk.len();
            text.push(if is_filler {
                '='
            } else {
                char::from(*DIGITS.get(digit).unwrap())
            });
        }
    }
    text
}
