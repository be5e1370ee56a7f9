//! One sequence of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use portcullis_host::{
    Callback, Callout, CalloutReply, CalloutRequest, Clock, Event, Headers, Invocation, LogLevel,
    Module, Plugin, ResponseScript, Root, Settings, Side, StreamId, StreamState, World, header,
    headers,
};

use super::{
    Tally,
    answers::{Door, KEYS, Knowledge, Manner, Topic, key},
};
use crate::random::Random;

/// The cluster in which all services are.
pub(super) const SERVICE: &str = "service";

/// How many things are counted.
pub(super) const ALL: usize = 12 + 11;

/// How the policies hold bodies, and whether they bind.
const POLICIES: [(&str, &str); 3] = [
    ("headers", "enforce"),
    ("body", "enforce"),
    ("headers", "observe"),
];

/// Nobody waits longer: ten pages of a list, each with its timeout, ours beside it, and a tick.
const DEADLINE: Duration = Duration::from_secs(6);

/// Requests after which a gate whose services are well again lets one pass: breakers pause for two seconds, a file is
/// asked for again after two at the most, and a page of it takes a turn.
const PATIENCE: usize = 100;

/// A policy as a plugin.
pub(super) fn plugin(knowledge: &Knowledge, policy: usize) -> Plugin {
    let (pause, mode) = POLICIES[policy];
    Plugin::new("gate", knowledge.policy(pause, mode).to_string())
}

/// A request with a key.
pub(super) fn request(door: Door, method: &str, path: &str, number: usize) -> Headers {
    headers([
        (":method", method.to_owned()),
        (":path", path.to_owned()),
        (":authority", door.host().to_owned()),
        (":scheme", "http".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("authorization", format!("Bearer {}", key(number))),
    ])
}

/// Whether a call asks for a key.
pub(super) fn is_of_a_key(call: &Callout) -> bool {
    let CalloutRequest::Http { headers, .. } = &call.request else {
        return false;
    };
    header(headers, ":path").is_some_and(|path| path.starts_with(b"/k/"))
}

/// A sequence.
pub(super) struct Play<'a> {
    knowledge: &'a Knowledge,
    tally: &'a mut Tally,
    random: Random,
    world: World,
    /// By worker.
    roots: Vec<Root>,
    /// Which policy is in force.
    policy: usize,
    streams: Vec<Stream>,
    /// Calls that were answered.
    past: Vec<Callout>,
    /// Calls that the host forgot.
    lost: Vec<Callout>,
    told: Told,
    history: History,
}

#[derive(Clone)]
struct Stream {
    worker: usize,
    id: StreamId,
    door: Door,
    key: usize,
    /// What it is about, where lists decide.
    domain: &'static str,
    observes: bool,
    /// When its request was whole, in monotonic nanoseconds.
    whole: Option<u64>,
}

impl Stream {
    /// What a body names is known when it is whole; where bodies alone are held, its headers have gone on.
    fn is_judged_whole(&self) -> bool {
        self.door == Door::Listed
    }
}

/// What services have said, as far as anybody could read it: judged by the bytes that were sent.
#[derive(Default)]
struct Told {
    /// There is such a key.
    keys: BTreeSet<(Door, usize)>,
    /// There is none with this digest.
    unknown: BTreeSet<(Door, usize, usize)>,
    /// These bytes of a file, by version.
    places: BTreeMap<usize, BTreeSet<(usize, usize)>>,
    /// All of a file.
    file: bool,
    /// A list of a key's domains, whatever is in it.
    lists: BTreeSet<usize>,
    /// A domain of a key.
    names: BTreeSet<(usize, String)>,
}

