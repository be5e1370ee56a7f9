//! What one bundle has that another hasn't.

use portcullis_threat::bundle::{Bundle, Count, List, StoredKey};
use serde_json::{Map, Value, json};

use crate::inspect::COUNTS;

/// How two bundles differ
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Feeds by name, with their indicators before and after
    pub feeds: Vec<(String, Option<u32>, Option<u32>)>,
    /// Sets by list and name, with what they hold before and after
    pub sets: Vec<(List, &'static str, u32, u32)>,
    /// Keys that came and keys that went; `None` when the bundles have other secrets, so that keys can't be compared
    pub keys: Option<(usize, usize)>,
}

/// Compares two bundles
#[must_use]
pub fn diff(old: &Bundle, new: &Bundle) -> Difference {
    let mut feeds: Vec<(String, Option<u32>, Option<u32>)> = old
        .feeds()
        .map(|feed| (feed.name.to_owned(), Some(feed.indicators), None))
        .collect();
    for feed in new.feeds() {
        match feeds.iter_mut().find(|(name, _, _)| name == feed.name) {
            Some((_, _, count)) => *count = Some(feed.indicators),
            None => feeds.push((feed.name.to_owned(), None, Some(feed.indicators))),
        }
    }
    let mut sets = Vec::new();
    let mut keys = old.has_secret_of(new).then_some((0_usize, 0_usize));
    for list in [List::Deny, List::Allow] {
        for (word, what) in COUNTS {
            let (before, after) = (old.count(list, what), new.count(list, what));
            if before > 0 || after > 0 {
                sets.push((list, word, before, after));
            }
            if what == Count::Confirmed {
                continue;
            }
            if let Some((came, went)) = &mut keys {
                let (more, less) = compare(&old.keys_of(list, what), &new.keys_of(list, what));
                *came = came.saturating_add(more);
                *went = went.saturating_add(less);
            }
        }
    }
    Difference { feeds, sets, keys }
}

/// How many of two ascending lists are only in the second, and only in the first
///
/// What is stored of a key is more or less exact, as sets are larger or smaller: two that may be the same are.
fn compare(old: &[StoredKey], new: &[StoredKey]) -> (usize, usize) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let (mut came, mut went) = (0_usize, 0_usize);
    while let (Some(one), Some(other)) = (old.peek(), new.peek()) {
        let is_before =
            |one: &StoredKey, other: &StoredKey| (one.rest, one.most) < (other.rest, other.least);
        if is_before(one, other) {
            went = went.saturating_add(1);
            old.next();
        } else if is_before(other, one) {
            came = came.saturating_add(1);
            new.next();
        } else {
            old.next();
            new.next();
        }
    }
    (
        came.saturating_add(new.count()),
        went.saturating_add(old.count()),
    )
}

impl Difference {
    /// Whether anything differs
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_none_or(|keys| keys == (0, 0))
            && self.feeds.iter().all(|(_, before, after)| before == after)
            && self
                .sets
                .iter()
                .all(|(_, _, before, after)| before == after)
    }

    /// For machines
    #[must_use]
    pub fn json(&self) -> Value {
        let feeds: Map<_, _> = self
            .feeds
            .iter()
            .map(|(name, before, after)| (name.clone(), json!({"before": before, "after": after})))
            .collect();
        let sets = |list: List| {
            let of = self.sets.iter().filter(move |(of, ..)| *of == list);
            of.map(|(_, word, before, after)| {
                (
                    (*word).to_owned(),
                    json!({"before": before, "after": after}),
                )
            })
            .collect::<Map<_, _>>()
        };
        json!({
            "feeds": feeds,
            "deny": sets(List::Deny),
            "allow": sets(List::Allow),
            "keys": self.keys.map(|(came, went)| json!({"came": came, "went": went})),
        })
    }

    /// For people
    #[must_use]
    pub fn text(&self) -> String {
        let shown = |count: &Option<u32>| {
            count.map_or_else(|| "none".to_owned(), |count| count.to_string())
        };
        let mut lines: Vec<String> = Vec::new();
        for (name, before, after) in &self.feeds {
            lines.push(format!(
                "feed {name}: {} to {}",
                shown(before),
                shown(after)
            ));
        }
        for (list, word, before, after) in &self.sets {
            let list = if *list == List::Deny { "deny" } else { "allow" };
            lines.push(format!("{list} {word}: {before} to {after}"));
        }
        lines.push(match self.keys {
            Some((came, went)) => format!("{came} keys came, {went} went"),
            None => "keys can't be compared: compile both with the same --secret-file".to_owned(),
        });
        lines.push(String::new());
        lines.join("\n")
    }
}
