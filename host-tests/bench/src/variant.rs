//! What is compared.

/// What stands between the connection and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// No filter: what everything else is measured against.
    None,
    /// A filter of the SDK's that does nothing.
    Noop,
    /// Envoy's own `api_key_auth`, `local_ratelimit` and `rbac`.
    Native,
    /// A Lua script that does the same.
    Lua,
    /// The gate with nothing but authentication, the bucket and the rate headers.
    Core,
    /// The gate as shipped.
    Full,
    /// The gate, asked with keys that nobody has, each of them charged to the client's address.
    Unauthorized,
    /// The same, once the client's address has spent its bucket.
    Flood,
    /// The gate, asked with good keys whose buckets are spent.
    Limited,
}

/// How every request of a variant has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Passes,
    Refused(u16),
}

impl Variant {
    pub(crate) const ALL: [Self; 9] = [
        Self::None,
        Self::Noop,
        Self::Native,
        Self::Lua,
        Self::Core,
        Self::Full,
        Self::Unauthorized,
        Self::Flood,
        Self::Limited,
    ];

    /// Its name in tables and in Envoy's statistics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Noop => "noop",
            Self::Native => "native",
            Self::Lua => "lua",
            Self::Core => "core",
            Self::Full => "full",
            Self::Unauthorized => "401",
            Self::Flood => "flood",
            Self::Limited => "429",
        }
    }

    pub(crate) const fn answer(self) -> Answer {
        match self {
            Self::None | Self::Noop | Self::Native | Self::Lua | Self::Core | Self::Full => {
                Answer::Passes
            }
            Self::Unauthorized => Answer::Refused(401),
            Self::Flood | Self::Limited => Answer::Refused(429),
        }
    }

    /// Whether its answers tell the caller how its bucket stands.
    pub(crate) const fn has_rate_headers(self) -> bool {
        !matches!(self, Self::None | Self::Noop)
    }

    /// Whether its callers hold keys that the policy knows.
    pub(crate) const fn has_good_keys(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Flood)
    }
}
