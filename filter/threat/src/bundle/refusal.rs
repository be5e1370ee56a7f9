//! Why bytes are not adopted.

use core::fmt;

/// Why bytes are not adopted; what was live before stays so
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No bundle
    Format,
    /// A bundle of another version than the one that is read here
    Version,
    /// Longer than the policy allows
    TooLong,
    /// There is no memory for it
    Memory,
    /// Shorter or longer than was announced, or than it says itself
    Length,
    /// A section that doesn't lie within the bundle, overlaps another, or isn't as long as what it holds
    Section,
    /// A verdict row that no compiler writes
    Row,
    /// A feed that no compiler writes
    Feed,
    /// Its bytes are not those that were sealed
    Digest,
    /// It is not the bundle that is wanted
    Pin,
    /// Nobody signed it
    Unsigned,
    /// Somebody signed it who may not
    Signer,
    /// What is said to be the signature of one who may is none
    Signature,
    /// The licence of its feed with this number is not one that the policy lists
    Licence(u8),
    /// It was compiled before the one that is live
    Older,
    /// It was compiled later than now
    Future,
}

impl Refusal {
    /// A word for logs and metrics
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Version => "version",
            Self::TooLong => "too_long",
            Self::Memory => "memory",
            Self::Length => "length",
            Self::Section => "section",
            Self::Row => "row",
            Self::Feed => "feed",
            Self::Digest => "digest",
            Self::Pin => "pin",
            Self::Unsigned => "unsigned",
            Self::Signer => "signer",
            Self::Signature => "signature",
            Self::Licence(_) => "licence",
            Self::Older => "older",
            Self::Future => "future",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "no threat bundle",
            Self::Version => "a threat bundle of another version than 2",
            Self::TooLong => "longer than is allowed",
            Self::Memory => "no memory for it",
            Self::Length => "not as long as it says",
            Self::Section => "a section is not where it says, or not as long as what it holds",
            Self::Row => "a verdict row is malformed",
            Self::Feed => "a feed's entry is malformed",
            Self::Digest => "its bytes are not those that were sealed",
            Self::Pin => "another digest than the one that is pinned",
            Self::Unsigned => "not signed",
            Self::Signer => "signed with another key than those that are allowed",
            Self::Signature => "its signature is not of this bundle by the key that it names",
            Self::Licence(_) => "a feed's licence is not among those that are allowed",
            Self::Older => "older than the bundle that is live",
            Self::Future => "compiled in the future: look at the clocks",
        })
    }
}

impl core::error::Error for Refusal {}
