//! Where a change of a file can be seen: its directory, and the directory of every symbolic link on
//! the way to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// More links than this are a loop (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Directories, and in each the names of interest.
pub(crate) type Places = BTreeMap<PathBuf, BTreeSet<OsString>>;

/// Adds the places for `path`. What does not exist is looked for where it would appear: a missing
/// directory in the nearest one above it that is there.
pub(crate) fn add_places(path: &Path, places: &mut Places) {
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    let mut ahead: VecDeque<OsString> = names(&path).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let kind = fs::symlink_metadata(&next).map(|metadata| metadata.file_type());
        let is_link = kind.as_ref().is_ok_and(fs::FileType::is_symlink);
        if is_link || ahead.is_empty() || kind.is_err() {
            places.entry(here.clone()).or_default().insert(name);
        }
        if kind.is_err() {
            return;
        }
        if !is_link {
            here = next;
            continue;
        }
        links += 1;
        let Ok(target) = fs::read_link(&next) else {
            return;
        };
        if links > MAX_LINKS {
            return;
        }
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(name);
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