impl Told {
    /// Takes an answer in as generously as a reader of it might.
    fn hear(&mut self, knowledge: &Knowledge, call: &Callout, topic: Topic, reply: &CalloutReply) {
        let CalloutReply::Http { headers, body, .. } = reply else {
            return;
        };
        let says = |status: &[u8]| headers.contains(&(b":status".to_vec(), status.to_vec()));
        match topic {
            Topic::Key { door, key, digest } => {
                if says(b"404") {
                    self.unknown.insert((door, key, digest));
                }
                if says(b"200") && knowledge.is_key(door, key, digest, body) {
                    self.keys.insert((door, key));
                }
            }
            Topic::Domains { key } => {
                if let Some(names) = Knowledge::names(body).filter(|_| says(b"200")) {
                    self.lists.insert(key);
                    self.names.extend(names.into_iter().map(|name| (key, name)));
                }
            }
            Topic::File if says(b"200") || says(b"206") => {
                for (version, place) in knowledge.places(call, headers, body) {
                    let places = self.places.entry(version).or_default();
                    places.insert((place.start, place.end));
                    self.file |= knowledge.is_whole(version, places);
                }
            }
            Topic::File => {}
        }
    }
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
    pub(super) fn new(
        module: &Module,
        knowledge: &'a Knowledge,
        seed: u64,
        tally: &'a mut Tally,
    ) -> Self {
        let mut random = Random::new(seed ^ 0x5e41_11ce);
        let mut world = World::new(Settings {
            log_level: LogLevel::Critical,
            environment: portcullis_corpus::environment(),
            trace: false,
            ..Settings::default()
        });
        world.on(SERVICE, CalloutReply::Silence, Duration::ZERO);
        for _ in 0..=random.below(2) {
            world.add_worker(module).unwrap();
        }
        let mut play = Self {
            knowledge,
            tally,
            random,
            world,
            roots: Vec::new(),
            policy: 0,
            streams: Vec::new(),
            past: Vec::new(),
            lost: Vec::new(),
            told: Told::default(),
            history: History {
                seed,
                lines: Vec::new(),
            },
        };
        play.configure();
        play
    }

    pub(super) fn run(mut self) {
        for _ in 0..30 + self.random.below(70) {
            self.event();
            self.examine();
        }
        // Services are silent now, and whoever waits is let go.
        for _ in 0..80 {
            self.pass(Duration::from_millis(100));
            self.examine();
        }
        for stream in &self.streams {
            let worker = self.world.worker(stream.worker).unwrap();
            let state = worker.state(stream.id).unwrap();
            assert_ne!(state, StreamState::Held, "{:?}", stream.id);
            worker.forget(stream.id).unwrap();
        }
        self.pass(Duration::from_millis(500));
        for call in self.world.callouts() {
            assert_eq!(self.knowledge.topic(&call), Topic::File, "{call:?}");
        }
        for worker in self.world.workers() {
            assert!(
                worker.contexts() <= 2,
                "{} contexts stay",
                worker.contexts()
            );
        }
        self.recover();
    }

    /// Services are well again: what they have is known again on each worker, whatever was before.
    fn recover(&mut self) {
        self.streams.clear();
        self.policy = 0;
        self.note("all is well".to_owned());
        let plugin = plugin(self.knowledge, self.policy);
        let workers = self.world.workers().iter_mut();
        self.roots = workers
            .map(|worker| worker.configure(&plugin).unwrap())
            .collect();
        for worker in 0..self.roots.len() {
            for door in Door::ALL {
                let path = match door {
                    Door::Listed => "/items/own.example",
                    _ => "/items",
                };
                let passed = (0..PATIENCE).any(|_| self.is_forwarded(worker, door, path));
                assert!(passed, "{door:?} on {worker} stays shut");
            }
        }
    }

    /// Whether a request of a good key passes while all services answer well.
    fn is_forwarded(&mut self, worker: usize, door: Door, path: &str) -> bool {
        let root = self.roots[worker];
        let guest = self.world.worker(worker).unwrap();
        let id = guest.open(root, &[]).unwrap();
        let headers = request(door, "GET", path, 0);
        guest.headers(id, Side::Request, headers, true).unwrap();
        for _ in 0..20 {
            for call in self.world.callouts() {
                let topic = self.knowledge.topic(&call);
                let good = Manner::Good;
                let reply = self.knowledge.answer(&call, topic, good, &mut self.random);
                self.world.answer(call.id, reply).unwrap();
            }
            self.pass(Duration::from_millis(100));
            let guest = self.world.worker(worker).unwrap();
            if guest.state(id) != Ok(StreamState::Held) {
                break;
            }
        }
        let guest = self.world.worker(worker).unwrap();
        let passed = guest.state(id) == Ok(StreamState::Forwarded);
        guest.forget(id).unwrap();
        passed
    }

