//! The same scenarios in a real Envoy: whatever this host shows of itself must be what Envoy
//! shows. Needs `ENVOY`, the path of an Envoy 1.40 binary; without it only a note is printed,
//! unless `CI` is set: there it is a failure.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use portcullis_host::FailurePolicy;

use crate::{
    scenario::{Client, Got, Scenario},
    wire::{dechunk, response},
};

/// How long Envoy may take for one step. Nothing waits this long but what hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a response that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(2_500);
/// Scenarios that are played at the same time; each has a listener and a VM of its own.
const AT_ONCE: usize = 4;

#[test]
fn envoy_tells_the_same_stories() {
    let Some(envoy) = env::var_os("ENVOY") else {
        assert!(
            env::var_os("CI").is_none(),
            "set ENVOY to the path of an Envoy 1.40"
        );
        eprintln!("not played in Envoy: set ENVOY to the path of an Envoy 1.40");
        return;
    };
    let scenarios: Vec<Scenario> = crate::all_scenarios();
    let folder = Scratch::new();
    let stage = Stage::start(&PathBuf::from(envoy), &folder.0, &scenarios);
    let differences = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((n, scenario)) = {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    scenarios.get(n).map(|scenario| (n, scenario))
                } {
                    let played = stage.play(n, scenario);
                    differences
                        .lock()
                        .unwrap()
                        .extend(compare(scenario, &played));
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What was seen of a scenario.
struct Played {
    log: Vec<String>,
    got: Vec<Got>,
    forwarded: Vec<(String, String)>,
}

fn compare(scenario: &Scenario, played: &Played) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differs = |what: &str, here: String, envoy: String| {
        if here != envoy {
            differences.push(format!(
                "{}: {what}\n  here:  {here}\n  envoy: {envoy}",
                scenario.name
            ));
        }
    };
    let lines = |log: &mut dyn Iterator<Item = &str>| log.collect::<Vec<_>>().join("\n         ");
    differs(
        "the log",
        lines(&mut scenario.log.iter().copied()),
        lines(&mut played.log.iter().map(String::as_str)),
    );
    differs(
        "what clients get",
        format!("{:?}", scenario.got),
        format!("{:?}", played.got),
    );
    differs(
        "what the upstream gets",
        format!("{:?}", scenario.forwarded),
        format!("{:?}", played.forwarded),
    );
    differences
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("portcullis-stage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Requests = Arc<Mutex<BTreeMap<String, Vec<(String, String)>>>>;

/// Envoy with a listener for each scenario, and an upstream.
struct Stage {
    child: Child,
    ports: Vec<u16>,
    log: PathBuf,
    requests: Requests,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    fn start(envoy: &Path, folder: &Path, scenarios: &[Scenario]) -> Self {
        let requests = Requests::default();
        let upstream = upstream(scenarios, &requests);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent_port = silent.local_addr().unwrap().port();
        thread::spawn(move || {
            let _kept: Vec<_> = silent.incoming().collect();
        });
        let ports: Vec<u16> = free_ports(scenarios.len() + 1);
        let config = configuration(folder, scenarios, &ports, upstream.port(), silent_port);
        let file = folder.join("envoy.json");
        fs::write(&file, config).unwrap();
        let log = folder.join("envoy.log");
        let child = Command::new(envoy)
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])
            .args([
                "--component-log-level",
                "wasm:trace",
                "--log-format",
                "%t|%v",
            ])
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stage = Self {
            child,
            ports,
            log,
            requests,
        };
        let ports = stage.ports.clone();
        for port in ports.into_iter().take(scenarios.len()) {
            until("Envoy listens", || {
                if let Some(code) = stage.child.try_wait().unwrap() {
                    let log = fs::read_to_string(&stage.log).unwrap();
                    panic!("Envoy ended with {code}:\n{log}");
                }
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        stage
    }

    /// The lines that the scenario's guest logged for streams and ticks, in the worker.
    fn lines(&self, scenario: &Scenario) -> Vec<String> {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned();
        // In a stream's name the plugin's name stands before the root id.
        let mark = format!(" root {}: ", scenario.name);
        let lines: Vec<(&str, &str)> = log
            .lines()
            .filter_map(|line| {
                let (thread, line) = line.split_once("|wasm log")?;
                let (plugin, text) = line.split_once(&mark)?;
                matches!(plugin, "" | " plugin").then_some((thread, text))
            })
            .collect();
        // Three VMs are configured: one to try, the main thread's, and the worker's, the last.
        let worker = lines
            .iter()
            .rev()
            .find(|(_, text)| text.starts_with("on_configure"));
        let Some((worker, _)) = worker else {
            return Vec::new();
        };
        let mine: Vec<&str> = lines
            .iter()
            .filter(|(t, _)| t == worker)
            .map(|(_, text)| *text)
            .collect();
        let last = mine
            .iter()
            .rposition(|text| text.starts_with("on_configure"))
            .unwrap();
        let reloaded = scenario.settings.failure != FailurePolicy::Closed;
        let from = if reloaded {
            mine.iter()
                .position(|text| text.starts_with("on_configure"))
                .unwrap()
        } else {
            last
        };
        mine[from + 1..]
            .iter()
            .map(|text| (*text).to_owned())
            .collect()
    }

    fn play(&self, n: usize, scenario: &Scenario) -> Played {
        let mut got = Vec::new();
        for client in &scenario.clients {
            got.push(self.act(self.ports[n], scenario, client));
        }
        // All that is expected, and then nothing more.
        let mut log = self.lines(scenario);
        for n in 0.. {
            thread::sleep(Duration::from_millis(50));
            let before = log.len();
            log = self.lines(scenario);
            if log.len() == before && (log.len() >= scenario.log.len() || n > 100) {
                break;
            }
        }
        let mut requests = self.requests.lock().unwrap();
        let forwarded = requests.remove(scenario.name).unwrap_or_default();
        Played {
            log,
            got,
            forwarded,
        }
    }

    fn act(&self, port: u16, scenario: &Scenario, client: &Client) -> Got {
        until("the guest gets so far", || {
            self.lines(scenario).len() >= client.comes_at
        });
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: localhost\r\n",
            client.method, client.path
        );
        for (name, value) in &client.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !client.body.is_empty() {
            head += "transfer-encoding: chunked\r\n";
        }
        head += "\r\n";
        let mut pieces = vec![head];
        pieces.extend(
            client
                .body
                .iter()
                .map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())),
        );
        if !client.body.is_empty() {
            let trailers = client.trailers.iter().map(|(n, v)| format!("{n}: {v}\r\n"));
            pieces.push(format!("0\r\n{}\r\n", trailers.collect::<String>()));
        }
        for piece in pieces {
            let before = self.lines(scenario).len();
            if stream.write_all(piece.as_bytes()).is_err() {
                break;
            }
            // The next piece is sent when this one was seen, so that they stay two.
            for _ in 0..15 {
                if self.lines(scenario).len() > before {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_millis(20));
        }
        if let Some(lines) = client.leaves_at {
            until("the guest gets so far", || {
                self.lines(scenario).len() >= lines
            });
            return Got::Nothing;
        }
        let silent = scenario.got.contains(&Got::Nothing);
        response(
            &mut stream,
            client.method,
            if silent { SILENCE } else { PATIENCE },
        )
    }
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 20 {
        if so() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("not in {PATIENCE:?}: {what}");
}

fn free_ports(count: usize) -> Vec<u16> {
    // All at once, so that none is given twice.
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

/// An upstream that answers each request as the scenario wants that its path names.
fn upstream(scenarios: &[Scenario], requests: &Requests) -> SocketAddr {
    let answers: BTreeMap<String, Vec<u8>> = scenarios
        .iter()
        .map(|s| (s.name.to_owned(), answer(s)))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, answers) = (Arc::clone(requests), Arc::new(answers));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (requests, answers) = (Arc::clone(&requests), Arc::clone(&answers));
            thread::spawn(move || {
                let _ = serve(stream.unwrap(), &requests, &answers);
            });
        }
    });
    address
}

