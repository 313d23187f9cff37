//! The topic filters of SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 sections 3.8.3 and 3.10.3).

use tidegate_bus::{TopicFilter, TopicFilterError};

use super::DecodeError;
use super::reader::Reader;

/// Checks that `text` is a topic filter, shared or not, and keeps nothing of it.
///
/// It makes a [`TopicFilter`] and drops it, so that there is one rule in the gateway. SUBSCRIBE can
/// afford the allocation.
pub fn validate_filter(text: &str) -> Result<(), TopicFilterError> {
    TopicFilter::new(text).map(drop)
}

/// Reads a filter.
pub(super) fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = reader.string()?;
    validate_filter(filter).map_err(DecodeError::TopicFilter)?;
    Ok(filter)
}

/// Whether `filter`, which is valid, asks for a shared subscription (section 4.8.2).
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}
