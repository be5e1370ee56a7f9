//! Reading quotas: of tiers, of keys and of routes.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::{key_name, name, quantity};
use crate::entitlement::{Allowance, Allowances, Entitlement, Idempotency, Pack, Quota, Spend};
use crate::key::{Tiers, read_instant as instant};
use crate::node::Node;
use crate::period::{Calendar, Period};
use crate::policy::{Quotas, Tier};
use crate::reader::{At, Errors, Map, join};
use crate::record::{Rule, RuleKind};

const MAX_AMOUNT: u64 = 1_000_000_000;
/// Quotas of a tier, and packs of a key
const MAX_ENTRIES: usize = 32;
const DAY: u64 = 86_400;
const MAX_TTL: u64 = 30 * DAY;
const DEFAULT_HEADER: &str = "idempotency-key";

/// Months of the calendar, in UTC
const CALENDAR: Calendar = Calendar::Anchored {
    anchor: 0,
    months: 1,
};

/// Reads `quotas` of the policy: whether what is spent may be kept in this Envoy alone
pub(super) fn read_store(at: &At<'_>, errors: &mut Errors) -> bool {
    let Some(mut map) = at.map(errors) else {
        return true;
    };
    let store = map.require("store", errors);
    if let Some(store) = store {
        store.word(&[("local", ())], errors);
    }
    map.finish(errors);
    true
}

/// Reads `quotas` of a tier
pub(super) fn read_tier(map: &mut Map<'_>, errors: &mut Errors) -> Option<Quotas> {
    let at = map.take("quotas")?;
    let rule = Rule::new(RuleKind::Quota, &at.path);
    let allowances = match at.node {
        Node::String(_) => {
            at.word(&[("from_key", ())], errors)?;
            Allowances::FromKey
        }
        _ => Allowances::Tier(read_allowances(&at, errors)),
    };
    let common = Entitlement {
        calendar: CALENDAR,
        allowances: match &allowances {
            Allowances::Tier(allowances) => allowances.clone(),
            Allowances::FromKey => Vec::new(),
        },
        packs: Vec::new(),
        rule,
    };
    Some(Quotas {
        allowances,
        common: common.into(),
    })
}

/// Reads what a key's record says of quotas: `plan`, `anchor`, `period`, `quotas` and `packs`
///
/// Every reader of key records calls it, whatever the tier, so that all of them know the fields.
pub(crate) fn read_key(
    map: &mut Map<'_>,
    tier: Option<&Tier>,
    errors: &mut Errors,
) -> Option<Rc<Entitlement>> {
    let path = map.path.clone();
    let plan = map.take("plan");
    let anchor = map.take("anchor");
    let period = map.take("period");
    let own = map.take("quotas");
    let packs = map.take("packs");
    let says = [&plan, &anchor, &period, &own, &packs];
    let first = says.into_iter().flatten().next();
    let tier = tier?;
    let Some(quotas) = &tier.quotas else {
        if let Some(at) = first {
            let message = format!("the tier `{}` has no quotas", tier.name);
            errors.push(&at.path, message);
        }
        return None;
    };
    if first.is_none() && matches!(quotas.allowances, Allowances::Tier(_)) {
        return Some(Rc::clone(&quotas.common));
    }
    let plans = &[("monthly", 1), ("yearly", MONTHS)];
    let months = plan.and_then(|plan| plan.word(plans, errors)).unwrap_or(1);
    let calendar = read_calendar(anchor.as_ref(), period.as_ref(), months, errors);
    let mut allowances = match (&quotas.allowances, &own) {
        (Allowances::Tier(allowances), None) => allowances.clone(),
        (Allowances::Tier(_), Some(own)) => {
            let message = format!(
                "the tier `{}` says what its keys may spend: write `quotas: from_key` there",
                tier.name
            );
            errors.push(&own.path, message);
            return None;
        }
        (Allowances::FromKey, Some(own)) => read_allowances(own, errors),
        (Allowances::FromKey, None) => {
            errors.push(
                &join(&path, "quotas"),
                format!(
                    "is required: the tier `{}` leaves it to its keys",
                    tier.name
                ),
            );
            return None;
        }
    };
    for allowance in &mut allowances {
        let amount = allowance.amount;
        allowance.amount = amount.map(|amount| amount.saturating_mul(months));
    }
    let packs = packs.map(|at| read_packs(&at, &allowances, errors));
    let entitlement = Entitlement {
        calendar: calendar?,
        allowances,
        packs: packs.unwrap_or_default(),
        rule: Rc::clone(&quotas.common.rule),
    };
    Some(entitlement.into())
}

/// Whether two keys say the same of what their principal may spend
pub(super) fn is_same(one: Option<&Entitlement>, other: Option<&Entitlement>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (one, other) => one.is_none() == other.is_none(),
    }
}

/// Months that a yearly plan pays for at once
const MONTHS: u64 = 12;

