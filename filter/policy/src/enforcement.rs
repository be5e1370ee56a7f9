//! Whether a rule binds: for everybody, for some, or for nobody.

use crate::name::Name;
use crate::recording::Share;

/// For whom a rule binds
///
/// Who asks is a number that is the same for each of its requests, in every worker and every Envoy: of
/// an API and principal, or of an address where there is no principal. A larger share holds everybody
/// whom a smaller one held, under every rule.
///
/// A rule that does not bind finds what it would find, and changes nothing: see
/// [`Record`](crate::Record), `shadow`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Enforcement(Share);

impl Enforcement {
    pub(crate) const ALWAYS: Self = Self(Share::ALL);
    pub(crate) const SHADOW: Self = Self(Share::NONE);

    /// For so many of a million
    pub(crate) fn of_million(parts: u64) -> Self {
        Self(Share::of_million(parts))
    }

    /// Whether it depends on who asks
    pub(crate) fn is_partial(self) -> bool {
        self != Self::ALWAYS && self != Self::SHADOW
    }

    /// The number of a principal of an API
    ///
    /// FNV-1a over both names, each with an end, and the finaliser of MurmurHash3: low bits that
    /// look random.
    pub(crate) fn who(api: &Name, principal: &Name) -> u64 {
        let bytes = [api, principal].into_iter();
        let bytes = bytes.flat_map(|name| name.as_str().bytes().chain([b' ']));
        let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
            hash = (hash ^ hash.wrapping_shr(33)).wrapping_mul(factor);
        }
        hash ^ hash.wrapping_shr(33)
    }

    /// Whether the rule binds who asks
    pub(crate) fn binds(self, who: u64) -> bool {
        self == Self::ALWAYS || self.0.takes(who.into())
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_share_holds_so_many_and_whom_a_smaller_one_held() {
        let api = Name::parse("shop").unwrap();
        let whos: Vec<u64> = (0..20_000)
            .map(|n| Enforcement::who(&api, &Name::parse(&format!("p{n}")).unwrap()))
            .collect();
        let bound = |parts| {
            let enforcement = Enforcement::of_million(parts);
            whos.iter()
                .map(|who| enforcement.binds(*who))
                .collect::<Vec<_>>()
        };
        let count = |bound: &[bool]| bound.iter().filter(|bound| **bound).count();
        let (tenth, half) = (bound(100_000), bound(500_000));
        assert!((1_800..2_200).contains(&count(&tenth)), "{}", count(&tenth));
        assert!((9_700..10_300).contains(&count(&half)), "{}", count(&half));
        assert!(tenth.iter().zip(&half).all(|(tenth, half)| !tenth || *half));
        assert_eq!(count(&bound(0)), 0);
        assert_eq!(count(&bound(1_000_000)), whos.len());
        assert_eq!(Enforcement::of_million(0), Enforcement::SHADOW);
        assert_eq!(Enforcement::of_million(1_000_000), Enforcement::ALWAYS);
    }
}
