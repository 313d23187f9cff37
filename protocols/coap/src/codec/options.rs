//! The options of a message (RFC 7252 section 3.1).

use super::FormatError;

/// An option: its number and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt<'a> {
    /// See [`super::number`].
    pub number: u16,
    /// As it stands in the message.
    pub value: &'a [u8],
}

/// Options that have been read once and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// Parts what stands behind a token: options and payload.
    pub(super) fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FormatError> {
        let mut rest = bytes;
        let mut number = 0_u16;
        while let Some(&first) = rest.first() {
            if first == 0xFF {
                let payload = &rest[1..];
                if payload.is_empty() {
                    return Err(FormatError::Marker);
                }
                return Ok((Self(&bytes[..bytes.len() - rest.len()]), payload));
            }
            let (option, tail) = next(number, rest)?;
            (number, rest) = (option.number, tail);
        }
        Ok((Self(bytes), &[]))
    }

    /// The options in their order.
    pub fn iter(self) -> impl Iterator<Item = Opt<'a>> {
        let mut rest = self.0;
        let mut number = 0;
        std::iter::from_fn(move || {
            // They were read once: an end is the end.
            let (option, tail) = next(number, rest).ok()?;
            (number, rest) = (option.number, tail);
            Some(option)
        })
    }

    /// The first of this number.
    #[must_use]
    pub fn first(self, number: u16) -> Option<&'a [u8]> {
        self.all(number).next()
    }

    /// All of this number.
    pub fn all(self, number: u16) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .take_while(move |option| option.number <= number)
            .filter(move |option| option.number == number)
            .map(|option| option.value)
    }
}

/// Reads the option that `bytes` begin with, behind one of the number `before`.
fn next(before: u16, bytes: &[u8]) -> Result<(Opt<'_>, &[u8]), FormatError> {
    let (&first, mut rest) = bytes.split_first().ok_or(FormatError::Option)?;
    let delta = extended(first >> 4, &mut rest)?;
    let len = extended(first & 0x0F, &mut rest)?;
    let number = u32::from(before) + delta;
    let number = u16::try_from(number).map_err(|_| FormatError::OptionNumber)?;
    let (value, rest) = rest
        .split_at_checked(len as usize)
        .ok_or(FormatError::Option)?;
    Ok((Opt { number, value }, rest))
}

/// A delta or length of four bits, with what follows when they do not suffice.
fn extended(nibble: u8, rest: &mut &[u8]) -> Result<u32, FormatError> {
    match nibble {
        13 => {
            let (&byte, tail) = rest.split_first().ok_or(FormatError::Option)?;
            *rest = tail;
            Ok(u32::from(byte) + 13)
        }
        14 => {
            let (&bytes, tail) = rest.split_first_chunk::<2>().ok_or(FormatError::Option)?;
            *rest = tail;
            Ok(u32::from(u16::from_be_bytes(bytes)) + 269)
        }
        15 => Err(FormatError::Option),
        small => Ok(small.into()),
    }
}

/// A number in as few bytes as it needs, or more (RFC 7252 section 3.2). `None` when it has more than `most` bytes.
#[must_use]
pub fn uint(value: &[u8], most: usize) -> Option<u32> {
    if value.len() > most.min(4) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)),
    )
}
