//! The commit before, without touching the checkout.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

/// A commit that is here.
pub(super) struct Commit(String);

/// The commit that the tree is a change of: HEAD when something is not committed, otherwise what was
/// before HEAD. `None` where it is not here: no checkout, the first commit, a shallow clone.
pub(super) fn parent(root: &Path) -> Result<Option<Commit>> {
    let status = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    if !status.status.success() {
        return Ok(None);
    }
    let name = if status.stdout.is_empty() {
        "HEAD^"
    } else {
        "HEAD"
    };
    Commit::find(root, name)
}

impl Commit {
    pub(super) fn find(root: &Path, name: &str) -> Result<Option<Self>> {
        let name = format!("{name}^{{commit}}");
        let output = git(root, &["rev-parse", "--verify", "--quiet", &name])?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(Self(id)))
    }

    pub(super) fn id(&self) -> &str {
        &self.0
    }

    pub(super) fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }

    /// What is in a file of this commit; `None` when it has no such file.
    pub(super) fn file(&self, root: &Path, path: &str) -> Result<Option<Vec<u8>>> {
        let output = git(root, &["show", &format!("{}:{path}", self.0)])?;
        Ok(output.status.success().then_some(output.stdout))
    }

    /// Puts the whole tree of this commit into `directory`. Every file is as new as this moment: cargo
    /// tells by their age what it has to build.
    pub(super) fn extract(&self, root: &Path, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let mut archive = Command::new("git")
            .current_dir(root)
            .args(["archive", "--format=tar", &self.0])
            .stdout(Stdio::piped())
            .spawn()
            .context("git cannot be run")?;
        let tar = archive.stdout.take().context("git has no output")?;
        let unpacked = Command::new("tar")
            .args(["--extract", "--touch", "--directory"])
            .arg(directory)
            .stdin(tar)
            .status()
            .context("tar cannot be run")?;
        let archived = archive.wait()?;
        ensure!(
            archived.success() && unpacked.success(),
            "git archive or tar failed"
        );
        Ok(())
    }
}

fn git(root: &Path, arguments: &[&str]) -> Result<Output> {
    Command::new("git")
        .current_dir(root)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .context("git cannot be run")
}
