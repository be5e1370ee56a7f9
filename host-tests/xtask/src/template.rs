//! `envoy/envoy.yaml` as a template. Pure text: no YAML is parsed, so comments and layout survive.
//!
//! Two kinds of marks make it one. A line that ends with `# @name` has one value that can be set:
//!
//! ```yaml
//! socket_address: { address: 127.0.0.1, port_value: 10000 } # @port
//! ```
//!
//! and the lines between `# BEGIN name` and `# END name` are replaced as a whole, indented as the
//! marks are.

use crate::failure::{Failure, Result};

/// The text of a policy, and what it is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy<'a> {
    /// Reaches the filter as the very same text (`google.protobuf.StringValue`).
    Json(&'a str),
    /// Reaches the filter as `google.protobuf.Struct`.
    Yaml(&'a str),
}

/// What a rendered configuration says instead of the template. `None` leaves a place as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// Where clients connect; 0 takes any free port.
    pub port: Option<u16>,
    /// Where the admin interface listens; 0 takes any free port.
    pub admin_port: Option<u16>,
    /// Where the upstream listens.
    pub upstream_port: Option<u16>,
    /// Where clients connect over TLS, on loopback alone, and what the server shows them.
    pub tls: Option<Tls<'a>>,
    /// Path of the module.
    pub wasm: Option<&'a str>,
    /// The policy.
    pub policy: Option<Policy<'a>>,
}

/// The TLS listener of a rendered configuration.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// 0 takes any free port.
    pub port: u16,
    /// Path of the certificate.
    pub certificate: &'a str,
    /// Path of its private key.
    pub key: &'a str,
}

/// Fills the template in.
///
/// # Errors
///
/// When a mark is missing or there twice, or the policy can't be put into a YAML block.
pub fn render(template: &str, settings: &Settings<'_>) -> Result<String> {
    let mut text = template.to_owned();
    for (mark, key, value) in [
        (
            "port",
            "port_value",
            settings.port.map(|port| port.to_string()),
        ),
        (
            "admin-port",
            "port_value",
            settings.admin_port.map(|port| port.to_string()),
        ),
        (
            "upstream-port",
            "port_value",
            settings.upstream_port.map(|port| port.to_string()),
        ),
        (
            "tls-address",
            "address",
            settings.tls.map(|_| "127.0.0.1".to_owned()),
        ),
        (
            "tls-port",
            "port_value",
            settings.tls.map(|tls| tls.port.to_string()),
        ),
        (
            "tls-certificate",
            "filename",
            settings.tls.map(|tls| quoted(tls.certificate)),
        ),
        (
            "tls-key",
            "filename",
            settings.tls.map(|tls| quoted(tls.key)),
        ),
        ("wasm", "filename", settings.wasm.map(quoted)),
    ] {
        if let Some(value) = value {
            text = with_value(&text, mark, key, &value)?;
        }
    }
    if let Some(policy) = settings.policy {
        text = with_block(&text, "policy", &configuration(policy)?)?;
    }
    Ok(text)
}

/// The lines of a block, without the marks and their indentation.
///
/// # Errors
///
/// When the block is not there exactly once.
pub fn block(text: &str, name: &str) -> Result<String> {
    let place = Block::find(text, name)?;
    Ok(place
        .lines
        .iter()
        .map(|line| format!("{}\n", strip_indent(line, place.indent)))
        .collect())
}

