//! Keys. Integers are big-endian, so that the order of bytes is the order of numbers.

use std::num::NonZeroU16;

use tidegate_bus::TopicFilter;
use xxhash_rust::xxh3::xxh3_128;

/// Kind of a `state` record: a subscription; the filter follows.
pub(crate) const SUBSCRIPTION: u8 = b's';
/// Kind of a `state` record: a subscription whose filter is too long for a key; its hash follows, and the
/// filter stands in the value.
pub(crate) const LONG_SUBSCRIPTION: u8 = b'l';
/// Kind of a `state` record: a QoS 2 message received and not released; its packet identifier follows.
pub(crate) const RECEIVED: u8 = b'r';

/// A key of fjall has at most 65,535 bytes, as a filter has, and the session stands before it.
const LONGEST_FILTER: usize = 65_000;

/// The key of an entry in `queue`.
pub(crate) fn queue(session: u64, place: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.to_be_bytes());
    key[8..].copy_from_slice(&place.to_be_bytes());
    key
}

/// Session and place of a key of `queue`.
pub(crate) fn parse_queue(key: &[u8]) -> Option<(u64, u64)> {
    let (session, place) = key.split_first_chunk::<8>()?;
    let place = place.try_into().ok()?;
    Some((u64::from_be_bytes(*session), u64::from_be_bytes(place)))
}

/// The key of a body.
pub(crate) const fn body(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The key of a packet identifier that was received and not released.
pub(crate) fn received(session: u64, packet_id: NonZeroU16) -> [u8; 11] {
    let mut key = [0; 11];
    key[..8].copy_from_slice(&session.to_be_bytes());
    key[8] = RECEIVED;
    key[9..].copy_from_slice(&packet_id.get().to_be_bytes());
    key
}

/// Makes `out` the key of a subscription.
pub(crate) fn subscription(session: u64, filter: &TopicFilter, out: &mut Vec<u8>) {
    out.clear();
    out.extend(session.to_be_bytes());
    if is_long(filter) {
        out.push(LONG_SUBSCRIPTION);
        out.extend(xxh3_128(filter.as_str().as_bytes()).to_be_bytes());
    } else {
        out.push(SUBSCRIPTION);
        out.extend(filter.as_str().as_bytes());
    }
}

/// Whether the filter stands in the value.
pub(crate) fn is_long(filter: &TopicFilter) -> bool {
    filter.as_str().len() > LONGEST_FILTER
}

/// Session, kind and the rest of a key of `state`.
pub(crate) fn parse_state(key: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (session, rest) = key.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first()?;
    Some((u64::from_be_bytes(*session), *kind, rest))
}
