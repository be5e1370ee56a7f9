//! WebSocket, where the route takes it and nowhere else.

use portcullis_corpus::wire::h2::Call;
use portcullis_corpus::wire::stream::Deadline;
use serde_json::Value;

use crate::Test;
use crate::peer::Peer;
use crate::stage::{PATIENCE, Stage, WITH_KEY};
use crate::streams::{message, pass_all_timeouts};

pub(crate) const TESTS: &[Test] = &[
    (
        "a-websocket-is-opened-and-lasts",
        a_websocket_is_opened_and_lasts,
    ),
    ("a-websocket-over-h2", a_websocket_over_h2),
    (
        "a-websocket-is-refused-elsewhere",
        a_websocket_is_refused_elsewhere,
    ),
];

// The handshake and the frames of RFC 6455, sections 1.3 and 5.7.
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// `Hello`, as a client masks it.
const MASKED: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// `Hello` from a server, in two fragments with a ping between them.
const FRAGMENTS: &[u8] = b"\x01\x03Hel\x89\x05Hello\x80\x02lo";
/// The pong, masked, and the end.
const PONG: &[u8] = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";

fn a_websocket_is_opened_and_lasts(stage: &Stage) {
    let mut client = stage.client("socket");
    client.write(format!(
        "GET /v1/stream/socket HTTP/1.1\r\n{WITH_KEY}{HANDSHAKE}\r\n"
    ));
    let (request, mut upstream) = stage.upstream();
    assert_eq!(request.get("upgrade"), "websocket");
    assert_eq!(request.get("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.get("x-portcullis-principal"), "acme");
    assert_eq!(request.get("authorization"), "");
    upstream.write(ACCEPTED);
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.get("upgrade"), "websocket");
    assert_eq!(
        head.get("sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert_ne!(head.get("x-ratelimit-remaining"), "");
    talk(&mut client, &mut upstream);
    pass_all_timeouts(stage, "socket");
    talk(&mut client, &mut upstream);
    client.write(CLOSE);
    assert_eq!(upstream.take(CLOSE.len()), CLOSE);
    drop(upstream);
    assert_eq!(client.until_closed(), b"");
}

fn talk(client: &mut Peer, upstream: &mut Peer) {
    client.write(MASKED);
    assert_eq!(upstream.take(MASKED.len()), MASKED);
    upstream.write(FRAGMENTS);
    assert_eq!(client.take(FRAGMENTS.len()), FRAGMENTS);
    client.write(PONG);
    assert_eq!(upstream.take(PONG.len()), PONG);
}

/// Extended CONNECT (RFC 8441): the gate sees the upgrade of HTTP/1.1, and so does the upstream.
fn a_websocket_over_h2(stage: &Stage) {
    let mut call = Call::open(&stage.address("socket"), Deadline::after(PATIENCE)).unwrap();
    let request = message(
        "CONNECT",
        "/v1/stream/socket",
        &[(":protocol", "websocket"), ("sec-websocket-version", "13")],
    );
    call.begin(&request, false).unwrap();
    let (request, mut upstream) = stage.upstream();
    assert!(
        request.line.starts_with("GET /v1/stream/socket "),
        "{request:?}"
    );
    assert_eq!(request.get("upgrade"), "websocket");
    upstream.write(ACCEPTED);
    call.read(0).unwrap();
    let response = call.response().unwrap();
    assert_eq!(response.status, 200);
    assert!(
        response
            .headers
            .iter()
            .any(|(name, _)| name == "x-ratelimit-remaining")
    );
    call.send_body(MASKED, false).unwrap();
    assert_eq!(upstream.take(MASKED.len()), MASKED);
    upstream.write(FRAGMENTS);
    call.read(FRAGMENTS.len()).unwrap();
    assert_eq!(call.response().unwrap().body, FRAGMENTS);

    // On another route it is refused.
    let mut call = Call::open(&stage.address("socket"), Deadline::after(PATIENCE)).unwrap();
    let request = message("CONNECT", "/v1/items", &[(":protocol", "websocket")]);
    call.begin(&request, false).unwrap();
    call.read_to_end().unwrap();
    let response = call.response().unwrap();
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(
        (response.status, &body["code"]),
        (403, &"upgrade_refused".into())
    );
    assert!(stage.upstream_is_quiet());
}

fn a_websocket_is_refused_elsewhere(stage: &Stage) {
    let refused = |listener: &str, request: &str| {
        let (head, mut client) = stage.ask(listener, &format!("{request}{HANDSHAKE}"));
        let length = head.get("content-length").parse().unwrap();
        let body: Value = serde_json::from_slice(&client.take(length)).unwrap();
        (head.status(), body["code"].as_str().unwrap().to_owned())
    };
    let socket = format!("GET /v1/stream/socket HTTP/1.1\r\n{WITH_KEY}");
    let plain = format!("GET /v1/items HTTP/1.1\r\n{WITH_KEY}");
    let keyless = "GET /v1/stream/socket HTTP/1.1\r\nHost: a.example\r\n";
    let refusal = |status, code: &str| (status, code.to_owned());
    assert_eq!(refused("socket", &plain), refusal(403, "upgrade_refused"));
    assert_eq!(refused("socket", keyless), refusal(401, "unauthorized"));
    // As shipped, Envoy lets none through, whatever the policy says.
    assert_eq!(refused("edge", &socket), refusal(403, "upgrade_refused"));
    // Another protocol than the route's.
    let mqtt = "Connection: Upgrade\r\nUpgrade: mqtt\r\n";
    let (head, _) = stage.ask("socket", &format!("{socket}{mqtt}"));
    assert_eq!(head.status(), 403);
    assert!(stage.upstream_is_quiet());
}
