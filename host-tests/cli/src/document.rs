//! A policy as it is written: where its text comes from, and what it is for the filter.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

/// Line and column, both from 1.
pub(crate) type Position = (usize, usize);

/// The text of a file, or of standard input for `-`.
///
/// # Errors
///
/// The system's message.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|error| format!("can't be read: {error}"))
}

/// What a policy is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Syntax {
    /// RFC 8259.
    Json,
    /// YAML 1.2.
    Yaml,
}

impl Syntax {
    /// By the extension, else by the first character: only JSON policies begin with a brace.
    pub(crate) fn of(path: &Path, text: &str) -> Self {
        let extension = path.extension().and_then(OsStr::to_str);
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Self::Json,
            Some("yaml" | "yml") => Self::Yaml,
            _ if text.trim_start().starts_with('{') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// The JSON text that the filter reads.
///
/// JSON is handed on as it is, so that the filter's own reader sees what is written, a key that stands
/// there twice included. YAML is read strictly: only `true` and `false` are booleans, keys are unique,
/// `<<` is a key like any other, as it is for Envoy, and what one reader takes for 8 and another for 10
/// (`010`) is no number.
///
/// # Errors
///
/// The parser's message, and where.
pub(crate) fn to_json(text: &str, syntax: Syntax) -> Result<Vec<u8>, (String, Option<Position>)> {
    if syntax == Syntax::Json {
        return Ok(text.as_bytes().to_vec());
    }
    let options = serde_saphyr::options! {
        // A file of one's own may be as large as it likes.
        budget: None,
        leading_zero_numbers_as_strings: true,
        merge_keys: serde_saphyr::MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        with_snippet: false
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let number = |number: u64| usize::try_from(number).ok();
        let place = error
            .location()
            .and_then(|at| number(at.line()).zip(number(at.column())));
        let plain = serde_saphyr::UserMessageFormatter;
        let message = error.without_snippet().render_with_formatter(&plain);
        (format!("the policy is not valid YAML: {message}"), place)
    })?;
    serde_json::to_vec(&value).map_err(|error| (error.to_string(), None))
}

/// The place that a message of the JSON parser ends with.
pub(crate) fn json_position(message: &str) -> Option<Position> {
    let (_, place) = message.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_and_then_the_content() {
        let check = |path: &str, text: &str, expected| {
            assert_eq!(
                Syntax::of(Path::new(path), text),
                expected,
                "{path}: {text}"
            );
        };
        check("p.json", "version: 1", Syntax::Json);
        check("p.JSON", "", Syntax::Json);
        check("p.yaml", "{}", Syntax::Yaml);
        check("p.yml", "{}", Syntax::Yaml);
        check("-", "\n {\"version\": 1}", Syntax::Json);
        check("policy", "# c\nversion: 1", Syntax::Yaml);
        check("policy", "", Syntax::Yaml);
    }

    #[test]
    fn json_is_left_as_it_is() {
        let text = r#"{ "a": 1, "a": 2 }"#;
        assert_eq!(to_json(text, Syntax::Json).unwrap(), text.as_bytes());
    }

    #[test]
    fn yaml_is_read_strictly() {
        let yaml =
            "a: yes\nb: on\nc: true\nd: [1, ~, 010, 1_0]\ne: &x {f: 1}\ng: *x\nh: {<<: *x}\n";
        let json = String::from_utf8(to_json(yaml, Syntax::Yaml).unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"a":"yes","b":"on","c":true,"d":[1,null,"010","1_0"],"e":{"f":1},"g":{"f":1},"h":{"<<":{"f":1}}}"#
        );
    }

    #[test]
    fn a_mistake_is_placed() {
        for (yaml, line) in [
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: [1\nb: 2", 2),
            ("a: 1\n---\nb: 1", 3),
        ] {
            let (message, place) = to_json(yaml, Syntax::Yaml).unwrap_err();
            assert_eq!(place.map(|(line, _)| line), Some(line), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
        let message = "the policy is not valid JSON: expected value at line 3 column 14";
        assert_eq!(json_position(message), Some((3, 14)));
        assert_eq!(json_position("is required"), None);
    }
}
