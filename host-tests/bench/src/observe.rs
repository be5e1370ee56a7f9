//! `--observe`: what the gate changes under `mode: observe`. Nothing.
//!
//! The same requests go through Envoy with the gate and without it, to an upstream that answers with what
//! it saw: so an answer holds both directions, and the two must be equal in status, headers and body. Of
//! the headers only `date` is left out; ids and times that Envoy would make are switched off.
//!
//! Two requests of three are the corpus', each before the gate with its own policy; the others are put together
//! of methods, paths, bodies, trailers and wishes for the upstream's answer. A seed makes it the same run
//! again.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use portcullis_corpus::wire::stream::Address;
use portcullis_corpus::wire::{Message, h1, h2};
use portcullis_corpus::{Corpus, Document, Protocol, Request, Response};
use portcullis_upstream::Upstream;
use serde_json::{Value, json};
use xtask::clock::Start;
use xtask::envoy;
use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

use crate::bootstrap;
use crate::envoy::Envoy;
use crate::module;
use crate::options::Observe;
use crate::placement::Placement;
use crate::random::Random;
use crate::scratch::Scratch;

const WORKERS: u32 = 2;
const CLIENTS: u32 = 8;
/// Differences that are shown.
const SHOWN: usize = 10;
const PLAIN: &str = "plain";

/// What both Envoys are asked with.
struct Lanes {
    plain: Address,
    /// With the gate, by policy.
    gates: Vec<Address>,
    /// The corpus' requests: with which policy, over what.
    requests: Vec<(usize, Vec<Protocol>, Request)>,
    keys: Vec<String>,
}

/// What was found.
#[derive(Default)]
struct Found {
    answered: u32,
    differences: Vec<String>,
}

/// Runs the comparison and prints how many differences there are.
///
/// # Errors
///
/// When something is missing, or there is a difference.
pub(crate) fn run(workspace: &Workspace, observe: Observe) -> Result<()> {
    let module = module::gate(workspace)?;
    let found = envoy::obtain(workspace)?;
    let scratch = Scratch::new(workspace, "observe")?;
    let corpus = Corpus::load().map_err(|errors| {
        Failure::new(
            format!("the corpus can't be read: {}", errors.join("; ")),
            "run `cargo test -p portcullis-corpus`",
        )
    })?;
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into())
        .map_err(|error| Failure::new(format!("no upstream: {error}"), "free a port"))?;
    let mut listeners = vec![bootstrap::forwarding(PLAIN, None)];
    for (name, document) in corpus.documents.iter().filter(is_played) {
        let mut policy = document.value().clone();
        if let Some(policy) = policy.as_object_mut() {
            policy.remove("rollout");
            policy.insert("mode".to_owned(), "observe".into());
        }
        listeners.push(bootstrap::forwarding(name, Some((&module, &policy))));
    }
    let mut bootstrap = bootstrap::of(&listeners);
    if let Some(resources) = bootstrap
        .get_mut("static_resources")
        .and_then(Value::as_object_mut)
    {
        let cluster = bootstrap::upstream(upstream.address());
        resources.insert("clusters".to_owned(), json!([cluster]));
    }
    let placement = Placement::ordinary();
    let envoy = Envoy::start(&found.path, &bootstrap, WORKERS, placement, scratch.path())?;
    let lanes = lanes(&envoy, &corpus)?;
    eprintln!(
        "Envoy {}, {} requests twice, {} policies, {} requests of the corpus, seed {}",
        found.version,
        observe.requests,
        lanes.gates.len(),
        lanes.requests.len(),
        observe.seed
    );
    let start = Start::now();
    let found = compare(&lanes, observe)?;
    report(observe, &found, start.elapsed().as_secs());
    if found.differences.is_empty() && found.answered > 0 {
        return Ok(());
    }
    Err(Failure::new(
        "the gate changed something, or nothing was answered",
        "see the differences above; the same seed makes them again",
    ))
}

/// Whether a policy can be played: a pepper would have to be in Envoy's environment.
fn is_played((_, document): &(&String, &Document)) -> bool {
    !document.value().to_string().contains("\"pepper\"")
}

