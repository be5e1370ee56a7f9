//! Requests to throw at the filter: those of the corpus, bent out of shape.

use std::collections::BTreeSet;

use portcullis_corpus::{Corpus, Protocol, wire::Arrival};
use portcullis_host::Headers;

use crate::random::Random;

/// What a client writes where only the gate may write.
pub(crate) const SPOOF: &[u8] = b"written by the client";

/// Names that the upstream could take for the gate's.
const RESERVED: &[&str] = &[
    "x-portcullis-principal",
    "x_portcullis_principal",
    "X-Portcullis-Key",
    "x-portcullis_tier",
    "x-portcullis-",
    "x-portcullis-decision",
    "x-portcullis-\u{e9}",
];

/// All requests of the corpus, with the policies that they are for.
pub(crate) struct Traffic {
    requests: Vec<(String, Arrival)>,
    /// Those of them that go on, if all goes well.
    good: Vec<(String, Arrival)>,
    keys: Vec<String>,
}

/// The APIs of a policy whose credentials end at the gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stripping(BTreeSet<(String, String)>);

impl Traffic {
    pub(crate) fn new(corpus: &Corpus) -> Self {
        let (mut requests, mut good) = (Vec::new(), Vec::new());
        for case in &corpus.cases {
            for step in &case.steps {
                for protocol in [Protocol::H1, Protocol::H2] {
                    let arrival = Arrival::new(&step.request, protocol);
                    if step.expect.upstream.is_some() {
                        good.push((case.policy.clone(), arrival.clone()));
                    }
                    requests.push((case.policy.clone(), arrival));
                }
            }
        }
        Self {
            requests,
            good,
            keys: corpus.keys.values().cloned().collect(),
        }
    }

    /// A request for this policy.
    pub(crate) fn pick(&self, policy: &str, random: &mut Random) -> Arrival {
        let all = if random.once_in(3) {
            &self.requests
        } else {
            &self.good
        };
        loop {
            let (of, arrival) = random.pick(all);
            if of == policy || random.once_in(32) {
                return arrival.clone();
            }
        }
    }

    /// Headers as the request has them, or nearly so.
    pub(crate) fn bend(&self, headers: &mut Headers, random: &mut Random) {
        while !random.once_in(3) {
            let place = random.below(headers.len() + 1).min(headers.len());
            match random.below(8) {
                0..=2 => headers.push(spoof(random)),
                3 => {
                    let key = random.pick(&self.keys);
                    let value = format!("Bearer {key}").into_bytes();
                    headers.push((b"authorization".to_vec(), value));
                }
                4 => headers.insert(place, (random.bytes(40), random.bytes(4000))),
                5 if place < headers.len() => headers[place].1 = random.bytes(300),
                6 if place < headers.len() => {
                    let twin = headers[place].clone();
                    headers.push(twin);
                }
                _ if place < headers.len() => {
                    let value = &mut headers[place].1;
                    let at = random.below(value.len() + 1);
                    value.insert(at, random.byte());
                }
                _ => {}
            }
        }
    }

    /// Trailers, with a claim among them.
    pub(crate) fn trailers(&self, random: &mut Random) -> Headers {
        let mut trailers = vec![(b"x-checksum".to_vec(), b"1".to_vec())];
        while !random.once_in(3) {
            let odd = (random.bytes(20), random.bytes(200));
            let trailer = if random.once_in(2) {
                spoof(random)
            } else {
                odd
            };
            trailers.insert(0, trailer);
        }
        trailers
    }
}

fn spoof(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let name = random.pick(RESERVED).as_bytes().to_vec();
    (name, SPOOF.to_vec())
}

impl Stripping {
    pub(crate) fn new(corpus: &Corpus, policy: &str) -> Self {
        let apis = corpus.documents[policy].value()["apis"]
            .as_object()
            .unwrap();
        let mut all = BTreeSet::new();
        for api in apis.values().filter(|api| api["credential"] != "keep") {
            let hosts = api["hosts"].as_array().unwrap();
            let keys = api["keys"].get("inline").unwrap_or(&api["keys"]);
            let keys = keys.as_array().into_iter().flatten();
            let keys = keys.filter_map(|key| corpus.keys.get(key["id"].as_str()?));
            for key in keys {
                let hosts = hosts.iter().filter_map(|host| host.as_str());
                all.extend(hosts.map(|host| (host.to_owned(), key.clone())));
            }
        }
        Self(all)
    }

    /// The key with which a request passed that should have ended at the gate.
    pub(crate) fn leaked(&self, forwarded: &Headers) -> Option<&str> {
        let values = |wanted: &'static [u8]| {
            forwarded
                .iter()
                .filter(move |(name, _)| name == wanted)
                .filter_map(|(_, value)| str::from_utf8(value).ok())
        };
        for credentials in values(b"authorization") {
            for credential in credentials.split(',') {
                let Some((scheme, token)) = credential.trim().split_once(' ') else {
                    continue;
                };
                let known = self.0.iter().find(|(host, key)| {
                    scheme.eq_ignore_ascii_case("bearer")
                        && token.trim() == key
                        && values(b":authority").any(|authority| authority == host)
                });
                if let Some((_, key)) = known {
                    return Some(key);
                }
            }
        }
        None
    }
}
