//! What is refused stays refused, however it is written.

use std::collections::BTreeSet;

use portcullis_policy::{MapStore, Policy, Reason, is_reserved};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gate::{Ask, FULL, Gate, edits, key, policy, upstream};
use crate::path::decode;

/// Refusals for want of a right
const NO_RIGHT: [Reason; 23] = [
    Reason::ClientDenied,
    Reason::ConnectRefused,
    Reason::CredentialMalformed,
    Reason::CredentialMissing,
    Reason::CredentialRepeated,
    Reason::DomainDenied,
    Reason::DomainHidden,
    Reason::HostUnknown,
    Reason::KeyDisabled,
    Reason::KeyExpired,
    Reason::KeyNetworkDenied,
    Reason::KeyNotYetValid,
    Reason::KeyRevoked,
    Reason::KeyUnknown,
    Reason::MethodNotAllowed,
    Reason::PathAmbiguous,
    Reason::PathInvalid,
    Reason::QuotaNone,
    Reason::RouteUnknown,
    Reason::ScopeMissing,
    Reason::TargetBlocked,
    Reason::TierInsufficient,
    Reason::UpgradeRefused,
];

/// Who may use a route: everybody, holders of a key, nobody in these tests
const ACCESS: [&str; 3] = ["public", "key", "scope"];

