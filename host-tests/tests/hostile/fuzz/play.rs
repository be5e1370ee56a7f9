//! One sequence of events.

use std::{sync::Arc, thread, time::Duration};

use portcullis_corpus::{Profile, wire::Arrival};
use portcullis_host::{
    CallSite, Callback, HostCall, HostError, Invocation, LogLevel, Plugin, ResponseScript, Root,
    Settings, Side, StreamId, StreamState, Worker, World, headers,
};

use super::{Stage, check::shown, tally::Tally};
use crate::{ledger::Ledger, random::Random, statuses};

/// A sequence.
pub(super) struct Play<'a> {
    pub(super) stage: &'a Stage,
    pub(super) tally: &'a mut Tally,
    random: Random,
    world: World,
    pub(super) ledgers: Vec<Ledger>,
    plugs: Vec<Plug>,
    pub(super) streams: Vec<Stream>,
    history: History,
}

/// A plugin that streams can be opened on.
#[derive(Clone, Copy)]
pub(super) struct Plug {
    pub(super) worker: usize,
    root: Root,
    /// Which policy is in force; `None`: none is.
    pub(super) policy: Option<usize>,
    /// Whether it was garbled: then nothing is known of it but that it is a policy.
    pub(super) garbled: bool,
}

#[derive(Clone)]
pub(super) struct Stream {
    pub(super) plug: Plug,
    pub(super) id: StreamId,
    pub(super) context: u32,
    /// The guest was told of it.
    created: bool,
    pub(super) forwarded: bool,
    /// What is left of the request that it began to send.
    arrival: Option<Arrival>,
}

/// The events so far, for whoever has to understand a failure.
struct History {
    seed: u64,
    lines: Vec<String>,
}

impl Drop for History {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self.lines.join("\n  ");
            eprintln!(
                "  {lines}\nHOSTILE_SEED={} plays this sequence alone",
                self.seed
            );
        }
    }
}

impl<'a> Play<'a> {
    pub(super) fn new(stage: &'a Stage, seed: u64, tally: &'a mut Tally) -> Self {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let mut world = World::new(settings);
        let workers = random.below(2) + 1;
        for _ in 0..workers {
            world.add_worker(&stage.module).unwrap();
        }
        Self {
            stage,
            tally,
            random,
            world,
            ledgers: (0..workers).map(|_| Ledger::default()).collect(),
            plugs: Vec::new(),
            streams: Vec::new(),
            history: History {
                seed,
                lines: Vec::new(),
            },
        }
    }

    pub(super) fn run(mut self) {
        // Some sequences begin on a good host: else hardly any policy would ever be in force.
        if !self.random.once_in(8) {
            for worker in 0..self.ledgers.len() {
                self.configure(worker);
            }
        }
        self.misbehave();
        for _ in 0..20 + self.random.below(80) {
            self.event();
            self.tally.events += 1;
            self.examine();
        }
        for index in (0..self.streams.len()).rev() {
            self.forget(index);
        }
    }

    /// Strikes a stream off the list.
    fn forget(&mut self, index: usize) {
        let stream = self.streams.remove(index);
        let account = self.ledgers[stream.plug.worker].of(stream.context);
        self.tally.stopped += u64::from(!stream.forwarded && account.headers_refused);
        // The guest may have been told to forget it, outside of all rules.
        if let Ok(result) = self.worker(stream.plug.worker).result(stream.id) {
            let ours = |what: &&String| !what.starts_with("Envoy loses the body");
            let done = result.violations.iter().find(ours);
            assert_eq!(done, None, "{}", stream.context);
        }
    }

    fn note(&mut self, line: String) {
        self.history.lines.push(line);
    }

    pub(super) fn worker(&mut self, number: usize) -> &mut Worker {
        self.world.worker(number).unwrap()
    }

