//! What is legal in a policy and yet worth a look.
//!
//! Read from the document, beside the compiler: advice costs the filter nothing, and a document that
//! is refused for one thing is still looked through for the rest.

mod domains;
mod feeds;
mod indicators;
mod keys;
mod limits;
mod quotas;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ipnet::IpNet;

use super::quantity;
use super::route::{DEFAULT_MAX_BODY, LARGEST_MAX_BODY};
use crate::node::Node;
use crate::reader::{At, Errors, join};

/// One thing that is legal and yet worth a look
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Advice {
    /// Dotted path of the place, as in [`ConfigError`](crate::ConfigError)
    pub path: String,
    /// How much it matters
    pub level: Level,
    /// What it means, and what to do if it wasn't meant; lower case, without a final period
    pub message: String,
}

/// How much a piece of advice matters
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// A door that words of the policy opened: it is listed, so that nobody forgets it
    Note,
    /// Something that has no effect or contradicts the rest: mostly a slip of the pen
    Warning,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Looks through a document whose maps are sorted
pub(crate) fn advise(document: &Node) -> Vec<Advice> {
    let root = At {
        node: document,
        path: String::new(),
    };
    let mut said = Said::default();
    let apis = root.at("apis").map(|apis| apis.each()).unwrap_or_default();
    let revoked = texts(&root, "revoked");
    for (_, api) in &apis {
        advise_api(api, &revoked, &mut said);
    }
    for at in root
        .at("probes")
        .and_then(|probes| probes.at("exempt"))
        .map(|exempt| exempt.items())
        .unwrap_or_default()
    {
        said.note(
            &at.path,
            "forwarded unseen on any host, whoever asks".into(),
        );
    }
    let exempt = root.at("clients").and_then(|clients| clients.at("exempt"));
    for at in exempt.map(|exempt| exempt.items()).unwrap_or_default() {
        said.note(&at.path, "spends nothing, whatever it calls".into());
    }
    advise_shadows(&root, &mut said);
    keys::advise(&root, &apis, &mut said);
    advise_denied(&root, &mut said);
    if let Some(rule) = root.at("unauthenticated") {
        limits::advise_bucket(&rule, &mut said);
    }
    indicators::advise(&root, &apis, &mut said);
    feeds::advise(&root, &mut said);
    quotas::advise(&root, &apis, &mut said);
    said.0.sort();
    said.0
}

#[derive(Default)]
struct Said(Vec<Advice>);

impl Said {
    fn note(&mut self, path: &str, message: String) {
        self.push(Level::Note, path, message);
    }

    fn warn(&mut self, path: &str, message: String) {
        self.push(Level::Warning, path, message);
    }

    fn push(&mut self, level: Level, path: &str, message: String) {
        self.0.push(Advice {
            path: path.to_owned(),
            level,
            message,
        });
    }
}

/// Reading what may be wrong: whatever has another form is not there.
impl<'n> At<'n> {
    fn at(&self, name: &str) -> Option<Self> {
        Some(Self {
            node: self.node.get(name)?,
            path: join(&self.path, name),
        })
    }

    fn each(&self) -> Vec<(&'n str, Self)> {
        let Node::Map(entries) = self.node else {
            return Vec::new();
        };
        let each = |(key, node): &'n (String, Node)| {
            let path = join(&self.path, key);
            (key.as_str(), Self { node, path })
        };
        entries.iter().map(each).collect()
    }

    /// The items of a list, or one string in place of a list of one
    fn items(&self) -> Vec<Self> {
        self.strings(&mut Errors::default()).unwrap_or_default()
    }

    fn text(&self) -> Option<&'n str> {
        match self.node {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    fn says(&self, name: &str, word: &str) -> bool {
        self.at(name).and_then(|at| at.text()) == Some(word)
    }
}

/// The strings of a list that a map has under a name
fn texts<'n>(map: &At<'n>, name: &str) -> BTreeSet<&'n str> {
    let items = map.at(name).map(|list| list.items()).unwrap_or_default();
    items.iter().filter_map(At::text).collect()
}

