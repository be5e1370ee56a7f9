//! Every format, with the quirks that real feeds have, from file to lookup.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::path::{Path, PathBuf};

use portcullis_feed::{Compiled, FeedReport, Format, Options, Reason, Role, Source, compile};
use portcullis_threat::bundle::{Bundle, Row, Set, Terms};
use portcullis_threat::{SafeBrowsing, Target};

/// 2026-11-21, in seconds since 1970
const AT: u64 = 1_795_219_200;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn source(text: &str) -> Source {
    let (settings, file) = text.rsplit_once(':').unwrap_or(("", text));
    let path = fixture(file).display().to_string();
    let text = if settings.is_empty() {
        path
    } else {
        format!("{settings}:{path}")
    };
    Source::parse(&text).expect("a source")
}

fn compiled(sources: &[&str]) -> (Compiled, Bundle) {
    compiled_with(
        sources,
        &Options {
            at: AT,
            ..Options::default()
        },
    )
}

fn compiled_with(sources: &[&str], options: &Options<'_>) -> (Compiled, Bundle) {
    let sources: Vec<_> = sources.iter().map(|text| source(text)).collect();
    let compiled = compile(&sources, options).expect("a bundle");
    let bundle = Bundle::open(compiled.bytes.clone(), &Terms::default()).expect("a bundle");
    assert!(bundle.is_orderly());
    (compiled, bundle)
}

/// The plain way to look something up: all that a verdict would look at
fn find(bundle: &Bundle, text: &str) -> Option<Row> {
    let target = Target::classify(text);
    if let Some(digest) = target.digest() {
        return bundle.find(Set::Hash, digest.as_bytes());
    }
    if let Ok(address) = text.parse() {
        return bundle.address(address).or_else(|| bundle.network(address));
    }
    let form = SafeBrowsing::parse(text.as_bytes())?;
    if text.contains('/') {
        for expression in form.expressions() {
            let lower = expression.text.to_ascii_lowercase();
            let found = bundle.find(Set::Url, expression.text.as_bytes());
            let caseless = bundle
                .find(Set::Url, lower.as_bytes())
                .filter(Row::is_caseless);
            let counts = |row: &Row| row.counts(expression.own_host, expression.own_path);
            if let Some(row) = found.filter(counts).or(caseless.filter(counts)) {
                return Some(row);
            }
        }
    }
    if let Ok(address) = form.host().parse() {
        return bundle.address(address).or_else(|| bundle.network(address));
    }
    let host = form.host();
    let starts = host.match_indices('.').map(|(at, _)| at + 1);
    std::iter::once(0).chain(starts).find_map(|at| {
        let row = bundle.find(Set::Domain, &host.as_bytes()[at..])?;
        row.counts(at == 0, true).then_some(row)
    })
}

