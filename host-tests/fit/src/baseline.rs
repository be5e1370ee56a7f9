//! The untuned score that the model is compared with: fixed points for a handful of signals, added up.

use portcullis_threat::structure::model::write::parts;
use portcullis_threat::structure::{Site, Tables, View};

const ABUSED: [&str; 40] = [
    "top", "xyz", "icu", "cyou", "cfd", "sbs", "shop", "club", "online", "site", "live", "click",
    "link", "buzz", "rest", "bond", "vip", "work", "info", "tk", "ml", "ga", "cf", "gq", "cn",
    "pw", "cc", "ru", "su", "fun", "space", "website", "monster", "quest", "lol", "win", "bid",
    "loan", "best", "ws",
];
const WORDS: [&str; 20] = [
    "login", "logon", "signin", "verify", "verif", "secure", "account", "update", "wallet",
    "confirm", "support", "bank", "auth", "password", "webmail", "recover", "unlock", "billing",
    "invoice", "claim",
];

/// Points of a URL
pub(crate) fn score(view: &View<'_>, tables: &Tables<'_>) -> i32 {
    let Site::Name(name) = view.host else {
        return 30;
    };
    let host = name.strip_prefix(b"www.").unwrap_or(name);
    let [sub, core, platform, registry] = parts(host, tables);
    let path = [view.path, b"?", view.query].concat().to_ascii_lowercase();
    let words = |text: &[u8]| WORDS.iter().any(|word| contains(text, word.as_bytes()));
    let tld = registry
        .rsplit(|byte| *byte == b'.')
        .next()
        .unwrap_or_default();
    let brand = |text: &[u8]| {
        tables.brands.within(text).is_some()
            || text
                .split(|byte| !byte.is_ascii_alphanumeric())
                .any(|token| tables.brands.exact(token).is_some())
    };
    let signals: [(bool, i32); 13] = [
        (!platform.is_empty(), 15),
        (ABUSED.iter().any(|abused| abused.as_bytes() == tld), 15),
        (
            tables.brands.exact(core).is_none() && (brand(core) || brand(sub)),
            25,
        ),
        (brand(&path), 10),
        (words(host), 15),
        (words(&path), 10),
        (host.iter().filter(|byte| **byte == b'-').count() >= 2, 10),
        (host.len() >= 30, 10),
        (
            core.iter().filter(|byte| byte.is_ascii_digit()).count() >= 4,
            10,
        ),
        (sub.iter().filter(|byte| **byte == b'.').count() >= 2, 10),
        (host.len().saturating_add(path.len()) >= 75, 5),
        (view.userinfo || view.port.is_some(), 25),
        (contains(host, b"xn--") || contains(&path, b"%25"), 20),
    ];
    signals
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, points)| points)
        .sum()
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}
