//! Bytes that could not go where they belong yet.

/// Bytes in order. Takes memory only while it holds any.
#[derive(Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    /// How many of `bytes` are gone. Less than all of them, or both are zero.
    start: usize,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds `length` zeros and gives them to be filled in.
    pub(crate) fn extend(&mut self, length: usize) -> &mut [u8] {
        let end = self.bytes.len();
        self.bytes.resize(end + length, 0);
        &mut self.bytes[end..]
    }

    /// The first `count` bytes are gone.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    /// Gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
