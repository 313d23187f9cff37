//! Directories: read, written, compared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::content::Content;
use crate::disk::Tree;

impl Tree {
    /// The directory with all that is in it.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().context("a name is no text")?.to_owned();
            let below = if entry.file_type()?.is_dir() {
                Self::read(&entry.path())?
            } else {
                Self::File(Content::read(File::open(entry.path())?)?)
            };
            entries.insert(name, below);
        }
        Ok(Self::Directory(entries))
    }

    /// Makes `path` what this is. Nothing must be there.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        match self {
            Self::Directory(entries) => {
                fs::create_dir(path).with_context(|| path.display().to_string())?;
                for (name, below) in entries {
                    below.write(&path.join(name))?;
                }
            }
            Self::File(content) => {
                let file = File::create_new(path)?;
                file.set_len(content.len())?;
                for (offset, bytes) in content.stretches() {
                    file.write_all_at(&bytes, offset)?;
                }
            }
        }
        Ok(())
    }

    /// Where the two differ, by path.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(other, "", &mut found);
        found
    }

    fn compare(&self, other: &Self, path: &str, found: &mut Vec<String>) {
        match (self, other) {
            (Self::Directory(one), Self::Directory(two)) => {
                let mut names: Vec<_> = one.keys().chain(two.keys()).collect();
                names.sort_unstable();
                names.dedup();
                for name in names {
                    let path = format!("{path}/{name}");
                    match (one.get(name), two.get(name)) {
                        (Some(one), Some(two)) => one.compare(two, &path, found),
                        (Some(_), None) => found.push(format!("{path}: only in the first")),
                        _ => found.push(format!("{path}: only in the second")),
                    }
                }
            }
            (Self::File(one), Self::File(two)) if one.reads_as(two) => {}
            (Self::File(one), Self::File(two)) => found.push(format!(
                "{path}: the contents differ ({} and {} bytes)",
                one.len(),
                two.len()
            )),
            _ => found.push(format!("{path}: a file and a directory")),
        }
    }
}
