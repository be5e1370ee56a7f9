//! The order of checks.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::account::{AccountStore, StoreError};
use crate::client::{ClientCharge, Clients};
use crate::credential;
use crate::forward::Edits;
use crate::key::Key;
use crate::limiter::{Charge, Charged, Limiter};
use crate::node::Node;
use crate::path::{self, CheckedPath};
use crate::policy::{Api, Policy};
use crate::rate::RateHeaders;
use crate::reason::Reason;
use crate::record::{Record, Rule, RuleKind};
use crate::reply::{Dialect, Particulars, Reply};
use crate::request::{Head, Moment, One, Request};
use crate::route::{Access, BodyRule, Class, OnUnknown, Route, VerdictRule};
use crate::target::Target;
use crate::template::Match;
use crate::verdict::{Asked, Classification, Verdict};

/// A worker's decision maker, and what it remembers between requests
///
/// It outlives policies: a new one takes over the accounts as they stand.
#[derive(Debug)]
pub struct Engine {
    limiter: Limiter,
    clients: Clients,
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
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Carry the decision out
    Decided(Outcome),
    /// Find the client's address, and hand it to [`Engine::with_client`]
    AwaitClient(AwaitClient),
    /// Hold the request until its body is in, and hand that to [`Engine::with_body`]
    AwaitBody(AwaitBody),
}

/// A decision, and what is to be told of it
#[derive(Clone, Debug)]
#[must_use]
pub struct Outcome {
    /// What becomes of the request
    pub decision: Decision,
    /// Why
    pub record: Record,
    /// The rate headers of the response; a [`Reply`] holds them already
    pub rate: Option<RateHeaders>,
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
pub struct AwaitClient {
    draft: Draft,
    charged: bool,
}

/// A request whose body has to be read
#[derive(Debug)]
pub struct AwaitBody {
    draft: Draft,
    route: Rc<Route>,
    key: Rc<Key>,
    edits: Edits,
    rate: Option<RateHeaders>,
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

