//! The proxy on top: hyper, threads, the machine's clock, and the command line.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use portcullis_host::{
    BufferType as B, Callback as C, MapType as M,
    serve::{Options, ServeError, Server, UpstreamUrl},
};
use portcullis_upstream::Upstream;

use crate::{
    guest::{Guest, Number, Op, reply},
    module,
    scenario::Got,
    wire::response,
};

const PAUSE: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy with this guest before the demo upstream.
struct Stage {
    server: Server,
    _upstream: Upstream,
}

impl Stage {
    fn new(guest: &Guest) -> Self {
        Self::with(guest, |_| {})
    }

    fn with(guest: &Guest, change: impl FnOnce(&mut Options)) -> Self {
        let upstream = Upstream::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut options =
            Options::new(module(guest), b"policy".to_vec(), upstream.address().into());
        change(&mut options);
        Self {
            server: Server::start(&options).unwrap(),
            _upstream: upstream,
        }
    }

    fn ask(&self, request: &str) -> Got {
        ask(self.server.address(), request)
    }
}

fn ask(address: SocketAddr, request: &str) -> Got {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let method = request.split(' ').next().unwrap();
    response(&mut stream, method, PATIENCE)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn status(got: &Got) -> u16 {
    let Got::Response { status, .. } = got else {
        panic!("{got:?}")
    };
    *status
}

fn body(got: &Got) -> &str {
    let Got::Response { body, .. } = got else {
        panic!("{got:?}")
    };
    body
}

fn field<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    let Got::Response { headers, .. } = got else {
        panic!("{got:?}")
    };
    headers
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn a_request_passes_the_filter_both_ways() {
    let guest = Guest::new()
        .on(
            C::RequestHeaders,
            [Op::AddHeader(M::RequestHeaders, "x-principal", "acme")],
        )
        .on(
            C::ResponseHeaders,
            [Op::AddHeader(M::ResponseHeaders, "x-mark", "1")],
        );
    let stage = Stage::new(&guest);
    let got = stage.ask("GET /a?b=c HTTP/1.1\r\nhost: example\r\nx-request-id: mine\r\n\r\n");
    assert_eq!((status(&got), field(&got, "x-mark")), (200, Some("1")));
    let seen: serde_json::Value = serde_json::from_str(body(&got)).unwrap();
    assert_eq!(seen["path"], "/a?b=c");
    let header = |name: &str| {
        let all = seen["headers"].as_array().unwrap().iter();
        all.filter(|pair| pair[0] == name)
            .map(|pair| pair[1].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(header("host"), ["example"]);
    assert_eq!(header("x-principal"), ["acme"]);
    assert_eq!(header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header("x-forwarded-proto"), ["http"]);
    assert_eq!(header("x-request-id")[0].len(), 36);
}

#[test]
fn bodies_are_streamed_or_held_as_the_filter_wants() {
    let paused = Guest::new().on(
        C::RequestBody,
        [
            Op::IfLast(0, vec![Op::Return(PAUSE)]),
            Op::SetBody(B::HttpRequestBody, 0, 0, "seen:"),
        ],
    );
    let large = "x".repeat(2_000_000);
    for (guest, prefix) in [(Guest::new(), ""), (paused, "seen:")] {
        let stage = Stage::new(&guest);
        for text in ["small", &large] {
            let chunked = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
            let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            let got = stage.ask(&format!("{head}{chunked}"));
            let seen: serde_json::Value = serde_json::from_str(body(&got)).unwrap();
            assert_eq!(
                seen["body"].as_str().unwrap().len(),
                prefix.len() + text.len()
            );
            assert!(seen["body"].as_str().unwrap().starts_with(prefix));
        }
    }
}

#[test]
fn trailers_reach_the_filter_and_the_upstream() {
    let guest = Guest::new().on(
        C::RequestTrailers,
        [Op::AddHeader(M::RequestTrailers, "u", "2")],
    );
    let stage = Stage::new(&guest);
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntrailer: t, u\r\n\r\n";
    let got = stage.ask(&format!("{head}2\r\nhi\r\n0\r\nt: 1\r\n\r\n"));
    let seen: serde_json::Value = serde_json::from_str(body(&got)).unwrap();
    assert_eq!(
        seen["trailers"],
        serde_json::json!([["t", "1"], ["u", "2"]])
    );
}

#[test]
fn the_filter_answers_by_itself() {
    let stage = Stage::new(&Guest::new().on(C::RequestHeaders, [reply(403, "no")]));
    let got = stage.ask(&get("/"));
    assert_eq!((status(&got), body(&got)), (403, "no"));
    assert_eq!(field(&got, "content-type"), Some("text/plain"));
    let head = stage.ask("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(
        (status(&head), field(&head, "content-length")),
        (403, Some("2"))
    );
    // A body that nobody reads is no obstacle.
    let got = stage.ask("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(status(&got), 403);
}

#[test]
fn a_held_request_goes_on_at_a_tick() {
    let guest = Guest::new()
        .on(
            C::RequestHeaders,
            [Op::SaveContext, Op::Tick(50), Op::Return(PAUSE)],
        )
        .on(
            C::Tick,
            [Op::Act(Number::SavedContext), Op::Continue(0), Op::Tick(0)],
        );
    let stage = Stage::new(&guest);
    for _ in 0..3 {
        assert_eq!(status(&stage.ask(&get("/"))), 200);
    }
}

#[test]
fn a_stream_that_stands_still_is_answered_with_504() {
    let stage = Stage::with(
        &Guest::new().on(C::RequestHeaders, [Op::Return(PAUSE)]),
        |options| {
            options.idle_timeout = Duration::from_millis(100);
        },
    );
    let got = stage.ask(&get("/"));
    assert_eq!((status(&got), body(&got)), (504, "stream timeout"));
}

#[test]
fn an_upstream_that_is_not_there_is_a_503() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let stage = Stage::with(&Guest::new(), |options| options.upstream = port.into());
    let got = stage.ask(&get("/"));
    assert_eq!(status(&got), 503);
    assert!(
        body(&got).starts_with("upstream connect error"),
        "{}",
        body(&got)
    );
}

#[test]
fn an_upstream_that_breaks_off_is_noticed() {
    let stage = Stage::new(&Guest::new());
    let got = stage.ask("GET / HTTP/1.1\r\nhost: x\r\nx-upstream-reply: reset\r\n\r\n");
    assert_eq!(status(&got), 503);
    assert_eq!(status(&stage.ask(&get("/"))), 200);
}

#[test]
fn a_vm_that_dies_is_replaced() {
    let guest = Guest::new().on(C::RequestHeaders, [Op::Nth(2, vec![Op::Trap])]);
    let stage = Stage::with(&guest, |options| {
        let backoff = Duration::ZERO;
        options.settings.failure = portcullis_host::FailurePolicy::Reload { backoff };
    });
    let statuses: Vec<u16> = (0..4).map(|_| status(&stage.ask(&get("/")))).collect();
    assert_eq!(statuses, [200, 503, 200, 503]);
}

#[test]
fn several_workers_serve_many_connections() {
    let stage = Stage::with(&Guest::new(), |options| options.workers = 3);
    let address = stage.server.address();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                for _ in 0..20 {
                    stream.write_all(get("/").as_bytes()).unwrap();
                    assert_eq!(status(&response(&mut stream, "GET", PATIENCE)), 200);
                }
            });
        }
    });
}

