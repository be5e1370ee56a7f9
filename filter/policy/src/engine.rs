//! The order of checks.

mod ask;
mod charge;
mod domain;
mod draft;
mod examine;
mod quota;
mod screen;
mod supply;

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::net::IpAddr;

use lru::LruCache;

pub use self::ask::Waiting;
use self::ask::{Question, Resolved};
use self::charge::Cost;
pub use self::domain::Lesson;
use self::domain::Stop;
use self::draft::Draft;
use self::examine::{Finding, Knowledge, examine};
use self::quota::Replay;
pub use self::supply::{BundleState, FeedsState, Notice, Supply};
use self::supply::{MAX_REPLICAS, Replicas};
use crate::access::Source;
use crate::account::{AccountStore, StoreError};
use crate::asks::Asks;
use crate::client::{ClientCharge, Clients};
use crate::comparison::Comparison;
use crate::credential;
use crate::feeds::Shelves;
use crate::forward::Edits;
use crate::key::lookup::Lookups;
use crate::key::{Key, KeyBundle, KeyDigest, KeyStore};
use crate::limit::Leases;
use crate::limiter::{Charged, Limiter};
use crate::listing::Listings;
use crate::policy::{Api, Mode, Policy};
use crate::queue::{Hold, Queue, Release};
use crate::rate::RateHeaders;
use crate::reason::Reason;
use crate::record::{EXPLANATION, Record, Rule, RuleKind};
use crate::reply::{Dialect, Particulars, Reply};
use crate::request::{Head, Moment, Request};
use crate::route::Route;
use crate::schema::Fault;
use crate::screen::Source as Screenable;
use crate::verdicts::Verdicts;

/// A worker's decision maker, and what it remembers between requests
///
/// It outlives policies: a new one takes over the accounts as they stand.
#[derive(Debug)]
pub struct Engine {
    limiter: Limiter,
    clients: Clients,
    queue: Queue,
    keys: KeyStore,
    asks: Asks,
    lookups: Lookups,
    replicas: Replicas,
    listings: Listings,
    shelves: Shelves,
    verdicts: Verdicts,
}

/// What an engine begins with; the same for all workers that share a store
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Random bytes, so that nobody can aim at another client's bucket
    pub seed: [u8; 16],
    /// When the store began, in monotonic nanoseconds
    pub born: u64,
}

/// What a shell has to do next
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every step is large: most decide at once, and one that waits is boxed where it waits"
)]
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Carry the decision out
    Decided(Outcome),
    /// Find the client's address, and hand it to [`Engine::with_client`]
    AwaitClient(AwaitClient),
    /// Hold the request until its body is in, and hand that to [`Engine::with_body`]
    AwaitBody(AwaitBody),
    /// Hold the request, its body and its trailers until another service has answered: hand it to
    /// [`Engine::ask`]
    Ask(Box<Waiting>),
}

/// A decision, and what is to be told of it
#[derive(Debug)]
#[must_use]
pub struct Outcome {
    /// What becomes of the request
    pub decision: Decision,
    /// Why
    pub record: Record,
    /// The rate headers of the response; a [`Reply`] holds them already
    pub rate: Option<RateHeaders>,
    /// Present where the decision is carried out later: hand it to [`Engine::hold`]
    pub hold: Option<Hold>,
    /// What is to be given back when the request's stream ends, however it ends
    pub leases: Leases,
    /// What a success of the request teaches
    pub lesson: Option<Box<Lesson>>,
    /// Present where nothing comes of a verdict, and the upstream's answer is to be looked at beside it: what that
    /// says belongs in the record
    pub comparison: Option<Comparison>,
}

/// What becomes of a request
#[derive(Clone, Debug)]
pub enum Decision {
    /// It goes to the upstream, with these edits
    Forward(Edits),
    /// It is answered here
    Reply(Reply),
}

/// A request whose client's address has to be known
#[derive(Debug)]
pub struct AwaitClient(Client);

/// What the address is for
#[derive(Debug)]
enum Client {
    /// To charge it, or to show how it stands
    Settle { draft: Box<Draft>, charged: bool },
    /// To charge it for a question
    Ask(Box<Waiting>),
    /// To see whether a key may be used from it, or whose account it is
    Key(Box<Keyed>),
}