    /// The rate headers of a response that comes before the decision, such as a timeout
    #[must_use]
    pub fn rate(&self) -> Option<RateHeaders> {
        self.rate
    }
}

impl Outcome {
    /// A refusal by a shell that can't decide: [`Reason::NotReady`] without a valid policy,
    /// [`Reason::HostFailed`] when the host refuses what the decision needs
    pub fn unavailable(reason: Reason, decision: u128) -> Self {
        let rule = Rule::new(RuleKind::Builtin, "builtin.host");
        let particulars = Particulars {
            retry_after: Some(0),
            ..Particulars::default()
        };
        let reply = Reply::refuse(reason, Dialect::Problem, decision.into(), None, particulars);
        let record = Record {
            decision: decision.into(),
            reason,
            rule,
            route: None,
            key: None,
            class: None,
            remaining: None,
        };
        Self {
            decision: Decision::Reply(reply),
            record,
            rate: None,
        }
    }
}

impl Engine {
    /// A decision maker that remembers nothing yet
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            limiter: Limiter::new(settings.born),
            clients: Clients::new(settings.seed),
        }
    }

    /// Decides on a request by its headers, as far as they go
    pub fn on_headers(
        &mut self,
        policy: &Rc<Policy>,
        request: &Request<'_>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let mut head = Head::scan(request.headers);
        let reserved = core::mem::take(&mut head.reserved);
        let mut draft = Draft::new(policy, &head, moment);
        match examine(policy, &head, request, &mut draft) {
            Finding::Unkeyed {
                reason,
                rule,
                charged,
            } => {
                if reason.status() == 0 {
                    draft.edits = Some(Edits::new(moment.decision, reserved));
                }
                draft.found(reason, rule);
                match request.client {
                    Some(client) => {
                        Step::Decided(self.settle_client(draft, charged, client, moment, store))
                    }
                    None => Step::AwaitClient(AwaitClient { draft, charged }),
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
                Step::Decided(self.settle_principal(
                    draft,
                    &key,
                    if free { 0 } else { 1 },
                    moment,
                    store,
                ))
            }
            Finding::Body { route, key } => {
                let edits = draft.edits_for(&key, reserved);
                draft.key = Some(Rc::clone(&key));
                self.await_body(
                    AwaitBody {
                        draft,
                        route,
                        key,
                        edits,
                        rate: None,
                    },
                    &head,
                    moment,
                    store,
                )
            }
        }
    }

    /// Decides on a request whose client's address was missing
    pub fn with_client(
        &mut self,
        waiting: AwaitClient,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        self.settle_client(waiting.draft, waiting.charged, client, moment, store)
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
            ..
        } = waiting;
        let Some(rule) = &route.body else {
            draft.found(Reason::HostFailed, Rc::clone(&route.rule));
            return draft.finish(None);
        };
        let read = match body {
            Body::Complete(bytes) => rule.read(bytes),
            Body::TooLarge => Err(rule.fault(Reason::BodyTooLarge)),
        };
        let (body, class) = match read {
            Ok(read) => read,
            Err(fault) => {
                draft.particulars.field = fault.field;
                draft.found(fault.reason, fault.rule);
                return self.settle_principal(draft, &key, route.cost(1), moment, store);
            }
        };
        draft.class = class.map(|class| Rc::clone(&class.name));
        if rule.annotates {
            edits.class = draft.class.clone();
        }
        draft.found(Reason::Allowed, Rc::clone(&route.rule));
        if let Some(verdict) = &rule.verdict {
            draft.judge(verdict, rule, &body, class, &mut edits);
        }
        draft.edits = Some(edits);
        self.settle_principal(
            draft,
            &key,
            route.cost(class.map_or(1, |class| class.cost)),
            moment,
            store,
        )
    }

    fn await_body(
        &mut self,
        mut waiting: AwaitBody,
        head: &Head<'_>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Step {
        let (route, key) = (Rc::clone(&waiting.route), Rc::clone(&waiting.key));
        let Some(rule) = &route.body else {
            return Step::AwaitBody(waiting);
        };
        // 429 at once where not even the cheapest class could go: the body would be read for
        // nothing.
        if let (true, Some(bucket)) = (route.spends_tier, &key.tier.bucket) {
            let charge = waiting.draft.charge(&key, bucket, rule.least_cost());
            let peeked = self.limiter.peek(&charge, moment.monotonic, store);
            let Ok(Charged {
                standing,
                result: Ok(()),
            }) = peeked
            else {
                return Step::Decided(waiting.draft.charged(&key, peeked));
            };
            let unit = waiting.draft.dialect.reset_unit();
            waiting.rate = Some(RateHeaders::new(standing, moment.wall, unit));
        }
        if let Err(fault) = rule.check_head(head) {
            let mut draft = waiting.draft;
            draft.found(fault.reason, fault.rule);
            return Step::Decided(self.settle_principal(draft, &key, route.cost(1), moment, store));
        }
        Step::AwaitBody(waiting)
    }

    /// Charges the principal, whatever was found: abuse is not free
    fn settle_principal(
        &mut self,
        draft: Draft,
        key: &Rc<Key>,
        cells: u64,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let Some(bucket) = &key.tier.bucket else {
            return draft.finish(None);
        };
        let charge = draft.charge(key, bucket, cells);
        let now = moment.monotonic;
        let charged = if cells == 0 {
            self.limiter
                .peek(&charge, now, store)
                .map(|peeked| Charged {
                    result: Ok(()),
                    ..peeked
                })
        } else {
            self.limiter.charge(&charge, now, store)
        };
        draft.charged(key, charged)
    }

    /// Charges the client's address, or only shows how it stands
    fn settle_client(
        &mut self,
        mut draft: Draft,
        charged: bool,
        client: Option<IpAddr>,
        moment: Moment,
        store: &mut dyn AccountStore,
    ) -> Outcome {
        let policy = Rc::clone(&draft.policy);
        let bucket = &policy.unauthenticated;
        let charge = ClientCharge {
            namespace: &policy.namespace,
            client,
            bucket,
            cells: u64::from(charged),
        };
        match self.clients.charge(charge, moment.monotonic, store) {
            Ok(Charged { standing, result }) => {
                if let Err(refused) = result {
                    draft.refuse(
                        Reason::UnauthenticatedLimited,
                        &policy.rules.unauthenticated,
                        refused.retry_after,
                    );
                }
                let rate = RateHeaders::new(standing, moment.wall, draft.dialect.reset_unit());
                draft.finish(Some(rate))
            }
            // What is only shown is not worth a refusal.
            Err(_) if !charged => draft.finish(None),
            Err(error) => draft.store_error(error),
        }
    }
}

