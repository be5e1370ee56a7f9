//! The checks of a request's headers.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::ask::{Question, Resolved};
use super::domain::Stop;
use super::draft::{Answer, Draft};
use super::supply::Replicas;
use crate::access::Source;
use crate::account::AccountStore;
use crate::client;
use crate::credential;
use crate::enforcement::Enforcement;
use crate::feeds::Shelves;
use crate::host;
use crate::key::lookup::{Known, Lookups, Resolution};
use crate::key::{Exempted, Key, KeyStore};
use crate::path::{self, CheckedPath};
use crate::policy::{Api, Policy};
use crate::query;
use crate::reason::Reason;
use crate::record::Rule;
use crate::request::{Head, One, Request};
use crate::route::{Access, Route};
use crate::schema::Fault;
use crate::screen::Source as Screenable;
use crate::template::Match;

/// What the headers say of a request
pub(super) enum Finding {
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
    /// Whether the key is one is not known here
    Ask(Question),
}

/// What the checks know of keys beside the policy
pub(super) struct Knowledge<'a> {
    pub(super) keys: &'a mut KeyStore,
    pub(super) lookups: &'a mut Lookups,
    pub(super) replicas: &'a Replicas,
    pub(super) shelves: &'a Shelves,
    /// What came of the question that these checks have asked before
    pub(super) resolved: Option<&'a Resolved<'a>>,
    /// Monotonic nanoseconds
    pub(super) now: u64,
}

/// The checks of a request's headers, in their order; the first that fails is the reason
pub(super) fn examine(
    policy: &Policy,
    api: Option<&Api>,
    (head, request): (&Head<'_>, &Request<'_>),
    knowledge: Knowledge<'_>,
    draft: &mut Draft,
    store: &mut dyn AccountStore,
) -> Finding {
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
    if let Some(finding) = examine_probes(policy, method, &path, &knowledge, draft) {
        return finding;
    }
    if !policy.denied_clients.is_empty() {
        let denied = |client: IpAddr| {
            policy
                .denied_clients
                .iter()
                .any(|network| network.contains(&client))
        };
        // Where addresses are denied, a caller without one is in doubt.
        let client = request.client.flatten();
        if client.is_none_or(denied) {
            let who = || client::number(client);
            let binds = !policy.denial.is_partial() || policy.denial.binds(who());
            if binds && policy.denial != Enforcement::SHADOW {
                return unkeyed(Reason::ClientDenied, &rules.clients, false);
            }
            draft.would(Reason::ClientDenied, &rules.clients);
        }
    }
    if let Some(client) = draft.client
        && policy
            .exempt_clients
            .iter()
            .any(|network| network.contains(&client))
    {
        draft.exempt(&rules.exempt_clients);
    } else if !policy.client_screens.is_empty() {
        draft.who = client::number(draft.client);
        let source = Screenable::Head {
            headers: &[],
            query: None,
            client: draft.client,
        };
        let screens = &policy.client_screens;
        if let Err((reason, rule)) = draft.screen(screens, source, true, knowledge.shelves) {
            return unkeyed(reason, &rule, false);
        }
    }
    let Some(authority) = head.authority else {
        return unkeyed(Reason::RequestMalformed, &rules.guard, false);
    };
    let Some(api) = api else {
        if path.encoded != 0 {
            return unkeyed(Reason::PathInvalid, &rules.guard, false);
        }
        return match host::normalise(authority) {
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
        if !route.screens.is_empty() {
            draft.who = client::number(draft.client);
            let screened = draft.screen_head(route, (request, path.query), knowledge.shelves);
            if let Err((reason, rule)) = screened {
                return unkeyed(reason, &rule, charged);
            }
        }
        let (reason, rule) = draft.or_tagged(Reason::Public, &route.rule);
        return unkeyed(reason, &rule, charged);
    }
    let context = Context {
        request,
        shelves: knowledge.shelves,
        now: knowledge.now,
    };
    let listing = knowledge.resolved.and_then(|resolved| resolved.listing);
    let key = match authenticate(api, head, &path, knowledge, draft) {
        Identity::Key(key) => key,
        Identity::Ask(question) => return Finding::Ask(question),
        Identity::Refused(reason, rule) if reason.status() == 503 => {
            draft.particulars.retry_after = Some(0);
            return unkeyed(reason, &rule, false);
        }
        Identity::Refused(reason, rule) => {
            if reason == Reason::CredentialMissing
                && let Some(key) = anonymous(api, &path, &found)
            {
                draft.particulars.challenge = None;
                return examine_keyed(api, (head, &path), found, key, draft, (context, store));
            }
            // What is not there is not told from what is, without a key: but a caller without any
            // credential learns that a path or method does not exist.
            if reason == Reason::CredentialMissing
                && let Some((reason, rule)) = absence(policy, api, &found, draft)
            {
                draft.particulars.challenge = None;
                return unkeyed(reason, &rule, true);
            }
            return unkeyed(reason, &rule, true);
        }
    };
    if let Some((_, progress)) = listing {
        draft.take_up(progress);
    }
    examine_keyed(api, (head, &path), found, key, draft, (context, store))
}

/// What the checks of a request with a key go by
#[derive(Clone, Copy)]
struct Context<'a> {
    request: &'a Request<'a>,
    shelves: &'a Shelves,
    /// Monotonic nanoseconds
    now: u64,
}

