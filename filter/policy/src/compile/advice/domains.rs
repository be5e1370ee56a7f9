//! What is worth a look about access to domains.

use alloc::format;

use super::keys::list_of;
use super::{At, Said};
use crate::reader::join;
use crate::suffix;

/// Access to domains that opens all of them, or that nobody can get or needs
pub(super) fn advise(api: &At<'_>, routes: &[(&str, At<'_>)], said: &mut Said) {
    let (list, elsewhere) = list_of(api);
    let keys = list.map(|keys| keys.items()).unwrap_or_default();
    let has = |name: &str| routes.iter().any(|(_, route)| route.at(name).is_some());
    // Keys that come from elsewhere may have domains of their own.
    let mut is_given = has("grants") || elsewhere;
    for at in keys.iter().filter_map(|key| key.at("domains")) {
        for at in at.items() {
            is_given = true;
            if at.text() == Some("*") {
                said.note(&at.path, "opens every domain to this key".into());
            }
        }
    }
    let Some(access) = api.at("domain_access") else {
        return;
    };
    let forwards = access.says("unknown", "forward");
    if forwards {
        let message = "domains of which nothing is known reach the upstream: it has to check them";
        said.note(&join(&access.path, "unknown"), message.into());
    }
    if let Some(list) = access
        .at("list")
        .filter(|list| list.says("unavailable", "forward"))
    {
        let message =
            "while there is no list every domain reaches the upstream: it has to check them";
        said.note(&join(&list.path, "unavailable"), message.into());
    }
    if access.says("subdomains", "include") {
        let day = suffix::list_date();
        let message = format!(
            "public suffixes are those of {day}: `suffixes` names newer ones, whose customers are not each other's"
        );
        said.note(&join(&access.path, "subdomains"), message);
    }
    if !has("domain") {
        said.warn(
            &access.path,
            "no route says domain: nothing is checked".into(),
        );
    } else if !is_given && !forwards && !access.says("unknown", "ask") {
        let message = "nothing gives access to a domain: no route grants it, no key has domains";
        said.warn(&access.path, message.into());
    }
}
