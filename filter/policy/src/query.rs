//! Reading a query against its route's schema.

use alloc::string::String;
use alloc::vec::Vec;

use crate::name::Name;
use crate::node::Node;
use crate::route::Route;
use crate::schema::{Fault, Field, Kind};
use crate::spelling::{Reading, decode};

/// Checks the parameters of a query that a route inspects, and that none stands for a field of its
/// body; the others are not looked at
///
/// A parameter that is inspected is spelled as the policy spells it, once, between `&`: whatever some
/// reader takes for it besides (another case, `name[]`, an escape in its name, `;` as a separator) is
/// refused, be it alone.
///
/// # Errors
///
/// The first parameter that is wrong, in the order of their names; then the first one whose value is
/// not for the tier.
///
/// `would` gets what parameters find that don't bind who asks, the first thing of each.
pub(crate) fn check(
    route: &Route,
    query: Option<&[u8]>,
    tier: &Name,
    who: u64,
    would: &mut dyn FnMut(Fault),
) -> Result<(), Fault> {
    check_body(route, query, who)?;
    if route.query.is_empty() {
        return Ok(());
    }
    let query = query.unwrap_or_default();
    let bound = |field: &&Field| field.enforcement.binds(who);
    let fields: Vec<&Field> = route.query.iter().filter(bound).collect();
    for field in route.query.iter().filter(|field| !bound(field)) {
        if let Err(fault) = check_fields(&[field], query, tier) {
            would(fault);
        }
    }
    check_fields(&fields, query, tier)
}

fn check_fields(fields: &[&Field], query: &[u8], tier: &Name) -> Result<(), Fault> {
    let raw = find(fields, query)?;
    let mut values = Vec::with_capacity(fields.len());
    for (field, raw) in fields.iter().zip(raw) {
        let value = raw.map(|raw| read(field, raw)).transpose()?;
        field.check(value.as_ref())?;
        values.push(value);
    }
    for (field, value) in fields.iter().zip(&values) {
        field.check_tier(value.as_ref(), tier)?;
    }
    Ok(())
}

/// The value of one parameter; empty where it may be absent, and is
///
/// # Errors
///
/// What [`check`] says of it.
pub(crate) fn read_one(field: &Field, query: Option<&[u8]>) -> Result<String, Fault> {
    let raw = find(core::slice::from_ref(&field), query.unwrap_or_default())?;
    let raw = raw.first().copied().flatten();
    let value = raw.map(|raw| read(field, raw)).transpose()?;
    field.check(value.as_ref())?;
    match value {
        Some(Node::String(text)) => Ok(text),
        _ => Ok(String::new()),
    }
}

/// Refuses a query that some reader could take for fields of the body: there are frameworks that
/// mix both (Rails' `params`), so one of them would not be looked at
///
/// A parameter that the route inspects in the query under that name is another one.
///
/// # Errors
///
/// The first field, in the order of their names.
fn check_body(route: &Route, query: Option<&[u8]>, who: u64) -> Result<(), Fault> {
    let (Some(body), Some(query)) = (&route.body, query) else {
        return Ok(());
    };
    let parts = query.split(|byte| matches!(byte, b'&' | b';'));
    let readings: Vec<_> = parts.map(|part| Reading::of(split(part).0)).collect();
    body.check_doubts(who, &|name| {
        let is_declared = route.query.iter().any(|field| field.name == name);
        !is_declared && readings.iter().any(|reading| reading.is(name))
    })
}

/// Whether some reader could take a parameter of a query for a field of the body by that name
pub(crate) fn stands_for(query: &[u8], name: &str) -> bool {
    let mut parts = query.split(|byte| matches!(byte, b'&' | b';'));
    parts.any(|part| Reading::of(split(part).0).is(name))
}

/// The raw value of each parameter
fn find<'q>(fields: &[&Field], query: &'q [u8]) -> Result<Vec<Option<&'q [u8]>>, Fault> {
    let mut found: Vec<Option<&[u8]>> = fields.iter().map(|_| None).collect();
    for parameter in query.split(|byte| *byte == b'&') {
        let is_whole = !parameter.contains(&b';');
        for part in parameter.split(|byte| *byte == b';') {
            let (name, value) = split(part);
            let reading = Reading::of(name);
            for (field, found) in fields.iter().zip(&mut found) {
                if is_whole && found.is_none() && name == field.name.as_bytes() {
                    *found = Some(value);
                } else if reading.is(&field.name) {
                    return Err(field.ambiguous());
                }
            }
        }
    }
    Ok(found)
}

/// Name and value
fn split(parameter: &[u8]) -> (&[u8], &[u8]) {
    let end = parameter.iter().position(|byte| *byte == b'=');
    let (name, rest) = parameter
        .split_at_checked(end.unwrap_or(parameter.len()))
        .unwrap_or_default();
    (name, rest.split_first().map_or(rest, |(_, value)| value))
}

/// A value as it would stand in a body; what is none of its type stays a string
fn read(field: &Field, raw: &[u8]) -> Result<Node, Fault> {
    let Some(text) = text(raw, &field.kind) else {
        return Err(field.invalid("must be UTF-8 without control characters"));
    };
    let value = match (&field.kind, text.as_str()) {
        (Kind::Boolean, "true") => Some(Node::Bool(true)),
        (Kind::Boolean, "false") => Some(Node::Bool(false)),
        (Kind::Integer { .. }, text) => integer(text).map(|value| Node::Number(value.into())),
        _ => None,
    };
    Ok(value.unwrap_or(Node::String(text)))
}

/// A whole number as JSON writes it: no leading zero, no plus
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (digits.starts_with('0') && text != "0") {
        return None;
    }
    text.parse().ok()
}

/// A form's value decoded; `None` for malformed escapes, what is no UTF-8, and control characters
fn text(raw: &[u8], kind: &Kind) -> Option<String> {
    let mut raw = raw.to_vec();
    // In a token, `+` is what base64 means by it.
    if !matches!(kind, Kind::Opaque) {
        for byte in &mut raw {
            *byte = if *byte == b'+' { b' ' } else { *byte };
        }
    }
    let decoded = decode(&raw);
    let text = String::from_utf8(decoded.bytes).ok()?;
    (decoded.is_whole && !text.contains(char::is_control)).then_some(text)
}