/// What the headers say of a request
enum Finding {
    /// No key is in play: the client's address spends, where it is charged
    Unkeyed {
        reason: Reason,
        rule: Rc<Rule>,
        charged: bool,
    },
    /// A good key: its principal spends, unless the route is free
    Keyed {
        reason: Reason,
        rule: Rc<Rule>,
        key: Rc<Key>,
        free: bool,
    },
    /// A good key on a route whose body has to be read
    Body { route: Rc<Route>, key: Rc<Key> },
}

/// The checks of a request's headers, in their order; the first that fails is the reason
fn examine(policy: &Policy, head: &Head<'_>, request: &Request<'_>, draft: &mut Draft) -> Finding {
    let rules = &policy.rules;
    let unkeyed = |reason, rule: &Rc<Rule>, charged| Finding::Unkeyed {
        reason,
        rule: Rc::clone(rule),
        charged,
    };
    if head.method == b"CONNECT" {
        return unkeyed(Reason::ConnectRefused, &rules.guard, false);
    }
    let (Ok(method), Some(raw_path)) = (core::str::from_utf8(head.method), head.path) else {
        return unkeyed(Reason::RequestMalformed, &rules.guard, false);
    };
    if method.is_empty() {
        return unkeyed(Reason::RequestMalformed, &rules.guard, false);
    }
    let Some(path) = path::check(raw_path) else {
        return unkeyed(Reason::PathInvalid, &rules.guard, false);
    };
    if let Some(finding) = examine_probes(policy, method, &path, draft) {
        return finding;
    }
    if policy.wants_client() {
        let denied = |client: IpAddr| {
            policy
                .denied_clients
                .iter()
                .any(|network| network.contains(&client))
        };
        // Where addresses are denied, a caller without one is in doubt.
        if request.client.flatten().is_none_or(denied) {
            return unkeyed(Reason::ClientDenied, &rules.clients, false);
        }
    }
    let Some(authority) = head.authority else {
        return unkeyed(Reason::RequestMalformed, &rules.guard, false);
    };
    let Some(api) = policy.api_of(authority) else {
        return match crate::host::normalise(authority) {
            Some(_) => unkeyed(Reason::HostUnknown, &rules.hosts, true),
            None => unkeyed(Reason::RequestMalformed, &rules.guard, false),
        };
    };
    let found = api.router.find(method, &path);
    if is_preflight(head) && api.forwards_preflight && is_known(api, head, &path) {
        return unkeyed(Reason::Preflight, &api.preflight_rule, false);
    }
    if let Match::Ambiguous = found {
        return unkeyed(Reason::PathInvalid, &rules.guard, false);
    }
    if let Match::Route(route) = &found
        && let Access::Public { charged } = route.access
    {
        draft.route = Some(Rc::clone(route));
        if let Err(rule) = check_upgrade(head, Some(route), &rules.guard) {
            return unkeyed(Reason::UpgradeRefused, &rule, charged);
        }
        return unkeyed(Reason::Public, &route.rule, charged);
    }
    let key = match authenticate(api, head, &path, draft) {
        Ok(key) => key,
        Err((reason, rule)) => {
            // What is not there is not told from what is, without a key: but a caller without any
            // credential learns that a path or method does not exist.
            if let (Reason::CredentialMissing, Some((reason, rule))) =
                (reason, absence(policy, api, &found, draft))
            {
                draft.particulars.challenge = None;
                return unkeyed(reason, &rule, true);
            }
            return unkeyed(reason, &rule, true);
        }
    };
    examine_keyed(policy, api, head, found, key, draft)
}

