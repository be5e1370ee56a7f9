//! The YAML of the case files, and its way to [`Case`]s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::case::{Answer, Body, Case, Fault, Outage, Profile, Protocol, Request, Service, Step};
use crate::document::from_yaml;
use crate::expect::Expect;
use crate::fields::{BodySource, Written, pairs, unwritten, written};
use crate::octets::Octets;
use crate::time::{duration, unix_time};

/// Wall clock of a case that doesn't say otherwise: 2026-11-21T12:00:00Z.
const STARTS: u64 = 1_795_262_400;

/// Address of a client of whom the case says nothing (RFC 5737).
const CLIENT: &str = "192.0.2.1";

/// The test keys by name.
pub(crate) type Keys = BTreeMap<String, String>;

/// Which list a case file belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum List {
    /// All rings run it, in both profiles.
    Corpus,
    /// It is for the edge settings that are shipped, so Envoy may answer in the filter's place.
    Edge,
}

/// Parses a case file.
///
/// # Errors
/// Every error of the file, one line each, or the parser's message.
pub(crate) fn parse(
    file: &str,
    text: &str,
    keys: &Keys,
    list: List,
) -> Result<Vec<Case>, Vec<String>> {
    let source: FileSource = from_yaml(text).map_err(|e| vec![format!("{file}: {e}")])?;
    let mut cases = Vec::new();
    let mut errors = Vec::new();
    for case in &source.cases {
        match case.build(file, &source, keys, list) {
            Ok(case) => cases.push(case),
            Err(error) => errors.push(format!("{file}: {}: {error}", case.name)),
        }
    }
    if errors.is_empty() {
        Ok(cases)
    } else {
        Err(errors)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSource {
    policy: String,
    host: String,
    cases: Vec<CaseSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSource {
    name: String,
    /// For the reader alone.
    #[expect(dead_code, reason = "a note is for the reader of the case file")]
    #[serde(default)]
    note: Option<String>,
    policy: Option<String>,
    #[serde(default)]
    moves_clock: bool,
    starts: Option<String>,
    #[serde(default)]
    tls: bool,
    profiles: Option<Vec<Profile>>,
    protocol: Option<ProtocolSource>,
    /// What services answer in every step that doesn't say otherwise.
    #[serde(default)]
    clusters: BTreeMap<String, ServiceSource>,
    steps: Option<Vec<StepSource>>,
    // A case of one step may write it without `steps`.
    request: Option<RequestSource>,
    answer: Option<Answer>,
    fault: Option<Fault>,
    expect: Option<Expect>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum ProtocolSource {
    Both,
    H1,
    H2,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepSource {
    at: Option<String>,
    /// The stream does not end before the case does.
    #[serde(default)]
    stays_open: bool,
    /// How many times the step happens; 1 unless written.
    times: Option<usize>,
    request: RequestSource,
    #[serde(default)]
    answer: Answer,
    #[serde(default)]
    clusters: BTreeMap<String, ServiceSource>,
    fault: Option<Fault>,
    expect: Expect,
}

/// An answer, `{ fails: ... }`, or a list of those.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum ServiceSource {
    InTurn(Vec<Self>),
    Fails(FailsSource),
    Answers(Answer),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailsSource {
    fails: Outage,
}

/// The services of a step, by cluster: its own and its case's.
fn services(sources: [&BTreeMap<String, ServiceSource>; 2]) -> BTreeMap<String, Service> {
    let all = sources.into_iter().flatten();
    all.map(|(cluster, source)| (cluster.clone(), source.service()))
        .collect()
}

impl ServiceSource {
    fn service(&self) -> Service {
        match self {
            Self::InTurn(turns) => Service::InTurn(turns.iter().map(Self::service).collect()),
            Self::Fails(FailsSource { fails }) => Service::Fails(*fails),
            Self::Answers(answer) => Service::Answers(answer.clone()),
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestSource {
    /// `METHOD PATH`, for requests that honest clients send.
    send: Option<String>,
    method: Option<Octets>,
    path: Option<Octets>,
    /// The file's unless written; `~`: none.
    #[serde(default = "unwritten", deserialize_with = "written")]
    host: Written<Octets>,
    /// The name of a key, which is sent as `Authorization: Bearer`.
    key: Option<String>,
    #[serde(default, deserialize_with = "pairs")]
    headers: Vec<(Octets, Octets)>,
    body: Option<BodySource>,
    #[serde(default, deserialize_with = "pairs")]
    trailers: Vec<(Octets, Octets)>,
    /// What Envoy is told in `x-forwarded-for`; `~`: nothing, so that it knows no address.
    #[serde(default = "unwritten", deserialize_with = "written")]
    client: Written<IpAddr>,
    raw: Option<Octets>,
}

impl CaseSource {
    fn build(
        &self,
        file: &str,
        source: &FileSource,
        keys: &Keys,
        list: List,
    ) -> Result<Case, String> {
        let single = match (&self.request, &self.expect) {
            (Some(request), Some(expect)) => Some(StepSource {
                at: None,
                stays_open: false,
                times: None,
                request: request.clone(),
                answer: self.answer.clone().unwrap_or_default(),
                clusters: BTreeMap::new(),
                fault: self.fault,
                expect: expect.clone(),
            }),
            (None, None) if self.answer.is_none() && self.fault.is_none() => None,
            _ => return Err("`request` and `expect` belong together".into()),
        };
        let steps = match (&self.steps, single) {
            (Some(steps), None) if !steps.is_empty() => steps.clone(),
            (None, Some(step)) => vec![step],
            _ => return Err("write either `steps` or one `request` with its `expect`".into()),
        };
        let protocols = match self.protocol.unwrap_or(ProtocolSource::H1) {
            ProtocolSource::Both => vec![Protocol::H1, Protocol::H2],
            ProtocolSource::H1 => vec![Protocol::H1],
            ProtocolSource::H2 => vec![Protocol::H2],
        };
        let profiles = match (&self.profiles, list) {
            (Some(profiles), List::Corpus) => profiles.clone(),
            (None, List::Corpus) => vec![Profile::Headers, Profile::Body],
            (None, List::Edge) => vec![Profile::Headers],
            (Some(_), List::Edge) => return Err("the shipped configuration has one profile".into()),
        };
        if profiles.is_empty() {
            return Err("`profiles` is empty".into());
        }
        if self.tls && list == List::Corpus {
            return Err("only the shipped configuration has TLS".into());
        }
        if self.name.is_empty()
            || !self
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err("a name is made of a-z, 0-9 and `-`".into());
        }
        let mut case = Case {
            name: self.name.clone(),
            file: file.to_owned(),
            policy: self.policy.clone().unwrap_or_else(|| source.policy.clone()),
            moves_clock: self.moves_clock,
            starts: self.starts.as_deref().map_or(Ok(STARTS), unix_time)?,
            tls: self.tls,
            profiles,
            protocols,
            steps: Vec::new(),
        };
        for (index, step) in steps.iter().enumerate() {
            let built = step
                .build(&source.host, keys, &self.clusters, &case.protocols, list)
                .map_err(|error| format!("step {}: {error}", index.saturating_add(1)))?;
            if case.steps.last().is_some_and(|last| last.at > built.at) {
                return Err(format!("step {}: `at` goes back", index.saturating_add(1)));
            }
            for _ in 0..step.times.unwrap_or(1) {
                case.steps.push(built.clone());
            }
        }
        let later = case.steps.iter().any(|step| !step.at.is_zero()) || self.starts.is_some();
        match (later, self.moves_clock) {
            (true, false) => {
                Err("a step later than 0s, or `starts`, needs `moves_clock: true`".into())
            }
            (false, true) => Err("`moves_clock` without a later step or `starts`".into()),
            _ => Ok(case),
        }
    }
}

impl StepSource {
    fn build(
        &self,
        host: &str,
        keys: &Keys,
        clusters: &BTreeMap<String, ServiceSource>,
        protocols: &[Protocol],
        list: List,
    ) -> Result<Step, String> {
        let request = self.request.build(host, keys)?;
        if request.raw.is_some() && protocols != [Protocol::H1] {
            return Err("`raw` is HTTP/1.1 alone".into());
        }
        if self.times == Some(0) {
            return Err("`times: 0` is no step".into());
        }
        let expect = self.expect.clone();
        let by_envoy = list == List::Edge && expect.reason.is_none() && expect.rule.is_none();
        let closed = list == List::Edge && !expect.envoy.is_empty();
        if expect.status.is_none() && expect.upstream.is_none() && !closed {
            return Err("expect `status` or `upstream`".into());
        }
        if !by_envoy && (expect.reason.is_none() || expect.rule.is_none()) {
            return Err("expect `reason` and `rule`".into());
        }
        let at = self.at.as_deref().map_or(Ok(Duration::ZERO), duration)?;
        Ok(Step {
            at,
            request,
            answer: self.answer.clone(),
            clusters: services([clusters, &self.clusters]),
            stays_open: self.stays_open,
            fault: self.fault,
            expect,
        })
    }
}

impl RequestSource {
    fn build(&self, default_host: &str, keys: &Keys) -> Result<Request, String> {
        let (method, path) = match (&self.send, &self.method, &self.path) {
            (Some(line), None, None) => {
                let (method, path) = line
                    .split_once(' ')
                    .ok_or("`send` is a method, a space and a path")?;
                (Some(Octets::from(method)), Some(Octets::from(path)))
            }
            (None, method, path) if method.is_some() || path.is_some() || self.raw.is_some() => {
                (method.clone(), path.clone())
            }
            _ => return Err("write `send`, or `method` and `path`".into()),
        };
        let host = match &self.host {
            Written::No => Some(Octets::from(default_host)),
            Written::Null => None,
            Written::Value(host) => Some(host.clone()),
        };
        let mut headers = Vec::new();
        if let Some(name) = &self.key {
            let key = keys
                .get(name)
                .ok_or_else(|| format!("no key is named `{name}`"))?;
            headers.push((
                Octets::from("authorization"),
                Octets::from(&*format!("Bearer {key}")),
            ));
        }
        headers.extend(self.headers.iter().cloned());
        match &self.client {
            // What `raw` sends, it sends itself.
            Written::No if self.raw.is_some() => {}
            Written::No => headers.push(("x-forwarded-for".into(), CLIENT.into())),
            Written::Null => {}
            Written::Value(address) => {
                headers.push((
                    "x-forwarded-for".into(),
                    address.to_string().as_str().into(),
                ));
            }
        }
        let body = self.body.as_ref().map(|body| {
            let (pieces, chunked) = match body {
                BodySource::Chunks(pieces) => (pieces.clone(), true),
                BodySource::Json(value) => {
                    if !headers.iter().any(|(name, _)| is(name, "content-type")) {
                        headers.push(("content-type".into(), "application/json".into()));
                    }
                    (vec![Octets::from(value.to_string().into_bytes())], false)
                }
                BodySource::Whole(octets) => (vec![octets.clone()], false),
            };
            Body {
                pieces,
                chunked: chunked || !self.trailers.is_empty(),
            }
        });
        if body.is_none() && !self.trailers.is_empty() {
            return Err("trailers come after a body".into());
        }
        Ok(Request {
            method,
            path,
            host,
            headers,
            body,
            trailers: self.trailers.clone(),
            raw: self.raw.clone(),
        })
    }
}

fn is(name: &Octets, wanted: &str) -> bool {
    name.as_bytes().eq_ignore_ascii_case(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::from([("acme".to_owned(), "pk_acme".to_owned())])
    }

    fn case(yaml: &str) -> Result<Case, String> {
        let text = format!("policy: p\nhost: h.example\ncases:\n  - {yaml}\n");
        match parse("f.yaml", &text, &keys(), List::Corpus) {
            Ok(mut cases) => Ok(cases.remove(0)),
            Err(errors) => Err(errors.join("\n")),
        }
    }

    const EXPECT: &str = "expect: { status: 200, reason: allowed, rule: r }";

    fn request(yaml: &str) -> Result<Request, String> {
        case(&format!("{{ name: a, request: {{ {yaml} }}, {EXPECT} }}"))
            .map(|mut case| case.steps.remove(0).request)
    }

    fn header<'a>(request: &'a Request, name: &str) -> Vec<&'a [u8]> {
        let named = request
            .headers
            .iter()
            .filter(|(n, _)| n.as_bytes() == name.as_bytes());
        named.map(|(_, value)| value.as_bytes()).collect()
    }

    #[test]
    fn a_plain_request_says_little() {
        let request = request("send: GET /a, key: acme").unwrap();
        assert_eq!(request.method.as_ref().unwrap().as_bytes(), b"GET");
        assert_eq!(request.path.as_ref().unwrap().as_bytes(), b"/a");
        assert_eq!(request.host.as_ref().unwrap().as_bytes(), b"h.example");
        assert_eq!(header(&request, "authorization"), [b"Bearer pk_acme"]);
        assert_eq!(header(&request, "x-forwarded-for"), [CLIENT.as_bytes()]);
        assert_eq!(request.body, None);
    }

    #[test]
    fn defaults_can_be_taken_away() {
        let request = request("send: GET /a, host: ~, client: ~").unwrap();
        assert_eq!(request.host, None);
        assert_eq!(request.headers, []);
    }

    #[test]
    fn headers_repeat_in_either_form() {
        let map =
            request("send: GET /a, client: ~, headers: { a: [1, { hex: ff }], b: x }").unwrap();
        let list = request("send: GET /a, client: ~, headers: [[a, 1], [a, { hex: ff }], [b, x]]");
        assert_eq!(map.headers, list.unwrap().headers);
        assert_eq!(header(&map, "a"), [b"1".as_slice(), b"\xff"]);
    }

    #[test]
    fn bodies_have_their_framing() {
        let json = request("send: POST /a, body: { json: { b: 1, a: x } }").unwrap();
        assert_eq!(header(&json, "content-type"), [b"application/json"]);
        let body = json.body.unwrap();
        assert_eq!(
            (body.concat(), body.chunked),
            (b"{\"a\":\"x\",\"b\":1}".to_vec(), false)
        );
        let chunks = request("send: POST /a, body: { chunks: [a, { hex: ff }] }")
            .unwrap()
            .body
            .unwrap();
        assert_eq!((chunks.pieces.len(), chunks.chunked), (2, true));
        let trailers = request("send: POST /a, body: a, trailers: { t: 1 }").unwrap();
        assert!(trailers.body.unwrap().chunked, "trailers need chunks");
    }

    #[test]
    fn a_case_has_all_its_ways_to_run() {
        let case = case(&format!(
            "{{ name: a, protocol: both, request: {{ send: GET /a }}, {EXPECT} }}"
        ));
        let runs: Vec<_> = case.unwrap().runs().map(|run| run.to_string()).collect();
        assert_eq!(
            runs,
            ["a.headers.h1", "a.headers.h2", "a.body.h1", "a.body.h2"]
        );
    }

    #[test]
    fn steps_repeat_and_move_on() {
        let step =
            |at: &str| format!("{{ at: {at}, times: 2, request: {{ send: GET /a }}, {EXPECT} }}");
        let steps = format!("[{}, {}]", step("0s"), step("1500ms"));
        let case = case(&format!("{{ name: a, moves_clock: true, steps: {steps} }}")).unwrap();
        let at: Vec<_> = case.steps.iter().map(|step| step.at.as_millis()).collect();
        assert_eq!(at, [0, 0, 1500, 1500]);
    }

    #[test]
    fn what_says_too_little_or_too_much_is_refused() {
        let get = "request: { send: GET /a }";
        for (yaml, why) in [
            ("{ name: a }".to_owned(), "steps"),
            (format!("{{ name: A, {get}, {EXPECT} }}"), "a-z"),
            (format!("{{ name: a, {get} }}"), "belong together"),
            (
                format!("{{ name: a, {get}, expect: {{ status: 200 }} }}"),
                "reason",
            ),
            (
                format!("{{ name: a, {get}, expect: {{ reason: a, rule: b }} }}"),
                "status",
            ),
            (format!("{{ name: a, {get}, {EXPECT}, extra: 1 }}"), "extra"),
            (
                format!("{{ name: a, moves_clock: true, {get}, {EXPECT} }}"),
                "moves_clock",
            ),
            (
                format!("{{ name: a, profiles: [], {get}, {EXPECT} }}"),
                "profiles",
            ),
            (
                format!("{{ name: a, steps: [{{ at: 1s, {get}, {EXPECT} }}] }}"),
                "moves_clock",
            ),
            (
                format!("{{ name: a, request: {{ send: GET }}, {EXPECT} }}"),
                "send",
            ),
            (
                format!("{{ name: a, request: {{ send: GET /a, path: /b }}, {EXPECT} }}"),
                "send",
            ),
            (
                format!("{{ name: a, request: {{ send: GET /a, key: nobody }}, {EXPECT} }}"),
                "nobody",
            ),
            (
                format!(
                    "{{ name: a, request: {{ send: GET /a, trailers: {{ a: b }} }}, {EXPECT} }}"
                ),
                "body",
            ),
            (
                format!(
                    "{{ name: a, protocol: both, request: {{ raw: x, send: GET /a }}, {EXPECT} }}"
                ),
                "raw",
            ),
        ] {
            let error = case(&yaml).expect_err(&yaml);
            assert!(error.contains(why), "{yaml}: {error}");
        }
    }

    #[test]
    fn envoy_may_answer_in_the_second_list_alone() {
        let list = |yaml: &str, list| {
            let text = format!("policy: p\nhost: h\ncases: [{{ name: a, {yaml} }}]");
            parse("f.yaml", &text, &keys(), list)
                .map(|cases| cases.len())
                .map_err(|e| e.join("\n"))
        };
        let by_envoy = "request: { raw: x }, expect: { status: 400 }";
        assert_eq!(list(by_envoy, List::Edge), Ok(1));
        assert!(list(by_envoy, List::Corpus).is_err());
        let half = "request: { raw: x }, expect: { status: 400, rule: r }";
        assert!(list(half, List::Edge).is_err());
        let tls = "tls: true, request: { raw: x }, expect: { status: 400 }";
        assert_eq!(list(tls, List::Edge), Ok(1));
        assert!(list(tls, List::Corpus).unwrap_err().contains("TLS"));
        let profile = "profiles: [body], request: { raw: x }, expect: { status: 400 }";
        assert!(list(profile, List::Edge).is_err());
    }
}
