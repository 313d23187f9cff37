//! Several streams under one connection.

use std::num::NonZeroU32;

/// One of several streams of a connection, beside the one it has begun on: what is delivered through a
/// subscription that was made on it goes out on it, and packet identifiers of publishers are its own.
///
/// MQTT over QUIC has them (multi-stream mode). A channel is known to the session of its connection from
/// [`crate::Attachment::open_channel`] to [`crate::Attachment::close_channel`], and no other has its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(NonZeroU32);

/// The lowest number. Subscription Identifiers are lower (MQTT 5.0 section 3.8.2.1.2), so that both can stand in
/// one list.
const LOWEST: u32 = 1 << 28;

impl Channel {
    /// The channel of this number; `None` for what can only be a Subscription Identifier.
    #[must_use]
    pub const fn from_u32(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) if number.get() >= LOWEST => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, at least 2^28.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The channel that comes `count` after the first; after the last comes the first again.
    pub(crate) const fn nth(count: u32) -> Self {
        let number = LOWEST + count % (u32::MAX - LOWEST);
        match NonZeroU32::new(number) {
            Some(number) => Self(number),
            // `LOWEST` is not 0.
            None => Self(NonZeroU32::MAX),
        }
    }
}

/// Whether there is a channel in a list, where they stand first.
#[inline]
pub(crate) fn has_channel(list: &[u32]) -> bool {
    list.first().is_some_and(|number| *number >= LOWEST)
}

/// Parts a list into the channels, which stand first, and the Subscription Identifiers.
pub(crate) fn part(list: &[u32]) -> (&[u32], &[u32]) {
    let channels = list.iter().take_while(|number| **number >= LOWEST).count();
    list.split_at(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_channels_are_above_every_subscription_identifier() {
        assert_eq!(Channel::from_u32(268_435_455), None);
        assert_eq!(Channel::from_u32(268_435_456), Some(Channel::nth(0)));
        let last = u32::MAX - LOWEST - 1;
        assert!(Channel::nth(last) > Channel::nth(0));
        assert_eq!(Channel::nth(last + 1), Channel::nth(0));
        let (first, second) = (Channel::nth(0).get(), Channel::nth(1).get());
        assert_eq!(part(&[]), (&[][..], &[][..]));
        assert_eq!(part(&[7, 9]), (&[][..], &[7, 9][..]));
        assert_eq!(part(&[second, first, 7]), (&[second, first][..], &[7][..]));
    }
}