/// A request with a key, or one that needs none, whose headers were examined
#[expect(
    clippy::large_enum_variant,
    reason = "it is boxed where it waits: most requests go straight on"
)]
#[derive(Debug)]
enum Keyed {
    /// It is decided but for its limits
    Settle {
        draft: Draft,
        key: Rc<Key>,
        cost: Cost,
    },
    /// The list of its caller's domains has to be read first
    Ask {
        draft: Draft,
        key: Rc<Key>,
        waiting: Box<Waiting>,
    },
    /// Its body has to be read, unless its headers say that it can't be
    Body {
        waiting: AwaitBody,
        fault: Option<Fault>,
    },
}

/// A request whose body has to be read
#[derive(Debug)]
pub struct AwaitBody {
    draft: Draft,
    route: Rc<Route>,
    key: Rc<Key>,
    edits: Edits,
    rate: Option<RateHeaders>,
    /// The digest of its idempotency key
    idempotency_key: Option<[u8; 16]>,
}

/// A body, or what became of it
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// All of it
    Complete(&'a [u8]),
    /// It is longer than [`AwaitBody::max`]
    TooLarge,
}

impl AwaitBody {
    /// Longest body that is read, in bytes
    #[must_use]
    pub fn max(&self) -> usize {
        self.route.body.as_ref().map_or(0, |body| body.max)
    }

    /// The edits that are known before the body is: all there are with
    /// [`Pause::Body`](crate::Pause::Body), where the headers go on before it
    #[must_use]
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    /// Whether nothing comes of the decision, for who is asking: not one byte of the request may change
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.draft.is_observed
    }

    /// The rate headers of a response that comes before the decision, such as a timeout
    #[must_use]
    pub fn rate(&self) -> Option<&RateHeaders> {
        self.rate.as_ref()
    }
}

impl Outcome {
    /// A refusal by a shell that can't decide: [`Reason::NotReady`] without a valid policy,
    /// [`Reason::HostFailed`] when the host refuses what the decision needs
    pub fn unavailable(reason: Reason, decision: u128) -> Self {
        let decision = decision.into();
        let particulars = Particulars {
            retry_after: Some(0),
            ..Particulars::default()
        };
        let reply = Reply::refuse(
            reason,
            Dialect::Problem,
            None,
            decision,
            None,
            None,
            particulars,
        );
        let record = Record {
            decision,
            reason,
            mode: Mode::Enforce,
            rule: Rule::new(RuleKind::Builtin, "builtin.host"),
            policy: None,
            api: None,
            route: None,
            key: None,
            class: None,
            remaining: None,
            wait: None,
            limit_status: None,
            verdict: None,
            extras: None,
        };
        Self {
            decision: Decision::Reply(reply),
            record,
            rate: None,
            hold: None,
            leases: Leases::default(),
            lesson: None,
            comparison: None,
        }
    }

    /// The same, recorded as a policy wants it
    pub fn recorded_by(mut self, policy: Option<&Rc<Policy>>) -> Self {
        self.record.policy = policy.cloned();
        self
    }
}

