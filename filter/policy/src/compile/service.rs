//! Reading `lookup` and `bundle` of an API's keys: the services that they come from.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use core::ops::RangeInclusive;

use super::quantity::read_span;
use crate::account::AccountKey;
use crate::key::KeyTerms;
use crate::key::breaker::BreakerRule;
use crate::key::lookup::Lookup;
use crate::path;
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::replica::Source;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Reads `lookup`, whose records are read against `terms`
pub(super) fn read_lookup(
    at: &At<'_>,
    terms: &Rc<KeyTerms>,
    errors: &mut Errors,
) -> Option<Rc<Lookup>> {
    let mut map = at.map(errors)?;
    let cluster = map
        .require("cluster", errors)
        .and_then(|at| cluster(&at, errors));
    let path = map
        .require("path", errors)
        .and_then(|at| prefix(&at, errors));
    let authority = map.take("authority").and_then(|at| authority(&at, errors));
    let mut span = |name, range, default| {
        let read = map.take(name).map(|at| read_span(&at, range, errors));
        read.map_or(Some(default), |read| read)
    };
    let timeout = span("timeout", 10 * MILLISECOND..=10 * SECOND, 500 * MILLISECOND);
    let ttl = span("ttl", SECOND..=24 * HOUR, 300 * SECOND);
    let negative_ttl = span("negative_ttl", SECOND..=HOUR, 30 * SECOND);
    let max_stale = span("max_stale", 0..=7 * 24 * HOUR, HOUR);
    let mut count = |name, max| map.take(name).and_then(|at| at.integer(1..=max, errors));
    let max_entries = count("max_entries", 1_000_000).unwrap_or(10_000);
    let max_in_flight = count("max_in_flight", 256).unwrap_or(32);
    let breaker = map
        .take("breaker")
        .map_or(Some(BREAKER), |at| read_breaker(&at, errors));
    map.finish(errors);
    let (cluster, path) = (cluster?, path?);
    let rule = Rule::new(RuleKind::Credential, &at.path);
    let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Some(Rc::new(Lookup {
        id: AccountKey::hash(&[
            b"lookup",
            terms.namespace.as_bytes(),
            terms.api.as_str().as_bytes(),
            cluster.as_bytes(),
            path.as_bytes(),
        ]),
        authority: authority.unwrap_or_else(|| cluster.into()),
        cluster: cluster.into(),
        path: path.into(),
        timeout: u32::try_from(timeout?.checked_div(MILLISECOND)?).ok()?,
        ttl: ttl?,
        negative_ttl: negative_ttl?,
        max_stale: max_stale?,
        max_entries: size(max_entries),
        max_in_flight: size(max_in_flight),
        breaker: breaker?,
        terms: Rc::clone(terms),
        rule,
    }))
}

/// What there is to know of a kind of files
pub(super) struct File<'a> {
    /// Whose it is: two, for what else makes it another file is added
    pub(super) home: &'a [&'a [u8]; 2],
    /// Bytes of a page
    pub(super) page: usize,
    /// What the policy may say of its length
    pub(super) bytes: RangeInclusive<u64>,
    /// Its length at the most, unless the policy says otherwise
    pub(super) max_bytes: usize,
    /// Whether silence of its source makes it stale; else it is as old as it says
    pub(super) may_be_stale: bool,
    pub(super) kind: RuleKind,
}