fn examine_keyed(
    policy: &Policy,
    api: &Api,
    head: &Head<'_>,
    found: Match<'_>,
    key: Rc<Key>,
    draft: &mut Draft,
) -> Finding {
    let keyed = |reason, rule: &Rc<Rule>, key, free| Finding::Keyed {
        reason,
        rule: Rc::clone(rule),
        key,
        free,
    };
    if let Some((reason, rule)) = absence(policy, api, &found, draft) {
        return keyed(reason, &rule, key, false);
    }
    let route = if let Match::Route(route) = found {
        Some(Rc::clone(route))
    } else {
        None
    };
    draft.route.clone_from(&route);
    let free = route.as_ref().is_some_and(|route| !route.spends_tier);
    if let Err(rule) = check_upgrade(head, route.as_deref(), &policy.rules.guard) {
        return keyed(Reason::UpgradeRefused, &rule, key, free);
    }
    let Some(route) = route else {
        return keyed(Reason::Allowed, &api.unmatched_rule, key, false);
    };
    if key.scopes & route.scopes != route.scopes {
        let scopes = &route.scope_names;
        draft.particulars.challenge = Some(format!(
            "Bearer realm=\"{}\", error=\"insufficient_scope\", scope=\"{scopes}\"",
            api.name
        ));
        return keyed(Reason::ScopeMissing, &route.scope_rule, key, free);
    }
    if route.body.is_some() {
        return Finding::Body { route, key };
    }
    keyed(Reason::Allowed, &route.rule, key, free)
}

fn examine_probes(
    policy: &Policy,
    method: &str,
    path: &CheckedPath<'_>,
    draft: &mut Draft,
) -> Option<Finding> {
    let probes = &policy.probes;
    if path.encoded != 0 {
        return None;
    }
    let reads = method == "GET" || method == "HEAD";
    if reads && probes.ready.as_deref() == Some(path.path) {
        draft.answer = Some(Answer::Ready(policy.revision.to_string()));
        let rule = Rc::clone(&policy.rules.ready);
        return Some(Finding::Unkeyed {
            reason: Reason::Ready,
            rule,
            charged: false,
        });
    }
    let same_method = |exempt: &str| exempt == method || (exempt == "GET" && method == "HEAD");
    let exempt = probes
        .exempt
        .iter()
        .any(|(exempt, at)| at == path.path && same_method(exempt));
    exempt.then(|| Finding::Unkeyed {
        reason: Reason::Exempt,
        rule: Rc::clone(&policy.rules.exempt),
        charged: false,
    })
}

/// A CORS preflight (Fetch standard, section 3.2.2)
fn is_preflight(head: &Head<'_>) -> bool {
    head.method == b"OPTIONS" && !head.origin.is_absent() && !head.requested_method.is_absent()
}

/// Whether some route has the path, for whatever method
fn is_known(api: &Api, head: &Head<'_>, path: &CheckedPath<'_>) -> bool {
    let One::Once(method) = head.requested_method else {
        return false;
    };
    let Ok(method) = core::str::from_utf8(method) else {
        return false;
    };
    matches!(
        api.router.find(method, path),
        Match::Route(_) | Match::Methods(_)
    )
}

/// Why a path is not there, where it isn't
fn absence(
    policy: &Policy,
    api: &Api,
    found: &Match<'_>,
    draft: &mut Draft,
) -> Option<(Reason, Rc<Rule>)> {
    match found {
        Match::Route(_) => None,
        Match::Ambiguous => Some((Reason::PathInvalid, Rc::clone(&policy.rules.guard))),
        Match::NearMiss(route) => Some((Reason::PathAmbiguous, Rc::clone(&route.rule))),
        Match::Methods(_) | Match::None if api.forwards_unmatched => None,
        Match::Methods(methods) => {
            let mut allow: Vec<_> = methods.iter().copied().collect();
            if api.forwards_preflight && !methods.contains("OPTIONS") {
                allow.push("OPTIONS");
            }
            draft.particulars.allow = Some(allow.join(", "));
            Some((Reason::MethodNotAllowed, Rc::clone(&api.unmatched_rule)))
        }
        Match::None => Some((Reason::RouteUnknown, Rc::clone(&api.unmatched_rule))),
    }
}

