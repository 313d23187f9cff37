//! What is encoded for a connection and not yet taken by it.
//!
//! Packets are appended to one buffer. Beyond [`CHUNK`] bytes another is begun, so that a long outbox is
//! not copied as it grows. The first is made with at most [`MOST_HINTED`] bytes more than its packet needs, so
//! that many clients that do not read cannot hold much beyond what is charged for them.

use std::collections::VecDeque;

/// Bytes of a buffer, unless a single packet is longer: what a socket takes at once, and four messages
/// of 16 KiB.
const CHUNK: usize = 72 << 10;

/// Most bytes that a buffer is made with before there is need of them: what a client that does not read
/// may hold without a charge on the memory budget.
const MOST_HINTED: usize = 16 << 10;

/// What a packet may have beside topic, properties and payload, about.
const AROUND: usize = 64;

#[derive(Default)]
pub(super) struct Outbox {
    /// The last buffer, to which packets are appended.
    open: Vec<u8>,
    /// Those before it, in order.
    #[expect(clippy::box_collection, reason = "most connections never have any")]
    full: Option<Box<VecDeque<Vec<u8>>>>,
    full_bytes: usize,
    /// How large the last buffer was, so that the next is made in one piece.
    hint: u32,
}

impl Outbox {
    /// Bytes that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.full_bytes + self.open.len()
    }

    /// The buffer to append a packet to whose topic, properties and payload have `size` bytes.
    #[inline]
    pub(super) fn buffer(&mut self, size: usize) -> &mut Vec<u8> {
        let size = size + AROUND;
        if self.open.len() + size > self.open.capacity() {
            self.grow(size);
        }
        &mut self.open
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        if self.open.is_empty() {
            self.open.reserve(size.max(self.hint as usize));
        } else if self.open.len() + size > CHUNK {
            self.full_bytes += self.open.len();
            let buffer = std::mem::take(&mut self.open);
            self.full.get_or_insert_default().push_back(buffer);
            self.open.reserve(size.max(CHUNK));
        } else {
            let doubled = (2 * self.open.capacity()).min(CHUNK);
            self.open
                .reserve(size.max(doubled.saturating_sub(self.open.len())));
        }
    }

    /// Appends the first buffer to `out`. `true`: there are more.
    pub(super) fn take(&mut self, out: &mut Vec<u8>) -> bool {
        let first = self.full.as_mut().and_then(|full| full.pop_front());
        let mut buffer = match first {
            Some(buffer) => {
                self.full_bytes -= buffer.len();
                buffer
            }
            None => {
                self.full = None;
                let buffer = std::mem::take(&mut self.open);
                // A connection asks until nothing is left: that says nothing of the next batch.
                if !buffer.is_empty() {
                    self.hint = (buffer.len() + AROUND).min(MOST_HINTED) as u32;
                }
                buffer
            }
        };
        if out.is_empty() {
            std::mem::swap(out, &mut buffer);
        } else {
            out.append(&mut buffer);
        }
        self.len() > 0
    }

    /// The buffers, in order. Each begins with a packet.
    pub(super) fn buffers(&self) -> impl Iterator<Item = &[u8]> {
        let full = self.full.iter().flat_map(|full| full.iter());
        full.chain([&self.open]).map(Vec::as_slice)
    }
}
