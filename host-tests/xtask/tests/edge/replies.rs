//! Envoy's own replies, in the words of the API.

use std::net::TcpListener;

use xtask::template::{self, Settings};

use crate::stand::{HOSTS, Stand, replacing};

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
