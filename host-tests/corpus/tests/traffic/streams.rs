//! Answers that go on, and bodies that nobody should hold.

use std::thread;

use portcullis_corpus::wire::Message;
use portcullis_corpus::wire::h2::Call;
use portcullis_corpus::wire::stream::Deadline;

use crate::Test;
use crate::stage::{PATIENCE, Stage, WITH_KEY};

pub(crate) const TESTS: &[Test] = &[
    ("server-sent-events-go-on", server_sent_events_go_on),
    (
        "a-client-that-leaves-ends-its-stream",
        a_client_that_leaves_ends_its_stream,
    ),
    (
        "a-slot-is-kept-while-the-response-lasts",
        a_slot_is_kept_while_the_response_lasts,
    ),
    ("a-long-download-goes-on", a_long_download_goes_on),
    ("a-large-upload-is-streamed", a_large_upload_is_streamed),
    (
        "a-large-upload-is-streamed-over-h2",
        a_large_upload_is_streamed_over_h2,
    ),
    ("a-large-download-is-streamed", a_large_download_is_streamed),
    (
        "a-large-upload-is-refused-at-once",
        a_large_upload_is_refused_at_once,
    ),
];

const MIB: usize = 1 << 20;

/// A body that is far above every buffer.
const LARGE: usize = 64 * MIB;

/// What Envoy may hold of it beside what it held before: a fraction, whatever the client sends.
const HELD: u64 = 8 << 20;

/// Lets the time of every shipped timeout but those of streams pass: four times in a row a response
/// on the ordinary route is cut by its timeout of 30 s, so two minutes (three seconds here), which is
/// more than the 90 s of `max_stream_duration`.
pub(crate) fn pass_all_timeouts(stage: &Stage, listener: &str) {
    for _ in 0..4 {
        let mut client = stage.client(listener);
        client.write(format!("GET /v1/report HTTP/1.1\r\n{WITH_KEY}\r\n"));
        let (_, mut upstream) = stage.upstream();
        upstream.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        upstream.write_chunk("begun");
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.take_chunks(5), b"begun");
        // Nobody reads on. The client would be told a second later, when Envoy has closed.
        assert_eq!(upstream.until_closed(), b"");
    }
}

/// Events minutes apart, on a route for streams.
fn server_sent_events_go_on(stage: &Stage) {
    let mut client = stage.client("fast");
    client.write(format!(
        "GET /v1/stream/events HTTP/1.1\r\n{WITH_KEY}Accept: text/event-stream\r\n\r\n"
    ));
    let (request, mut upstream) = stage.upstream();
    assert_eq!(request.get("x-portcullis-principal"), "acme");
    upstream.write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    // The headers come before there is anything else.
    let head = client.head();
    assert_eq!(
        (head.status(), head.get("content-type")),
        (200, "text/event-stream")
    );
    assert_ne!(head.get("x-ratelimit-remaining"), "");
    for n in 0..3 {
        let event = format!("id: {n}\ndata: more\n\n");
        upstream.write_chunk(&event);
        assert_eq!(client.take_chunks(event.len()), event.as_bytes());
        if n < 2 {
            pass_all_timeouts(stage, "fast");
        }
    }
    upstream.write_chunk("");
    client.end_chunks();
}

/// Whoever leaves is not talked to any longer.
fn a_client_that_leaves_ends_its_stream(stage: &Stage) {
    let mut client = stage.client("edge");
    client.write(format!("GET /v1/stream/events HTTP/1.1\r\n{WITH_KEY}\r\n"));
    let (_, mut upstream) = stage.upstream();
    upstream.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    upstream.write_chunk("begun");
    client.head();
    assert_eq!(client.take_chunks(5), b"begun");
    drop(client);
    assert_eq!(upstream.until_closed(), b"");
}

/// Two responses are under way, a third is refused; when one ends, or its client leaves, there is room.
fn a_slot_is_kept_while_the_response_lasts(stage: &Stage) {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let begin = || {
        let mut client = stage.client("edge");
        client.write(format!("GET /v1/two/report HTTP/1.1\r\n{WITH_KEY}\r\n"));
        let (_, mut upstream) = stage.upstream();
        upstream.write(HEAD);
        upstream.write_chunk("begun");
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.take_chunks(5), b"begun");
        (client, upstream)
    };
    let refused = || {
        let request = format!("GET /v1/two/report HTTP/1.1\r\n{WITH_KEY}");
        stage.ask("edge", &request).0
    };
    let (mut first, mut first_upstream) = begin();
    let (second, mut second_upstream) = begin();
    let head = refused();
    assert_eq!((head.status(), head.get("x-ratelimit-limit")), (429, "2"));
    first_upstream.write_chunk("");
    first.end_chunks();
    let (third, mut third_upstream) = begin();
    assert_eq!(refused().status(), 429);
    for (client, upstream) in [(second, &mut second_upstream), (third, &mut third_upstream)] {
        drop(client);
        // Envoy has ended the stream before it lets go of the connection.
        assert_eq!(upstream.until_closed(), b"");
    }
    begin();
    begin();
}

