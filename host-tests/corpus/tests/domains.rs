//! What is learned of domains, in real Envoy: on one worker for all, over a policy that is replaced.
//!
//! Needs `ENVOY` (the binary) and `PORTCULLIS_WASM` (the module); `cargo xtask test` sets both.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_corpus::envoy::Tools;
use portcullis_corpus::envoy::config::{self, Listener};
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::upstream::Upstream;
use portcullis_corpus::wire::stream::{Address, Connection, Deadline};
use portcullis_corpus::{Document, Profile};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ROOT: &str = "gate";
const WORKERS: usize = 2;

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

/// Access to domains, and a route that shows whether a policy is in force.
fn policy(shown: &str) -> Document {
    let digest: String = Sha256::digest("the-key")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let policy = json!({
        "version": 1,
        "unauthenticated": { "rate": "1000000/s" },
        "apis": { "sites": {
            "hosts": ["sites.example"],
            "keys": [{ "id": "k1", "principal": "acme", "tier": "basic", "sha256": digest }],
            "tiers": { "basic": { "rate": "unlimited" } },
            "domain_access": { "unknown": "refuse", "keep": "1h" },
            "routes": {
                "site": { "match": "GET /sites/{domain}", "domain": "path.domain" },
                "add": { "match": "PUT /sites/{domain}", "grants": "path.domain" },
                "remove": { "match": "DELETE /sites/{domain}", "revokes": "path.domain" },
                "shown": { "match": format!("GET /{shown}") },
            },
        } },
    });
    Document::new(ROOT, policy)
}

/// The gate, whose filter comes from a file that is watched.
struct Gate {
    process: Process,
    watched: PathBuf,
    wasm: PathBuf,
    socket: PathBuf,
    _upstream: Upstream,
}

impl Gate {
    fn start() -> Self {
        let tools = Tools::find().unwrap_or_else(|error| panic!("{error}"));
        let directory = Directory::new().unwrap();
        let upstream = Upstream::start(&directory.path().join("upstream.sock")).unwrap();
        let socket = directory.path().join("gate.sock");
        let watched = directory.path().join("extensions");
        fs::create_dir(&watched).unwrap();
        let document = policy("first");
        let listener = listener(&socket, &document);
        write(&watched, &listener, &tools.wasm);
        let mut rendered = listener.render(&tools.wasm);
        let filter = "/filter_chains/0/filters/0/typed_config/http_filters/0";
        let filter = rendered.pointer_mut(filter).unwrap();
        *filter = json!({
            "name": filter["name"],
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
        let workers = u32::try_from(WORKERS).unwrap();
        let mut process =
            Process::start_workers(&tools.envoy, directory, &bootstrap, workers).unwrap();
        process
            .wait_until_live(deadline())
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            process,
            watched,
            wasm: tools.wasm,
            socket,
            _upstream: upstream,
        }
    }

    fn push(&self, document: &Document) {
        write(&self.watched, &listener(&self.socket, document), &self.wasm);
    }

    /// Connections that each worker has accepted.
    fn accepted(&self) -> Vec<u64> {
        let stats = self
            .process
            .admin("/stats?filter=downstream_cx_total")
            .unwrap();
        let accepted = |worker: usize| {
            let part = format!(".worker_{worker}.downstream_cx_total");
            let mut lines = stats.lines().filter(|line| {
                line.starts_with("listener.") && !line.starts_with("listener.admin")
            });
            let count = lines.find_map(|line| line.split_once(&part)?.1.strip_prefix(": "));
            count.map_or(0, |count| count.parse().unwrap())
        };
        (0..WORKERS).map(accepted).collect()
    }

    /// A connection to each worker; it stays there.
    fn clients(&self) -> Vec<Client> {
        let deadline = deadline();
        let mut clients: Vec<Option<Client>> = (0..WORKERS).map(|_| None).collect();
        while clients.iter().any(Option::is_none) {
            deadline
                .left()
                .unwrap_or_else(|_| panic!("a worker accepts none:\n{}", self.process.said()));
            let before = self.accepted();
            let address = Address::Unix(self.socket.clone());
            let mut client = Client(Connection::open(&address, deadline).unwrap());
            assert_eq!(client.status("GET /first"), 200);
            let after = self.accepted();
            let worker = (0..WORKERS).find(|worker| after[*worker] > before[*worker]);
            clients[worker.unwrap()].get_or_insert(client);
        }
        clients.into_iter().flatten().collect()
    }
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
    let mut resource: Value = listener.filter(wasm);
    resource["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    let file = json!({ "resources": [resource] });
    fs::write(watched.join("fresh"), file.to_string()).unwrap();
    fs::rename(watched.join("fresh"), watched.join("ecds.json")).unwrap();
}

/// A connection that asks again and again.
struct Client(Connection);

impl Client {
    fn status(&mut self, line: &str) -> u16 {
        let head = "Host: sites.example\r\nAuthorization: Bearer the-key\r\nContent-Length: 0\r\n";
        let request = format!("{line} HTTP/1.1\r\n{head}\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.byte()));
        }
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.unwrap_or_else(|| panic!("no length: {head}"));
        for _ in 0..length.parse::<usize>().unwrap() {
            self.byte();
        }
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }
}

/// Each client is of another worker; each of them in turn does what the others must see.
#[test]
fn what_one_worker_learns_all_know_over_a_reload() {
    let gate = Gate::start();
    let mut clients = gate.clients();
    for by in 0..WORKERS {
        let domain = format!("d{by}.example");
        let see = |clients: &mut [Client], status: u16| {
            for (worker, client) in clients.iter_mut().enumerate() {
                let found = client.status(&format!("GET /sites/{domain}"));
                assert_eq!(found, status, "{domain} on worker {worker}");
            }
        };
        see(&mut clients, 403);
        assert_eq!(clients[by].status(&format!("PUT /sites/{domain}")), 200);
        see(&mut clients, 200);

        let shown = format!("pushed-{by}");
        gate.push(&policy(&shown));
        let deadline = deadline();
        for client in &mut clients {
            while client.status(&format!("GET /{shown}")) != 200 {
                let left = deadline.left();
                left.unwrap_or_else(|_| panic!("no update:\n{}", gate.process.said()));
            }
        }
        see(&mut clients, 200);

        let other = (by + 1) % WORKERS;
        assert_eq!(
            clients[other].status(&format!("DELETE /sites/{domain}")),
            200
        );
        see(&mut clients, 403);
        // Taken is not forgotten: a success gives it back.
        assert_eq!(clients[other].status(&format!("PUT /sites/{domain}")), 200);
        see(&mut clients, 200);
    }
    assert_eq!(gate.process.alarms(), Vec::<String>::new());
}
