//! What feeds say of indicators, and how it comes to at most 255 rows.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::super::row::{Row, Scope};
use crate::evidence::Category;

/// What one feed says of one indicator
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fact {
    /// The feed's number
    pub feed: u8,
    /// Where it counts
    pub scope: Scope,
    /// What it is said to be
    pub category: Category,
    /// How sure the feed is, in per cent
    pub confidence: u8,
    /// Whether it may be blocked on: its key is stored in full
    pub block: bool,
    /// In days since 1970, 0 when that isn't known
    pub first_seen: u16,
    /// In days since 1970, 0 when that isn't known
    pub last_seen: u16,
}

/// What all feeds say of one indicator
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Merged {
    fact: Fact,
    feeds: u64,
}

/// Facts by number
#[derive(Debug, Default)]
pub(super) struct Facts {
    numbers: BTreeMap<Merged, u32>,
    all: Vec<Merged>,
    pairs: BTreeMap<(u32, u32), u32>,
}

impl Facts {
    pub(super) fn number(&mut self, fact: &Fact) -> u32 {
        let feeds = 1_u64.checked_shl(fact.feed.into()).unwrap_or(0);
        let fact = Fact {
            confidence: fact.confidence.min(100),
            ..*fact
        };
        self.merged(Merged { fact, feeds })
    }

    /// What two facts come to
    pub(super) fn merge(&mut self, one: u32, other: u32) -> u32 {
        if one == other {
            return one;
        }
        let pair = (one.min(other), one.max(other));
        if let Some(number) = self.pairs.get(&pair) {
            return *number;
        }
        let merged = match (self.get(one), self.get(other)) {
            (Some(one), Some(other)) => one.with(other),
            (Some(merged), None) | (None, Some(merged)) => merged,
            (None, None) => return one,
        };
        let number = self.merged(merged);
        self.pairs.insert(pair, number);
        number
    }

    fn merged(&mut self, merged: Merged) -> u32 {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(merged).or_insert(next);
        if number == next {
            self.all.push(merged);
        }
        number
    }

    fn get(&self, number: u32) -> Option<Merged> {
        self.all.get(usize::try_from(number).ok()?).copied()
    }
}

impl Merged {
    /// The surer one's category; whatever widens the scope, whoever said it
    fn with(self, other: Self) -> Self {
        // Nothing ties but what is alike, so that it doesn't matter who comes first.
        let rank = |merged: &Self| {
            let early = u8::MAX.saturating_sub(merged.fact.feed);
            (merged.fact.confidence, early, merged.fact.category)
        };
        let (sure, less) = if rank(&self) >= rank(&other) {
            (self, other)
        } else {
            (other, self)
        };
        let known = |one: u16, other: u16, choose: fn(u16, u16) -> u16| match (one, other) {
            (0, day) | (day, 0) => day,
            (one, other) => choose(one, other),
        };
        Self {
            fact: Fact {
                scope: sure.fact.scope.widened(less.fact.scope),
                block: sure.fact.block || less.fact.block,
                first_seen: known(sure.fact.first_seen, less.fact.first_seen, u16::min),
                last_seen: known(sure.fact.last_seen, less.fact.last_seen, u16::max),
                ..sure.fact
            },
            feeds: sure.feeds | less.feeds,
        }
    }

    /// The same, said less exactly; 0 is exactly
    fn coarse(self, level: u8) -> Self {
        // What goes first is what a verdict depends on least: when, then how sure to a few per cent, then who else.
        let (days, step) = match level {
            0 => (1, 1),
            1 => (7, 1),
            2 => (30, 5),
            3 => (90, 10),
            4 => (u16::MAX, 10),
            _ => (u16::MAX, 25),
        };
        let mut merged = self;
        let span = |day: u16| day.checked_div(days).unwrap_or(0).saturating_mul(days);
        merged.fact.first_seen = span(merged.fact.first_seen);
        merged.fact.last_seen = span(merged.fact.last_seen);
        let confidence = merged.fact.confidence;
        merged.fact.confidence =
            confidence.saturating_sub(confidence.checked_rem(step).unwrap_or(0));
        if level >= LEVELS {
            merged.feeds = 1_u64.checked_shl(merged.fact.feed.into()).unwrap_or(0);
        }
        merged
    }
}

