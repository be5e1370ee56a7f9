//! Gathering what [`route`] chooses from, and preparing what it chose.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::failure::{Failure, Result};
use crate::process;
use crate::route::{self, Debian, Found, Remedy, Route, Target};
use crate::tools;

/// `rustup target add` downloads about 20 MB; where it may not, it can hang.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Looks around. Changes nothing.
#[must_use]
pub fn look(target: Target) -> Found {
    Found {
        given: matches!(target, Target::Wasm) && given().is_some(),
        installed: has_std(target),
        rustup: tools::on_path("rustup").is_some(),
        debian: look_at_debian(),
    }
}

/// The module that `PORTCULLIS_WASM` names.
#[must_use]
pub fn given() -> Option<PathBuf> {
    env::var_os("PORTCULLIS_WASM")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The route that `PORTCULLIS_WASM_ROUTE` forces.
///
/// # Errors
///
/// When it names none.
pub fn forced() -> Result<Option<Route>> {
    let Some(value) = env::var_os("PORTCULLIS_WASM_ROUTE").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    value
        .to_str()
        .and_then(Route::named)
        .map(Some)
        .ok_or_else(|| {
            Failure::new(
                format!("PORTCULLIS_WASM_ROUTE is `{}`", value.display()),
                "set it to installed, rustup or debian, or unset it",
            )
        })
}

/// Chooses a route and does what it takes to walk it: adds the target, or installs packages.
///
/// # Errors
///
/// When there is no way, with the ways to open one.
pub fn prepare(target: Target, forced: Option<Route>) -> Result<(Route, Found)> {
    let mut found = look(target);
    loop {
        let route = route::choose(target, &found, forced).map_err(Failure::from)?;
        match route {
            Route::Given | Route::Installed => return Ok((route, found)),
            Route::Rustup => {
                let Some(why) = add_with_rustup(target)? else {
                    return Ok((route, found));
                };
                if forced.is_some() {
                    return Err(Failure::new(
                        format!("`rustup target add {}`: {why}", target.triple()),
                        "give rustup a network, or unset PORTCULLIS_WASM_ROUTE",
                    ));
                }
                eprintln!(
                    "rustup can't add {} ({why}): looking for another way",
                    target.triple()
                );
                found.rustup = false;
            }
            Route::Debian => {
                let missing = found.debian.missing(target);
                if missing.is_empty() {
                    return Ok((route, found));
                }
                debian::install(&missing)?;
                found.debian = Debian {
                    can_install: false,
                    ..look_at_debian()
                };
            }
        }
    }
}

/// A `cargo` that builds for `target` by `route` into a folder below `folder`, which is returned; the
/// caller adds what to build.
///
/// # Errors
///
/// When the route has nothing to build with.
pub fn cargo(
    target: Target,
    route: Route,
    found: &Found,
    folder: &Path,
) -> Result<(Command, PathBuf)> {
    // Two compilers in one folder would build everything anew at each change of route.
    let folder = folder.join(if matches!(route, Route::Debian) {
        "debian"
    } else {
        "rustup"
    });
    let mut command = tools::clean_cargo();
    command
        .args(["build", "--target", target.triple(), "--target-dir"])
        .arg(&folder);
    if matches!(target, Target::NoStd) {
        // Nobody runs it: that it compiles is all there is to know.
        command.args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
        command.args(["--config", "profile.dev.debug=false"]);
    }
    let mut flags = SIMD.to_owned();
    if matches!(route, Route::Debian) {
        command
            .env("RUSTC", DEBIAN_RUSTC)
            // `-Zbuild-std` is the one unstable thing that we use, and only here.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN");
        match target {
            Target::NoStd => {
                command.arg("-Zbuild-std=core,alloc,compiler_builtins");
            }
            Target::Wasm => {
                let Some(linker) = &found.debian.linker else {
                    return Err(Failure::new(
                        "there is no linker for wasm",
                        "apt-get install -y lld-19",
                    ));
                };
                command
                    .arg("-Zbuild-std=std,panic_abort")
                    .env("CARGO_TARGET_WASM32_WASIP1_LINKER", linker);
                flags = format!("{flags} -L native={WASI_LIBC}");
            }
        }
    }
    if matches!(target, Target::Wasm) {
        command.env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags);
    }
    Ok((command, folder))
}

impl From<Remedy> for Failure {
    fn from(remedy: Remedy) -> Self {
        Self::new(remedy.why, remedy.fixes.join("; or: "))
    }
}

/// 128-bit vectors, which every engine has had since 2021: SHA-256 is smaller and faster with them.
const SIMD: &str = "-Ctarget-feature=+simd128";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.lock";
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

fn look_at_debian() -> Debian {
    Debian {
        rustc: tools::executable(Path::new(DEBIAN_RUSTC))
            .then(|| tools::version(DEBIAN_RUSTC))
            .flatten(),
        sources: Path::new(DEBIAN_SOURCES).exists(),
        linker: ["wasm-ld-19", "wasm-ld"]
            .into_iter()
            .find(|name| tools::on_path(name).is_some())
            .map(str::to_owned),
        libc: Path::new(WASI_LIBC).join("libc.a").exists(),
        can_install: debian::can_install(),
    }
}

/// Whether the active toolchain's target directory holds a std (a core, where there is no std).
fn has_std(target: Target) -> bool {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", target.triple()]);
    let Ok(captured) = process::capture(&mut command, tools::QUICK) else {
        return false;
    };
    let prefix = match target {
        Target::Wasm => "libstd-",
        Target::NoStd => "libcore-",
    };
    captured.ok()
        && std::fs::read_dir(captured.stdout.trim()).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with(prefix))
            })
        })
}

/// `None` when the target is there now, else why not.
fn add_with_rustup(target: Target) -> Result<Option<String>> {
    eprintln!("rustup target add {}", target.triple());
    let mut command = Command::new("rustup");
    command.args(["target", "add", target.triple()]);
    let captured = process::capture(&mut command, RUSTUP_LIMIT)?;
    Ok(match (captured.ok(), has_std(target)) {
        (true, true) => None,
        (true, false) => Some("it says yes, but rustc has no such target".to_owned()),
        (false, _) => Some(captured.last_line().to_owned()),
    })
}