/// Finds the key of a request, good at this moment
fn authenticate(
    api: &Api,
    head: &Head<'_>,
    path: &CheckedPath<'_>,
    draft: &mut Draft,
) -> Result<Rc<Key>, (Reason, Rc<Rule>)> {
    let result = credential::read(head, path)
        .and_then(|digest| api.keys.get(&digest).ok_or(Reason::KeyUnknown))
        .map_err(|reason| (reason, &api.credential_rule))
        .and_then(|key| {
            key.check(draft.wall)
                .map(|()| key)
                .map_err(|reason| (reason, &key.rule))
        });
    result.map(Rc::clone).map_err(|(reason, rule)| {
        let realm = &api.name;
        // RFC 6750, section 3.1: no error code for a request without any credential.
        draft.particulars.challenge = Some(match reason {
            Reason::CredentialMissing => format!("Bearer realm=\"{realm}\""),
            _ => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
        });
        (reason, Rc::clone(rule))
    })
}

/// An upgrade is refused unless its route lets that very protocol through.
fn check_upgrade(head: &Head<'_>, route: Option<&Route>, guard: &Rc<Rule>) -> Result<(), Rc<Rule>> {
    let rule = || Rc::clone(route.map_or(guard, |route| &route.upgrade_rule));
    match (head.upgrade, route) {
        (One::Absent, _) => Ok(()),
        (One::Once(protocol), Some(route)) => {
            let protocol = protocol.trim_ascii().to_ascii_lowercase();
            let known = route
                .upgrades
                .iter()
                .any(|known| known.as_bytes() == protocol);
            if known { Ok(()) } else { Err(rule()) }
        }
        (One::Once(_) | One::Repeated, _) => Err(rule()),
    }
}

/// An outcome in the making
#[derive(Debug)]
struct Draft {
    policy: Rc<Policy>,
    dialect: Dialect,
    strips_credential: bool,
    wall: u64,
    decision: u128,
    is_head: bool,
    reason: Reason,
    rule: Rc<Rule>,
    route: Option<Rc<Route>>,
    key: Option<Rc<Key>>,
    class: Option<Rc<str>>,
    particulars: Particulars,
    edits: Option<Edits>,
    answer: Option<Answer>,
}

/// An answer that is no refusal
#[derive(Debug)]
enum Answer {
    /// The revision that is in force
    Ready(String),
    Verdict(Vec<u8>),
}

impl Draft {
    fn new(policy: &Rc<Policy>, head: &Head<'_>, moment: Moment) -> Self {
        let api = head
            .authority
            .and_then(|authority| policy.api_of(authority));
        Self {
            policy: Rc::clone(policy),
            dialect: api.map_or(Dialect::Problem, |api| api.dialect),
            strips_credential: api.is_some_and(|api| api.strips_credential),
            wall: moment.wall,
            decision: moment.decision,
            is_head: head.method == b"HEAD",
            // In doubt, refuse: whatever forgets to say what it found says this.
            reason: Reason::HostFailed,
            rule: Rc::clone(&policy.rules.guard),
            route: None,
            key: None,
            class: None,
            particulars: Particulars::default(),
            edits: None,
            answer: None,
        }
    }

    fn found(&mut self, reason: Reason, rule: Rc<Rule>) {
        self.reason = reason;
        self.rule = rule;
    }

    fn refuse(&mut self, reason: Reason, rule: &Rc<Rule>, retry_after: u64) {
        self.found(reason, Rc::clone(rule));
        self.particulars = Particulars {
            retry_after: Some(retry_after),
            ..Particulars::default()
        };
    }