/// Replaces the lines of a block.
///
/// # Errors
///
/// When the block is not there exactly once.
pub fn with_block(text: &str, name: &str, content: &str) -> Result<String> {
    let place = Block::find(text, name)?;
    let indent = " ".repeat(place.indent);
    let mut out = String::with_capacity(text.len().saturating_add(content.len()));
    for line in place.before {
        out.push_str(line);
        out.push('\n');
    }
    push_indented(&mut out, &indent, content);
    for line in place.after {
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}

/// The `configuration:` of the filter for a policy, as the block `policy` holds it.
///
/// # Errors
///
/// When the policy is empty, or more than one YAML document.
pub fn configuration(policy: Policy<'_>) -> Result<String> {
    match policy {
        Policy::Json(text) => {
            let mut out =
                String::from("\"@type\": type.googleapis.com/google.protobuf.StringValue\n");
            // A literal block keeps every byte; the 2 says where its lines begin even if the first
            // one is indented itself.
            out.push_str("value: |2\n");
            push_indented(&mut out, "  ", &normal_lines(text));
            Ok(out)
        }
        Policy::Yaml(text) => {
            let mut out = String::from(STRUCT);
            push_indented(&mut out, "  ", &one_document(&normal_lines(text))?);
            Ok(out)
        }
    }
}

/// The YAML text of the policy that a block `policy` holds, for comparison with its source.
///
/// # Errors
///
/// When the block is not there, or not a `google.protobuf.Struct`.
pub fn policy(text: &str) -> Result<String> {
    let block = block(text, "policy")?;
    let Some(inner) = block.strip_prefix(STRUCT) else {
        return Err(Failure::new(
            "the block `policy` does not start as a google.protobuf.Struct",
            "run `cargo xtask sync`",
        ));
    };
    Ok(inner
        .lines()
        .map(|line| format!("{}\n", strip_indent(line, 2)))
        .collect())
}

const STRUCT: &str = "\"@type\": type.googleapis.com/google.protobuf.Struct\nvalue:\n";

/// Sets the value of `key` in the one line that ends with `# @mark`.
fn with_value(text: &str, mark: &str, key: &str, value: &str) -> Result<String> {
    let ending = format!("# @{mark}");
    let key = format!("{key}: ");
    let mut found = 0_usize;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.split_once(&key) {
            Some((before, after)) if line.ends_with(&ending) => {
                found = found.saturating_add(1);
                let rest = after
                    .find([' ', ',', '}'])
                    .and_then(|end| after.get(end..))
                    .unwrap_or_default();
                for part in [before, &key, value, rest, "\n"] {
                    out.push_str(part);
                }
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    match found {
        1 => Ok(out),
        _ => Err(marks(&format!(
            "{found} lines with `{key}` that end with `{ending}`"
        ))),
    }
}

struct Block<'a> {
    /// Everything up to and with the BEGIN mark.
    before: Vec<&'a str>,
    lines: Vec<&'a str>,
    /// Everything from the END mark on.
    after: Vec<&'a str>,
    indent: usize,
}

impl<'a> Block<'a> {
    fn find(text: &'a str, name: &str) -> Result<Self> {
        let (begin, end) = (format!("# BEGIN {name}"), format!("# END {name}"));
        let mut place = Self {
            before: Vec::new(),
            lines: Vec::new(),
            after: Vec::new(),
            indent: 0,
        };
        let (mut begins, mut ends) = (0_usize, 0_usize);
        for line in text.lines() {
            let mark = line.trim_start();
            if mark == end {
                ends = ends.saturating_add(1);
            }
            match (begins, ends) {
                (_, 1..) => place.after.push(line),
                (0, _) => place.before.push(line),
                _ => place.lines.push(line),
            }
            if mark == begin {
                begins = begins.saturating_add(1);
                place.indent = line.len().saturating_sub(mark.len());
            }
        }
        if begins == 1 && ends == 1 {
            Ok(place)
        } else {
            Err(marks(&format!(
                "{begins} lines `{begin}` and {ends} lines `{end}`"
            )))
        }
    }
}

fn marks(found: &str) -> Failure {
    Failure::new(
        format!("the Envoy configuration has {found}, where there must be one"),
        "put the marks back as envoy/envoy.yaml has them",
    )
}

fn strip_indent(line: &str, indent: usize) -> &str {
    // A shorter line is blank: an editor may have taken its spaces.
    line.get(indent..).unwrap_or_default()
}

fn push_indented(out: &mut String, indent: &str, content: &str) {
    for line in content.lines() {
        if !line.is_empty() {
            out.push_str(indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// No byte order mark, and `\n` at the end of each line.
fn normal_lines(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(|line| format!("{line}\n")).collect()
}

/// What can be nested: document marks and directives start at column 0 or not at all.
fn one_document(text: &str) -> Result<String> {
    let mut out = String::new();
    let mut begun = false;
    let mut ended = false;
    for line in text.lines() {
        let marks_start = line == "---" || line.starts_with("--- ");
        let content = !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if (marks_start && begun) || (ended && content) {
            return Err(Failure::new(
                "the policy is more than one YAML document",
                "keep one and remove what `---` separates from it",
            ));
        }
        if line == "..." {
            ended = true;
        } else if marks_start && line.len() == 3 {
            begun = true;
        } else if !begun && line.starts_with('%') {
            // %YAML 1.2: says nothing that Envoy needs.
        } else {
            begun |= content;
            out.push_str(line);
            out.push('\n');
        }
    }
    if begun && out.lines().any(|line| !line.trim().is_empty()) {
        Ok(out)
    } else {
        Err(Failure::new(
            "the policy is empty",
            "start from examples/policy.yaml",
        ))
    }
}

/// A double-quoted YAML scalar.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "\
a: { address: 127.0.0.1, port_value: 9901 } # @admin-port
b: { port_value: 10000 } # @port
c: { port_value: 8000 } # @upstream-port
tls:
  address: 0.0.0.0 # @tls-address
  port_value: 10443 # @tls-port
  cert: { filename: target/c.pem } # @tls-certificate
  key: { filename: target/k.pem } # @tls-key
code: { local: { filename: target/p.wasm } } # @wasm
configuration:
  # BEGIN policy
  \"@type\": type.googleapis.com/google.protobuf.Struct
  value:
    version: 1
  # END policy
rest: kept # as it is
";

    #[test]
    fn without_settings_nothing_changes() {
        assert_eq!(render(TEMPLATE, &Settings::default()).unwrap(), TEMPLATE);
    }

    #[test]
    fn fills_in_every_place() {
        let settings = Settings {
            port: Some(0),
            admin_port: Some(1),
            upstream_port: Some(65_535),
            tls: Some(Tls {
                port: 2,
                certificate: "/a/c",
                key: "/a/k",
            }),
            wasm: Some(r#"/tmp/a "b"\c.wasm"#),
            policy: Some(Policy::Yaml("version: 2\n\ntext: |\n  two\n")),
        };
        assert_eq!(
            render(TEMPLATE, &settings).unwrap(),
            r#"a: { address: 127.0.0.1, port_value: 1 } # @admin-port
b: { port_value: 0 } # @port
c: { port_value: 65535 } # @upstream-port
tls:
  address: 127.0.0.1 # @tls-address
  port_value: 2 # @tls-port
  cert: { filename: "/a/c" } # @tls-certificate
  key: { filename: "/a/k" } # @tls-key
code: { local: { filename: "/tmp/a \"b\"\\c.wasm" } } # @wasm
configuration:
  # BEGIN policy
  "@type": type.googleapis.com/google.protobuf.Struct
  value:
    version: 2

    text: |
      two
  # END policy
rest: kept # as it is
"#
        );
    }

    #[test]
    fn a_json_policy_keeps_every_character() {
        let json = "{\r\n\t\"version\": 1, \"a\": \"\\ud83d\\ude00 # \"\n}";
        let text = configuration(Policy::Json(json)).unwrap();
        assert_eq!(
            text,
            "\"@type\": type.googleapis.com/google.protobuf.StringValue\nvalue: |2\n  {\n  \t\"version\": 1, \"a\": \"\\ud83d\\ude00 # \"\n  }\n"
        );
    }

    #[test]
    fn the_policy_comes_back_as_it_went_in() {
        let source = "# a comment\nversion: 1\n\napis:\n  a: {}\n";
        let text = with_block(
            TEMPLATE,
            "policy",
            &configuration(Policy::Yaml(source)).unwrap(),
        )
        .unwrap();
        assert_eq!(policy(&text).unwrap(), source);
        assert_eq!(
            with_block(&text, "policy", &block(&text, "policy").unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn document_marks_go_and_a_second_document_is_refused() {
        let yaml = |text| configuration(Policy::Yaml(text));
        let plain = yaml("version: 1\n").unwrap();
        for same in [
            "---\nversion: 1\n",
            "%YAML 1.2\n---\nversion: 1\n...\n",
            "\u{feff}version: 1",
            "version: 1\r\n",
        ] {
            assert_eq!(yaml(same).unwrap(), plain, "{same:?}");
        }
        for two in ["a: 1\n---\nb: 2\n", "---\na: 1\n---\n", "a: 1\n...\nb: 1\n"] {
            assert!(
                yaml(two).unwrap_err().to_string().contains("more than one"),
                "{two:?}"
            );
        }
        for none in ["", "\n\n", "# only words\n", "---\n"] {
            assert!(
                yaml(none).unwrap_err().to_string().contains("empty"),
                "{none:?}"
            );
        }
    }

    #[test]
    fn a_missing_or_doubled_mark_is_named() {
        let twice = format!("{TEMPLATE}{TEMPLATE}");
        for (text, settings, word) in [
            (
                "",
                Settings {
                    port: Some(1),
                    ..Settings::default()
                },
                "@port",
            ),
            (
                &twice,
                Settings {
                    wasm: Some("a"),
                    ..Settings::default()
                },
                "2 lines with `filename: `",
            ),
            (
                &twice,
                Settings {
                    policy: Some(Policy::Yaml("a: 1")),
                    ..Settings::default()
                },
                "BEGIN policy",
            ),
        ] {
            let failure = render(text, &settings).unwrap_err().to_string();
            assert!(failure.contains(word), "{failure}");
        }
    }
}