fn examine_keyed(
    api: &Api,
    (head, path): (&Head<'_>, &CheckedPath<'_>),
    found: Match<'_>,
    key: Rc<Key>,
    draft: &mut Draft,
    (context, store): (Context<'_>, &mut dyn AccountStore),
) -> Finding {
    let policy = Rc::clone(&draft.policy);
    let keyed = |reason, rule: &Rc<Rule>, key, free| Finding::Keyed {
        reason,
        rule: Rc::clone(rule),
        key,
        free,
    };
    draft.identify(key.who);
    if let Some((reason, rule)) = absence(&policy, api, &found, draft) {
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
        let (reason, rule) = draft.or_tagged(Reason::Allowed, &api.unmatched_rule);
        return keyed(reason, &rule, key, false);
    };
    let lacks_scope = key.scopes & route.scopes != route.scopes;
    if lacks_scope && !route.scope_enforcement.binds(draft.who) {
        draft.would(Reason::ScopeMissing, &route.scope_rule);
    } else if lacks_scope {
        let scopes = &route.scope_names;
        draft.particulars.challenge = Some(format!(
            "Bearer realm=\"{}\", error=\"insufficient_scope\", scope=\"{scopes}\"",
            api.name
        ));
        return keyed(Reason::ScopeMissing, &route.scope_rule, key, free);
    }
    let (path, query) = (path.path, path.query);
    let source = Source::Head { path, query };
    match draft.judge_domains(&route, &key, source, context.now, store) {
        Ok(()) => {}
        Err(Stop::Refused(reason, rule)) => return keyed(reason, &rule, key, free),
        Err(Stop::Ask(listing)) => return Finding::Ask(Question::Domains(listing)),
    }
    let who = draft.who;
    let mut would = |fault: Fault| draft.would(fault.reason, &fault.rule);
    if let Err(fault) = query::check(&route, query, &key.tier.name, who, &mut would) {
        draft.particulars.field = fault.field;
        return keyed(fault.reason, &fault.rule, key, free);
    }
    let screened = draft.screen_head(&route, (context.request, query), context.shelves);
    if let Err((reason, rule)) = screened {
        return keyed(reason, &rule, key, free);
    }
    if route.body.is_some() {
        return Finding::Body { route, key };
    }
    draft.found_good(&route);
    keyed(draft.reason, &Rc::clone(&draft.rule), key, free)
}

fn examine_probes(
    policy: &Policy,
    method: &str,
    path: &CheckedPath<'_>,
    knowledge: &Knowledge<'_>,
    draft: &mut Draft,
) -> Option<Finding> {
    let probes = &policy.probes;
    if path.encoded != 0 {
        return None;
    }
    let reads = method == "GET" || method == "HEAD";
    if reads && probes.ready.as_deref() == Some(path.path) {
        let rule = Rc::clone(&policy.rules.ready);
        if !knowledge.is_ready(policy) {
            draft.particulars.retry_after = Some(0);
            return Some(Finding::Unkeyed {
                reason: Reason::NotReady,
                rule,
                charged: false,
            });
        }
        draft.answer = Some(Answer::Ready(policy.revision.to_string()));
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
        Match::Methods(methods) => {
            let mut allow: Vec<_> = methods.iter().copied().collect();
            if api.forwards_preflight && !methods.contains("OPTIONS") {
                allow.push("OPTIONS");
            }
            draft.particulars.allow = Some(allow.join(", "));
            Some((Reason::MethodNotAllowed, Rc::clone(&api.unmatched_rule)))
        }
        Match::None if api.forwards_unmatched => None,
        Match::None => Some((Reason::RouteUnknown, Rc::clone(&api.unmatched_rule))),
    }
}

/// Whose a request is
enum Identity {
    /// Of a key that is good at this moment
    Key(Rc<Key>),
    Refused(Reason, Rc<Rule>),
    Ask(Question),
}

/// Finds the key of a request
fn authenticate(
    api: &Api,
    head: &Head<'_>,
    path: &CheckedPath<'_>,
    knowledge: Knowledge<'_>,
    draft: &mut Draft,
) -> Identity {
    let known = match identify(api, head, path, knowledge) {
        Ok(known) => known,
        Err(question) => return Identity::Ask(question),
    };
    let good = known.and_then(|key| match key.check(draft.wall) {
        Ok(()) => Ok(Exempted::apply(&api.terms.exceptions, key, draft.wall)),
        Err(reason) => Err((reason, Rc::clone(&key.rule))),
    });
    match good {
        Ok(key) => Identity::Key(key),
        Err((reason, rule)) => {
            let realm = &api.name;
            // RFC 6750, section 3.1: no error code for a request without any credential.
            draft.particulars.challenge = match reason {
                reason if reason.status() == 503 => None,
                Reason::CredentialMissing => Some(format!("Bearer realm=\"{realm}\"")),
                _ => Some(format!("Bearer realm=\"{realm}\", error=\"invalid_token\"")),
            };
            Identity::Refused(reason, rule)
        }
    }
}

impl Knowledge<'_> {
    /// Why an API's bundle is nothing to go by, where it has one
    fn unsupplied(&self, api: &Api) -> Option<(Reason, Rc<Rule>)> {
        let source = api.source.as_deref()?;
        let reason = if self.keys.bundle(api).is_none() {
            Reason::KeyServiceUnavailable
        } else if self
            .replicas
            .peek(&source.id)
            .is_some_and(|replica| replica.is_stale(source, self.now))
        {
            Reason::KeysStale
        } else {
            return None;
        };
        Some((reason, Rc::clone(&source.rule)))
    }

    /// Whether every bundle that the policy names was loaded once
    fn is_ready(&self, policy: &Policy) -> bool {
        let mut sourced = policy.apis.iter().filter(|api| api.source.is_some());
        let feeds = policy.threat.feeds.as_ref();
        sourced.all(|api| self.keys.bundle(api).is_some())
            && feeds.is_none_or(|feeds| self.shelves.live(feeds).is_some())
    }
}