/// Routes of all kinds over few words, so that they overlap
fn routes() -> impl Strategy<Value = Value> {
    let inner = proptest::sample::select(vec!["admin", "admin", "a", "v1.0", "Up", "{x}"]);
    let last = proptest::sample::select(vec!["admin", "a", "v1.0", "Up", "{x}", "**", "**"]);
    let route = (
        proptest::sample::select(vec!["ANY", "GET", "POST"]),
        proptest::collection::vec(inner, 0..2),
        last,
        proptest::sample::select(ACCESS.to_vec()),
    );
    proptest::collection::vec(route, 1..6).prop_map(|routes| {
        routes
            .into_iter()
            .enumerate()
            .map(|(index, (method, mut segments, last, access))| {
                segments.push(last);
                let mut path = segments.join("/");
                for name in ["{p1}", "{p2}"] {
                    path = path.replacen("{x}", name, 1);
                }
                let mut route = json!({ "match": format!("{method} /{path}") });
                match access {
                    "public" => {
                        route["auth"] = "none".into();
                        route["limits"] = json!([]);
                    }
                    "scope" => route["scope"] = "nobody".into(),
                    _ => {}
                }
                (format!("r{index}"), route)
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

/// One way of spelling a path differently
#[derive(Clone, Debug)]
enum Respelling {
    Escape { at: usize, capitals: bool },
    FlipCase { at: usize },
    Insert { at: usize, what: &'static str },
    Append(&'static str),
}

impl Respelling {
    fn apply(&self, path: &mut String) {
        match *self {
            Self::Escape { at, capitals } => {
                let at = 1 + at % path.len();
                let Some(byte) = path.as_bytes().get(at).copied() else {
                    return;
                };
                let escape = if capitals {
                    format!("%{byte:02X}")
                } else {
                    format!("%{byte:02x}")
                };
                path.replace_range(at..=at, &escape);
            }
            Self::FlipCase { at } => {
                let at = at % path.len();
                let letter = &path[at..=at];
                let flipped = if letter == letter.to_lowercase() {
                    letter.to_uppercase()
                } else {
                    letter.to_lowercase()
                };
                path.replace_range(at..=at, &flipped);
            }
            Self::Insert { at, what } => path.insert_str(1 + at % path.len(), what),
            Self::Append(what) => path.push_str(what),
        }
    }
}

fn respelling() -> impl Strategy<Value = Respelling> {
    let parts = vec![
        "/", "./", "../", "a/../", "/.", "/..", "%2e%2e/", "%2f", "..%2f", "%5c", "\\", ";",
        ";v=1", "%3b", "%252f", "%00", "%20", ".",
    ];
    prop_oneof![
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, capitals)| Respelling::Escape { at, capitals }),
        2 => any::<usize>().prop_map(|at| Respelling::FlipCase { at }),
        1 => (any::<usize>(), proptest::sample::select(parts.clone()))
            .prop_map(|(at, what)| Respelling::Insert { at, what }),
        1 => proptest::sample::select(parts).prop_map(Respelling::Append),
    ]
}

/// Everything that an upstream could take a path for
fn readings(path: &str) -> BTreeSet<String> {
    let mut readings = BTreeSet::from([path.to_owned()]);
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let decoded = String::from_utf8(decode(path.as_bytes())).unwrap_or_else(|_| path.clone());
        let without_parameters: Vec<_> = path
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or(""))
            .collect();
        for reading in [
            decoded,
            path.to_lowercase(),
            path.strip_suffix('/').unwrap_or(&path).to_owned(),
            path.replace("//", "/"),
            path.replace('\\', "/"),
            without_parameters.join("/"),
            resolve(&path),
        ] {
            if reading.starts_with('/') && readings.len() < 64 && readings.insert(reading.clone()) {
                todo.push(reading);
            }
        }
    }
    readings
}

/// Removes dot segments (RFC 3986, section 5.2.4)
fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn needs_more(reason: Reason) -> bool {
    matches!(reason, Reason::CredentialMissing | Reason::ScopeMissing)
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::with_cases(3_000) })]

    /// No spelling of a path gets at more than the path itself: whatever is forwarded, under none of
    /// the readings that an upstream could make of it does it need a right that the caller lacks
    #[test]
    fn no_spelling_of_a_path_gets_at_more(
        routes in routes(),
        unmatched in proptest::sample::select(vec!["refuse", "forward"]),
        method in proptest::sample::select(vec!["GET", "POST"]),
        words in proptest::collection::vec(proptest::sample::select(vec!["admin", "a", "v1.0", "Up", "x"]), 1..4),
        respellings in proptest::collection::vec(respelling(), 0..4),
        with_key: bool,
    ) {
        let mut document = policy(routes);
        document["apis"]["api"]["unmatched"] = unmatched.into();
        let text = serde_json::to_vec(&document).unwrap();
        prop_assume!(Policy::parse(&text, "main").is_ok());
        let mut gate = Gate::new(&document);
        let mut reason = |path: &str| {
            let ask = Ask::new(method, path);
            gate.reason(&if with_key { ask.key("basic") } else { ask })
        };
        let mut path = format!("/{}", words.join("/"));
        for respelling in respellings {
            respelling.apply(&mut path);
        }
        if reason(&path).status() != 0 {
            return Ok(());
        }
        for reading in readings(&path) {
            let read = reason(&reading);
            prop_assert!(!needs_more(read), "{} is forwarded, {} is refused: {}", path, reading, read);
        }
    }
}

