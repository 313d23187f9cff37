//! fjall's journal files, as far as the engine looks at them itself.
//!
//! fjall stops at the first record it cannot decode and cuts the rest off, whether it was the torn
//! end of a crash or a damaged byte in front of a million acknowledged batches; a batch whose checksum
//! is wrong it refuses, also when it is the torn last one. So the files are read once before fjall gets
//! them: [`inspect`] tells one from the other while the bytes are still there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::tables::META_COMMIT;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Behind the tag of an item: type, compression, keyspace, length of the key, lengths of the value as it
/// is and as it is stored.
const ITEM_HEADER: usize = 1 + 1 + 8 + 2 + 4 + 4;

/// The journals of a database, the oldest first; the last one is written to.
pub(crate) fn files(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes the last journal over itself, as it reads now.
///
/// After a sync that failed the kernel takes the pages for clean: they read as if they were on the disk, and
/// no later sync writes them. What would be a hole after a power failure is closed before the
/// journal grows behind it. It takes no room, which may be what is missing.
pub(crate) fn renew(database: &Path) -> io::Result<()> {
    let Some((_, path)) = files(database)?.pop() else {
        return Ok(());
    };
    let end = used_behind(&path, 0)?;
    let mut file = File::options().read(true).write(true).open(&path)?;
    let mut buffer = vec![0; 1 << 18];
    let mut at = 0;
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&buffer[..n])?;
        at += n as u64;
    }
    file.sync_all()
}

/// Where a journal stops making sense before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    pub(crate) path: PathBuf,
    /// The end of the last whole batch.
    pub(crate) at: u64,
    /// Bytes behind it, up to the last that is not zero.
    pub(crate) bytes: u64,
    /// The number of the batch in front of it, and of the one that is broken, as far as known.
    pub(crate) before: Option<u64>,
    pub(crate) broken: Option<u64>,
}

/// What the journals of a database hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inspection {
    /// The number of the last whole batch.
    pub(crate) last: Option<u64>,
    /// Batches that are missing between two that are there.
    pub(crate) gaps: u64,
    pub(crate) breaks: Vec<Break>,
    /// Bytes of whole batches.
    pub(crate) bytes: u64,
}

impl Inspection {
    /// How many batches up to the one that was acknowledged last are not in the journals and should
    /// be.
    pub(crate) fn missing(&self, acknowledged: u64) -> u64 {
        // A journal that breaks off and is followed by others is counted as a gap.
        let behind = self.breaks.last().map_or(0, |last| {
            let whole = last.before.max(self.last);
            let whole = whole.or(last.broken.map(|number| number.saturating_sub(1)));
            whole.map_or(0, |whole| acknowledged.saturating_sub(whole))
        });
        self.gaps + behind
    }
}

/// Reads all journals of a database and changes nothing.
pub(crate) fn inspect(database: &Path) -> io::Result<Inspection> {
    let mut inspection = Inspection::default();
    let mut sequence = None;
    let mut previous = None;
    for (file, path) in files(database)? {
        // A journal between them was removed, and one before it has come back with a power failure.
        if previous.is_some_and(|previous| file > previous + 1) {
            inspection.last = None;
        }
        previous = Some(file);
        let mut source = Source::open(&path, sequence)?;
        loop {
            let at = source.position;
            match source.batch() {
                Ok(number) => {
                    if let (Some(number), Some(last)) = (number, inspection.last) {
                        inspection.gaps += number.saturating_sub(last + 1);
                    }
                    inspection.last = number.or(inspection.last);
                    inspection.bytes += source.position - at;
                }
                Err(Stop::Io(error)) => return Err(error),
                Err(Stop::Broken(broken)) => {
                    let bytes = used_behind(&path, at)?;
                    if bytes > 0 {
                        inspection.breaks.push(Break {
                            path,
                            at,
                            bytes,
                            before: inspection.last,
                            broken,
                        });
                    }
                    break;
                }
            }
        }
        sequence = source.sequence;
    }
    Ok(inspection)
}

/// Cuts off what is broken.
pub(crate) fn cut(broken: &Break) -> io::Result<()> {
    let file = File::options().write(true).open(&broken.path)?;
    file.set_len(broken.at)?;
    file.sync_all()
}

/// Bytes behind a position up to the last that is not zero: a journal is made with room for what comes.
fn used_behind(path: &Path, at: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut buffer = vec![0; 1 << 16];
    let (mut read, mut used) = (0, 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(used);
        }
        if let Some(last) = buffer[..n].iter().rposition(|&b| b != 0) {
            used = read + last as u64 + 1;
        }
        read += n as u64;
    }
}

enum Stop {
    Io(io::Error),
    /// With the number of the batch, when it could be read.
    Broken(Option<u64>),
}

struct Source {
    file: BufReader<File>,
    position: u64,
    sum: Xxh3,
    /// Of the last batch. It says which of two values is the newer one, and no checksum holds it.
    sequence: Option<u64>,
}

impl Source {
    fn open(path: &Path, sequence: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::with_capacity(1 << 18, File::open(path)?),
            position: 0,
            sum: Xxh3::new(),
            sequence,
        })
    }

    /// Passes over a whole batch. Its number, when it has one.
    fn batch(&mut self) -> Result<Option<u64>, Stop> {
        let mut number = None;
        let whole = self.try_batch(&mut number);
        match whole {
            Ok(true) => Ok(number),
            Ok(false) => Err(Stop::Broken(number)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Stop::Broken(number)),
            Err(error) => Err(Stop::Io(error)),
        }
    }

    fn try_batch(&mut self, number: &mut Option<u64>) -> io::Result<bool> {
        if self.read::<1>()? != [START] {
            return Ok(false);
        }
        let items = u32::from_le_bytes(self.read()?);
        let sequence = Some(u64::from_le_bytes(self.read()?));
        if sequence <= self.sequence {
            return Ok(false);
        }
        self.sum.reset();
        for item in 0..items {
            let tag: [u8; 1] = self.read()?;
            if tag != [ITEM] {
                return Ok(false);
            }
            self.sum.update(&tag);
            let header: [u8; ITEM_HEADER] = self.read()?;
            self.sum.update(&header);
            let key = u16::from_le_bytes([header[10], header[11]]);
            let stored = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
            if item == 0 && usize::from(key) == META_COMMIT.len() && stored == 8 {
                let name: [u8; META_COMMIT.len()] = self.read()?;
                let value: [u8; 8] = self.read()?;
                self.sum.update(&name);
                self.sum.update(&value);
                if name == META_COMMIT.as_bytes() {
                    *number = Some(u64::from_be_bytes(value));
                }
            } else {
                self.pass(u64::from(key) + u64::from(stored))?;
            }
        }
        if self.read::<1>()? != [END] {
            return Ok(false);
        }
        let sum = u64::from_le_bytes(self.read()?);
        let whole = self.read()? == TRAILER && sum == self.sum.digest();
        if whole {
            self.sequence = sequence;
        }
        Ok(whole)
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// Passes over bytes that count for the checksum. Their number may be damaged.
    fn pass(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let n = buffer
                .len()
                .min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.sum.update(&buffer[..n]);
            self.file.consume(n);
            self.position += n as u64;
            bytes -= n as u64;
        }
        Ok(())
    }
}
