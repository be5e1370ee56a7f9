//! One Envoy with all the listeners that the tests need, each made of the one that is shipped.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use portcullis_corpus::Document;
use portcullis_corpus::envoy::config;
use portcullis_corpus::envoy::process::{Directory, Process};
use portcullis_corpus::envoy::{Tools, outlived};
use portcullis_corpus::wire::stream::{Address, Connection, Deadline};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::peer::{Head, Peer};

/// How long anything may take that must happen; nothing waits this long but what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long Envoy may take until it is live.
const START: Duration = Duration::from_secs(240);

/// The key of the policy.
pub(crate) const KEY: &str = "traffic-key";

/// The lines of a request head that carry it.
pub(crate) const WITH_KEY: &str = "Host: a.example\r\nAuthorization: Bearer traffic-key\r\n";

/// What the unauthenticated bucket of a client holds.
pub(crate) const BURST: u64 = 20;

/// What the key's quota holds, less than its tier's bucket.
pub(crate) const QUOTA: u64 = 50;

/// Envoy, and the upstream behind it.
pub(crate) struct Stage {
    process: Process,
    calls: Mutex<Receiver<Connection>>,
    listeners: Value,
}

/// A listener that is wanted: its name, where it listens, and what is unlike the shipped one.
struct Wanted {
    name: &'static str,
    address: Value,
    policy: Value,
    change: fn(&mut Value),
}

/// The connection manager of a listener.
const MANAGER: &str = "/filter_chains/0/filters/0/typed_config";
/// The ordinary route, the last one.
const ROUTE: &str = "/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
const FILTER: &str = "/filter_chains/0/filters/0/typed_config/http_filters/1/typed_config/config";

impl Stage {
    pub(crate) fn start() -> Result<Self, String> {
        let tools = Tools::find()?;
        let directory = Directory::new()?;
        let folder = directory.path().to_owned();
        let calls = upstream(&folder.join("upstream.sock"))?;
        let shipped = shipped()?;
        let listener = shipped
            .pointer("/static_resources/listeners/0")
            .ok_or("no listener")?;
        let mut listeners: Vec<Value> = wanted(&folder)
            .into_iter()
            .map(|wanted| wanted.render(listener, &tools.wasm))
            .collect();
        listeners.push(inner(&folder));
        let mut bootstrap = config::bootstrap(&folder, &folder.join("upstream.sock"), &listeners);
        let cluster = shipped
            .pointer("/static_resources/clusters/0")
            .ok_or("no cluster")?;
        set(
            &mut bootstrap,
            "/static_resources/clusters",
            clusters(cluster, &folder),
        );
        let mut process = Process::start(&tools.envoy, directory, &bootstrap)?;
        process.wait_until_live(Deadline::after(START))?;
        let listeners = process.admin("/listeners?format=json")?;
        Ok(Self {
            listeners: serde_json::from_str(&listeners).map_err(|e| e.to_string())?,
            process,
            calls: Mutex::new(calls),
        })
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, name: &str) -> Address {
        let all = self.listeners.pointer("/listener_statuses");
        let found = all
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|listener| listener.get("name").and_then(Value::as_str) == Some(name));
        let address = found.and_then(|listener| listener.get("local_address"));
        let text = |pointer: &str| address.and_then(|a| a.pointer(pointer)).cloned();
        if let Some(path) = text("/pipe/path") {
            return Address::Unix(path.as_str().unwrap().into());
        }
        let ip = text("/socket_address/address").unwrap_or_else(|| panic!("no listener {name}"));
        let port = text("/socket_address/port_value").unwrap();
        let port = u16::try_from(port.as_u64().unwrap()).unwrap();
        Address::Tcp(
            (
                ip.as_str().unwrap().parse::<std::net::IpAddr>().unwrap(),
                port,
            )
                .into(),
        )
    }

    /// A client's connection to a listener.
    pub(crate) fn client(&self, listener: &str) -> Peer {
        Peer::open(&self.address(listener))
    }

    /// Sends a request's head and reads the head of what comes back.
    pub(crate) fn ask(&self, listener: &str, head: &str) -> (Head, Peer) {
        let mut client = self.client(listener);
        client.write(format!("{head}\r\n"));
        (client.head(), client)
    }

    /// The next request that reaches the upstream.
    pub(crate) fn upstream(&self) -> (Head, Peer) {
        let connection = self
            .calls
            .lock()
            .unwrap()
            .recv_timeout(PATIENCE)
            .expect("nothing reaches the upstream");
        let mut peer = Peer::new(connection);
        (peer.head(), peer)
    }

    /// Whether nothing has reached the upstream that was not looked at.
    pub(crate) fn upstream_is_quiet(&self) -> bool {
        self.calls.lock().unwrap().try_recv().is_err()
    }

    /// The decisions that a listener's filter has recorded since it was last asked.
    pub(crate) fn decisions(&self, listener: &str) -> Vec<Value> {
        let lines = self
            .process
            .lines(listener, true, Deadline::after(PATIENCE))
            .unwrap();
        let records = lines
            .iter()
            .filter_map(|line| line.strip_prefix("decision "));
        records
            .map(|json| serde_json::from_str(json).unwrap())
            .collect()
    }

    /// Forgets the decisions up to now.
    pub(crate) fn forget_decisions(&self, listener: &str) {
        self.process.forget_lines(listener);
    }

    /// Bytes that Envoy has allocated.
    pub(crate) fn allocated(&self) -> u64 {
        let memory: Value = serde_json::from_str(&self.process.admin("/memory").unwrap()).unwrap();
        let bytes = memory.get("allocated").and_then(Value::as_str).unwrap();
        bytes.parse().unwrap()
    }

    /// What a counter of Envoy's shows.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let stats = self
            .process
            .admin(&format!("/stats?filter={name}$"))
            .unwrap();
        let value = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// The law of the whole.
    pub(crate) fn finish(&self) -> Result<(), String> {
        outlived(&self.process)
    }

    /// All that Envoy said.
    pub(crate) fn said(&self) -> String {
        self.process.said()
    }
}

