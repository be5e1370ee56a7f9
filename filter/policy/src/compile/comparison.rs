//! Reading `compare` of a route's `verdict`.

use alloc::format;
use alloc::rc::Rc;

use super::classes;
use super::quantity::read_size;
use crate::comparison::{Compare, fold};
use crate::node::Node;
use crate::pointer::Pointer;
use crate::reader::{At, Errors, Map};

/// Bytes of an upstream's answer that are read: unless the policy says otherwise, and as it may say
const MAX: usize = 64 << 10;
const LARGEST: u64 = 1 << 20;

/// Most words of an upstream's own
const MAX_WORDS: usize = 64;

/// Reads how an upstream tells its verdict; `None` where it tells none
///
/// Unless written it is as the gate itself tells it.
pub(super) fn read(at: Option<&At<'_>>, errors: &mut Errors) -> Option<Rc<Compare>> {
    let mut compare = Compare {
        classification: Pointer::of_field("classification"),
        risk_score: Pointer::of_field("risk_score"),
        words: [].into(),
        max: MAX,
    };
    let Some(at) = at else {
        return Some(compare.into());
    };
    if let Node::String(_) = at.node {
        at.word(&[("none", ())], errors);
        return None;
    }
    let mut map = at.map(errors)?;
    for (name, place) in [
        ("classification", &mut compare.classification),
        ("risk_score", &mut compare.risk_score),
    ] {
        if let Some(at) = map.take(name) {
            *place = read_pointer(&at, errors).unwrap_or_else(|| place.clone());
        }
    }
    if let Some(at) = map.take("words") {
        let words = at.map(errors).into_iter().flat_map(Map::entries);
        for (word, at) in words {
            let found = at.word(&classes(), errors);
            compare.words.extend(found.map(|found| (fold(word), found)));
        }
        if compare.words.len() > MAX_WORDS {
            errors.push(&at.path, format!("must be {MAX_WORDS} words at the most"));
        }
    }
    if let Some(at) = map.take("max") {
        let max = read_size(&at, LARGEST, errors).and_then(|max| usize::try_from(max).ok());
        compare.max = max.unwrap_or(MAX);
    }
    map.finish(errors);
    Some(compare.into())
}

fn read_pointer(at: &At<'_>, errors: &mut Errors) -> Option<Pointer> {
    let pointer = Pointer::parse(at.string(errors)?);
    if pointer.is_none() {
        errors.push(
            &at.path,
            "must be a JSON pointer (RFC 6901), such as /data/verdict",
        );
    }
    pointer
}