fn lanes(envoy: &Envoy, corpus: &Corpus) -> Result<Lanes> {
    let address = |name: &str| -> Result<Address> {
        let address: SocketAddr = envoy.address(name)?;
        Ok(Address::Tcp(address))
    };
    let documents = corpus.documents.iter().filter(is_played);
    let names: Vec<&String> = documents.map(|(name, _)| name).collect();
    let mut requests = Vec::new();
    for case in &corpus.cases {
        let policy = names.iter().position(|name| **name == case.policy);
        for step in &case.steps {
            let policy = policy.unwrap_or_default();
            requests.push((policy, case.protocols.clone(), step.request.clone()));
        }
    }
    Ok(Lanes {
        plain: address(PLAIN)?,
        gates: names
            .into_iter()
            .map(|name| address(name))
            .collect::<Result<_>>()?,
        requests,
        keys: corpus.keys.values().cloned().collect(),
    })
}

/// Asks both, with several clients at the same time.
fn compare(lanes: &Lanes, observe: Observe) -> Result<Found> {
    let next = AtomicU32::new(0);
    let clients: Vec<Found> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = Found::default();
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= observe.requests || xtask::process::stopped() {
                            return found;
                        }
                        progress(number, observe.requests);
                        ask_both(lanes, observe.seed, number, &mut found);
                    }
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| {
            client
                .join()
                .map_err(|_| Failure::new("a client died", "read its message above"))
        });
        joined.collect::<Result<_>>()
    })?;
    if xtask::process::stopped() {
        return Err(Failure::Stopped);
    }
    let mut all = Found::default();
    for found in clients {
        all.answered = all.answered.saturating_add(found.answered);
        all.differences.extend(found.differences);
    }
    Ok(all)
}

fn ask_both(lanes: &Lanes, seed: u32, number: u32, found: &mut Found) {
    let mut random = Random::new(seed, number);
    let corpus = random.below(3) < 2;
    let (policy, protocol, request, message) = if corpus {
        let picked =
            usize::try_from(random.below(u64::try_from(lanes.requests.len()).unwrap_or(1)));
        let Some((policy, protocols, request)) = lanes.requests.get(picked.unwrap_or_default())
        else {
            return;
        };
        let protocol = *random.pick(protocols).unwrap_or(&Protocol::H1);
        let message = Message::new(request, protocol);
        (*policy, protocol, Some(request), message)
    } else {
        let protocol = *random
            .pick(&[Protocol::H1, Protocol::H2])
            .unwrap_or(&Protocol::H1);
        let policies = u64::try_from(lanes.gates.len()).unwrap_or(1);
        let policy = usize::try_from(random.below(policies)).unwrap_or_default();
        (
            policy,
            protocol,
            None,
            generate(&mut random, protocol, &lanes.keys),
        )
    };
    let Some(gate) = lanes.gates.get(policy) else {
        return;
    };
    let raw = request.and_then(|request| request.raw.as_ref());
    let [plain, gated] = [&lanes.plain, gate].map(|address| {
        let answer = match (raw, protocol) {
            (Some(raw), _) => {
                let head_only = message.method.as_deref() == Some(b"HEAD");
                h1::exchange_raw(address, &[raw.as_bytes().to_vec()], head_only)
            }
            (None, Protocol::H1) => h1::exchange(address, &message),
            (None, Protocol::H2) => h2::exchange(address, &message),
        };
        shown(answer)
    });
    if plain.is_ok() {
        found.answered = found.answered.saturating_add(1);
    }
    if plain != gated {
        found.differences.push(format!(
            "request {number}, policy {policy}, {protocol:?}: {message:?}\n  without: {plain:?}\n  with:    {gated:?}"
        ));
    }
}

/// What is compared: status, headers but for the date, and the body.
fn shown(
    answer: io::Result<Option<Response>>,
) -> std::result::Result<Option<Shown>, io::ErrorKind> {
    let Some(mut answer) = answer.map_err(|error| error.kind())? else {
        return Ok(None);
    };
    answer.headers.retain(|(name, _)| name != "date");
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(Some((answer.status, answer.headers, body)))
}

type Shown = (u16, Vec<(String, Vec<u8>)>, String);