fn answer(scenario: &Scenario) -> Vec<u8> {
    let script = &scenario.upstream;
    let find = |name: &str| portcullis_host::header(&script.headers, name);
    let status = String::from_utf8_lossy(find(":status").unwrap()).into_owned();
    let mut out = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    for (name, value) in script.headers.iter().filter(|(name, _)| name != b":status") {
        out.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
    }
    let chunked = script.trailers.is_some();
    if chunked {
        out.extend(b"transfer-encoding: chunked\r\n");
    }
    out.extend(b"\r\n");
    for piece in &script.body {
        if chunked {
            out.extend(format!("{:x}\r\n", piece.len()).bytes());
        }
        out.extend(piece);
        if chunked {
            out.extend(b"\r\n");
        }
    }
    if let Some(trailers) = &script.trailers {
        out.extend(b"0\r\n");
        for (name, value) in trailers {
            out.extend([name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        out.extend(b"\r\n");
    }
    out
}

fn serve(
    mut stream: TcpStream,
    requests: &Requests,
    answers: &BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let find = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let body = if find("transfer-encoding").is_some() {
            dechunk(rest)
        } else {
            Some(rest.to_owned())
        };
        let Some(body) = body else { continue };
        let Some(scenario) = find("x-scenario") else {
            // A callout.
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ncalled")?;
            bytes.clear();
            continue;
        };
        let seen = find("x-seen").unwrap_or_default();
        requests
            .lock()
            .unwrap()
            .entry(scenario.clone())
            .or_default()
            .push((seen, body));
        let answer = &answers[&scenario];
        let body_at = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap()
            + 4;
        let bodyless = head.starts_with("HEAD ");
        stream.write_all(if bodyless { &answer[..body_at] } else { answer })?;
        // The connection stays: one that is closed under the next request's feet would be a 503.
        bytes.clear();
    }
}

fn configuration(
    folder: &Path,
    scenarios: &[Scenario],
    ports: &[u16],
    upstream: u16,
    silent: u16,
) -> String {
    let listeners: Vec<_> = scenarios
        .iter()
        .zip(ports)
        .map(|(scenario, port)| listener(folder, scenario, *port))
        .collect();
    // The last port is free and stays so: nobody listens there.
    let dead = *ports.last().unwrap();
    let clusters = [("up", upstream), ("dead", dead), ("silent", silent)];
    let clusters: Vec<_> = clusters
        .iter()
        .map(|(name, port)| cluster(name, *port))
        .collect();
    serde_json::json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
        .to_string()
}

fn cluster(name: &str, port: u16) -> serde_json::Value {
    let address =
        serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    serde_json::json!({
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    })
}

fn listener(folder: &Path, scenario: &Scenario, port: u16) -> serde_json::Value {
    let wasm = folder.join(format!("{}.wasm", scenario.name));
    fs::write(&wasm, scenario.guest.build()).unwrap();
    let settings = &scenario.settings;
    let policy = match settings.failure {
        FailurePolicy::Closed => "FAIL_CLOSED",
        FailurePolicy::Open => "FAIL_OPEN",
        FailurePolicy::Reload { .. } => "FAIL_RELOAD",
    };
    let filter = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": "plugin",
            "root_id": "root",
            "failure_policy": policy,
            "allow_on_headers_stop_iteration": settings.allow_on_headers_stop_iteration,
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": "cfg",
            },
            "vm_config": {
                "vm_id": scenario.name,
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": wasm } },
            },
        },
    });
    let manager = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "h",
        "http_protocol_options": { "enable_trailers": true },
        "route_config": {
            "request_headers_to_add": [{ "header": { "key": "x-scenario", "value": scenario.name } }],
            "virtual_hosts": [{
                "name": "v",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "up" } }],
            }],
        },
        "http_filters": [
            { "name": "wasm", "typed_config": filter },
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                },
            },
        ],
    });
    serde_json::json!({
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "enable_reuse_port": false,
        "per_connection_buffer_limit_bytes": settings.buffer_limit,
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}