    fn note(&mut self, line: String) {
        self.history.lines.push(line);
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn event(&mut self) {
        match self.random.below(100) {
            0..=29 => self.send(),
            30..=38 => self.go_on(),
            39..=66 => self.answer(),
            67..=71 => self.answer_again(),
            72..=74 => self.lose(),
            75..=81 => self.leave(),
            82..=94 => self.time(),
            95..=96 => self.configure(),
            _ => self.respond(),
        }
    }

    fn configure(&mut self) {
        self.policy = self.random.below(POLICIES.len());
        self.note(format!("policy {}", self.policy));
        let plugin = plugin(self.knowledge, self.policy);
        let workers = self.world.workers().iter_mut();
        self.roots = workers
            .map(|worker| worker.configure(&plugin).unwrap())
            .collect();
    }

    /// A client sends the headers of a request, or all of one.
    fn send(&mut self) {
        let worker = self.random.below(self.roots.len());
        let door = *self.random.pick(&Door::ALL);
        let key = self.random.below(KEYS);
        let has_body = self.random.once_in(3);
        // What a body names is always the same.
        let mut domain = "own.example";
        let (method, path) = match (has_body, door) {
            (true, _) => ("POST", "/items".to_owned()),
            (false, Door::Listed) => {
                domain = *self.random.pick(&["own.example", "other.example"]);
                ("GET", format!("/items/{domain}"))
            }
            (false, _) => ("GET", "/items".to_owned()),
        };
        self.note(format!("{door:?} {method} {path} {key} on {worker}"));
        let root = self.roots[worker];
        let guest = self.world.worker(worker).unwrap();
        let id = guest.open(root, &[]).unwrap();
        let headers = request(door, method, &path, key);
        guest
            .headers(id, Side::Request, headers, !has_body)
            .unwrap();
        let whole = (!has_body).then(|| self.now());
        self.count("requests");
        self.streams.push(Stream {
            worker,
            id,
            door,
            key,
            domain,
            observes: POLICIES[self.policy].1 == "observe",
            whole,
        });
    }

    /// A client sends the next piece of a body.
    fn go_on(&mut self) {
        let open = |stream: &Stream| stream.whole.is_none();
        let open: Vec<usize> = (0..self.streams.len())
            .filter(|index| open(&self.streams[*index]))
            .collect();
        if open.is_empty() {
            return;
        }
        let index = *self.random.pick(&open);
        let end = !self.random.once_in(3);
        let piece = match self.random.below(4) {
            0 => self.random.bytes(3000),
            1 => Vec::new(),
            _ => br#"{"name": "own.example"}"#.to_vec(),
        };
        let Stream { worker, id, .. } = self.streams[index];
        self.note(format!("{id:?} data {}, end {end}", piece.len()));
        let sent = self
            .world
            .worker(worker)
            .unwrap()
            .data(id, Side::Request, piece, end);
        if end || sent.is_err() {
            self.streams[index].whole = Some(self.now());
        }
    }

    /// A service answers, in whatever order.
    fn answer(&mut self) {
        let calls = self.world.callouts();
        if calls.is_empty() {
            return;
        }
        let call = self.random.pick(&calls).clone();
        let reply = self.make_up(&call);
        self.world.answer(call.id, reply).unwrap();
        self.past.push(call);
    }

    /// A service has answered already, or is too late.
    fn answer_again(&mut self) {
        // One that was forgotten may still be waited for.
        let is_lost = self.random.once_in(3);
        let calls = if is_lost { &self.lost } else { &self.past };
        if calls.is_empty() {
            return;
        }
        let call = self.random.pick(calls).clone();
        self.count("answers that come again, or late");
        if is_lost || self.random.once_in(2) {
            let reply = self.make_up(&call);
            self.world.answer_again(&call, reply);
            return;
        }
        // With numbers of its own, and nothing behind them: what comes of such a word the host does not do.
        let numbers = [
            self.random.number(),
            self.random.number(),
            self.random.number(),
        ];
        self.note(format!("word of {} again: {numbers:?}", call.token));
        let worker = usize::try_from(call.worker).unwrap();
        let [fields, body, trailers] = numbers;
        let arguments = [call.root_context, call.token, fields, body, trailers];
        let word = Invocation::new(Callback::HttpCallResponse, &arguments);
        let told = self.world.worker(worker).unwrap().call_raw(word);
        if let Err(trap) = told {
            panic!("{trap}");
        }
    }

    fn make_up(&mut self, call: &Callout) -> CalloutReply {
        let topic = self.knowledge.topic(call);
        // Mostly what services say: else nobody would ever get far.
        let manner = match self.random.below(3) {
            0 => Manner::Good,
            1 if topic == Topic::File => Manner::Good,
            1 => Manner::None,
            _ => *self.random.pick(&Manner::ALL),
        };
        self.note(format!("{topic:?} is answered: {manner:?}"));
        self.count(manner.name());
        let reply = self.knowledge.answer(call, topic, manner, &mut self.random);
        self.told.hear(self.knowledge, call, topic, &reply);
        reply
    }

    /// The host forgets a call.
    fn lose(&mut self) {
        let calls = self.world.callouts();
        if calls.is_empty() {
            return;
        }
        let call = self.random.pick(&calls).clone();
        self.note(format!("{:?} is lost", self.knowledge.topic(&call)));
        self.lost.push(self.world.lose(call.id).unwrap());
        self.count("calls that the host forgot");
    }

    /// A client leaves, or the host has enough of it.
    fn leave(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let index = self.random.below(self.streams.len());
        let Stream { worker, id, .. } = self.streams[index];
        let choice = self.random.below(3);
        self.note(format!("{id:?} leaves: {choice}"));
        let guest = self.world.worker(worker).unwrap();
        let waited = guest.state(id) == Ok(StreamState::Held);
        match choice {
            0 => guest.disconnect(id).unwrap(),
            1 => guest.time_out(id).unwrap(),
            _ => {
                guest.forget(id).unwrap();
                self.streams.remove(index);
            }
        }
        if waited {
            self.count("requests that left while they waited");
        }
    }

    fn time(&mut self) {
        let most = *self.random.pick(&[60, 400, 3000]);
        let by = u64::try_from(self.random.below(most)).unwrap();
        self.note(format!("{by} ms pass"));
        self.pass(Duration::from_millis(by));
    }

    fn respond(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let Stream { worker, id, .. } = *self.random.pick(&self.streams);
        let guest = self.world.worker(worker).unwrap();
        if guest.state(id) == Ok(StreamState::Forwarded) {
            guest.respond(id, &ResponseScript::default()).unwrap();
        }
    }

    fn now(&self) -> u64 {
        self.world.clock().monotonic()
    }

    /// Time passes, and nobody waits beyond its deadline.
    fn pass(&mut self, by: Duration) {
        self.world.advance(by);
        let now = self.now();
        for stream in &self.streams {
            let worker = self.world.worker(stream.worker).unwrap();
            if worker.state(stream.id) == Ok(StreamState::Held) {
                let waited = stream.whole.map(|since| Duration::from_nanos(now - since));
                assert!(
                    waited <= Some(DEADLINE),
                    "{:?} waits for {waited:?}",
                    stream.id
                );
            }
        }
    }

    /// Looks at what has become of the requests.
    fn examine(&mut self) {
        for worker in self.world.workers() {
            assert!(worker.traps().is_empty(), "{:?}", worker.traps());
        }
        for index in 0..self.streams.len() {
            let stream = self.streams[index].clone();
            let worker = self.world.worker(stream.worker).unwrap();
            for event in worker.take_events(stream.id).unwrap() {
                match event {
                    Event::Headers {
                        side: Side::Request,
                        end,
                        ..
                    } if end || !stream.is_judged_whole() => self.forwarded(&stream),
                    Event::Data {
                        side: Side::Request,
                        end: true,
                        ..
                    } if stream.is_judged_whole() => self.forwarded(&stream),
                    Event::Headers {
                        side: Side::Response,
                        headers,
                        ..
                    } => {
                        let status = header(&headers, ":status").unwrap();
                        let status = str::from_utf8(status).unwrap().parse().unwrap();
                        self.answered(&stream, status);
                    }
                    _ => {}
                }
            }
        }
    }

    fn forwarded(&mut self, stream: &Stream) {
        let Stream {
            door, key, domain, ..
        } = *stream;
        if stream.observes {
            self.count("requests observed");
            return;
        }
        let may = match door {
            Door::Looked | Door::Peppered => self.told.keys.contains(&(door, key)),
            Door::Bundled => key % 2 == 0 && self.told.file,
            Door::Listed => self.told.names.contains(&(key, domain.to_owned())),
        };
        assert!(
            may,
            "{door:?} {key} passed to {domain}, and nobody has said that it may"
        );
        self.count(match door {
            Door::Looked => "passed by a lookup",
            Door::Peppered => "passed by a lookup under a pepper",
            Door::Bundled => "passed by a file",
            Door::Listed => "passed by a list",
        });
    }

    fn answered(&mut self, stream: &Stream, status: u16) {
        let Stream { door, key, .. } = *stream;
        let said = |digest| self.told.unknown.contains(&(door, key, digest));
        match status {
            401 => {
                let may = match door {
                    Door::Looked => said(0),
                    Door::Peppered => said(1) && said(2),
                    Door::Bundled => self.told.file,
                    Door::Listed => false,
                };
                assert!(may, "{door:?} {key} is 401, and nobody has said so");
                self.count("refused with 401");
            }
            403 => {
                let may = door == Door::Listed && self.told.lists.contains(&key);
                assert!(may, "{door:?} {key} is 403, and nobody has said so");
                self.count("refused with 403");
            }
            503 => self.count("refused with 503"),
            _ => {}
        }
    }
}
