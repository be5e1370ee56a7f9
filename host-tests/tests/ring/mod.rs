//! A ring of the corpus: every run has a world of its own, with one worker whose VM is born when the
//! case begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis_corpus::{
    Corpus, Document, Exchange, Outage, Profile, Protocol, Record, Response, Ring, Run, Seen,
    Service, Session, Step, wire::Arrival,
};
use portcullis_host::{
    Callout, CalloutReply, CalloutRequest, Fault, Headers, HostCall, MapType, Module, Origin,
    Plugin, ResponseScript, Root, Settings, Side, Status, StreamId, StreamResult, StreamState,
    Worker, World,
};

/// The ring.
#[derive(Debug)]
pub(crate) struct Wasmtime {
    module: Module,
    /// Texts that must be in nothing that a worker keeps or says.
    secrets: Vec<String>,
    /// The clusters that there are.
    clusters: BTreeSet<String>,
    /// The world of the run under way, or of the last one.
    world: Option<World>,
    /// What broke a law of the whole.
    complaints: Vec<String>,
}

/// The largest body of the corpus is held, as behind the Envoy of its ring.
const BUFFER: usize = 8 << 20;

impl Wasmtime {
    pub(crate) fn new(module: Module, corpus: &Corpus) -> Self {
        Self {
            module,
            secrets: corpus.secrets().into_iter().map(str::to_owned).collect(),
            clusters: corpus.clusters(),
            world: None,
            complaints: Vec::new(),
        }
    }

    /// Looks at what a run leaves behind: no dead VM, and no key in anything that lasts.
    fn retire(&mut self) {
        let Some(mut world) = self.world.take() else {
            return;
        };
        for worker in world.workers() {
            let traps = worker.traps().iter().map(ToString::to_string);
            self.complaints.extend(traps);
        }
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for (key, value) in world.shared_data().dump(&world.settings().vm_id) {
            kept.extend([key, value]);
        }
        let metrics = world.metrics().numbers();
        kept.extend(metrics.into_iter().map(|(_, name, _)| name.into_bytes()));
        kept.extend(world.logs().into_iter().map(|line| line.text.into_bytes()));
        for secret in &self.secrets {
            let secret = secret.as_bytes();
            let mut leaks = kept.iter().filter(|bytes| holds(bytes, secret));
            if let Some(leak) = leaks.next() {
                let leak = leak.escape_ascii();
                self.complaints
                    .push(format!("a key is in what a worker keeps: {leak}"));
            }
        }
    }
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

impl Ring for Wasmtime {
    const NAME: &'static str = "wasmtime";

    fn begin<'a>(
        &'a mut self,
        run: Run<'a>,
        document: &'a Document,
    ) -> Result<Box<dyn Session + 'a>, String> {
        self.retire();
        let world = self.world.insert(World::new(Settings {
            allow_on_headers_stop_iteration: run.profile == Profile::Headers,
            buffer_limit: BUFFER,
            upstream_codec: false,
            environment: portcullis_corpus::environment(),
            ..Settings::default()
        }));
        let start = Duration::from_secs(run.case.starts);
        world.clock().set_wall(nanoseconds(start));
        world
            .add_worker(&self.module)
            .map_err(|error| error.to_string())?;
        let plugin = Plugin::new(run.to_string(), document.configuration(run.profile));
        let roots = world
            .configure(&plugin)
            .map_err(|error| format!("the policy `{}` is refused: {error}", document.name()))?;
        let root = *roots.first().ok_or("there is no worker")?;
        Ok(Box::new(WasmtimeSession {
            run,
            world,
            clusters: &self.clusters,
            root,
            now: Duration::ZERO,
        }))
    }

    fn finish(&mut self) -> Result<(), String> {
        self.retire();
        if self.complaints.is_empty() {
            Ok(())
        } else {
            Err(self.complaints.join("\n"))
        }
    }
}

struct WasmtimeSession<'a> {
    run: Run<'a>,
    world: &'a mut World,
    clusters: &'a BTreeSet<String>,
    root: Root,
    /// Time since the start of the case.
    now: Duration,
}

