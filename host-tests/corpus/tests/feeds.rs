//! Threat bundles that come over HTTP, in real Envoy: adopted by all workers, replaced under load, never by worse ones.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod served;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_compact::{KeyPair, Seed};
use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::wire::stream::Address;
use portcullis_corpus::wire::{Message, h1 as client};
use portcullis_corpus::{Document, Profile};
use portcullis_threat::Category;
use portcullis_threat::bundle::{
    self as threats, Bundle, Fact, FeedEntry, List, SIGNED, Scope, Set, Table, Terms, Writer,
};
use serde_json::{Value, json};
use served::{deadline, serve};

/// Several pages.
const OTHERS: u32 = 100_000;
const PAGE: usize = 128 * 1024;

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([seed; 32]))
}

fn signed(mut bytes: Vec<u8>, by: &KeyPair) -> Vec<u8> {
    let opened = Bundle::open(bytes.clone(), &Terms::default()).unwrap();
    let signature = by.sk.sign([SIGNED, opened.digest()].concat(), None);
    threats::sign(&mut bytes, &by.pk, &signature);
    bytes
}

/// A bundle of these domains and many others, with the tables of structural evidence.
fn bundle(domains: &[&str], created: u64, licence: &str) -> Vec<u8> {
    let mut writer = Writer::new(*b"sixteen of bytes", created);
    let feed = FeedEntry {
        name: "alpha".into(),
        licence: licence.into(),
        fetched_at: created,
        valid_until: created + 86_400,
        sha256: [7; 32],
        allows: false,
    };
    let fact = Fact {
        feed: writer.feed(feed).unwrap(),
        category: Category::Phishing,
        confidence: 95,
        scope: Scope::SUBDOMAINS,
        block: true,
        first_seen: 0,
        last_seen: 0,
    };
    let others = (0..OTHERS).map(|number| format!("other-{number}.example"));
    for domain in others.chain(domains.iter().map(|domain| (*domain).to_owned())) {
        writer.add(List::Deny, Set::Domain, domain.as_bytes(), &fact);
    }
    let sections = portcullis_fit::sections().unwrap();
    writer.table(Table::Suffixes, &sections.suffixes);
    writer.table(Table::Brands, &sections.brands);
    writer.table(Table::Confusables, &sections.confusables);
    writer.table(Table::Model, &sections.model);
    writer.finish().unwrap().0
}

#[expect(clippy::disallowed_methods, reason = "real Envoy lives in real time")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

struct Gate {
    process: Process,
    address: Address,
    _upstream: Upstream,
}

impl Gate {
    fn start(directory: Directory, service: &Path, max_age: &str) -> Self {
        Self::start_with(directory, service, &json!({ "max_age": max_age }))
    }

