//! A folder for what a run needs, gone when it is over.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::failure::{Failure, Result};
use xtask::workspace::Workspace;

/// A folder of this process alone.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, empty.
    ///
    /// # Errors
    ///
    /// When it can't be made.
    pub(crate) fn new(workspace: &Workspace, name: &str) -> Result<Self> {
        let path = workspace
            .target()
            .join(format!("bench/{name}-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| Failure::file(&path, &error))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