    fn edits_for(&self, key: &Rc<Key>, reserved: Vec<Vec<u8>>) -> Edits {
        let mut edits = Edits::new(self.decision, reserved);
        edits.identity = Some(Rc::clone(key));
        edits.strip_credential = self.strips_credential;
        edits
    }

    fn charge<'a>(&self, key: &Key, bucket: &'a crate::bucket::Bucket, cells: u64) -> Charge<'a> {
        Charge {
            account: key.account,
            bucket,
            cells,
            max_accounts: self.policy.max_accounts,
        }
    }

    fn charged(mut self, key: &Key, charged: Result<Charged, StoreError>) -> Outcome {
        match charged {
            Ok(Charged { standing, result }) => {
                if let Err(refused) = result {
                    self.refuse(Reason::RateLimited, &key.tier.rule, refused.retry_after);
                }
                let rate = RateHeaders::new(standing, self.wall, self.dialect.reset_unit());
                self.finish(Some(rate))
            }
            Err(error) => self.store_error(error),
        }
    }

    fn store_error(mut self, error: StoreError) -> Outcome {
        let reason = match error {
            StoreError::Contended => Reason::StoreContended,
            StoreError::Failed => Reason::StoreFailed,
        };
        let rule = Rc::clone(&self.policy.rules.store);
        self.refuse(reason, &rule, 0);
        self.finish(None)
    }

    /// Judges the body's target: answers, or says why the request goes on
    fn judge(
        &mut self,
        verdict_rule: &VerdictRule,
        rule: &BodyRule,
        body: &Node,
        class: Option<&Class>,
        edits: &mut Edits,
    ) {
        let Some(Node::String(input)) = body.get(&verdict_rule.field) else {
            return;
        };
        let target = Target::classify(input);
        let verdict = Verdict::judge(&target, &self.policy.indicators);
        let unknown = verdict.classification == Classification::Unknown;
        let forwards = unknown && verdict_rule.on_unknown == OnUnknown::Forward;
        if !verdict_rule.answers(class) || forwards {
            if rule.annotates {
                edits.verdict = Some(verdict.to_header(&target));
            }
            return;
        }
        let asked = Asked {
            input,
            target: &target,
            mode: class.map_or("quick", |class| &class.name),
            metadata: body.get("metadata"),
            decision: &self.decision.into(),
            snapshot: self.policy.revision(),
        };
        self.answer = Some(Answer::Verdict(verdict.to_json(&asked)));
        self.found(Reason::Answered, Rc::clone(&verdict_rule.rule));
    }

    fn finish(self, rate: Option<RateHeaders>) -> Outcome {
        let decision = self.decision.into();
        let record = Record {
            decision,
            reason: self.reason,
            rule: self.rule,
            route: self.route,
            key: self.key,
            class: self.class,
            remaining: rate.map(|rate| rate.remaining()),
        };
        let reply = match (self.reason, self.answer, self.edits) {
            (Reason::Ready, Some(Answer::Ready(revision)), _) => {
                let body = serde_json::json!({ "ready": true, "revision": revision }).to_string();
                Reply::answer(body.into_bytes(), decision, rate.as_ref())
            }
            (Reason::Answered, Some(Answer::Verdict(body)), _) => {
                Reply::answer(body, decision, rate.as_ref())
            }
            (reason, _, Some(edits)) if reason.status() == 0 => {
                return Outcome {
                    decision: Decision::Forward(edits),
                    record,
                    rate,
                };
            }
            (reason, ..) => {
                let reason = if reason.status() == 0 {
                    Reason::HostFailed
                } else {
                    reason
                };
                Reply::refuse(
                    reason,
                    self.dialect,
                    decision,
                    rate.as_ref(),
                    self.particulars,
                )
            }
        };
        let reply = if self.is_head {
            reply.without_body()
        } else {
            reply
        };
        Outcome {
            decision: Decision::Reply(reply),
            record,
            rate,
        }
    }
}

impl Route {
    /// What a request costs on this route
    fn cost(&self, cells: u64) -> u64 {
        if self.spends_tier { cells } else { 0 }
    }
}
