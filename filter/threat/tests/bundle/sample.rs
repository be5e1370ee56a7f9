//! Bundles to try things on.

use std::net::IpAddr;

use portcullis_threat::Category;
use portcullis_threat::bundle::{Fact, FeedEntry, List, Scope, Set, Table, Writer};
use proptest::prelude::*;

/// An indicator, as a test gives it to a writer
#[derive(Clone, Debug)]
pub(crate) enum Indicator {
    Key(Set, Vec<u8>),
    Address(IpAddr),
    Network(IpAddr, u8),
}

pub(crate) type Listed = (List, Indicator, Fact);

pub(crate) fn feed(name: &str, licence: &str) -> FeedEntry {
    FeedEntry {
        name: name.into(),
        licence: licence.into(),
        fetched_at: 1_790_000_000,
        valid_until: 1_790_086_400,
        sha256: [7; 32],
        allows: false,
    }
}

/// Three feeds and what they list
pub(crate) fn writer(created: u64, listed: &[Listed]) -> Writer {
    let mut writer = Writer::new(*b"a bundle's own k", created);
    for (name, licence) in [("one", "CC0-1.0"), ("two", "MIT"), ("three", "Apache-2.0")] {
        writer.feed(feed(name, licence)).expect("a feed that fits");
    }
    for (list, indicator, fact) in listed {
        match indicator {
            Indicator::Key(set, key) => writer.add(*list, *set, key, fact),
            Indicator::Address(address) => writer.address(*list, *address, fact),
            Indicator::Network(first, prefix) => writer.network(*list, *first, *prefix, fact),
        }
    }
    writer.table(Table::Brands, b"brands");
    writer
}

pub(crate) fn bytes(created: u64, listed: &[Listed]) -> Vec<u8> {
    let (bytes, _) = writer(created, listed)
        .finish()
        .expect("a bundle that fits");
    bytes
}

/// A bundle with something of everything
pub(crate) fn everything(created: u64) -> Vec<u8> {
    let fact = fact(0, 90);
    let key = |set, key: &[u8]| Indicator::Key(set, key.to_vec());
    let listed: Vec<Listed> = [List::Deny, List::Allow]
        .into_iter()
        .flat_map(|list| {
            [
                key(Set::Url, b"evil.example/x?y=1"),
                key(Set::Domain, b"evil.example"),
                key(Set::Hash, &[3; 20]),
                Indicator::Address([192, 0, 2, 7].into()),
                Indicator::Address("2001:db8::7".parse().expect("an address")),
                Indicator::Network([198, 51, 100, 0].into(), 24),
                Indicator::Network("2001:db8:9::".parse().expect("an address"), 48),
            ]
            .map(|indicator| (list, indicator, fact))
        })
        .collect();
    bytes(created, &listed)
}

pub(crate) fn fact(feed: u8, confidence: u8) -> Fact {
    Fact {
        feed,
        scope: Scope::SUBDOMAINS,
        category: Category::Malware,
        confidence,
        block: true,
        first_seen: 0,
        last_seen: 20_000,
    }
}

pub(crate) fn facts() -> impl Strategy<Value = Fact> {
    let scope = prop::sample::subsequence(
        vec![Scope::SUBDOMAINS, Scope::BELOW, Scope::NOT_SELF],
        0..=3,
    );
    let days = prop_oneof![Just((0, 0)), (19_000_u16..20_000, 20_000_u16..20_100)];
    (
        0_u8..3,
        scope,
        prop::sample::select(Category::WORDS.to_vec()).prop_map(|(_, category)| category),
        0_u8..=100,
        any::<bool>(),
        days,
    )
        .prop_map(
            |(feed, scopes, category, confidence, block, (first_seen, last_seen))| Fact {
                feed,
                scope: scopes.into_iter().fold(Scope::EXACT, Scope::and),
                category,
                confidence,
                block,
                first_seen,
                last_seen,
            },
        )
}

pub(crate) fn indicators() -> impl Strategy<Value = Indicator> {
    let set = prop::sample::select(vec![Set::Url, Set::Domain, Set::Hash]);
    let four = any::<[u8; 4]>().prop_map(IpAddr::from);
    let six = any::<[u8; 16]>().prop_map(IpAddr::from);
    prop_oneof![
        (set, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(set, key)| Indicator::Key(set, key)),
        four.clone().prop_map(Indicator::Address),
        six.clone().prop_map(Indicator::Address),
        (four, 0_u8..=32).prop_map(|(first, prefix)| Indicator::Network(first, prefix)),
        (six, 0_u8..=128).prop_map(|(first, prefix)| Indicator::Network(first, prefix)),
    ]
}

pub(crate) fn listed() -> impl Strategy<Value = Vec<Listed>> {
    let list = prop::sample::select(vec![List::Deny, List::Allow]);
    prop::collection::vec((list, indicators(), facts()), 0..60)
}
