//! What the engine says of targets.

#![expect(clippy::unwrap_used, reason = "test code")]

use portcullis_threat::bundle::{Fact, FeedEntry, List, Scope, Set, Writer};
use portcullis_threat::{
    Action, Bundle, Category, Classification, Code, Judge, ListKind, Lists, Match, Model, Target,
    Terms, Verdict,
};
use proptest::prelude::*;

const CREATED: u64 = 1_790_000_000;
const VALID_UNTIL: u64 = CREATED + 86_400;
const EICAR: &str = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f";

/// A bundle with something of each kind; what is allowed is `good.example`, and `both.example`, which is listed too
fn bundle() -> Bundle {
    let mut writer = Writer::new([7; 16], CREATED);
    let entry = |name: &str, allows| FeedEntry {
        name: name.into(),
        licence: "CC0-1.0".into(),
        fetched_at: CREATED,
        valid_until: VALID_UNTIL,
        sha256: [1; 32],
        allows,
    };
    let bad = writer.feed(entry("bad", false)).unwrap();
    let good = writer.feed(entry("good", true)).unwrap();
    let old = FeedEntry {
        valid_until: CREATED - 1,
        ..entry("old", false)
    };
    let old = writer.feed(old).unwrap();
    let fact = |scope, confidence| Fact {
        feed: bad,
        scope,
        category: Category::Malware,
        confidence,
        block: true,
        first_seen: 20_000,
        last_seen: 20_100,
    };
    let exact = fact(Scope::EXACT, 95);
    let mut add = |set, key: &[u8], fact: &Fact| writer.add(List::Deny, set, key, fact);
    add(Set::Url, b"evil.example/a.exe", &exact);
    add(Set::Url, b"good.example/bad", &exact);
    add(Set::Url, b"dir.example/kit/", &fact(Scope::BELOW, 90));
    add(
        Set::Url,
        b"case.example/kit/a.php",
        &fact(Scope::CASELESS, 90),
    );
    add(Set::Domain, b"phish.example", &fact(Scope::SUBDOMAINS, 90));
    add(Set::Domain, b"host.example", &exact);
    add(Set::Domain, b"maybe.example", &fact(Scope::SUBDOMAINS, 50));
    add(
        Set::Domain,
        b"warn.example",
        &Fact {
            block: false,
            ..exact
        },
    );
    add(Set::Domain, b"both.example", &exact);
    add(Set::Domain, b"old.example", &Fact { feed: old, ..exact });
    let digest = portcullis_threat::Digest::from_hex(EICAR).unwrap();
    add(Set::Hash, digest.as_bytes(), &fact(Scope::EXACT, 100));
    writer.address(List::Deny, [203, 0, 113, 9].into(), &exact);
    writer.address(List::Deny, [10, 0, 0, 9].into(), &exact);
    writer.address(List::Deny, [9, 9, 9, 9].into(), &exact);
    writer.network(List::Deny, [198, 51, 100, 0].into(), 24, &exact);
    let allowed = Fact {
        feed: good,
        ..fact(Scope::SUBDOMAINS, 100)
    };
    for name in [&b"good.example"[..], b"both.example"] {
        writer.add(List::Allow, Set::Domain, name, &allowed);
    }
    let (bytes, _) = writer.finish().unwrap();
    Bundle::open(bytes, &Terms::default()).unwrap()
}

fn judged<T>(now: u64, model: Model, target: &str, look: impl FnOnce(&Verdict<'_>) -> T) -> T {
    let bundle = bundle();
    let judge = Judge::new(model, now).with_bundle(&bundle);
    look(&judge.judge(&Target::classify(target)))
}

fn said(target: &str) -> (Classification, u8) {
    judged(CREATED, Model::Quick2, target, |verdict| {
        (verdict.classification, verdict.score.get())
    })
}

fn codes(target: &str) -> Vec<&'static str> {
    judged(CREATED, Model::Quick2, target, |verdict| {
        verdict
            .evidence
            .iter()
            .map(|evidence| evidence.code.word())
            .collect()
    })
}

