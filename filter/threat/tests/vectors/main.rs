//! Public test vectors of the parsers that the crate stands on and follows.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code"
)]

mod idna;
mod safe_browsing;
mod whatwg;

use std::path::PathBuf;
use std::process::Command;

/// A file of the tests that a dependency ships with its source
///
/// Read from there and not copied: it is then always the one of the version in use.
fn shipped(package: &str, file: &str) -> String {
    // Of other platforms' dependencies the sources may not be here.
    let version = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let version = String::from_utf8(version.stdout).expect("rustc tells its version");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc tells its host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo knows the workspace");
    let manifest = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .find(|found| found["name"] == package)
        .and_then(|found| found["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("{package} is no dependency"));
    let path = PathBuf::from(manifest).with_file_name("tests").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
