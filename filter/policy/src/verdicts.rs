//! Verdicts that a worker keeps, so that what is asked again costs less.
//!
//! Only what costs more to judge than to find again: URLs, and under a model that looks at spellings names and payloads too.
//! What a feed lists is looked up anew each time, which is cheap, and no verdict outlives what it was made of.

use core::mem::size_of;

use lru::LruCache;
use portcullis_threat::{Judge, Kept, Model, Target, TargetKind, Verdict};
use siphasher::sip128::{Hasher128, SipHasher13};

/// What a worker keeps
#[derive(Debug)]
pub(crate) struct Verdicts {
    /// Nobody outside can look for two targets with one key
    seed: [u8; 16],
    kept: LruCache<Key, Kept>,
}

/// SipHash-1-3 under the worker's seed, of the policy, the bundle and the target as it was spelled
type Key = (u64, u64);

/// Bytes that one verdict is counted as: it, its key, two links, its places in the table and what an allocator adds
pub(crate) const ENTRY: u64 = 256;

const _: () = assert!(size_of::<Kept>() + size_of::<Key>() + 64 <= 256);

/// How many verdicts a worker keeps, and how long
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Keeping {
    /// Most of them; 0: none
    pub(crate) entries: usize,
    /// Seconds of one that warns
    pub(crate) positive: u64,
    /// Seconds of any other
    pub(crate) negative: u64,
}

/// What a verdict is made under, beside the target
#[derive(Clone, Copy, Debug)]
pub(crate) struct Under<'a> {
    /// The digest of the policy's document
    pub(crate) policy: &'a [u8; 6],
    /// The digest of the bundle in force
    pub(crate) bundle: Option<&'a [u8; 32]>,
    pub(crate) keeping: Keeping,
    /// Seconds since 1970
    pub(crate) now: u64,
}

impl Verdicts {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            kept: LruCache::unbounded(),
        }
    }

    /// The verdict of a judge, found again or made
    pub(crate) fn judge<'a>(
        &mut self,
        judge: &Judge<'a>,
        target: &Target<'_>,
        under: &Under<'_>,
    ) -> Verdict<'a> {
        if !is_worth(judge.model(), target.kind()) {
            return judge.judge(target);
        }
        let key = self.key(target, under);
        if let Some(kept) = self.kept.get(&key)
            && let Some(verdict) = kept.at(under.now)
            && kept.age(under.now) <= Some(under.keeping.lifetime(&verdict))
        {
            return verdict;
        }
        let verdict = judge.judge(target);
        if let Some(kept) = Kept::of(&verdict, under.now) {
            self.kept.put(key, kept);
            // INVARIANT: no more than the policy allows, whatever another one allowed before.
            while self.kept.len() > under.keeping.entries {
                self.kept.pop_lru();
            }
        }
        verdict
    }

    fn key(&self, target: &Target<'_>, under: &Under<'_>) -> Key {
        use core::hash::Hasher;
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        hasher.write(under.policy);
        hasher.write(under.bundle.unwrap_or(&[0; 32]));
        hasher.write(target.text().as_bytes());
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }
}

impl Keeping {
    fn lifetime(&self, verdict: &Verdict<'_>) -> u64 {
        if verdict.classification.warns() {
            self.positive
        } else {
            self.negative
        }
    }
}