/// Reads the fields of `bundle` that say where it comes from; `None` where it comes with the policy alone
pub(super) fn read_source(
    map: &mut Map<'_>,
    file: &File<'_>,
    errors: &mut Errors,
) -> Option<Rc<Source>> {
    let at = map.take("cluster");
    let path_at = map.take("path");
    let max_stale = if file.may_be_stale {
        map.take("max_stale")
    } else {
        None
    };
    let [authority_at, max_bytes, refresh, timeout] =
        ["authority", "max_bytes", "refresh", "timeout"].map(|name| map.take(name));
    let others = [authority_at, max_bytes, max_stale, refresh, timeout];
    let Some(at) = at else {
        for at in others.into_iter().chain([path_at]).flatten() {
            errors.push(
                &at.path,
                "says how the bundle is fetched: write `cluster` too",
            );
        }
        return None;
    };
    let [authority_at, max_bytes, max_stale, refresh, timeout] = others;
    let cluster = cluster(&at, errors);
    if path_at.is_none() {
        errors.push(&crate::reader::join(&map.path, "path"), "is required");
    }
    let path = path_at.and_then(|at| target(&at, errors));
    let authority = authority_at.and_then(|at| authority(&at, errors));
    let max_bytes = match max_bytes {
        Some(at) => usize::try_from(at.integer(file.bytes.clone(), errors)?).ok(),
        None => Some(file.max_bytes),
    };
    let mut span = |at: Option<At<'_>>, range, default| {
        at.map_or(Some(default), |at| read_span(&at, range, errors))
    };
    let max_stale = span(max_stale, MINUTE..=30 * 24 * HOUR, 6 * HOUR);
    let refresh = span(refresh, SECOND..=24 * HOUR, MINUTE);
    let timeout = span(timeout, 10 * MILLISECOND..=30 * SECOND, 5 * SECOND);
    let (cluster, path) = (cluster?, path?);
    let [label, home] = file.home;
    Some(Rc::new(Source {
        id: AccountKey::hash(&[label, home, cluster.as_bytes(), path.as_bytes()]),
        authority: authority.unwrap_or_else(|| cluster.into()),
        cluster: cluster.into(),
        path: path.into(),
        timeout: u32::try_from(timeout?.checked_div(MILLISECOND)?).ok()?,
        refresh: refresh?,
        max_stale: max_stale?,
        max_bytes: max_bytes?,
        page: file.page,
        rule: Rule::new(file.kind, &map.path),
    }))
}

/// A path, perhaps with a query, as it is sent
fn target<'n>(at: &At<'n>, errors: &mut Errors) -> Option<&'n str> {
    let text = at.string(errors)?;
    let checked = path::check(text.as_bytes());
    if checked.is_none_or(|path| path.encoded != 0)
        || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        errors.push(&at.path, "must be a plain absolute path");
        return None;
    }
    Some(text)
}

const BREAKER: BreakerRule = BreakerRule {
    failures: 5,
    pause: 5 * SECOND,
};

fn read_breaker(at: &At<'_>, errors: &mut Errors) -> Option<BreakerRule> {
    let mut map = at.map(errors)?;
    let failures = map
        .require("failures", errors)
        .and_then(|at| at.integer(1..=1000, errors));
    let pause = map.require("pause", errors);
    let pause = pause.and_then(|at| read_span(&at, 100 * MILLISECOND..=HOUR, errors));
    map.finish(errors);
    Some(BreakerRule {
        failures: failures?,
        pause: pause?,
    })
}

/// The name of a cluster, which is the host's to know
pub(super) fn cluster<'n>(at: &At<'n>, errors: &mut Errors) -> Option<&'n str> {
    let text = at.string(errors)?;
    // Istio's names hold `|`.
    let good = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || text.len() > 256 || !text.bytes().all(good) {
        errors.push(
            &at.path,
            "must be the name of a cluster, 1 to 256 visible characters",
        );
        return None;
    }
    Some(text)
}

fn prefix<'n>(at: &At<'n>, errors: &mut Errors) -> Option<&'n str> {
    let text = at.string(errors)?;
    let checked = path::check(text.as_bytes());
    let plain = checked.is_some_and(|path| path.encoded == 0 && path.query.is_none());
    if !plain || !text.ends_with('/') {
        let message =
            "must be a plain absolute path that ends in `/`: the key's digest comes behind it";
        errors.push(&at.path, message);
        return None;
    }
    Some(text)
}

/// What a service is called by, where that is not the cluster's name
pub(super) fn authority(at: &At<'_>, errors: &mut Errors) -> Option<Box<str>> {
    let text = at.string(errors)?;
    let host = crate::host::normalise(text.as_bytes());
    if host.is_none() {
        errors.push(
            &at.path,
            format!("`{}` is not a host name", text.escape_default()),
        );
    }
    host.map(|_| text.to_string().into())
}
