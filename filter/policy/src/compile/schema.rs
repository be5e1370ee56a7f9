//! Reading what a route demands of parameters: `fields`, `query` and `page`.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::key_name;
use crate::format::{Format, Formats};
use crate::key::{Tiers, find_tier};
use crate::reader::{At, Errors, Map};
use crate::record::{Rule, RuleKind};
use crate::schema::{Field, Gate, Items, Kind, Place, Text};

/// Whole numbers that every reader of JSON holds exactly (RFC 7493, section 2.2)
const MAX_INTEGER: i64 = 9_007_199_254_740_991;
/// Longest string that can be asked for: that of the longest body
const MAX_LENGTH: i64 = 1024 * 1024;
/// Longest token, unless the policy says otherwise
const TOKEN_LENGTH: usize = 512;
/// Most items of a list, unless the policy says otherwise, and ever: a worker does nothing else while
/// it reads them
const DEFAULT_ITEMS: usize = 256;
const MAX_ITEMS: i64 = 10_000;
/// Last page: what every reader's integer holds
const MAX_PAGE: i64 = 2_147_483_647;

/// A word of `type`, a bit each
type Type = u8;
const ARRAY: Type = 1;
const BOOLEAN: Type = 2;
const INTEGER: Type = 4;
const OBJECT: Type = 8;
const OPAQUE: Type = 16;
const STRING: Type = 32;

const TYPES: &[(&str, Type)] = &[
    ("array", ARRAY),
    ("boolean", BOOLEAN),
    ("integer", INTEGER),
    ("object", OBJECT),
    ("opaque", OPAQUE),
    ("string", STRING),
];

/// Reads `fields` or `query`, sorted by name
pub(super) fn read_fields(
    at: &At<'_>,
    place: Place,
    tiers: &Tiers,
    errors: &mut Errors,
) -> Vec<Field> {
    let entries = at.map(errors).into_iter().flat_map(Map::entries);
    entries
        .filter_map(|(name, at)| read_field(name, &at, place, tiers, errors))
        .collect()
}

/// Reads `query` and `page` of a route, sorted by name
pub(super) fn read_query(map: &mut Map<'_>, tiers: &Tiers, errors: &mut Errors) -> Vec<Field> {
    let mut fields = Vec::new();
    if let Some(at) = map.take("page") {
        fields = read_page(&at, errors);
    }
    if let Some(at) = map.take("query") {
        fields.extend(read_fields(&at, Place::Query, tiers, errors));
    }
    let mut sorted: Vec<Field> = Vec::with_capacity(fields.len());
    for field in fields {
        let at = sorted.partition_point(|other| other.name < field.name);
        if sorted.get(at).is_some_and(|other| other.name == field.name) {
            errors.push(&field.rule.path, "another rule reads this parameter");
        }
        sorted.insert(at, field);
    }
    sorted
}

/// The options of one field; each belongs to some types alone
struct Options<'n, 'e> {
    map: Map<'n>,
    kind: Type,
    errors: &'e mut Errors,
}

