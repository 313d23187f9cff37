//! The file that tells whoever started the gateway where it can be reached.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io, process};

use serde::Serialize;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ready {
    pid: u32,
    version: &'static str,
    listeners: BTreeMap<String, Address>,
}

/// Where one listener is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Address {
    /// The listener's kind.
    pub(crate) kind: &'static str,
    /// IP address and port.
    pub(crate) address: SocketAddr,
}

impl Ready {
    pub(crate) fn new(listeners: BTreeMap<String, Address>) -> Self {
        Self {
            pid: process::id(),
            version: env!("CARGO_PKG_VERSION"),
            listeners,
        }
    }

    /// Writes the file in one step: whoever sees it sees all of it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let temporary = temporary_name(path);
        fs::write(&temporary, text)?;
        fs::rename(&temporary, path).inspect_err(|_| {
            // The reason to report is why the file could not get its name.
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Removes what an earlier process wrote, so that nobody takes its addresses for this one's.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A name beside `path`, because a file can be renamed only within its file system.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        fs::write(&path, "an earlier run").unwrap();
        remove_stale(&path).unwrap();
        remove_stale(&path).unwrap();
        let address = Address {
            kind: "mqtt",
            address: "127.0.0.1:40123".parse().unwrap(),
        };
        let ready = Ready::new(BTreeMap::from([("mqtt".to_owned(), address)]));
        ready.write(&path).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "pid": process::id(),
                "version": env!("CARGO_PKG_VERSION"),
                "listeners": {"mqtt": {"kind": "mqtt", "address": "127.0.0.1:40123"}},
            })
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