    /// With more fields of `threat.bundle`.
    fn start_with(directory: Directory, service: &Path, more: &Value) -> Self {
        let mut policy = json!({
            "version": 1,
            "probes": { "ready": "/ready" },
            "apis": { "shop": {
                "hosts": ["shop.example"],
                "keys": [{ "id": "k", "principal": "p", "tier": "basic",
                    "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }],
                "tiers": { "basic": { "rate": "unlimited" } },
                "routes": { "check": { "match": "POST /check",
                    "fields": { "target": { "type": "string", "required": true } },
                    "verdict": { "of": "body.target" } } },
            } },
            "threat": { "model": "quick/2", "licences": ["CC0-1.0"],
                "bundle": { "cluster": "feeds", "path": "/threat.bundle", "refresh": "1s" } },
        });
        let fields = policy.pointer_mut("/threat/bundle");
        let fields = fields.and_then(Value::as_object_mut).unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let document = Document::new("feeds", policy);
        let tools = Tools::find().unwrap_or_else(|error| panic!("{error}"));
        let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
        let socket = directory.path().join("gate.sock");
        let listener = Listener {
            name: "gate",
            socket: &socket,
            profile: Profile::Headers,
            document: &document,
        };
        let listeners = [listener.render(&tools.wasm)];
        let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &listeners);
        let clusters = bootstrap.pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).unwrap();
        clusters.push(config::named_cluster("feeds", service));
        let mut process = Process::start_workers(&tools.envoy, directory, &bootstrap, 2).unwrap();
        process
            .wait_until_live(deadline())
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            process,
            address: Address::Unix(socket),
            _upstream: upstream,
        }
    }

    fn exchange(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let header = |name: &str, value: String| (name.as_bytes().to_vec(), value.into_bytes());
        let mut headers = vec![header("authorization", "Bearer secret".into())];
        if !body.is_empty() {
            headers.push(header("content-type", "application/json".into()));
            headers.push(header("content-length", body.len().to_string()));
        }
        let message = Message {
            method: Some(method.into()),
            path: Some(path.into()),
            host: Some(b"shop.example".to_vec()),
            headers,
            body: (!body.is_empty()).then(|| vec![body]),
            ..Message::default()
        };
        let answer = client::exchange(&self.address, &message).unwrap().unwrap();
        (answer.status, answer.body)
    }

    /// What the gate answers; `None` when the upstream does.
    fn verdict(&self, target: &str) -> Option<Value> {
        let body = json!({ "target": target }).to_string().into_bytes();
        let (status, body) = self.exchange("POST", "/check", body);
        assert_eq!(status, 200, "{}", self.process.said());
        serde_json::from_slice(&body)
            .ok()
            .filter(|answer: &Value| answer.get("classification").is_some())
    }

    fn classification(&self, target: &str) -> String {
        let verdict = self.verdict(target);
        let word = verdict
            .as_ref()
            .and_then(|verdict| verdict["classification"].as_str());
        word.unwrap_or("forwarded").to_owned()
    }

    /// Waits until a target is found to be this many times in a row, so on every worker.
    fn await_everywhere(&self, target: &str, word: &str) {
        let deadline = deadline();
        let mut in_a_row = 0;
        while in_a_row < 40 {
            let found = self.classification(target);
            in_a_row = if found == word { in_a_row + 1 } else { 0 };
            deadline
                .left()
                .unwrap_or_else(|_| panic!("{target} is {found}:\n{}", self.process.said()));
        }
    }

    fn await_refusal(&self, why: &str) {
        let deadline = deadline();
        while !self
            .process
            .said()
            .contains(&format!("threat bundle not loaded: {why}: "))
        {
            assert_eq!(self.classification("kept.example"), "malicious");
            deadline
                .left()
                .unwrap_or_else(|_| panic!("no {why}:\n{}", self.process.said()));
        }
    }

    fn gauge(&self, name: &str) -> Vec<u64> {
        let stats = self.process.admin("/stats").unwrap();
        let lines = stats.lines().filter(|line| line.contains(name));
        lines
            .filter_map(|line| line.split_once(": ")?.1.parse().ok())
            .collect()
    }

    /// Nothing made a VM trap, or Envoy warn but of bundles that are no good.
    fn outlived(&self) {
        assert!(self.gauge("vm_reload").iter().all(|count| *count == 0));
        let mut alarms = self.process.alarms();
        alarms.retain(|line| !line.contains("threat bundle not loaded"));
        assert_eq!(alarms, Vec::<String>::new());
    }
}

#[test]
fn a_bundle_is_replaced_under_load_and_never_by_a_worse_one() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("feeds.sock");
    let served = serve(&socket);
    let gate = Gate::start(directory, &socket, "1h");
    assert_eq!(gate.exchange("GET", "/ready", Vec::new()).0, 503);
    assert_eq!(gate.classification("kept.example"), "forwarded");

    let now = now();
    let first = bundle(&["kept.example", "gone.example"], now - 100, "CC0-1.0");
    let pages = first.len().div_ceil(PAGE);
    assert!(pages > 2);
    served.lock().unwrap().file = Some((first, "\"1\""));
    gate.await_everywhere("gone.example", "malicious");
    assert_eq!(gate.exchange("GET", "/ready", Vec::new()).0, 200);
    // Three VMs have it, and one of them has asked.
    assert_eq!(served.lock().unwrap().pages, pages);
    let verdict = gate.verdict("http://a.kept.example/x").unwrap();
    // Known by a table of the bundle.
    assert_eq!(
        verdict["target"]["registrable_domain"], "kept.example",
        "{verdict}"
    );
    assert_eq!(verdict["analysis"]["stale"], false);
    assert_eq!(verdict["indicators"][0].get("feed"), None);

    // What is unchanged is asked for and not sent again.
    let patience = deadline();
    while served.lock().unwrap().unchanged < 2 {
        assert_eq!(gate.classification("kept.example"), "malicious");
        patience.left().unwrap();
    }
    assert_eq!(served.lock().unwrap().pages, pages);

    let second = bundle(&["kept.example"], now - 50, "CC0-1.0");
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(gate.classification("x.kept.example"), "malicious");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        served.lock().unwrap().file = Some((second.clone(), "\"2\""));
        gate.await_everywhere("gone.example", "unknown");
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 40);

    let mut flipped = bundle(&["gone.example"], now - 40, "CC0-1.0");
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cut = second[..second.len() - 1].to_vec();
    let licence = bundle(&["gone.example"], now - 30, "proprietary");
    let older = bundle(&["gone.example"], now - 90, "CC0-1.0");
    let future = bundle(&["gone.example"], now + 7200, "CC0-1.0");
    for (file, tag, why) in [
        (flipped, "\"3\"", "digest"),
        (cut, "\"4\"", "length"),
        (licence, "\"5\"", "licence"),
        (older, "\"6\"", "older"),
        (future, "\"7\"", "future"),
    ] {
        served.lock().unwrap().file = Some((file, tag));
        gate.await_refusal(why);
    }
    served.lock().unwrap().file = None;
    gate.await_everywhere("kept.example", "malicious");
    assert_eq!(gate.classification("gone.example"), "unknown");
    let length = u64::try_from(second.len()).unwrap();
    let opened = Bundle::open(second, &Terms::default()).unwrap();
    let digest = opened.digest().iter().take(6);
    let version = digest.fold(0, |number, byte| number * 256 + u64::from(*byte));
    for (name, value) in [
        ("created_at", now - 50),
        ("version", version),
        ("bytes", length),
        ("is_current", 1),
    ] {
        let found = gate.gauge(&format!("portcullis.threat.{name}"));
        assert!(found.contains(&value), "{name}: {value} of {found:?}");
    }
    let ages = gate.gauge("portcullis.threat.age_seconds");
    assert!(ages.iter().any(|age| (50..300).contains(age)), "{ages:?}");
    gate.outlived();
}

