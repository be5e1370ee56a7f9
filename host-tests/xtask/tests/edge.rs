//! The shipped edge settings, in real Envoy with the real module: `cargo xtask test` runs this with
//! `ENVOY` and `PORTCULLIS_WASM`. Each test starts an Envoy of its own on free ports.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use portcullis_upstream::Upstream;
use xtask::capabilities;
use xtask::certificate::Certificate;
use xtask::clock::Start;
use xtask::demo::{self, Subject};
use xtask::edge::{self, Edge};
use xtask::failure::Failure;
use xtask::http::{self, Answer};
use xtask::template::{self, Policy, Settings};
use xtask::workspace::{self, Workspace};

/// A key of the demo policy with every scope, and the authority it belongs to.
const KEY: &str = "host: api.cybervault.io\r\nauthorization: Bearer demo-globex-enterprise\r\n";
/// A host of each dialect: the two APIs (spelt as Envoy may get them), and none.
const HOSTS: [&str; 3] = ["api.cybervault.io", "API.Cyborux.com.:443", "other.example"];

/// The shipped configuration between a client and an upstream.
struct Stand {
    edge: Edge,
    upstream: Upstream,
    folder: PathBuf,
}

impl Stand {
    fn start() -> Self {
        Self::changed(|_| {})
    }

    /// With a change to the configuration's text.
    fn changed(change: impl FnOnce(&mut String)) -> Self {
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap();
        let port = upstream.address().port();
        let mut config = config(Settings {
            upstream_port: Some(port),
            ..Settings::default()
        });
        change(&mut config);
        let folder = folder();
        let edge = Edge::start(&envoy(), &config, &folder, Some(1)).unwrap();
        Self {
            edge,
            upstream,
            folder,
        }
    }

    #[track_caller]
    fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        http::ask(
            self.edge.address(),
            request.as_ref(),
            Duration::from_secs(20),
        )
        .unwrap()
    }

    /// Ends Envoy; returns its access log.
    fn access_log(&mut self) -> String {
        self.edge.end();
        workspace::read(&self.folder.join("access.log")).unwrap()
    }

    /// GETs with a key and more header lines.
    #[track_caller]
    fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\n{KEY}{headers}\r\n"))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.edge.log().unwrap_or_default());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn config(settings: Settings<'_>) -> String {
    let workspace = Workspace::find().unwrap();
    let module = module();
    let certificate = Certificate::obtain(&workspace).unwrap();
    let settings = Settings {
        port: Some(0),
        tls: Some(certificate.on(0)),
        admin_port: Some(0),
        wasm: module.to_str(),
        ..settings
    };
    template::render(
        &workspace::read(&workspace.envoy_yaml()).unwrap(),
        &settings,
    )
    .unwrap()
}

fn demo_policy() -> String {
    workspace::read(&Workspace::find().unwrap().policy()).unwrap()
}

fn module() -> PathBuf {
    required("PORTCULLIS_WASM")
}

fn envoy() -> PathBuf {
    required("ENVOY")
}

fn required(name: &str) -> PathBuf {
    match env::var_os(name) {
        Some(path) => path.into(),
        None => panic!("{name} is not set: run `cargo xtask test test`"),
    }
}

/// A new folder under target/.
fn folder() -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::SeqCst);
    Workspace::find()
        .unwrap()
        .target()
        .join(format!("edge-test/{}-{serial}", std::process::id()))
}

/// A change that replaces `from`, which must be there.
fn replacing<'a>(from: &'a str, to: &'a str) -> impl FnOnce(&mut String) + 'a {
    move |config| {
        assert!(config.contains(from), "{from}");
        *config = config.replace(from, to);
    }
}

