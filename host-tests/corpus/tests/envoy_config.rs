//! What real Envoy makes of policies that are refused, and of policies that change.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::wire::stream::{Address, Deadline};
use portcullis_corpus::wire::{Message, h1};
use portcullis_corpus::{Corpus, Document, Profile, Response};
use serde_json::{Value, json};

const ROOT: &str = "gate";

fn tools() -> Tools {
    Tools::find().unwrap_or_else(|error| panic!("{error}"))
}

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// The policy of the status table for problem details, at a revision.
fn policy(revision: &str) -> Value {
    let corpus = Corpus::load().unwrap();
    let mut policy = corpus.documents.get("shop").unwrap().value().clone();
    set(&mut policy, "/revision", json!(revision));
    set(&mut policy, "/probes", json!({ "ready": "/ready" }));
    policy
}

fn set(policy: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = policy.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(name.to_owned(), value);
}

/// Two things that are wrong with a policy, and the lines that say so.
fn spoil(policy: &mut Value) -> [&'static str; 2] {
    set(policy, "/apis/shop/routes/items/secret_door", json!(true));
    set(policy, "/apis/shop/tiers/basic/rate", json!("often"));
    [
        "apis.shop.routes.items.secret_door: ",
        "apis.shop.tiers.basic.rate: `often` is not a rate",
    ]
}

/// An Envoy whose listener comes from a file that it watches.
struct Gate {
    process: Process,
    address: Address,
    socket: PathBuf,
    tools: Tools,
    profile: Profile,
    _upstream: Upstream,
}

