//! Variable byte integers: seven bits a byte, least significant first, one to four bytes (MQTT 5.0
//! section 1.5.5; the Remaining Length of 3.1 and 3.1.1 is the same thing).

use super::DecodeError;

/// The largest value: 28 bits.
pub const MAX: u32 = 268_435_455;

/// How many bytes the shortest form of `value` takes. Values above [`MAX`] have none and count as 4.
#[inline]
pub const fn len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Reads the integer that `bytes` begin with: its value and how many bytes it takes, or `None` while
/// its last byte is missing. Only the shortest form is taken (MQTT-1.5.5-1).
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    match bytes.first() {
        Some(&byte) if byte < 0x80 => Ok(Some((u32::from(byte), 1))),
        Some(_) => decode_long(bytes),
        None => Ok(None),
    }
}

fn decode_long(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            // A last byte of zero adds nothing: a shorter form exists.
            return if byte == 0 {
                Err(DecodeError::VarintNotMinimal)
            } else {
                Ok(Some((value, index + 1)))
            };
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::VarintTooLong);
    }
    Ok(None)
}

/// The shortest form of `value`, in the first bytes of the array, and how many they are.
///
/// `value` is at most [`MAX`]; the bits above are lost.
#[inline]
pub const fn encode(value: u32) -> ([u8; 4], usize) {
    debug_assert!(value <= MAX, "a variable byte integer has 28 bits");
    let low = (value & 0x7f) as u8;
    let second = (value >> 7 & 0x7f) as u8;
    let third = (value >> 14 & 0x7f) as u8;
    let fourth = (value >> 21 & 0x7f) as u8;
    match len(value) {
        1 => ([low, 0, 0, 0], 1),
        2 => ([low | 0x80, second, 0, 0], 2),
        3 => ([low | 0x80, second | 0x80, third, 0], 3),
        _ => ([low | 0x80, second | 0x80, third | 0x80, fourth], 4),
    }
}

/// Appends the shortest form of `value`.
#[inline]
pub fn put(value: u32, out: &mut Vec<u8>) {
    let (bytes, len) = encode(value);
    out.extend_from_slice(&bytes[..len]);
}
