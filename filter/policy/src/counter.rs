//! The counters of decisions, and of what became of them.

use alloc::string::String;

use portcullis_threat::Classification;

use crate::comparison::Opinion;
use crate::name::Name;
use crate::reason::Reason;

/// The counter that a decision belongs to
///
/// There is one for each API, route and reason, so the policy bounds how many there are: nothing that
/// a caller sends becomes part of a name, and no principal does. The same goes for each API, route, verdict and
/// what an upstream says of the same target.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a> {
    pub(crate) series: Series,
    pub(crate) api: Option<&'a Name>,
    pub(crate) route: Option<&'a Name>,
    pub(crate) counted: Counted,
}

/// What is counted
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Counted {
    Decision(Reason, Effect),
    /// The edge's verdict and the upstream's
    Comparison(Classification, Opinion),
}

/// What came of a decision
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    Enforced,
    /// Nothing, as of every decision on that request
    Observed,
    /// Nothing: the rule does not bind
    Shadow,
}

/// A number that stands for an API and a route, the same under every policy
///
/// INVARIANT: its lowest nine bits are zero, so that a reason and an effect fit in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Series(u64);

const REASON: u64 = 0x7f;
const OBSERVED: u64 = 0x80;
const SHADOW: u64 = 0x100;
const COMPARED: u64 = OBSERVED | SHADOW;
const _: () = assert!(Reason::ALL.len() <= 0x80);
const _: () = assert!(Classification::ALL.len() <= 0x10);

impl Series {
    pub(crate) fn of(api: &Name, route: Option<&Name>) -> Self {
        // FNV-1a. No name holds a blank.
        let names = [Some(api), route].into_iter().flatten();
        let bytes = names.flat_map(|name| name.as_str().bytes().chain([b' ']));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash & !(REASON | OBSERVED | SHADOW))
    }
}

impl Counter<'_> {
    /// A number for the counter, the same whenever API, route and what is counted are
    #[must_use]
    pub fn key(&self) -> u64 {
        let Series(series) = self.series;
        let counted = match self.counted {
            Counted::Decision(reason, effect) => {
                let effect = match effect {
                    Effect::Enforced => 0,
                    Effect::Observed => OBSERVED,
                    Effect::Shadow => SHADOW,
                };
                effect | (reason as u64 & REASON)
            }
            Counted::Comparison(verdict, opinion) => {
                COMPARED | (verdict as u64 & 0xf).wrapping_shl(3) | (opinion.number() & 0x7)
            }
        };
        series | counted
    }

    /// `portcullis.decisions.api.API.route.ROUTE.reason.REASON`, without what is not known, and with
    /// `observed` for `decisions` where nothing came of it, and `shadow` for a rule that does not bind;
    /// `portcullis.compared.api.API.route.ROUTE.edge.VERDICT.upstream.OPINION`
    ///
    /// A name's letters, digits, `-` and `_` stay, the rest becomes `_`: a dot would be a separator.
    #[must_use]
    pub fn name(&self) -> String {
        let mut text = String::from(match self.counted {
            Counted::Decision(_, Effect::Enforced) => "portcullis.decisions",
            Counted::Decision(_, Effect::Observed) => "portcullis.observed",
            Counted::Decision(_, Effect::Shadow) => "portcullis.shadow",
            Counted::Comparison(..) => "portcullis.compared",
        });
        for (label, name) in [(".api.", self.api), (".route.", self.route)] {
            if let Some(name) = name {
                text.push_str(label);
                text.extend(name.as_str().chars().map(plain));
            }
        }
        let labels = match self.counted {
            Counted::Decision(reason, _) => [(".reason.", reason.word()), ("", "")],
            Counted::Comparison(verdict, opinion) => {
                [(".edge.", verdict.word()), (".upstream.", opinion.word())]
            }
        };
        for (label, word) in labels {
            text.push_str(label);
            text.push_str(word);
        }
        text
    }
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
        c
    } else {
        '_'
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_counter_is_known_by_api_route_and_reason() {
        let [shop, items, other] =
            ["shop", "items", "a.b/c:d"].map(|name| Name::parse(name).unwrap());
        let counter = |api, route, counted| Counter {
            series: Option::map_or(api, Series::default(), |api| Series::of(api, route)),
            api,
            route,
            counted,
        };
        let mut keys = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (api, route) in [
            (None, None),
            (Some(&shop), None),
            (Some(&shop), Some(&items)),
            (Some(&items), Some(&shop)),
            (Some(&shop), Some(&other)),
        ] {
            let effects = [Effect::Enforced, Effect::Observed, Effect::Shadow];
            let reasons = Reason::ALL.iter();
            let decisions =
                reasons.flat_map(|reason| effects.map(|effect| Counted::Decision(*reason, effect)));
            let verdicts = Classification::ALL.map(|found| Opinion::Verdict(found, None));
            let opinions = [Opinion::Unreadable, Opinion::Absent];
            let comparisons = Classification::ALL.into_iter().flat_map(|verdict| {
                let opinions = verdicts.iter().chain(&opinions);
                opinions.map(move |opinion| Counted::Comparison(verdict, *opinion))
            });
            for counted in decisions.chain(comparisons) {
                let counter = counter(api, route, counted);
                assert!(keys.insert(counter.key()));
                assert!(names.insert(counter.name()));
            }
        }
        assert!(names.contains("portcullis.decisions.reason.host_unknown"));
        assert!(names.contains("portcullis.observed.reason.host_unknown"));
        assert!(names.contains("portcullis.decisions.api.shop.reason.key_unknown"));
        assert!(names.contains("portcullis.decisions.api.shop.route.items.reason.allowed"));
        assert!(names.contains("portcullis.decisions.api.shop.route.a_b_c_d.reason.allowed"));
        let compared = "portcullis.compared.api.shop.route.items.edge.unknown.upstream.malicious";
        assert!(names.contains(compared));
    }
}
