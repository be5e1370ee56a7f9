//! How a request ends that has reserved one of a quota, as Envoy tells it.

use crate::Test;
use crate::peer::{Head, Peer};
use crate::stage::{QUOTA, Stage, WITH_KEY};

pub(crate) const TESTS: &[Test] = &[(
    "what-the-upstream-did-not-do-is-given-back",
    what_the_upstream_did_not_do_is_given_back,
)];

const LISTENER: &str = "quota";

/// A request that the upstream sees.
fn begin(stage: &Stage) -> (Peer, Peer) {
    let mut client = stage.client(LISTENER);
    client.write(format!("GET /v1/quota/x HTTP/1.1\r\n{WITH_KEY}\r\n"));
    let (_, upstream) = stage.upstream();
    (client, upstream)
}

/// A request that the upstream answers.
fn answer(stage: &Stage, status: u16) -> Head {
    let (mut client, mut upstream) = begin(stage);
    upstream.write(format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"
    ));
    let head = client.head();
    assert_eq!(head.status(), status);
    head
}

/// What is left when nothing is under way, seen by a request that is given back.
fn left(stage: &Stage) -> u64 {
    let remaining = answer(stage, 400).get("x-ratelimit-remaining").to_owned();
    remaining.parse::<u64>().unwrap() + 1
}

/// What has been settled so far: charged, and given back.
fn settled(stage: &Stage) -> (u64, u64) {
    let count = |word| stage.counter(&format!("wasmcustom.portcullis.quota.{word}"));
    (count("committed"), count("released"))
}

fn what_the_upstream_did_not_do_is_given_back(stage: &Stage) {
    assert_eq!(left(stage), QUOTA);
    answer(stage, 200);
    assert_eq!(left(stage), QUOTA - 1);
    for status in [404, 429, 500, 503, 504] {
        answer(stage, status);
        assert_eq!(left(stage), QUOTA - 1, "{status}");
    }

    // The upstream breaks off before it answers.
    let (mut client, upstream) = begin(stage);
    drop(upstream);
    assert_eq!(client.head().status(), 503);
    assert_eq!(left(stage), QUOTA - 1, "a connection that was reset");

    // Nobody is there.
    let dead = format!("GET /v1/quota/dead HTTP/1.1\r\n{WITH_KEY}");
    let (head, _) = stage.ask(LISTENER, &dead);
    assert_eq!(head.status(), 503);
    assert_eq!(left(stage), QUOTA - 1, "a connection that failed");

    // It takes too long: Envoy answers, and the upstream may have done it.
    let (mut client, upstream) = begin(stage);
    assert_eq!(client.head().status(), 504);
    drop(upstream);
    assert_eq!(left(stage), QUOTA - 2, "a timeout");

    // The client does not wait.
    let before = settled(stage);
    let (client, mut upstream) = begin(stage);
    drop(client);
    upstream.until_closed();
    while settled(stage) == before {}
    assert_eq!(settled(stage), (before.0 + 1, before.1));
    assert_eq!(left(stage), QUOTA - 2 - 1, "a client that left");
}
