//! Rules of content blockers: those that name a host, or a path on one.
//!
//! Grammar: <https://github.com/gorhill/uBlock/wiki/Static-filter-syntax>. Rules are caseless unless they say otherwise.

use portcullis_threat::bundle::Scope;

use super::lines::{about, host};
use super::{Rows, lines};
use crate::Reason;
use crate::indicator::{self, Indicator, Row};

pub(super) fn read(bytes: &[u8], rows: &mut dyn Rows) {
    for line in lines(bytes) {
        if line.starts_with(b"!") || line.starts_with(b"[Adblock") || line.starts_with(b"# ") {
            about(line, rows);
            continue;
        }
        let row = str::from_utf8(line).map_err(|_| Reason::Malformed);
        rows.row(row.and_then(rule).map(Row::of));
    }
}

fn rule(line: &str) -> Result<Indicator, Reason> {
    let is_cosmetic = ["##", "#@#", "#?#", "#$#", "$$"]
        .iter()
        .any(|mark| line.contains(mark));
    let is_regex = line.starts_with('/') && line.ends_with('/') && line.len() > 1;
    if line.starts_with("@@") || is_cosmetic || is_regex {
        return Err(Reason::UnsupportedRule);
    }
    let (pattern, options) = split_options(line);
    let mut case = Scope::CASELESS;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "match-case" => case = Scope::EXACT,
            "all" | "doc" | "document" | "important" | "popup" => {}
            // Any other narrows a rule to what can't be seen here: a page's own requests, other sites' frames.
            _ => return Err(Reason::UnsupportedRule),
        }
    }
    if let Some(pattern) = pattern.strip_prefix("||") {
        return anchored(pattern, case.and(Scope::SUBDOMAINS));
    }
    if let Some(pattern) = pattern.strip_prefix('|') {
        let rest = pattern.split_once("://").map(|(_, rest)| rest);
        return anchored(rest.ok_or(Reason::UnsupportedRule)?, case);
    }
    if let Some((_, rest)) = pattern.split_once("://") {
        return anchored(rest, case);
    }
    // `127.0.0.1 name`, as in a hosts file; or the name alone, which means all below it too.
    let mut words = pattern.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), None, None) => anchored(name, case.and(Scope::SUBDOMAINS)),
        (Some("0.0.0.0" | "127.0.0.1" | "::1" | "::"), Some(name), None) => {
            indicator::domain(name.as_bytes(), Scope::EXACT)
        }
        _ => Err(Reason::UnsupportedRule),
    }
}

/// A pattern from where a host begins
fn anchored(pattern: &str, scope: Scope) -> Result<Indicator, Reason> {
    let ends = |c: char| matches!(c, '/' | '?' | '^' | '|');
    let (name, rest) = pattern.split_at(pattern.find(ends).unwrap_or(pattern.len()));
    let named = name.strip_prefix("*.").unwrap_or(name);
    if named.trim_end_matches('*').contains('*') {
        return Err(Reason::UnsupportedRule);
    }
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = name
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.contains(':') && is_port(port));
    if matches!(rest, "" | "^" | "^|" | "|" | "^*" | "/^") && !has_port {
        let name = name.strip_suffix('*').unwrap_or(name);
        return if scope.has(Scope::SUBDOMAINS) {
            host(name)
        } else {
            indicator::address(name).or_else(|_| indicator::domain(name.as_bytes(), Scope::EXACT))
        };
    }
    // `^` is an end or anything that no name has; behind a whole path that is its end.
    let open = rest.ends_with('*');
    let path = rest.trim_end_matches(['*', '|', '^']);
    if named != name || path.contains(['*', '^', '|']) {
        return Err(Reason::UnsupportedRule);
    }
    // What goes on behind a directory can be looked up, as deep as lookup expressions go.
    let is_folder = path.ends_with('/') || path.is_empty();
    let is_reached =
        path.bytes().filter(|byte| *byte == b'/').count() <= DEEPEST && !path.contains('?');
    let scope = match (is_folder && is_reached, open) {
        (true, _) => scope.and(Scope::BELOW),
        (false, false) => scope,
        (false, true) => return Err(Reason::UnsupportedRule),
    };
    let path = if path.is_empty() { "/" } else { path };
    indicator::url(format!("http://{name}{path}").as_bytes(), scope)
}

/// Slashes of the longest directory that is looked up of every URL below it
const DEEPEST: usize = 4;

fn split_options(line: &str) -> (&str, &str) {
    let is_option = |option: &str| {
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        let name = name.strip_prefix('~').unwrap_or(name);
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'0'..=b'9' | b'-' | b'_'))
    };
    match line.rsplit_once('$') {
        Some((pattern, options)) if options.split(',').all(is_option) && !options.contains('/') => {
            (pattern, options)
        }
        _ => (line, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_mean() {
        let sub = Scope::SUBDOMAINS;
        let caseless = Scope::CASELESS;
        for (line, shown, scope) in [
            ("||evil.example^", "evil.example", Some(sub)),
            ("||evil.example^$all", "evil.example", Some(sub)),
            ("||evil.example", "evil.example", Some(sub)),
            (
                "||*.evil.example^",
                "evil.example",
                Some(sub.and(Scope::NOT_SELF)),
            ),
            ("evil.example", "evil.example", Some(sub)),
            ("127.0.0.1 evil.example", "evil.example", Some(Scope::EXACT)),
            ("192.0.2.7", "192.0.2.7", None),
            ("||192.0.2.7^$all", "192.0.2.7", None),
            (
                "||evil.example/A/b.exe^$all",
                "evil.example/a/b.exe",
                Some(sub.and(caseless)),
            ),
            ("||evil.example/A$match-case", "evil.example/A", Some(sub)),
            (
                "||192.0.2.7/x.sh^$all",
                "192.0.2.7/x.sh",
                Some(sub.and(caseless)),
            ),
            (
                "||192.0.2.7:8080^$all",
                "192.0.2.7/",
                Some(sub.and(caseless).and(Scope::BELOW)),
            ),
            (
                "||evil.example/a/*",
                "evil.example/a/",
                Some(sub.and(caseless).and(Scope::BELOW)),
            ),
            (
                "||evil.example/uc?id=A&b=$1^$all",
                "evil.example/uc?id=a&b=$1",
                Some(sub.and(caseless)),
            ),
            ("|https://evil.example/x|", "evil.example/x", Some(caseless)),
        ] {
            let found = rule(line).unwrap_or_else(|reason| panic!("{line}: {reason:?}"));
            assert_eq!(found.text(), shown, "{line}");
            let has = match found {
                Indicator::Url(url) => Some(url.scope),
                Indicator::Domain(_, scope) => Some(scope),
                _ => None,
            };
            assert_eq!(has, scope, "{line}");
        }
    }

    #[test]
    fn rules_that_mean_something_else_are_not_taken() {
        for line in [
            "@@||good.example^",
            "example.com##.ad",
            "/banner[0-9]+/",
            "||evil.example^$script,third-party",
            "||evil.example^$domain=a.example",
            "||evil.example/*/x.exe",
            "||evil.example/x*",
            "||evil.example/a/b/c/d/e/*",
            "||ev*l.example^",
            "|x",
        ] {
            assert_eq!(rule(line), Err(Reason::UnsupportedRule), "{line}");
        }
    }
}
