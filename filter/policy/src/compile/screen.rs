//! Reading `screen`, of a route and of `clients`.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use portcullis_threat::Classification;

use super::{classes, key_name};
use crate::enforcement::Enforcement;
use crate::forward::is_reserved;
use crate::name::Name;
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::schema::{Field, Kind, Place, Text};
use crate::screen::{Classes, Doubt, Screen, Screened};

/// Most screens of a route
const MAX_SCREENS: usize = 16;

/// What the screen of all clients is called, where the upstream is told of it
const CLIENTS: &str = "clients";

const DOUBTS: &[(&str, Doubt)] = &[("forward", Doubt::Forward), ("refuse", Doubt::Refuse)];

/// Headers that hold what is no target, and what nobody is to see
const CREDENTIALS: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
];

/// The screens of a route: those of its body, and the others
#[derive(Debug, Default)]
pub(super) struct Screens {
    pub(super) head: Vec<Screen>,
    pub(super) body: Vec<Screen>,
}

/// Reads `screen` of a route; `query` are the parameters that it inspects
pub(super) fn read_route(
    map: &mut Map<'_>,
    query: &[Field],
    has_threat: bool,
    errors: &mut Errors,
) -> Screens {
    let mut screens = Screens::default();
    let Some(at) = map.take("screen") else {
        return screens;
    };
    if !has_threat {
        errors.push(&at.path, NO_THREAT);
    }
    let entries = at.map(errors).into_iter().flat_map(Map::entries);
    for (key, at) in entries {
        let name = screen_name(key, &at, errors);
        let Some(mut map) = at.map(errors) else {
            continue;
        };
        let of = map.require("of", errors);
        let of = of.and_then(|at| read_place(&at, errors));
        match read_screen(name, of, map, RuleKind::Screen, errors) {
            Some(screen) if matches!(screen.of, Screened::Body { .. }) => screens.body.push(screen),
            screen => screens.head.extend(screen),
        }
    }
    let count = screens.head.len().saturating_add(screens.body.len());
    if count > MAX_SCREENS {
        errors.push(&at.path, "a route has at most 16 screens");
    }
    let declared = query.iter().map(|field| field.name.as_str());
    let screened = screens.head.iter().filter_map(|screen| match &screen.of {
        Screened::Query(field) => Some(field.name.as_str()),
        _ => None,
    });
    let declared: Vec<&str> = declared.chain(screened).collect();
    for screen in &mut screens.body {
        if let Screened::Body { keys, is_apart } = &mut screen.of {
            *is_apart = keys.first().is_some_and(|key| declared.contains(&&**key));
        }
    }
    screens
}

/// Reads `screen` of `clients`
pub(super) fn read_clients(at: &At<'_>, has_threat: bool, errors: &mut Errors) -> Option<Screen> {
    if !has_threat {
        errors.push(&at.path, NO_THREAT);
    }
    let map = at.map(errors)?;
    let name = Name::parse(CLIENTS).ok();
    read_screen(name, Some(Screened::Client), map, RuleKind::Clients, errors)
}

const NO_THREAT: &str = "there is nothing to judge by: write threat";