    /// Lets the host answer as it likes from now on.
    fn misbehave(&mut self) {
        // How seldom it does so; never, often.
        let seldom = *self.random.pick(&[0, 0, 300, 40, 12, 3]);
        let tampers = *self.random.pick(&[0, 0, 0, 40, 6]);
        let aim = *self.random.pick(AIMS);
        self.note(format!(
            "one in {seldom} calls fails ({aim:?}), one in {tampers} tampers"
        ));
        for (number, ledger) in self.ledgers.clone().into_iter().enumerate() {
            let mut random = Random::new(self.random.next());
            let forced = Arc::clone(&self.tally.forced);
            let worker = self.worker(number);
            worker.clear_faults();
            let mut change = random.clone();
            if tampers > 0 {
                ledger.tamper(worker, move |_, bytes| {
                    if change.once_in(tampers) {
                        garble(bytes, &mut change);
                    }
                });
            }
            if seldom > 0 {
                let all = statuses::all();
                ledger.force(worker, move |site: &CallSite| {
                    // The SDK panics where this one is refused: see `sdk.rs`.
                    let hits = aim.is_none_or(|aim| aim == site.call)
                        && site.call != HostCall::SetEffectiveContext;
                    if !hits || !random.once_in(seldom) {
                        return None;
                    }

                    let status = *random.pick(&all);
                    forced.lock().unwrap().insert((site.call, status));
                    Some(status)
                });
            }
        }
    }

    fn event(&mut self) {
        match self.random.below(100) {
            0..=14 => self.open(),
            15..=44 => self.request(),
            45..=56 => self.response(),
            57..=72 => self.raw_stream(),
            73..=78 => self.raw_root(),
            79..=84 => self.end(),
            85..=88 => {
                let worker = self.random.below(self.ledgers.len());
                self.configure(worker);
            }
            89..=92 => self.time(),
            93..=96 => self.spoil(),
            _ => self.misbehave(),
        }
    }

    fn configure(&mut self, worker: usize) {
        let policy = self.random.below(self.stage.policies.len());
        let profile = *self.random.pick(&[Profile::Headers, Profile::Body]);
        let mut configuration = self.stage.policies[policy].0.configuration(profile);
        let bad = self.random.once_in(6);
        if bad {
            garble(&mut configuration, &mut self.random);
        }
        let name = *self.random.pick(&["one", "two"]);
        let plugin = Plugin::new(name, configuration);
        let keeps = self.random.once_in(4);
        self.note(format!(
            "configure {name} {policy} {profile:?}, garbled: {bad}, kept: {keeps}"
        ));
        let before = self.worker(worker).root(name.as_bytes());
        let taken = if keeps {
            let (root, refused) = self.worker(worker).configure_regardless(&plugin);
            let policy = refused.is_none().then_some(policy);
            Some((root, policy))
        } else {
            let root = self.worker(worker).configure(&plugin).ok();
            root.map(|root| (root, Some(policy)))
        };
        let Some((root, policy)) = taken else {
            self.tally.refused_policies += 1;
            let after = self.worker(worker).root(name.as_bytes());
            assert_eq!(before, after, "a refused policy took something away");
            return;
        };
        // By us, or by the host on its way: one flipped bit makes a key another one.
        let context = self.worker(worker).root_context(root);
        let misread = context.is_none_or(|context| self.ledgers[worker].of(context).misread);
        self.plugs.push(Plug {
            worker,
            root,
            policy,
            garbled: bad || misread,
        });
    }

    fn open(&mut self) {
        if self.plugs.is_empty() {
            return;
        }
        let plug = *self.random.pick(&self.plugs);
        let address = match self.random.below(4) {
            0 => self.random.bytes(60),
            1 => b"203.0.113.7:5".to_vec(),
            2 => format!("[2001:db8:{:x}::1]:443", self.random.byte()).into_bytes(),
            _ => format!("192.0.2.{}:1", self.random.byte()).into_bytes(),
        };
        let properties = vec![(b"source\0address".to_vec(), address)];
        let worker = self.worker(plug.worker);
        let Ok(id) = worker.open(plug.root, &properties) else {
            return;
        };
        let context = worker.context(id).unwrap();
        let root = worker.root_context(plug.root).unwrap();
        let early = self.random.once_in(3);
        self.note(format!(
            "open {context} on root {root}, created at once: {early}"
        ));
        if early {
            self.raw(plug.worker, Callback::ContextCreate, &[context, root]);
        }
        self.tally.opened += 1;
        self.streams.push(Stream {
            plug,
            id,
            context,
            created: early,
            forwarded: false,
            arrival: None,
        });
    }

    /// The index of a stream that is not over.
    fn live(&mut self) -> Option<usize> {
        for _ in 0..4 {
            if self.streams.is_empty() {
                return None;
            }
            // Mostly the ones that came last.
            let back = self.random.below(self.streams.len().min(5));
            let index = self.streams.len() - 1 - back;
            let Stream { plug, id, .. } = self.streams[index];
            let state = self.worker(plug.worker).state(id).unwrap();
            let over = [
                StreamState::Answered,
                StreamState::Disconnected,
                StreamState::Reset,
            ];
            if !over.contains(&state) {
                return Some(index);
            }
        }
        None
    }

