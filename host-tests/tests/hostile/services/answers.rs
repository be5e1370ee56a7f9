//! What services say, and what is so.

use std::{collections::BTreeSet, ops::Range};

use portcullis_host::{Callout, CalloutReply, CalloutRequest, Headers, header, headers};
use portcullis_policy::{BundleWriter, DigestScheme, key_digest};
use serde_json::{Value, json};

use crate::random::Random;

/// The APIs, each with keys of another origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Door {
    /// Asked for by their digest.
    Looked,
    /// Asked for by their digests under two peppers.
    Peppered,
    /// In a file.
    Bundled,
    /// In the policy; what they may do stands in a list.
    Listed,
}

impl Door {
    pub(super) const ALL: [Self; 4] = [Self::Looked, Self::Peppered, Self::Bundled, Self::Listed];

    pub(super) const fn host(self) -> &'static str {
        match self {
            Self::Looked => "looked.example",
            Self::Peppered => "peppered.example",
            Self::Bundled => "bundled.example",
            Self::Listed => "listed.example",
        }
    }
}

/// How many keys there are; the odd ones are in no file.
pub(super) const KEYS: usize = 6;

pub(super) fn key(number: usize) -> String {
    format!("key-{number}")
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A key, by the digest of this number: under no pepper, the newest, the older one.
    Key {
        door: Door,
        key: usize,
        digest: usize,
    },
    File,
    /// The domains of a key's principal, asked for with that key.
    Domains {
        key: usize,
    },
}

/// How an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    Good,
    None,
    Cut,
    Flipped,
    Long,
    Status,
    Tag,
    Other,
    Broken,
    Unreachable,
    Odd,
}

impl Manner {
    pub(super) const ALL: [Self; 11] = [
        Self::Good,
        Self::None,
        Self::Cut,
        Self::Flipped,
        Self::Long,
        Self::Status,
        Self::Tag,
        Self::Other,
        Self::Broken,
        Self::Unreachable,
        Self::Odd,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good answers",
            Self::None => "answers that there is none",
            Self::Cut => "answers cut",
            Self::Flipped => "answers flipped",
            Self::Long => "answers too long",
            Self::Status => "answers with another status",
            Self::Tag => "answers with another tag",
            Self::Other => "answers of something else",
            Self::Broken => "answers broken off",
            Self::Unreachable => "answers in the service's stead",
            Self::Odd => "answers with odd headers",
        }
    }
}

/// What is so: digests of keys, and files.
pub(super) struct Knowledge {
    /// By key: under no pepper, the newest, the older one.
    digests: Vec<[String; 3]>,
    files: Vec<Vec<u8>>,
}

impl Knowledge {
    pub(super) fn new() -> Self {
        let peppers: Vec<Vec<u8>> = portcullis_corpus::ENVIRONMENT
            .iter()
            .map(|(_, pepper)| pepper.as_bytes().to_vec())
            .collect();
        let digests = |number: usize| {
            let key = key(number);
            let digest = |pepper| key_digest(key.as_bytes(), pepper).unwrap();
            [
                digest(None),
                digest(Some(&*peppers[0])),
                digest(Some(&*peppers[1])),
            ]
        };
        let digests: Vec<_> = (0..KEYS).map(digests).collect();
        let files = (1..4).map(|version| file(&digests, version)).collect();
        Self { digests, files }
    }

    /// A policy: how it holds bodies, and whether it binds.
    pub(super) fn policy(&self, pause: &str, mode: &str) -> Value {
        let api = |door: Door, keys: Value| {
            json!({
                "hosts": [door.host()],
                "tiers": { "basic": { "rate": "unlimited" } },
                "keys": keys,
                "routes": {
                    "items": { "match": "GET /items" },
                    "make": { "match": "POST /items", "fields": { "name": { "type": "string" } } },
                },
            })
        };
        let lookup = json!({ "cluster": "service", "path": "/k/", "timeout": "250ms", "ttl": "2s",
            "negative_ttl": "1s", "max_stale": "30s", "max_entries": 4, "max_in_flight": 6,
            "breaker": { "failures": 4, "pause": "2s" } });
        let peppers: Vec<&str> = portcullis_corpus::ENVIRONMENT
            .iter()
            .map(|(name, _)| *name)
            .collect();
        let own: Vec<Value> = (0..KEYS)
            .map(|number| {
                let [digest, ..] = &self.digests[number];
                json!({ "id": format!("k{number}"), "principal": format!("p{number}"), "tier": "basic",
                    "sha256": digest })
            })
            .collect();
        let mut listed = api(Door::Listed, own.into());
        listed["domain_access"] = json!({
            "list": { "cluster": "service", "path": "/domains", "as": "caller", "timeout": "250ms",
                "cache": "3s", "cache_misses": "1s" },
            "unknown": "ask",
        });
        listed["routes"] = json!({
            "items": { "match": "GET /items/{domain}", "domain": "path.domain" },
            "make": { "match": "POST /items", "domain": "body.name" },
        });
        let mut peppered = lookup.clone();
        peppered["path"] = "/p/".into();
        json!({
            "version": 1,
            "mode": mode,
            "pause": pause,
            "unauthenticated": { "rate": "1000000/s" },
            "apis": {
                "looked": api(Door::Looked, json!({ "lookup": lookup })),
                "peppered": api(Door::Peppered, json!({ "pepper": { "env": peppers }, "lookup": peppered })),
                "bundled": api(Door::Bundled, json!({ "bundle":
                    { "cluster": "service", "path": "/file", "refresh": "1s", "timeout": "500ms" } })),
                "listed": listed,
            },
        })
    }

