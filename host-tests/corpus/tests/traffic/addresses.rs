//! Who the policy takes for the client, however the connection came.
//!
//! Callers without a key show it: the bucket that they spend is their address's, and a denied address
//! is told so.

use portcullis_corpus::wire::stream::Address;
use serde_json::Value;

use crate::Test;
use crate::peer::{Head, Peer};
use crate::stage::{BURST, Stage, has_ipv6};

pub(crate) const TESTS: &[Test] = &[
    ("the-peer-is-the-client", the_peer_is_the_client),
    ("behind-one-proxy", behind_one_proxy),
    ("behind-two-proxies", behind_two_proxies),
    ("over-ipv6", over_ipv6),
    ("proxy-protocol", proxy_protocol),
    ("unix-socket", unix_socket),
    ("unix-socket-behind-a-proxy", unix_socket_behind_a_proxy),
];

/// What came of a request without a key.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    /// The address may not call.
    Denied,
    /// 401, and so many requests of its bucket are left.
    Left(u64),
}

/// The bucket is full but for so many.
fn spent(requests: u64) -> Seen {
    Seen::Left(BURST - requests)
}

/// Sends a request without a key, with these bytes before it and these lines in it.
fn ask(stage: &Stage, listener: &str, before: &[u8], lines: &str) -> Seen {
    let mut client = stage.client(listener);
    client.write(before);
    client.write(format!(
        "GET /v1/items HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"
    ));
    let head = client.head();
    let body = body(&head, &mut client);
    match (head.status(), body.get("code").and_then(Value::as_str)) {
        (403, Some("client_denied")) => Seen::Denied,
        (401, Some("unauthorized")) => {
            Seen::Left(head.get("x-ratelimit-remaining").parse().unwrap())
        }
        _ => panic!("{head:?} {body}"),
    }
}

fn body(head: &Head, client: &mut Peer) -> Value {
    let length = head.get("content-length").parse().unwrap();
    serde_json::from_slice(&client.take(length)).unwrap()
}

/// Sends requests with these values of `X-Forwarded-For`, one by one.
#[track_caller]
fn check_forwarded(stage: &Stage, listener: &str, expected: &[(&str, Seen)]) {
    for (value, expected) in expected {
        let line = if value.is_empty() {
            String::new()
        } else {
            format!("X-Forwarded-For: {value}\r\n")
        };
        let seen = ask(stage, listener, b"", &line);
        assert_eq!(&seen, expected, "{listener}: {value}");
    }
}

/// As shipped: whatever `X-Forwarded-For` says, it is the peer's bucket, and the peer's fate.
fn the_peer_is_the_client(stage: &Stage) {
    let claims = [
        ("", spent(1)),
        ("192.0.2.1", spent(2)),
        ("198.51.100.7", spent(3)),
        ("192.0.2.1, 198.51.100.7", spent(4)),
        ("2001:db8:bad::1", spent(5)),
        ("nonsense", spent(6)),
    ];
    check_forwarded(stage, "edge", &claims);
    // Nor do the other headers that are said to tell an address.
    for (n, name) in (7..).zip([
        "Forwarded: for",
        "True-Client-IP",
        "X-Client-IP",
        "X-Envoy-External-Address",
        "X-Real-IP",
    ]) {
        let separator = if name.contains(':') { "=" } else { ": " };
        let line = format!("{name}{separator}198.51.100.7\r\n");
        assert_eq!(ask(stage, "edge", b"", &line), spent(n), "{line}");
    }
}

/// `xff_num_trusted_hops: 1`: the last entry is what our proxy saw; those before it are claims.
fn behind_one_proxy(stage: &Stage) {
    let claims = [
        ("192.0.2.1", spent(1)),
        ("192.0.2.2", spent(1)),
        ("192.0.2.1", spent(2)),
        ("203.0.113.1, 192.0.2.1", spent(3)),
        ("198.51.100.7, 192.0.2.1", spent(4)),
        ("198.51.100.7", Seen::Denied),
        ("192.0.2.1, 198.51.100.7", Seen::Denied),
        // IPv6 counts by its /64, and an IPv4 address in IPv6 is that address.
        ("2001:db8:1:2::1", spent(1)),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", spent(2)),
        ("2001:db8:1:3::1", spent(1)),
        ("2001:db8:bad:1::1", Seen::Denied),
        ("::ffff:192.0.2.1", spent(5)),
        ("::ffff:198.51.100.7", Seen::Denied),
        // Without an entry, or where it is no address, it is the peer. (Who comes around the proxy and
        // writes an entry is believed: that one is the network's to prevent.)
        ("", spent(1)),
        ("nonsense", spent(2)),
        ("192.0.2.1:4711", spent(3)),
    ];
    check_forwarded(stage, "hop1", &claims);
    // A proxy may add a line of its own in place of an entry.
    let lines = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 192.0.2.2\r\n";
    assert_eq!(ask(stage, "hop1", b"", lines), spent(2));
    let lines = "X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-For: 198.51.100.7\r\n";
    assert_eq!(ask(stage, "hop1", b"", lines), Seen::Denied);
}

