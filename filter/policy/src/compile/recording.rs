//! Reading `record` and `explain`.

use alloc::collections::BTreeSet;

use super::{name, quantity};
use crate::name::Name;
use crate::reader::{At, Errors};
use crate::record::EXPLANATION;
use crate::recording::{ClientForm, DEFAULT, Extent, Recording, Share, TargetForm};

const EXTENTS: &[(&str, Extent)] = &[
    ("all", Extent::All),
    ("none", Extent::None),
    ("refused", Extent::Refused),
];
const TARGETS: &[(&str, TargetForm)] = &[
    ("full", TargetForm::Full),
    ("hash", TargetForm::Hash),
    ("none", TargetForm::None),
];
const CLIENTS: &[(&str, ClientForm)] = &[
    ("full", ClientForm::Full),
    ("none", ClientForm::None),
    ("prefix", ClientForm::Prefix),
];

pub(super) fn read(at: &At<'_>, errors: &mut Errors) -> Recording {
    let mut recording = DEFAULT;
    let Some(mut map) = at.map(errors) else {
        return recording;
    };
    let mut extent = |name| map.take(name).and_then(|at| at.word(EXTENTS, errors));
    if let Some(extent) = extent("access_log") {
        recording.allowed.access_log = extent.allowed();
        recording.refused.access_log = extent.refused();
    }
    if let Some(extent) = extent("metrics") {
        recording.allowed.metrics = extent.allowed();
        recording.refused.metrics = extent.refused();
    }
    if let Some(target) = map.take("target") {
        recording.target = target.word(TARGETS, errors).unwrap_or(TargetForm::None);
    }
    if let Some(client) = map.take("client") {
        recording.client = client.word(CLIENTS, errors).unwrap_or(ClientForm::None);
    }
    if let Some(mut sample) = map.take("sample").and_then(|sample| sample.map(errors)) {
        for (field, share) in [
            ("allowed", &mut recording.allowed.sample),
            ("refused", &mut recording.refused.sample),
        ] {
            if let Some(at) = sample.take(field)
                && let Some(parts) = quantity::read_percentage(&at, errors)
            {
                *share = Share::of_million(parts);
            }
        }
        sample.finish(errors);
    }
    map.finish(errors);
    recording
}

/// Reads `explain`: the ids of the keys that may ask
pub(super) fn read_explain(at: &At<'_>, errors: &mut Errors) -> BTreeSet<Name> {
    let Some(mut map) = at.map(errors) else {
        return BTreeSet::new();
    };
    // There is one such header; who writes it down is told when it is another.
    if let Some(header) = map.take("header") {
        header.word(&[(EXPLANATION, ())], errors);
    }
    let keys = map.require("keys", errors);
    let ids = keys
        .and_then(|keys| keys.strings(errors))
        .unwrap_or_default();
    map.finish(errors);
    ids.iter().filter_map(|at| name(at, errors)).collect()
}
