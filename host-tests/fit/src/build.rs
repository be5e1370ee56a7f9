//! From URLs to a model's bytes.

use std::collections::{HashMap, HashSet};

use portcullis_threat::structure::model::write::{
    CHARACTER_CLASSES, Draft, Group, character_class, dimension, parts, places, suffix_name,
};
use portcullis_threat::structure::{Site, Tables};

use crate::Tools;
use crate::data::Source;
use crate::items::Item;
use crate::train::{Example, Settings, fit};

/// Binary logarithms of the numbers of weights for runs of characters: 32 KiB together
const GRAM_BITS: u8 = 14;
/// A suffix has its own weight from so many registrable domains on
const SUFFIX_GROUPS: usize = 8;
/// How much all benign URLs weigh, where all phishing URLs weigh 1: few false alarms matter more than recall
const BENIGN: f32 = 3.0;

/// How much a shared host may weigh, twice: that it is one, and which
const HOSTING: f32 = 0.6;

/// How much all phishing URLs weigh, in examples
const MASS: f32 = 20_000.0;

/// What was found to do well, by cross-validation and on held-out sources
pub(crate) const SETTINGS: Settings = Settings {
    epochs: 12,
    rate: 0.15,
    ridge: [2.0, 6.0, 24.0, 24.0],
};

/// Fits on the items with these indices and makes bytes of the weights.
pub(crate) fn build(
    items: &[Item],
    training: &[usize],
    sources: &[Source],
    tools: &Tools,
) -> Result<Draft, String> {
    let chosen: Vec<&Item> = training.iter().filter_map(|i| items.get(*i)).collect();
    let empty = Draft::empty(1, 1, Vec::new()).write().ok_or("no draft")?;
    let (known, platforms) = known_suffixes(&chosen, &tools.tables(&empty)?);
    let mut draft = Draft::empty(GRAM_BITS, GRAM_BITS, known);
    draft.bigrams = bigrams(&chosen, &tools.tables(&empty)?);
    let section = draft.write().ok_or("too many suffixes")?;
    let tables = tools.tables(&section)?;

    // Every source weighs the same for its label; within it, a domain with many URLs doesn't count for each.
    let mut domains: HashMap<(usize, &str), f32> = HashMap::new();
    for item in &chosen {
        *domains.entry((item.row.source, &item.group)).or_default() += 1.0;
    }
    let raw = |item: &Item| {
        1.0 / domains
            .get(&(item.row.source, item.group.as_str()))
            .map_or(1.0, |n| n.powf(0.6))
    };
    let mut masses = vec![0f32; sources.len()];
    for item in &chosen {
        if let Some(mass) = masses.get_mut(item.row.source) {
            *mass += raw(item);
        }
    }
    let peers = |phish: bool| -> f32 {
        let present = sources.iter().zip(&masses).filter(|(_, mass)| **mass > 0.0);
        present
            .filter(|(source, _)| source.phish == phish)
            .map(|(source, _)| source.weight())
            .sum()
    };
    let (peers_benign, peers_phish) = (peers(false), peers(true));
    let mut examples = Vec::new();
    for item in &chosen {
        let mass = masses.get(item.row.source).copied().unwrap_or(1.0);
        let source = sources.get(item.row.source).map_or(1.0, Source::weight);
        let label = if item.row.phish {
            1.0 / peers_phish
        } else {
            BENIGN / peers_benign
        };
        let weight = raw(item) / mass * source * label * MASS;
        let view = item.row.view();
        let mut found = Vec::new();
        places(&view, &tables, |place, _| found.push(place as u32));
        if item.full {
            // Its host alone, too: so that host weights stand without a path's help.
            let mut bare = view;
            (bare.path, bare.query) = (b"/", b"");
            let mut host = Vec::new();
            places(&bare, &tables, |place, _| host.push(place as u32));
            examples.push(Example {
                places: host,
                phish: item.row.phish,
                weight: weight * 0.5,
                kind: 2,
            });
        }
        examples.push(Example {
            places: found,
            phish: item.row.phish,
            weight,
            kind: usize::from(item.full),
        });
    }
    let order: Vec<usize> = (0..examples.len()).collect();
    let bounds = bounds(&draft, &platforms);
    let fitted = fit(&examples, &order, draft.regions(), &SETTINGS, &bounds);
    quantise(&mut draft, &fitted);
    Ok(draft)
}