/// Reads all but what is screened
fn read_screen(
    name: Option<Name>,
    of: Option<Screened>,
    mut map: Map<'_>,
    kind: RuleKind,
    errors: &mut Errors,
) -> Option<Screen> {
    let rule = Rule::new(kind, &map.path);
    let block = map.take("block");
    let tag = map.take("tag");
    if block.is_none() && tag.is_none() {
        errors.push(&map.path, "says nothing: write block or tag");
    }
    let mut classes = |at: Option<&At<'_>>| {
        let list = at.and_then(|at| at.strings(errors)).unwrap_or_default();
        let words = list.iter().filter_map(|at| at.word(&classes(), errors));
        let classes = words.fold(Classes::default(), Classes::with);
        if let Some(at) = at.filter(|_| list.is_empty()) {
            errors.push(&at.path, "must name at least one: malicious, for example");
        }
        classes
    };
    let (blocks, tags) = (classes(block.as_ref()), classes(tag.as_ref()));
    if let Some(tag) = tag.filter(|_| tags.meets(blocks)) {
        errors.push(
            &tag.path,
            "what is blocked goes to nobody who could be told",
        );
    }
    if let Some(block) = block.as_ref()
        && blocks.has(Classification::Benign)
    {
        errors.push(&block.path, "what an allow list names is never blocked");
    }
    // In doubt, refuse; who only tags refuses nobody.
    let absent = if blocks.is_empty() {
        Doubt::Forward
    } else {
        Doubt::Refuse
    };
    let mut doubt = |name| {
        let at = map.take(name)?;
        if block.is_none() {
            errors.push(
                &at.path,
                "belongs to block: a screen that only tags refuses nobody",
            );
        }
        at.word(DOUBTS, errors)
    };
    let stale = doubt("stale").unwrap_or(absent);
    let unreadable = doubt("unreadable").unwrap_or(absent);
    let enforcement = super::enforcement(&mut map, errors);
    map.finish(errors);
    Some(Screen {
        name: name?,
        of: of?,
        blocks,
        tags,
        stale,
        unreadable,
        enforcement,
        rule,
    })
}

/// A name that can be a key of a dictionary in a header (RFC 9651, section 3.1.2)
fn screen_name(key: &str, at: &At<'_>, errors: &mut Errors) -> Option<Name> {
    let name = key_name(key, at, errors)?;
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let begins = key.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if !begins || !key.bytes().all(good) {
        let message = "must begin with a small letter, and be of small letters, digits and - . _";
        errors.push(&at.path, message);
    } else if key == CLIENTS {
        errors.push(
            &at.path,
            "is what clients.screen is called: take another name",
        );
    }
    Some(name)
}

fn read_place(at: &At<'_>, errors: &mut Errors) -> Option<Screened> {
    let text = at.string(errors)?;
    match text.split_once('.') {
        None if text == "client" => return Some(Screened::Client),
        Some(("body", path)) if path.split('.').all(|key| !key.is_empty()) => {
            return Some(Screened::Body {
                keys: path.split('.').map(ToString::to_string).collect(),
                is_apart: false,
            });
        }
        Some(("header", name)) if !name.is_empty() => return read_header(name, at, errors),
        Some(("query", name)) if !name.is_empty() => {
            key_name(name, at, errors);
            return Some(Screened::Query(Box::new(parameter(name, at))));
        }
        _ => {}
    }
    let message = "must say what is screened: body.FIELD (body.FIELD.FIELD), query.NAME, header.NAME or client";
    errors.push(&at.path, message);
    None
}

/// The name of a header, as it is in HTTP/2
fn read_header(name: &str, at: &At<'_>, errors: &mut Errors) -> Option<Screened> {
    let good = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    if !name.bytes().all(good) {
        errors.push(&at.path, "must be the name of a header in small letters");
    } else if CREDENTIALS.contains(&name) {
        errors.push(&at.path, "holds credentials, not a target");
    } else if is_reserved(name.as_bytes()) {
        errors.push(
            &at.path,
            "is the gate's own: what a client sends there is removed",
        );
    } else if name == "host" {
        errors.push(&at.path, "is what the API is found by, not a target");
    } else {
        return Some(Screened::Header(name.into()));
    }
    None
}

/// A parameter that may be absent, and anything
fn parameter(name: &str, at: &At<'_>) -> Field {
    let rule = Rule::new(RuleKind::Screen, &at.path);
    Field {
        place: Place::Query,
        name: String::from(name),
        kind: Kind::String(Text {
            one_of: Vec::new(),
            formats: None,
        }),
        required: false,
        max_length: None,
        gates: Vec::new(),
        gate_rule: rule.clone(),
        enforcement: Enforcement::ALWAYS,
        rule,
    }
}