struct Case {
    file: &'static str,
    format: Format,
    indicators: usize,
    rejected: &'static [(Reason, usize)],
    found: &'static [&'static str],
    missed: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        file: "adblock.txt",
        format: Format::Adblock,
        indicators: 8,
        rejected: &[(Reason::Bogon, 1), (Reason::UnsupportedRule, 4)],
        found: &[
            "192.0.2.44",
            "http://192.0.2.44/any",
            "bare.evil.example",
            "www.whole.evil.example",
            "http://whole.evil.example/x",
            "http://path.evil.example/drop/one.exe",
            "http://PATH.evil.example/DROP/One.EXE",
            "http://sub.path.evil.example/drop/one.exe?a",
            "http://192.0.2.45:81/bins/x.sh",
            "x.below.evil.example",
            "http://docs.good.example/uc?export=download&id=abC",
            "http://dir.evil.example/a/b/c",
        ],
        missed: &[
            "192.0.2.45",
            "http://192.0.2.45/",
            "http://192.0.2.45/bins/y.sh",
            "path.evil.example",
            "http://path.evil.example/",
            "below.evil.example",
            "docs.good.example",
            "http://docs.good.example/uc?export=download&id=other",
            "http://dir.evil.example/b",
            "good.example",
            "http://wild.evil.example/a/x.exe",
            "narrow.evil.example",
        ],
    },
    Case {
        file: "hosts.txt",
        format: Format::Hosts,
        indicators: 4,
        rejected: &[(Reason::Malformed, 1), (Reason::Missing, 1)],
        found: &[
            "hosts.evil.example",
            "tab.evil.example",
            "two.evil.example",
            "three.evil.example",
            "http://two.evil.example/x",
        ],
        missed: &[
            "www.hosts.evil.example",
            "localhost.example",
            "x.evil.example",
            "127.0.0.1",
        ],
    },
    Case {
        file: "ipsum.txt",
        format: Format::Ipsum,
        indicators: 3,
        rejected: &[(Reason::Bogon, 1), (Reason::Malformed, 1)],
        found: &[
            "192.0.2.10",
            "192.0.2.11",
            "::ffff:192.0.2.13",
            "http://192.0.2.13/x",
        ],
        missed: &["192.0.2.12", "192.168.1.1"],
    },
    Case {
        file: "urlhaus.csv",
        format: Format::UrlhausCsv,
        indicators: 4,
        rejected: &[
            (Reason::Expired, 1),
            (Reason::Malformed, 1),
            (Reason::Missing, 1),
        ],
        found: &[
            "http://192.0.2.50:35000/bin.sh",
            "http://192.0.2.50/bin.sh",
            "https://dl.evil.example/path?Q=1",
            "http://still.evil.example/x",
            "http://after.evil.example/y",
            "http://after.evil.example/y?z",
        ],
        missed: &[
            "192.0.2.50",
            "http://192.0.2.50/",
            "https://dl.evil.example/PATH?Q=1",
            "https://dl.evil.example/path",
            "http://old.evil.example/x",
            "http://sub.after.evil.example/y",
        ],
    },
    Case {
        file: "threatfox.csv",
        format: Format::ThreatfoxCsv,
        indicators: 3,
        rejected: &[(Reason::UnsupportedType, 1)],
        found: &[
            "192.0.2.60",
            "fox.evil.example",
            "a.fox.evil.example",
            "AABBCCDDEEFF00112233445566778899",
        ],
        missed: &["evil.example"],
    },
    Case {
        file: "threatfox-older.csv",
        format: Format::ThreatfoxCsv,
        indicators: 3,
        rejected: &[],
        found: &[
            "http://older.evil.example/gate.php",
            "00112233445566778899aabbccddeeff00112233",
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        ],
        missed: &["older.evil.example", "http://older.evil.example/"],
    },
    Case {
        file: "threatfox.json",
        format: Format::ThreatfoxJson,
        indicators: 2,
        rejected: &[(Reason::Missing, 1)],
        found: &["192.0.2.61", "http://json.evil.example/p"],
        missed: &["json.evil.example"],
    },
    Case {
        file: "threatfox-api.json",
        format: Format::ThreatfoxJson,
        indicators: 1,
        rejected: &[],
        found: &["api.evil.example"],
        missed: &[],
    },
    Case {
        file: "malwarebazaar.csv",
        format: Format::MalwarebazaarCsv,
        indicators: 4,
        rejected: &[(Reason::Missing, 2)],
        found: &[
            "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f",
            "44d88612fea8a8f36de82e1278abb02f",
            "3395856ce81f2b7382dee72602f798b642f14140",
            "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd10",
        ],
        missed: &["0000000000000000000000000000000000000000"],
    },
    Case {
        file: "feodo.csv",
        format: Format::FeodoCsv,
        indicators: 1,
        rejected: &[(Reason::Unreadable, 1)],
        found: &["192.0.2.70"],
        missed: &["192.0.2.71"],
    },
    Case {
        file: "feodo-empty.csv",
        format: Format::FeodoCsv,
        indicators: 0,
        rejected: &[],
        found: &[],
        missed: &["192.0.2.70"],
    },
    Case {
        file: "drop.json",
        format: Format::SpamhausDrop,
        indicators: 4,
        rejected: &[(Reason::Malformed, 1), (Reason::UnsupportedType, 1)],
        found: &[
            "198.51.100.255",
            "2001:db8:4::1",
            "203.0.113.9",
            "http://198.51.100.3/x",
        ],
        missed: &["198.51.101.0", "203.0.113.8", "2001:db8:3:ffff::"],
    },
    Case {
        file: "firehol.netset",
        format: Format::Netset,
        indicators: 4,
        rejected: &[
            (Reason::Bogon, 2),
            (Reason::TooWide, 1),
            (Reason::Unreadable, 1),
        ],
        found: &[
            "198.51.100.1",
            "203.0.113.7",
            "203.0.113.8",
            "2001:db8:5:1::1",
        ],
        missed: &["10.1.1.1", "0.1.2.3", "193.0.0.1"],
    },
    Case {
        file: "phishtank.csv",
        format: Format::PhishtankCsv,
        indicators: 2,
        rejected: &[(Reason::Expired, 1)],
        found: &[
            "http://phish.evil.example/login?a=1",
            "http://phish.evil.example/a,b",
        ],
        missed: &[
            "http://phish.evil.example/login",
            "http://gone.evil.example/",
        ],
    },
    Case {
        file: "phishtank.json",
        format: Format::PhishtankJson,
        indicators: 1,
        rejected: &[(Reason::Missing, 1)],
        found: &["http://pj.evil.example/%c3%a4?x"],
        missed: &["http://pj.evil.example/"],
    },
    Case {
        file: "openphish.txt",
        format: Format::UrlList,
        indicators: 3,
        rejected: &[(Reason::Unreadable, 1)],
        found: &[
            "https://open.evil.example/",
            "http://open.evil.example",
            "http://open.evil.example/b%20c",
            "https://open2.evil.example/x",
        ],
        missed: &[
            "https://open.evil.example/other",
            "open.evil.example",
            "https://open2.evil.example/",
        ],
    },
    Case {
        file: "misp.json",
        format: Format::Misp,
        indicators: 6,
        rejected: &[(Reason::NotAnIndicator, 1), (Reason::UnsupportedType, 1)],
        found: &[
            "http://misp.evil.example/x",
            "both.evil.example",
            "192.0.2.80",
            "192.0.2.81",
            "host.evil.example",
            "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f",
        ],
        missed: &["192.0.2.82", "a.host.evil.example"],
    },
    Case {
        file: "stix.json",
        format: Format::Stix,
        indicators: 3,
        rejected: &[
            (Reason::Expired, 1),
            (Reason::NotAnIndicator, 1),
            (Reason::Revoked, 1),
            (Reason::UnsupportedRule, 1),
            (Reason::UnsupportedType, 1),
        ],
        found: &[
            "www.stix.evil.example",
            "http://stix2.evil.example/x",
            "203.0.113.127",
        ],
        missed: &[
            "203.0.113.128",
            "past.evil.example",
            "back.evil.example",
            "nice.example",
        ],
    },
    Case {
        file: "polkadot.json",
        format: Format::Polkadot,
        indicators: 9,
        rejected: &[(Reason::Allowed, 1), (Reason::Malformed, 1)],
        found: &[
            "scam.evil.example",
            "www.scam.evil.example",
            "dot.evil.example",
            "uníswap.example",
            "192.0.2.90",
            "me.vercel.app",
            "a.me.vercel.app",
            "http://social.example/acala",
            "http://www.social.example/Acala/status/1",
        ],
        missed: &[
            "guarded.example",
            "vercel.app",
            "you.vercel.app",
            "http://social.example/other",
        ],
    },
    Case {
        file: "plain.txt",
        format: Format::Plain,
        indicators: 10,
        rejected: &[(Reason::Bogon, 2), (Reason::Unreadable, 2)],
        found: &[
            "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f",
            "a.plain.evil.example",
            "x.star.evil.example",
            "192.0.2.97",
        ],
        missed: &["star.evil.example", "192.0.2.98", "printer.local"],
    },
];

