//! Names that no other test uses, so that tests may share one broker.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A client id or a first topic level that begins with `stem` and is used nowhere else.
#[must_use]
pub fn unique(stem: &str) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{:x}-{number:x}", process::id())
}