/// Whether it costs more to judge such a target than to find its verdict again
fn is_worth(model: Model, kind: TargetKind) -> bool {
    match kind {
        TargetKind::Url => true,
        TargetKind::Domain | TargetKind::Payload => model == Model::Quick2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::ToOwned;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use portcullis_threat::bundle::{Fact, FeedEntry, List, Scope, Set, Writer};
    use portcullis_threat::{Bundle, Category, ListKind, Lists, Terms};
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_790_000_000;

    /// A bundle of a name of its own, one that all have, and one whose feed is current for an hour only
    fn bundle(number: u8) -> Bundle {
        let mut writer = Writer::new([7; 16], START);
        let mut feed = |name: &str, valid: u64, allows: bool| {
            let entry = FeedEntry {
                name: name.to_owned(),
                licence: "MIT".to_owned(),
                fetched_at: START,
                valid_until: START.saturating_add(valid),
                sha256: [1; 32],
                allows,
            };
            writer.feed(entry).unwrap()
        };
        let (long, short, good) = (
            feed("long", 7200, false),
            feed("short", 3600, false),
            feed("good", 7200, true),
        );
        let fact = |feed| Fact {
            feed,
            category: Category::Phishing,
            confidence: 95,
            scope: Scope::SUBDOMAINS,
            block: true,
            first_seen: 0,
            last_seen: 0,
        };
        let own = format!("own-{number}.example");
        writer.add(List::Deny, Set::Domain, own.as_bytes(), &fact(long));
        writer.add(List::Deny, Set::Domain, b"all.example", &fact(long));
        writer.add(List::Deny, Set::Domain, b"hour.example", &fact(short));
        writer.add(List::Allow, Set::Domain, b"good.example", &fact(good));
        Bundle::open(writer.finish().unwrap().0, &Terms::default()).unwrap()
    }

    /// Spellings of few targets: some have one canonical form and not one verdict
    const TARGETS: [&str; 14] = [
        "http://own-0.example/a",
        "http://own-1.example/a",
        "own-1.example",
        "all.example",
        "hour.example",
        "https://hour.example/x",
        "https://good.example/x",
        "https://quiet.example/x",
        "hxxps://quiet[.]example/x",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://a.test\\@b.test/",
        "see http://hour.example/ and http://quiet.example/%252525",
        "203.0.113.7",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_kept_is_what_would_be_said(
            asked in prop::collection::vec((0..TARGETS.len(), 0_usize..4, 0_u64..=9000, any::<bool>()), 1..80),
            entries in 1_usize..12,
            (positive, negative) in (1_u64..9000, 1_u64..9000),
        ) {
            let keeping = Keeping { entries, positive, negative };
            let bundles = [bundle(0), bundle(1)];
            let mut lists = Lists::default();
            lists.insert(ListKind::Domains, "quiet.example", Category::Other).unwrap();
            let policies = [(b"first ", Model::Quick1, Lists::default()), (b"second", Model::Quick2, lists)];
            let mut verdicts = Verdicts::new([3; 16]);
            for (target, bundle, after, first) in asked {
                let (policy, model, lists) = &policies[usize::from(first)];
                let now = START.saturating_add(after);
                let bundle = bundles.get(bundle);
                let judge = Judge::new(*model, now).with_lists(lists);
                let judge = match bundle {
                    Some(bundle) => judge.with_bundle_until(bundle, START + 8000),
                    None => judge.without_bundle(),
                };
                let under = Under { policy, bundle: bundle.map(Bundle::digest), keeping, now };
                let target = Target::classify(TARGETS[target]);
                let (kept, made) = (verdicts.judge(&judge, &target, &under), judge.judge(&target));
                prop_assert_eq!(format!("{kept:?}"), format!("{made:?}"));
                prop_assert!(verdicts.kept.len() <= entries);
            }
        }
    }

    #[test]
    fn what_is_asked_again_is_found_and_the_oldest_goes() {
        let mut verdicts = Verdicts::new([3; 16]);
        let judge = Judge::new(Model::Quick2, START);
        let under = Under {
            policy: b"policy",
            bundle: None,
            keeping: Keeping {
                entries: 2,
                positive: 900,
                negative: 300,
            },
            now: START,
        };
        let mut ask = |text: &str| {
            let target = Target::classify(text);
            verdicts.judge(&judge, &target, &under);
            let keys: Vec<String> = ["http://a.example/", "http://b.example/", "c.example"]
                .into_iter()
                .filter(|text| {
                    let key = verdicts.key(&Target::classify(text), &under);
                    verdicts.kept.contains(&key)
                })
                .map(ToOwned::to_owned)
                .collect();
            keys.join(" ")
        };
        assert_eq!(ask("http://a.example/"), "http://a.example/");
        ask("http://b.example/");
        ask("http://a.example/");
        assert_eq!(ask("c.example"), "http://a.example/ c.example");
        assert_eq!(ask("203.0.113.7"), "http://a.example/ c.example");
    }

    #[test]
    fn what_warns_lives_for_another_time_than_what_does_not() {
        let keeping = Keeping {
            entries: 4,
            positive: 900,
            negative: 300,
        };
        let mut verdicts = Verdicts::new([3; 16]);
        let mut ages = |after: u64| {
            let now = START.saturating_add(after);
            let judge = Judge::new(Model::Quick2, now);
            let under = Under {
                policy: b"policy",
                bundle: None,
                keeping,
                now,
            };
            ["http://a.test\\@b.test/", "http://quiet.example/"].map(|text| {
                let target = Target::classify(text);
                let verdict = verdicts.judge(&judge, &target, &under);
                let kept = verdicts.kept.peek(&verdicts.key(&target, &under)).unwrap();
                (verdict.classification.warns(), kept.age(now).unwrap())
            })
        };
        assert_eq!(ages(0), [(true, 0), (false, 0)]);
        assert_eq!(ages(300), [(true, 300), (false, 300)]);
        assert_eq!(ages(301), [(true, 301), (false, 0)]);
        assert_eq!(ages(900), [(true, 900), (false, 0)]);
        assert_eq!(ages(901), [(true, 0), (false, 1)]);
    }
}