    /// The client sends the next part of a request, or any other.
    fn request(&mut self) {
        let Some(index) = self.live() else { return };
        let Stream {
            plug, id, context, ..
        } = self.streams[index];
        let in_order = !self.random.once_in(6);
        let Some(mut arrival) = self.streams[index].arrival.take() else {
            let policy = plug
                .policy
                .map_or("demo", |policy| self.stage.policies[policy].0.name());
            let mut arrival = self.stage.traffic.pick(policy, &mut self.random);
            if !self.random.once_in(3) {
                self.stage
                    .traffic
                    .bend(&mut arrival.headers, &mut self.random);
            }
            let end = if in_order {
                arrival.end_of_stream && !self.random.once_in(3)
            } else {
                self.random.once_in(2)
            };
            let headers = std::mem::take(&mut arrival.headers);
            self.note(format!("{context} headers {}, end {end}", shown(&headers)));
            let sent = self
                .worker(plug.worker)
                .headers(id, Side::Request, headers, end);
            let stream = &mut self.streams[index];
            stream.created |= sent.is_ok();
            stream.arrival = Some(arrival);
            return;
        };
        if self.random.once_in(3) {
            let trailers = self.stage.traffic.trailers(&mut self.random);
            self.note(format!("{context} trailers {}", shown(&trailers)));
            let _: Result<(), HostError> =
                self.worker(plug.worker)
                    .trailers(id, Side::Request, trailers);
        } else {
            let mut piece = if arrival.body.is_empty() {
                self.random.bytes(4000)
            } else {
                arrival.body.remove(0)
            };
            if !in_order {
                garble(&mut piece, &mut self.random);
            }
            let end = arrival.body.is_empty() && !self.random.once_in(4);
            self.note(format!("{context} data {}, end {end}", piece.len()));
            let _: Result<(), HostError> =
                self.worker(plug.worker).data(id, Side::Request, piece, end);
        }
        self.streams[index].arrival = Some(arrival);
    }

    /// The upstream answers, if it has anything to answer.
    fn response(&mut self) {
        let Some(index) = self.live() else { return };
        let Stream {
            plug, id, context, ..
        } = self.streams[index];
        let (choice, bytes) = (self.random.below(5), self.random.bytes(4000));
        let end = self.random.once_in(2);
        let status = self
            .random
            .pick(&["200", "101", "204", "503", "x"])
            .to_string();
        self.note(format!("{context} response {choice}, end {end}"));
        let worker = self.worker(plug.worker);
        // It errs where there is no request to answer, or the response is past that.
        let _: Result<(), HostError> = match choice {
            0 => worker.respond(id, &ResponseScript::default()),
            1 => {
                let headers = headers([
                    (b":status".to_vec(), status.into_bytes()),
                    (b"x-ratelimit-limit".to_vec(), bytes),
                ]);
                worker.headers(id, Side::Response, headers, end)
            }
            2 => worker.data(id, Side::Response, bytes, end),
            3 => worker.trailers(id, Side::Response, headers([(b"a".to_vec(), bytes)])),
            _ => worker.upstream_reset(id),
        };
    }

    fn raw_stream(&mut self) {
        let Some(index) = self.live() else { return };
        let stream = self.streams[index].clone();
        if !stream.created {
            return;
        }
        let callback = *self.random.pick(STREAM_CALLBACKS);
        let (size, end) = (self.random.number(), u32::from(self.random.once_in(2)));
        self.raw(stream.plug.worker, callback, &[stream.context, size, end]);
    }

    fn raw_root(&mut self) {
        if self.plugs.is_empty() {
            return;
        }
        let plug = *self.random.pick(&self.plugs);
        let Some(root) = self.worker(plug.worker).root_context(plug.root) else {
            return;
        };
        let callback = *self.random.pick(ROOT_CALLBACKS);
        let (a, b) = (self.random.number(), self.random.number());
        self.raw(plug.worker, callback, &[root, a, b]);
    }

    fn raw(&mut self, worker: usize, callback: Callback, arguments: &[u32]) {
        self.note(format!("call {callback} {arguments:?}"));
        let returned = self
            .worker(worker)
            .call_raw(Invocation::new(callback, arguments));
        if let Err(trap) = returned {
            panic!("{trap}");
        }
        self.tally.callbacks.insert(callback);
    }

