//! Reading a body against its route's rule.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use crate::node::Node;
use crate::reason::Reason;
use crate::record::Rule;
use crate::request::{Head, One};
use crate::route::{BodyRule, Class, Field, FieldKind};

/// What is wrong with a body
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) rule: Rc<Rule>,
    /// The field's name, and what is wrong with it
    pub(crate) field: Option<(String, String)>,
}

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
    /// The first field that is wrong, in the order of their names, or what is wrong with the whole.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<(Node, Option<&Class>), Fault> {
        let Ok(body @ Node::Map(_)) = Node::parse_json(bytes) else {
            return Err(self.fault(Reason::BodyMalformed));
        };
        for field in &self.fields {
            field.check(&body)?;
        }
        let Some(classes) = &self.classes else {
            return Ok((body, None));
        };
        let Some(class) = classes.of(&body) else {
            let names: alloc::vec::Vec<_> =
                classes.classes.iter().map(|class| &*class.name).collect();
            return Err(Fault {
                reason: Reason::FieldInvalid,
                rule: Rc::clone(&classes.rule),
                field: Some((
                    classes.field.clone(),
                    format!("must be one of: {}", names.join(", ")),
                )),
            });
        };
        Ok((body, Some(class)))
    }

    pub(crate) fn fault(&self, reason: Reason) -> Fault {
        Fault {
            reason,
            rule: Rc::clone(&self.rule),
            field: None,
        }
    }
}

impl Field {
    fn check(&self, body: &Node) -> Result<(), Fault> {
        let problem = match (body.get(&self.name), self.kind) {
            (None, _) if self.required => {
                return Err(self.fault(Reason::FieldMissing, "is required".into()));
            }
            (None, _) | (Some(Node::Map(_)), FieldKind::Object) => return Ok(()),
            (Some(Node::String(text)), FieldKind::String) => match self.max_length {
                _ if self.required && text.trim().is_empty() => "must not be empty".to_owned(),
                Some(max) if text.chars().count() > max => {
                    format!("must have at most {max} characters")
                }
                _ => return Ok(()),
            },
            (Some(other), FieldKind::Object) => format!("must be an object, not {}", other.kind()),
            (Some(other), FieldKind::String) => format!("must be a string, not {}", other.kind()),
        };
        Err(self.fault(Reason::FieldInvalid, problem))
    }

    fn fault(&self, reason: Reason, problem: String) -> Fault {
        Fault {
            reason,
            rule: Rc::clone(&self.rule),
            field: Some((self.name.clone(), problem)),
        }
    }
}

/// Whether a content type is JSON in UTF-8 (RFC 8259, section 8.1)
fn is_json(value: &[u8]) -> bool {
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