#[test]
fn classifications() {
    use Classification::{Benign, Internal, Invalid, Malicious, Suspicious, Unknown};
    for (target, classification) in [
        ("http://evil.example/a.exe", Malicious),
        ("https://evil.example:8443/a.exe?session=1", Malicious),
        ("hxxp://EVIL[.]example/x/../%61.exe", Malicious),
        ("http://evil.example/b.exe", Unknown),
        ("http://evil.example/", Unknown),
        ("http://dir.example/kit/a/b", Malicious),
        ("http://dir.example/", Unknown),
        ("http://case.example/KIT/A.php", Malicious),
        ("login.phish.example", Malicious),
        ("http://login.phish.example/", Malicious),
        ("host.example", Malicious),
        ("sub.host.example", Unknown),
        ("maybe.example", Suspicious),
        ("203.0.113.9", Malicious),
        ("http://203.0.113.9/", Malicious),
        ("::ffff:203.0.113.9", Malicious),
        ("64:ff9b::909:909", Malicious),
        ("198.51.100.77", Malicious),
        // Nobody's, and nobody lists it.
        ("192.0.2.1", Internal),
        // Listed by mistake: a bogon.
        ("10.0.0.9", Internal),
        ("http://169.254.169.254/latest/", Internal),
        ("http://metadata.google.internal/", Internal),
        ("http://redis:6379/", Internal),
        ("localhost", Internal),
        ("2130706433", Internal),
        ("64:ff9b::7f00:1", Internal),
        // One reader goes inside.
        ("http://fresh.example\\@127.0.0.1/", Internal),
        ("http://256.0.0.1/", Internal),
        ("http://%/", Invalid),
        ("good.example", Benign),
        ("http://www.good.example/x", Benign),
        ("http://good.example/bad", Malicious),
        ("http://good.example\\@evil.test/", Suspicious),
        ("both.example", Suspicious),
        (EICAR, Malicious),
        ("fresh.example", Unknown),
        ("d41d8cd98f00b204e9800998ecf8427e", Unknown),
        ("nothing", Unknown),
    ] {
        assert_eq!(said(target).0, classification, "{target}");
    }
}

#[test]
fn evidence() {
    for (target, expected) in [
        ("http://evil.example/a.exe", &["FEED_MATCH"][..]),
        ("http://3405803785/", &["FEED_MATCH", "ADDRESS_SPELLING"]),
        ("64:ff9b::909:909", &["FEED_MATCH", "ADDRESS_EMBEDDED"]),
        (
            "http://169.254.169.254/",
            &["ADDRESS_INTERNAL", "ADDRESS_METADATA"],
        ),
        ("http://fresh.example/%25252541", &["EXCESSIVE_ENCODING"]),
        ("http://a.test\\@b.test/", &["PARSER_DIFFERENTIAL"]),
        ("http://%/", &["URL_INVALID"]),
        ("good.example", &["ALLOW_LISTED"]),
        (
            "get http://evil.example/a.exe from 10.0.0.9",
            &["EMBEDDED_MATCH", "EMBEDDED_INTERNAL"],
        ),
    ] {
        assert_eq!(codes(target), expected, "{target}");
    }
}

#[test]
fn payloads() {
    let test_file = [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-",
        "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
    ]
    .concat();
    // By its hash, which is listed, and by itself.
    assert_eq!(codes(&test_file), ["FEED_MATCH", "TEST_FILE"]);
    let with_break = test_file + "\n";
    assert_eq!(said(&with_break), (Classification::Malicious, 100));
    let embedded = "<script>location=\"http:\\/\\/evil.example\\/a.exe\"</script>";
    judged(CREATED, Model::Quick2, embedded, |verdict| {
        assert_eq!(verdict.classification, Classification::Malicious);
        assert!(verdict.hits.iter().all(|hit| hit.embedded));
    });
    let many = "http://a.test/ ".repeat(33);
    assert_eq!(codes(&many), ["EMBEDDED_MANY"]);
    // Lists alone look at the payload alone.
    judged(CREATED, Model::Quick1, embedded, |verdict| {
        assert_eq!(verdict.classification, Classification::Unknown);
    });
}

