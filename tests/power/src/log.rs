//! What the shim has recorded, as events.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// A call that changed something, or a mark of the workload. Paths are below the recorded directory;
/// `""` is the directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file or directory was opened.
    Open {
        /// As which descriptor.
        fd: i32,
        /// Which.
        path: String,
        /// It is made when it is not there.
        create: bool,
        /// What it holds is cut off.
        truncate: bool,
    },
    /// A descriptor was closed.
    Close {
        /// Which.
        fd: i32,
    },
    /// A descriptor was doubled.
    Duplicate {
        /// Which.
        fd: i32,
        /// As which.
        to: i32,
    },
    /// Bytes were written.
    Write {
        /// To what.
        fd: i32,
        /// Where they stand in the file.
        offset: u64,
        /// Which.
        data: Vec<u8>,
    },
    /// The length was set.
    Truncate {
        /// Of what.
        fd: i32,
        /// To what.
        length: u64,
    },
    /// Room was made; the file is at least so long now.
    Allocate {
        /// In what.
        fd: i32,
        /// The end of the room.
        end: u64,
    },
    /// A file or directory has another name.
    Rename {
        /// The old one.
        from: String,
        /// The new one; what had it has none now.
        to: String,
    },
    /// A file has one name more.
    Link {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// A name was removed.
    Unlink {
        /// Which.
        path: String,
    },
    /// A directory was made.
    MakeDirectory {
        /// Which.
        path: String,
    },
    /// A directory was removed.
    RemoveDirectory {
        /// Which.
        path: String,
    },
    /// A sync began. It covers what was before.
    SyncBegin {
        /// Of what.
        fd: i32,
        /// Which one.
        token: u64,
    },
    /// A sync has succeeded.
    SyncEnd {
        /// Which one.
        token: u64,
    },
    /// The workload says something.
    Mark {
        /// What, for [`crate::history`].
        text: Vec<u8>,
    },
    /// Another process goes on: all descriptors are closed.
    Boot,
}

const HEADER: usize = 32;
const O_CREAT: i64 = 0o100;
const O_TRUNC: i64 = 0o1000;

/// The events of one process.
///
/// # Errors
///
/// When the log is not what the shim writes.
pub fn parse(log: &[u8]) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut rest = log;
    while !rest.is_empty() {
        ensure!(rest.len() >= HEADER, "the log ends within a record");
        let number = |range: Range<usize>| -> Result<i64> {
            let bytes = &rest[range];
            Ok(match bytes.len() {
                4 => i32::from_le_bytes(bytes.try_into()?).into(),
                _ => i64::from_le_bytes(bytes.try_into()?),
            })
        };
        let kind = number(0..4)?;
        let fd = number(4..8)? as i32;
        let (a, b) = (number(8..16)?, number(16..24)?);
        let (first, second) = (number(24..28)? as usize, number(28..32)? as usize);
        let end = HEADER + first + second;
        ensure!(rest.len() >= end, "the log ends within a record");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).context("a path is no text");
        let path = text(&rest[HEADER..HEADER + first])?;
        let data = &rest[HEADER + first..end];
        events.push(match kind {
            1 => Event::Open {
                fd,
                path,
                create: a & O_CREAT != 0,
                truncate: a & O_TRUNC != 0,
            },
            2 => Event::Close { fd },
            3 => Event::Duplicate { fd, to: a as i32 },
            4 => Event::Write {
                fd,
                offset: u64::try_from(a)?,
                data: data.to_vec(),
            },
            5 => Event::Truncate {
                fd,
                length: u64::try_from(a)?,
            },
            6 => Event::Allocate {
                fd,
                end: u64::try_from(a + b)?,
            },
            7 => Event::Rename {
                from: path,
                to: text(data)?,
            },
            8 => Event::Unlink { path },
            9 => Event::MakeDirectory { path },
            10 => Event::RemoveDirectory { path },
            11 => Event::Link {
                from: path,
                to: text(data)?,
            },
            12 => Event::SyncBegin {
                fd,
                token: a as u64,
            },
            13 => Event::SyncEnd { token: a as u64 },
            14 => Event::Mark {
                text: data.to_vec(),
            },
            other => bail!("a record of kind {other}"),
        });
        rest = &rest[end..];
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, fd: i32, a: i64, first: &str, second: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(fd.to_le_bytes());
        bytes.extend(a.to_le_bytes());
        bytes.extend(0_i64.to_le_bytes());
        bytes.extend((first.len() as u32).to_le_bytes());
        bytes.extend((second.len() as u32).to_le_bytes());
        bytes.extend(first.bytes());
        bytes.extend(second.bytes());
        bytes
    }

    #[test]
    fn records_become_events() {
        let mut log = record(1, 5, O_CREAT, "a/b", "");
        log.extend(record(4, 5, 7, "", "xyz"));
        log.extend(record(7, -1, 0, "a/b", "a/c"));
        let open = Event::Open {
            fd: 5,
            path: "a/b".to_owned(),
            create: true,
            truncate: false,
        };
        let write = Event::Write {
            fd: 5,
            offset: 7,
            data: b"xyz".to_vec(),
        };
        let rename = Event::Rename {
            from: "a/b".to_owned(),
            to: "a/c".to_owned(),
        };
        assert_eq!(parse(&log).unwrap(), [open, write, rename]);
        assert!(parse(&log[..log.len() - 1]).is_err());
    }
}
