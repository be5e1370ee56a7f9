//! What is worth a look about quotas.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::{At, Said};

/// Quotas that nobody can spend, and what is forgotten on restart
pub(super) fn advise(root: &At<'_>, apis: &[(&str, At<'_>)], said: &mut Said) {
    let mut is_spent = false;
    for (_, api) in apis {
        let routes = api.at("routes").map(|all| all.each()).unwrap_or_default();
        let spends = routes.iter().filter_map(|(_, route)| route.at("spend"));
        let spends: Vec<_> = spends.collect();
        let spent: BTreeSet<&str> = spends.iter().filter_map(At::text).collect();
        is_spent |= !spent.is_empty();
        let tiers = api.at("tiers").map(|all| all.each()).unwrap_or_default();
        for (_, tier) in tiers {
            let quotas = tier.at("quotas").map(|quotas| quotas.each());
            for (name, at) in quotas.unwrap_or_default() {
                if !spent.contains(name) {
                    said.warn(&at.path, format!("no route spends `{name}`"));
                }
            }
        }
    }
    let Some(store) = root.at("quotas").and_then(|quotas| quotas.at("store")) else {
        return;
    };
    if is_spent {
        let message =
            "what was spent is forgotten when Envoy restarts, and each Envoy counts for itself";
        said.note(&store.path, message.into());
    } else {
        said.warn(&store.path, "no route spends a quota".into());
    }
}

#[cfg(test)]
mod tests {
    use crate::compile::advice::tests::{check, policy};

    const LOCAL: &str = r#", "quotas": {"store": "local"}"#;

    /// The policy of the other tests with a quota
    fn with_quotas(routes: &str, more: &str) -> alloc::string::String {
        let tier = r#""rate": "10/min""#;
        let quotas = r#""rate": "10/min", "quotas": {"items": 5}"#;
        policy("", routes, more).replace(tier, quotas)
    }

    #[test]
    fn what_a_restart_forgets_is_listed() {
        let route = r#""r": {"match": "GET /", "spend": "items"}"#;
        check(
            &with_quotas(route, LOCAL),
            &[
                "n quotas.store: what was spent is forgotten when Envoy restarts, and each Envoy counts for itself",
            ],
        );
    }

    #[test]
    fn quotas_that_nobody_spends() {
        let route = r#""r": {"match": "GET /"}"#;
        let unspent = "w apis.a.tiers.t.quotas.items: no route spends `items`";
        check(&with_quotas(route, ""), &[unspent]);
        check(
            &with_quotas(route, LOCAL),
            &[unspent, "w quotas.store: no route spends a quota"],
        );
    }
}
