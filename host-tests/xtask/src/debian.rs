//! Installing Debian packages, where we may.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::failure::{Failure, Result};
use crate::process;
use crate::tools;

/// Whether this is Debian (or built on it), and we are root there.
#[must_use]
pub fn can_install() -> bool {
    Path::new("/etc/debian_version").exists()
        && tools::on_path("apt-get").is_some()
        && std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Installs `packages`. Its progress goes to standard error.
///
/// # Errors
///
/// When this is not root on Debian, or apt fails.
pub fn install(packages: &[&str]) -> Result<()> {
    // apt's own lock would make the second of two at once fail.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let names = packages.join(" ");
    if !can_install() {
        return Err(Failure::new(
            format!("missing: {names}"),
            format!("sudo apt-get install -y {names}"),
        ));
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("-q")
            .args(arguments)
            .stdout(io::stderr());
        process::status(&mut command).map(|status| status.success())
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    eprintln!("installing {names}");
    // The package lists may be missing or old: only then are they fetched.
    if apt(&install)? || (apt(&["update"])? && apt(&install)?) {
        return Ok(());
    }
    Err(Failure::new(
        format!("apt-get can't install {names}"),
        format!("read its message above, then: apt-get update && apt-get install -y {names}"),
    ))
}
