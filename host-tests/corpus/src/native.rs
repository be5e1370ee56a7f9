//! Ring 1: the core natively. The shortest shell there can be, with a clock and a store of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use portcullis_policy::{
    AccountStore, Body, Change, Comparison, Decision, EXPLANATION, Edit, Edits, Ending, Engine,
    Failure, Leases, MapStore, Mode, Moment, Opinion, Outcome, Pause, Policy, Query, RateHeaders,
    Reason, Request, Settings, Settled, StoreError, is_reserved, parse_client,
};

use crate::case::{Answer, Fault, Outage, Run, Service, Step};
use crate::corpus::Corpus;
use crate::document::{Document, variable};
use crate::ring::{Exchange, Record, Response, Ring, Seen, Session};
use crate::wire::{Arrival, Field};

/// The ring.
#[derive(Debug)]
pub struct Native {
    clusters: BTreeSet<String>,
}

impl Native {
    /// A ring in whose world the clusters of a corpus are.
    pub fn new(corpus: &Corpus) -> Self {
        Self {
            clusters: corpus.clusters(),
        }
    }
}

/// Monotonic time at which every run begins: the VM is born then.
const BORN: Duration = Duration::from_secs(1_000_000);

impl Ring for Native {
    const NAME: &'static str = "native";

    fn begin<'a>(
        &'a mut self,
        run: Run<'a>,
        document: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String> {
        let configuration = document.configuration(run.profile);
        let name = run.to_string();
        let policy = Policy::parse_with(&configuration, &name, &variable).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!(
                "the policy `{}` is refused: {}",
                document.name(),
                lines.join("; ")
            )
        })?;
        let policy = Rc::new(policy);
        let settings = Settings {
            seed: *b"a seed of a test",
            born: nanoseconds(BORN),
        };
        let mut engine = Engine::new(settings);
        let mut store = Store {
            map: MapStore::default(),
            fault: None,
        };
        supply(&mut engine, &policy, &mut store);
        Ok(Box::new(NativeSession {
            run,
            policy,
            engine,
            asked: BTreeMap::new(),
            clusters: &self.clusters,
            store,
            decisions: 0,
            now: Duration::ZERO,
            open: Leases::default(),
        }))
    }
}

struct NativeSession<'a> {
    run: Run<'a>,
    policy: Rc<Policy>,
    engine: Engine,
    store: Store,
    /// What services were asked in this step.
    asked: BTreeMap<String, Vec<Seen>>,
    /// The clusters that there are.
    clusters: &'a BTreeSet<String>,
    /// Decisions made so far, which makes their ids unique.
    decisions: u128,
    /// Time since the start of the case: a request that is held ends before the next one begins.
    now: Duration,
    /// What streams hold that have not ended.
    open: Leases,
}

impl Session for NativeSession<'_> {
    fn exchange(&mut self, step: &Step) -> Result<Exchange, String> {
        let arrival = Arrival::new(&step.request, self.run.protocol);
        self.now = self.now.max(step.at);
        let wall = Duration::from_secs(self.run.case.starts) + self.now;
        self.decisions += 1;
        let moment = Moment {
            monotonic: nanoseconds(BORN + self.now),
            wall: nanoseconds(wall),
            decision: wall.as_millis() << 80 | self.decisions,
        };
        self.store.fault = step.fault;
        let (mut outcome, early_edits) = match step.fault {
            Some(Fault::HostFailed) => (
                Outcome::unavailable(Reason::HostFailed, moment.decision)
                    .recorded_by(Some(&self.policy)),
                None,
            ),
            Some(Fault::NotReady) => (
                Outcome::unavailable(Reason::NotReady, moment.decision),
                None,
            ),
            _ => self.decide(&arrival, moment, step),
        };
        if let Some(hold) = &outcome.hold {
            self.now = Duration::from_nanos(hold.until()).saturating_sub(BORN);
        }
        if let Some(lesson) = &outcome.lesson {
            self.store.fault = None;
            let later = Moment {
                monotonic: nanoseconds(BORN + self.now),
                ..moment
            };
            let learned = self
                .engine
                .learn(lesson, step.answer.status, later, &mut self.store);
            learned.map_err(|error| format!("not learned: {error:?}"))?;
        }
        if let Some(comparison) = &mut outcome.comparison {
            let opinion = opinion(comparison, &step.answer);
            outcome.record.compare(opinion);
        }
        let json = outcome.record.to_json();
        let (response, upstream) = match &outcome.decision {
            _ if outcome.record.mode == Mode::Observe => {
                let response = answer(&step.answer, &arrival, None);
                (response, Some(forward(&arrival, None)))
            }
            Decision::Reply(reply) => {
                let headers = reply
                    .headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone().into()));
                let response = Response {
                    status: reply.status,
                    headers: headers.collect(),
                    body: reply.body.clone(),
                };
                (response, None)
            }
            Decision::Forward(edits) => {
                let edits = early_edits.as_ref().unwrap_or(edits);
                let mut response = answer(&step.answer, &arrival, outcome.rate.clone());
                if let Some(explanation) = outcome.record.explanation() {
                    let explanation = explanation.into();
                    response.headers.push((EXPLANATION.to_owned(), explanation));
                }
                (response, Some(forward(&arrival, Some(edits))))
            }
        };
        if let Some(reservation) = outcome.leases.take_quota() {
            let ending = Ending::Response(step.answer.status);
            let _: Settled = self
                .engine
                .settle(*reservation, ending, moment, &mut self.store);
        }
        if step.stays_open {
            self.open.extend(outcome.leases);
        } else {
            outcome.leases.give_back(&mut self.store);
        }
        Ok(Exchange {
            response: Some(response),
            upstream,
            record: Some(Record::parse(&json)?),
            asked: std::mem::take(&mut self.asked),
            log: vec![format!("decision {json}")],
            wall: wall.as_secs(),
        })
    }
}

