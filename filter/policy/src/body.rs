//! Reading a body against its route's rule.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::name::Name;
use crate::node::Node;
use crate::reason::Reason;
use crate::request::{Head, One};
use crate::route::{BodyRule, Class};
use crate::schema::{Fault, Field, ONCE};
use crate::spelling::is_variant;

impl BodyRule {
    /// Checks what the headers say of the body
    ///
    /// # Errors
    ///
    /// [`Reason::BodyEncoded`], [`Reason::MediaTypeUnsupported`] or [`Reason::BodyTooLarge`].
    pub(crate) fn check_head(&self, head: &Head<'_>) -> Result<(), Fault> {
        let fault = |reason| Err(self.fault(reason));
        match head.content_encoding {
            One::Absent => {}
            One::Once(value) if value.trim_ascii().eq_ignore_ascii_case(b"identity") => {}
            One::Once(_) | One::Repeated => return fault(Reason::BodyEncoded),
        }
        match head.content_type {
            One::Once(value) if is_json(value) => {}
            _ => return fault(Reason::MediaTypeUnsupported),
        }
        let length = match head.content_length {
            One::Once(value) => core::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<usize>().ok()),
            One::Absent | One::Repeated => None,
        };
        if length.is_some_and(|length| length > self.max) {
            return fault(Reason::BodyTooLarge);
        }
        Ok(())
    }

    /// Parses a body and checks its fields
    ///
    /// # Errors
    ///
    /// The first of these, and of each the first in the order of the fields' names: what is wrong
    /// with the whole; a field; the class; another spelling of an inspected field; a value that is
    /// not for the tier.
    pub(crate) fn read(
        &self,
        bytes: &[u8],
        tier: &Name,
        who: u64,
    ) -> Result<(Node, Option<&Class>), Fault> {
        let Ok(body @ Node::Map(_)) = Node::parse_json(bytes) else {
            return Err(self.fault(Reason::BodyMalformed));
        };
        let bound = |field: &&Field| field.enforcement.binds(who);
        for field in self.fields.iter().filter(bound) {
            field.check(body.get(&field.name))?;
        }
        let class = self.class_of(&body)?;
        self.check_doubts(who, &|name| body.has_variant(name))?;
        for field in self.fields.iter().filter(bound) {
            field.check_tier(body.get(&field.name), tier)?;
        }
        Ok((body, class))
    }

    /// Hands out what fields that don't bind find: the first thing of each
    pub(crate) fn shadows(&self, body: &Node, tier: &Name, who: u64, would: &mut dyn FnMut(Fault)) {
        for field in &self.fields {
            if field.enforcement.binds(who) {
                continue;
            }
            let value = body.get(&field.name);
            let found = field.check(value).and_then(|()| {
                if body.has_variant(&field.name) {
                    return Err(field.ambiguous());
                }
                field.check_tier(value, tier)
            });
            if let Err(fault) = found {
                would(fault);
            }
        }
    }

    fn class_of(&self, body: &Node) -> Result<Option<&Class>, Fault> {
        let Some(classes) = &self.classes else {
            return Ok(None);
        };
        if let Some(class) = classes.of(body) {
            return Ok(Some(class));
        }
        let names: Vec<_> = classes.classes.iter().map(|class| &*class.name).collect();
        Err(Fault {
            reason: Reason::FieldInvalid,
            rule: Rc::clone(&classes.rule),
            field: Some((
                classes.field.clone(),
                format!("must be one of: {}", names.join(", ")),
            )),
        })
    }

    /// Refuses a request of which it is in doubt what an upstream takes for an inspected field
    ///
    /// # Errors
    ///
    /// [`Reason::FieldAmbiguous`].
    pub(crate) fn check_doubts(
        &self,
        who: u64,
        is_doubtful: &dyn Fn(&str) -> bool,
    ) -> Result<(), Fault> {
        let mut bound = self
            .fields
            .iter()
            .filter(|field| field.enforcement.binds(who));
        if let Some(field) = bound.find(|field| is_doubtful(&field.name)) {
            return Err(field.ambiguous());
        }
        match &self.classes {
            Some(classes) if is_doubtful(&classes.field) => Err(Fault {
                reason: Reason::FieldAmbiguous,
                rule: Rc::clone(&classes.rule),
                field: Some((classes.field.clone(), ONCE.into())),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn fault(&self, reason: Reason) -> Fault {
        Fault {
            reason,
            rule: Rc::clone(&self.rule),
            field: None,
        }
    }
}

impl Node {
    /// Whether another spelling of a field is there: some upstreams read it as the field
    fn has_variant(&self, name: &str) -> bool {
        matches!(self, Self::Map(entries) if entries.iter().any(|(key, _)| is_variant(key, name)))
    }
}

/// Whether a content type is JSON in UTF-8 (RFC 8259, section 8.1)
pub(crate) fn is_json(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case(b"application/json"))
    {
        return false;
    }
    parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase();
        matches!(
            parameter.as_slice(),
            b"charset=utf-8" | b"charset=\"utf-8\"" | b""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let check = |value: &str, json| assert_eq!(is_json(value.as_bytes()), json, "{value}");
        check("application/json", true);
        check("Application/JSON; charset=UTF-8", true);
        check("application/json;charset=\"utf-8\"", true);
        check("application/json;", true);
        check("application/json; charset=utf-16", false);
        check("application/json; charset=utf-8; boundary=x", false);
        check("application/json, text/plain", false);
        check("application/jsonp", false);
        check("text/json", false);
        check("", false);
    }
}
