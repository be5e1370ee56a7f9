//! gRPC and HTTP/2 on both sides of the gate.

use portcullis_corpus::Response;
use portcullis_corpus::wire::h2::Call;
use portcullis_corpus::wire::stream::Deadline;
use portcullis_corpus::wire::{Field, Message};

use crate::Test;
use crate::stage::{PATIENCE, Stage};
use crate::streams::{message, pass_all_timeouts};

pub(crate) const TESTS: &[Test] = &[
    ("a-grpc-stream-goes-both-ways", a_grpc_stream_goes_both_ways),
    (
        "a-grpc-refusal-is-trailers-only",
        a_grpc_refusal_is_trailers_only,
    ),
    (
        "envoys-own-answers-are-grpc-too",
        envoys_own_answers_are_grpc_too,
    ),
    (
        "trailers-pass-both-ways-over-h2",
        trailers_pass_both_ways_over_h2,
    ),
];

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn open(stage: &Stage) -> Call {
    Call::open(&stage.address("grpc"), Deadline::after(PATIENCE)).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    text(&response.headers, name)
}

fn text<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> &'a str {
    let field = fields.iter().find(|(n, _)| n == name);
    field.map_or("", |(_, value)| str::from_utf8(value).unwrap())
}

/// A message of gRPC: a flag, its length, itself.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// Messages in turn, so that each is seen to pass before the next is sent, some minutes apart.
fn a_grpc_stream_goes_both_ways(stage: &Stage) {
    let mut call = open(stage);
    let request = message(
        "POST",
        "/svc.v1.Echo/Talk",
        &[GRPC, ("te", "trailers"), ("grpc-timeout", "50S")],
    );
    call.begin(&request, false).unwrap();
    let (head, mut upstream) = stage.upstream();
    assert_eq!(head.get("x-inner-protocol"), "HTTP/2");
    assert_eq!(head.get("content-type"), "application/grpc");
    assert_eq!(head.get("x-portcullis-principal"), "acme");
    assert_eq!(head.get("authorization"), "");
    upstream.write(
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    call.read(0).unwrap();
    let head = call.response().unwrap();
    assert_eq!((head.status, header(head, "content-type")), (200, GRPC.1));
    assert_ne!(header(head, "x-ratelimit-remaining"), "");
    let mut answered = 0;
    for word in [b"one".as_slice(), b"two", b"three"] {
        let framed = framed(word);
        call.send_body(&framed, false).unwrap();
        assert_eq!(upstream.take_chunks(framed.len()), framed);
        upstream.write_chunk(&framed);
        answered += framed.len();
        call.read(answered).unwrap();
        assert!(call.response().unwrap().body.ends_with(&framed));
        if word == b"one" {
            pass_all_timeouts(stage, "grpc");
        }
    }
    call.send_body(b"", true).unwrap();
    upstream.end_chunks();
    upstream.write("0\r\ngrpc-status: 0\r\ngrpc-message: bye\r\n\r\n");
    call.read_to_end().unwrap();
    assert!(call.is_whole() && !call.is_trailers_only());
    assert_eq!(text(call.trailers(), "grpc-status"), "0");
    assert_eq!(text(call.trailers(), "grpc-message"), "bye");
}

/// Sends a call without more than its headers and reads what comes.
fn ask(stage: &Stage, request: &Message) -> Call {
    let mut call = open(stage);
    call.begin(request, true).unwrap();
    call.read_to_end().unwrap();
    assert!(call.is_whole());
    call
}

/// On the wire: one block of headers that ends the stream, with all that HTTP callers are told.
fn a_grpc_refusal_is_trailers_only(stage: &Stage) {
    for media in ["application/grpc", "application/grpc+proto"] {
        let mut request = message("POST", "/svc.v1.Echo/Talk", &[("content-type", media)]);
        request.headers.retain(|(name, _)| name != b"authorization");
        let call = ask(stage, &request);
        assert!(call.is_trailers_only(), "{media}");
        let response = call.response().unwrap();
        assert_eq!(response.status, 200);
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-status", "16"),
            ("grpc-message", "A valid API key is required"),
            ("www-authenticate", "Bearer realm=\"api\""),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(response, name), value, "{media}");
        }
        for name in ["x-portcullis-decision", "x-ratelimit-remaining"] {
            assert_ne!(header(response, name), "", "{media}: {name}");
        }
        assert_eq!(header(response, "content-length"), "");
    }
    let unknown = ask(stage, &message("POST", "/svc.v1.Nobody/Call", &[GRPC]));
    assert_eq!(header(unknown.response().unwrap(), "grpc-status"), "12");
    assert!(stage.upstream_is_quiet());
}

/// The upstream is gone: what Envoy says of it is a sentence, not an API's JSON in a header.
fn envoys_own_answers_are_grpc_too(stage: &Stage) {
    let call = ask(stage, &message("POST", "/svc.v1.Dead/Call", &[GRPC]));
    assert!(call.is_trailers_only());
    let response = call.response().unwrap();
    for (name, value) in [
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "The service is temporarily unavailable"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(header(response, name), value, "{name}");
    }
    assert_ne!(header(response, "x-ratelimit-remaining"), "");
}

fn trailers_pass_both_ways_over_h2(stage: &Stage) {
    let mut call = open(stage);
    call.begin(&message("PUT", "/v1/files/a", &[]), false)
        .unwrap();
    call.send_body(b"body", false).unwrap();
    let trailers = [("x-checksum", "abc"), ("x-portcullis-tier", "root")];
    let trailers: Vec<Field> = trailers
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    call.send_trailers(&trailers).unwrap();
    let (head, mut upstream) = stage.upstream();
    assert_eq!(head.get("x-inner-protocol"), "HTTP/2");
    assert_eq!(upstream.take_chunks(4), b"body");
    let came = upstream.end_chunks();
    assert_eq!(came, [("x-checksum".to_owned(), "abc".to_owned())]);
    upstream.write(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-digest: def\r\n\r\n",
    );
    call.read_to_end().unwrap();
    assert_eq!(call.response().unwrap().body, b"ok");
    assert_eq!(text(call.trailers(), "x-digest"), "def");
}
