//! Which lists a target is on.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::net::IpAddr;

use crate::address;
use crate::bundle::{Bundle, Row, Set};
use crate::case::Case;
use crate::evidence::{Code, Points};
use crate::expression::{Expression, Expressions};
use crate::lists::{Entry, Lists};
use crate::safe_browsing::SafeBrowsing;
use crate::target::{Host, Target, TargetKind};
use crate::verdict::{Hit, Match};
use crate::web::Web;

/// The hosts that a target may lead to: browsers' and, where that is another, feeds'
#[derive(Debug)]
pub(crate) struct Hosts<'t> {
    names: [Option<&'t str>; 2],
    /// With what is embedded in an IPv6 address
    addresses: [Option<IpAddr>; 3],
}

impl<'t> Hosts<'t> {
    pub(crate) fn of(target: &'t Target<'_>) -> Self {
        let mut hosts = Self {
            names: [None; 2],
            addresses: [None; 3],
        };
        match target.host() {
            Some(Host::Domain(name)) => hosts.names[0] = Some(name),
            Some(Host::Address(address)) => hosts.addresses[0] = Some(*address),
            None => {}
        }
        let other = target.web().filter(|web| web.disagrees());
        if let Some(url) = other.and_then(Web::safe_browsing) {
            if url.is_address() {
                let host = url.host().trim_matches(['[', ']']);
                hosts.addresses[1] = host.parse().ok();
            } else {
                hosts.names[1] = Some(url.host());
            }
        }
        if let Some(IpAddr::V6(address)) = hosts.addresses[0] {
            let inner = address::embedded(address);
            hosts.addresses[2] = inner.map(|(_, address)| address.into());
        }
        hosts
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'t str> {
        self.names.into_iter().flatten()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.into_iter().flatten()
    }
}

/// Looks a target up in the policy's own lists; the most specific entry counts
pub(crate) fn lists(lists: &Lists, target: &Target<'_>, hosts: &Hosts<'_>, case: &mut Case<'_>) {
    if let Some(digest) = target.digest() {
        let kind = match target.kind() {
            TargetKind::Payload => TargetKind::Sha256,
            kind => kind,
        };
        if let Some(entry) = lists.hash(digest.as_bytes()) {
            case.found(LISTED.1, listed(kind.word(), Match::Exact, entry));
        }
        return;
    }
    let web = target.web().filter(|_| target.kind() == TargetKind::Url);
    if let Some(web) = web {
        let entry = web.safe_browsing().and_then(|url| lists.url(url));
        let entry = entry.or_else(|| lists.url(&web.browsers_form()?));
        if let Some(entry) = entry {
            case.found(LISTED.1, listed("url", Match::Exact, entry));
            return;
        }
    }
    for name in hosts.names() {
        if let Some(entry) = lists.domain(name) {
            let how = if &*entry.value == name {
                Match::Exact
            } else {
                Match::Parent
            };
            case.found(LISTED.1, listed("domain", how, entry));
            return;
        }
    }
    for address in hosts.addresses() {
        if let Some((entry, is_exact)) = lists.address(address) {
            let how = if is_exact {
                Match::Exact
            } else {
                Match::Network
            };
            case.found(LISTED.1, listed(family(address), how, entry));
            return;
        }
    }
}

/// Looks a target up in a bundle
pub(crate) fn bundle<'a>(
    bundle: &'a Bundle,
    target: &Target<'_>,
    hosts: &Hosts<'_>,
    case: &mut Case<'a>,
) {
    if let Some(digest) = target.digest() {
        let kind = match target.kind() {
            TargetKind::Payload => TargetKind::Sha256,
            kind => kind,
        };
        if let Some(row) = bundle.find(Set::Hash, digest.as_bytes()) {
            found(
                bundle,
                case,
                kind.word(),
                digest.to_hex(),
                Match::Exact,
                row,
            );
        }
        case.allowed |= bundle.allowed(Set::Hash, digest.as_bytes()).is_some();
        return;
    }
    if let Some(web) = target.web().filter(|_| target.kind() == TargetKind::Url) {
        if let Some(url) = web.safe_browsing() {
            look_up_url(bundle, url, case);
        }
        if let Some(url) = web.browsers_form() {
            look_up_url(bundle, &url, case);
        }
    }
    for name in hosts.names() {
        look_up_name(bundle, name, case);
    }
    for address in hosts.addresses() {
        let exact = bundle.address(address).map(|row| (row, Match::Exact));
        let row = exact.or_else(|| Some((bundle.network(address)?, Match::Network)));
        if let Some((row, how)) = row {
            found(bundle, case, family(address), address.to_string(), how, row);
        }
        case.allowed |= bundle.allowed_address(address).is_some();
    }
}

