//! Reads a public suffix list.

use portcullis_threat::structure::suffix::{SuffixRule, Suffixes};

/// A rule of a list
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Its name in ASCII form, without `*.` and `!`
    pub(crate) name: String,
    pub(crate) wildcard: bool,
    pub(crate) exception: bool,
    /// From the private part of the list
    private: bool,
}

/// The section for a list in the format of publicsuffix.org, and more names of shared hosts, one a line
///
/// # Errors
/// A rule that is no name, with its line
pub fn suffixes(list: &str, shared_hosts: &str) -> Result<Vec<u8>, String> {
    let shared = shared_hosts
        .lines()
        .map(str::trim)
        .filter(|host| !host.is_empty() && !host.starts_with('#'))
        .map(|host| SuffixRule {
            name: host,
            wildcard: false,
            exception: false,
            private: true,
        });
    let listed = rules(list)?;
    let listed = listed.iter().map(|rule| SuffixRule {
        name: &rule.name,
        wildcard: rule.wildcard,
        exception: rule.exception,
        private: rule.private,
    });
    Suffixes::write(shared.chain(listed))
        .ok_or_else(|| String::from("suffix list: more than 65,535 rules"))
}

/// The rules of a list in the format of publicsuffix.org
///
/// # Errors
/// A rule that is no name, with its line
pub(crate) fn rules(list: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut private = false;
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
        rules.push(Rule {
            name,
            wildcard,
            exception,
            private,
        });
    }
    Ok(rules)
}
