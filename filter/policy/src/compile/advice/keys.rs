//! What is worth a look about keys, and the scopes that they have.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{At, Said, texts};
use crate::name::Name;
use crate::node::Node;
use crate::reader::{Errors, join};

/// A key as far as advice needs it
pub(super) struct Key<'n> {
    pub(super) at: At<'n>,
    pub(super) scopes: BTreeSet<&'n str>,
    /// Whether it is neither disabled nor revoked
    pub(super) works: bool,
}

/// The list of an API's own keys, and whether others come from elsewhere
pub(super) fn list_of<'n>(api: &At<'n>) -> (Option<At<'n>>, bool) {
    let Some(keys) = api.at("keys") else {
        return (None, false);
    };
    let elsewhere = ["bundle", "lookup"];
    let elsewhere = elsewhere.iter().any(|name| keys.at(name).is_some());
    let list = match keys.node {
        Node::Map(_) => keys.at("inline"),
        _ => Some(keys),
    };
    let list = list.filter(|list| matches!(list.node, Node::List(_)));
    (list, elsewhere)
}

/// The keys of an API; `None` when some come from elsewhere
pub(super) fn keys_of<'n>(api: &At<'n>, revoked: &BTreeSet<&str>) -> Option<Vec<Key<'n>>> {
    let (Some(list), false) = list_of(api) else {
        return None;
    };
    let key = |at: At<'n>| {
        let id = at.at("id").and_then(|id| id.text()).unwrap_or_default();
        Key {
            scopes: texts(&at, "scopes"),
            works: !revoked.contains(id) && !at.says("state", "disabled"),
            at,
        }
    };
    Some(list.items().into_iter().map(key).collect())
}

/// What is said of keys over all APIs
pub(super) fn advise(root: &At<'_>, apis: &[(&str, At<'_>)], said: &mut Said) {
    let none = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut principals = BTreeSet::new();
    let mut are_all_listed = true;
    for (name, api) in apis {
        let Some(keys) = keys_of(api, &none) else {
            are_all_listed = false;
            continue;
        };
        for key in &keys {
            ids.extend(key.at.at("id").and_then(|id| id.text()));
            let principal = key.at.at("principal").and_then(|at| at.text());
            principals.extend(principal.map(|principal| (*name, principal)));
        }
    }
    let revoked = root.at("revoked").map(|list| list.items());
    for at in revoked.unwrap_or_default() {
        if let Some(id) = at.text().filter(|id| are_all_listed && !ids.contains(id)) {
            said.warn(&at.path, format!("no key has the id `{id}`"));
        }
    }
    let count = u64::try_from(principals.len()).unwrap_or(u64::MAX);
    if let Some(max) = root.at("max_accounts")
        && let Some(accounts) = max.integer(0..=count, &mut Errors::default())
        && accounts < count
    {
        let message =
            format!("{count} principals have keys here: those above {accounts} share accounts");
        said.warn(&max.path, message);
    }
}

/// Scopes that open nothing, and doors that nobody can open
pub(super) fn advise_scopes(
    routes: &[(&str, At<'_>)],
    keys: &[Key<'_>],
    needed: &[BTreeSet<&str>],
    said: &mut Said,
) {
    for key in keys {
        if !needed.iter().any(|scopes| scopes.is_subset(&key.scopes)) {
            let id = key.at.at("id").and_then(|id| Name::parse(id.text()?).ok());
            let id = id.map_or_else(String::new, |id| format!("`{}` ", id.as_str()));
            let message = format!("{id}opens no route: each needs a scope that this key lacks");
            said.warn(&key.at.path, message);
        }
        let scopes = key.at.at("scopes").map(|scopes| scopes.items());
        for at in scopes.unwrap_or_default() {
            let scope = at.text().unwrap_or_default();
            if !needed.iter().any(|scopes| scopes.contains(scope)) {
                said.warn(&at.path, format!("no route needs the scope `{scope}`"));
            }
        }
    }
    for (_, route) in routes {
        let scopes = texts(route, "scope");
        let opens = |key: &Key<'_>| key.works && scopes.is_subset(&key.scopes);
        if !scopes.is_empty() && !keys.iter().any(opens) {
            let scopes: Vec<_> = scopes.into_iter().collect();
            let message = format!(
                "no working key has the scope: {}; nobody can use this route",
                scopes.join(" with ")
            );
            said.warn(&join(&route.path, "scope"), message);
        }
    }
}