impl NativeSession<'_> {
    /// Goes with a request from step to step. The edits are those that went ahead of a body, if
    /// they did.
    fn decide(
        &mut self,
        arrival: &Arrival,
        moment: Moment,
        step: &Step,
    ) -> (Outcome, Option<Edits>) {
        let headers: Vec<(&[u8], &[u8])> = arrival
            .headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        let client = arrival
            .source_address()
            .and_then(|address| parse_client(address.as_bytes()));
        let request = Request {
            headers: &headers,
            client: self.policy.wants_client().then_some(client),
            end_of_stream: arrival.end_of_stream,
        };
        let mut moment = moment;
        let mut next = self
            .engine
            .on_headers(&self.policy, &request, moment, &mut self.store);
        loop {
            let (engine, store) = (&mut self.engine, &mut self.store);
            next = match next {
                portcullis_policy::Step::Decided(outcome) => return (outcome, None),
                portcullis_policy::Step::AwaitClient(waiting) => {
                    engine.with_client(waiting, client, moment, store)
                }
                // What a shell must not do where its host can't stop at headers alone.
                portcullis_policy::Step::AwaitBody(_)
                    if !self.asked.is_empty()
                        && self.policy.pause() == Pause::Body
                        && !arrival.trailers.is_empty() =>
                {
                    let outcome = Outcome::unavailable(Reason::HostFailed, moment.decision);
                    return (outcome.recorded_by(Some(&self.policy)), None);
                }
                portcullis_policy::Step::AwaitBody(waiting) => {
                    let early =
                        (self.policy.pause() == Pause::Body).then(|| waiting.edits().clone());
                    let body = arrival.body.concat();
                    let body = if body.len() > waiting.max() {
                        Body::TooLarge
                    } else {
                        Body::Complete(&body)
                    };
                    return (engine.with_body(waiting, body, moment, store), early);
                }
                portcullis_policy::Step::Ask(waiting) => {
                    let Some((call, query)) = engine.ask(STREAM, *waiting, moment.monotonic) else {
                        return (Outcome::unavailable(Reason::HostFailed, 0), None);
                    };
                    engine.dispatched(call, TOKEN);
                    let mut query = query;
                    if query.as_caller {
                        let sent = arrival.headers.iter();
                        let mut sent = sent.filter(|(name, _)| name == b"authorization");
                        let (_, credential) = sent.next().cloned().unwrap_or_default();
                        let credential = String::from_utf8_lossy(&credential).into_owned();
                        query.headers.push(("authorization", credential));
                    }
                    let waited = self.play(call, &query, step);
                    self.now += waited;
                    moment.monotonic += nanoseconds(waited);
                    moment.wall += nanoseconds(waited);
                    let (engine, store) = (&mut self.engine, &mut self.store);
                    match engine.take_answered() {
                        Some((_, waiting)) => engine.with_answer(waiting, moment, store),
                        None => return (Outcome::unavailable(Reason::HostFailed, 0), None),
                    }
                }
            };
        }
    }

    /// Has a service answer as the step says; returns how long that takes.
    fn play(&mut self, call: u32, query: &Query, step: &Step) -> Duration {
        let fields = query.headers.iter();
        let fields: Vec<Field> = fields
            .map(|(name, value)| (name.as_bytes().to_vec(), value.clone().into_bytes()))
            .collect();
        let seen = Seen::from_map(&fields, query.body.clone(), &[]);
        let cluster = query.cluster.to_string();
        let is_there = self.clusters.contains(&cluster);
        let turn = self.asked.get(&cluster).map_or(0, Vec::len);
        if is_there {
            self.asked.entry(cluster.clone()).or_default().push(seen);
        }
        let now = nanoseconds(BORN + self.now);
        let unreachable = [(b":status".as_slice(), b"503".as_slice())];
        let failed = |failure| (portcullis_policy::Answer::Failed(failure), Duration::ZERO);
        let respond = |headers, body| {
            portcullis_policy::Answer::Response(portcullis_policy::Response { headers, body })
        };
        let (status, fields);
        let service = step.clusters.get(&cluster);
        let (answer, waited) = match service.and_then(|service| service.nth(turn)) {
            _ if !is_there => failed(Failure::Refused),
            None | Some(Service::InTurn(_)) | Some(Service::Fails(Outage::Unreachable)) => (
                respond(&unreachable, b"upstream connect error"),
                Duration::ZERO,
            ),
            Some(Service::Fails(Outage::Broken)) => failed(Failure::Broken),
            Some(Service::Fails(Outage::Silent)) => {
                let waited = Duration::from_millis(query.timeout.into());
                (portcullis_policy::Answer::Failed(Failure::TimedOut), waited)
            }
            Some(Service::Answers(answer)) => {
                status = answer.status.to_string();
                let named = answer.headers.iter();
                let named = named.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
                let first = (b":status".as_slice(), status.as_bytes());
                fields = std::iter::once(first).chain(named).collect::<Vec<_>>();
                let body = answer.body.as_bytes();
                let max = self.engine.call_of(TOKEN).map_or(0, |(_, max)| max);
                if body.len() > max {
                    failed(Failure::TooLarge)
                } else {
                    (respond(&fields, body), Duration::ZERO)
                }
            }
        };
        self.engine
            .answered(call, &answer, now + nanoseconds(waited));
        waited
    }
}

