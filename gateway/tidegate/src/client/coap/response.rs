//! What came back: the options of a response that a client of topics looks at.

use tidegate_coap::codec::{Code, Options, Token, number, uint};

use super::block::Part;

/// A response, or a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) code: Code,
    pub(super) token: Token,
    /// It came in a message that wanted to be acknowledged.
    pub(super) confirmable: bool,
    /// The number of a notification (RFC 7641 section 3.4).
    pub(super) observe: Option<u32>,
    pub(super) content_format: Option<u16>,
    pub(super) max_age: Option<u32>,
    pub(super) etag: Option<Vec<u8>>,
    pub(super) block1: Option<Part>,
    pub(super) block2: Option<Part>,
    pub(super) echo: Option<Vec<u8>>,
    /// The topic, where the request does not say it.
    pub(super) topic: Option<String>,
    pub(super) payload: Vec<u8>,
}

impl Response {
    /// Reads options and payload. `None`: it has an option that must be known and is not, or is not well formed, and
    /// so it is no answer (RFC 7252 section 5.4.1).
    pub(super) fn read(
        code: Code,
        token: Token,
        confirmable: bool,
        options: Options<'_>,
        payload: &[u8],
    ) -> Option<Self> {
        let mut response = Self {
            code,
            token,
            confirmable,
            observe: None,
            content_format: None,
            max_age: None,
            etag: None,
            block1: None,
            block2: None,
            echo: None,
            topic: None,
            payload: payload.to_vec(),
        };
        for option in options.iter() {
            let value = option.value;
            match option.number {
                number::OBSERVE => response.observe = uint(value, 3),
                number::CONTENT_FORMAT => {
                    response.content_format = uint(value, 2).map(|format| format as u16);
                }
                number::MAX_AGE => response.max_age = uint(value, 4),
                number::ETAG => response.etag = Some(value.to_vec()),
                number::BLOCK1 => response.block1 = Some(Part::read(value)?),
                number::BLOCK2 => response.block2 = Some(Part::read(value)?),
                number::ECHO => response.echo = Some(value.to_vec()),
                number::TOPIC => response.topic = String::from_utf8(value.to_vec()).ok(),
                // Whom it is from says the address.
                number::URI_HOST | number::URI_PORT => {}
                other if number::is_critical(other) => return None,
                _ => {}
            }
        }
        Some(response)
    }
}
