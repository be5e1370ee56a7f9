//! The check sees every kind of difference: a ring that says what it is told meets cases that
//! expect something else.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;

use portcullis_corpus::{
    Corpus, Document, Exchange, Mismatch, Record, Response, Ring, Run, Seen, Session, Step, check,
};

/// A ring that always shows the same exchange.
struct Parrot<const REAL: bool>(Exchange);

impl<const REAL: bool> Ring for Parrot<REAL> {
    const NAME: &'static str = "parrot";
    const IS_REAL: bool = REAL;

    fn begin<'a>(
        &'a mut self,
        _: Run<'a>,
        _: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String> {
        Ok(Box::new(Says(&self.0)))
    }
}

struct Says<'a>(&'a Exchange);

impl Session for Says<'_> {
    fn exchange(&mut self, _: &Step) -> Result<Exchange, String> {
        Ok(self.0.clone())
    }
}

const ID: &str = "01M7YZMHG00000000000000001";

/// A request that was forwarded and answered.
fn forwarded() -> Exchange {
    let record = format!(
        r#"{{"decision":"{ID}","reason":"allowed","rule":"apis.cybervault.routes.read","principal":"acme","tier":"standard","key":"k_acme_1"}}"#
    );
    let text = |pairs: &[(&str, &str)]| -> Vec<(String, Vec<u8>)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect()
    };
    Exchange {
        response: Some(Response {
            status: 200,
            headers: text(&[
                ("x-ratelimit-limit", "1000"),
                ("x-ratelimit-remaining", "499"),
                ("x-ratelimit-reset", "1795262431"),
            ]),
            body: b"upstream".to_vec(),
        }),
        upstream: Some(Seen {
            method: b"GET".to_vec(),
            path: b"/v1/threats/feed".to_vec(),
            headers: text(&[
                ("x-portcullis-decision", ID),
                ("x-portcullis-principal", "acme"),
                ("x-portcullis-tier", "standard"),
                ("x-portcullis-key", "k_acme_1"),
            ]),
            ..Seen::default()
        }),
        record: Some(Record::parse(&record).unwrap()),
        asked: BTreeMap::new(),
        log: vec![format!("decision {record}")],
        wall: 1_795_262_400,
    }
}

/// A request that was refused for want of a key.
fn refused() -> Exchange {
    let record = format!(
        r#"{{"decision":"{ID}","reason":"credential_missing","rule":"apis.cybervault.keys"}}"#
    );
    let headers = [
        ("www-authenticate", "Bearer realm=\"cybervault\""),
        ("cache-control", "no-store"),
        ("x-portcullis-decision", ID),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "59"),
    ];
    Exchange {
        response: Some(Response {
            status: 401,
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect(),
            body: format!(
                r#"{{"error_code":"unauthorized","message":"A valid API key is required","trace_id":"{ID}"}}"#
            )
            .into_bytes(),
        }),
        upstream: None,
        record: Some(Record::parse(&record).unwrap()),
        asked: BTreeMap::new(),
        log: vec![format!("decision {record}")],
        wall: 1_795_262_400,
    }
}

/// Checks a case of the corpus against an exchange.
fn outcome<const REAL: bool>(case: &str, exchange: Exchange) -> Result<(), Box<Mismatch>> {
    let corpus = Corpus::load().unwrap();
    let case = corpus.cases.iter().find(|c| c.name == case).unwrap();
    let document = corpus.documents.get(&case.policy).unwrap();
    check(
        case.runs().next().unwrap(),
        document,
        &corpus.secrets(),
        &mut Parrot::<REAL>(exchange),
    )
}