/// Checks a reply that Envoy makes itself, in the dialect of each host.
#[track_caller]
fn check_local_reply(stand: &Stand, request: &str, status: u16, code: &str, message: &str) {
    for host in HOSTS {
        let answer = stand.ask(request.replace("HOST", host));
        let told = format!("{host}: {answer:?}");
        assert_eq!(answer.status, status, "{told}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{told}");
        assert_eq!(answer.header("x-portcullis-decision"), None, "{told}");
        let (media, start) = match host {
            "api.cybervault.io" => (
                "application/json",
                format!(r#"{{"error_code":"{code}","message":"{message}""#),
            ),
            "other.example" => (
                "application/problem+json",
                format!(r#"{{"code":"{code}","detail":"{message}","status":{status},"title":""#),
            ),
            _ => ("application/json", format!(r#"{{"detail":"{message}"}}"#)),
        };
        assert_eq!(answer.header("content-type"), Some(media), "{told}");
        assert!(answer.body.starts_with(&start), "{told}");
    }
}

#[test]
fn the_allow_list_is_exactly_what_the_module_imports_and_exports() {
    let workspace = Workspace::find().unwrap();
    let shipped = template::block(
        &workspace::read(&workspace.envoy_yaml()).unwrap(),
        "capabilities",
    )
    .unwrap();
    let module = capabilities::read(&fs::read(module()).unwrap()).unwrap();
    assert_eq!(
        shipped,
        capabilities::block(&module),
        "run `cargo xtask sync`"
    );
}

#[test]
fn the_demo_answers_as_it_says() {
    let stand = Stand::start();
    let trials = demo::trials(Subject::Demo, &format!("http://{}", stand.edge.address()));
    let answers: Vec<String> = trials
        .iter()
        .map(|trial| {
            let output = Command::new("sh")
                .args(["-c", &trial.command])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    let expected = [
        ("HTTP/1.1 200 ", r#""upstream":"portcullis-demo""#),
        ("HTTP/1.1 401 ", r#"{"error_code":""#),
        ("HTTP/1.1 200 ", r#""classification":"malicious""#),
        ("HTTP/1.1 403 ", r#"{"error_code":""#),
        ("HTTP/1.1 401 ", r#"{"detail":""#),
    ];
    assert_eq!(answers.len(), expected.len());
    for (answer, (status, body)) in answers.iter().zip(expected) {
        assert!(
            answer.starts_with(status) && answer.contains(body),
            "{answer}"
        );
        assert!(answer.contains("\r\nx-ratelimit-remaining: "), "{answer}");
    }
    // Only the allowed one went on.
    assert_eq!(stand.upstream.requests(), 1);
    // Nothing that the module does is outside its allow-list.
    let log = stand.edge.log().unwrap();
    assert!(
        !log.contains("restricted") && !log.contains("[error]"),
        "{log}"
    );
}

#[test]
fn envoys_own_replies_are_in_the_words_of_the_api() {
    let stand = Stand::start();
    check_local_reply(
        &stand,
        "GET /v1/a%2fb HTTP/1.1\r\nhost: HOST\r\n\r\n",
        400,
        "request_malformed",
        "The request is malformed",
    );
    check_local_reply(
        &stand,
        "GET /v1/a HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        403,
        "upgrade_refused",
        "This protocol upgrade is not allowed here",
    );
    // An id that the client made up is not the trace id.
    let answer = stand.ask(
        "GET / HTTP/1.1\r\nhost: api.cybervault.io\r\nconnection: upgrade\r\nupgrade: x\r\nx-request-id: mine\r\n\r\n",
    );
    assert!(
        answer.body.contains(r#","trace_id":""#) && !answer.body.contains("mine"),
        "{answer:?}"
    );
}

#[test]
fn a_dead_upstream_is_told_in_the_words_of_the_api() {
    // The gate forwards on this path for every host, and nobody listens.
    let stand = Stand::changed(|config| {
        *config = template::render(
            config,
            &Settings {
                upstream_port: Some(1),
                ..Settings::default()
            },
        )
        .unwrap();
    });
    check_local_reply(
        &stand,
        "GET /healthz HTTP/1.1\r\nhost: HOST\r\n\r\n",
        503,
        "upstream_unavailable",
        "The service is temporarily unavailable",
    );
}

#[test]
fn the_gates_replies_are_left_as_they_are() {
    let stand = Stand::start();
    let analyze = |body: &str, length: usize| {
        format!(
            "POST /v1/threats/analyze HTTP/1.1\r\n{KEY}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    for (request, status) in [
        (
            "GET /v1/a HTTP/1.1\r\nhost: api.cybervault.io\r\n\r\n".to_owned(),
            401,
        ),
        (format!("GET /v2 HTTP/1.1\r\n{KEY}\r\n"), 404),
        (format!("DELETE /v1/a HTTP/1.1\r\n{KEY}\r\n"), 405),
        (analyze("{}", 2), 400),
        (analyze("", 4_000_000), 413),
        (analyze(r#"{"target":"phish.example"}"#, 26), 200),
    ] {
        let answer = stand.ask(&request);
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        let decision = answer.header("x-portcullis-decision").unwrap();
        assert!(
            answer.body.contains(&format!(r#""trace_id":"{decision}""#)),
            "{answer:?}"
        );
        assert!(answer.header("x-ratelimit-limit").is_some(), "{answer:?}");
    }
    let answer = stand.ask("GET /_portcullis/ready HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stand.upstream.requests(), 0);
}

#[test]
fn rules_and_upstream_read_one_spelling() {
    let stand = Stand::start();
    for path in [
        "/v1/x/../threats/feed",
        "/v1//threats/feed",
        "/v1/threats/%66eed",
        "/v1/./threats/feed",
    ] {
        let answer = stand.get(path, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(
            answer.body.contains(r#""path":"/v1/threats/feed""#),
            "{path}: {answer:?}"
        );
    }
    let before = stand.upstream.requests();
    for path in ["/v1/a%2fb", "/v1/a%5Cb", "/v1/a%00b"] {
        assert_eq!(stand.get(path, "").status, 400, "{path}");
    }
    for headers in ["x_api_key: a\r\n", "x-portcullis_principal: admin\r\n"] {
        assert_eq!(stand.get("/v1/a", headers).status, 400, "{headers}");
    }
    assert_eq!(stand.upstream.requests(), before);
}

#[test]
fn the_upstream_sees_whom_we_saw() {
    let stand = Stand::start();
    let answer = stand.get(
        "/v1/a",
        "x-forwarded-for: 203.0.113.7\r\nx-request-id: mine\r\nx-portcullis-principal: admin\r\n",
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .body
            .contains(r#"["x-portcullis-principal","globex"]"#),
        "{answer:?}"
    );
    for word in ["mine", "admin", "demo-globex"] {
        assert!(!answer.body.contains(word), "{word}: {answer:?}");
    }
    // Appended to, and what the client wrote is not whom Envoy takes for the client.
    assert!(
        answer.body.contains(r#"["x-forwarded-for","203.0.113.7,"#),
        "{answer:?}"
    );
    assert!(
        answer
            .body
            .contains(r#"["x-envoy-external-address","127.0.0.1"]"#),
        "{answer:?}"
    );
    // And the client sees the upstream's headers, not Envoy's.
    for name in ["server", "x-envoy-upstream-service-time"] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
}

/// A client can't write its own name into the log, nor its key.
#[test]
fn the_access_log_believes_the_gate_only() {
    let mut stand = Stand::start();
    let forged = "x-portcullis-principal: forged\r\nx-portcullis-decision: forged\r\n";
    assert_eq!(stand.get("/v1/a?token=secret", forged).status, 200);
    let refused = format!("GET /v1/a HTTP/1.1\r\nhost: api.cybervault.io\r\n{forged}\r\n");
    let refused = stand.ask(refused);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(stand.get("/v1/a%2fb", forged).status, 400);

    let log = stand.access_log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    for word in ["forged", "secret", "demo-globex"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    let decision = format!(
        r#""decision":"{}""#,
        refused.header("x-portcullis-decision").unwrap()
    );
    for (line, words) in lines.iter().zip([
        [
            r#""principal":"globex""#,
            r#""path":"/v1/a""#,
            r#""status":200"#,
        ],
        [&decision, r#""principal":"""#, r#""status":401"#],
        [
            r#""details":"path_normalization_failed""#,
            r#""principal":"""#,
            r#""status":400"#,
        ],
    ]) {
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    // The gate's record is an object in the line; what Envoy refused has none.
    let [forwarded, refused, early] = lines.try_into().unwrap();
    for (line, record) in [
        (forwarded, r#""reason":"allowed","remaining":"#),
        (refused, r#""reason":"credential_missing","remaining":"#),
        (early, r#""gate":null"#),
    ] {
        assert!(line.contains(record), "{record}: {line}");
    }
    for word in [
        r#""gate":{"api":"cybervault""#,
        r#""key":"k_globex_1""#,
        r#""rule":"apis.cybervault.routes.read""#,
        r#""policy":"demo-1""#,
        r#""v":1"#,
    ] {
        assert!(forwarded.contains(word), "{word}: {forwarded}");
    }
}

#[test]
fn the_gates_counters_are_labelled() {
    let stand = Stand::start();
    assert_eq!(stand.get("/v1/a", "").status, 200);
    assert_eq!(
        stand
            .ask("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n")
            .status,
        404
    );
    let request = b"GET /stats/prometheus HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let stats = http::ask(stand.edge.admin(), request, Duration::from_secs(20)).unwrap();
    let mut ours = stats
        .body
        .lines()
        .filter(|line| line.starts_with("portcullis_decisions{"));
    for labels in [
        &[
            r#"api="cybervault""#,
            r#"route="read""#,
            r#"reason="allowed""#,
        ][..],
        &[r#"reason="host_unknown""#],
    ] {
        let has_all =
            |line: &str| line.ends_with(" 1") && labels.iter().all(|label| line.contains(label));
        assert!(
            ours.clone().any(has_all),
            "{labels:?}: {:?}",
            ours.collect::<Vec<_>>()
        );
    }
    assert_eq!(ours.by_ref().count(), 2);
}

/// The access log over gRPC is shipped as comments: without them Envoy takes it.
#[test]
fn the_access_log_over_grpc_is_valid_when_it_is_switched_on() {
    let mut switched = String::new();
    let (mut inside, mut lines) = (false, 0);
    for line in config(Settings::default()).lines() {
        match line.trim() {
            "# @als-begin" => inside = true,
            "# @als-end" => inside = false,
            _ if inside => {
                switched.push_str(&line.replacen("# ", "", 1));
                lines += 1;
            }
            _ => switched.push_str(line),
        }
        switched.push('\n');
    }
    assert!(lines > 15 && !inside, "{lines} lines");
    let folder = folder();
    edge::validate(&envoy(), &switched, &folder).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn headers_are_bounded() {
    let stand = Stand::start();
    assert_eq!(
        stand
            .get("/v1/a", &format!("x: {}\r\n", "y".repeat(28_000)))
            .status,
        200
    );
    for headers in [
        format!("x: {}\r\n", "y".repeat(33_000)),
        "x: y\r\n".repeat(101),
    ] {
        let answer = stand.get("/v1/a", &headers);
        assert_eq!(answer.status, 431, "{answer:?}");
        assert!(
            answer.body.contains(r#""code":"headers_too_large""#),
            "{answer:?}"
        );
    }
    assert_eq!(stand.ask("GET / HTTP/1.0\r\nhost: a\r\n\r\n").status, 426);
}

/// Over HTTP/2 the bound would be the stream's window, if the route had none of its own.
#[test]
fn the_largest_body_is_judged_and_forwarded_over_http_1_and_2() {
    let stand = Stand::changed(replacing("body: { max: 64KiB }", "body: { max: 1MiB }"));
    let mut body = String::from(r#"{"target":"http://a.example/","mode":"deep"}"#);
    for (length, status, versions) in [
        (
            1 << 20,
            "200",
            &["--http1.1", "--http2-prior-knowledge"][..],
        ),
        ((1 << 20) + 1, "413", &["--http1.1"]),
    ] {
        body.extend(std::iter::repeat_n(' ', length - body.len()));
        let file = stand.folder.join("body");
        fs::write(&file, &body).unwrap();
        for version in versions {
            let output = Command::new("curl")
                .args([
                    *version,
                    "--silent",
                    "--max-time",
                    "20",
                    "--header",
                    "expect:",
                ])
                .args([
                    "--header",
                    "host: api.cybervault.io",
                    "--header",
                    "content-type: application/json",
                ])
                .args([
                    "--header",
                    "authorization: Bearer demo-globex-enterprise",
                    "--data-binary",
                ])
                .arg(format!("@{}", file.display()))
                .args(["--write-out", "\n%{http_code}", "--output", "-"])
                .arg(format!(
                    "http://{}/v1/threats/analyze",
                    stand.edge.address()
                ))
                .output()
                .unwrap();
            let answer = String::from_utf8(output.stdout).unwrap();
            let (seen, code) = answer.rsplit_once('\n').unwrap();
            assert_eq!(code, status, "{version} {length}");
            if status == "200" {
                let echoed = seen.split_once(r#""body":""#).unwrap().1;
                assert!(
                    echoed.len() > length && echoed.contains(r#"\"mode\":\"deep\"}   "#),
                    "{version}"
                );
                assert!(
                    seen.contains(r#"["x-portcullis-class","deep"]"#),
                    "{version}"
                );
            }
        }
    }
}

#[test]
fn a_page_may_ask_and_may_read_a_refusal() {
    let stand = Stand::start();
    let ours = "origin: https://console.example\r\n";
    let answer = stand.ask(format!(
        "OPTIONS /v1/a HTTP/1.1\r\nhost: api.cybervault.io\r\n{ours}access-control-request-method: GET\r\n\r\n"
    ));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("authorization, content-type")
    );

    let answer = stand.ask(format!(
        "GET /v1/a HTTP/1.1\r\nhost: api.cybervault.io\r\n{ours}\r\n"
    ));
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://console.example")
    );
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("x-ratelimit-reset") && exposed.contains("retry-after"),
        "{exposed}"
    );

    let answer = stand.get("/v1/a", "origin: https://evil.example\r\n");
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    assert_eq!(stand.upstream.requests(), 1);
}

#[test]
fn the_admin_interface_only_tells() {
    let stand = Stand::start();
    let admin = stand.edge.admin();
    assert!(admin.ip().is_loopback());
    for (path, status) in [
        ("/ready", 200),
        ("/server_info", 200),
        ("/stats?filter=wasm", 200),
        ("/stats/prometheus", 200),
        ("/clusters", 200),
        ("/listeners?format=json", 200),
        ("/config_dump", 200),
        ("/", 403),
        ("/quitquitquit", 403),
        ("/logging", 403),
        ("/runtime_modify", 403),
        ("/cpuprofiler", 403),
        ("/drain_listeners", 403),
        ("/stats/recentlookups/clear", 403),
    ] {
        for method in ["GET", "POST"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let answer = http::ask(admin, request.as_bytes(), Duration::from_secs(20)).unwrap();
            assert_eq!(answer.status, status, "{method} {path}");
        }
    }
}

/// HTTPS only: what `up` gives to try, HTTP/2 and HTTP/1.1 by agreement, nothing older than TLS 1.2,
/// and no answer to plain HTTP.
#[test]
fn clients_come_by_tls() {
    let stand = Stand::start();
    let tls = stand.edge.tls();
    let trial = demo::trial_over_tls(Subject::Demo, &format!("https://{tls}"));
    let output = Command::new("sh").args(["-c", &trial.command]).output();
    let answer = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(
        answer.starts_with("HTTP/2 200 ") && answer.contains(r#"["x-forwarded-proto","https"]"#),
        "{answer}"
    );

    let certificate = Certificate::obtain(&Workspace::find().unwrap()).unwrap();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let output = Command::new("curl")
            .args([flag, "--silent", "--show-error", "--max-time", "20"])
            .arg("--cacert")
            .arg(certificate.path())
            .args(["--write-out", "\n%{http_version} %{http_code}"])
            .args([
                "--resolve",
                &format!("api.cybervault.io:{}:127.0.0.1", tls.port()),
            ])
            .args(["--header", "authorization: Bearer demo-globex-enterprise"])
            .arg(format!(
                "https://api.cybervault.io:{}/v1/threats",
                tls.port()
            ))
            .output()
            .unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(
            answer.ends_with(&format!("\n{version} 200")) && answer.contains("globex"),
            "{answer} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    let handshake = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &tls.to_string(), version])
            // This client's own minimum is no proof of the server's.
            .args(["-cipher", "DEFAULT:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    assert!(handshake("-tls1_2").0, "{}", handshake("-tls1_2").1);
    let (agreed, said) = handshake("-tls1_1");
    assert!(!agreed && said.contains("alert protocol version"), "{said}");

    let plain = format!("GET /v1/threats HTTP/1.1\r\n{KEY}\r\n");
    let answer = http::ask(tls, plain.as_bytes(), Duration::from_secs(20));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(stand.upstream.requests(), 3);
}

/// The seeds promise an answer within 30 seconds; shortened, as below.
#[test]
fn an_upstream_that_does_not_answer_is_told_in_the_words_of_the_api() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stand = Stand::changed(|config| {
        replacing(
            "cluster: upstream\n                            timeout: 30s",
            "cluster: upstream\n                            timeout: 0.5s",
        )(config);
        let upstream_port = Some(silent.local_addr().unwrap().port());
        let settings = Settings {
            upstream_port,
            ..Settings::default()
        };
        *config = template::render(config, &settings).unwrap();
    });
    check_local_reply(
        &stand,
        "GET /healthz HTTP/1.1\r\nhost: HOST\r\n\r\n",
        504,
        "upstream_timeout",
        "The service did not answer in time",
    );
}

/// The timers that end what a filter holds or a client never sends. Shortened; their shipped values are
/// in the configuration.
#[test]
fn no_stream_is_held_for_ever() {
    let stand = Stand::changed(|config| {
        replacing(
            "\n                request_timeout: 30s",
            "\n                request_timeout: 1s",
        )(config);
        replacing(
            "request_headers_timeout: 10s",
            "request_headers_timeout: 0.5s",
        )(config);
    });
    let start = Start::now();
    let held = format!(
        "POST /v1/threats/analyze HTTP/1.1\r\n{KEY}content-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    );
    let answer = stand.ask(held);
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(
        answer.body.contains(r#""error_code":"request_timeout""#),
        "{answer:?}"
    );
    assert!(start.elapsed() >= Duration::from_millis(900));
    let answer = stand.ask("GET / HTTP/1.1\r\nhost: a\r\n");
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(stand.upstream.requests(), 0);
}

/// As text and as a Struct, an invalid policy does not start, and what is told is what to change.
#[test]
fn an_invalid_policy_is_refused_with_its_errors() {
    let yaml = demo_policy()
        .replace("1000/min", "1000/fortnight")
        .replace("unauthenticated:", "unauthenticatd:");
    let json = r#"{ "version": 1, "apis": { "a": { "hosts": ["a.example"], "tiers": { "t": { "rate": "1000/fortnight" } }, "keys": [], "routes": {} } }, "unauthenticatd": {} }"#;
    for policy in [Policy::Yaml(&yaml), Policy::Json(json)] {
        let config = config(Settings {
            policy: Some(policy),
            ..Settings::default()
        });
        let folder = folder();
        let Err(Failure::Told { what, .. }) = Edge::start(&envoy(), &config, &folder, Some(1))
        else {
            panic!("an invalid policy was taken");
        };
        assert!(
            what.contains(".rate") && what.contains("unauthenticatd"),
            "{what}"
        );
        assert_eq!(what.matches("unauthenticatd").count(), 1, "{what}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_policy_may_be_json_text() {
    let json = "{\n\t\"version\": 1,\n\t\"revision\": \"json-1\",\n\t\"apis\": { \"a\": { \"hosts\": [\"a.example\"],\n\t\t\"tiers\": { \"t\": { \"rate\": \"1000/min\" } }, \"keys\": [],\n\t\t\"routes\": { \"open\": { \"match\": \"GET /**\", \"auth\": \"none\", \"limits\": [] } } } }\n}\n";
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap();
    let settings = Settings {
        upstream_port: Some(upstream.address().port()),
        policy: Some(Policy::Json(json)),
        ..Settings::default()
    };
    let folder = folder();
    let edge = Edge::start(&envoy(), &config(settings), &folder, Some(1)).unwrap();
    let answer = http::ask(
        edge.address(),
        b"GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n",
        Duration::from_secs(20),
    )
    .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(edge);
    fs::remove_dir_all(folder).unwrap();
}