/// A policy with a door of every kind
fn doors() -> Value {
    let plan = json!({ "one_of": ["small", "large"], "tiers": { "large": "other" } });
    let mut document = policy(json!({
        "public": { "match": "GET /public/**", "auth": "none", "limits": [] },
        "key": { "match": "ANY /key/{id}" },
        "scope": { "match": "GET /scope", "scope": "nobody" },
        "socket": { "match": "GET /socket", "upgrade": "websocket" },
        "site": { "match": "GET /sites/{domain}", "domain": "path.domain" },
        "sought": { "match": "GET /sought", "domain": "query.name" },
        "made": { "match": "POST /made", "domain": "body.name" },
        "paid": { "match": "GET /paid", "spend": "reports" },
        "viewed": { "match": "GET /viewed", "query": { "plan": plan } },
        "planned": { "match": "POST /planned", "fields": { "plan": plan } },
        "linked": { "match": "GET /linked", "screen": {
            "query": { "of": "query.next", "block": "malicious" },
            "header": { "of": "header.x-next", "block": "malicious" },
        } },
    }));
    document["clients"] = json!({ "deny": ["203.0.113.0/24"] });
    document["probes"] = json!({ "ready": "/ready", "exempt": ["GET /healthz"] });
    document["quotas"] = json!({ "store": "local" });
    document["revoked"] = json!(["k-revoked"]);
    document["threat"] = json!({ "indicators": { "domains": ["phish.example"] } });
    let api = &mut document["apis"]["api"];
    api["tiers"]["unlimited"]["quotas"] = json!({ "reports": 0 });
    api["tiers"]["other"] = json!({ "rate": "unlimited", "quotas": { "reports": 1 } });
    api["domain_access"] = json!({ "unknown": "refuse" });
    let with = |token: &str, field: &str, value: Value| {
        let mut key = key(token, "unlimited");
        key[field] = value;
        key
    };
    api["keys"] = json!([
        with("basic", "domains", json!(["own.example"])),
        with("expired", "expires", "2026-01-01T00:00:00Z".into()),
        with("early", "not_before", "2030-01-01T00:00:00Z".into()),
        with("disabled", "state", "disabled".into()),
        with("elsewhere", "networks", json!(["198.51.100.0/24"])),
        key("revoked", "unlimited"),
    ]);
    document
}

fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        8 => proptest::sample::select(vec![
            "authorization", "host", "upgrade", "connection", "origin", "access-control-request-method",
            "content-type", "content-encoding", "content-length", "transfer-encoding", "cookie",
            "x-portcullis-principal", "X-Portcullis_Key", "x_portcullis_tier", "x-forwarded-for",
            "x-forwarded-host", "x-original-url", "x-rewrite-url", "x-http-method-override",
            "proxy-authorization", "x-api-key", "forwarded", "te", "expect", "range", "x-next", "idempotency-key",
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        1 => "[a-z-]{1,12}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    let value = prop_oneof![
        4 => proptest::sample::select(vec![
            "", "Bearer wrong", "Bearer", "Basic YTpi", "Bearer basic,Bearer basic", "basic", "websocket",
            "h2c", "GET", "/public/x", "api.example", "admin", "0", "application/json", "identity", "gzip",
            "192.0.2.1", "198.51.100.7", "chunked", "100-continue", "own.example", "small",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..16),
    ];
    (name, value)
}

fn asks() -> impl Strategy<Value = Ask> {
    let any = (
        proptest::sample::select(vec!["GET", "HEAD", "POST", "OPTIONS", "CONNECT", "get", ""]),
        proptest::sample::select(vec![
            "/",
            "/public",
            "/public/x",
            "/key/1",
            "/key/1/",
            "/KEY/1",
            "/key/%31",
            "/scope",
            "/scope/",
            "/socket",
            "/unknown",
            "/public/../scope",
            "/ready",
            "/healthz",
            "/sites/other.example",
        ]),
        Just(None),
        proptest::option::of(proptest::sample::select(vec![
            "basic",
            "wrong",
            "expired",
            "early",
            "disabled",
            "elsewhere",
            "revoked",
        ])),
    );
    // A good key, and no right to this.
    let refused = proptest::sample::select(vec![
        ("GET", "/sites/other.example", None),
        ("GET", "/sought?name=other.example", None),
        ("POST", "/made", Some(r#"{"name":"other.example"}"#)),
        ("GET", "/paid", None),
        ("GET", "/viewed?plan=large", None),
        ("POST", "/planned", Some(r#"{"plan":"large"}"#)),
        ("GET", "/linked?next=phish.example", None),
        ("GET", "/linked", None),
    ]);
    let refused = refused.prop_map(|(method, path, body)| (method, path, body, Some("basic")));
    (
        prop_oneof![2 => any, 1 => refused],
        proptest::sample::select(vec![[192, 0, 2, 1], [203, 0, 113, 7]]),
        proptest::option::weighted(0.2, proptest::sample::select(vec!["websocket", "h2c"])),
    )
        .prop_map(|((method, path, body, key), client, upgrade)| {
            let mut ask = Ask::new(method, path).from(client);
            if let Some(key) = key {
                ask = ask.key(key);
            }
            if path == "/linked" {
                ask = ask.with("x-next", "phish.example");
            }
            if let Some(body) = body {
                ask = ask.with("content-type", "application/json");
                ask.body = Some(body.into());
            }
            if let Some(upgrade) = upgrade {
                ask = ask.with("upgrade", upgrade);
            }
            ask
        })
}

/// The door of each kind is shut before anything is added, or the law would say nothing of it
#[test]
fn every_want_of_a_right_is_among_the_doors() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut gate = Gate::new(&doors());
    let asks = asks();
    let mut seen = BTreeSet::new();
    for _ in 0..3_000 {
        seen.insert(
            gate.reason(&asks.new_tree(&mut runner).unwrap().current())
                .word(),
        );
    }
    // These take headers that the law adds, or another policy.
    let elsewhere = [
        Reason::CredentialMalformed,
        Reason::CredentialRepeated,
        Reason::DomainHidden,
        Reason::HostUnknown,
    ];
    for reason in NO_RIGHT {
        assert!(
            seen.contains(reason.word()) || elsewhere.contains(&reason),
            "{reason}: {seen:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: u32::MAX, ..ProptestConfig::with_cases(3_000) })]

    /// Headers on top of a request that is refused for want of a right, before or behind its own, more of a query
    /// and a body don't get it forwarded
    #[test]
    fn nothing_that_is_added_opens_a_door(
        ask in asks(),
        in_front in proptest::collection::vec(header(), 0..3),
        behind in proptest::collection::vec(header(), 0..3),
        query in proptest::option::of(
            "[?&=;%/.a-z0-9_]{0,12}|\\?access_token=basic|\\?/public/x|&(name=own.example|plan=small|next=x|NAME=own.example|name%5B%5D=own.example)"
        ),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8)),
    ) {
        let mut gate = Gate::new(&doors());
        let before = gate.reason(&ask);
        prop_assume!(NO_RIGHT.contains(&before));
        let mut more = ask.clone();
        more.headers.splice(0..0, in_front);
        more.headers.extend(behind);
        // Another body would be another request.
        more.body = more.body.or(body);
        if let Some(query) = query {
            for (name, value) in &mut more.headers {
                if name == b":path" {
                    value.push(b'?');
                    value.extend(query.bytes());
                }
            }
        }
        let after = gate.reason(&more);
        prop_assert!(after.status() != 0, "{} became {}", before, after);
    }

    /// What an upstream reads under our prefix was written by the gate, whatever a client sends
    #[test]
    fn no_claim_under_our_prefix_passes(
        ask in asks(),
        claims in proptest::collection::vec(
            ("[xX][-_][pP]ortcullis[-_](principal|tier|key|decision|class|verdict|[a-z]{0,4})", "[ -~]{0,8}"),
            1..6,
        ),
        in_front: bool,
    ) {
        let mut gate = Gate::new(&doors());
        let plain = gate.ask(&ask, FULL, &mut MapStore::default());
        let mut claiming = ask.clone();
        let at = if in_front { 0 } else { claiming.headers.len() };
        let claims = claims.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes()));
        claiming.headers.splice(at..at, claims);
        let outcome = gate.ask(&claiming, FULL, &mut MapStore::default());
        prop_assert_eq!(outcome.record.to_json(), plain.record.to_json());
        let (Some(plain), Some(edits)) = (edits(&plain), edits(&outcome)) else {
            return Ok(());
        };
        let reserved = |headers: Vec<(Vec<u8>, Vec<u8>)>| -> Vec<_> {
            headers.into_iter().filter(|(name, _)| is_reserved(name)).collect()
        };
        prop_assert_eq!(reserved(upstream(&claiming, edits)), reserved(upstream(&ask, plain)));
    }
}
