//! Policy documents as the cases name them, in both forms that Envoy can hand to the filter.

use std::path::Path;

use serde_json::Value;

use crate::case::Profile;

/// The environment of every ring's VMs: what policies may name as peppers.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("PORTCULLIS_TEST_PEPPER", "a pepper of the tests, no secret"),
    (
        "PORTCULLIS_TEST_PEPPER_OLD",
        "the pepper before it, no secret either",
    ),
];

/// [`ENVIRONMENT`] as a host keeps it.
pub fn environment() -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    ENVIRONMENT.iter().map(owned).collect()
}

/// A variable of [`ENVIRONMENT`].
pub fn variable(name: &str) -> Option<String> {
    let found = ENVIRONMENT.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| (*value).to_owned())
}

/// A policy document, read from YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    name: String,
    value: Value,
}

impl Document {
    /// Reads a YAML file.
    ///
    /// # Errors
    /// One line that names the file and the place in it.
    pub fn read(name: &str, path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let value = from_yaml(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }

    /// A document built in a test.
    pub fn new(name: &str, value: Value) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    /// The name by which cases ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The document as a tree.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The document for a profile: `pause` says where requests are held, and where headers go on
    /// before the body is read, no route annotates them with what is in it.
    pub fn in_profile(&self, profile: Profile) -> Value {
        let mut value = self.value.clone();
        let pause = match profile {
            Profile::Headers => "headers",
            Profile::Body => "body",
        };
        if let Value::Object(fields) = &mut value {
            fields.insert("pause".to_owned(), pause.into());
        }
        if profile == Profile::Body {
            let apis = value
                .get_mut("apis")
                .and_then(Value::as_object_mut)
                .into_iter()
                .flatten();
            let routes = apis
                .filter_map(|(_, api)| api.get_mut("routes")?.as_object_mut())
                .flatten();
            for (_, route) in
                routes.filter_map(|(name, route)| Some((name, route.as_object_mut()?)))
            {
                let tags = |screen: &Value| {
                    let of = screen.get("of").and_then(Value::as_str);
                    let in_body = of.is_some_and(|of| of.starts_with("body."));
                    in_body && screen.get("tag").is_some()
                };
                let screens = route.get("screen").and_then(Value::as_object);
                let tagged = screens.is_some_and(|screens| screens.values().any(tags));
                if route.contains_key("class") || route.contains_key("verdict") || tagged {
                    route.insert("annotate".to_owned(), "none".into());
                }
            }
        }
        value
    }

    /// What the filter reads: the profile [`Profile::Headers`] has it from a
    /// `google.protobuf.Struct` (protobuf bytes), the profile [`Profile::Body`] from a
    /// `google.protobuf.StringValue` (JSON text), so that every case tries both.
    pub fn configuration(&self, profile: Profile) -> Vec<u8> {
        let value = self.in_profile(profile);
        match profile {
            Profile::Headers => to_struct(&value),
            Profile::Body => value.to_string().into_bytes(),
        }
    }
}

/// YAML as JSON has it: only `true` and `false` are booleans.
///
/// # Errors
/// The parser's message, which names line and column.
pub(crate) fn from_yaml<'de, T: serde::Deserialize<'de>>(
    text: &'de str,
) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

/// The serialised `google.protobuf.Struct` of a JSON object (protobuf.dev, `struct.proto`).
fn to_struct(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &to_message(value));
        put_bytes(&mut out, 1, &entry);
    }
    out
}

/// The serialised `google.protobuf.Value`.
fn to_message(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Null => out.extend([1 << 3, 0]),
        Value::Number(number) => {
            out.push((2 << 3) | 1);
            out.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Value::String(text) => put_bytes(&mut out, 3, text.as_bytes()),
        Value::Bool(flag) => out.extend([4 << 3, u8::from(*flag)]),
        Value::Object(_) => put_bytes(&mut out, 5, &to_struct(value)),
        Value::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                put_bytes(&mut list, 1, &to_message(item));
            }
            put_bytes(&mut out, 6, &list);
        }
    }
    out
}

/// A field of wire type 2: tag, length, bytes.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push((field << 3) | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_words_are_no_booleans() {
        let value: Value = from_yaml("{ a: yes, b: on, c: true, d: no, e: 10, f: ~ }").unwrap();
        assert_eq!(
            value,
            json!({"a": "yes", "b": "on", "c": true, "d": "no", "e": 10, "f": null})
        );
    }

    /// Golden bytes of `protoc` for `{"a": [1, true, null], "b": {"c": "x"}}`.
    #[test]
    fn struct_is_protobuf() {
        let bytes = to_struct(&json!({"a": [1, true, null], "b": {"c": "x"}}));
        let expected: &[u8] = &[
            0x0a, 0x1a, 0x0a, 0x01, b'a', 0x12, 0x15, 0x32, 0x13, 0x0a, 0x09, 0x11, 0, 0, 0, 0, 0,
            0, 0xf0, 0x3f, 0x0a, 0x02, 0x20, 0x01, 0x0a, 0x02, 0x08, 0x00, //
            0x0a, 0x11, 0x0a, 0x01, b'b', 0x12, 0x0c, 0x2a, 0x0a, 0x0a, 0x08, 0x0a, 0x01, b'c',
            0x12, 0x03, 0x1a, 0x01, b'x',
        ];
        assert_eq!(bytes, expected);
    }
}
