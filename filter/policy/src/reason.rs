//! The closed vocabulary of why.

use core::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $word:literal $status:literal $message:literal,)*) => {
        /// Why a request was decided as it was
        ///
        /// One word a reason: it is the error code, the log field, the metric label and what a
        /// test expects.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason there is
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The status of a reply for this reason; 0 for a request that is forwarded
            #[must_use]
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }

            /// One sentence for the caller, without its final period
            pub(crate) fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }
        }
    };
}

reasons! {
    /// Forwarded: a good key on a route that it may use, within its limits
    Allowed "allowed" 0 "",
    /// Answered: a quick verdict
    Answered "answered" 200 "",
    /// Refused: the body's content encoding can't be read
    BodyEncoded "body_encoded" 415 "The body must be sent without a content encoding",
    /// Refused: the body is not a JSON object that everybody reads alike
    BodyMalformed "body_malformed" 400 "The body must be one JSON object with unique keys",
    /// Refused: the body is longer than the route takes
    BodyTooLarge "body_too_large" 413 "The body is larger than this endpoint accepts",
    /// Refused: the client's address is denied
    ClientDenied "client_denied" 403 "Access from this address is not allowed",
    /// Refused: as many requests as there may be are under way at the same time
    ConcurrencyLimited "concurrency_limited" 429 "Too many requests at the same time",
    /// Refused: CONNECT is never proxied
    ConnectRefused "connect_refused" 403 "CONNECT is not supported",
    /// Refused: the Authorization header is not one bearer token of bounded length
    CredentialMalformed "credential_malformed" 401 "A valid API key is required",
    /// Refused: no key
    CredentialMissing "credential_missing" 401 "A valid API key is required",
    /// Refused: more than one credential, or one in the query besides
    CredentialRepeated "credential_repeated" 401 "A valid API key is required",
    /// Refused: the principal has no access to the domain
    DomainDenied "domain_denied" 403 "There is no access to this domain",
    /// Refused: the principal has no access to the domain, and is not told that it exists
    DomainHidden "domain_hidden" 404 "There is no such resource",
    /// Refused: the upstream's list of the caller's domains can't be had
    DomainUnavailable "domain_unavailable" 503 "The service is temporarily unavailable",
    /// Forwarded: it is not known whether the principal has access to the domain, and the policy lets
    /// the upstream decide
    DomainUnknown "domain_unknown" 0 "",
    /// Forwarded: a method and path that the policy exempts
    Exempt "exempt" 0 "",
    /// Refused: the feeds that a value is screened by are too old, or not there
    FeedsStale "feeds_stale" 503 "The service is temporarily unavailable",
    /// Refused: a parameter that is inspected comes twice, or in a spelling that some readers take for it
    FieldAmbiguous "field_ambiguous" 400 "A parameter is ambiguous",
    /// Refused: a field has a value that the route does not take
    FieldInvalid "field_invalid" 400 "A parameter is invalid",
    /// Refused: a field that the route needs is missing
    FieldMissing "field_missing" 400 "A required parameter is missing",
    /// Refused: the host refused something that the gate needs to go on safely
    HostFailed "host_failed" 503 "The service is temporarily unavailable",
    /// Refused: no API has this host
    HostUnknown "host_unknown" 404 "There is no such resource",
    /// Refused: the idempotency key came with another body before
    IdempotencyMismatch "idempotency_mismatch" 422 "The idempotency key was used for another request",
    /// Refused: the key is switched off
    KeyDisabled "key_disabled" 401 "A valid API key is required",
    /// Refused: the key has expired
    KeyExpired "key_expired" 401 "A valid API key is required",
    /// Refused: the key claims the form of our keys, and its checksum says that it is none
    KeyMalformed "key_malformed" 401 "A valid API key is required",
    /// Refused: the key may not be used from the client's network
    KeyNetworkDenied "key_network_denied" 403 "The API key may not be used from this address",
    /// Refused: the key is not valid yet
    KeyNotYetValid "key_not_yet_valid" 401 "A valid API key is required",
    /// Refused: the key was revoked
    KeyRevoked "key_revoked" 401 "A valid API key is required",
    /// Refused: the key is not known here, and the service that may know it is away
    KeyServiceUnavailable "key_service_unavailable" 503 "The service is temporarily unavailable",
    /// Refused: there was no word of where the API's keys come from for longer than the policy bears
    KeysStale "keys_stale" 503 "The service is temporarily unavailable",
    /// Refused: the API has no such key
    KeyUnknown "key_unknown" 401 "A valid API key is required",
    /// Refused: the body's content type is not JSON in UTF-8
    MediaTypeUnsupported "media_type_unsupported" 415 "The body must be application/json in UTF-8",
    /// Refused: the path is known, the method isn't
    MethodNotAllowed "method_not_allowed" 405 "This method is not allowed here",
    /// Refused: no valid policy is in force, or keys that it names were not loaded yet
    NotReady "not_ready" 503 "The service is not ready",
    /// Forwarded: over a limit that only tags
    OverLimit "over_limit" 0 "",
    /// Refused: the path is a route's but for its case or a trailing slash
    PathAmbiguous "path_ambiguous" 404 "There is no such resource",
    /// Refused: the path could be read in two ways
    PathInvalid "path_invalid" 400 "The path is invalid",
    /// Forwarded: a CORS preflight on a known path
    Preflight "preflight" 0 "",
    /// Forwarded: a route that is open to everybody
    Public "public" 0 "",
    /// Refused: nothing of the quota is included in what the key's customer pays for
    QuotaNone "quota_none" 403 "The plan of the API key does not include this",
    /// Refused: the quota of the billing period is spent, and no credit is left
    QuotaSpent "quota_spent" 429 "The quota of the billing period is spent",
    /// Refused: what was spent of the quota can't be known, or not be noted
    QuotaUnavailable "quota_unavailable" 503 "The service is temporarily unavailable",
    /// Refused: the principal's rate is spent
    RateLimited "rate_limited" 429 "Rate limit exceeded",
    /// Answered: the gate is ready
    Ready "ready" 200 "",
    /// Refused: a request line or host that no API can have
    RequestMalformed "request_malformed" 400 "The request is malformed",
    /// Refused: no route has this path
    RouteUnknown "route_unknown" 404 "There is no such resource",
    /// Refused: the key lacks a scope that the route needs
    ScopeMissing "scope_missing" 403 "The API key lacks the permission for this endpoint",
    /// Refused: other workers were faster too often when the account was to be charged
    StoreContended "store_contended" 503 "The service is temporarily unavailable",
    /// Refused: the account store refused
    StoreFailed "store_failed" 503 "The service is temporarily unavailable",
    /// Refused: a value is what its screen blocks
    TargetBlocked "target_blocked" 403 "A parameter is blocked",
    /// Forwarded: a value is what its screen tags
    TargetTagged "target_tagged" 0 "",
    /// Refused: a value that is screened can't be read as one that everybody reads alike
    TargetUnreadable "target_unreadable" 400 "A parameter can't be screened",
    /// Refused: a value that the key's tier may not send
    TierInsufficient "tier_insufficient" 403 "The plan of the API key does not include this",
    /// Refused: the client has sent too many requests without a good key
    UnauthenticatedLimited "unauthenticated_limited" 429 "Too many requests without a valid API key",
    /// Refused: the route takes no protocol upgrade, or not this one
    UpgradeRefused "upgrade_refused" 403 "This protocol upgrade is not allowed here",
}

impl Reason {
    /// Whether the request was refused
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self.status() >= 400
    }

    /// The word that the caller reads
    ///
    /// It is [`word`](Self::word), but one for all that is wrong with a credential, and one for all
    /// that is not to be told from what is not there: the body must not tell which.
    pub(crate) fn public_word(self) -> &'static str {
        match (self, self.status()) {
            (_, 401) => "unauthorized",
            (Self::DomainHidden, _) => Self::RouteUnknown.word(),
            _ => self.word(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
