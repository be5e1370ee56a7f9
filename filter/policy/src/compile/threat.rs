//! Reading `threat`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use base64ct::{Base64, Encoding};
use portcullis_threat::bundle::Signer;
use portcullis_threat::{Bundle, Category, Digest, ListKind, Lists, Model};

use super::quantity::{read_size, read_span};
use super::service::{self, File};
use crate::feeds::Feeds;
use crate::node::Node;
use crate::policy::{Reveal, Threat};
use crate::reader::{At, Errors};
use crate::record::RuleKind;
use crate::verdicts::{ENTRY, Keeping};

/// Most indicators that a policy may list itself
const MAX_INDICATORS: usize = 10_000;

const REVEALS: &[(&str, Reveal)] = &[
    ("category", Reveal::Category),
    ("none", Reveal::None),
    ("source", Reveal::Source),
];

/// Bytes of a page of a threat bundle: what a worker copies and hashes in one go
const PAGE: usize = 128 * 1024;

/// Most bytes of a bundle: unless the policy says otherwise, and as it may say
const MAX_BYTES: usize = 16 << 20;
const BYTES: RangeInclusive<u64> = 1024..=256 << 20;

/// Longest bundle that a policy brings along, in bytes
const MAX_SEED: usize = 8 << 20;

/// Most bytes that a worker may keep verdicts in
const MAX_CACHE: u64 = 64 << 20;

/// Keys that bundles may be signed with: the old and the new one
const MAX_SIGNERS: usize = 2;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

pub(super) fn read(at: &At<'_>, namespace: &str, errors: &mut Errors) -> Threat {
    let mut threat = Threat::default();
    let Some(mut map) = at.map(errors) else {
        return threat;
    };
    let model = map.take("model");
    if let Some(model) = &model {
        threat.model = model.word(Model::WORDS, errors).unwrap_or_default();
    }
    if let Some(reveal) = map.take("reveal") {
        threat.reveal = reveal.word(REVEALS, errors).unwrap_or_default();
    }
    if let Some(at) = map.take("cache") {
        threat.keeping = read_cache(&at, errors);
    }
    let bundle = map.take("bundle");
    let licences = match (&bundle, map.take("licences")) {
        (Some(_), None) => map.require("licences", errors),
        (None, Some(licences)) => {
            errors.push(&licences.path, "belongs to a bundle: write bundle too");
            None
        }
        (_, licences) => licences,
    };
    let lists = match (&model, &bundle) {
        (None, None) => map.require("indicators", errors),
        _ => map.take("indicators"),
    };
    if let Some(bundle) = bundle {
        let licences = licences.map(|licences| read_licences(&licences, errors));
        let licences = licences.unwrap_or_default();
        threat.feeds = read_bundle(&bundle, licences, namespace, errors);
    }
    if let Some(mut lists) = lists.and_then(|lists| lists.map(errors)) {
        let mut count = 0usize;
        for (name, list) in [
            ("domains", ListKind::Domains),
            ("hashes", ListKind::Hashes),
            ("networks", ListKind::Networks),
            ("urls", ListKind::Urls),
        ] {
            for at in lists
                .take(name)
                .and_then(|list| list.list(errors))
                .unwrap_or_default()
            {
                count = count.saturating_add(1);
                read_indicator(list, &at, &mut threat.lists, errors);
            }
        }
        if count > MAX_INDICATORS {
            errors.push(
                &lists.path,
                "a policy lists at most 10000 indicators itself",
            );
        }
        lists.finish(errors);
    }
    map.finish(errors);
    threat
}

/// Reads `cache`: how many verdicts are kept, by the bytes that they take, and how long
fn read_cache(at: &At<'_>, errors: &mut Errors) -> Keeping {
    // As long as whoever is told of them may keep them.
    let mut keeping = Keeping {
        entries: 0,
        positive: 900,
        negative: 300,
    };
    let Node::Map(_) = at.node else {
        keeping.entries = read_entries(at, errors);
        return keeping;
    };
    let Some(mut map) = at.map(errors) else {
        return keeping;
    };
    if let Some(max) = map.require("max", errors) {
        keeping.entries = read_entries(&max, errors);
    }
    for (name, lifetime) in [
        ("positive", &mut keeping.positive),
        ("negative", &mut keeping.negative),
    ] {
        let span = map.take(name);
        let span = span.and_then(|at| read_span(&at, SECOND..=DAY, errors));
        *lifetime = span
            .and_then(|span| span.checked_div(SECOND))
            .unwrap_or(*lifetime);
    }
    map.finish(errors);
    keeping
}

/// How many verdicts so many bytes hold
fn read_entries(at: &At<'_>, errors: &mut Errors) -> usize {
    let entries = read_size(at, MAX_CACHE, errors).and_then(|bytes| bytes.checked_div(ENTRY));
    if entries == Some(0) {
        errors.push(&at.path, format!("must be at least {ENTRY} bytes"));
    }
    entries
        .and_then(|entries| usize::try_from(entries).ok())
        .unwrap_or_default()
}

/// Reads `licences`: those that feeds of a bundle may have
fn read_licences(at: &At<'_>, errors: &mut Errors) -> Vec<String> {
    let list = at.strings(errors).unwrap_or_default();
    if list.is_empty() && matches!(at.node, Node::List(_)) {
        errors.push(&at.path, "must name at least one licence");
    }
    let licences = list.iter().filter_map(|at| at.string(errors));
    licences.map(ToString::to_string).collect()
}

