//! A scenario: a guest, what a client and an upstream do, and the story that the guest's log must
//! tell. It is told by this host, and (`envoy.rs`) by a real Envoy.

use std::time::Duration;

use portcullis_host::*;

use crate::{guest::Guest, module};

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Vec<&'static str>,
    pub(crate) trailers: Vec<(&'static str, &'static str)>,
    /// It comes when the log has so many lines.
    pub(crate) comes_at: usize,
    /// It goes away when it has sent everything and the log has so many lines.
    pub(crate) leaves_at: Option<usize>,
}

pub(crate) fn get(path: &'static str) -> Client {
    Client {
        method: "GET",
        path,
        headers: Vec::new(),
        body: Vec::new(),
        trailers: Vec::new(),
        comes_at: 0,
        leaves_at: None,
    }
}

pub(crate) fn post(body: &[&'static str]) -> Client {
    Client {
        method: "POST",
        body: body.to_vec(),
        ..get("/")
    }
}

impl Client {
    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.trailers.push((name, value));
        self
    }

    pub(crate) fn comes_at(mut self, lines: usize) -> Self {
        self.comes_at = lines;
        self
    }

    pub(crate) fn leaves_at(mut self, lines: usize) -> Self {
        self.leaves_at = Some(lines);
        self
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// The connection was closed without a response, or in the middle of it.
    Broken,
    /// Nothing in all the time that was given.
    Nothing,
}

/// A response, by its status, its body and those of its headers that no host generates.
pub(crate) fn got(status: u16, headers: &[(&str, &str)], body: &str) -> Got {
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    headers.sort();
    Got::Response {
        status,
        headers,
        body: body.to_owned(),
    }
}

/// The headers of the upstream's usual response.
pub(crate) const OK: &[(&str, &str)] = &[("content-length", "2")];

/// The headers of a text of this length that a host writes by itself.
pub(crate) const fn text(length: &'static str) -> [(&'static str, &'static str); 2] {
    [("content-length", length), ("content-type", "text/plain")]
}

/// Response headers that depend on the host and not on the filter.
pub(crate) const GENERATED: [&str; 6] = [
    ":status",
    "date",
    "server",
    "x-envoy-upstream-service-time",
    "transfer-encoding",
    "connection",
];

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) guest: Guest,
    pub(crate) settings: Settings,
    pub(crate) clients: Vec<Client>,
    pub(crate) upstream: ResponseScript,
    pub(crate) log: Vec<&'static str>,
    pub(crate) got: Vec<Got>,
    /// Header `x-seen` and body of each request that the upstream got.
    pub(crate) forwarded: Vec<(&'static str, &'static str)>,
    /// What this host says of it beyond what Envoy shows.
    pub(crate) violations: Vec<&'static str>,
}

