//! Verdicts that are kept, to be said again.

use crate::evidence::{EvidenceList, Points};
use crate::verdict::{Classification, Verdict};

/// A verdict that names nobody's list, as it is kept
///
/// It is the judge's word for as long as it [says so](Self::at), under the same model, lists, bundle and tables: with time only
/// what lists a target ends, and how long a verdict may be kept.
#[derive(Clone, Debug)]
pub struct Kept {
    classification: Classification,
    score: Points,
    evidence: EvidenceList,
    /// From when and until when, in seconds since 1970
    made: u64,
    until: u64,
}

impl Kept {
    /// Keeps a verdict that was made now (seconds since 1970); `None` of one with matches or a brand, which belong to their lists
    #[must_use]
    pub fn of(verdict: &Verdict<'_>, now: u64) -> Option<Self> {
        (verdict.hits.is_empty() && verdict.brand.is_none()).then(|| Self {
            classification: verdict.classification,
            score: verdict.score,
            evidence: verdict.evidence.clone(),
            made: now,
            until: verdict.until,
        })
    }

    /// For how many seconds it has been kept; `None` where the clock went back
    #[must_use]
    pub fn age(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.made)
    }

    /// The verdict as it is made now; `None` where another may be made
    #[must_use]
    pub fn at(&self, now: u64) -> Option<Verdict<'static>> {
        // INVARIANT: a clock that went back may make a feed current again that was not when this was made.
        (self.made <= now && now <= self.until).then(|| Verdict {
            classification: self.classification,
            score: self.score,
            evidence: self.evidence.clone(),
            hits: alloc::vec::Vec::new(),
            brand: None,
            until: self.until,
            max_age: self.classification.kept_for(self.until, now),
        })
    }
}