/// A request that no case has.
fn generate(random: &mut Random, protocol: Protocol, keys: &[String]) -> Message {
    const METHODS: &[&str] = &[
        "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH",
    ];
    const PATHS: &[&str] = &[
        "/",
        "/v1/threats/t1",
        "/v1/threats/analyze",
        "/v1/a?page=1",
        "/items",
        "/%2e%2e/x",
        "//x",
        "/api/user/domains?page=0&per_page=500",
        "/api/domains/example.com/risk",
        "/ready",
        "/healthz",
        "/api/analyze-domain",
        "/v1/scans/initialize",
        "/search",
        "/x;y=1",
        "/v1/threats/T1/",
    ];
    const HOSTS: &[&str] = &[
        "api.cybervault.io",
        "api.cyborux.com",
        "api.example",
        "shop.example",
        "other.example:81",
    ];
    const STATUSES: &[&str] = &["200", "201", "204", "304", "404", "429", "500", "503"];
    let mut text = |of: &[&str]| {
        random
            .pick(of)
            .copied()
            .unwrap_or_default()
            .as_bytes()
            .to_vec()
    };
    let mut message = Message {
        method: Some(text(METHODS)),
        path: Some(text(PATHS)),
        host: Some(text(HOSTS)),
        ..Message::default()
    };
    let mut add = |name: &str, value: Vec<u8>| message.headers.push((name.into(), value));
    add("x-upstream-reply", text(STATUSES));
    add("x-upstream-header", b"x-ratelimit-remaining=3".to_vec());
    add("x-portcullis-principal", b"forged".to_vec());
    if random.below(3) > 0 {
        let key = random.pick(keys).cloned().unwrap_or_default();
        add("authorization", format!("Bearer {key}").into_bytes());
    }
    if random.below(2) == 0 {
        return message;
    }
    let pieces = random.below(4).saturating_add(1);
    let body: Vec<Vec<u8>> = (0..pieces)
        .map(|_| {
            let length = usize::try_from(random.below(40_000)).unwrap_or_default();
            let byte = u8::try_from(random.below(256)).unwrap_or_default();
            match random.below(3) {
                0 => vec![byte; length],
                1 => br#"{"target":"x.example"}"#.to_vec(),
                _ => Vec::from("x"),
            }
        })
        .collect();
    message
        .headers
        .push(("content-type".into(), "application/json".into()));
    let has_trailers = random.below(2) == 0;
    if protocol == Protocol::H1 {
        let framing = if has_trailers || random.below(2) == 0 {
            ("transfer-encoding", "chunked".to_owned())
        } else {
            ("content-length", body.concat().len().to_string())
        };
        message.headers.push((framing.0.into(), framing.1.into()));
    }
    if has_trailers {
        message.trailers = vec![
            ("x-sum".into(), "7".into()),
            ("x-portcullis-key".into(), "forged".into()),
        ];
    }
    message.body = Some(body);
    message
}

/// A bar, where somebody looks.
fn progress(number: u32, of: u32) {
    const STEPS: u32 = 200;
    let step = of.div_ceil(STEPS).max(1);
    let mut out = io::stderr();
    if number.checked_rem(step) != Some(0) || !out.is_terminal() {
        return;
    }
    let percent = u64::from(number)
        .saturating_mul(100)
        .checked_div(of.into())
        .unwrap_or_default();
    let full = "#".repeat(usize::try_from(percent / 2).unwrap_or_default());
    let _ = write!(out, "\r[{full:<50}] {percent:>3} %");
}

fn report(observe: Observe, found: &Found, seconds: u64) {
    if io::stderr().is_terminal() {
        eprintln!();
    }
    for difference in found.differences.iter().take(SHOWN) {
        eprintln!("{difference}");
    }
    let (requests, differences) = (observe.requests, found.differences.len());
    if observe.json {
        let answered = found.answered;
        println!(
            "{}",
            json!({ "requests": requests, "answered": answered, "differences": differences, "seed": observe.seed })
        );
    } else {
        println!(
            "{requests} requests with and without the gate in {seconds} s: {differences} differences"
        );
    }
}
