//! What was found of a target so far.

use alloc::vec::Vec;

use crate::address::Reach;
use crate::evidence::{Code, EvidenceList, Points};
use crate::score;
use crate::verdict::Hit;

/// What was found so far
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) evidence: EvidenceList,
    pub(crate) hits: Vec<Hit<'a>>,
    pub(crate) structure: Points,
    pub(crate) brand: Option<&'a str>,
    pub(crate) allowed: bool,
    pub(crate) is_documentation: bool,
    /// In seconds since 1970
    pub(crate) now: u64,
    /// Until when what lists the target is current
    pub(crate) until: u64,
}

impl<'a> Case<'a> {
    pub(crate) fn at(now: u64) -> Self {
        Self {
            evidence: EvidenceList::default(),
            hits: Vec::new(),
            structure: Points::NONE,
            brand: None,
            allowed: false,
            is_documentation: false,
            now,
            until: u64::MAX,
        }
    }

    pub(crate) fn reach(&mut self, reach: Reach) {
        match reach {
            Reach::Public => {}
            Reach::Documentation => self.is_documentation = true,
            Reach::Internal | Reach::Metadata => {
                self.evidence.push(Code::AddressInternal, Points::NONE);
            }
        }
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.evidence.has(Code::AddressInternal) || self.evidence.has(Code::NameInternal)
    }

    /// What the surest match weighs
    pub(crate) fn matched(&self) -> Option<Points> {
        let mut all = self.evidence.iter();
        all.find(|evidence| evidence.code == Code::FeedMatch)
            .map(|evidence| evidence.points)
    }

    pub(crate) fn score(&self) -> Points {
        let alone = self
            .evidence
            .iter()
            .filter(|evidence| !evidence.code.is_structural());
        let alone = alone.map(|evidence| evidence.points);
        score::noisy_or(alone.chain(core::iter::once(self.structure)))
    }

    pub(crate) fn found(&mut self, points: Points, hit: Hit<'a>) {
        self.evidence.push(Code::FeedMatch, points);
        self.hits.push(hit);
    }
}