    /// What a call is about.
    pub(super) fn topic(&self, call: &Callout) -> Topic {
        let CalloutRequest::Http { headers, .. } = &call.request else {
            panic!("{call:?}")
        };
        let path = String::from_utf8(header(headers, ":path").unwrap().to_vec()).unwrap();
        if path == "/file" {
            return Topic::File;
        }
        if path.starts_with("/domains") {
            let caller = header(headers, "authorization").unwrap();
            let is_own = |number: &usize| caller == format!("Bearer {}", key(*number)).as_bytes();
            let key = (0..KEYS).find(is_own);
            let key = key.unwrap_or_else(|| panic!("asked as {}", caller.escape_ascii()));
            return Topic::Domains { key };
        }
        let (door, digest) = match path.split_at(3) {
            ("/k/", digest) => (Door::Looked, digest),
            ("/p/", digest) => (Door::Peppered, digest),
            _ => panic!("asked is {path}"),
        };
        let mut all = self.digests.iter().enumerate().flat_map(|(key, digests)| {
            let digests = digests.iter().enumerate();
            digests.map(move |(digest, text)| (key, digest, text))
        });
        let known = all.find(|(_, _, text)| *text == digest);
        let (key, digest, _) = known.unwrap_or_else(|| panic!("asked is {path}"));
        // What is asked under a pepper, is asked under a pepper.
        assert_eq!(door == Door::Peppered, digest > 0, "asked is {path}");
        Topic::Key { door, key, digest }
    }

    /// An answer to a call.
    pub(super) fn answer(
        &self,
        call: &Callout,
        topic: Topic,
        manner: Manner,
        random: &mut Random,
    ) -> CalloutReply {
        let (mut fields, mut body) = match topic {
            Topic::Key { door, key, digest } => {
                let of = if manner == Manner::Other {
                    (key + 1) % KEYS
                } else {
                    key
                };
                let field = if door == Door::Peppered {
                    "hmac_sha256"
                } else {
                    "sha256"
                };
                let record = json!({ "id": format!("k{key}"), "principal": "p", "tier": "basic",
                    field: self.digests[of][digest] });
                (
                    headers([(":status", "200")]),
                    record.to_string().into_bytes(),
                )
            }
            Topic::Domains { .. } => {
                let pages = random.below(4);
                let items = ["own.example", "b.example"];
                let list = json!({ "items": items, "total_pages": pages });
                (headers([(":status", "200")]), list.to_string().into_bytes())
            }
            Topic::File => self.page(call, manner, random),
        };
        let place = random.below(body.len() + 1);
        match manner {
            Manner::Good | Manner::Other => {}
            Manner::None => (fields, body) = (headers([(":status", "404")]), Vec::new()),
            Manner::Cut => body.truncate(place),
            Manner::Flipped if place < body.len() => body[place] ^= 1 << random.below(8),
            Manner::Flipped => body.push(random.byte()),
            Manner::Long => body.extend(vec![b' '; *random.pick(&[20_000, 300_000, 70_000])]),
            Manner::Status => {
                let status = *random.pick(&[
                    "500", "401", "302", "204", "304", "206", "100", "0", "99999", "x",
                ]);
                fields[0].1 = status.as_bytes().to_vec();
            }
            Manner::Tag => {
                fields.retain(|(name, _)| name != b"etag");
                fields.push((b"etag".to_vec(), random.bytes(400)));
            }
            Manner::Broken => return CalloutReply::Broken,
            Manner::Unreachable => return CalloutReply::Unreachable,
            Manner::Odd => {
                for _ in 0..random.below(4) {
                    let place = random.below(fields.len() + 1).min(fields.len());
                    let name = random
                        .pick(&[&b"content-range"[..], b"retry-after", b"", b"etag"])
                        .to_vec();
                    fields.insert(place, (name, random.bytes(200)));
                }
                if random.once_in(2) {
                    fields.retain(|(name, _)| name != b":status");
                }
            }
        }
        CalloutReply::Http {
            headers: fields,
            body,
            trailers: Vec::new(),
        }
    }