/// A download of known length that trickles.
fn a_long_download_goes_on(stage: &Stage) {
    let mut client = stage.client("fast");
    client.write(format!(
        "GET /v1/stream/report.csv HTTP/1.1\r\n{WITH_KEY}\r\n"
    ));
    let (_, mut upstream) = stage.upstream();
    upstream.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc");
    assert_eq!(client.head().get("content-length"), "9");
    assert_eq!(client.take(3), b"abc");
    upstream.write("def");
    assert_eq!(client.take(3), b"def");
    pass_all_timeouts(stage, "fast");
    upstream.write("ghi");
    assert_eq!(client.take(3), b"ghi");
}

/// Reads a large body from one side, and says how much Envoy allocated meanwhile.
fn drain(stage: &Stage, mut take: impl FnMut(usize) -> Vec<u8>) -> u64 {
    let mut most = 0;
    for piece in 0..LARGE / MIB {
        let bytes = take(MIB);
        assert!(
            bytes.iter().all(|byte| *byte == pattern(piece)),
            "MiB {piece} came otherwise than it was sent"
        );
        // The sender is ahead of us by whatever is held between.
        if piece % 8 == 0 {
            most = most.max(stage.allocated());
        }
    }
    most
}

fn pattern(piece: usize) -> u8 {
    (piece % 251) as u8
}

#[track_caller]
fn check_held(before: u64, most: u64) {
    let held = most.saturating_sub(before);
    assert!(held < HELD, "Envoy holds {held} bytes of {LARGE}");
}

const UPLOAD: &str = "PUT /v1/files/big HTTP/1.1\r\n";

fn a_large_upload_is_streamed(stage: &Stage) {
    let before = stage.allocated();
    let mut client = stage.client("edge");
    client.write(format!("{UPLOAD}{WITH_KEY}Content-Length: {LARGE}\r\n\r\n"));
    let (request, mut upstream) = stage.upstream();
    assert_eq!(request.get("content-length"), LARGE.to_string());
    let most = thread::scope(|scope| {
        scope.spawn(|| {
            for piece in 0..LARGE / MIB {
                client.write([pattern(piece)].repeat(MIB));
            }
        });
        drain(stage, |len| upstream.take(len))
    });
    check_held(before, most);
    upstream.write("HTTP/1.1 204 Stored\r\n\r\n");
    assert_eq!(client.head().status(), 204);
}

fn a_large_upload_is_streamed_over_h2(stage: &Stage) {
    let before = stage.allocated();
    let mut call = Call::open(&stage.address("edge"), Deadline::after(PATIENCE)).unwrap();
    call.begin(&message("PUT", "/v1/files/big", &[]), false)
        .unwrap();
    let (request, mut upstream) = stage.upstream();
    assert_eq!(request.get("transfer-encoding"), "chunked");
    let most = thread::scope(|scope| {
        scope.spawn(|| {
            for piece in 0..LARGE / MIB {
                let last = piece + 1 == LARGE / MIB;
                call.send_body(&[pattern(piece)].repeat(MIB), last).unwrap();
            }
        });
        let mut ahead = Vec::new();
        drain(stage, |len| {
            while ahead.len() < len {
                ahead.extend(upstream.next_chunk());
            }
            let rest = ahead.split_off(len);
            std::mem::replace(&mut ahead, rest)
        })
    });
    check_held(before, most);
    upstream.end_chunks();
    upstream.write("HTTP/1.1 204 Stored\r\n\r\n");
    call.read_to_end().unwrap();
    assert_eq!(call.response().unwrap().status, 204);
}

fn a_large_download_is_streamed(stage: &Stage) {
    let before = stage.allocated();
    let mut client = stage.client("edge");
    client.write(format!("GET /v1/stream/big HTTP/1.1\r\n{WITH_KEY}\r\n"));
    let (_, mut upstream) = stage.upstream();
    upstream.write(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n"
    ));
    assert_eq!(client.head().status(), 200);
    let most = thread::scope(|scope| {
        scope.spawn(|| {
            for piece in 0..LARGE / MIB {
                upstream.write([pattern(piece)].repeat(MIB));
            }
        });
        drain(stage, |len| client.take(len))
    });
    check_held(before, most);
}

/// Without a key not one byte is asked for.
fn a_large_upload_is_refused_at_once(stage: &Stage) {
    let mut client = stage.client("edge");
    client.write(format!(
        "{UPLOAD}Host: a.example\r\nContent-Length: {LARGE}\r\n\r\n"
    ));
    assert_eq!(client.head().status(), 401);
    assert!(stage.upstream_is_quiet());
}

/// A request with the key.
pub(crate) fn message(method: &str, path: &str, headers: &[(&str, &str)]) -> Message {
    let key = ("authorization", "Bearer traffic-key");
    let fields = [key].into_iter().chain(headers.iter().copied());
    Message {
        method: Some(method.into()),
        path: Some(path.into()),
        host: Some(b"a.example".to_vec()),
        headers: fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..Message::default()
    }
}
