//! Memory that a connection needs while it is served, and that belongs to the thread: an idle one holds none.

use std::cell::Cell;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// What a round of a connection works with.
pub(super) struct Scratch {
    pub(super) read: Box<[u8]>,
    pub(super) work: Work,
}

/// What a request and its answer need for a moment.
#[derive(Default)]
pub(super) struct Work {
    /// The topic of the request.
    pub(super) topic: String,
    /// A body that is not there as bytes.
    pub(super) body: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| {
        Box::new(Scratch {
            read: vec![0; READ_BYTES].into_boxed_slice(),
            work: Work::default(),
        })
    });
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