    fn end(&mut self) {
        let Some(index) = self.live() else { return };
        let stream = self.streams[index].clone();
        let (choice, context) = (self.random.below(4), stream.context);
        self.note(format!("{context} ends: {choice}"));
        let worker = self.worker(stream.plug.worker);
        match choice {
            0 => worker.disconnect(stream.id).unwrap(),
            1 => worker.time_out(stream.id).unwrap(),
            2 => {
                worker.disconnect(stream.id).unwrap();
                self.forget(index);
                self.worker(stream.plug.worker).forget(stream.id).unwrap();
            }
            _ if stream.created => {
                self.raw(stream.plug.worker, Callback::Delete, &[context]);
                self.forget(index);
            }
            _ => {}
        }
    }

    fn time(&mut self) {
        let far = self.random.next();
        let choice = self.random.below(4);
        self.note(format!("time {choice} {far}"));
        match choice {
            0 => self.world.clock().set_wall(far),
            1 => self.world.clock().set_monotonic(far),
            2 => self
                .world
                .advance(Duration::from_nanos(far % 1_000_000_000)),
            _ => self.world.advance(Duration::from_secs(far % 300)),
        }
    }

    /// Another plugin writes into our shared data.
    fn spoil(&mut self) {
        let vm_id = self.world.settings().vm_id.clone();
        let all = self.world.shared_data().dump(&vm_id);
        if all.is_empty() {
            return;
        }
        let (key, mut value) = self.random.pick(&all).clone();
        garble(&mut value, &mut self.random);
        self.note(format!("spoil {}", key.escape_ascii()));
        let written = self.world.shared_data().set(&vm_id, &key, &value, 0);
        written.unwrap();
        if self.random.once_in(4) {
            let last = self.random.number();
            self.world.shared_data().set_last_cas(last);
        }
    }
}

/// Callbacks that any stream may get in this test, known to the guest as it is.
pub(super) const STREAM_CALLBACKS: &[Callback] = &[
    Callback::RequestHeaders,
    Callback::RequestBody,
    Callback::RequestTrailers,
    Callback::ResponseHeaders,
    Callback::ResponseBody,
    Callback::ResponseTrailers,
    Callback::ForeignFunction,
    Callback::Done,
    Callback::Log,
];

/// Callbacks that any root may get.
pub(super) const ROOT_CALLBACKS: &[Callback] = &[
    Callback::Configure,
    Callback::VmStart,
    Callback::Tick,
    Callback::QueueReady,
    Callback::ForeignFunction,
    Callback::Done,
    Callback::Log,
    // With tokens of calls that were never made.
    Callback::GrpcReceiveInitialMetadata,
    Callback::GrpcReceive,
    Callback::GrpcReceiveTrailingMetadata,
    Callback::GrpcClose,
];

/// The calls that fail: one kind, or all.
const AIMS: &[Option<HostCall>] = &[
    None,
    None,
    None,
    Some(HostCall::AddHeaderMapValue),
    Some(HostCall::AddHeaderMapValue),
    Some(HostCall::RemoveHeaderMapValue),
    Some(HostCall::RemoveHeaderMapValue),
    Some(HostCall::ReplaceHeaderMapValue),
    Some(HostCall::ReplaceHeaderMapValue),
    Some(HostCall::GetHeaderMapPairs),
    Some(HostCall::SetSharedData),
    Some(HostCall::RandomGet),
];

/// The knobs of a host, good and bad.
fn settings(random: &mut Random) -> Settings {
    let capabilities = random.once_in(8).then(|| {
        let mut calls = statuses::MADE.to_vec();
        calls.push(HostCall::SetEffectiveContext);
        calls.remove(random.below(calls.len() - 1));
        calls
    });
    Settings {
        allow_on_headers_stop_iteration: !random.once_in(4),
        buffer_limit: *random.pick(&[1 << 20, 1 << 20, 100]),
        upstream_codec: random.once_in(2),
        log_level: *random.pick(&[LogLevel::Trace, LogLevel::Info, LogLevel::Critical]),
        environment: portcullis_corpus::environment(),
        trace: false,
        capabilities,
        ..Settings::default()
    }
}

/// Makes other bytes of some.
fn garble(bytes: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(bytes.len() + 1).min(bytes.len());
    match random.below(5) {
        0 => bytes.clear(),
        1 => bytes.truncate(place),
        2 => bytes.extend(random.bytes(3000)),
        3 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
        _ => *bytes = random.bytes(3000),
    }
}
