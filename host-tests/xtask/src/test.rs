//! `cargo xtask test`: every check, in order; the first that fails ends the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificate::Certificate;
use crate::clock::Start;
use crate::edge;
use crate::envoy;
use crate::failure::{Failure, Result};
use crate::process;
use crate::route::{Route, Target};
use crate::template::{self, Settings};
use crate::toolchain;
use crate::tools;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// How the command is used.
pub const USAGE: &str = "cargo xtask test [STAGE...]
  Runs every check, or the named ones, and stops at the first that fails:
  fmt       the code is formatted
  clippy    no lint complains
  no-std    the policy core builds for a target without std
  wasm      the filter builds
  validate  Envoy takes every configuration in envoy/
  test      every test: unit tests, properties, and all rings of the corpus
  doc       rustdoc has no warning
  It installs what is missing: rustup components, Debian packages as root, Envoy into .venv.";

type Stage = (&'static str, fn(&Workspace) -> Result<()>);

const STAGES: [Stage; 7] = [
    ("fmt", fmt),
    ("clippy", clippy),
    ("no-std", no_std),
    ("wasm", |workspace| {
        wasm::build(workspace).map(|module| println!("{}", module.display()))
    }),
    ("validate", validate),
    ("test", test),
    ("doc", doc),
];

/// Compiles the tests that start Envoy, wherever the package is named.
const FEATURES: [&str; 2] = ["--features", "xtask/envoy"];

/// Runs the command.
///
/// # Errors
///
/// The first stage that fails.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let stages = selected(arguments)?;
    let mut seconds = Vec::new();
    for (name, stage) in stages {
        println!("=== {name}");
        let start = Start::now();
        let result = stage(workspace);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("--- {name}: {took:.1} s"),
            Err(Failure::Stopped) => return Err(Failure::Stopped),
            Err(Failure::Told { what, remedy }) => {
                println!("--- {name}: failed after {took:.1} s");
                return Err(Failure::new(format!("stage {name}: {what}"), remedy));
            }
        }
        seconds.push((name, took));
    }
    println!("=== every stage passed");
    for (name, took) in &seconds {
        println!("{took:8.1} s  {name}");
    }
    println!(
        "{:8.1} s  in all",
        seconds.iter().map(|(_, took)| took).sum::<f64>()
    );
    Ok(())
}

/// The named stages in their own order, or all.
fn selected(names: &[String]) -> Result<Vec<Stage>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !STAGES.iter().any(|(stage, _)| stage == name))
    {
        return Err(Failure::new(
            format!("there is no stage `{unknown}`"),
            USAGE,
        ));
    }
    let chosen = |(stage, _): &Stage| names.is_empty() || names.iter().any(|name| name == stage);
    Ok(STAGES.into_iter().filter(chosen).collect())
}

fn fmt(workspace: &Workspace) -> Result<()> {
    component("rustfmt", "fmt")?;
    let mut command = tools::cargo();
    command.args(["fmt", "--all", "--", "--check"]);
    step(workspace, &mut command, "run `cargo fmt --all`")
}

fn clippy(workspace: &Workspace) -> Result<()> {
    component("clippy", "clippy")?;
    let mut command = tools::cargo();
    command
        .args(["clippy", "--workspace", "--all-targets"])
        .args(FEATURES)
        .args(["--", "-D", "warnings"]);
    step(workspace, &mut command, "mend what clippy names above")
}

fn no_std(workspace: &Workspace) -> Result<()> {
    // A route that is forced for the module says what this machine may use; only Debian's way is one
    // that another target can be forced to.
    let forced = toolchain::forced()?.filter(|route| matches!(route, Route::Debian));
    let (route, found) = toolchain::prepare(Target::NoStd, forced)?;
    println!(
        "portcullis-policy for {} (route `{route}`)",
        Target::NoStd.triple()
    );
    let folder = workspace.target().join("no-std");
    let (mut command, _) = toolchain::cargo(Target::NoStd, route, &found, &folder)?;
    command.args(["--package", "portcullis-policy", "--all-features"]);
    step(
        workspace,
        &mut command,
        "something in the core needs std: see the compiler's messages above",
    )
}