/// The shipped configuration.
fn shipped() -> Result<Value, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/envoy.yaml");
    Document::read("envoy.yaml", &file).map(|document| document.value().clone())
}

fn tcp(ip: &str) -> Value {
    json!({ "socket_address": { "address": ip, "port_value": 0 } })
}

fn pipe(folder: &Path, name: &str) -> Value {
    json!({ "pipe": { "path": folder.join(name) } })
}

/// Every listener.
fn wanted(folder: &Path) -> Vec<Wanted> {
    let local = || tcp("127.0.0.1");
    let wanted = |name, address, policy, change| Wanted {
        name,
        address,
        policy,
        change,
    };
    let mut all = vec![
        wanted("edge", local(), policy(DENIED), |_| {}),
        // Time runs 40 times as fast: 30 s are three quarters of a second.
        wanted("fast", local(), policy(DENIED), |listener| {
            hasten(listener);
        }),
        // What the comments in envoy.yaml say of WebSocket.
        wanted("socket", local(), policy(DENIED), |listener| {
            set(
                listener,
                &format!("{MANAGER}/upgrade_configs"),
                json!([{ "upgrade_type": "websocket" }]),
            );
            set(
                listener,
                &format!("{MANAGER}/http2_protocol_options/allow_connect"),
                json!(true),
            );
            hasten(listener);
        }),
        // And of gRPC: routes of its own, to a cluster that speaks HTTP/2.
        wanted("grpc", local(), policy(DENIED), |listener| {
            let routes = array(listener, ROUTE);
            let stream = |prefix: &str, cluster: &str| {
                json!({
                    "match": { "prefix": prefix, "grpc": {} },
                    "route": {
                        "cluster": cluster,
                        "timeout": "0s",
                        "idle_timeout": "300s",
                        "max_stream_duration": { "max_stream_duration": "3600s", "grpc_timeout_header_max": "3600s" },
                    },
                })
            };
            routes.insert(0, stream("/", "hop"));
            routes.insert(0, stream("/svc.v1.Dead/", "dead"));
            let last = routes.last_mut().unwrap();
            set(last, "/route/cluster", json!("hop"));
            hasten(listener);
        }),
        // The same for calls that wait for their turn.
        wanted("queue", local(), policy(DENIED), |listener| {
            let last = array(listener, ROUTE).last_mut().unwrap();
            set(last, "/route/cluster", json!("hop"));
            set(listener, &format!("{MANAGER}/stat_prefix"), json!("queue"));
            let tier = json!({ "rate": "30/min", "burst": 2, "queue": { "max_wait": "4500ms" }, "quotas": { "items": QUOTA } });
            let place = "configuration/value/apis/api/tiers/wide";
            set(listener, &format!("{FILTER}/{place}"), tier);
        }),
        wanted("quota", local(), policy(DENIED), |listener| {
            let routes = array(listener, ROUTE);
            let dead = json!({
                "match": { "prefix": "/v1/quota/dead" },
                "route": { "cluster": "dead" },
            });
            routes.insert(0, dead);
            hasten(listener);
        }),
        wanted("retry", local(), policy(DENIED), |listener| {
            let last = array(listener, ROUTE).last_mut().unwrap();
            set(
                last,
                "/route/retry_policy",
                json!({
                    "retry_on": "5xx,reset,connect-failure",
                    "num_retries": 2,
                    "retry_back_off": { "base_interval": "0.010s", "max_interval": "0.020s" },
                }),
            );
        }),
        // After half a second another attempt is made beside the first.
        wanted("hedge", local(), policy(DENIED), |listener| {
            let last = array(listener, ROUTE).last_mut().unwrap();
            set(
                last,
                "/route/hedge_policy",
                json!({ "hedge_on_per_try_timeout": true }),
            );
            set(
                last,
                "/route/retry_policy",
                json!({ "retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.5s" }),
            );
        }),
        wanted("retry_connect", local(), policy(DENIED), |listener| {
            let last = array(listener, ROUTE).last_mut().unwrap();
            set(last, "/route/cluster", json!("half_dead"));
            set(
                last,
                "/route/retry_policy",
                json!({
                    "retry_on": "connect-failure",
                    "num_retries": 3,
                    "retry_host_predicate": [{
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                        },
                    }],
                    "host_selection_retry_max_attempts": 5,
                    "retry_back_off": { "base_interval": "0.010s", "max_interval": "0.020s" },
                }),
            );
        }),
        wanted("hop1", local(), policy(DENIED), |listener| {
            hops(listener, 1)
        }),
        wanted("hop2", local(), policy(DENIED), |listener| {
            hops(listener, 2)
        }),
        wanted("proxy", local(), policy(DENIED), |listener| {
            set(
                listener,
                "/listener_filters",
                json!([{
                    "name": "envoy.filters.listener.proxy_protocol",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                    },
                }]),
            );
        }),
        wanted("unix", pipe(folder, "unix.sock"), policy(&[]), |_| {}),
        wanted(
            "unix_deny",
            pipe(folder, "deny.sock"),
            policy(DENIED),
            |_| {},
        ),
        wanted(
            "unix_hop1",
            pipe(folder, "hop.sock"),
            policy(DENIED),
            |listener| {
                hops(listener, 1);
            },
        ),
    ];
    if has_ipv6() {
        all.push(wanted("ipv6", tcp("::1"), policy(DENIED), |_| {}));
        all.push(wanted(
            "ipv6_deny",
            tcp("::1"),
            policy(&["::1/128"]),
            |_| {},
        ));
    }
    all
}

