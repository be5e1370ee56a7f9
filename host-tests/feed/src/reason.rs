//! Why a row is not in the bundle: a closed list.

/// Why a row is not in the bundle
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// An allow list names it, or something that it would condemn
    Allowed,
    /// A private, local or reserved address or name
    Bogon,
    /// Out of date
    Expired,
    /// Not a row of the feed's format
    Malformed,
    /// The value is missing
    Missing,
    /// The feed says that it is not an indicator
    NotAnIndicator,
    /// Everybody who is hosted there would be condemned
    PublicSuffix,
    /// The feed took it back
    Revoked,
    /// A network of more than 2^24 (IPv4) or 2^112 (IPv6) addresses
    TooWide,
    /// Not an address, a name, a URL or a hash
    Unreadable,
    /// A pattern or a rule that can't be looked up
    UnsupportedRule,
    /// A kind of indicator that isn't looked up
    UnsupportedType,
}

impl Reason {
    /// All of them, in the order of their words
    pub const ALL: [Self; 12] = [
        Self::Allowed,
        Self::Bogon,
        Self::Expired,
        Self::Malformed,
        Self::Missing,
        Self::NotAnIndicator,
        Self::PublicSuffix,
        Self::Revoked,
        Self::TooWide,
        Self::Unreadable,
        Self::UnsupportedRule,
        Self::UnsupportedType,
    ];

    /// The word that reports use
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Bogon => "bogon",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::NotAnIndicator => "not_an_indicator",
            Self::PublicSuffix => "public_suffix",
            Self::Revoked => "revoked",
            Self::TooWide => "too_wide",
            Self::Unreadable => "unreadable",
            Self::UnsupportedRule => "unsupported_rule",
            Self::UnsupportedType => "unsupported_type",
        }
    }
}