#[test]
fn a_response_that_cannot_be_sent_is_a_500() {
    let guest = Guest::new().on(
        C::ResponseHeaders,
        [Op::AddHeader(M::ResponseHeaders, "x", "a\r\nb: c")],
    );
    assert_eq!(status(&Stage::new(&guest).ask(&get("/"))), 500);
}

#[test]
fn http2_is_spoken_too() {
    let guest = Guest::new().on(
        C::RequestHeaders,
        [Op::AddHeader(M::RequestHeaders, "x-two", "2")],
    );
    let stage = Stage::new(&guest);
    let address = stage.server.address();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = tokio::task::LocalSet::new().block_on(&runtime, async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        tokio::task::spawn_local(connection);
        let request = hyper::Request::post("http://h2.example/two").body("over two".to_owned());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    });
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&seen["path"], &seen["body"]),
        (&"/two".into(), &"over two".into())
    );
    assert!(
        seen["headers"]
            .to_string()
            .contains(r#"["host","h2.example"]"#),
        "{seen}"
    );
}

#[test]
fn a_refused_policy_is_an_error_with_its_reasons() {
    let guest = Guest::new().on(C::Configure, [Op::Log("routes: what?"), Op::Return(0)]);
    let upstream = UpstreamUrl::parse("http://localhost:1").unwrap();
    let error = Server::start(&Options::new(module(&guest), Vec::new(), upstream)).unwrap_err();
    assert!(matches!(error, ServeError::Configure(_)));
    assert!(error.to_string().contains("routes: what?"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let upstream = UpstreamUrl::parse("http://localhost:1").unwrap();
    let options = Options {
        port,
        ..Options::new(module(&Guest::new()), Vec::new(), upstream)
    };
    let error = Server::start(&options).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("can't listen on 127.0.0.1:{port}: ")),
        "{error}"
    );
}