impl Session for WasmtimeSession<'_> {
    fn exchange(&mut self, step: &Step) -> Result<Exchange, String> {
        self.world.advance(step.at.saturating_sub(self.now));
        self.now = self.now.max(step.at);
        let arrival = Arrival::new(&step.request, self.run.protocol);
        for cluster in self.clusters {
            let service = step.clusters.get(cluster);
            self.world.replace(cluster, reply(service), Duration::ZERO);
            if let Some(Service::InTurn(turns)) = service {
                for turn in turns.iter().skip(1) {
                    self.world.on(cluster, reply(Some(turn)), Duration::ZERO);
                }
            }
        }
        self.world.take_made();
        let worker = self.world.worker(0).map_err(|error| error.to_string())?;
        let root = match step.fault {
            Some(fault) => break_host(worker, self.root, fault),
            None => self.root,
        };
        let wall = Duration::from_secs(self.run.case.starts).saturating_add(self.now);
        let failed = |error: portcullis_host::HostError| error.to_string();
        let id = begin(worker, root, step, &arrival, self.run.protocol).map_err(failed)?;
        while self.world.is_queued(id).map_err(failed)? {
            self.world.advance(TICK);
            self.now = self.now.saturating_add(TICK);
        }
        let worker = self.world.worker(0).map_err(failed)?;
        let result = end(worker, id, step).map_err(failed)?;
        worker.clear_faults();
        let asked = asked(self.world.take_made());
        report(self.run, step, result, asked, wall)
    }
}

/// What a service answers.
fn reply(service: Option<&Service>) -> CalloutReply {
    match service.and_then(|service| service.nth(0)) {
        None | Some(Service::InTurn(_)) | Some(Service::Fails(Outage::Unreachable)) => {
            CalloutReply::Unreachable
        }
        Some(Service::Fails(Outage::Broken)) => CalloutReply::Broken,
        Some(Service::Fails(Outage::Silent)) => CalloutReply::Silence,
        Some(Service::Answers(answer)) => {
            let mut reply = CalloutReply::http(answer.status, answer.body.as_bytes());
            if let CalloutReply::Http { headers, .. } = &mut reply {
                let named = answer.headers.iter();
                headers.extend(named.map(|(name, value)| {
                    (
                        name.as_bytes().to_ascii_lowercase(),
                        value.as_bytes().to_vec(),
                    )
                }));
            }
            reply
        }
    }
}

/// What services were asked, by cluster.
fn asked(made: Vec<Callout>) -> BTreeMap<String, Vec<Seen>> {
    let mut asked: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for call in made {
        let cluster = String::from_utf8_lossy(&call.cluster).into_owned();
        if let CalloutRequest::Http { headers, body, .. } = call.request {
            let seen = Seen::from_map(&headers, body, &[]);
            asked.entry(cluster).or_default().push(seen);
        }
    }
    asked
}

/// How fine time passes while a request is held.
const TICK: Duration = Duration::from_millis(1);

trait Queued {
    /// Whether a stream is held, and a timer runs that may let it go.
    fn is_queued(&mut self, id: StreamId) -> Result<bool, portcullis_host::HostError>;
}

impl Queued for World {
    fn is_queued(&mut self, id: StreamId) -> Result<bool, portcullis_host::HostError> {
        let worker = self.worker(0)?;
        Ok(worker.state(id)? == StreamState::Held && worker.next_tick().is_some())
    }
}

/// Breaks the host for one step; says whose streams meet that.
fn break_host(worker: &mut Worker, root: Root, fault: portcullis_corpus::Fault) -> Root {
    use portcullis_corpus::Fault as Broken;
    let fault = match fault {
        Broken::HostFailed => Fault::new(HostCall::GetHeaderMapPairs, Status::INTERNAL_FAILURE)
            .on_map(MapType::RequestHeaders),
        Broken::StoreContended => Fault::new(HostCall::SetSharedData, Status::CAS_MISMATCH),
        Broken::StoreFailed => Fault::new(HostCall::GetSharedData, Status::INTERNAL_FAILURE),
        Broken::NotReady => {
            let (root, _) = worker.configure_regardless(&Plugin::new("refused", "no policy"));
            return root;
        }
    };
    worker.fault(fault);
    root
}

/// Sends the request as it arrives at a filter.
fn begin(
    worker: &mut Worker,
    root: Root,
    step: &Step,
    arrival: &Arrival,
    protocol: Protocol,
) -> Result<StreamId, portcullis_host::HostError> {
    let source = arrival.source_address().map_or_else(Vec::new, |address| {
        vec![(b"source\0address".to_vec(), address.into_bytes())]
    });
    let id = worker.open(root, &source)?;
    send(worker, id, step, arrival, protocol)?;
    Ok(id)
}