/// The least and the greatest weight of each place. What speaks for phishing by its nature never speaks against it.
/// Suffixes and shared hosts are bounded so that none of them makes a URL suspicious by itself: benign URLs of the
/// data are older than most new suffixes and hosts, so that the data would make them outright proofs.
fn bounds(draft: &Draft, platforms: &HashSet<u32>) -> Vec<(f32, f32)> {
    let [dense, _, hosts, paths] = draft.regions();
    let dense = (0..dense).map(|place| match dimension(place / 16) {
        // The benign URLs were crawled and have hardly a query, as if that said anything.
        Some((name, _)) if name == "QueryLength" || name == "QueryFields" => (-0.5, 0.5),
        Some((_, Group::Hosting)) => (0.0, HOSTING),
        Some((_, Group::Suffix)) => (-1.0, 1.0),
        Some((
            _,
            Group::BrandHost
            | Group::BrandPath
            | Group::LookAlike
            | Group::Homograph
            | Group::MixedScript
            | Group::Port
            | Group::Userinfo
            | Group::Address,
        )) => (0.0, 2.5),
        _ => (-2.5, 2.5),
    });
    let suffixes = draft.suffixes.iter().map(|name| {
        if platforms.contains(name) {
            (-1.0, HOSTING)
        } else {
            (-2.0, 2.0)
        }
    });
    dense
        .chain(suffixes)
        .chain(std::iter::repeat_n(
            (-1.0, 1.0),
            hosts.saturating_add(paths),
        ))
        .collect()
}

/// Signed bytes, with the least scale of each region that holds its greatest weight
fn quantise(draft: &mut Draft, weights: &[f32]) {
    let mut rest = weights;
    let mut bytes = Vec::new();
    let regions = draft.regions();
    for (length, scale) in regions.iter().zip(&mut draft.scales) {
        let (region, tail) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
        rest = tail;
        let greatest = region
            .iter()
            .fold(0f32, |greatest, weight| greatest.max(weight.abs()));
        *scale = (greatest * 1024.0 / 127.0).ceil().clamp(1.0, 255.0) as u8;
        bytes.extend(region.iter().map(|weight| {
            (weight * 1024.0 / f32::from(*scale))
                .round()
                .clamp(-127.0, 127.0) as i8
        }));
    }
    draft.weights = bytes;
}

/// Suffixes that enough registrable domains have, and which of them are shared hosts'
fn known_suffixes(chosen: &[&Item], tables: &Tables<'_>) -> (Vec<u32>, HashSet<u32>) {
    let mut groups: HashMap<u32, HashSet<&str>> = HashMap::new();
    let mut platforms = HashSet::new();
    for item in chosen {
        let Site::Name(host) = item.row.view().host else {
            continue;
        };
        let host = host.strip_prefix(b"www.").unwrap_or(host);
        let [_, _, platform, registry] = parts(host, tables);
        let tld = registry
            .rsplit(|byte| *byte == b'.')
            .next()
            .unwrap_or_default();
        let names = if platform.is_empty() {
            vec![suffix_name(0, tld), suffix_name(1, registry)]
        } else {
            platforms.insert(suffix_name(2, platform));
            vec![suffix_name(2, platform)]
        };
        for name in names {
            groups.entry(name).or_default().insert(&item.group);
        }
    }
    groups.retain(|_, groups| groups.len() >= SUFFIX_GROUPS);
    (groups.into_keys().collect(), platforms)
}

/// How letters follow each other in benign labels
fn bigrams(chosen: &[&Item], tables: &Tables<'_>) -> Vec<i8> {
    const N: usize = CHARACTER_CLASSES;
    let mut counts = [[0.5f64; N]; N];
    let mut known = HashSet::new();
    for item in chosen.iter().filter(|item| !item.row.phish) {
        let Site::Name(host) = item.row.view().host else {
            continue;
        };
        let [_, core, ..] = parts(host, tables);
        if !known.insert(core.to_vec()) {
            continue;
        }
        let mut previous = 0;
        for byte in core.iter().chain(b".") {
            let next = character_class(*byte);
            if let Some(count) = counts.get_mut(previous).and_then(|row| row.get_mut(next)) {
                *count += 1.0;
            }
            previous = next;
        }
    }
    let all: f64 = counts.as_flattened().iter().sum();
    let columns: Vec<f64> = (0..N)
        .map(|next| counts.iter().filter_map(|row| row.get(next)).sum::<f64>() / all)
        .collect();
    counts
        .iter()
        .flat_map(|row| {
            let mass: f64 = row.iter().sum();
            row.iter()
                .zip(&columns)
                .map(|(count, column)| {
                    ((count / mass / column).log2() * 8.0)
                        .round()
                        .clamp(-100.0, 100.0) as i8
                })
                .collect::<Vec<_>>()
        })
        .collect()
}