/// Whether this machine has an IPv6 loopback.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// Networks that may not call.
const DENIED: &[&str] = &["198.51.100.0/24", "2001:db8:bad::/48"];

/// Rates are slow (a cell in ten minutes), so that what is left doesn't depend on how long a test
/// takes.
fn policy(denied: &[&str]) -> Value {
    let digest: String = Sha256::digest(KEY)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut policy = json!({
        "version": 1,
        "unauthenticated": { "rate": "144/d", "burst": BURST, "per": "client" },
        "quotas": { "store": "local" },
        "apis": { "api": {
            "hosts": ["*"],
            "tiers": { "wide": { "rate": "144/d", "burst": 400, "quotas": { "items": QUOTA } } },
            "keys": [{ "id": "k1", "sha256": digest, "principal": "acme", "tier": "wide" }],
            "limits": { "two": { "concurrency": 2, "expires": "1h" } },
            "routes": {
                "read": { "match": "GET /v1/**" },
                "two": { "match": "GET /v1/two/{name}", "limits": ["two"] },
                "quota": { "match": "GET /v1/quota/**", "spend": "items" },
                "upload": { "match": "PUT /v1/files/{name}" },
                "socket": { "match": "GET /v1/stream/socket", "upgrade": ["websocket"] },
                "echo": { "match": "POST /svc.v1.Echo/**" },
                "dead": { "match": "POST /svc.v1.Dead/**" },
            },
        } },
    });
    if !denied.is_empty() {
        set(&mut policy, "/clients", json!({ "deny": denied }));
    }
    policy
}