#[test]
fn a_stale_bundle_says_nothing() {
    for target in [
        "http://evil.example/a.exe",
        "good.example",
        "fresh.example",
        "a b",
    ] {
        judged(VALID_UNTIL + 1, Model::Quick2, target, |verdict| {
            assert_eq!(verdict.classification, Classification::Unknown, "{target}");
            assert!(verdict.evidence.has(Code::BundleStale));
            assert!(verdict.hits.is_empty());
        });
    }
    // One feed that nobody fetches any more switches off itself, not the others.
    judged(CREATED, Model::Quick2, "old.example", |verdict| {
        assert_eq!(verdict.classification, Classification::Unknown);
        assert!(verdict.evidence.has(Code::BundleStale) && verdict.hits.is_empty());
    });
    // What needs no bundle is said all the same.
    judged(VALID_UNTIL + 1, Model::Quick2, "127.0.0.1", |verdict| {
        assert_eq!(verdict.classification, Classification::Internal);
    });
    judged(
        VALID_UNTIL,
        Model::Quick2,
        "http://evil.example/a.exe",
        |verdict| {
            assert_eq!(verdict.classification, Classification::Malicious);
        },
    );
}

#[test]
fn how_long_and_what_to_do() {
    judged(
        CREATED,
        Model::Quick2,
        "http://evil.example/a.exe",
        |verdict| {
            assert_eq!((verdict.max_age, verdict.confidence()), (3600, 95));
            assert_eq!(verdict.actions(), [Action::Block, Action::Escalate]);
            let hit = &verdict.hits[0];
            assert_eq!(
                (hit.kind, hit.value.as_str(), hit.how),
                ("url", "evil.example/a.exe", Match::Exact)
            );
            assert_eq!(hit.feed.unwrap().name, "bad");
            assert_eq!(
                verdict.categories().collect::<Vec<_>>(),
                [Category::Malware]
            );
        },
    );
    // No longer than the bundle is.
    judged(VALID_UNTIL - 60, Model::Quick2, "host.example", |verdict| {
        assert_eq!(verdict.max_age, 60)
    });
    judged(CREATED, Model::Quick2, "warn.example", |verdict| {
        assert_eq!(verdict.classification, Classification::Malicious);
        assert_eq!(verdict.actions(), [Action::Warn, Action::Escalate]);
    });
}

#[test]
fn a_policy_lists_for_itself() {
    let mut lists = Lists::default();
    let mut add = |list, text| lists.insert(list, text, Category::Phishing);
    assert_eq!(add(ListKind::Urls, "http://evil.test/x?a"), Ok(()));
    assert_eq!(add(ListKind::Domains, "Phish.test"), Ok(()));
    assert_eq!(add(ListKind::Networks, "10.1.0.0/16"), Ok(()));
    assert_eq!(add(ListKind::Networks, "0.0.0.0/0"), Ok(()));
    assert_eq!(add(ListKind::Networks, "2001:db8::/32"), Ok(()));
    assert_eq!(add(ListKind::Hashes, EICAR), Ok(()));
    for (list, text) in [
        (ListKind::Urls, "phish.test"),
        (ListKind::Domains, "http://a.test/"),
        (ListKind::Networks, "10.1.0.1/16"),
        (ListKind::Networks, "10.1.0.0/33"),
        (ListKind::Networks, "10.1.0.0/+8"),
        (ListKind::Hashes, "abc"),
    ] {
        assert!(add(list, text).is_err(), "{text}");
    }
    let judge = Judge::new(Model::Quick1, 0).with_lists(&lists);
    for (target, value, how) in [
        (
            "https://evil.test:8443/x?a#b",
            "http://evil.test/x?a",
            Match::Exact,
        ),
        ("http://a.phish.test/", "phish.test", Match::Parent),
        ("10.1.2.3", "10.1.0.0/16", Match::Network),
        ("8.8.8.8", "0.0.0.0/0", Match::Network),
        ("2001:db8::1", "2001:db8::/32", Match::Network),
        (EICAR, EICAR, Match::Exact),
    ] {
        let verdict = judge.judge(&Target::classify(target));
        // Whoever lists it himself means it, internal or not.
        assert_eq!(
            verdict.classification,
            Classification::Malicious,
            "{target}"
        );
        assert_eq!(
            (verdict.hits[0].value.as_str(), verdict.hits[0].how),
            (value, how)
        );
        assert_eq!((verdict.score.get(), verdict.confidence()), (90, 95));
    }
    for target in ["http://evil.test/x", "evil.test", "notphish.test"] {
        let verdict = judge.judge(&Target::classify(target));
        assert_eq!(verdict.classification, Classification::Unknown, "{target}");
    }
}