/// Reads `bundle`: where the threat bundle comes from, and what it must be
fn read_bundle(
    at: &At<'_>,
    licences: Vec<String>,
    namespace: &str,
    errors: &mut Errors,
) -> Option<Feeds> {
    let mut map = at.map(errors)?;
    let pin = map.take("sha256").and_then(|at| {
        let digest = Digest::from_hex(at.string(errors)?);
        let pin = digest.and_then(|digest| <[u8; 32]>::try_from(digest.as_bytes()).ok());
        if pin.is_none() {
            errors.push(
                &at.path,
                "must be 64 hexadecimal digits, as portcullis feed inspect tells them",
            );
        }
        pin
    });
    let signers = map.take("signed_by");
    let signers = signers
        .map(|at| read_signers(&at, errors))
        .unwrap_or_default();
    let max_age = map.take("max_age");
    let max_age = max_age.and_then(|at| read_span(&at, 60 * SECOND..=30 * 24 * HOUR, errors));
    // What a policy allows is part of what a bundle is known by: one of other terms is another one.
    let mut terms = format!("{namespace}\n{}\n{pin:?}", licences.join("\n")).into_bytes();
    terms.extend(signers.iter().flat_map(Signer::key));
    let file = File {
        home: &[b"threats", &terms],
        page: PAGE,
        bytes: BYTES,
        max_bytes: MAX_BYTES,
        may_be_stale: false,
        kind: RuleKind::Verdict,
    };
    let source = service::read_source(&mut map, &file, errors);
    let seed_at = map.take("seed");
    if seed_at.is_none() && map.take("cluster").is_none() {
        errors.push(
            &map.path,
            "must say where it comes from: cluster and path, or seed",
        );
    }
    map.finish(errors);
    let mut feeds = Feeds {
        // What nobody replaces gets older; its feeds say themselves until when they are current.
        max_age: max_age
            .or(source.as_ref().map(|_| 6 * HOUR))
            .map(|age| age.div_ceil(SECOND)),
        source,
        seed: None,
        licences,
        pin,
        signers,
    };
    if let Some(at) = seed_at {
        feeds.seed = read_seed(&at, &feeds, errors);
    }
    Some(feeds)
}

/// Reads `signed_by`: a public key, or two while one takes over from the other
fn read_signers(at: &At<'_>, errors: &mut Errors) -> Vec<Signer> {
    let list = at.strings(errors).unwrap_or_default();
    if (list.is_empty() && matches!(at.node, Node::List(_))) || list.len() > MAX_SIGNERS {
        errors.push(&at.path, "must be one public key, or two");
    }
    let mut signers: Vec<Signer> = Vec::new();
    for at in list {
        let Some(text) = at.string(errors) else {
            continue;
        };
        match public_key(text).map(Signer::new) {
            Some(Some(signer)) if signers.contains(&signer) => {
                errors.push(&at.path, "is there twice");
            }
            Some(Some(signer)) => signers.push(signer),
            Some(None) => errors.push(
                &at.path,
                "is no key that only one can sign with: make one with openssl genpkey -algorithm ed25519",
            ),
            None => errors.push(
                &at.path,
                "must be `ed25519:` and a public key, 32 bytes in base64 or hexadecimal digits, as portcullis feed inspect tells it",
            ),
        }
    }
    signers
}

/// 32 bytes behind `ed25519:`, in base 64 (RFC 4648, section 4, with padding) or in hexadecimal digits
fn public_key(text: &str) -> Option<[u8; 32]> {
    let text = text.strip_prefix("ed25519:")?;
    let mut key = [0; 32];
    if let Some(digest) = Digest::from_hex(text) {
        return digest.as_bytes().try_into().ok();
    }
    let decoded = Base64::decode(text, &mut key).ok()?;
    (decoded.len() == 32).then_some(key)
}

/// Reads a bundle in base 64 (RFC 4648, section 4, with padding)
fn read_seed(at: &At<'_>, feeds: &Feeds, errors: &mut Errors) -> Option<Bundle> {
    let text = at.string(errors)?;
    let bytes = Base64::decode_vec(text).ok();
    let Some(bytes) = bytes.filter(|bytes| bytes.len() <= MAX_SEED) else {
        errors.push(
            &at.path,
            "must be a threat bundle in base64, in one line, 8 MiB at most",
        );
        return None;
    };
    let terms = portcullis_threat::Terms {
        not_after: None,
        ..feeds.terms(0)
    };
    Bundle::open(bytes, &terms)
        .map_err(|refusal| errors.push(&at.path, format!("{}: {refusal}", refusal.word())))
        .ok()
}

/// An indicator is a string, or a value with its category.
fn read_indicator(list: ListKind, at: &At<'_>, lists: &mut Lists, errors: &mut Errors) {
    let (value, category) = match at.node {
        Node::Map(_) => {
            let Some(mut map) = at.map(errors) else {
                return;
            };
            let value = map.require("value", errors);
            let category = map
                .take("category")
                .and_then(|at| at.word(Category::WORDS, errors));
            map.finish(errors);
            (value, category)
        }
        _ => (Some(at.clone()), None),
    };
    let Some((text, at)) = value.and_then(|at| at.string(errors).map(|text| (text, at))) else {
        return;
    };
    if let Err(error) = lists.insert(list, text, category.unwrap_or(Category::Other)) {
        errors.push(&at.path, error);
    }
}
