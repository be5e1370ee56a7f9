//! Reading `threat`.

use portcullis_threat::{Category, ListKind, Lists, Model};

use crate::node::Node;
use crate::policy::Threat;
use crate::reader::{At, Errors};

/// Most indicators that a policy may list itself
const MAX_INDICATORS: usize = 10_000;

pub(super) fn read(at: &At<'_>, errors: &mut Errors) -> Threat {
    let mut threat = Threat::default();
    let Some(mut map) = at.map(errors) else {
        return threat;
    };
    let model = map.take("model");
    if let Some(model) = &model {
        threat.model = model.word(Model::WORDS, errors).unwrap_or_default();
    }
    let lists = match model {
        Some(_) => map.take("indicators"),
        None => map.require("indicators", errors),
    };
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