#[test]
fn each_format_is_known_by_its_content_and_read_with_its_quirks() {
    for case in CASES {
        let (compiled, bundle) = compiled(&[case.file]);
        let feed = &compiled.feeds[0];
        assert_eq!(feed.format, case.format, "{}", case.file);
        let rejected: Vec<_> = feed.rejections().collect();
        assert_eq!(
            (feed.indicators, &rejected[..]),
            (case.indicators, case.rejected),
            "{}",
            case.file
        );
        assert_eq!(
            feed.rows,
            feed.indicators + rejected.iter().map(|(_, count)| count).sum::<usize>()
        );
        for text in case.found {
            assert!(
                find(&bundle, text).is_some(),
                "{}: {text} is not found",
                case.file
            );
        }
        for text in case.missed {
            assert!(
                find(&bundle, text).is_none(),
                "{}: {text} is found",
                case.file
            );
        }
    }
}

#[test]
fn a_list_of_popular_names_is_known_by_its_ranks_and_allows() {
    let (compiled, _) = compiled(&["tranco.csv"]);
    let feed = &compiled.feeds[0];
    assert_eq!((feed.format, feed.role), (Format::Tranco, Role::Allow));
    assert_eq!(feed.rows, 4);
    let rejected: Vec<_> = feed.rejections().collect();
    assert!(rejected.contains(&(Reason::Malformed, 1)), "{rejected:?}");
}

