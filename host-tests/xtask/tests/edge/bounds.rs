//! What is bounded: headers, bodies, time.

use std::fs;
use std::process::Command;
use std::time::Duration;

use xtask::clock::Start;

use crate::stand::{KEY, Stand, replacing};

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
