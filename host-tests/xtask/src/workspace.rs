//! Where things lie in the repository.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The root of the repository.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The repository that this program was built from, or is run from by cargo.
    ///
    /// # Errors
    ///
    /// When it is no longer where it was.
    pub fn find() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let folder = Path::new(&manifest)
            .canonicalize()
            .unwrap_or_else(|_| PathBuf::from(&manifest));
        folder
            .ancestors()
            .find(|folder| folder.join("envoy/envoy.yaml").is_file())
            .map(|root| Self {
                root: root.to_owned(),
            })
            .ok_or_else(|| {
                Failure::new(
                    format!("{} is not inside the repository", folder.display()),
                    "run `cargo xtask` from a clone of it",
                )
            })
    }

    /// The repository itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside it.
    #[must_use]
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Everything that is built or written here, whatever CARGO_TARGET_DIR says.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        self.join("target")
    }

    /// Where `cargo xtask wasm` leaves the module.
    #[must_use]
    pub fn wasm(&self) -> PathBuf {
        self.target().join("portcullis.wasm")
    }

    /// The Envoy configuration that `up` fills in.
    #[must_use]
    pub fn envoy_yaml(&self) -> PathBuf {
        self.join("envoy/envoy.yaml")
    }

    /// The demo policy.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.join("examples/policy.yaml")
    }

    /// A path as people want to read it.
    #[must_use]
    pub fn short<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Reads a text file.
///
/// # Errors
///
/// When it can't be read, or is no UTF-8.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Failure::file(path, &error))
}

/// Writes a file so that a reader sees the old or the new content, never half of it. The folders
/// above it are made.
///
/// # Errors
///
/// When it can't be written.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written: io::Result<()> = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, content))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| Failure::file(path, &error))
}
