//! Numbers of options, from the registry "CoAP Option Numbers".

/// RFC 7252
pub const IF_MATCH: u16 = 1;
/// RFC 7252
pub const URI_HOST: u16 = 3;
/// RFC 7252
pub const ETAG: u16 = 4;
/// RFC 7252
pub const IF_NONE_MATCH: u16 = 5;
/// RFC 7641
pub const OBSERVE: u16 = 6;
/// RFC 7252
pub const URI_PORT: u16 = 7;
/// RFC 7252
pub const LOCATION_PATH: u16 = 8;
/// RFC 7252
pub const URI_PATH: u16 = 11;
/// RFC 7252
pub const CONTENT_FORMAT: u16 = 12;
/// RFC 7252
pub const MAX_AGE: u16 = 14;
/// RFC 7252
pub const URI_QUERY: u16 = 15;
/// RFC 8768
pub const HOP_LIMIT: u16 = 16;
/// RFC 7252
pub const ACCEPT: u16 = 17;
/// RFC 7959
pub const BLOCK2: u16 = 23;
/// RFC 7959
pub const BLOCK1: u16 = 27;
/// RFC 7959
pub const SIZE2: u16 = 28;
/// RFC 7252
pub const PROXY_URI: u16 = 35;
/// RFC 7252
pub const PROXY_SCHEME: u16 = 39;
/// RFC 7252
pub const SIZE1: u16 = 60;
/// RFC 9175
pub const ECHO: u16 = 252;
/// RFC 7967
pub const NO_RESPONSE: u16 = 258;
/// RFC 9175
pub const REQUEST_TAG: u16 = 292;

/// The topic of a message that came through a filter with wildcards: an option of our own, in the range for
/// experiments. Its number makes it elective and part of the cache key (RFC 7252 section 5.4.6).
pub const TOPIC: u16 = 65_000;

/// Whether a message that has it must be refused by who does not know it (RFC 7252 section 5.4.1).
#[must_use]
pub const fn is_critical(number: u16) -> bool {
    number & 1 == 1
}