/// Lets the upstream answer if it got the request, and forgets the stream.
fn end(
    worker: &mut Worker,
    id: StreamId,
    step: &Step,
) -> Result<StreamResult, portcullis_host::HostError> {
    let result = worker.result(id)?;
    let is_asked = result.forwarded.is_some() && result.response.is_none();
    if is_asked && step.stays_open {
        let status = (
            b":status".to_vec(),
            step.answer.status.to_string().into_bytes(),
        );
        worker.headers(id, Side::Response, vec![status], false)?;
        let body = step.answer.body.as_bytes().to_vec();
        worker.data(id, Side::Response, body, false)?;
        return worker.result(id);
    }
    if is_asked {
        worker.respond(id, &answer(step))?;
    }
    let result = worker.result(id)?;
    worker.forget(id)?;
    Ok(result)
}

fn send(
    worker: &mut Worker,
    id: StreamId,
    step: &Step,
    arrival: &Arrival,
    protocol: Protocol,
) -> Result<(), portcullis_host::HostError> {
    let headers = arrival.headers.clone();
    worker.headers(id, Side::Request, headers, arrival.end_of_stream)?;
    // What does not end and has no body is a tunnel, in which nothing comes.
    if arrival.end_of_stream || step.request.body.is_none() {
        return Ok(());
    }
    // HTTP/1.1 tells the end of a body apart from its last piece.
    let separate_end = protocol == Protocol::H1 || arrival.body.is_empty();
    let last = arrival.body.len().saturating_sub(1);
    for (n, piece) in arrival.body.iter().enumerate() {
        let end = n == last && !separate_end && arrival.trailers.is_empty();
        worker.data(id, Side::Request, piece.clone(), end)?;
    }
    if !arrival.trailers.is_empty() {
        return worker.trailers(id, Side::Request, arrival.trailers.clone());
    }
    if separate_end {
        worker.data(id, Side::Request, Vec::new(), true)?;
    }
    Ok(())
}

fn answer(step: &Step) -> ResponseScript {
    let mut script = ResponseScript::new(step.answer.status);
    for (name, value) in &step.answer.headers {
        script = script.header(name.as_bytes(), value.as_bytes());
    }
    script.piece(step.answer.body.as_bytes())
}

fn report(
    run: Run<'_>,
    step: &Step,
    result: StreamResult,
    asked: BTreeMap<String, Vec<Seen>>,
    wall: Duration,
) -> Result<Exchange, String> {
    if let Some(trap) = &result.trap {
        return Err(trap.to_string());
    }
    if !result.violations.is_empty() {
        return Err(format!("in Envoy: {}", result.violations.join("; ")));
    }
    if matches!(result.state, StreamState::Held | StreamState::Receiving) {
        return Err("the filter holds the request for good".to_owned());
    }
    let log: Vec<String> = result.logs.iter().map(|line| line.text.clone()).collect();
    let records: Vec<Record> = log
        .iter()
        .filter_map(|line| Record::from_log(line))
        .collect::<Result<_, _>>()?;
    if records.len() > 1 {
        let made = records.len();
        return Err(format!("{made} decisions were made for one request"));
    }
    Ok(Exchange {
        upstream: upstream(run, step, &result)?,
        response: result.response.map(|message| Response {
            status: message.status(),
            headers: named(&message.headers),
            body: message.body,
        }),
        record: records.into_iter().next(),
        asked,
        log,
        wall: wall.as_secs(),
    })
}

/// What the upstream saw. Where headers go ahead of a body, it sees those of a request that is
/// refused then, and not one byte of the body.
fn upstream(run: Run<'_>, step: &Step, result: &StreamResult) -> Result<Option<Seen>, String> {
    let Some(message) = &result.forwarded else {
        return Ok(None);
    };
    if result.origin != Some(Origin::Upstream) {
        let may_begin = run.profile == Profile::Body && step.request.body.is_some();
        if may_begin && message.reset && message.body.is_empty() {
            return Ok(None);
        }
        return Err("the upstream got a request that was refused".to_owned());
    }
    let trailers: Headers = message.trailers.clone().unwrap_or_default();
    let body = message.body.clone();
    Ok(Some(Seen::from_map(&message.headers, body, &trailers)))
}

/// Headers without pseudo-headers.
fn named(headers: &Headers) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .filter(|(name, _)| !name.starts_with(b":"))
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone()))
        .collect()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