#[test]
fn what_a_row_says_is_in_the_verdict_row() {
    use portcullis_threat::Category::{CommandAndControl, Malware, Phishing, Scanner};
    let (_, bundle) = compiled(&[
        "threatfox.csv",
        "ipsum.txt",
        "urlhaus.csv",
        "stix.json",
        "adblock.txt",
        "misp.json",
    ]);
    for (text, feed, category, confidence, last_seen) in [
        (
            "192.0.2.60",
            "threatfox",
            CommandAndControl,
            75,
            Some(20_776),
        ),
        ("fox.evil.example", "threatfox", Malware, 100, Some(20_777)),
        ("192.0.2.10", "ipsum", Scanner, 95, None),
        ("192.0.2.11", "ipsum", Scanner, 20, None),
        (
            "http://192.0.2.50/bin.sh",
            "urlhaus",
            Malware,
            90,
            Some(20_777),
        ),
        ("stix.evil.example", "stix", Phishing, 88, None),
        ("192.0.2.44", "adblock", Malware, 75, None),
        ("both.evil.example", "misp", Phishing, 60, Some(20_775)),
    ] {
        let row = find(&bundle, text).expect("found");
        let name = bundle.feed(row.feed).expect("a feed").name;
        assert_eq!(
            (name, row.category, row.confidence, row.last_seen),
            (feed, category, confidence, last_seen),
            "{text}"
        );
    }
    let adblock = bundle
        .feeds()
        .find(|feed| feed.name == "adblock")
        .expect("a feed");
    assert_eq!(
        adblock.fetched_at, 1_795_133_418,
        "when it says that it was made"
    );
}

#[test]
fn an_allow_list_protects_what_it_names_and_is_itself_narrow() {
    let sections = portcullis_fit::sections().expect("the tables");
    let options = Options {
        at: AT,
        sections: Some(&sections),
        ..Options::default()
    };
    let (compiled, bundle) = compiled_with(&["plain.txt", "tranco.csv"], &options);
    let conflicts: Vec<_> = compiled
        .conflicts
        .iter()
        .map(|conflict| conflict.indicator.as_str())
        .collect();
    assert_eq!(conflicts, ["popular.example", "popular.example/"]);
    assert!(
        compiled
            .conflicts
            .iter()
            .all(|conflict| conflict.allowed_by == "tranco")
    );
    assert!(find(&bundle, "popular.example").is_none());
    assert!(find(&bundle, "http://popular.example/hacked.php").is_some());
    assert!(bundle.allowed(Set::Domain, b"popular.example").is_some());
    // Nobody who has his site there is condemned, and none is trusted, for what his host is.
    assert!(find(&bundle, "vercel.app").is_none());
    assert!(bundle.allowed(Set::Domain, b"vercel.app").is_none());
    let suffix = |feed: usize| {
        compiled.feeds[feed]
            .rejections()
            .any(|(reason, count)| (reason, count) == (Reason::PublicSuffix, 1))
    };
    assert!(suffix(0) && suffix(1));
}

#[test]
fn what_a_feed_may_be_blocked_on_is_stored_in_full() {
    let (compiled, bundle) = compiled(&["BLOCK_FROM=90:threatfox.csv"]);
    assert_eq!(
        (compiled.feeds[0].blocked, compiled.figures.confirmed),
        (1, 1)
    );
    assert!(find(&bundle, "fox.evil.example").expect("found").block);
    assert!(!find(&bundle, "192.0.2.60").expect("found").block);
}

#[test]
fn the_same_inputs_are_the_same_bytes() {
    let files = ["plain.txt", "tranco.csv", "stix.json"];
    let (one, _) = compiled(&files);
    let (again, _) = compiled(&files);
    assert_eq!(one.bytes, again.bytes);
    let (later, _) = compiled_with(
        &files,
        &Options {
            at: AT + 1,
            ..Options::default()
        },
    );
    assert_ne!(one.digest, later.digest);
    let (secret, _) = compiled_with(
        &files,
        &Options {
            at: AT,
            secret: Some(b"mine"),
            ..Options::default()
        },
    );
    assert_ne!(one.digest, secret.digest);
}