impl Wanted {
    /// The shipped listener with this name, address, policy and change.
    fn render(&self, shipped: &Value, wasm: &Path) -> Value {
        let mut listener = shipped.clone();
        set(&mut listener, "/name", json!(self.name));
        set(&mut listener, "/address", self.address.clone());
        for (place, value) in [
            ("root_id", json!(self.name)),
            ("vm_config/code/local/filename", json!(wasm)),
            ("configuration/value", self.policy.clone()),
        ] {
            set(&mut listener, &format!("{FILTER}/{place}"), value);
        }
        (self.change)(&mut listener);
        listener
    }
}

/// A listener without the gate, behind it: so the gate's upstream speaks HTTP/2, and the test's
/// upstream needs only HTTP/1.1.
fn inner(folder: &Path) -> Value {
    json!({
        "name": "inner",
        "address": pipe(folder, "inner.sock"),
        "filter_chains": [{ "filters": [{
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "inner",
                "codec_type": "HTTP2",
                "route_config": {
                    "request_headers_to_add": [{ "header": { "key": "x-inner-protocol", "value": "%PROTOCOL%" } }],
                    "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream", "timeout": "0s" } }],
                    }],
                },
                "http_filters": [{
                    "name": "router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
            },
        }] }],
    })
}

/// The shipped cluster, and others like it.
fn clusters(shipped: &Value, folder: &Path) -> Value {
    const OPTIONS: &str =
        "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let cluster = |name: &str, sockets: &[&str], protocol: Value| {
        let mut cluster = shipped.clone();
        set(&mut cluster, "/name", json!(name));
        set(
            &mut cluster,
            &format!("{OPTIONS}/explicit_http_config"),
            protocol,
        );
        let endpoints: Vec<Value> = sockets
            .iter()
            .map(|socket| json!({ "endpoint": { "address": pipe(folder, socket) } }))
            .collect();
        set(
            &mut cluster,
            "/load_assignment",
            json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] }),
        );
        cluster
    };
    let h1 = || json!({ "http_protocol_options": { "enable_trailers": true } });
    let mut all = vec![
        cluster("upstream", &["upstream.sock"], h1()),
        cluster("half_dead", &["nobody.sock", "upstream.sock"], h1()),
        cluster("dead", &["nobody.sock"], h1()),
        cluster(
            "hop",
            &["inner.sock"],
            json!({ "http2_protocol_options": {} }),
        ),
    ];
    // A request a connection, so that each is seen to come.
    for cluster in &mut all {
        set(
            cluster,
            &format!("{OPTIONS}/common_http_protocol_options/max_requests_per_connection"),
            json!(1),
        );
    }
    json!(all)
}

fn hops(listener: &mut Value, hops: u32) {
    let place = format!("{MANAGER}/xff_num_trusted_hops");
    set(listener, &place, json!(hops));
}

/// Divides every duration of a listener's connection manager and routes by 40.
fn hasten(value: &mut Value) {
    const TIMES: &[&str] = &[
        "idle_timeout",
        "max_stream_duration",
        "request_headers_timeout",
        "request_timeout",
        "stream_idle_timeout",
        "timeout",
    ];
    match value {
        Value::Array(values) => values.iter_mut().for_each(hasten),
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_str().and_then(|text| text.strip_suffix('s')) {
                    Some(seconds) if TIMES.contains(&name.as_str()) => {
                        let seconds: f64 = seconds.parse().unwrap();
                        *value = json!(format!("{:.3}s", seconds / 40.0));
                    }
                    _ => hasten(value),
                }
            }
        }
        _ => {}
    }
}

/// Sets what a pointer says; everything but its last part must be there.
fn set(value: &mut Value, pointer: &str, to: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = value
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .unwrap_or_else(|| panic!("envoy.yaml has no {parent}"));
    parent.insert(name.to_owned(), to);
}

fn array<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Vec<Value> {
    let found = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    found.unwrap_or_else(|| panic!("envoy.yaml has no {pointer}"))
}

/// Accepts connections for as long as the process lives.
fn upstream(socket: &Path) -> Result<Receiver<Connection>, String> {
    let listener = UnixListener::bind(socket).map_err(|e| format!("the upstream: {e}"))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let deadline = Deadline::after(PATIENCE);
            if sender.send(Connection::accepted(stream, deadline)).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