impl Scenario {
    pub(crate) fn new(guest: Guest) -> Self {
        Self {
            name: "",
            guest,
            settings: Settings {
                failure: FailurePolicy::Closed,
                ..Settings::default()
            },
            clients: Vec::new(),
            upstream: ResponseScript::new(200)
                .header("content-length", "2")
                .piece("ok"),
            log: Vec::new(),
            got: Vec::new(),
            forwarded: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn upstream(mut self, response: ResponseScript) -> Self {
        self.upstream = response;
        self
    }

    pub(crate) fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    pub(crate) fn logs(mut self, log: &[&'static str]) -> Self {
        self.log.extend(log);
        self
    }

    pub(crate) fn gets(mut self, got: Got) -> Self {
        self.got.push(got);
        self
    }

    /// The upstream gets a request with this `x-seen` header and this body.
    pub(crate) fn forwards(mut self, seen: &'static str, body: &'static str) -> Self {
        self.forwarded.push((seen, body));
        self
    }

    pub(crate) fn violates(mut self, what: &'static str) -> Self {
        self.violations.push(what);
        self
    }

    /// Plays it in this host.
    pub(crate) fn check(&self) {
        let vm_id = self.name.as_bytes().to_vec();
        let mut world = World::new(Settings {
            vm_id,
            ..self.settings.clone()
        });
        // The clusters that the configuration for Envoy has, too.
        let mut called = CalloutReply::http(200, "called");
        if let CalloutReply::Http { headers, .. } = &mut called {
            headers.push((b"x-envoy-upstream-service-time".to_vec(), b"0".to_vec()));
        }
        world.on("up", called, Duration::ZERO);
        world.on("dead", CalloutReply::Unreachable, Duration::ZERO);
        world.on("silent", CalloutReply::Silence, Duration::ZERO);
        world.add_worker(&module(&self.guest)).unwrap();
        let plugin = Plugin {
            name: b"plugin".to_vec(),
            ..Plugin::new("root", "cfg")
        };
        let root = world.worker(0).unwrap().configure(&plugin).unwrap();
        world.clear_logs();
        // Longer than a dead VM's replacement would have to wait.
        world.advance(Duration::from_secs(2));
        let (mut got, mut forwarded, mut violations) = (Vec::new(), Vec::new(), Vec::new());
        for client in &self.clients {
            let result = self.play(&mut world, root, client);
            got.push(seen_by_client(&result));
            if let Some(request) = result.forwarded.as_ref().filter(|request| request.complete) {
                let seen = request.header("x-seen").unwrap_or_default().to_owned();
                forwarded.push((seen, String::from_utf8(request.body.clone()).unwrap()));
            }
            violations.extend(result.violations);
        }
        for _ in 0..30 {
            if world.logs().len() < self.log.len() {
                world.advance(Duration::from_millis(100));
            }
        }
        let log: Vec<String> = world.logs().into_iter().map(|line| line.text).collect();
        assert_eq!(log, self.log, "the log of {}", self.name);
        assert_eq!(
            violations, self.violations,
            "what is undefined in {}",
            self.name
        );
        assert_eq!(got, self.got, "what the clients of {} get", self.name);
        let expected: Vec<_> = self
            .forwarded
            .iter()
            .map(|(s, b)| ((*s).to_owned(), (*b).to_owned()))
            .collect();
        assert_eq!(
            forwarded, expected,
            "what the upstream of {} gets",
            self.name
        );
    }

    fn play(&self, world: &mut World, root: Root, client: &Client) -> StreamResult {
        let mut request = RequestScript::new(client.method, client.path)
            .header("x-forwarded-proto", "http")
            .header("x-request-id", "0");
        for (name, value) in &client.headers {
            request = request.header(name, value);
        }
        for piece in &client.body {
            request = request.piece(piece);
        }
        if !client.trailers.is_empty() {
            request = request.trailers(headers(client.trailers.iter().copied()));
        }
        let mut response = self
            .upstream
            .clone()
            .header("x-envoy-upstream-service-time", "0");
        if response.trailers.is_some() {
            response = response.header("transfer-encoding", "chunked");
        }
        for _ in 0..100 {
            if world.logs().len() < client.comes_at {
                world.advance(Duration::from_millis(100));
            }
        }
        let worker = world.worker(0).unwrap();
        let id = worker.send(root, &request).unwrap();
        for _ in 0..30 {
            let worker = world.worker(0).unwrap();
            match worker.state(id).unwrap() {
                StreamState::Forwarded if client.leaves_at.is_none() => {
                    worker.respond(id, &response).unwrap();
                }
                StreamState::Held | StreamState::Responding | StreamState::Forwarded => {
                    if client.leaves_at.is_some() {
                        worker.disconnect(id).unwrap();
                    }
                    world.advance(Duration::from_millis(100));
                }
                _ => break,
            }
        }
        let worker = world.worker(0).unwrap();
        let result = worker.result(id).unwrap();
        if seen_by_client(&result) == Got::Nothing {
            worker.disconnect(id).unwrap();
        }
        result
    }
}

fn seen_by_client(result: &StreamResult) -> Got {
    match (&result.response, result.state) {
        (_, StreamState::Disconnected) => Got::Nothing,
        (Some(response), StreamState::Answered) => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            // As on the wire, where a line break in a value begins another header.
            let lines = response.headers.iter().flat_map(|(name, value)| {
                let line = format!("{}: {}", text(name), text(value));
                line.split("\r\n").map(str::to_owned).collect::<Vec<_>>()
            });
            let mut headers: Vec<(String, String)> = lines
                .filter_map(|line| {
                    line.split_once(": ")
                        .map(|(n, v)| (n.to_owned(), v.to_owned()))
                })
                .filter(|(name, _)| !GENERATED.contains(&name.as_str()))
                .collect();
            headers.sort();
            Got::Response {
                status: response.status(),
                headers,
                body: text(&response.body),
            }
        }
        (_, StreamState::Reset) => Got::Broken,
        _ => Got::Nothing,
    }
}

/// Scenarios, each a test of this host and a member of `ALL`, for Envoy.
macro_rules! scenarios {
    ($($name:ident => $scenario:expr;)*) => {
        $(#[test]
        fn $name() {
            let mut scenario: $crate::scenario::Scenario = $scenario;
            scenario.name = stringify!($name);
            scenario.check();
        })*

        pub(crate) fn all() -> Vec<$crate::scenario::Scenario> {
            vec![$({
                let mut scenario: $crate::scenario::Scenario = $scenario;
                scenario.name = stringify!($name);
                scenario
            },)*]
        }
    };
}
pub(crate) use scenarios;
