//! From a document to a policy: everything is checked once, here.

#[cfg(feature = "advice")]
pub(crate) mod advice;
mod api;
mod comparison;
mod domain;
mod keys;
mod limit;
mod quantity;
pub(crate) mod quota;
mod recording;
mod route;
mod schema;
mod screen;
mod service;
mod threat;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use portcullis_threat::Classification;

use crate::account::AccountKey;
use crate::bucket::Bucket;
use crate::enforcement::Enforcement;
use crate::error::ConfigError;
use crate::key::{Exception, Exempted, read_instant, read_name as name};
use crate::name::Name;
use crate::node::Node;
use crate::path;
use crate::policy::{Api, Mode, Pause, Policy, Probes, Rules};
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::recording::DEFAULT;
use crate::screen::Screen;

/// Compiles a document whose maps are sorted
///
/// # Errors
///
/// Everything that is wrong, sorted by path.
pub(crate) fn compile(
    document: &Node,
    namespace: &str,
    variable: &Variables<'_>,
) -> Result<Policy, Vec<ConfigError>> {
    let mut errors = Errors::default();
    let policy = read(document, namespace, variable, &mut errors);
    match policy {
        Some(policy) if errors.is_empty() => Ok(policy),
        _ => Err(errors.into_sorted()),
    }
}

/// The environment of the VM, by name
pub(crate) type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

const DEFAULT_MAX_ACCOUNTS: u64 = 100_000;

fn read(
    document: &Node,
    namespace: &str,
    variable: &Variables<'_>,
    errors: &mut Errors,
) -> Option<Policy> {
    let mut map = At {
        node: document,
        path: String::new(),
    }
    .map(errors)?;
    if let Some(version) = map.require("version", errors) {
        version.integer(1..=1, errors);
    }
    let revision = map
        .take("revision")
        .and_then(|revision| name(&revision, errors));
    let mode = map
        .take("mode")
        .and_then(|mode| mode.word(MODES, errors))
        .unwrap_or(Mode::Enforce);
    let rollout = map.take("rollout").map_or(Enforcement::ALWAYS, |at| {
        read_rollout(&at, mode == Mode::Enforce, errors)
    });
    let pause = map
        .take("pause")
        .and_then(|pause| pause.word(PAUSES, errors))
        .unwrap_or(Pause::Headers);
    let max_accounts = map
        .take("max_accounts")
        .and_then(|max| max.integer(1..=10_000_000, errors));
    let probes = map
        .take("probes")
        .map(|probes| read_probes(&probes, errors))
        .unwrap_or_default();
    let threat_at = map.take("threat");
    let has_threat = threat_at.is_some();
    let clients = map
        .take("clients")
        .map(|clients| read_clients(&clients, has_threat, errors))
        .unwrap_or_default();
    let replicas = map
        .take("share")
        .and_then(|share| read_share(&share, errors))
        .unwrap_or(1);
    let revoked = map
        .take("revoked")
        .map(|revoked| read_revoked(&revoked, errors))
        .unwrap_or_default();
    let exceptions = map
        .take("exceptions")
        .map(|exceptions| read_exceptions(&exceptions, errors))
        .unwrap_or_default();
    let unauthenticated = map.take("unauthenticated").map_or_else(
        || default_unauthenticated(replicas),
        |rule| read_unauthenticated(&rule, replicas, errors),
    );
    let recording = map
        .take("record")
        .map_or(DEFAULT, |record| recording::read(&record, errors));
    let explained = map
        .take("explain")
        .map(|explain| recording::read_explain(&explain, errors))
        .unwrap_or_default();
    let threat = threat_at
        .map(|threat| threat::read(&threat, namespace, errors))
        .unwrap_or_default();
    let keeps_quotas = map
        .take("quotas")
        .is_some_and(|at| quota::read_store(&at, errors));
    let mut apis = Vec::new();
    let mut hosts = HashMap::new();
    let context = api::Context {
        namespace,
        revoked: Rc::new(revoked),
        explained: Rc::new(explained),
        exceptions: &exceptions,
        variable,
        pause,
        replicas,
        has_threat,
    };
    for (key, at) in map
        .require("apis", errors)
        .and_then(|apis| apis.map(errors))
        .into_iter()
        .flat_map(Map::entries)
    {
        let Some((api, api_hosts)) = api::read(key, &at, &context, errors) else {
            continue;
        };
        for (host, path) in api_hosts {
            if hosts.insert(host, apis.len()).is_some() {
                errors.push(&path, "another API has this host");
            }
        }
        apis.push(Rc::new(api));
    }
    if apis.is_empty() && errors.is_empty() {
        errors.push("apis", "must name at least one API");
    }
    for exception in &exceptions {
        let is_of = |exempted: &Exempted| Rc::ptr_eq(&exempted.exception, exception);
        if !apis
            .iter()
            .any(|api: &Rc<Api>| api.terms.exceptions.iter().any(is_of))
        {
            errors.push(
                &exception.path,
                format!("no API has the tier `{}`", exception.tier),
            );
        }
    }
    if mode == Mode::Enforce && !keeps_quotas && apis.iter().any(|api| api.spends_quotas) {
        errors.push("quotas.store", NO_LEDGER);
    }
    map.finish(errors);
    let digest = digest_of(document);
    let revision =
        revision.map_or_else(|| revision_of(digest), |revision| revision.as_str().into());
    Some(Policy {
        clients: AccountKey::of_clients(namespace),
        revision,
        digest,
        mode,
        rollout,
        pause,
        max_accounts: max_accounts.unwrap_or(DEFAULT_MAX_ACCOUNTS),
        probes,
        denied_clients: clients.denied,
        denial: clients.denial,
        exempt_clients: clients.exempt,
        client_screens: clients.screens,
        counts_clients: apis.iter().any(|api: &Rc<Api>| api.counts_clients),
        unauthenticated: unauthenticated?,
        unauthenticated_name: Name::parse("unauthenticated").ok()?,
        apis,
        hosts,
        threat,
        recording,
        rules: Rules {
            clients: Rule::new(RuleKind::Clients, "clients.deny"),
            exempt_clients: Rule::new(RuleKind::Clients, "clients.exempt"),
            exempt: Rule::new(RuleKind::Probes, "probes.exempt"),
            guard: Rule::new(RuleKind::Builtin, "builtin.guard"),
            hosts: Rule::new(RuleKind::Builtin, "builtin.hosts"),
            ready: Rule::new(RuleKind::Probes, "probes.ready"),
            store: Rule::new(RuleKind::Builtin, "builtin.store"),
            unauthenticated: Rule::new(RuleKind::Unauthenticated, "unauthenticated"),
        },
    })
}

