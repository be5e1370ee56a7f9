//! Rules of each kind are switched between shadow and enforcement while requests run, by the extension configuration
//! discovery service (ECDS) from a file.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::wire::stream::{Address, Deadline};
use portcullis_corpus::wire::{Message, h1};
use portcullis_corpus::{Corpus, Document, Profile, Response};
use serde_json::json;

const ROOT: &str = "gate";
const SWITCHES: usize = 12;

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// What the rules refuse when they bind, each of another kind; the first is a limit that is spent.
const RULES: [(&str, u16); 6] = [
    ("/limited", 429),
    ("/scoped", 403),
    ("/paged?page=0", 400),
    ("/asked?count=x", 400),
    ("/screened?next=phish.example", 403),
    ("/denied", 403),
];

/// The policy with one rule of each kind, which bind or do not.
fn policy(corpus: &Corpus, mode: &str) -> Document {
    let mut policy = corpus.documents.get("shop").unwrap().value().clone();
    policy["clients"] = json!({ "deny": ["203.0.113.0/24"], "mode": mode });
    policy["threat"] = json!({ "indicators": { "domains": ["phish.example"] } });
    let shop = policy.pointer_mut("/apis/shop").unwrap();
    shop["limits"] = json!({ "two": { "rate": "144/d", "burst": 4, "mode": mode } });
    let routes = &mut shop["routes"];
    let free = |path: &str| json!({ "match": format!("GET /{path}"), "limits": [] });
    for name in ["free", "denied", "scoped", "paged", "asked", "screened"] {
        routes[name] = free(name);
    }
    routes["limited"] = json!({ "match": "GET /limited", "limits": ["two"] });
    routes["scoped"]["scope"] = json!({ "all": ["nobody"], "mode": mode });
    routes["paged"]["page"] = json!({ "max": 100, "mode": mode });
    routes["asked"]["query"] = json!({ "count": { "type": "integer", "mode": mode } });
    let screen = json!({ "of": "query.next", "block": "malicious", "mode": mode });
    routes["screened"]["screen"] = json!({ "next": screen });
    Document::new(ROOT, policy)
}

fn listener<'a>(socket: &'a Path, document: &'a Document) -> Listener<'a> {
    Listener {
        name: ROOT,
        socket,
        profile: Profile::Headers,
        document,
    }
}

/// Replaces the file as one step, as a file that is watched must be.
fn write(watched: &Path, listener: &Listener<'_>, wasm: &Path) {
    let mut resource = listener.filter(wasm);
    resource["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    let file = json!({ "resources": [resource] });
    fs::write(watched.join("fresh"), file.to_string()).unwrap();
    fs::rename(watched.join("fresh"), watched.join("ecds.json")).unwrap();
}

fn get(address: &Address, path: &str, key: &str) -> Response {
    let client: &[u8] = match path {
        "/denied" => b"203.0.113.7",
        _ => b"192.0.2.1",
    };
    let message = Message {
        method: Some(b"GET".to_vec()),
        path: Some(path.into()),
        host: Some(b"shop.example".to_vec()),
        headers: vec![
            (b"x-forwarded-for".to_vec(), client.to_vec()),
            (
                b"authorization".to_vec(),
                format!("Bearer {key}").into_bytes(),
            ),
        ],
        ..Message::default()
    };
    h1::exchange(address, &message).unwrap().unwrap()
}

#[test]
fn rules_of_each_kind_are_switched_under_load() {
    let tools = Tools::find().unwrap_or_else(|error| panic!("{error}"));
    let corpus = Corpus::load().unwrap();
    let key = corpus.keys.get("sh_acme").unwrap();
    let directory = Directory::new().unwrap();
    let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
    let socket = directory.path().join("gate.sock");
    let watched = directory.path().join("extensions");
    fs::create_dir(&watched).unwrap();
    let documents = ["enforce", "shadow"].map(|mode| policy(&corpus, mode));
    let [enforced, _] = &documents;
    write(&watched, &listener(&socket, enforced), &tools.wasm);
    let mut rendered = listener(&socket, enforced).render(&tools.wasm);
    let filter = "/filter_chains/0/filters/0/typed_config/http_filters/0";
    let name = rendered.pointer(filter).unwrap()["name"].clone();
    *rendered.pointer_mut(filter).unwrap() = json!({
        "name": name,
        "config_discovery": {
            "config_source": { "resource_api_version": "V3", "path_config_source": {
                "path": watched.join("ecds.json"),
                "watched_directory": { "path": watched },
            } },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    });
    let mut bootstrap = config::bootstrap(directory.path(), upstream.socket(), &[rendered]);
    bootstrap["node"] = json!({ "id": "gate", "cluster": "gate" });
    let mut process = Process::start(&tools.envoy, directory, &bootstrap).unwrap();
    process
        .wait_until_live(deadline())
        .unwrap_or_else(|error| panic!("{error}"));
    let address = Address::Unix(socket.clone());
    let reloads = || {
        let name = name.as_str().unwrap();
        let stat = format!("extension_config_discovery.http_filter.{name}.config_reload");
        let stats = process.admin(&format!("/stats?filter={stat}")).unwrap();
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&stat)?.strip_prefix(": "));
        line.map_or(0, |count| count.parse::<usize>().unwrap())
    };

    // Two of four pass after the start, then none until ten minutes are over.
    for status in [200, 200, 429] {
        assert_eq!(get(&address, "/limited", key).status, status);
    }
    for (path, refused) in RULES {
        assert_eq!(get(&address, path, key).status, refused, "{path}");
    }
    let is_over = AtomicBool::new(false);
    let statuses = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut statuses = BTreeSet::new();
            while !is_over.load(Ordering::SeqCst) {
                statuses.insert(get(&address, "/free", key).status);
            }
            statuses
        });
        for switch in 0..SWITCHES {
            let before = reloads();
            let [enforced, shadow] = &documents;
            let is_shadow = switch % 2 == 0;
            let document = if is_shadow { shadow } else { enforced };
            write(&watched, &listener(&socket, document), &tools.wasm);
            let deadline = deadline();
            while reloads() == before {
                let left = deadline.left();
                left.unwrap_or_else(|_| panic!("no update {switch}:\n{}", process.said()));
                thread::sleep(Duration::from_millis(20));
            }
            // A worker takes it over a moment after the counter.
            for (path, refused) in RULES {
                let wanted = if is_shadow { 200 } else { refused };
                while get(&address, path, key).status != wanted {
                    let left = deadline.left();
                    left.unwrap_or_else(|_| panic!("switch {switch}: {path} never {wanted}"));
                }
            }
        }
        is_over.store(true, Ordering::SeqCst);
        load.join().unwrap()
    });
    assert_eq!(statuses, BTreeSet::from([200]));
    // What was spent is spent, however often the rule was looked at anew.
    assert_eq!(get(&address, "/limited", key).status, 429);
}