/// How sure a policy is of what it lists, and what that weighs
const LISTED: (u8, Points) = (95, Points::new(90));

/// Most labels of a name under which it is looked up
const MAX_LABELS: usize = 8;

fn look_up_url<'a>(bundle: &'a Bundle, url: &SafeBrowsing, case: &mut Case<'a>) {
    if let Some((text, how, row)) = first_of(bundle, url.expressions(), false) {
        found(bundle, case, "url", text.to_owned(), how, row);
    } else if bundle.has_caseless() && url.exact().bytes().any(|byte| byte.is_ascii_uppercase()) {
        let lower = url.exact().to_ascii_lowercase();
        if let Some((text, how, row)) = first_of(bundle, url.expressions_of(&lower), true) {
            found(bundle, case, "url", text.to_owned(), how, row);
        }
    }
    case.allowed |= url.expressions().any(
        |Expression {
             text,
             own_host,
             own_path,
         }| {
            bundle
                .allowed(Set::Url, text.as_bytes())
                .is_some_and(|row| row.counts(own_host, own_path))
        },
    );
}

/// The most specific expression that is listed
fn first_of<'t>(
    bundle: &Bundle,
    expressions: Expressions<'t>,
    caseless: bool,
) -> Option<(&'t str, Match, Row)> {
    for Expression {
        text,
        own_host,
        own_path,
    } in expressions
    {
        if let Some(row) = bundle.find(Set::Url, text.as_bytes())
            && row.counts(own_host, own_path)
            && (row.is_caseless() || !caseless)
        {
            let how = if own_host && own_path {
                Match::Exact
            } else {
                Match::Parent
            };
            return Some((text, how, row));
        }
    }
    None
}

fn look_up_name<'a>(bundle: &'a Bundle, name: &str, case: &mut Case<'a>) {
    let mut found_one = false;
    for (suffix, own_host) in suffixes(name) {
        if !found_one
            && let Some(row) = bundle.find(Set::Domain, suffix.as_bytes())
            && row.counts(own_host, true)
        {
            let how = if own_host {
                Match::Exact
            } else {
                Match::Parent
            };
            found(bundle, case, "domain", suffix.to_owned(), how, row);
            found_one = true;
        }
        case.allowed |= bundle
            .allowed(Set::Domain, suffix.as_bytes())
            .is_some_and(|row| row.counts(own_host, true));
    }
}

/// A name, and its ends of two labels at least; of a long one the whole and the last few
fn suffixes(name: &str) -> impl Iterator<Item = (&str, bool)> {
    let labels = name.bytes().filter(|byte| *byte == b'.').count();
    let skipped = labels.saturating_sub(MAX_LABELS);
    let dots = name.match_indices('.').skip(skipped);
    let ends = dots.filter_map(move |(dot, _)| name.get(dot.saturating_add(1)..));
    let ends = ends.filter(|end| end.contains('.')).map(|end| (end, false));
    core::iter::once((name, true)).chain(ends)
}

fn found<'a>(
    bundle: &'a Bundle,
    case: &mut Case<'a>,
    kind: &'static str,
    value: String,
    how: Match,
    row: Row,
) {
    let until = bundle.row_until(&row);
    // Who lists it has said nothing for too long.
    if until < case.now {
        case.evidence.push(Code::BundleStale, Points::NONE);
        return;
    }
    case.until = case.until.min(until);
    let hit = Hit {
        kind,
        value,
        how,
        category: row.category,
        confidence: row.confidence,
        feed: bundle.feed(row.feed),
        own: false,
        seen: (row.first_seen, row.last_seen),
        block: row.block,
        embedded: false,
    };
    case.found(Points::new(row.confidence), hit);
}

fn listed<'a>(kind: &'static str, how: Match, entry: &Entry) -> Hit<'a> {
    Hit {
        kind,
        value: entry.value.as_ref().to_owned(),
        how,
        category: entry.category,
        confidence: LISTED.0,
        feed: None,
        own: true,
        seen: (None, None),
        block: true,
        embedded: false,
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}
