//! What Envoy tries again is one request to the gate: one decision, one charge.

use crate::Test;
use crate::peer::Head;
use crate::stage::{Stage, WITH_KEY};

pub(crate) const TESTS: &[Test] = &[
    ("a-retry-is-not-charged-again", a_retry_is_not_charged_again),
    (
        "what-fails-for-good-is-charged-once",
        what_fails_for_good_is_charged_once,
    ),
    (
        "a-retry-after-a-failed-connection",
        a_retry_after_a_failed_connection,
    ),
    ("a-hedge-is-charged-once", a_hedge_is_charged_once),
];

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FAILURE: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";

fn remaining(head: &Head) -> u64 {
    head.get("x-ratelimit-remaining").parse().unwrap()
}

/// Sends a request and answers each attempt of it in turn: the response, and the decision id that each
/// attempt had.
fn attempt(stage: &Stage, listener: &str, answers: &[&str]) -> (Head, Vec<String>) {
    let mut client = stage.client(listener);
    client.write(format!("GET /v1/items HTTP/1.1\r\n{WITH_KEY}\r\n"));
    let mut ids = Vec::new();
    for answer in answers {
        let (head, mut upstream) = stage.upstream();
        assert_eq!(head.get("x-portcullis-principal"), "acme");
        ids.push(head.get("x-portcullis-decision").to_owned());
        upstream.write(answer);
    }
    let head = client.head();
    assert!(stage.upstream_is_quiet(), "another attempt");
    (head, ids)
}

fn a_retry_is_not_charged_again(stage: &Stage) {
    let (before, _) = attempt(stage, "retry", &[ANSWER]);
    stage.forget_decisions("retry");
    let (head, ids) = attempt(stage, "retry", &[FAILURE, FAILURE, ANSWER]);
    assert_eq!(head.status(), 200);
    assert_eq!(remaining(&head) + 1, remaining(&before), "one charge");
    let decisions = stage.decisions("retry");
    assert_eq!(decisions.len(), 1, "one decision: {decisions:?}");
    assert_eq!(ids.len(), 3);
    for id in &ids {
        assert_eq!(decisions[0].get("decision").unwrap(), id, "{ids:?}");
    }
}

fn what_fails_for_good_is_charged_once(stage: &Stage) {
    let (before, _) = attempt(stage, "retry", &[ANSWER]);
    let (head, _) = attempt(stage, "retry", &[FAILURE, FAILURE, FAILURE]);
    assert_eq!(head.status(), 503);
    assert_eq!(remaining(&head) + 1, remaining(&before));
}

/// One of two hosts is gone; over four requests Envoy meets it.
fn a_retry_after_a_failed_connection(stage: &Stage) {
    let (before, _) = attempt(stage, "retry_connect", &[ANSWER]);
    for n in 1..=4 {
        let (head, ids) = attempt(stage, "retry_connect", &[ANSWER]);
        assert_eq!((head.status(), ids.len()), (200, 1));
        assert_eq!(remaining(&head) + n, remaining(&before));
    }
    let failed = stage.counter("cluster.half_dead.upstream_rq_retry_success");
    assert!(failed > 0, "Envoy never met the host that is gone");
}

/// The first attempt is slow, so Envoy makes another and takes the answer that comes first, from either.
fn a_hedge_is_charged_once(stage: &Stage) {
    let (before, _) = attempt(stage, "hedge", &[ANSWER]);
    for (n, first_wins) in [(1, false), (2, true)] {
        stage.forget_decisions("hedge");
        let mut client = stage.client("hedge");
        client.write(format!("GET /v1/items HTTP/1.1\r\n{WITH_KEY}\r\n"));
        let (first, mut slow) = stage.upstream();
        let (second, mut hedge) = stage.upstream();
        let (winner, loser) = if first_wins {
            (&mut slow, &mut hedge)
        } else {
            (&mut hedge, &mut slow)
        };
        winner.write(ANSWER);
        let head = client.head();
        assert_eq!(head.status(), 200);
        assert_eq!(loser.until_closed(), b"", "the other attempt is given up");
        assert_eq!(remaining(&head) + n, remaining(&before), "one charge");
        let decisions = stage.decisions("hedge");
        assert_eq!(decisions.len(), 1, "one decision: {decisions:?}");
        for head in [first, second] {
            let id = head.get("x-portcullis-decision");
            assert_eq!(decisions[0].get("decision").unwrap(), id);
        }
        assert!(stage.upstream_is_quiet());
    }
}