/// How a difference begins, and the change that makes it.
type Change = (&'static str, fn(&mut Exchange));

/// The exchange is right, and every change of it is seen, by a line that begins like this.
fn sees(case: &str, right: fn() -> Exchange, changes: &[Change]) {
    assert!(
        outcome::<false>(case, right()).is_ok(),
        "{}",
        outcome::<false>(case, right()).unwrap_err()
    );
    for (expected, change) in changes {
        let mut exchange = right();
        change(&mut exchange);
        let mismatch = outcome::<false>(case, exchange).expect_err(expected);
        let seen = mismatch
            .differences
            .iter()
            .any(|line| line.starts_with(expected));
        assert!(seen, "no difference begins with `{expected}`:\n{mismatch}");
    }
}

fn response(exchange: &mut Exchange) -> &mut Response {
    exchange.response.as_mut().unwrap()
}

fn upstream(exchange: &mut Exchange) -> &mut Seen {
    exchange.upstream.as_mut().unwrap()
}

fn record(exchange: &mut Exchange, json: &str) {
    exchange.record = Some(Record::parse(json).unwrap());
}

#[test]
fn differences_of_a_forwarded_request() {
    sees(
        "demo-allowed",
        forwarded,
        &[
            ("answer: ", |e| e.response = None),
            ("status: ", |e| response(e).status = 204),
            ("header x-ratelimit-limit: ", |e| {
                response(e)
                    .headers
                    .retain(|(name, _)| name != "x-ratelimit-limit")
            }),
            ("header x-ratelimit-remaining: ", |e| {
                response(e).headers[1].1 = b"1000".to_vec()
            }),
            ("header x-ratelimit-reset: ", |e| {
                response(e).headers[2].1 = b"1795262461".to_vec()
            }),
            ("record: ", |e| e.record = None),
            ("reason: ", |e| {
                record(
                    e,
                    &format!(r#"{{"decision":"{ID}","reason":"public","rule":"r"}}"#),
                )
            }),
            ("rule: ", |e| {
                record(
                    e,
                    &format!(r#"{{"decision":"{ID}","reason":"allowed","rule":"r"}}"#),
                )
            }),
            ("principal: ", |e| {
                record(
                    e,
                    &format!(r#"{{"decision":"{ID}","reason":"allowed","rule":"r"}}"#),
                )
            }),
            ("upstream: ", |e| e.upstream = None),
            ("upstream header authorization: ", |e| {
                upstream(e)
                    .headers
                    .push(("authorization".into(), b"Bearer x".to_vec()));
            }),
            ("upstream header x-portcullis-principal: ", |e| {
                upstream(e).headers[1].1 = b"admin".to_vec()
            }),
            ("upstream header x-portcullis-principal: ", |e| {
                upstream(e)
                    .headers
                    .push(("x-portcullis-principal".into(), b"admin".to_vec()));
            }),
            (
                "upstream header: expected none that the gate didn't write",
                |e| {
                    upstream(e)
                        .headers
                        .push(("x_portcullis_tier".into(), b"x".to_vec()));
                },
            ),
            (
                "upstream header: expected none that the gate didn't write",
                |e| {
                    upstream(e)
                        .trailers
                        .push(("x-portcullis-other".into(), b"x".to_vec()));
                },
            ),
            ("upstream header x-portcullis-decision: ", |e| {
                upstream(e).headers[0].1 = b"mine".to_vec()
            }),
            ("log: ", |e| {
                e.log.push("the key is demo-acme-standard".into())
            }),
            ("answer: expected no key", |e| {
                response(e).body = b"hello demo-acme-standard".to_vec()
            }),
        ],
    );
}

#[test]
fn differences_of_a_refusal() {
    sees(
        "demo-no-key",
        refused,
        &[
            ("status: ", |e| response(e).status = 403),
            ("header www-authenticate: ", |e| {
                response(e).headers[0].1 = b"Basic".to_vec()
            }),
            ("header cache-control: ", |e| {
                response(e).headers[1].1 = b"private".to_vec()
            }),
            ("header x-portcullis-decision: ", |e| {
                response(e).headers[2].1 = b"x".to_vec()
            }),
            ("body.error_code: ", |e| {
                response(e).body = br#"{"error_code":"key_unknown"}"#.to_vec()
            }),
            ("body.trace_id: ", |e| {
                response(e).body =
                    br#"{"error_code":"unauthorized","message":"A valid API key is required","trace_id":"1"}"#.to_vec();
            }),
            ("body: ", |e| response(e).body = b"unauthorized".to_vec()),
            ("upstream: ", |e| e.upstream = Some(Seen::default())),
            ("header retry-after: ", |e| {
                response(e)
                    .headers
                    .push(("retry-after".into(), b"0".to_vec()))
            }),
            ("header retry-after: expected one with status 429", |e| {
                response(e).status = 429
            }),
            ("header allow: expected one with status 405", |e| {
                response(e).status = 405
            }),
        ],
    );
}

#[test]
fn a_codec_that_refuses_is_expected_in_the_real_ring_alone() {
    let case = "high-byte-over-http1";
    let codec = || Exchange {
        response: Some(Response {
            status: 400,
            ..Response::default()
        }),
        upstream: None,
        record: None,
        asked: BTreeMap::new(),
        log: Vec::new(),
        wall: 0,
    };
    assert!(outcome::<true>(case, codec()).is_ok());
    assert!(
        outcome::<false>(case, codec()).is_err(),
        "a simulated ring must decide"
    );
    for wrong in [
        Exchange {
            response: None,
            ..codec()
        },
        Exchange {
            response: Some(Response {
                status: 200,
                ..Response::default()
            }),
            ..codec()
        },
        Exchange {
            upstream: Some(Seen::default()),
            ..codec()
        },
        Exchange {
            record: refused().record,
            ..codec()
        },
    ] {
        assert!(outcome::<true>(case, wrong).is_err());
    }
}
