//! The table against the published algorithm, and against `publicsuffix`, a reader of the list.

#![expect(clippy::arithmetic_side_effects, reason = "test code")]

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use publicsuffix::{List, Psl};

use super::*;

const LIST: &str = include_str!("../../../../host-tests/fit/data/public_suffix_list.dat");

/// The rules in ASCII form, with their marks
fn rules() -> BTreeSet<String> {
    let rules = LIST.lines().filter_map(|line| {
        let rule = line.split_whitespace().next()?;
        if line.starts_with("//") {
            return None;
        }
        let name = rule.trim_start_matches('!').trim_start_matches("*.");
        let (mark, _) = rule.split_at(rule.len() - name.len());
        let name = idna::domain_to_ascii(name).expect("a rule is a name");
        Some(format!("{mark}{name}"))
    });
    rules.collect()
}

/// As publicsuffix.org has it: of the rules that match, the exception prevails, less its first label; or else the
/// longest; or else `*`
fn model(rules: &BTreeSet<String>, name: &str) -> bool {
    let ends = core::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
    for (labels, end) in ends.enumerate() {
        if rules.contains(&format!("!{end}")) {
            return false;
        }
        let wildcard = end.split_once('.').map(|(_, above)| format!("*.{above}"));
        if rules.contains(end) || wildcard.is_some_and(|rule| rules.contains(&rule)) {
            return labels == 0;
        }
    }
    !name.contains('.')
}

#[test]
fn every_rule_its_neighbours_and_what_is_below_them() {
    let list: List = LIST.parse().expect("the list is one");
    let rules = rules();
    assert!(rules.len() > 10_000, "{}", rules.len());
    let names: Vec<&str> = rules
        .iter()
        .map(|rule| rule.trim_start_matches('!').trim_start_matches("*."))
        .collect();
    let mut suffixes = 0;
    let mut differ = BTreeSet::new();
    // Each rule, with a label of another one below it.
    for (name, other) in names.iter().zip(names.iter().cycle().skip(4_567)) {
        let (label, _) = other.split_once('.').unwrap_or((other, ""));
        let (head, tail) = name.split_at(name.len() - 1);
        let cut = name.get(1..).filter(|cut| !cut.starts_with('.'));
        let above = name.split_once('.').map(|(_, above)| above.to_string());
        let sibling = above.as_ref().map(|above| format!("zz9.{above}"));
        let asked = [
            Some(name.to_string()),
            Some(format!("a.{name}")),
            Some(format!("www.{name}")),
            Some(format!("b.a.{name}")),
            Some(format!("{label}.{name}")),
            Some(format!("x{name}")),
            Some(format!("{head}0{tail}")),
            Some(format!("{name}.example")),
            Some(format!("{name}.com")),
            cut.map(ToString::to_string),
            above,
            sibling,
        ];
        for asked in asked.iter().flatten() {
            let expected = model(&rules, asked);
            assert_eq!(is_public(asked), expected, "{asked}");
            suffixes += usize::from(expected);
            let suffix = list.suffix(asked.as_bytes()).expect("it has one");
            if (suffix == asked.as_bytes()) != expected {
                differ.insert(asked.clone());
            }
        }
    }
    assert!(suffixes > names.len(), "{suffixes}");
    // Where a name below a wildcard is on the way to other rules, the crate forgets the wildcard.
    assert!(differ.contains("r.cloud.int.apple"));
    for name in &differ {
        let (_, above) = name.split_once('.').expect("it has several labels");
        assert!(rules.contains(&format!("*.{above}")), "{name}");
        assert!(rules.contains(&format!("*.{name}")), "{name}");
    }
}

#[test]
fn suffixes_and_domains() {
    assert!(LIST.contains(&format!("// VERSION: {}_", list_date())));
    for name in [
        "com",
        "example",
        "xn--p1ai",
        "co.uk",
        "github.io",
        "workers.dev",
        "ck",
        "any.ck",
        "b.kobe.jp",
        "xn--55qx5d.cn",
        "s3.amazonaws.com",
        "r.cloud.int.apple",
    ] {
        assert!(is_public(name), "{name}");
    }
    for name in [
        "acme.example",
        "co.example",
        "example.co.uk",
        "a.github.io",
        "www.ck",
        "city.kobe.jp",
        "kobe.jp",
        "amazonaws.com",
        "a.any.ck",
        "a.www.ck",
        "UK.co",
        ".",
        "..uk",
    ] {
        assert!(!is_public(name), "{name}");
    }
}
