//! The module that is shipped.

use std::{env, path::PathBuf};

use portcullis_host::{Engine, Metering, Module};

/// The module that `PORTCULLIS_WASM` names. It is compiled once in a process, and kept compiled
/// beside its file.
///
/// # Errors
/// One line on what is missing and what to do.
pub(crate) fn module() -> Result<Module, String> {
    let path = env::var_os("PORTCULLIS_WASM").map(PathBuf::from);
    let path = path.filter(|path| path.is_file()).ok_or(
        "PORTCULLIS_WASM names no file: set it to the built portcullis.wasm, or run `cargo xtask test`",
    )?;
    Engine::shared(Metering::Off)
        .and_then(|engine| engine.load(&path))
        .map_err(|error| error.to_string())
}