impl Engine {
    /// A decision maker that remembers nothing yet
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            limiter: Limiter::new(settings.born),
            clients: Clients::new(settings.seed),
            queue: Queue::default(),
            keys: KeyStore::default(),
            asks: Asks::default(),
            lookups: Lookups::default(),
            replicas: LruCache::new(MAX_REPLICAS),
            listings: Listings::default(),
            shelves: Shelves::default(),
            verdicts: Verdicts::new(settings.seed),
        }
    }

    /// Puts a bundle of keys in force, in place of the one that its API has
    ///
    /// It stays in force over policies: one that has other tiers or scopes is to adopt its bytes
    /// anew, for of a record that is not good by the policy in force the key is unknown.
    pub fn adopt(&mut self, bundle: KeyBundle) {
        self.keys.adopt(bundle);
    }

    /// The bundle of keys in force of an API of a policy, be it the policy's own
    #[must_use]
    pub fn bundle<'s>(&'s self, policy: &'s Policy, api: &str) -> Option<&'s KeyBundle> {
        let api = policy
            .apis
            .iter()
            .find(|known| known.name.as_str() == api)?;
        self.keys.bundle(api).map(Rc::as_ref)
    }

    /// Holds a request, which the shell knows by its stream
    pub fn hold(&mut self, stream: u32, hold: Hold) {
        self.queue.push(stream, hold);
    }

    /// Whether a request is held
    #[must_use]
    pub fn holds(&self, stream: u32) -> bool {
        self.queue.holds(stream)
    }

    /// When the next request is to be released, in monotonic nanoseconds
    #[must_use]
    pub fn next_release(&self) -> Option<u64> {
        self.queue.next()
    }

    /// Takes the first request whose time has come out of the queue
    pub fn release(&mut self, now: u64) -> Option<(u32, Release)> {
        self.queue.pop(now)
    }

    /// Forgets a request that is held and whose client has left; those behind it move up
    ///
    /// Returns what it would have been answered, had it come too late: for a shell that gives it
    /// up itself.
    pub fn leave(&mut self, stream: u32, store: &mut dyn AccountStore) -> Option<Outcome> {
        let (left, free) = self.queue.leave(stream)?;
        self.limiter.give_back(&free, store);
        Some(*left.late)
    }

    /// Decides on a request by its headers, as far as they go
    pub fn on_headers(
        &mut self,
        policy: &Rc<Policy>,
        request: &Request<'_>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        self.decide(policy, request, None, moment, store)
    }

    /// Decides on a request by its headers, and by what came of the question that it has asked before
    fn decide(
        &mut self,
        policy: &Rc<Policy>,
        request: &Request<'_>,
        resolved: Option<&Resolved<'_>>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let mut head = Head::scan(request.headers);
        let reserved = core::mem::take(&mut head.reserved);
        let api = head
            .authority
            .and_then(|authority| policy.api_of(authority));
        let mut draft = Draft::new(policy, api, &head, moment);
        draft.asks_why = reserved.iter().any(|name| name == EXPLANATION.as_bytes());
        draft.note(&head, request);
        let api = api.map(Rc::as_ref);
        let knowledge = Knowledge {
            keys: &mut self.keys,
            lookups: &mut self.lookups,
            replicas: &self.replicas,
            shelves: &self.shelves,
            resolved,
            now: moment.monotonic,
        };
        match examine(policy, api, (&head, request), knowledge, &mut draft, store) {
            Finding::Unkeyed {
                reason,
                rule,
                charged,
            } => {
                if reason.status() == 0 {
                    let mut edits = draft.edits(reserved);
                    edits.strip_credential = draft.strips_credential
                        && api.is_some_and(|api| {
                            credential::is_ours(&head, &api.terms, |digest| {
                                self.is_key(api, digest)
                            })
                        });
                    draft.edits = Some(edits);
                }
                draft.found(reason, rule);
                // Who has asked has paid.
                let charged = charged && resolved.is_none_or(|resolved| resolved.paid == 0);
                match request.client {
                    Some(client) => {
                        Step::Decided(self.settle_client(draft, charged, client, moment, store))
                    }
                    None => Step::AwaitClient(AwaitClient(Client::Settle {
                        draft: draft.into(),
                        charged,
                    })),
                }
            }
            Finding::Keyed {
                reason,
                rule,
                key,
                free,
            } => {
                if reason.status() == 0 {
                    draft.edits = Some(draft.edits_for(&key, reserved));
                }
                draft.found(reason, rule);
                draft.key = Some(Rc::clone(&key));
                let cost = Cost {
                    cells: 1,
                    spends_tier: !free,
                };
                let keyed = Keyed::Settle { draft, key, cost };
                self.admit(keyed, request.client, moment, store)
            }
            Finding::Body { route, key } => {
                let edits = if draft.is_observed {
                    Edits::none()
                } else {
                    let mut edits = draft.edits_for(&key, reserved);
                    // With `pause: body` they go on now.
                    edits.screen = draft.tags();
                    edits
                };
                draft.key = Some(Rc::clone(&key));
                let fault = route.body.as_ref();
                let fault = fault.and_then(|rule| rule.check_head(&head).err());
                let (idempotency_key, misuse) = match quota::key_of(&route, request) {
                    Ok(key) => (key, None),
                    Err(fault) => (None, Some(fault)),
                };
                let waiting = AwaitBody {
                    draft,
                    route,
                    key,
                    edits,
                    rate: None,
                    idempotency_key,
                };
                let fault = fault.or(misuse);
                let keyed = Keyed::Body { waiting, fault };
                self.admit(keyed, request.client, moment, store)
            }
            Finding::Ask(question) => match question {
                Question::Key(..) => {
                    let waiting = Waiting::new(policy, request, question);
                    self.ask_for_key(waiting, moment, store)
                }
                Question::Domains(listing) => {
                    let key = Rc::clone(&listing.key);
                    draft.key = Some(Rc::clone(&key));
                    let waiting = Waiting::new(policy, request, Question::Domains(listing)).into();
                    let keyed = Keyed::Ask {
                        draft,
                        key,
                        waiting,
                    };
                    self.admit(keyed, request.client, moment, store)
                }
            },
        }
    }

    /// What refuses a request that asks, because it could not go on whatever came back
    fn cannot_pay(
        &mut self,
        draft: &Draft,
        key: &Key,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Option<Result<Charged, StoreError>> {
        let spends = draft.route.as_ref().is_some_and(|route| route.spends_tier);
        let bucket = key.tier.bucket.as_ref().filter(|_| spends)?;
        let charge = draft.charge(key, bucket, 1);
        let peeked = self.limiter.peek(&charge, moment.monotonic, store);
        let can_pay = matches!(&peeked, Ok(Charged { result: Ok(()), .. }));
        (!can_pay).then_some(peeked)
    }

    /// Whether a digest is one of a key of an API, good or not, as far as is known here
    fn is_key(&self, api: &Api, digest: &KeyDigest) -> bool {
        let looked_up = |lookup| self.lookups.has(lookup, digest);
        self.keys.knows(api, digest) || api.lookup.as_deref().is_some_and(looked_up)
    }

    /// Decides on a request whose client's address was missing, as far as that goes
    pub fn with_client(
        &mut self,
        waiting: AwaitClient,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        match waiting.0 {
            Client::Settle { draft, charged } => {
                Step::Decided(self.settle_client(*draft, charged, client, moment, store))
            }
            Client::Ask(waiting) => self.pay_and_ask(*waiting, client, moment, store),
            Client::Key(keyed) => self.admit(*keyed, Some(client), moment, store),
        }
    }

    /// Decides on a request whose body was missing
    pub fn with_body(
        &mut self,
        waiting: AwaitBody,
        body: Body<'_>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let AwaitBody {
            mut draft,
            route,
            key,
            mut edits,
            idempotency_key,
            ..
        } = waiting;
        let Some(rule) = &route.body else {
            draft.found(Reason::HostFailed, Rc::clone(&route.rule));
            return draft.finish(None);
        };
        if let Body::Complete(bytes) = body {
            draft.replay = Replay::of(idempotency_key, bytes);
        }
        let read = match body {
            Body::Complete(bytes) => rule.read(bytes, &key.tier.name, draft.who),
            Body::TooLarge => Err(rule.fault(Reason::BodyTooLarge)),
        };
        let (body, class) = match read {
            Ok(read) => read,
            Err(fault) if !rule.binds(draft.who) => {
                draft.would(fault.reason, &fault.rule);
                draft.found_good(&route);
                draft.edits = Some(edits);
                return self.settle_principal(draft, &key, Cost::of(&route, 1), moment, store);
            }
            Err(fault) => {
                draft.particulars.field = fault.field;
                draft.found(fault.reason, fault.rule);
                return self.settle_principal(draft, &key, Cost::of(&route, 1), moment, store);
            }
        };
        let who = draft.who;
        rule.shadows(&body, &key.tier.name, who, &mut |fault| {
            draft.would(fault.reason, &fault.rule);
        });
        draft.class = class.map(|class| Rc::clone(&class.name));
        if rule.annotates {
            edits.class = draft.class.clone();
        }
        let source = Source::Body(&body);
        let judged = draft.judge_domains(&route, &key, source, moment.monotonic, store);
        if let Err(stop) = judged {
            match stop {
                Stop::Refused(reason, rule) => draft.found(reason, rule),
                // Nobody asks here: the list was asked for before.
                Stop::Ask(_) => draft.found(Reason::HostFailed, Rc::clone(&route.rule)),
            }
            return self.settle_principal(draft, &key, Cost::of(&route, 1), moment, store);
        }
        let source = Screenable::Body(&body);
        let screened = draft.screen(&rule.screens, source, rule.annotates, &self.shelves);
        if let Err((reason, rule)) = screened {
            draft.found(reason, rule);
            return self.settle_principal(draft, &key, Cost::of(&route, 1), moment, store);
        }
        draft.found_good(&route);
        if let Some(verdict) = &rule.verdict {
            let known = (&self.shelves, &mut self.verdicts);
            draft.judge(verdict, rule, &body, class, &mut edits, known);
        }
        draft.edits = Some(edits);
        self.settle_principal(
            draft,
            &key,
            Cost::of(&route, class.map_or(1, |class| class.cost)),
            moment,
            store,
        )
    }

    /// Goes on with a key that may be used from where its client is
    ///
    /// One that may not is whoever's has found it: its client spends, not its principal.
    fn admit(
        &mut self,
        keyed: Keyed,
        client: Option<Option<IpAddr>>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let key = keyed.key();
        let mut keyed = keyed;
        if key.wants_client() {
            let Some(client) = client else {
                return Step::AwaitClient(AwaitClient(Client::Key(keyed.into())));
            };
            let draft = keyed.draft();
            draft.client = client;
            if !key.admits(client) {
                let mut draft = keyed.into_draft();
                draft.refuse(Reason::KeyNetworkDenied, &key.rule, 0);
                draft.particulars = Particulars::default();
                draft.asks_why = false;
                return Step::Decided(self.settle_client(draft, true, client, moment, store));
            }
        }
        match keyed {
            Keyed::Settle { draft, key, cost } => {
                Step::Decided(self.settle_principal(draft, &key, cost, moment, store))
            }
            Keyed::Ask {
                mut draft,
                key,
                waiting,
            } => {
                if self.is_over(&mut draft, key.account, 1, moment, store) {
                    return Step::Decided(draft.finish_limited());
                }
                match self.cannot_pay(&draft, &key, moment, store) {
                    Some(refused) => Step::Decided(draft.charged(&key, moment.monotonic, refused)),
                    None => self.ask_or_decide(*waiting, moment, store),
                }
            }
            Keyed::Body { waiting, fault } => self.await_body(waiting, fault, moment, store),
        }
    }

    fn await_body(
        &mut self,
        mut waiting: AwaitBody,
        fault: Option<Fault>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let (route, key) = (Rc::clone(&waiting.route), Rc::clone(&waiting.key));
        let Some(rule) = &route.body else {
            return Step::AwaitBody(waiting);
        };
        // 429 at once where not even the cheapest class could go: the body would be read for
        // nothing.
        let (account, cells) = (key.account, rule.least_cost());
        if fault.is_none() && self.is_over(&mut waiting.draft, account, cells, moment, store) {
            return Step::Decided(waiting.draft.finish_limited());
        }
        let binds = key.tier.enforcement.binds(waiting.draft.who);
        let spends = route.spends_tier && !waiting.draft.is_exempt && binds;
        if let (true, Some(bucket)) = (spends, &key.tier.bucket) {
            let charge = waiting.draft.charge(&key, bucket, rule.least_cost());
            let peeked = match key.anonymous {
                Some(table) => {
                    let client = waiting.draft.client;
                    let charge = ClientCharge {
                        table,
                        client,
                        bucket,
                        cells: charge.cells,
                    };
                    self.clients.peek(charge, moment.monotonic, store)
                }
                None => self.limiter.peek(&charge, moment.monotonic, store),
            };
            let Ok(Charged {
                standing,
                result: Ok(()),
                ..
            }) = peeked
            else {
                return Step::Decided(waiting.draft.charged(&key, moment.monotonic, peeked));
            };
            if !waiting.is_observed() {
                waiting.rate = Some(waiting.draft.rate(standing, &key.tier.name));
            }
        }
        if let Some(fault) = fault {
            let mut draft = waiting.draft;
            if !rule.binds(draft.who) {
                draft.would(fault.reason, &fault.rule);
                draft.found_good(&route);
                draft.edits = Some(waiting.edits);
                let cost = Cost::of(&route, 1);
                return Step::Decided(self.settle_principal(draft, &key, cost, moment, store));
            }
            draft.particulars.field = fault.field;
            draft.found(fault.reason, fault.rule);
            return Step::Decided(self.settle_principal(
                draft,
                &key,
                Cost::of(&route, 1),
                moment,
                store,
            ));
        }
        Step::AwaitBody(waiting)
    }
}

impl Keyed {
    fn key(&self) -> Rc<Key> {
        let (Self::Settle { key, .. }
        | Self::Ask { key, .. }
        | Self::Body {
            waiting: AwaitBody { key, .. },
            ..
        }) = self;
        Rc::clone(key)
    }

    fn draft(&mut self) -> &mut Draft {
        let (Self::Settle { draft, .. }
        | Self::Ask { draft, .. }
        | Self::Body {
            waiting: AwaitBody { draft, .. },
            ..
        }) = self;
        draft
    }

    fn into_draft(self) -> Draft {
        let (Self::Settle { draft, .. }
        | Self::Ask { draft, .. }
        | Self::Body {
            waiting: AwaitBody { draft, .. },
            ..
        }) = self;
        draft
    }
}