fn advise_api(api: &At<'_>, revoked: &BTreeSet<&str>, said: &mut Said) {
    let routes = api.at("routes").map(|all| all.each()).unwrap_or_default();
    let mut needed: Vec<BTreeSet<&str>> = Vec::new();
    for (_, route) in &routes {
        let limits = route.at("limits").map(|limits| limits.items());
        let is_free = limits.as_ref().is_some_and(Vec::is_empty);
        if route.says("auth", "none") {
            let names = texts(route, "limits");
            let spends = if is_free {
                "spends nothing"
            } else if names.is_empty() || names.contains("unauthenticated") {
                "spends the unauthenticated bucket"
            } else {
                "spends limits of the API alone"
            };
            said.note(&route.path, format!("open to everybody, {spends}"));
        } else {
            needed.push(texts(route, "scope"));
            if is_free {
                let message = "spends nothing: whoever has a key may call it without limit";
                said.note(&route.path, message.into());
            }
        }
        advise_lengths(route, said);
    }
    limits::advise(api, &routes, said);
    domains::advise(api, &routes, said);
    let forwards_unmatched = api.says("unmatched", "forward");
    if forwards_unmatched {
        let message = "paths that no route has reach the upstream, with any key";
        said.note(&join(&api.path, "unmatched"), message.into());
        needed.push(BTreeSet::new());
    }
    let tiers = api.at("tiers").map(|all| all.each()).unwrap_or_default();
    let Some(keys) = keys::keys_of(api, revoked) else {
        for (_, tier) in &tiers {
            limits::advise_bucket(tier, said);
        }
        return;
    };
    if keys.is_empty() && !needed.is_empty() {
        let message = "there is no key: routes that need one refuse everybody";
        said.warn(&join(&api.path, "keys"), message.into());
        return;
    }
    if needed.is_empty() {
        if !keys.is_empty() && !routes.is_empty() {
            said.warn(&join(&api.path, "keys"), "no route needs a key".into());
        }
        return;
    }
    keys::advise_scopes(&routes, &keys, &needed, said);
    for (name, tier) in tiers {
        limits::advise_bucket(&tier, said);
        if !keys.iter().any(|key| key.at.says("tier", name)) {
            said.warn(&tier.path, "no key has this tier".into());
        }
    }
}

/// Rules that bind nobody, or some
fn advise_shadows(at: &At<'_>, said: &mut Said) {
    let rollout = at.at("rollout").and_then(|rollout| rollout.text());
    if at.says("mode", "shadow") {
        said.note(
            &at.path,
            "in shadow: what it finds is told, and binds nobody".into(),
        );
    } else if let Some(share) = rollout {
        let path = join(&at.path, "rollout");
        said.note(
            &path,
            format!("binds {share} of all callers, the others are only watched"),
        );
    }
    for (_, inner) in at.each() {
        advise_shadows(&inner, said);
    }
}

/// Longest strings that no body could hold
fn advise_lengths(route: &At<'_>, said: &mut Said) {
    let max = route.at("body").and_then(|body| body.at("max"));
    let max =
        max.and_then(|max| quantity::read_size(&max, LARGEST_MAX_BODY, &mut Errors::default()));
    let max = max.unwrap_or(DEFAULT_MAX_BODY);
    let fields = route.at("fields").map(|fields| fields.each());
    for (_, field) in fields.unwrap_or_default() {
        let Some(length) = field.at("max_length") else {
            continue;
        };
        let longest = length.integer(max..=u64::MAX, &mut Errors::default());
        if longest.is_some() {
            let message = format!("can't bind: the whole body has at most {max} bytes");
            said.warn(&length.path, message);
        }
    }
}

