//! The name of a client, which is the name of its session.

use std::fmt;
use std::sync::Arc;

use crate::topic::MAX_STRING_BYTES;

/// Why a string is not a client identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientIdError {
    /// At least one byte is needed; a client that sends none is given one by its adapter.
    #[error("a client identifier has at least one byte")]
    Empty,
    /// More than [`MAX_STRING_BYTES`].
    #[error("a client identifier has at most 65,535 bytes (MQTT 5.0 section 1.5.4)")]
    TooLong,
    /// U+0000 occurs.
    #[error("a client identifier holds no U+0000 (MQTT-1.5.4-2)")]
    Nul,
}

/// A client identifier (MQTT 5.0 section 3.1.3.1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Checks that `text` can name a client.
    pub fn new(text: &str) -> Result<Self, ClientIdError> {
        if text.is_empty() {
            return Err(ClientIdError::Empty);
        }
        if text.len() > MAX_STRING_BYTES {
            return Err(ClientIdError::TooLong);
        }
        if text.as_bytes().contains(&0) {
            return Err(ClientIdError::Nul);
        }
        Ok(Self(text.into()))
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
