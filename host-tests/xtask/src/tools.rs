//! Finding programs, and asking what they are.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;
use crate::version::Version;

/// Enough for a program that only prints its version, on a busy machine.
pub const QUICK: Duration = Duration::from_secs(20);

/// The program `name` in the directories of PATH.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| executable(path))
}

/// Whether `path` is a file that somebody may execute.
#[must_use]
pub fn executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The version that `program --version` prints, if it runs and prints one.
pub fn version(program: impl AsRef<OsStr>) -> Option<Version> {
    let mut command = Command::new(program);
    let captured = process::capture(command.arg("--version"), QUICK)
        .ok()
        .filter(process::Captured::ok)?;
    Version::find(&captured.stdout).or_else(|| Version::find(&captured.stderr))
}

/// The cargo that runs us, or the one on PATH.
#[must_use]
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `cargo` for a build whose result must not depend on how we were called: without the variables
/// that cargo, rustup or the caller's shell may have set for another compiler or target.
#[must_use]
pub fn clean_cargo() -> Command {
    let mut command = cargo();
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(misleads) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a variable would change what a build makes or where it puts it. What says how to reach a
/// registry, or how cargo prints, stays.
fn misleads(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MAKEFLAGS",
        "LLVM_PROFILE_FILE",
        "MAKEFLAGS",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
    ];
    const PREFIXES: [&str; 8] = [
        "CARGO_BIN_",
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "RUSTC_WORKSPACE_WRAPPER",
        "__CARGO",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_a_build_is_removed_and_the_rest_stays() {
        for name in [
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MAKEFLAGS",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "__CARGO_DEFAULT_LIB_METADATA",
        ] {
            assert!(misleads(name), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TERM_COLOR",
            "PATH",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!misleads(name), "{name}");
        }
    }

    #[test]
    fn finds_programs_that_can_run() {
        let shell = on_path("sh").unwrap();
        assert!(executable(&shell) && !executable(shell.parent().unwrap()));
        assert_eq!(on_path("no-such-program-here"), None);
    }
}
