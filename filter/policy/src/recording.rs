//! The rule `record`: what is kept of a decision, where, and in which form.

use alloc::borrow::ToOwned;
use alloc::string::String;

use portcullis_threat::Target;

/// What is kept of decisions; what goes on and yet is over a limit or a rule that does not bind counts
/// among refusals
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Recording {
    /// Where refusals are told
    pub(crate) refused: Places,
    /// Where all others are told
    pub(crate) allowed: Places,
    pub(crate) target: TargetForm,
    pub(crate) client: ClientForm,
}

/// Where decisions of a kind are told
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Places {
    pub(crate) access_log: bool,
    pub(crate) metrics: bool,
    /// How many of them get a log line
    pub(crate) sample: Share,
}

/// Where one decision is to be told
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// In the host's access log
    pub access_log: bool,
    /// By its counter
    pub metrics: bool,
    /// In a log line, because it is one of the sampled ones
    pub log: bool,
}

/// Which decisions
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    None,
    Refused,
    All,
}

/// How a record names the target that was submitted
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TargetForm {
    None,
    /// The first 16 hexadecimal digits of its SHA-256: the same target is known again
    Hash,
    /// As it was written, up to [`MAX_TARGET`] characters
    Full,
}

/// How a record names the client's address
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientForm {
    None,
    /// Its network: /24, or /48 for IPv6
    Prefix,
    Full,
}

/// Characters of a target that a record holds at most
const MAX_TARGET: usize = 2048;

/// Refusals are told, and what goes on in doubt; what else goes on costs nothing more
pub(crate) const DEFAULT: Recording = Recording {
    refused: Places {
        access_log: true,
        metrics: true,
        sample: Share::NONE,
    },
    allowed: Places {
        access_log: false,
        metrics: false,
        sample: Share::NONE,
    },
    target: TargetForm::None,
    client: ClientForm::None,
};

impl TargetForm {
    /// A target that was written so
    pub(crate) fn of(self, target: &Target<'_>, text: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Hash => target.sha256().to_hex().get(..16).map(ToOwned::to_owned),
            Self::Full => Some(text.chars().take(MAX_TARGET).collect()),
        }
    }
}

impl Recording {
    /// Where a decision is to be told
    ///
    /// The id says which are sampled: its low bits are random, so no other number is drawn.
    pub(crate) fn told(&self, is_refusal: bool, decision: u128) -> Told {
        let places = if is_refusal {
            &self.refused
        } else {
            &self.allowed
        };
        Told {
            access_log: places.access_log,
            metrics: places.metrics,
            log: places.sample.takes(decision),
        }
    }
}

impl Extent {
    pub(crate) fn refused(self) -> bool {
        self != Self::None
    }

    pub(crate) fn allowed(self) -> bool {
        self == Self::All
    }
}

/// A part of all decisions, in 2^32nds
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Share(u64);

impl Share {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(LOW_BITS.saturating_add(1));

    /// So many of a million
    pub(crate) fn of_million(parts: u64) -> Self {
        let scaled = parts.saturating_mul(LOW_BITS.saturating_add(1));
        Self(scaled.checked_div(1_000_000).unwrap_or_default())
    }

    pub(crate) fn takes(self, decision: u128) -> bool {
        // Nobody asks for lines, mostly.
        self != Self::NONE && low_bits(decision) < self.0
    }
}

const LOW_BITS: u64 = 0xffff_ffff;

fn low_bits(decision: u128) -> u64 {
    u64::try_from(decision & u128::from(LOW_BITS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn a_share_is_taken_by_the_low_bits_of_the_id() {
        let taken = |parts: u64| {
            let share = Share::of_million(parts);
            // Every 2^20th of all low halves, under different high halves.
            let ids = (0..4096u128).map(|step| step.wrapping_shl(20) | step.wrapping_shl(90));
            ids.filter(|id| share.takes(*id)).count()
        };
        assert_eq!(taken(0), 0);
        assert_eq!(taken(250_000), 1024);
        assert_eq!(taken(500_000), 2048);
        assert_eq!(taken(1_000_000), 4096);
        assert!(Share::of_million(1_000_000).takes(u128::MAX));
        assert!(!Share::of_million(999_999).takes(u128::MAX));
    }

    #[test]
    fn refusals_are_told_and_nothing_else() {
        for reason in Reason::ALL {
            let refused = reason.status() >= 400;
            let told = DEFAULT.told(reason.is_refusal(), 0);
            let expected = Told {
                access_log: refused,
                metrics: refused,
                log: false,
            };
            assert_eq!(told, expected, "{reason}");
        }
    }
}