/// Has the engine begin with the files of its policy. In no case is there a source that gives one: what
/// comes of those is tested in real Envoy.
fn supply(engine: &mut Engine, policy: &Rc<Policy>, store: &mut Store) {
    for turn in 0..3 {
        let moment = Moment {
            monotonic: nanoseconds(BORN),
            wall: 0,
            decision: turn,
        };
        for (call, _) in engine.supply(policy, moment, store).calls {
            let refused = portcullis_policy::Answer::Failed(Failure::Refused);
            engine.answered(call, &refused, moment.monotonic);
        }
    }
}

/// The numbers of the one stream and the one call that there are.
const STREAM: u32 = 1;
const TOKEN: u32 = 1;

/// The upstream's view of a request; without edits it is that of the client.
fn forward(arrival: &Arrival, edits: Option<&Edits>) -> Seen {
    let mut headers = arrival.headers.clone();
    let Some(edits) = edits else {
        return Seen::from_map(&headers, arrival.body.concat(), &arrival.trailers);
    };
    edits.each(|edit| match edit {
        Edit::Remove(name) => headers.retain(|(n, _)| n != name),
        Edit::Add(name, value) => headers.push((name.into(), value.into())),
    });
    let trailers: Vec<Field> = arrival
        .trailers
        .iter()
        .filter(|(name, _)| !is_reserved(name))
        .cloned()
        .collect();
    Seen::from_map(&headers, arrival.body.concat(), &trailers)
}

/// What the upstream's answer says beside a verdict.
fn opinion(comparison: &mut Comparison, answer: &Answer) -> Opinion {
    let status = answer.status.to_string();
    let named = answer.headers.iter();
    let names: Vec<Vec<u8>> = named
        .map(|(name, _)| name.as_bytes().to_ascii_lowercase())
        .collect();
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b":status", status.as_bytes())];
    let values = answer.headers.iter().map(|(_, value)| value.as_bytes());
    headers.extend(names.iter().map(Vec::as_slice).zip(values));
    match comparison.begin(&headers) {
        Ok(()) => comparison.read(answer.body.as_bytes()),
        Err(opinion) => opinion,
    }
}

/// The upstream's answer as the client gets it, with the rate headers in place of its own.
fn answer(answer: &Answer, arrival: &Arrival, rate: Option<RateHeaders>) -> Response {
    let mut headers: Vec<(String, Vec<u8>)> = answer
        .headers
        .iter()
        .map(|(name, value)| {
            let name = String::from_utf8_lossy(name.as_bytes()).to_ascii_lowercase();
            (name, value.as_bytes().to_vec())
        })
        .collect();
    if let Some(mut rate) = rate {
        if rate.merges() {
            let status = answer.status.to_string();
            let mut pairs: Vec<(&[u8], &[u8])> = vec![(b":status", status.as_bytes())];
            pairs.extend(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_slice())));
            rate = rate.clone().merged(&pairs);
        }
        rate.each(|name, value| {
            headers.retain(|(n, _)| n != name);
            headers.push((name.to_owned(), value.into()));
        });
    }
    let is_head = arrival
        .headers
        .iter()
        .any(|(name, value)| name == b":method" && value == b"HEAD");
    let has_body = !is_head && !matches!(answer.status, 101 | 204 | 304);
    let body = if has_body {
        answer.body.as_bytes().to_vec()
    } else {
        Vec::new()
    };
    Response {
        status: answer.status,
        headers,
        body,
    }
}

/// A map that can be broken.
struct Store {
    map: MapStore,
    fault: Option<Fault>,
}

impl AccountStore for Store {
    fn update(&mut self, key: &[u8], change: &mut Change<'_>) -> Result<(), StoreError> {
        match self.fault {
            Some(Fault::StoreContended) => Err(StoreError::Contended),
            Some(Fault::StoreFailed) => Err(StoreError::Failed),
            _ => self.map.update(key, change),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