fn read_calendar(
    anchor: Option<&At<'_>>,
    period: Option<&At<'_>>,
    months: u64,
    errors: &mut Errors,
) -> Option<Calendar> {
    let Some(at) = period else {
        let anchor = match anchor {
            Some(at) => instant(at, errors)?,
            None => 0,
        };
        return Some(Calendar::Anchored { anchor, months });
    };
    if let Some(anchor) = anchor {
        errors.push(&anchor.path, "a period that is given needs no anchor");
    }
    let mut map = at.map(errors)?;
    let [start, end] = ["from", "to"].map(|field| {
        let at = map.require(field, errors);
        at.and_then(|at| instant(&at, errors))
    });
    map.finish(errors);
    let (start, end) = (start?, end?);
    if end <= start {
        errors.push(&at.path, "ends before it begins");
        return None;
    }
    Some(Calendar::Given(Period { start, end }))
}

/// Reads `{ analyses: 5, reports: unlimited }`
fn read_allowances(at: &At<'_>, errors: &mut Errors) -> Vec<Allowance> {
    let mut allowances = Vec::new();
    for (key, at) in at.map(errors).into_iter().flat_map(Map::entries) {
        let quota = key_name(key, &at, errors).map(Quota::new);
        let amount = match at.node {
            Node::String(_) => at.word(&[("unlimited", None)], errors),
            _ => at.integer(0..=MAX_AMOUNT, errors).map(Some),
        };
        if let (Some(quota), Some(amount)) = (quota, amount) {
            allowances.push(Allowance { quota, amount });
        }
    }
    if allowances.len() > MAX_ENTRIES {
        errors.push(&at.path, "names too many quotas: 32 at the most");
    }
    allowances
}

fn read_packs(at: &At<'_>, allowances: &[Allowance], errors: &mut Errors) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    for at in at.list(errors).unwrap_or_default() {
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let id = map.require("id", errors).and_then(|id| name(&id, errors));
        let quota = map.require("quota", errors).and_then(|at| {
            let quota = name(&at, errors).map(Quota::new)?;
            let known = allowances.iter().any(|allowance| allowance.quota == quota);
            if !known {
                errors.push(&at.path, "is none of the quotas that the key has");
            }
            known.then_some(quota)
        });
        let amount = map.require("amount", errors);
        let amount = amount.and_then(|at| at.integer(1..=MAX_AMOUNT, errors));
        let expires = map.require("expires", errors);
        let expires = expires.and_then(|at| instant(&at, errors));
        map.finish(errors);
        let (Some(id), Some(quota), Some(amount), Some(expires)) = (id, quota, amount, expires)
        else {
            continue;
        };
        let pack = Pack {
            number: Pack::number(&id, quota.number),
            quota: quota.number,
            amount,
            expires,
        };
        if packs.iter().any(|other| other.number == pack.number) {
            errors.push(&at.path, format!("another pack has the id `{id}`"));
        }
        // The one that ends first is spent first; of the same end, whichever way they are written.
        let place = packs
            .partition_point(|other| (other.expires, other.number) < (pack.expires, pack.number));
        packs.insert(place, pack);
    }
    if packs.len() > MAX_ENTRIES {
        errors.push(&at.path, "lists too many packs: 32 at the most");
    }
    packs
}

/// Reads `spend` and `idempotency` of a route
pub(super) fn read_spend(map: &mut Map<'_>, tiers: &Tiers, errors: &mut Errors) -> Option<Spend> {
    let spend = map.take("spend");
    let idempotency = map.take("idempotency");
    let Some(at) = spend else {
        if let Some(idempotency) = idempotency {
            errors.push(
                &idempotency.path,
                "there is nothing to charge once: write what the route spends",
            );
        }
        return None;
    };
    let idempotency = idempotency.and_then(|at| read_idempotency(&at, errors));
    let quota = name(&at, errors).map(Quota::new)?;
    for tier in tiers.values() {
        let allowances = tier.quotas.as_ref().map(|quotas| &quotas.allowances);
        let has = match allowances {
            Some(Allowances::Tier(allowances)) => {
                allowances.iter().any(|allowance| allowance.quota == quota)
            }
            Some(Allowances::FromKey) => true,
            None => false,
        };
        if !has {
            let message = format!(
                "the tier `{}` does not say how many `{}` it includes: write a number, `unlimited`, or `quotas: from_key`",
                tier.name, quota.name
            );
            errors.push(&at.path, message);
        }
    }
    Some(Spend { quota, idempotency })
}

fn read_idempotency(at: &At<'_>, errors: &mut Errors) -> Option<Idempotency> {
    let mut map = at.map(errors)?;
    let upstream = map.require("upstream", errors);
    let upstream = upstream.and_then(|at| at.word(&[("deduplicates", ())], errors));
    let ttl = map.require("ttl", errors);
    let ttl = ttl.and_then(|at| {
        const SECOND: u64 = 1_000_000_000;
        let span = quantity::read_span(&at, 60 * SECOND..=MAX_TTL.saturating_mul(SECOND), errors)?;
        u32::try_from(span.div_ceil(SECOND)).ok()
    });
    let header = match map.take("header") {
        Some(at) => {
            let text = at.string(errors)?;
            let good =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if text.is_empty() || text.len() > 64 || !text.bytes().all(good) {
                errors.push(
                    &at.path,
                    "must be a header such as idempotency-key, in lower case",
                );
                return None;
            }
            text
        }
        None => DEFAULT_HEADER,
    };
    map.finish(errors);
    upstream?;
    Some(Idempotency {
        header: header.into(),
        ttl: ttl?,
        rule: Rule::new(RuleKind::Idempotency, &at.path),
    })
}
