//! `commit.mark`: the number of the last batch that was forced to the disk, beside the database.
//!
//! fjall stops without a word at a record in the middle of its journal that it cannot decode. The mark
//! is how the loss is noticed. It is not synced: it may be older than the truth after a power failure,
//! never newer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

const NAME: &str = "commit.mark";

/// The open file.
#[derive(Debug)]
pub(crate) struct CommitMark(File);

impl CommitMark {
    /// Opens the mark of the directory and makes it when there is none.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(NAME))
            .map(Self)
    }

    /// The number in the mark of the directory. `Ok(None)`: there is none, or it was torn.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<u64>> {
        let mut bytes = Vec::with_capacity(16);
        match File::open(directory.join(NAME)) {
            Ok(file) => file.take(16).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = bytes.first_chunk::<8>().copied();
        let sum = bytes.last_chunk::<8>().copied();
        Ok(match (number, sum) {
            (Some(number), Some(sum)) if bytes.len() == 16 => {
                (xxh3_64(&number) == u64::from_be_bytes(sum)).then_some(u64::from_be_bytes(number))
            }
            _ => None,
        })
    }

    /// Writes the number, without a sync.
    pub(crate) fn write(&mut self, number: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        let number = number.to_be_bytes();
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_mark_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(CommitMark::read(directory.path()).unwrap(), None);
        let mut mark = CommitMark::open(directory.path()).unwrap();
        mark.write(7).unwrap();
        assert_eq!(CommitMark::read(directory.path()).unwrap(), Some(7));
        let mut bytes = std::fs::read(directory.path().join(NAME)).unwrap();
        bytes[3] ^= 1;
        std::fs::write(directory.path().join(NAME), bytes).unwrap();
        assert_eq!(CommitMark::read(directory.path()).unwrap(), None);
    }
}