/// A key, good or not, or why there is none
type Identified = Result<Rc<Key>, (Reason, Rc<Rule>)>;

/// The key of a request, good or not, why there is none, or what is to be asked
fn identify(
    api: &Api,
    head: &Head<'_>,
    path: &CheckedPath<'_>,
    knowledge: Knowledge<'_>,
) -> Result<Identified, Question> {
    let none = |reason| Ok(Err((reason, Rc::clone(&api.credential_rule))));
    if let Some((key, _)) = knowledge.resolved.and_then(|resolved| resolved.listing) {
        return Ok(Ok(Rc::clone(key)));
    }
    let resolution = match (knowledge.resolved, &api.lookup) {
        (Some(resolved), Some(lookup)) => (resolved.resolution.clone(), lookup),
        _ => {
            let digests = match credential::read(head, path, &api.terms) {
                Ok(digests) => digests,
                Err(reason) => return none(reason),
            };
            let unsupplied = knowledge.unsupplied(api);
            if let Some(key) = knowledge.keys.get(api, &digests)
                && (key.bundle.is_none() || unsupplied.is_none())
            {
                return Ok(Ok(key));
            }
            let Some(lookup) = &api.lookup else {
                // Of a bundle that is not there, or too old, nobody knows what is not in it.
                return unsupplied.map_or_else(|| none(Reason::KeyUnknown), |why| Ok(Err(why)));
            };
            match knowledge.lookups.find(lookup, &digests, knowledge.now) {
                Known::Resolved(resolution) => (resolution, lookup),
                Known::Ask(inquiry) => return Err(Question::Key(Rc::clone(lookup), inquiry)),
            }
        }
    };
    match resolution {
        (Resolution::Key(key), _) => Ok(Ok(key)),
        (Resolution::Unknown, _) => none(Reason::KeyUnknown),
        (Resolution::Away, lookup) => Ok(Err((
            Reason::KeyServiceUnavailable,
            Rc::clone(&lookup.rule),
        ))),
    }
}

/// The key of callers without any credential, on a route that lets them
fn anonymous(api: &Api, path: &CheckedPath<'_>, found: &Match<'_>) -> Option<Rc<Key>> {
    let Match::Route(route) = found else {
        return None;
    };
    let in_query = |query| path::has_parameter(query, "access_token");
    let lets = route.access == Access::Optional && !path.query.is_some_and(in_query);
    api.anonymous.clone().filter(|_| lets)
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