/// Networks that lie in others
fn advise_denied(root: &At<'_>, said: &mut Said) {
    let denied = root.at("clients").and_then(|clients| clients.at("deny"));
    let mut denied: Vec<(IpNet, At<'_>)> = denied
        .map(|deny| deny.items())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|at| Some((at.text()?.parse().ok()?, at)))
        .collect();
    // Networks nest or are apart: in order, all that lie in one follow it at once.
    denied.sort_by_key(|(network, _)| *network);
    let mut around: Option<&(IpNet, At<'_>)> = None;
    for inner in &denied {
        match around {
            Some((network, other)) if network.contains(&inner.0) => {
                let message = format!("lies in {network} of {}", other.path);
                said.warn(&inner.1.path, message);
            }
            _ => around = Some(inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    /// A policy of one API with this key and these routes, and more fields beside `apis`
    pub(super) fn policy(key: &str, routes: &str, more: &str) -> String {
        format!(
            r#"{{"version": 1, "apis": {{"a": {{"hosts": ["a.example"],
                "tiers": {{"t": {{"rate": "10/min"}}}},
                "keys": [{{"id": "k", "sha256": "{DIGEST}", "principal": "p", "tier": "t"{key}}}],
                "routes": {{{routes}}}}}}}{more}}}"#
        )
    }

    /// Checks what is said of a valid policy, a line each: the level's first letter and the advice
    #[track_caller]
    pub(super) fn check(policy: &str, expected: &[&str]) {
        let parsed = crate::Policy::parse(policy.as_bytes(), "test");
        assert!(parsed.is_ok(), "{parsed:?}");
        let said: Vec<String> = crate::Policy::advise(policy.as_bytes())
            .iter()
            .map(|advice| match advice.level {
                Level::Note => format!("n {advice}"),
                Level::Warning => format!("w {advice}"),
            })
            .collect();
        assert_eq!(said, expected, "{policy}");
    }

    const ROUTE: &str = r#""r": {"match": "GET /"}"#;

    #[test]
    fn a_plain_policy_needs_no_advice() {
        check(&policy("", ROUTE, ""), &[]);
    }

    #[test]
    fn doors_are_listed() {
        let routes = r#""r": {"match": "GET /", "limits": []},
            "s": {"match": "GET /s", "auth": "none", "limits": []},
            "t": {"match": "GET /t", "auth": "none", "limits": ["unauthenticated"]}"#;
        let more = r#", "probes": {"exempt": ["GET /healthz"]}"#;
        check(
            &policy("", routes, more).replace(r#""hosts""#, r#""unmatched": "forward", "hosts""#),
            &[
                "n apis.a.routes.r: spends nothing: whoever has a key may call it without limit",
                "n apis.a.routes.s: open to everybody, spends nothing",
                "n apis.a.routes.t: open to everybody, spends the unauthenticated bucket",
                "n apis.a.unmatched: paths that no route has reach the upstream, with any key",
                "n probes.exempt[0]: forwarded unseen on any host, whoever asks",
            ],
        );
    }

    #[test]
    fn limits_that_do_not_bind() {
        let routes = r#""r": {"match": "GET /", "limits": ["tier", "wide", "tight", "all"]},
            "s": {"match": "GET /s", "auth": "none", "limits": ["all"]}"#;
        let limits = r#""limits": {"unused": {"rate": "5/min"}, "wide": {"rate": "10/min"},
            "tight": {"rate": "20/min", "burst": 5, "mode": "shadow"}, "all": {"rate": "99/min", "per": "api"}}, "hosts""#;
        let more = r#", "clients": {"exempt": ["10.0.0.0/8"]}, "rollout": "5%""#;
        check(
            &policy("", routes, more).replace(r#""hosts""#, limits),
            &[
                "n apis.a.limits.tight: in shadow: what it finds is told, and binds nobody",
                "w apis.a.limits.unused: no route spends it",
                "w apis.a.limits.wide: can't bind: every tier is stricter, on all routes that spend it",
                "n apis.a.routes.s: open to everybody, spends limits of the API alone",
                "n clients.exempt[0]: spends nothing, whatever it calls",
                "n rollout: binds 5% of all callers, the others are only watched",
            ],
        );
    }

    #[test]
    fn keys_that_open_nothing_and_routes_that_nobody_opens() {
        let routes = r#""r": {"match": "GET /", "scope": ["read", "all"]}"#;
        check(
            &policy(r#", "scopes": ["raed", "all"]"#, routes, ""),
            &[
                "w apis.a.keys[0]: `k` opens no route: each needs a scope that this key lacks",
                "w apis.a.keys[0].scopes[0]: no route needs the scope `raed`",
                "w apis.a.routes.r.scope: no working key has the scope: all with read; nobody can use this route",
            ],
        );
        let key = r#", "scopes": ["read", "all"], "state": "disabled""#;
        let nobody = "w apis.a.routes.r.scope: no working key has the scope: all with read; nobody can use this route";
        check(&policy(key, routes, ""), &[nobody]);
        let key = r#", "scopes": ["read", "all"]"#;
        check(&policy(key, routes, r#", "revoked": ["k"]"#), &[nobody]);
        check(&policy(key, routes, ""), &[]);
    }

    #[test]
    fn tiers_and_apis_without_keys() {
        let two = policy("", ROUTE, "").replace(r#"{"t":"#, r#"{"s": {"rate": "1/s"}, "t":"#);
        check(&two, &["w apis.a.tiers.s: no key has this tier"]);
        let text = policy("", ROUTE, "");
        let (before, rest) = text.split_once("[{").unwrap();
        let (_, after) = rest.split_once("}]").unwrap();
        check(
            &format!("{before}[]{after}"),
            &["w apis.a.keys: there is no key: routes that need one refuse everybody"],
        );
    }

    #[test]
    fn keys_that_no_route_needs() {
        let routes = r#""r": {"match": "GET /", "auth": "none", "limits": []}"#;
        check(
            &policy(r#", "scopes": ["s"]"#, routes, ""),
            &[
                "w apis.a.keys: no route needs a key",
                "n apis.a.routes.r: open to everybody, spends nothing",
            ],
        );
    }

    #[test]
    fn ids_and_accounts_that_do_not_fit() {
        check(
            &policy("", ROUTE, r#", "revoked": ["k", "l"]"#),
            &["w revoked[1]: no key has the id `l`"],
        );
        let second = format!(
            r#"{{"id": "l", "sha256": "{}", "principal": "q", "tier": "t"}}"#,
            DIGEST.replace('2', "3")
        );
        let two = policy("", ROUTE, r#", "max_accounts": 1"#)
            .replace("}],\n", &format!("}}, {second}],\n"));
        check(
            &two,
            &["w max_accounts: 2 principals have keys here: those above 1 share accounts"],
        );
        check(&policy("", ROUTE, r#", "max_accounts": 1"#), &[]);
    }

    #[test]
    fn limits_that_can_not_bind() {
        let routes = |max: u64| {
            format!(
                r#""r": {{"match": "POST /", "body": {{"max": "1KiB"}},
                    "fields": {{"f": {{"type": "string", "max_length": {max}}}}}}}"#
            )
        };
        check(&policy("", &routes(1023), ""), &[]);
        check(
            &policy("", &routes(1024), ""),
            &[
                "w apis.a.routes.r.fields.f.max_length: can't bind: the whole body has at most 1024 bytes",
            ],
        );
        let queue = |wait: &str| {
            let rate = format!(r#""12/h", "queue": {{"max_wait": "{wait}"}}"#);
            policy("", ROUTE, "").replace(r#""10/min""#, &rate)
        };
        check(
            &queue("10s"),
            &[
                "w apis.a.tiers.t.queue.max_wait: hardly anybody waits: the rate lets one pass in 300 s, and nobody is held so long",
            ],
        );
        check(&queue("10s").replace("12/h", "12/min"), &[]);
        let more = r#", "clients": {"deny": ["10.1.0.0/16", "10.0.0.0/8", "2001:db8::/32", "10.0.0.0/8"]}"#;
        check(
            &policy("", ROUTE, more),
            &[
                "w clients.deny[0]: lies in 10.0.0.0/8 of clients.deny[1]",
                "w clients.deny[3]: lies in 10.0.0.0/8 of clients.deny[1]",
            ],
        );
    }

    #[test]
    fn domains_that_are_open_or_shut() {
        let access = |fields: &str, key: &str, routes: &str| {
            let fields = format!(r#""domain_access": {{{fields}}}, "hosts""#);
            policy(key, routes, "").replace(r#""hosts""#, &fields)
        };
        let route = r#""r": {"match": "GET /{d}", "domain": "path.d"}"#;
        let unchecked = "w apis.a.domain_access: no route says domain: nothing is checked";
        check(&access("", "", ROUTE), &[unchecked]);
        let shut = "w apis.a.domain_access: nothing gives access to a domain: no route grants it, no key has domains";
        check(&access("", "", route), &[shut]);
        check(&access("", r#", "domains": ["a.example"]"#, route), &[]);
        let below = format!(
            "n apis.a.domain_access.subdomains: public suffixes are those of {}: `suffixes` names newer ones, whose customers are not each other's",
            crate::suffix::list_date()
        );
        let include = access(
            r#""subdomains": "include""#,
            r#", "domains": ["a.example"]"#,
            route,
        );
        check(&include, &[&below]);
        let list = r#""unknown": "ask", "list": {"cluster": "c", "path": "/l", "as": "caller", "unavailable": "forward"}"#;
        let away = "n apis.a.domain_access.list.unavailable: while there is no list every domain reaches the upstream: it has to check them";
        check(&access(list, "", route), &[away]);
        check(
            &access(r#""unknown": "forward""#, r#", "domains": "*""#, route),
            &[
                "n apis.a.domain_access.unknown: domains of which nothing is known reach the upstream: it has to check them",
                "n apis.a.keys[0].domains: opens every domain to this key",
            ],
        );
    }

    /// A policy as [`policy`] makes it, whose keys are a map with these fields besides its own
    fn mapped(policy: &str, more: &str) -> String {
        let (head, rest) = policy.split_once(r#""keys": ["#).unwrap();
        let (keys, tail) = rest.split_once("}],").unwrap();
        std::format!(r#"{head}"keys": {{"inline": [{keys}}}]{more}}},{tail}"#)
    }

    const LOOKUP: &str = r#", "lookup": {"cluster": "c", "path": "/k/"}"#;

    #[test]
    fn keys_of_a_map_are_keys() {
        let route = r#""r": {"match": "GET /sites/{domain}", "domain": "path.domain"}"#;
        let closed = |key: &str| {
            policy(key, route, "").replace(r#""hosts""#, r#""domain_access": {}, "hosts""#)
        };
        let opened = "n apis.a.keys.inline[0].domains: opens every domain to this key";
        for more in ["", LOOKUP] {
            check(&mapped(&closed(r#", "domains": "*""#), more), &[opened]);
        }
        let nothing = "w apis.a.domain_access: nothing gives access to a domain: no route grants it, no key has domains";
        check(&mapped(&closed(""), ""), &[nothing]);
        // Who knows which domains those have that come from elsewhere.
        check(&mapped(&closed(""), LOOKUP), &[]);
    }

    #[test]
    fn tiers_of_keys_that_come_from_elsewhere_are_looked_at() {
        let large =
            policy("", ROUTE, "").replace(r#""rate": "10/min""#, r#""rate": "1/d", "burst": 90"#);
        let warning = "w apis.a.tiers.t.burst: hardly binds: 90 times the rate's count pass before the rate does";
        check(&large, &[warning]);
        check(&mapped(&large, LOOKUP), &[warning]);
    }

    #[test]
    fn indicators_that_repeat_or_that_nobody_asks() {
        let verdict = r#""r": {"match": "POST /", "fields": {"t": {"type": "string", "required": true}},
            "verdict": {"of": "body.t"}}"#;
        let more = r#", "threat": {"indicators": {
            "urls": ["http://a.example/x", {"value": "hxxp://A[.]example:80/x", "category": "spam"}],
            "networks": ["192.0.2.1", "192.0.2.1/32", "192.0.2.0/24"]}}"#;
        let same = [
            "w threat.indicators.networks[1]: the same as threat.indicators.networks[0]; the last one counts",
            "w threat.indicators.urls[1]: the same as threat.indicators.urls[0]; the last one counts",
        ];
        check(&policy("", verdict, more), &same);
        let unused = "w threat.indicators: no route has a verdict or a screen made of them";
        check(&policy("", ROUTE, more), &[&[unused][..], &same].concat());
        check(
            &policy("", verdict, ""),
            &["w apis.a.routes.r.verdict: there are no indicators: nothing is ever malicious"],
        );
        let clients = more.replace(
            r#", "threat""#,
            r#", "clients": {"screen": {"block": "malicious"}}, "threat""#,
        );
        check(&policy("", ROUTE, &clients), &same);
        let screen =
            r#""r": {"match": "POST /", "screen": {"s": {"of": "body.t", "block": "malicious"}}}"#;
        check(&policy("", screen, more), &same);
        let model = r#", "threat": {"model": "quick/2"}"#;
        check(
            &policy("", screen, model),
            &["w apis.a.routes.r.screen: there are no indicators: nothing is ever malicious"],
        );
    }

    #[test]
    fn what_is_no_policy_is_no_reason_to_fail() {
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"apis": {"a": 1, "b": {"keys": {}, "routes": []}}}"#,
        ] {
            assert_eq!(crate::Policy::advise(text.as_bytes()), [], "{text}");
        }
        let nothing =
            crate::Policy::advise(br#"{"apis": {"a": {"routes": {"r": {"auth": "none"}}}}}"#);
        let lines: Vec<_> = nothing.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["apis.a.routes.r: open to everybody, spends the unauthenticated bucket"]
        );
    }
}
