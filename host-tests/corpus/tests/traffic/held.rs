//! gRPC that waits for its turn: bodies and trailers come while their request is held.

use portcullis_corpus::wire::h2::Call;
use portcullis_corpus::wire::stream::Deadline;

use crate::Test;
use crate::stage::{PATIENCE, Stage};
use crate::streams::message;

pub(crate) const TESTS: &[Test] = &[(
    "grpc-calls-wait-for-their-turn",
    grpc_calls_wait_for_their_turn,
)];

/// A slot every two seconds, of which two are there at the most, and a wait of 4.5 s.
const LISTENER: &str = "queue";
const CALLS: usize = 8;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn requests(stage: &Stage, which: &str) -> u64 {
    stage.counter(&format!("http.queue.downstream_rq_{which}"))
}

/// The message of a call: a flag, its length, itself.
fn framed(n: usize) -> Vec<u8> {
    let text = format!("message {n}");
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), text.as_bytes()].concat()
}

fn grpc_calls_wait_for_their_turn(stage: &Stage) {
    stage.forget_decisions(LISTENER);
    let before = requests(stage, "total");
    let completed = requests(stage, "completed");
    let begin = |n: usize| {
        let mut call = Call::open(&stage.address(LISTENER), Deadline::after(PATIENCE)).unwrap();
        let path = format!("/svc.v1.Echo/Call{n}");
        let headers = [GRPC, ("te", "trailers")];
        call.begin(&message("POST", &path, &headers), false)
            .unwrap();
        // They come in this order, though on connections of their own.
        let deadline = Deadline::after(PATIENCE);
        while requests(stage, "total") <= before + u64::try_from(n).unwrap() {
            deadline.left().unwrap();
        }
        call
    };
    let mut calls: Vec<Call> = (0..CALLS).map(begin).collect();
    // When another one is answered, all before it were decided on; only what was refused is over.
    let (head, _) = stage.ask(LISTENER, "GET /nowhere HTTP/1.1\r\nHost: a.example\r\n");
    assert_eq!(head.status(), 404);
    let refused = requests(stage, "completed") - completed - 1;
    let passed = CALLS - usize::try_from(refused).unwrap();
    assert!((3..CALLS).contains(&passed), "{passed} passed");

    // What they say comes while they are held: the last of them first, some with trailers.
    for (n, call) in calls.iter_mut().enumerate().take(passed).rev() {
        let message = framed(n);
        let (first, rest) = message.split_at(3);
        call.send_body(first, false).unwrap();
        if n % 2 == 0 {
            call.send_body(rest, true).unwrap();
        } else {
            call.send_body(rest, false).unwrap();
            call.send_trailers(&[(b"x-part".to_vec(), n.to_string().into_bytes())])
                .unwrap();
        }
    }
    for call in calls.iter_mut().skip(passed) {
        call.read_to_end().unwrap();
        assert!(call.is_trailers_only());
        let response = call.response().unwrap();
        let header = |name: &str| response.headers.iter().find(|(n, _)| n == name);
        assert_eq!(response.status, 200);
        assert_eq!(header("grpc-status").unwrap().1, b"8");
        assert!(header("retry-after").is_some());
    }
    for (n, call) in calls.iter_mut().enumerate().take(passed) {
        let (head, mut upstream) = stage.upstream();
        let line = format!("POST /svc.v1.Echo/Call{n} HTTP/1.1");
        assert_eq!(head.line, line, "the order");
        assert_eq!(head.get("x-portcullis-principal"), "acme");
        assert_eq!(upstream.take_chunks(framed(n).len()), framed(n));
        let trailers = if n % 2 == 0 {
            Vec::new()
        } else {
            vec![("x-part".to_owned(), n.to_string())]
        };
        assert_eq!(upstream.end_chunks(), trailers);
        upstream.write("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n");
        upstream.write_chunk(framed(n));
        upstream.write("0\r\ngrpc-status: 0\r\n\r\n");
        call.read_to_end().unwrap();
        assert!(call.is_whole() && !call.is_trailers_only());
        assert_eq!(call.response().unwrap().body, framed(n));
        assert!(
            call.trailers()
                .contains(&("grpc-status".to_owned(), b"0".to_vec()))
        );
    }
    assert!(stage.upstream_is_quiet());
    let decisions = stage.decisions(LISTENER);
    let of = |status: &str| {
        let is = |decision: &&serde_json::Value| decision["limit_status"] == status;
        decisions.iter().filter(is).count()
    };
    assert_eq!(of("REJECTED"), CALLS - passed, "{decisions:?}");
    assert_eq!(of("PASSED") + of("DELAYED"), passed, "{decisions:?}");
    assert!(of("DELAYED") >= 2, "{decisions:?}");
}
