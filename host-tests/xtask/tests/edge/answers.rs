//! What client and upstream see of the gate.

use std::process::Command;

use xtask::demo::{self, Subject};

use crate::stand::{KEY, Stand};

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