/// How coarse rows can get
const LEVELS: u8 = 6;
const MOST: usize = 255;

/// The rows of a bundle
#[derive(Debug)]
pub(super) struct Rows {
    facts: Vec<Merged>,
    used: BTreeMap<u32, u32>,
    rows: Vec<Row>,
    of: Vec<u8>,
}

impl Rows {
    pub(super) fn new(facts: &Facts) -> Self {
        Self {
            facts: facts.all.clone(),
            used: BTreeMap::new(),
            rows: Vec::new(),
            of: Vec::new(),
        }
    }

    /// Counts an indicator with a fact
    pub(super) fn count(&mut self, fact: u32) {
        let count = self.used.entry(fact).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Makes rows of the facts that were counted, as exact as a byte has room for; how coarse they are
    pub(super) fn coarsen(&mut self) -> Option<u8> {
        (0..=LEVELS).find(|level| self.at_level(*level))
    }

    fn at_level(&mut self, level: u8) -> bool {
        let mut groups: BTreeMap<Merged, Vec<u32>> = BTreeMap::new();
        for fact in self.used.keys() {
            let Some(merged) = self.fact(*fact) else {
                continue;
            };
            let group = groups.entry(merged.coarse(level)).or_default();
            group.push(*fact);
            if groups.len() > MOST {
                return false;
            }
        }
        self.rows.clear();
        self.of = alloc::vec![0; self.facts.len()];
        for (group, facts) in &groups {
            let number = u8::try_from(self.rows.len().saturating_add(1)).unwrap_or(0);
            let mut row = Row {
                scope: group.fact.scope,
                category: group.fact.category,
                confidence: group.fact.confidence,
                feed: group.fact.feed,
                feeds: group.feeds,
                block: group.fact.block,
                first_seen: None,
                last_seen: None,
                indicators: 0,
            };
            // A row says when the first and the last of its indicators were seen, so coarse days stay true.
            for number_of_fact in facts {
                let Some(merged) = self.fact(*number_of_fact) else {
                    continue;
                };
                let day = |day: u16| Some(day).filter(|day| *day != 0);
                let (first, last) = (day(merged.fact.first_seen), day(merged.fact.last_seen));
                row.first_seen = [row.first_seen, first].into_iter().flatten().min();
                row.last_seen = row.last_seen.max(last);
                let count = self.used.get(number_of_fact).copied().unwrap_or(0);
                row.indicators = row.indicators.saturating_add(count);
                if let Some(of) = usize::try_from(*number_of_fact)
                    .ok()
                    .and_then(|at| self.of.get_mut(at))
                {
                    *of = number;
                }
            }
            self.rows.push(row);
        }
        true
    }

    fn fact(&self, number: u32) -> Option<Merged> {
        self.facts.get(usize::try_from(number).ok()?).copied()
    }

    /// How many there are, with the one that says nothing
    pub(super) fn len(&self) -> usize {
        self.rows.len().saturating_add(1)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = alloc::vec![0; Row::LENGTH];
        for row in &self.rows {
            row.write(&mut out);
        }
        out
    }

    /// The number of the row of a fact
    pub(super) fn of(&self, fact: u32) -> u8 {
        let at = usize::try_from(fact).ok();
        at.and_then(|at| self.of.get(at)).copied().unwrap_or(0)
    }

    /// Whether the keys of a fact are stored in full
    pub(super) fn is_block(&self, fact: u32) -> bool {
        self.fact(fact).is_some_and(|merged| merged.fact.block)
    }
}
