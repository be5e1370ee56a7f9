//! Makes a module smaller with Binaryen's `wasm-opt`: by a seventh, and a fiftieth fewer instructions a
//! decision.
//!
//! The linker leaves padded numbers, equal functions, zeros and code that nothing reaches any more.
//! Envoy compiles every byte of it in each VM, so what is left out is start-up time saved.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::failure::Result;
use crate::process;
use crate::tools;
use crate::workspace;

/// The tool, and the Debian package that has it.
pub const TOOL: &str = "wasm-opt";
/// See [`TOOL`].
pub const PACKAGE: &str = "binaryen";

/// The module made smaller; as it is where there is no `wasm-opt` and none can be installed.
///
/// `folder` keeps the last result, for the same module again.
///
/// # Errors
///
/// When a file can't be read or written.
pub fn shrink(module: Vec<u8>, folder: &Path) -> Result<Vec<u8>> {
    let (before, after) = (folder.join("long.wasm"), folder.join("short.wasm"));
    if fs::read(&before).is_ok_and(|last| last == module)
        && let Ok(short) = fs::read(&after)
    {
        return Ok(short);
    }
    if tools::on_path(TOOL).is_none() && debian::can_install() {
        // Without it the module only is longer.
        if let Err(failure) = debian::install(&[PACKAGE]) {
            eprintln!("note: {failure}");
        }
    }
    if tools::on_path(TOOL).is_none() {
        eprintln!("note: without {TOOL} (package {PACKAGE}) the module is a seventh longer");
        return Ok(module);
    }
    let _: std::io::Result<()> = fs::remove_file(&after);
    workspace::write(&before, &module)?;
    let mut command = Command::new(TOOL);
    command.args(ARGUMENTS).arg(&before).arg("-o").arg(&after);
    let captured = process::capture(&mut command, LIMIT)?;
    match fs::read(&after) {
        Ok(short) if captured.ok() && short.len() <= module.len() => Ok(short),
        _ => {
            eprintln!(
                "note: {TOOL} failed ({}): the module is a seventh longer",
                captured.last_line()
            );
            let _: std::io::Result<()> = fs::remove_file(&after);
            Ok(module)
        }
    }
}

/// What rustc's own code for wasm32-wasip1 uses is named, for `strip` removes the list from the module.
const ARGUMENTS: [&str; 8] = [
    "-Oz",
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// It takes seven seconds on a quiet machine.
const LIMIT: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_module_again_is_not_made_smaller_again() {
        let folder = std::env::temp_dir().join(format!("portcullis-shrink-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("long.wasm"), b"long").unwrap();
        fs::write(folder.join("short.wasm"), b"short").unwrap();
        assert_eq!(shrink(b"long".to_vec(), &folder).unwrap(), b"short");
        fs::remove_dir_all(&folder).unwrap();
    }
}