impl Gate {
    fn start(profile: Profile, policy: &Value) -> Self {
        let tools = tools();
        let directory = Directory::new().unwrap();
        let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
        let socket = directory.path().join("gate.sock");
        let watched = directory.path().join("listeners");
        fs::create_dir(&watched).unwrap();
        let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &[]);
        set(
            &mut bootstrap,
            "/node",
            json!({ "id": "gate", "cluster": "gate" }),
        );
        set(
            &mut bootstrap,
            "/dynamic_resources",
            json!({ "lds_config": { "resource_api_version": "V3", "path_config_source": {
                "path": watched.join("lds.json"),
                "watched_directory": { "path": watched },
            } } }),
        );
        write_listener(&tools, &watched, profile, &socket, policy);
        let mut process = Process::start(&tools.envoy, directory, &bootstrap).unwrap();
        process
            .wait_until_live(deadline())
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            process,
            address: Address::Unix(socket.clone()),
            socket,
            tools,
            profile,
            _upstream: upstream,
        }
    }

    /// Puts another policy into the watched file, and waits until Envoy has taken it in or refused
    /// it.
    fn update(&self, policy: &Value, counter: &str) {
        let before = self.counter(counter);
        let watched = self.process.directory().join("listeners");
        write_listener(&self.tools, &watched, self.profile, &self.socket, policy);
        let deadline = deadline();
        while self.counter(counter) == before {
            deadline
                .left()
                .unwrap_or_else(|_| panic!("{counter} stays {before}:\n{}", self.process.said()));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn counter(&self, name: &str) -> u64 {
        let stats = self
            .process
            .admin(&format!("/stats?filter={name}$"))
            .unwrap();
        let value = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(0, |value| value.parse().unwrap())
    }

    fn get(&self, path: &str, key: Option<&str>) -> Response {
        let mut headers = vec![(b"x-forwarded-for".to_vec(), b"192.0.2.1".to_vec())];
        if let Some(key) = key {
            let corpus = Corpus::load().unwrap();
            let key = corpus.keys.get(key).unwrap();
            headers.push((
                b"authorization".to_vec(),
                format!("Bearer {key}").into_bytes(),
            ));
        }
        let message = Message {
            method: Some(b"GET".to_vec()),
            path: Some(path.into()),
            host: Some(b"shop.example".to_vec()),
            headers,
            ..Message::default()
        };
        h1::exchange(&self.address, &message).unwrap().unwrap()
    }

    fn revision(&self) -> String {
        let ready: Value = serde_json::from_slice(&self.get("/ready", None).body).unwrap();
        ready.get("revision").unwrap().as_str().unwrap().to_owned()
    }

    /// Waits until new connections are served under this revision.
    fn await_revision(&self, revision: &str) {
        let deadline = deadline();
        while self.revision() != revision {
            deadline
                .left()
                .unwrap_or_else(|_| panic!("{revision} is never served"));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Replaces the file as one step, as a file that is watched must be.
fn write_listener(
    tools: &Tools,
    watched: &std::path::Path,
    profile: Profile,
    socket: &std::path::Path,
    policy: &Value,
) {
    let document = Document::new(ROOT, policy.clone());
    let listener = Listener {
        name: ROOT,
        socket,
        profile,
        document: &document,
    };
    let mut resource = listener.render(&tools.wasm);
    set(
        &mut resource,
        "/@type",
        json!("type.googleapis.com/envoy.config.listener.v3.Listener"),
    );
    let version = policy.get("revision").unwrap();
    let file = json!({ "version_info": version, "resources": [resource] });
    let fresh = watched.join("fresh");
    fs::write(&fresh, file.to_string()).unwrap();
    fs::rename(&fresh, watched.join("lds.json")).unwrap();
}

fn header(response: &Response, name: &str) -> String {
    let value = response
        .headers
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.clone());
    String::from_utf8(value.unwrap_or_default()).unwrap()
}

#[test]
fn a_bad_policy_keeps_envoy_from_starting() {
    for profile in [Profile::Headers, Profile::Body] {
        let tools = tools();
        let directory = Directory::new().unwrap();
        let mut policy = policy("bad");
        let lines = spoil(&mut policy);
        let document = Document::new(ROOT, policy);
        let socket = directory.path().join("gate.sock");
        let listener = Listener {
            name: ROOT,
            socket: &socket,
            profile,
            document: &document,
        };
        let bootstrap = config::bootstrap(
            directory.path(),
            &directory.path().join("up.sock"),
            &[listener.render(&tools.wasm)],
        );
        let mut process = Process::start(&tools.envoy, directory, &bootstrap).unwrap();
        let status = process
            .wait_until_ended(deadline())
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(!status.success(), "{status}");
        for line in lines {
            let line = format!("policy refused: {line}");
            assert!(
                process.said().contains(&line),
                "no line `{line}` in\n{}",
                process.said()
            );
        }
    }
}

#[test]
fn a_bad_update_leaves_the_old_policy_in_force() {
    for profile in [Profile::Headers, Profile::Body] {
        let gate = Gate::start(profile, &policy("one"));
        assert_eq!(
            header(
                &gate.get("/items", Some("sh_acme")),
                "x-ratelimit-remaining"
            ),
            "9"
        );
        let mut bad = policy("two");
        let lines = spoil(&mut bad);
        gate.update(&bad, "listener_manager.lds.update_rejected");
        for line in lines {
            // The log may lag behind the counter.
            let deadline = deadline();
            let told = format!("policy refused: {line}");
            while !gate.process.said().contains(&told) {
                let left = deadline.left();
                left.unwrap_or_else(|_| panic!("no line `{line}` in\n{}", gate.process.said()));
                thread::sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(gate.revision(), "one");
        let response = gate.get("/items", Some("sh_acme"));
        assert_eq!(
            (
                response.status,
                header(&response, "x-ratelimit-remaining").as_str()
            ),
            (200, "8")
        );

        // And a mended one is taken over after that.
        gate.update(&policy("three"), "listener_manager.lds.update_success");
        gate.await_revision("three");
    }
}

#[test]
fn a_good_update_serves_at_once_and_refills_nothing() {
    for profile in [Profile::Headers, Profile::Body] {
        let gate = Gate::start(profile, &policy("one"));
        assert_eq!(
            header(
                &gate.get("/items", Some("sh_acme")),
                "x-ratelimit-remaining"
            ),
            "9"
        );
        assert_eq!(gate.get("/items", Some("sh_globex")).status, 200);
        assert_eq!(
            header(&gate.get("/items", None), "x-ratelimit-remaining"),
            "2"
        );
        assert_eq!(gate.get("/new", Some("sh_acme")).status, 404);

        let mut next = policy("two");
        set(
            &mut next,
            "/apis/shop/routes/new",
            json!({ "match": "GET /new" }),
        );
        // Twice as fast: what was spent stays spent, cell by cell.
        set(&mut next, "/apis/shop/tiers/basic/rate", json!("288/d"));
        set(&mut next, "/revoked", json!(["sh_revoked", "sh_globex"]));
        gate.update(&next, "listener_manager.lds.update_success");
        gate.await_revision("two");

        let response = gate.get("/new", Some("sh_acme"));
        assert_eq!(response.status, 200);
        // 9 after the first request, 8 after the one for the path that was unknown.
        assert_eq!(header(&response, "x-ratelimit-remaining"), "7");
        assert_eq!(header(&response, "x-ratelimit-limit"), "288");
        let response = gate.get("/items", Some("sh_globex"));
        assert_eq!(
            (
                response.status,
                header(&response, "x-ratelimit-remaining").as_str()
            ),
            (401, "1")
        );
    }
}
