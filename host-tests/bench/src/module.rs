//! The modules that are measured.

use std::path::PathBuf;

use xtask::failure::{Failure, Result};
use xtask::route::{self, Route, Target};
use xtask::workspace::Workspace;
use xtask::{process, toolchain, wasm};

/// The gate: built, or given by `PORTCULLIS_WASM`.
///
/// # Errors
///
/// Those of `cargo xtask wasm`.
pub(crate) fn gate(workspace: &Workspace) -> Result<PathBuf> {
    wasm::build(workspace)
}

/// The filter that does nothing, built by the gate's own route.
///
/// # Errors
///
/// When no toolchain can be had, or the build fails.
pub(crate) fn noop(workspace: &Workspace) -> Result<PathBuf> {
    guest(workspace, "noop")
}

/// The plugin that looks things up in a threat bundle, built by the gate's own route.
///
/// # Errors
///
/// When no toolchain can be had, or the build fails.
#[cfg(feature = "fuel")]
pub(crate) fn lookup(workspace: &Workspace) -> Result<PathBuf> {
    guest(workspace, "lookup")
}

fn guest(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let (mut route, mut found) = toolchain::prepare(Target::Wasm, toolchain::forced()?)?;
    if matches!(route, Route::Given) {
        // A gate that was built elsewhere has no no-op with it.
        found.given = false;
        found.rustup = false;
        found.debian.can_install = false;
        route = route::choose(Target::Wasm, &found, None).map_err(Failure::from)?;
    }
    let (mut command, folder) = toolchain::cargo(
        Target::Wasm,
        route,
        &found,
        &workspace.target().join("wasm"),
    )?;
    command.args(["--quiet", "--release", "--package"]);
    command.arg(format!("portcullis-{name}"));
    if !process::status(command.current_dir(workspace.root()))?.success() {
        return Err(Failure::new(
            format!("the guest `{name}` does not build (route `{route}`)"),
            "read the compiler's messages above",
        ));
    }
    Ok(folder
        .join(Target::Wasm.triple())
        .join(format!("release/portcullis_{name}.wasm")))
}