fn validate(workspace: &Workspace) -> Result<()> {
    if unsupported() {
        return Ok(());
    }
    let envoy = envoy::obtain(workspace)?;
    let module = wasm::build(workspace)?;
    let certificate = Certificate::obtain(workspace)?;
    let folder = workspace
        .target()
        .join(format!("validate/{}", std::process::id()));
    let files = configurations(&workspace.join("envoy"))?;
    if files.is_empty() {
        return Err(Failure::new(
            "there is no configuration in envoy/",
            "put envoy/envoy.yaml back",
        ));
    }
    for file in files {
        let text = workspace::read(&file)?;
        // Whatever a configuration is for, it is this module that it must take.
        let settings = Settings {
            wasm: module.to_str(),
            tls: text.contains("# @tls-port").then(|| certificate.on(0)),
            ..Settings::default()
        };
        let config = template::render(&text, &settings)?;
        let name = workspace.short(&file);
        edge::validate(&envoy.path, &config, &folder).map_err(|failure| match failure {
            Failure::Told { what, remedy } => Failure::new(format!("{name}: {what}"), remedy),
            Failure::Stopped => failure,
        })?;
        println!("envoy {} takes {name}", envoy.version);
    }
    let _ = fs::remove_dir_all(folder);
    Ok(())
}

fn test(workspace: &Workspace) -> Result<()> {
    let mut command = tools::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.env("PORTCULLIS_WASM", wasm::build(workspace)?);
    if !unsupported() {
        command
            .args(FEATURES)
            .env("ENVOY", envoy::obtain(workspace)?.path);
    }
    step(workspace, &mut command, "read the failed tests above")
}

fn doc(workspace: &Workspace) -> Result<()> {
    let mut command = tools::cargo();
    command
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    step(workspace, &mut command, "mend what rustdoc names above")
}

/// Runs one command of a stage in the root of the repository.
fn step(workspace: &Workspace, command: &mut Command, remedy: &str) -> Result<()> {
    let status = process::status(command.current_dir(workspace.root()))?;
    if status.success() {
        Ok(())
    } else {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect();
        Err(Failure::new(
            format!("`cargo {}` failed ({status})", arguments.join(" ")),
            remedy,
        ))
    }
}

/// Whether Envoy can't be had because of where this is; says so. Anywhere else its lack is a failure.
fn unsupported() -> bool {
    let asked = envoy::asked().is_some() || tools::on_path("envoy").is_some();
    let unsupported = !envoy::PACKAGED && !asked;
    if unsupported {
        println!("ring envoy: unsupported on this platform (Linux x86_64 only, or set ENVOY)");
    }
    unsupported
}

/// A cargo command that a minimal toolchain lacks is asked of rustup.
fn component(name: &str, subcommand: &str) -> Result<()> {
    let there = process::capture(tools::cargo().args([subcommand, "--version"]), tools::QUICK)?;
    if there.ok() {
        return Ok(());
    }
    let remedy = format!("rustup component add {name}");
    eprintln!("{remedy}");
    let mut command = Command::new("rustup");
    let added = process::status(command.args(["component", "add", name]));
    match added {
        Ok(status) if status.success() => Ok(()),
        Err(Failure::Stopped) => Err(Failure::Stopped),
        _ => Err(Failure::new(
            format!("there is no cargo {subcommand}"),
            remedy,
        )),
    }
}

/// Every Envoy bootstrap under `folder`, in order. Manifests for Kubernetes are none.
fn configurations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| Failure::file(&folder, &error))?;
        for entry in entries {
            let path = entry
                .map_err(|error| Failure::file(&folder, &error))?
                .path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
            {
                let text = workspace::read(&path)?;
                if text.lines().any(|line| line.starts_with("apiVersion:")) {
                    println!(
                        "{} is a Kubernetes manifest, none of Envoy's",
                        path.display()
                    );
                } else {
                    found.push(path);
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_run_in_their_own_order() {
        let names = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|name| (*name).to_owned()).collect();
            selected(&arguments)
                .map(|stages| stages.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["doc", "fmt"]).unwrap(), ["fmt", "doc"]);
        assert_eq!(names(&[]).unwrap().len(), STAGES.len());
        assert!(
            names(&["fmt", "foo"])
                .unwrap_err()
                .to_string()
                .contains("no stage `foo`")
        );
    }

    #[test]
    fn the_usage_tells_every_stage() {
        for (name, _) in STAGES {
            assert!(USAGE.contains(&format!("\n  {name} ")), "{name}");
        }
    }

    #[test]
    fn finds_the_shipped_configuration() {
        let workspace = Workspace::find().unwrap();
        let found = configurations(&workspace.join("envoy")).unwrap();
        assert!(found.contains(&workspace.envoy_yaml()), "{found:?}");
    }
}
