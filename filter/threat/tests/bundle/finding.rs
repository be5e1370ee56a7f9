//! What is found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis_threat::bundle::{Bundle, Count, List, Row, Scope, Set, Table, Terms};
use proptest::prelude::*;

use crate::sample::{self, Indicator, Listed};

fn open(bytes: Vec<u8>) -> Bundle {
    Bundle::open(bytes, &Terms::default()).expect("a bundle")
}

fn find(bundle: &Bundle, list: List, indicator: &Indicator) -> Option<Row> {
    match (list, indicator) {
        (List::Deny, Indicator::Key(set, key)) => bundle.find(*set, key),
        (List::Allow, Indicator::Key(set, key)) => bundle.allowed(*set, key),
        (List::Deny, Indicator::Address(address)) => bundle.address(*address),
        (List::Deny, Indicator::Network(address, _)) => bundle.network(*address),
        (List::Allow, Indicator::Address(address) | Indicator::Network(address, _)) => {
            bundle.allowed_address(*address)
        }
    }
}

/// The plain way: whether a network holds an address
fn holds(first: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (32, u128::from(address.to_bits())),
        IpAddr::V6(address) => (128, address.to_bits()),
    };
    let ((width, first), (other, address)) = (bits(first), bits(address));
    let free = u32::from(width - prefix.min(width));
    width == other && first.checked_shr(free) == address.checked_shr(free)
}

proptest! {
    #[test]
    fn what_was_written_is_found(listed in sample::listed()) {
        let bundle = open(sample::bytes(1, &listed));
        prop_assert!(bundle.is_orderly());
        for (list, indicator, fact) in &listed {
            let row = find(&bundle, *list, indicator);
            let row = row.unwrap_or_else(|| panic!("{indicator:?} is not found"));
            // Sixty facts are few enough to stay exact, so what one feed said is never understated.
            prop_assert!(row.confidence >= fact.confidence);
            prop_assert!(row.feeds & (1 << fact.feed) != 0);
            prop_assert!(row.block || !fact.block);
            prop_assert!(fact.first_seen == 0 || row.first_seen.is_some_and(|day| day <= fact.first_seen));
            prop_assert!(fact.last_seen == 0 || row.last_seen.is_some_and(|day| day >= fact.last_seen));
            for (own_host, own_path) in [(true, true), (true, false), (false, true), (false, false)] {
                let said = Row { scope: fact.scope, ..row }.counts(own_host, own_path);
                prop_assert!(row.counts(own_host, own_path) || !said);
            }
        }
    }

    #[test]
    fn nothing_else_is_found(listed in sample::listed(), probes in prop::collection::vec(sample::indicators(), 60)) {
        let bundle = open(sample::bytes(1, &listed));
        let keys: BTreeSet<_> = listed.iter().filter_map(|(list, indicator, _)| match indicator {
            Indicator::Key(set, key) => Some((*list, format!("{set:?}"), key.clone())),
            _ => None,
        }).collect();
        for probe in &probes {
            for list in [List::Deny, List::Allow] {
                let expected = match probe {
                    Indicator::Key(set, key) => keys.contains(&(list, format!("{set:?}"), key.clone())),
                    Indicator::Address(address) => listed.iter().any(|(on, indicator, _)| *on == list && match indicator {
                        Indicator::Address(have) => have.to_canonical() == address.to_canonical(),
                        Indicator::Network(first, prefix) => list == List::Allow && holds(*first, *prefix, *address),
                        Indicator::Key(..) => false,
                    }),
                    Indicator::Network(address, _) => listed.iter().any(|(on, indicator, _)| *on == list && match indicator {
                        Indicator::Network(first, prefix) => holds(*first, *prefix, *address),
                        Indicator::Address(have) => list == List::Allow && have == address,
                        Indicator::Key(..) => false,
                    }),
                };
                prop_assert_eq!(find(&bundle, list, probe).is_some(), expected, "{:?}", probe);
            }
        }
    }

    #[test]
    fn the_same_in_any_order_is_the_same_bytes(
        (listed, shuffled) in sample::listed().prop_flat_map(|listed| (Just(listed.clone()), Just(listed).prop_shuffle()))
    ) {
        prop_assert_eq!(sample::bytes(1, &listed), sample::bytes(1, &shuffled));
    }
}

#[test]
fn sets_of_many_sizes_hold_what_they_should() {
    for count in [1_u32, 15, 16, 17, 255, 256, 257, 5_000, 70_000] {
        let listed: Vec<Listed> = (0..count)
            .map(|number| {
                let key = Indicator::Key(Set::Url, number.to_le_bytes().to_vec());
                (List::Deny, key, sample::fact(0, 50))
            })
            .collect();
        let bundle = open(sample::bytes(1, &listed));
        assert!(bundle.is_orderly());
        assert_eq!(bundle.count(List::Deny, Count::Urls), count);
        let found = |number: u32| bundle.find(Set::Url, &number.to_le_bytes()).is_some();
        assert!((0..count).all(found), "{count}");
        assert!(!(count..count + 10_000).any(found), "{count}");
        let keys = bundle.keys_of(List::Deny, Count::Urls);
        assert_eq!(u32::try_from(keys.len()), Ok(count));
    }
}

