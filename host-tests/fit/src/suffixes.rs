//! Reads a public suffix list.

use portcullis_threat::structure::suffix::{SuffixRule, Suffixes};

/// The section for a list in the format of publicsuffix.org, and more names of shared hosts, one a line
///
/// # Errors
/// A rule that is no name, with its line
pub fn suffixes(list: &str, shared_hosts: &str) -> Result<Vec<u8>, String> {
    let mut names = Vec::new();
    let mut private = false;
    for host in shared_hosts.lines().map(str::trim) {
        if !host.is_empty() && !host.starts_with('#') {
            names.push((host.to_owned(), false, false, true));
        }
    }
    for (number, line) in (1u32..).zip(list.lines()) {
        let line = line.trim();
        if line.contains("===BEGIN PRIVATE DOMAINS===") {
            private = true;
        } else if line.contains("===END PRIVATE DOMAINS===") {
            private = false;
        }
        let Some(rule) = line
            .split_whitespace()
            .next()
            .filter(|rule| !rule.starts_with("//"))
        else {
            continue;
        };
        let (wildcard, rule) = rule
            .strip_prefix("*.")
            .map_or((false, rule), |rest| (true, rest));
        let (exception, rule) = rule
            .strip_prefix('!')
            .map_or((false, rule), |rest| (true, rest));
        let name = idna::domain_to_ascii(rule)
            .ok()
            .filter(|name| !name.is_empty() && !name.contains('*'))
            .ok_or_else(|| {
                format!("suffix list, line {number}: `{rule}` is no name; leave it out")
            })?;
        names.push((name, wildcard, exception, private));
    }
    let rules = names
        .iter()
        .map(|(name, wildcard, exception, private)| SuffixRule {
            name,
            wildcard: *wildcard,
            exception: *exception,
            private: *private,
        });
    Suffixes::write(rules).ok_or_else(|| String::from("suffix list: more than 65,535 rules"))
}