    /// Whether an answer, in whatever wrapping, holds the record of the key that was asked for.
    pub(super) fn is_key(&self, door: Door, key: usize, digest: usize, body: &[u8]) -> bool {
        let field = match door {
            Door::Peppered => "hmac_sha256",
            _ => "sha256",
        };
        let record: Result<Value, _> = serde_json::from_slice(body);
        let told = record
            .ok()
            .and_then(|record| Some(record[field].as_str()?.to_owned()));
        told.is_some_and(|told| told.eq_ignore_ascii_case(&self.digests[key][digest]))
    }

    /// The names that an answer lists; `None` where it is no list.
    pub(super) fn names(body: &[u8]) -> Option<Vec<String>> {
        let list: Value = serde_json::from_slice(body).ok()?;
        let items = list.get("items").unwrap_or(&list).as_array()?;
        let names = items.iter().filter_map(Value::as_str);
        Some(names.map(str::to_ascii_lowercase).collect())
    }

    /// Where in a file an answer's bytes stand: by version, at the place that was asked for or at one that it claims.
    pub(super) fn places(
        &self,
        call: &Callout,
        fields: &Headers,
        body: &[u8],
    ) -> Vec<(usize, Range<usize>)> {
        let CalloutRequest::Http { headers: asked, .. } = &call.request else {
            panic!("{call:?}")
        };
        let claims = fields
            .iter()
            .filter(|(name, _)| name == b"content-range")
            .chain(asked.iter().filter(|(name, _)| name == b"range"));
        let begins = claims.filter_map(|(_, value)| {
            let value = str::from_utf8(value).ok()?;
            let value = value
                .trim_start_matches("bytes")
                .trim_start_matches(['=', ' ']);
            value.split('-').next()?.parse::<usize>().ok()
        });
        let begins: Vec<usize> = begins.chain([0]).collect();
        let mut places = Vec::new();
        for (version, file) in self.files.iter().enumerate() {
            for from in &begins {
                let place = *from..from.saturating_add(body.len());
                if file.get(place.clone()) == Some(body) {
                    places.push((version, place));
                }
            }
        }
        places
    }

    /// Whether these places are all of a file.
    pub(super) fn is_whole(&self, version: usize, places: &BTreeSet<(usize, usize)>) -> bool {
        let reached = places.iter().fold(0, |reached, (from, to)| {
            if *from <= reached {
                reached.max(*to)
            } else {
                reached
            }
        });
        reached == self.files[version].len()
    }

    /// A page of one of the files, as it is asked for or nearly so.
    fn page(&self, call: &Callout, manner: Manner, random: &mut Random) -> (Headers, Vec<u8>) {
        let CalloutRequest::Http { headers: asked, .. } = &call.request else {
            panic!("{call:?}")
        };
        let field = |name: &str| {
            header(asked, name).map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        // Mostly the file that the pages before were of.
        let begun = field("if-range").and_then(|tag| tag.trim_matches('"').parse().ok());
        let version = begun
            .filter(|version| *version < self.files.len() && !random.once_in(8))
            .unwrap_or_else(|| random.below(self.files.len()));
        let file = &self.files[version];
        let tag = format!("\"{version}\"");
        if field("if-none-match").as_ref() == Some(&tag) {
            return (headers([(":status", "304"), ("etag", &tag)]), Vec::new());
        }
        let range = field("range").unwrap_or_default();
        let from: usize = range
            .strip_prefix("bytes=")
            .and_then(|range| range.split('-').next()?.parse().ok())
            .unwrap_or_default();
        let from = if manner == Manner::Other {
            random.below(file.len())
        } else {
            from.min(file.len())
        };
        // Small pages: a file takes several.
        let to = file.len().min(from + 4000);
        let range = format!("bytes {from}-{}/{}", to.saturating_sub(1), file.len());
        let fields = [
            (":status", "206"),
            ("etag", &tag),
            ("content-range", &range),
        ];
        (headers(fields), file[from..to].to_vec())
    }
}

/// A file of the even keys and some others.
fn file(digests: &[[String; 3]], version: u64) -> Vec<u8> {
    let revision = format!("r{version}");
    let mut writer = BundleWriter::new("bundled", &revision, version, DigestScheme::Plain).unwrap();
    for (number, [digest, ..]) in digests.iter().enumerate().step_by(2) {
        let record = json!({ "id": format!("k{number}"), "principal": "p", "tier": "basic" });
        writer.add(digest, record.to_string().into_bytes()).unwrap();
    }
    for number in 0..40 {
        let digest = key_digest(format!("other-{number}").as_bytes(), None).unwrap();
        let record = json!({ "id": format!("o{number}"), "principal": "p", "tier": "basic" });
        writer
            .add(&digest, record.to_string().into_bytes())
            .unwrap();
    }
    writer.finish().unwrap()
}