impl<'n> Options<'n, '_> {
    fn take(&mut self, name: &'static str, kinds: Type) -> Option<At<'n>> {
        let at = self.map.take(name)?;
        if kinds & self.kind != 0 {
            return Some(at);
        }
        let belongs = |(_, kind): &&(&str, Type)| kinds & kind != 0;
        let words: Vec<_> = TYPES
            .iter()
            .filter(belongs)
            .map(|(word, _)| *word)
            .collect();
        self.refuse(&at, &format!("belongs to the type: {}", words.join(", ")));
        None
    }

    fn number(&mut self, name: &'static str, kinds: Type, min: i64, max: i64) -> Option<i64> {
        self.take(name, kinds)?.signed(min..=max, self.errors)
    }

    fn count(&mut self, name: &'static str, kinds: Type, max: i64) -> Option<usize> {
        let count = self.number(name, kinds, 1, max)?;
        usize::try_from(count).ok()
    }

    /// A list of strings, at least one
    fn list(&mut self, name: &'static str, kinds: Type) -> Option<Vec<At<'n>>> {
        let at = self.take(name, kinds)?;
        let list = at.strings(self.errors)?;
        if list.is_empty() {
            self.refuse(&at, "must name at least one");
        }
        Some(list)
    }

    fn refuse(&mut self, at: &At<'_>, message: &str) {
        self.errors.push(&at.path, message);
    }

    /// Refuses the whole field, or an option of it that is missing
    fn refuse_all(&mut self, message: &str) {
        self.errors.push(&self.map.path, message);
    }
}

fn read_field(
    name: &str,
    at: &At<'_>,
    place: Place,
    tiers: &Tiers,
    errors: &mut Errors,
) -> Option<Field> {
    let mut map = at.map(errors)?;
    let kind = read_type(&mut map, errors);
    let rule_kind = match place {
        Place::Body => RuleKind::Field,
        Place::Query => {
            key_name(name, at, errors);
            RuleKind::Query
        }
    };
    let required = map
        .take("required")
        .is_some_and(|required| required.bool(errors) == Some(true));
    let mut options = Options {
        map,
        // Without a type every option is read as one of a string, so that none is unknown.
        kind: kind.unwrap_or(STRING),
        errors,
    };
    if place == Place::Query && options.kind & (ARRAY | OBJECT) != 0 {
        options.refuse_all("a parameter of a query is no list and no object");
    }
    let mut max_length = options.count("max_length", ARRAY | OPAQUE | STRING, MAX_LENGTH);
    if options.kind == OPAQUE {
        max_length = max_length.or(Some(TOKEN_LENGTH));
    }
    let (kind_of, gates) = read_kind(&mut options, tiers);
    let enforcement = super::enforcement(&mut options.map, options.errors);
    options.map.finish(options.errors);
    kind?;
    Some(Field {
        place,
        name: name.into(),
        kind: kind_of,
        required,
        max_length,
        gates,
        gate_rule: Rule::new(rule_kind, &format!("{}.tiers", at.path)),
        enforcement,
        rule: Rule::new(rule_kind, &at.path),
    })
}

/// The type, as written or as `each`, `format` or `one_of` say it
fn read_type(map: &mut Map<'_>, errors: &mut Errors) -> Option<Type> {
    let implied = if map.take("each").is_some() {
        ARRAY
    } else if map.take("one_of").is_some() || map.take("format").is_some() {
        STRING
    } else {
        return map.require("type", errors)?.word(TYPES, errors);
    };
    match map.take("type") {
        Some(written) => written.word(TYPES, errors),
        None => Some(implied),
    }
}

fn read_kind(options: &mut Options<'_, '_>, tiers: &Tiers) -> (Kind, Vec<Gate>) {
    let min = options.number("min", INTEGER, -MAX_INTEGER, MAX_INTEGER);
    let max = options.number("max", INTEGER, -MAX_INTEGER, MAX_INTEGER);
    let (min, max) = (min.unwrap_or(-MAX_INTEGER), max.unwrap_or(MAX_INTEGER));
    let min_items = options.count("min_items", ARRAY, MAX_ITEMS).unwrap_or(0);
    let max_items = options.count("max_items", ARRAY, MAX_ITEMS);
    let max_items = max_items.unwrap_or(DEFAULT_ITEMS);
    if min > max || min_items > max_items {
        options.refuse_all("has a least that is above its most");
    }
    let each = options.list("each", ARRAY);
    let format = options.list("format", STRING);
    let one_of = options.list("one_of", STRING);
    if one_of.is_some() && format.is_some() {
        options.refuse_all("takes one_of or format, not both");
    }
    if options.kind == ARRAY && each.is_none() {
        options.refuse_all("a list says what each of its items is: write each");
    }
    let is_string = format.is_none() && each.is_none();
    let formats = read_formats(options, each.or(format).unwrap_or_default());
    let one_of = read_words(&one_of.unwrap_or_default(), options.errors);
    let gates = read_gates(options, &one_of, tiers);
    let kind = match options.kind {
        ARRAY => Kind::Array(Items {
            formats,
            min: min_items,
            max: max_items,
        }),
        BOOLEAN => Kind::Boolean,
        INTEGER => Kind::Integer {
            min,
            max,
            absent: None,
        },
        OBJECT => Kind::Object,
        OPAQUE => Kind::Opaque,
        _ => Kind::String(Text {
            one_of,
            formats: (!is_string).then_some(formats),
        }),
    };
    (kind, gates)
}

/// Reads different values
fn read_words(items: &[At<'_>], errors: &mut Errors) -> Vec<String> {
    let mut words: Vec<String> = Vec::with_capacity(items.len());
    for at in items {
        let Some(word) = at.string(errors) else {
            continue;
        };
        if words.iter().any(|other| other == word) {
            errors.push(&at.path, "stands here twice");
        }
        words.push(word.into());
    }
    words
}

fn read_formats(options: &mut Options<'_, '_>, items: Vec<At<'_>>) -> Formats {
    let mut formats = Vec::with_capacity(items.len());
    for at in items {
        formats.extend(at.word(Format::WORDS, options.errors));
    }
    if formats.len() > 1 && formats.contains(&Format::String) {
        options.refuse_all("the format `string` takes everything: write it alone");
    }
    let private = options.take("private_ranges", ARRAY | STRING);
    let words = &[("allow", false), ("refuse", true)];
    let refuses = private
        .as_ref()
        .and_then(|at| at.word(words, options.errors));
    let max_addresses = options.number("max_addresses", ARRAY | STRING, 1, MAX_INTEGER);
    let formats = Formats {
        formats,
        // Omission opens no door.
        refuses_private: refuses.unwrap_or(true),
        max_addresses: max_addresses.map(i64::unsigned_abs),
    };
    if (private.is_some() || max_addresses.is_some()) && !formats.name_hosts() {
        options.refuse_all(
            "private_ranges and max_addresses are for the formats: address, cidr, domain",
        );
    }
    formats
}

fn read_gates(options: &mut Options<'_, '_>, known: &[String], tiers: &Tiers) -> Vec<Gate> {
    let mut gates = Vec::new();
    let Some(map) = options
        .take("tiers", STRING)
        .and_then(|at| at.map(options.errors))
    else {
        return gates;
    };
    for (value, at) in map.entries() {
        if !known.iter().any(|other| other == value) {
            options.refuse(&at, "must be one of the values under one_of");
        }
        let list = at.strings(options.errors).unwrap_or_default();
        if list.is_empty() {
            options.refuse(&at, "must name at least one tier");
        }
        let mut names = Vec::with_capacity(list.len());
        for at in list {
            names.extend(find_tier(&at, tiers, options.errors).map(|tier| tier.name.clone()));
        }
        gates.push(Gate {
            value: value.into(),
            tiers: names,
        });
    }
    gates
}

/// Reads `page`: the parameters by which lists are turned over
fn read_page(at: &At<'_>, errors: &mut Errors) -> Vec<Field> {
    let Some(map) = at.map(errors) else {
        return Vec::new();
    };
    let mut options = Options {
        map,
        kind: OPAQUE,
        errors,
    };
    let enforcement = super::enforcement(&mut options.map, options.errors);
    let mut fields = Vec::new();
    let mut add = |name: &str, kind, max_length| {
        let rule = Rule::new(RuleKind::Query, &at.path);
        fields.push(Field {
            place: Place::Query,
            name: name.into(),
            kind,
            required: false,
            max_length,
            gates: Vec::new(),
            gate_rule: Rc::clone(&rule),
            enforcement,
            rule,
        });
    };
    let integer = |max, absent| Kind::Integer {
        min: 1,
        max,
        absent,
    };
    let cursor = options.take("cursor", OPAQUE);
    let length = options.count("max_length", OPAQUE, MAX_LENGTH);
    if let Some(cursor) = &cursor {
        let name = cursor
            .string(options.errors)
            .and_then(|text| text.strip_prefix("query."));
        match name {
            Some(name) => {
                key_name(name, cursor, options.errors);
                add(name, Kind::Opaque, length.or(Some(TOKEN_LENGTH)));
            }
            None => options.refuse(cursor, "must name a parameter, such as query.cursor"),
        }
    } else {
        add("page", integer(MAX_PAGE, Some(1)), None);
        if length.is_some() {
            options.refuse_all("only a cursor has a max_length");
        }
    }
    let max = options.number("max", OPAQUE, 1, MAX_PAGE);
    let absent = options.number("per_page", OPAQUE, 1, max.unwrap_or(MAX_PAGE));
    match max {
        Some(max) => add("per_page", integer(max, absent), None),
        None if cursor.is_none() || absent.is_some() => {
            options.refuse_all("needs the most items of a page: write max");
        }
        None => {}
    }
    if let Some(list) = options.list("sort_by", OPAQUE) {
        let text = Text {
            one_of: read_words(&list, options.errors),
            formats: None,
        };
        add("sort_by", Kind::String(text), None);
    }
    options.map.finish(options.errors);
    fields
}