#[test]
fn a_feed_that_has_lost_half_of_its_rows_is_told() {
    let folder = std::env::temp_dir().join(format!("portcullis-feed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("list.txt");
    let write = |count: u32| {
        let names: Vec<_> = (0..count)
            .map(|number| format!("n{number}.evil.example"))
            .collect();
        std::fs::write(&path, names.join("\n")).expect("a file");
    };
    let source = [Source {
        path: path.clone(),
        ..Source::default()
    }];
    write(40);
    let first = compile(
        &source,
        &Options {
            at: AT,
            ..Options::default()
        },
    )
    .expect("a bundle");
    let previous = Bundle::open(first.bytes, &Terms::default()).expect("a bundle");
    for (count, shrunk) in [(40, 0), (20, 0), (19, 1), (0, 1)] {
        write(count);
        let options = Options {
            at: AT,
            previous: Some(&previous),
            ..Options::default()
        };
        assert_eq!(
            compile(&source, &options).expect("a bundle").shrunk.len(),
            shrunk,
            "{count}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

#[test]
fn a_folder_of_events_is_a_feed_and_a_broken_one_is_a_bad_row() {
    let folder = std::env::temp_dir().join(format!("portcullis-misp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let event = std::fs::read(fixture("misp.json")).expect("an event");
    let (alone, _) = compiled(&["misp.json"]);
    for (name, bytes) in [
        ("a.json", event.as_slice()),
        ("b.json", &event[..event.len() / 2]),
        ("manifest.json", b"{}"),
        ("hashes.csv", b"d41d8cd98f00b204e9800998ecf8427e,x"),
    ] {
        std::fs::write(folder.join(name), bytes).expect("a file");
    }
    let source = [Source {
        path: folder.clone(),
        ..Source::default()
    }];
    let options = Options {
        at: AT,
        ..Options::default()
    };
    let together = compile(&source, &options).expect("a bundle");
    let [one, all] = [&alone, &together].map(|compiled| &compiled.feeds[0]);
    assert_eq!((all.rows, all.indicators), (one.rows + 1, one.indicators));
    assert!(one.indicators > 0);
    let malformed = |report: &FeedReport| {
        let mut reasons = report.rejections();
        let found = reasons.find(|(reason, _)| *reason == Reason::Malformed);
        found.map_or(0, |(_, count)| count)
    };
    assert_eq!(malformed(all), malformed(one) + 1);
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

#[test]
fn bundles_of_one_secret_are_compared_key_by_key() {
    let options = Options {
        at: AT,
        secret: Some(b"mine"),
        ..Options::default()
    };
    let (_, old) = compiled_with(&["ipsum.txt", "feodo.csv"], &options);
    let (_, new) = compiled_with(&["ipsum.txt", "hosts.txt"], &options);
    let difference = portcullis_feed::diff(&old, &new);
    assert_eq!(difference.keys, Some((4, 1)));
    assert!(portcullis_feed::diff(&old, &old).is_empty());
    let (_, other) = compiled(&["ipsum.txt"]);
    assert_eq!(portcullis_feed::diff(&old, &other).keys, None);
}

#[test]
fn a_signature_is_of_one_key_and_one_content() {
    use portcullis_feed::{Signature, sign, signature};
    // RFC 8410, section 10.3, and the public half of it.
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let (compiled, unsigned) = compiled(&["ipsum.txt"]);
    assert_eq!(signature(&unsigned, Some(public)), Ok(Signature::None));
    let mut bytes = compiled.bytes.clone();
    sign(&mut bytes, private).expect("signed");
    let open = |bytes: &[u8]| Bundle::open(bytes.to_vec(), &Terms::default()).expect("a bundle");
    assert_eq!(signature(&open(&bytes), Some(public)), Ok(Signature::Good));
    assert!(matches!(
        signature(&open(&bytes), None),
        Ok(Signature::By(_))
    ));
    let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    assert_eq!(signature(&open(&bytes), Some(other)), Ok(Signature::Bad));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(signature(&open(&bytes), Some(public)), Ok(Signature::Bad));
    assert!(sign(&mut bytes, public).is_err() && signature(&unsigned, Some(private)).is_err());
}
