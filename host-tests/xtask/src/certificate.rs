//! The demo's certificate: made here, by nobody trusted, good for a month.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::debian;
use crate::failure::{Failure, Result};
use crate::process;
use crate::template::Tls;
use crate::tools;
use crate::workspace::Workspace;

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: String,
    key: String,
}

/// Names of the demo, and how a laptop reaches it.
const NAMES: &str =
    "subjectAltName=DNS:localhost,DNS:api.cybervault.io,DNS:api.cyborux.com,IP:127.0.0.1";

impl Certificate {
    /// The one in target/tls; a new one where there is none, or it ends today.
    ///
    /// # Errors
    ///
    /// When there is no `openssl` and none can be installed, or it fails.
    pub fn obtain(workspace: &Workspace) -> Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = workspace.target().join("tls");
        if tools::on_path("openssl").is_none() {
            debian::install(&["openssl"])?;
        }
        if !is_good(&folder)? {
            // Made aside and then moved as one, so that a certificate always has its own key. Who does
            // the same at the same time may have been faster.
            let fresh = workspace
                .target()
                .join(format!("tls.{}", std::process::id()));
            let _ = fs::remove_dir_all(&fresh);
            make(&fresh)?;
            if !is_good(&folder)? {
                let _ = fs::remove_dir_all(&folder);
                if let Err(error) = fs::rename(&fresh, &folder)
                    && !is_good(&folder)?
                {
                    return Err(Failure::file(&folder, &error));
                }
            }
            let _ = fs::remove_dir_all(&fresh);
        }
        Ok(Self {
            certificate: text(&folder.join("certificate.pem"))?,
            key: text(&folder.join("key.pem"))?,
        })
    }

    /// Path of the certificate, which is its own authority.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.certificate)
    }

    /// A listener that shows it.
    #[must_use]
    pub fn on(&self, port: u16) -> Tls<'_> {
        Tls {
            port,
            certificate: &self.certificate,
            key: &self.key,
        }
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(
            format!("{} is no UTF-8", path.display()),
            "move the repository to a path that is",
        )
    })
}

/// Whether both files are there, and the certificate is good for a day at least.
fn is_good(folder: &Path) -> Result<bool> {
    let certificate = folder.join("certificate.pem");
    if !certificate.is_file() || !folder.join("key.pem").is_file() {
        return Ok(false);
    }
    let mut command = Command::new("openssl");
    command
        .args(["x509", "-noout", "-checkend", "86400", "-in"])
        .arg(certificate);
    Ok(process::capture(&mut command, tools::QUICK)?.ok())
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-sha256"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-days", "30", "-subj", "/CN=Portcullis demo"])
        .args(["-addext", NAMES, "-addext", "extendedKeyUsage=serverAuth"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(folder);
    let made = process::capture(&mut command, tools::QUICK)?;
    if made.ok() {
        return Ok(());
    }
    Err(Failure::new(
        format!("openssl makes no certificate\n{}", made.stderr.trim_end()),
        "install OpenSSL 1.1.1 or newer",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_good() {
        assert!(!is_good(Path::new("/nowhere")).unwrap());
    }
}
