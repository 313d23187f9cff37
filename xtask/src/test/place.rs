//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directories that the suites need.
pub(crate) struct Place {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// What cargo builds into.
    pub(crate) target: PathBuf,
    /// What the set-up makes: outlives `cargo test`, goes with `cargo clean`.
    pub(super) tools: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .context("xtask is not in a workspace")?
            .to_owned();
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        // `join` keeps an absolute target directory as it is.
        let target = root.join(target);
        let tools = target.join("test-tools");
        Ok(Self {
            root,
            target,
            tools,
        })
    }

    /// Where the suites of clients that are not ours are.
    pub(super) fn interop(&self, language: &str) -> PathBuf {
        self.root.join("tests").join("interop").join(language)
    }
}

/// The program of this name on the search path.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