/// The README has a row for each code, and for no other
#[test]
fn evidence_is_documented() {
    let words = |text: &'static str, before: &'static str, after: &'static str| {
        let word = |line: &'static str| line.trim().split_once(before)?.1.split_once(after);
        let is_word = |word: &&str| {
            word.contains('_') && word.bytes().all(|b| b == b'_' || b.is_ascii_uppercase())
        };
        let mut words: Vec<_> = text
            .lines()
            .filter_map(word)
            .map(|(word, _)| word)
            .filter(is_word)
            .collect();
        words.sort_unstable();
        words
    };
    let codes = words(include_str!("../../src/evidence.rs"), "=> \"", "\",");
    let rows = words(include_str!("../../../../README.md"), "| `", "` |");
    assert!(codes.len() > 15);
    assert_eq!(codes, rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is submitted: malicious needs a proof, benign an allow list, bands are kept, and the canonical
    /// spelling has the same verdict
    #[test]
    fn laws(bits in proptest::collection::vec(prop::sample::select(vec![
        "http", "://", ":", "/", "\\", "@", "?", "#", ".", "%25", "%2e", "%", "evil.example", "a.exe", "good.example",
        "phish.example", "127.0.0.1", "0x7f.1", "203.0.113.9", "[::1]", "::ffff:", "64:ff9b::", "xn--", "é", " ", "\n",
        "[.]", "hxxp", EICAR, "10.0.0.9", "(", ")", "\t", "[d", "ot]",
    ]), 0..8)) {
        let text = bits.concat();
        let bundle = bundle();
        let judge = Judge::new(Model::Quick2, CREATED).with_bundle(&bundle);
        let target = Target::classify(&text);
        let verdict = judge.judge(&target);
        let score = verdict.score.get();
        match verdict.classification {
            Classification::Malicious => {
                prop_assert!(score >= 80);
                prop_assert!(verdict.evidence.iter().any(|evidence| evidence.code.is_proof()));
            }
            Classification::Benign => {
                prop_assert!(verdict.evidence.has(Code::AllowListed));
                prop_assert_eq!(score, 0);
            }
            Classification::Suspicious => prop_assert!((40..80).contains(&score)),
            Classification::Unknown => prop_assert!(score < 40),
            Classification::Internal | Classification::Invalid => prop_assert!(score < 80),
        }
        let kind = target.kind();
        if kind != portcullis_threat::TargetKind::Payload && verdict.classification != Classification::Invalid {
            let canonical = target.canonical().to_owned();
            let again = Target::classify(&canonical);
            prop_assert_eq!(again.kind(), kind, "{}", canonical);
            prop_assert_eq!(again.canonical(), &canonical);
            prop_assert!(!again.is_defanged());
            // What only the raw spelling tells is gone; what is listed or internal stays so.
            let second = judge.judge(&again);
            if !target.web().is_some_and(portcullis_threat::Web::disagrees) {
                for class in [Classification::Malicious, Classification::Internal] {
                    prop_assert_eq!(verdict.classification == class, second.classification == class, "{}", text);
                }
            }
        }
    }
}