#[test]
fn a_bundle_is_signed_by_those_who_may() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("feeds.sock");
    let served = serve(&socket);
    let word = |pair: &KeyPair| {
        let hex: String = pair.pk.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("ed25519:{hex}")
    };
    let (old, new, other) = (pair(1), pair(2), pair(3));
    let signers = json!({ "max_age": "1h", "signed_by": [word(&old), word(&new)] });
    let gate = Gate::start_with(directory, &socket, &signers);
    let now = now();
    let made = |domains: &[&str], ago: u64| bundle(domains, now - ago, "CC0-1.0");
    let first = signed(made(&["kept.example", "gone.example"], 100), &old);
    served.lock().unwrap().file = Some((first.clone(), "\"1\""));
    gate.await_everywhere("gone.example", "malicious");
    // The new key takes over, and needs no other policy.
    served.lock().unwrap().file = Some((signed(made(&["kept.example"], 90), &new), "\"2\""));
    gate.await_everywhere("gone.example", "unknown");

    let unsigned = made(&["gone.example"], 80);
    let by_another = signed(made(&["gone.example"], 70), &other);
    let mut forged = made(&["gone.example"], 60);
    let seal = first.len() - 96;
    let first_seal = first[seal..].split_first_chunk::<32>().unwrap();
    threats::sign(
        &mut forged,
        first_seal.0,
        first_seal.1.first_chunk().unwrap(),
    );
    let mut cut = signed(made(&["gone.example"], 50), &new);
    let half = cut.len() - 32;
    cut[half..].fill(0);
    for (file, tag, why) in [
        (unsigned, "\"3\"", "unsigned"),
        (by_another, "\"4\"", "signer"),
        (forged, "\"5\"", "signature"),
    ] {
        served.lock().unwrap().file = Some((file, tag));
        gate.await_refusal(why);
    }
    // The line of before is there already; this one is not taken either.
    served.lock().unwrap().file = Some((cut, "\"6\""));
    let asked = served.lock().unwrap().pages;
    let limit = deadline();
    while served.lock().unwrap().pages == asked {
        assert_eq!(gate.classification("kept.example"), "malicious");
        limit.left().unwrap();
    }
    served.lock().unwrap().file = Some((
        signed(made(&["kept.example", "late.example"], 40), &old),
        "\"7\"",
    ));
    gate.await_everywhere("late.example", "malicious");
    assert_eq!(gate.classification("gone.example"), "unknown");
    gate.outlived();
}

#[test]
fn a_bundle_that_is_too_old_says_nothing() {
    let directory = Directory::new().unwrap();
    let socket = directory.path().join("feeds.sock");
    let served = serve(&socket);
    let gate = Gate::start(directory, &socket, "60s");
    served.lock().unwrap().file = Some((bundle(&["kept.example"], now() - 45, "CC0-1.0"), "\"1\""));
    gate.await_everywhere("kept.example", "malicious");
    served.lock().unwrap().file = None;
    gate.await_everywhere("kept.example", "forwarded");
    assert_eq!(gate.exchange("GET", "/ready", Vec::new()).0, 200);
    gate.outlived();
}
