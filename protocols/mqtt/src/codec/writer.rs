//! Writing the data types of MQTT 5.0 section 1.5, and packets whose length is known only at their
//! end. PUBLISH does not pass through here: see `publish_header`.

use super::varint;

/// Longest value of a two-byte length field.
const MAX_FIELD: usize = u16::MAX as usize;

pub(super) fn put_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Binary Data; what does not fit its length field is cut off.
pub(super) fn put_binary(value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(MAX_FIELD)];
    put_u16(value.len() as u16, out);
    out.extend_from_slice(value);
}

/// UTF-8 Encoded String; what does not fit its length field is cut off between characters.
pub(super) fn put_string(value: &str, out: &mut Vec<u8>) {
    let end = value.floor_char_boundary(MAX_FIELD);
    put_binary(&value.as_bytes()[..end], out);
}

/// Property Length and properties.
pub(super) fn put_property_block(raw: &[u8], out: &mut Vec<u8>) {
    varint::put(raw.len() as u32, out);
    out.extend_from_slice(raw);
}

/// Appends a packet whose body `body` appends.
pub(super) fn put_packet(first: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // Nearly every body is shorter than 128 bytes: one byte is kept for its length, and a longer
    // body moves.
    out.extend_from_slice(&[first, 0]);
    let start = out.len();
    body(out);
    let (length, width) = varint::encode((out.len() - start) as u32);
    out.splice(start - 1..start, length[..width].iter().copied());
}
