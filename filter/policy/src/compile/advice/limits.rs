//! What is worth a look about rates and the limits that routes spend.

use alloc::format;
use alloc::vec::Vec;

use super::super::quantity;
use super::{At, Said, texts};
use crate::bucket::Bucket;
use crate::reader::{Errors, join};

/// Limits that nobody spends, and rates that every tier is below
pub(super) fn advise(api: &At<'_>, routes: &[(&str, At<'_>)], said: &mut Said) {
    let tiers = api.at("tiers").map(|all| all.each()).unwrap_or_default();
    let tiers: Vec<_> = tiers.iter().map(|(_, tier)| bucket_of(tier)).collect();
    for (name, limit) in api.at("limits").map(|all| all.each()).unwrap_or_default() {
        let spenders: Vec<_> = routes
            .iter()
            .map(|(_, route)| texts(route, "limits"))
            .filter(|limits| limits.contains(name))
            .collect();
        if spenders.is_empty() {
            said.warn(&limit.path, "no route spends it".into());
            continue;
        }
        advise_bucket(&limit, said);
        let is_shared = limit.at("per").is_some() && !limit.says("per", "principal");
        let Some(bucket) = bucket_of(&limit).filter(|_| !is_shared) else {
            continue;
        };
        let is_stricter = |tier: &Option<Bucket>| {
            tier.is_some_and(|tier| {
                tier.emission() >= bucket.emission() && tier.burst() <= bucket.burst()
            })
        };
        if spenders.iter().all(|limits| limits.contains("tier")) && tiers.iter().all(is_stricter) {
            let message = "can't bind: every tier is stricter, on all routes that spend it";
            said.warn(&limit.path, message.into());
        }
    }
}

/// Bursts so large that hardly anybody meets the rate behind them, and queues in which hardly anybody
/// waits
pub(super) fn advise_bucket(rule: &At<'_>, said: &mut Said) {
    const DAY: u64 = 86_400_000_000_000;
    let errors = &mut Errors::default();
    let Some(bucket) = bucket_of(rule) else {
        return;
    };
    let windows = bucket.burst().checked_div(bucket.count());
    if bucket.tolerance() > DAY
        && let Some(windows @ 10..) = windows
    {
        let message =
            format!("hardly binds: {windows} times the rate's count pass before the rate does");
        said.warn(&join(&rule.path, "burst"), message);
    }
    if let Some(at) = rule.at("queue").and_then(|queue| queue.at("max_wait"))
        && let Some(wait) = quantity::read_span(&at, 1..=Bucket::MAX_WAIT, errors)
        && wait < bucket.emission()
    {
        let seconds = bucket.emission().div_ceil(1_000_000_000);
        let message = format!(
            "hardly anybody waits: the rate lets one pass in {seconds} s, and nobody is held so long"
        );
        said.warn(&at.path, message);
    }
}

fn bucket_of(rule: &At<'_>) -> Option<Bucket> {
    let errors = &mut Errors::default();
    let mut map = rule.map(errors)?;
    quantity::read_bucket(&mut map, 1, errors)?
}
