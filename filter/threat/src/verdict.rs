//! What is said of a target.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bundle::Feed;
use crate::evidence::{Category, EvidenceList, Points};

/// What is known of a target, never more
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// What it is
    pub classification: Classification,
    /// 0 to 100: [`crate::score`] tells how evidence comes to it, and where it ends
    pub score: Points,
    /// What was found
    pub evidence: EvidenceList,
    /// What lists it, the most specific first
    pub hits: Vec<Hit<'a>>,
    /// The brand that it imitates
    pub brand: Option<&'a str>,
    /// Until when what it is made of is current, in seconds since 1970
    pub until: u64,
    /// Seconds that the verdict may be kept
    pub max_age: u32,
}

/// What a target is
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Classification {
    /// An allow list names it
    Benign,
    /// It leads inside: no outsider should submit it
    Internal,
    /// A URL that no browser opens
    Invalid,
    /// A feed lists it, or something proves it
    Malicious,
    /// Nothing proves it, but there is much evidence
    Suspicious,
    /// Nothing is known; never "clean" by absence
    Unknown,
}

/// An indicator that a target matches
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hit<'a> {
    /// What is listed: `url`, `domain`, `ipv4`, `ipv6`, `md5`, `sha1`, `sha256`
    pub kind: &'static str,
    /// Its spelling; of a network in a bundle the address that was asked for
    pub value: String,
    /// How it matches
    pub how: Match,
    /// What it stands for
    pub category: Category,
    /// How sure the list is, in per cent
    pub confidence: u8,
    /// Which feed lists it
    pub feed: Option<Feed<'a>>,
    /// Whether the policy itself lists it
    pub own: bool,
    /// When it was first and last seen, in days since 1970
    pub seen: (Option<u16>, Option<u16>),
    /// Whether it may be blocked on
    pub block: bool,
    /// Whether it was in the target and not the target
    pub embedded: bool,
}

/// How a target matches an indicator
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// It is the same
    Exact,
    /// It lies in a network
    Network,
    /// It lies below
    Parent,
}

/// What whoever asked should do
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Let nobody reach it, for as long as the verdict may be kept
    Block,
    /// Ask for a deep analysis
    Escalate,
    /// Don't fetch it, and don't let others have it fetched
    Refuse,
    /// Tell people before they follow it
    Warn,
}

impl Classification {
    /// All of them
    pub const ALL: [Self; 6] = [
        Self::Benign,
        Self::Internal,
        Self::Invalid,
        Self::Malicious,
        Self::Suspicious,
        Self::Unknown,
    ];

    /// The classification of a word
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }

    /// Whether it warns of the target
    #[must_use]
    pub fn warns(self) -> bool {
        matches!(self, Self::Malicious | Self::Suspicious)
    }

    /// The word that answers and records use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Benign => "benign",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Malicious => "malicious",
            Self::Suspicious => "suspicious",
            Self::Unknown => "unknown",
        }
    }

    /// Seconds that such a verdict may be kept now, if what it is made of is current until then (seconds since 1970)
    pub(crate) fn kept_for(self, until: u64, now: u64) -> u32 {
        let max_age = self.max_age();
        let left = until.saturating_sub(now);
        u32::try_from(left).map_or(max_age, |left| max_age.min(left))
    }

    /// Seconds that such a verdict may be kept: the more changes it, the less
    #[must_use]
    fn max_age(self) -> u32 {
        match self {
            Self::Malicious | Self::Benign => 3600,
            Self::Suspicious => 900,
            // New threats come every minute; what is internal may be so only under this policy.
            Self::Unknown | Self::Internal | Self::Invalid => 300,
        }
    }
}

impl Match {
    /// The word that answers use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Network => "network",
            Self::Parent => "parent",
        }
    }
}

impl Action {
    /// The word that answers use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Escalate => "escalate",
            Self::Refuse => "refuse",
            Self::Warn => "warn",
        }
    }
}

impl Verdict<'_> {
    /// What whoever asked should do
    #[must_use]
    pub fn actions(&self) -> &'static [Action] {
        match self.classification {
            Classification::Malicious if self.blocks() => &[Action::Block, Action::Escalate],
            Classification::Malicious | Classification::Suspicious => {
                &[Action::Warn, Action::Escalate]
            }
            Classification::Unknown => &[Action::Escalate],
            Classification::Internal => &[Action::Refuse],
            Classification::Benign | Classification::Invalid => &[],
        }
    }

    /// Whether something was found that may be blocked on: feeds that nobody vouches for only warn
    fn blocks(&self) -> bool {
        self.hits.is_empty() || self.hits.iter().any(|hit| hit.block)
    }

    /// How sure the surest list is that has it, in per cent; 0 where none has
    #[must_use]
    pub fn confidence(&self) -> u8 {
        let confidence = self.hits.iter().map(|hit| hit.confidence);
        confidence.max().unwrap_or_default()
    }

    /// What it is listed as, each category once
    pub fn categories(&self) -> impl Iterator<Item = Category> {
        let before = |at| self.hits.get(..at).unwrap_or(&[]);
        let each = self.hits.iter().enumerate();
        each.filter(move |(at, hit)| {
            !before(*at)
                .iter()
                .any(|other| other.category == hit.category)
        })
        .map(|(_, hit)| hit.category)
    }
}
