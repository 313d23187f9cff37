//! What a file holds: pages, of which those that were never written read as zeros.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes of a page.
pub const PAGE: u64 = 4_096;
/// Bytes that a disk writes whole or not at all.
pub const SECTOR: u64 = 512;

type Page = Arc<[u8; PAGE as usize]>;

/// What a file holds. A copy shares its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pages: BTreeMap<u64, Page>,
    length: u64,
}

impl Content {
    /// Bytes of the file.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file is empty.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes bytes, and makes the file longer where they stand behind its end.
    pub fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset;
        self.extend(offset + data.len() as u64);
        while !data.is_empty() {
            let within = (at % PAGE) as usize;
            let n = data.len().min(PAGE as usize - within);
            let page = self.pages.entry(at / PAGE);
            let page = page.or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..within + n].copy_from_slice(&data[..n]);
            data = &data[n..];
            at += n as u64;
        }
    }

    /// Makes the file at least so long.
    pub const fn extend(&mut self, length: u64) {
        if length > self.length {
            self.length = length;
        }
    }

    /// Makes the file exactly so long.
    pub fn set_len(&mut self, length: u64) {
        if length < self.length {
            self.pages.split_off(&length.div_ceil(PAGE));
            if let Some(page) = self.pages.get_mut(&(length / PAGE)) {
                Arc::make_mut(page)[(length % PAGE) as usize..].fill(0);
            }
        }
        self.length = length;
    }

    /// The stretches of written pages, each with its offset.
    pub fn stretches(&self) -> Vec<(u64, Vec<u8>)> {
        let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
        for (&number, page) in &self.pages {
            let offset = number * PAGE;
            let n = (self.length - offset).min(PAGE) as usize;
            match out.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == offset => {
                    bytes.extend_from_slice(&page[..n]);
                }
                _ => out.push((offset, page[..n].to_vec())),
            }
        }
        out
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        for (offset, stretch) in self.stretches() {
            let offset = offset as usize;
            bytes[offset..offset + stretch.len()].copy_from_slice(&stretch);
        }
        bytes
    }

    /// Reads a file. Pages of zeros are holes.
    ///
    /// # Errors
    ///
    /// When reading fails.
    pub fn read(mut from: impl io::Read) -> io::Result<Self> {
        let mut content = Self::default();
        let mut buffer = vec![0; 256 * PAGE as usize];
        loop {
            let mut n = 0;
            while n < buffer.len() {
                match from.read(&mut buffer[n..])? {
                    0 => break,
                    more => n += more,
                }
            }
            if n == 0 {
                return Ok(content);
            }
            for chunk in buffer[..n].chunks(PAGE as usize) {
                let at = content.length;
                if chunk.iter().any(|&b| b != 0) {
                    content.write(at, chunk);
                }
                content.extend(at + chunk.len() as u64);
            }
        }
    }

    /// Whether both read the same.
    pub fn reads_as(&self, other: &Self) -> bool {
        let blank: Page = Arc::new([0; PAGE as usize]);
        self.length == other.length
            && self.pages.keys().chain(other.pages.keys()).all(|number| {
                let page = |content: &Self| content.pages.get(number).unwrap_or(&blank).clone();
                page(self) == page(other)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(4_090, b"0123456789abcdef");
        assert_eq!(content.len(), 4_106);
        content.set_len(4_092);
        content.set_len(8_000);
        let bytes = content.bytes();
        assert_eq!(&bytes[4_088..4_096], b"\0\x0001\0\0\0\0");
        assert!(bytes[4_096..].iter().all(|&b| b == 0));
        assert!(Content::read(&bytes[..]).unwrap().reads_as(&content));
    }
}
