//! Buffers of the thread. A connection borrows them for as long as one read or write takes and never
//! across a wait, so that only what is incomplete costs a connection memory of its own.

use std::cell::Cell;

/// Bytes of ciphertext read at once, those of an incomplete record or message before them included.
pub(crate) const READ_BYTES: usize = 64 << 10;

pub(crate) struct Scratch {
    /// Ciphertext, decrypted where it stands.
    pub(crate) incoming: Box<[u8]>,
    /// Ciphertext on its way out. Grows to what one write makes at most and stays.
    pub(crate) outgoing: Vec<u8>,
    /// Plaintext that was offered in several pieces.
    pub(crate) gathered: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| {
        Box::new(Scratch {
            incoming: vec![0; READ_BYTES].into_boxed_slice(),
            outgoing: Vec::new(),
            gathered: Vec::new(),
        })
    });
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