/// `xff_num_trusted_hops: 2`: the last entry is the outer proxy's address, the one before it the
/// client's.
fn behind_two_proxies(stage: &Stage) {
    let claims = [
        ("192.0.2.1, 10.0.0.1", spent(1)),
        ("203.0.113.9, 192.0.2.1, 10.0.0.1", spent(2)),
        ("198.51.100.7, 192.0.2.1, 10.0.0.2", spent(3)),
        ("192.0.2.1, 198.51.100.7, 10.0.0.1", Seen::Denied),
        // Too few entries: it is the peer.
        ("198.51.100.7", spent(1)),
        ("", spent(2)),
    ];
    check_forwarded(stage, "hop2", &claims);
}

fn over_ipv6(stage: &Stage) {
    if !has_ipv6() {
        println!("over-ipv6: unsupported here, there is no [::1]");
        return;
    }
    let Address::Tcp(address) = stage.address("ipv6") else {
        panic!("no socket address");
    };
    assert!(address.is_ipv6());
    let claims = [
        ("", spent(1)),
        ("2001:db8:bad::1", spent(2)),
        ("198.51.100.7", spent(3)),
    ];
    check_forwarded(stage, "ipv6", &claims);
    check_forwarded(
        stage,
        "ipv6_deny",
        &[("", Seen::Denied), ("192.0.2.1", Seen::Denied)],
    );
}

/// The address in the PROXY header is the peer's, and no header of the request changes it.
fn proxy_protocol(stage: &Stage) {
    let v1 = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let v2 = |address: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend(address);
        header.extend([127, 0, 0, 1, 0x12, 0x34, 0, 80]);
        header
    };
    let ask = |before: &[u8], lines: &str| ask(stage, "proxy", before, lines);
    let tcp4 = v1("TCP4 192.0.2.1 127.0.0.1 4711 80");
    assert_eq!(ask(&tcp4, ""), spent(1));
    assert_eq!(ask(&v2([192, 0, 2, 1]), ""), spent(2));
    assert_eq!(
        ask(&tcp4, "X-Forwarded-For: 198.51.100.7\r\n"),
        spent(3),
        "a claim"
    );
    let denied = v1("TCP4 198.51.100.7 127.0.0.1 4711 80");
    assert_eq!(ask(&denied, ""), Seen::Denied);
    assert_eq!(ask(&denied, "X-Forwarded-For: 192.0.2.1\r\n"), Seen::Denied);
    assert_eq!(ask(&v2([198, 51, 100, 7]), ""), Seen::Denied);
    assert_eq!(ask(&v1("TCP6 2001:db8:1:2::1 ::1 4711 80"), ""), spent(1));
    assert_eq!(ask(&v1("TCP6 2001:db8:1:2::9 ::1 4711 80"), ""), spent(2));
    assert_eq!(
        ask(&v1("TCP6 2001:db8:bad::9 ::1 4711 80"), ""),
        Seen::Denied
    );
    // The balancer speaks for itself, such as a health check of its own: the peer it is.
    assert_eq!(ask(&v1("UNKNOWN"), ""), spent(1));
    // Who sends no such header gets no answer.
    let mut client = stage.client("proxy");
    client.write("GET /v1/items HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.until_closed(), b"");
    assert!(stage.upstream_is_quiet());
}

/// Over a Unix socket there is no address: such callers share one bucket, whatever they claim; where
/// addresses are denied, they are refused.
fn unix_socket(stage: &Stage) {
    let claims = [
        ("", spent(1)),
        ("192.0.2.1", spent(2)),
        ("2001:db8::1", spent(3)),
    ];
    check_forwarded(stage, "unix", &claims);
    check_forwarded(
        stage,
        "unix_deny",
        &[("", Seen::Denied), ("192.0.2.1", Seen::Denied)],
    );
}

/// A proxy of ours on the same machine, and its word for the client's address.
fn unix_socket_behind_a_proxy(stage: &Stage) {
    let claims = [
        ("192.0.2.1", spent(1)),
        ("198.51.100.7, 192.0.2.1", spent(2)),
        ("198.51.100.7", Seen::Denied),
        ("", Seen::Denied),
    ];
    check_forwarded(stage, "unix_hop1", &claims);
}
