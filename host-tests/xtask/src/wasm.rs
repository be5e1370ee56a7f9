//! `cargo xtask wasm`: the filter as a module.

use std::fs;
use std::path::PathBuf;

use crate::capabilities;
use crate::failure::{Failure, Result};
use crate::process;
use crate::route::{Route, Target};
use crate::shrink;
use crate::toolchain;
use crate::trim;
use crate::workspace::{self, Workspace};

/// How the command is used.
pub const USAGE: &str = "cargo xtask wasm [--capabilities]
  Builds the filter for wasm32-wasip1; the last line is the module's path.
  --capabilities    prints what the module may do, as Envoy's allow-list, before that

  PORTCULLIS_WASM=FILE                              takes a built module instead
  PORTCULLIS_WASM_ROUTE=installed|rustup|debian     forces where the target comes from";

/// Runs the command.
///
/// # Errors
///
/// See [`build`].
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let list = match arguments {
        [] => false,
        [flag] if flag == "--capabilities" => true,
        _ => {
            return Err(Failure::new(
                format!("unknown arguments: {}", arguments.join(" ")),
                USAGE,
            ));
        }
    };
    let module = build(workspace)?;
    if list {
        let bytes = fs::read(&module).map_err(|error| Failure::file(&module, &error))?;
        print!("{}", capabilities::block(&capabilities::read(&bytes)?));
    }
    println!("{}", module.display());
    Ok(())
}

/// Builds the module, or takes the given one, and leaves it at [`Workspace::wasm`].
///
/// # Errors
///
/// When no toolchain can be had, or the build fails.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let (route, found) = toolchain::prepare(Target::Wasm, toolchain::forced()?)?;
    let built = match (route, toolchain::given()) {
        (Route::Given, Some(file)) => file,
        _ => {
            let folder = workspace.target().join("wasm");
            let (mut command, folder) = toolchain::cargo(Target::Wasm, route, &found, &folder)?;
            command.args(["--package", "portcullis-filter", "--release"]);
            command.current_dir(workspace.root());
            if !process::status(&mut command)?.success() {
                return Err(Failure::new(
                    format!("the filter does not build (route `{route}`)"),
                    "read the compiler's messages above",
                ));
            }
            folder
                .join(Target::Wasm.triple())
                .join("release/portcullis_filter.wasm")
        }
    };
    let bytes = fs::read(&built).map_err(|error| Failure::file(&built, &error))?;
    let mut bytes = trim::trim(&bytes).map_err(|failure| failure.at(&built))?;
    if !matches!(route, Route::Given) {
        bytes = shrink::shrink(bytes, &workspace.target().join("wasm"))?;
    }
    // Untouched when nothing changed, so that what depends on its time is not done again.
    let module = workspace.wasm();
    if fs::read(&module).ok().as_ref() != Some(&bytes) {
        workspace::write(&module, &bytes)?;
    }
    Ok(module)
}