const NO_LEDGER: &str = "is required: there is no ledger, so what was spent is lost when Envoy restarts, \
    and each Envoy counts for itself; write `local` to accept that";

const MODES: &[(&str, Mode)] = &[
    ("disabled", Mode::Disabled),
    ("enforce", Mode::Enforce),
    ("observe", Mode::Observe),
];

const PAUSES: &[(&str, Pause)] = &[("body", Pause::Body), ("headers", Pause::Headers)];

/// Reads `mode` and `rollout` of a rule: for whom it binds
fn enforcement(map: &mut Map<'_>, errors: &mut Errors) -> Enforcement {
    let mode = map.take("mode");
    let binds = mode.and_then(|at| at.word(&[("enforce", true), ("shadow", false)], errors));
    let binds = binds.unwrap_or(true);
    let whole = if binds {
        Enforcement::ALWAYS
    } else {
        Enforcement::SHADOW
    };
    let rollout = map.take("rollout");
    rollout.map_or(whole, |at| read_rollout(&at, binds, errors))
}

fn read_rollout(at: &At<'_>, binds: bool, errors: &mut Errors) -> Enforcement {
    if !binds {
        errors.push(&at.path, "belongs to mode: enforce");
    }
    let parts = quantity::read_percentage(at, errors);
    Enforcement::of_million(parts.unwrap_or_default())
}

/// What a target may be, each by its word
fn classes() -> [(&'static str, Classification); 6] {
    Classification::ALL.map(|class| (class.word(), class))
}

/// A key of a map that is a name, or an error
fn key_name(key: &str, at: &At<'_>, errors: &mut Errors) -> Option<Name> {
    Name::parse(key)
        .map_err(|error| errors.push(&at.path, error))
        .ok()
}

/// The same for every form of the same document
fn digest_of(document: &Node) -> [u8; 6] {
    let text = serde_json::to_vec(document).unwrap_or_default();
    let [a, b, c, d, e, f, ..]: [u8; 32] = Sha256::digest(&text).into();
    [a, b, c, d, e, f]
}

/// The revision of a policy that names none
fn revision_of([a, b, c, d, e, f]: [u8; 6]) -> Box<str> {
    format!("sha256:{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}").into()
}

fn read_probes(at: &At<'_>, errors: &mut Errors) -> Probes {
    let mut probes = Probes::default();
    let Some(mut map) = at.map(errors) else {
        return probes;
    };
    if let Some(at) = map.take("ready")
        && let Some(path) = at.string(errors)
    {
        check_path(path, &at, errors);
        probes.ready = Some(path.into());
    }
    for at in map
        .take("exempt")
        .and_then(|exempt| exempt.strings(errors))
        .unwrap_or_default()
    {
        let Some((method, path)) = at.string(errors).and_then(|text| text.split_once(' ')) else {
            errors.push(
                &at.path,
                "must be a method and a path, such as `GET /healthz`",
            );
            continue;
        };
        check_path(path, &at, errors);
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            errors.push(&at.path, "the method must be written in capitals");
        }
        probes.exempt.push((method.into(), path.into()));
    }
    map.finish(errors);
    probes
}