/// Their keys are whole: neighbours, and addresses that differ in few bits, are never taken for each other.
#[test]
fn addresses_are_found_exactly() {
    let listed: Vec<Listed> = (0..40_000_u32)
        .map(|number| {
            let address = Indicator::Address(IpAddr::from((number * 2).to_be_bytes()));
            (List::Deny, address, sample::fact(0, 50))
        })
        .collect();
    let bundle = open(sample::bytes(1, &listed));
    for number in 0..100_000_u32 {
        for flipped in [0, 1 << 31, 1 << 20] {
            let number = number ^ flipped;
            let found = bundle.address(IpAddr::from(number.to_be_bytes())).is_some();
            assert_eq!(found, number < 80_000 && number % 2 == 0, "{number}");
        }
    }
}

#[test]
fn a_key_of_one_kind_is_none_of_another() {
    let bundle = open(sample::everything(1));
    assert!(bundle.find(Set::Domain, b"evil.example").is_some());
    assert!(bundle.find(Set::Url, b"evil.example").is_none());
    assert!(bundle.find(Set::Hash, b"evil.example").is_none());
}

#[test]
fn too_many_kinds_of_verdict_become_coarser_and_stay_true() {
    let listed: Vec<Listed> = (0..2_000_u16)
        .map(|number| {
            let mut fact = sample::fact(0, u8::try_from(number % 101).expect("small"));
            fact.first_seen = 18_000 + number;
            fact.last_seen = 20_000 + number;
            fact.block = false;
            let key = Indicator::Key(Set::Hash, number.to_le_bytes().to_vec());
            (List::Deny, key, fact)
        })
        .collect();
    let (bytes, figures) = sample::writer(1, &listed).finish().expect("a bundle");
    assert!(figures.coarser > 0 && figures.rows <= 256);
    let bundle = open(bytes);
    for (_, indicator, fact) in &listed {
        let row = find(&bundle, List::Deny, indicator).expect("listed");
        assert!(row.confidence <= fact.confidence && row.confidence + 25 > fact.confidence);
        assert!(row.first_seen.expect("a day") <= fact.first_seen);
        assert!(row.last_seen.expect("a day") >= fact.last_seen);
    }
}

#[test]
fn tables_and_feeds_are_read_back() {
    let bundle = open(sample::everything(9));
    assert_eq!(bundle.table(Table::Brands), b"brands");
    assert_eq!(bundle.table(Table::Suffixes), b"");
    let feeds: Vec<_> = bundle
        .feeds()
        .map(|feed| (feed.name, feed.licence))
        .collect();
    assert_eq!(
        feeds,
        [("one", "CC0-1.0"), ("two", "MIT"), ("three", "Apache-2.0")]
    );
    assert_eq!((bundle.created(), bundle.valid_until()), (9, 1_790_086_400));
}

#[test]
fn a_row_is_current_as_long_as_one_of_its_feeds() {
    let mut writer = portcullis_threat::bundle::Writer::new([0; 16], 1);
    for (name, valid_until) in [("short", 100), ("long", 200)] {
        let entry = portcullis_threat::bundle::FeedEntry {
            valid_until,
            ..sample::feed(name, "MIT")
        };
        writer.feed(entry).expect("a feed that fits");
    }
    for (key, feeds) in [(b"a", &[0_u8][..]), (b"b", &[1]), (b"c", &[1, 0])] {
        for feed in feeds {
            writer.add(List::Deny, Set::Url, key, &sample::fact(*feed, 50));
        }
    }
    let bundle = open(writer.finish().expect("a bundle that fits").0);
    let until = |key: &[u8]| bundle.row_until(&bundle.find(Set::Url, key).expect("listed"));
    assert_eq!([until(b"a"), until(b"b"), until(b"c")], [100, 200, 200]);
    assert_eq!((bundle.valid_until(), bundle.current_until()), (100, 200));
}

#[test]
fn an_embedded_address_is_the_one_that_it_carries() {
    let bundle = open(sample::everything(1));
    let mapped = "::ffff:192.0.2.7".parse().expect("an address");
    assert!(bundle.address(mapped).is_some());
}

#[test]
fn where_a_row_counts() {
    let bundle = open(sample::everything(1));
    let row = bundle.find(Set::Domain, b"evil.example").expect("listed");
    for (scope, own, below) in [
        (Scope::EXACT, true, false),
        (Scope::SUBDOMAINS, true, true),
        (Scope::SUBDOMAINS.and(Scope::NOT_SELF), false, true),
    ] {
        let row = Row { scope, ..row };
        assert_eq!(
            (row.counts(true, true), row.counts(false, true)),
            (own, below)
        );
        assert!(!row.counts(true, false));
    }
}
