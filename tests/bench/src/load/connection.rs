//! A connection of the event loop: what is cut of a packet, and what the socket did not take.

use std::io::{ErrorKind, IoSlice};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mio::{Registry, Token};

use super::link::Link;

/// Bytes that may wait for a socket before something is wrong.
const MOST_WAITING: usize = 64 << 20;

pub(super) struct Connection {
    link: Link,
    /// The beginning of a packet whose end has not come.
    cut: Vec<u8>,
    /// What the socket did not take, from `written` on.
    waiting: Vec<u8>,
    written: usize,
}

/// What a read has brought.
pub(super) struct Filled {
    /// Bytes in the buffer.
    pub(super) length: usize,
    /// Whether there may be more.
    pub(super) more: bool,
}

impl Connection {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            cut: Vec::new(),
            waiting: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> Result<()> {
        Ok(self.link.register(registry, token)?)
    }

    /// Reads behind what was cut last time; `None` if nothing is there.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<Option<Filled>> {
        let start = self.cut.len();
        if start >= buffer.len() {
            bail!("the broker sent a packet larger than any that was sent to it");
        }
        loop {
            match self.link.read(&mut buffer[start..]) {
                Ok(0) => bail!("closed by the broker"),
                Ok(length) => {
                    buffer[..start].copy_from_slice(&self.cut);
                    self.cut.clear();
                    return Ok(Some(Filled {
                        length: start + length,
                        more: start + length == buffer.len(),
                    }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("closed by the broker"),
            }
        }
    }

    /// Keeps the beginning of a packet for the next read.
    pub(super) fn keep(&mut self, cut: &[u8]) {
        self.cut.extend_from_slice(cut);
    }

    /// Whether the socket takes nothing now.
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes, and keeps what the socket does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.send_all(&[IoSlice::new(bytes)])
    }

    /// The same for bytes in several places.
    pub(super) fn send_all(&mut self, slices: &[IoSlice<'_>]) -> Result<()> {
        let mut taken = 0;
        if self.waiting.is_empty() {
            taken = self.write(slices)?;
        }
        for slice in slices {
            let skipped = taken.min(slice.len());
            taken -= skipped;
            self.waiting.extend_from_slice(&slice[skipped..]);
        }
        if self.waiting.len() > MOST_WAITING {
            bail!("the broker does not read");
        }
        Ok(())
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
        loop {
            match self.link.write(slices) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("closed by the broker"),
            }
        }
    }

    /// Writes what waits; whether something has waited and does so no more.
    pub(super) fn flush(&mut self) -> Result<bool> {
        if self.waiting.is_empty() {
            return Ok(false);
        }
        while self.written < self.waiting.len() {
            let rest = IoSlice::new(&self.waiting[self.written..]);
            match self.link.write(&[rest]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("closed by the broker"),
            }
        }
        self.waiting.clear();
        self.written = 0;
        Ok(true)
    }

    /// Sends what was written and what else there is to say, where a write alone does not.
    pub(super) fn push(&mut self) -> Result<()> {
        self.link.push().context("closed by the broker")
    }

    /// Whether it is over QUIC: whatever comes may make room for what waits, and be answered.
    pub(super) fn is_quic(&self) -> bool {
        self.link.is_quic()
    }

    /// When something is to be done even if nothing comes.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.link.deadline()
    }

    /// Does what is due by now; whether anything was.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<bool> {
        self.link.on_time(now).context("closed by the broker")
    }
}