fn check_path(text: &str, at: &At<'_>, errors: &mut Errors) {
    let checked = path::check(text.as_bytes());
    if checked.is_none_or(|path| path.encoded != 0 || path.query.is_some()) {
        errors.push(&at.path, "must be a plain absolute path without a query");
    }
}

/// What the policy says of clients' addresses
struct Clients {
    denied: Vec<IpNet>,
    denial: Enforcement,
    exempt: Vec<IpNet>,
    /// One at the most
    screens: Vec<Screen>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            denied: Vec::new(),
            denial: Enforcement::ALWAYS,
            exempt: Vec::new(),
            screens: Vec::new(),
        }
    }
}

/// Reads `clients`: the networks that may not call, those that no limit counts, and what addresses are
/// screened for
fn read_clients(at: &At<'_>, has_threat: bool, errors: &mut Errors) -> Clients {
    let Some(mut map) = at.map(errors) else {
        return Clients::default();
    };
    let denial = enforcement(&mut map, errors);
    let mut networks = |name| map.take(name).map(|at| at.networks(errors));
    let (denied, exempt) = (networks("deny"), networks("exempt"));
    let screen = map.take("screen");
    if denied.is_none() && exempt.is_none() && screen.is_none() {
        errors.push(&at.path, "says nothing: write deny, exempt or screen");
    }
    if denied.is_none() && denial != Enforcement::ALWAYS {
        errors.push(&at.path, "mode and rollout belong to deny");
    }
    map.finish(errors);
    let screen = screen.and_then(|at| screen::read_clients(&at, has_threat, errors));
    Clients {
        denied: denied.unwrap_or_default(),
        denial,
        exempt: exempt.unwrap_or_default(),
        screens: screen.into_iter().collect(),
    }
}

/// Reads `share`: among how many hosts every rate is divided
fn read_share(at: &At<'_>, errors: &mut Errors) -> Option<u64> {
    let mut map = at.map(errors)?;
    let replicas = map.require("replicas", errors);
    let replicas = replicas.and_then(|at| at.integer(1..=10_000, errors));
    map.finish(errors);
    replicas
}

/// Reads `exceptions`: principals that have another tier for a while
fn read_exceptions(at: &At<'_>, errors: &mut Errors) -> Vec<Rc<Exception>> {
    let mut exceptions = Vec::new();
    for at in at.list(errors).unwrap_or_default() {
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let mut read = |field| map.require(field, errors).and_then(|at| name(&at, errors));
        let (principal, tier, reason) = (read("principal"), read("tier"), read("reason"));
        let until = map.require("until", errors);
        let until = until.and_then(|at| read_instant(&at, errors));
        map.finish(errors);
        if let (Some(principal), Some(tier), Some(reason), Some(until)) =
            (principal, tier, reason, until)
        {
            exceptions.push(Rc::new(Exception {
                principal,
                tier,
                until,
                reason,
                path: at.path.into(),
            }));
        }
    }
    exceptions
}

fn read_revoked(at: &At<'_>, errors: &mut Errors) -> BTreeSet<Name> {
    let ids = at.strings(errors).unwrap_or_default();
    ids.iter().filter_map(|at| name(at, errors)).collect()
}

/// 60 a minute, by client
fn default_unauthenticated(replicas: u64) -> Option<Bucket> {
    let bucket = Bucket::new(60, 60_000_000_000, 60)?;
    // Beyond 60 replicas each lets one pass at a time.
    bucket.divided(replicas.min(60))
}

fn read_unauthenticated(at: &At<'_>, replicas: u64, errors: &mut Errors) -> Option<Bucket> {
    let mut map = at.map(errors)?;
    let bucket = quantity::read_bucket(&mut map, replicas, errors);
    if let Some(per) = map.take("per") {
        per.word(&[("client", ())], errors);
    }
    let path = map.path.clone();
    map.finish(errors);
    match bucket? {
        Some(bucket) => Some(bucket),
        None => {
            errors.push(
                &path,
                "callers without a key can't be unlimited: write a rate",
            );
            None
        }
    }
}