/// The command, with a module and a policy in a folder of its own.
struct Cli {
    folder: PathBuf,
    child: Option<Child>,
}

impl Cli {
    fn new(name: &str, guest: &Guest) -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("guest.wasm"), guest.build()).unwrap();
        fs::write(folder.join("policy.yaml"), "version: 1\n").unwrap();
        Self {
            folder,
            child: None,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-host"));
        command.args(arguments).current_dir(&self.folder);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(unix)]
#[test]
fn the_command_serves_until_it_is_terminated() {
    let guest = Guest::new()
        .on(C::Configure, [Op::GetBody(B::PluginConfiguration, 0, 100)])
        .on(C::RequestHeaders, [Op::Nth(2, vec![Op::Return(PAUSE)])]);
    let mut cli = Cli::new("cli", &guest);
    let arguments = [
        "serve",
        "--wasm",
        "guest.wasm",
        "--policy",
        "policy.yaml",
        "--port",
        "0",
    ];
    let mut child = cli
        .command(&[&arguments[..], &["--workers", "1"]].concat())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let (lines, logged) = mpsc::channel();
    let log = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || {
        log.lines()
            .map_while(Result::ok)
            .try_for_each(|line| lines.send(line))
    });
    let pid = child.id().to_string();
    cli.child = Some(child);
    let wait_for = |wanted: &str| {
        let mut seen = Vec::new();
        while let Ok(line) = logged.recv_timeout(PATIENCE) {
            if line == wanted {
                return;
            }
            seen.push(line);
        }
        panic!("`{wanted}` was not logged, but {seen:?}");
    };
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line
        .strip_prefix("listening on http://")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    wait_for(r#"info: get_buffer_bytes 0 {"version":1}"#);
    let got = ask(address, &get("/demo"));
    assert_eq!(status(&got), 200);
    assert!(body(&got).contains("portcullis-demo"), "{}", body(&got));

    // A client that leaves a held request is noticed at once.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(get("/").as_bytes()).unwrap();
    wait_for("info: on_request_headers 3 7 1");
    drop(stream);
    wait_for("info: on_delete 3");

    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let mut child = cli.child.take().unwrap();
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(
        TcpStream::connect(address).is_err(),
        "it does not listen any more"
    );
}

#[test]
fn the_command_says_what_is_wrong() {
    let guest = Guest::new().on(C::Configure, [Op::Log("routes: what?"), Op::Return(0)]);
    let cli = Cli::new("cli-errors", &guest);
    fs::write(cli.folder.join("twice.yaml"), "a: 1\na: 2\n").unwrap();
    fs::write(
        cli.folder.join("foreign.wasm"),
        Guest::new().import("env", "foo").build(),
    )
    .unwrap();
    let serve = |wasm, policy| ["serve", "--wasm", wasm, "--policy", policy, "--port", "0"];
    for (arguments, code, message) in [
        (
            serve("guest.wasm", "policy.yaml").to_vec(),
            1,
            "routes: what?",
        ),
        (
            serve("none.wasm", "policy.yaml").to_vec(),
            1,
            "can't read none.wasm: ",
        ),
        (serve("guest.wasm", "none.yaml").to_vec(), 1, "none.yaml: "),
        (
            serve("guest.wasm", "twice.yaml").to_vec(),
            1,
            "twice.yaml: ",
        ),
        (
            serve("foreign.wasm", "policy.yaml").to_vec(),
            1,
            "foreign.wasm imports `env.foo`, which",
        ),
        (
            serve("policy.yaml", "policy.yaml").to_vec(),
            1,
            "can't compile policy.yaml: ",
        ),
        (
            vec!["serve", "--quick"],
            2,
            "unknown argument `--quick`\n\nusage: ",
        ),
        (vec![], 2, "say what to do\n\nusage: "),
    ] {
        let output = cli.command(&arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert_eq!(output.stdout, b"");
    }
}
