//! JSON compared by structure, with matchers in its strings.

use serde_json::Value;

use crate::pattern::Pattern;

/// How far the document must agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    /// Every field of the document is expected.
    All,
    /// Objects may have fields that nobody expects.
    Some,
}

/// The differences between a document and what is expected of it, one line each: where, expected,
/// found.
///
/// A string of the expected document is a [`Pattern`]. `wall` is the time of the request in seconds
/// since 1970.
pub(crate) fn differences(
    expected: &Value,
    found: &Value,
    extent: Extent,
    wall: u64,
) -> Vec<String> {
    let mut lines = Vec::new();
    compare(
        expected,
        found,
        extent,
        wall,
        &mut String::from("body"),
        &mut lines,
    );
    lines
}

fn compare(
    expected: &Value,
    found: &Value,
    extent: Extent,
    wall: u64,
    path: &mut String,
    lines: &mut Vec<String>,
) {
    let len = path.len();
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                path.push('.');
                path.push_str(name);
                match found.get(name) {
                    Some(found) => compare(value, found, extent, wall, path, lines),
                    None => lines.push(format!("{path}: expected {value}, found nothing")),
                }
                path.truncate(len);
            }
            if extent == Extent::All {
                for (name, value) in found
                    .iter()
                    .filter(|(name, _)| !expected.contains_key(*name))
                {
                    lines.push(format!("{path}.{name}: expected nothing, found {value}"));
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                path.push_str(&format!("[{index}]"));
                compare(expected, found, extent, wall, path, lines);
                path.truncate(len);
            }
        }
        (Value::String(text), found) => {
            let pattern = Pattern::new(text);
            let agrees = pattern.is_any()
                || match found {
                    Value::String(found) => pattern.matches(found, wall),
                    Value::Number(found) if pattern.is_number() => {
                        pattern.matches(&found.to_string(), wall)
                    }
                    _ => false,
                };
            if !agrees {
                lines.push(format!("{path}: expected {expected}, found {found}"));
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("{path}: expected {expected}, found {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(expected: Value, found: Value) -> Vec<String> {
        differences(&expected, &found, Extent::All, 1_795_000_000)
    }

    #[test]
    fn equal_documents_agree() {
        let document = json!({"a": [1, true, null, "x"], "b": {"c": 1.5}});
        assert!(check(document.clone(), document).is_empty());
        assert!(check(json!({"n": "<integer 1..9>"}), json!({"n": 7})).is_empty());
        assert!(check(json!({"n": "<any>"}), json!({"n": [1]})).is_empty());
    }

    #[test]
    fn each_difference_is_named() {
        assert_eq!(
            check(
                json!({"a": 1, "b": [1, 2], "c": "x"}),
                json!({"a": "1", "b": [1, 3], "d": 0})
            ),
            [
                "body.a: expected 1, found \"1\"",
                "body.b[1]: expected 2, found 3",
                "body.c: expected \"x\", found nothing",
                "body.d: expected nothing, found 0",
            ]
        );
        assert_eq!(
            check(json!([1]), json!([1, 2])),
            ["body: expected [1], found [1,2]"]
        );
        assert_eq!(
            check(json!("7"), json!(7)),
            ["body: expected \"7\", found 7"]
        );
    }

    #[test]
    fn some_fields_may_be_all_that_is_asked() {
        let found = json!({"a": {"b": 1, "c": 2}});
        assert!(differences(&json!({"a": {"b": 1}}), &found, Extent::Some, 0).is_empty());
        assert_eq!(
            differences(&json!({"a": {"x": 1}}), &found, Extent::Some, 0).len(),
            1
        );
    }
}
