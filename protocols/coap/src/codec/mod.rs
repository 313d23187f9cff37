//! CoAP messages, in datagrams (RFC 7252 section 3) and in byte streams (RFC 8323 section 3): a view of the bytes that came, and a writer that appends to a buffer.
//!
//! Nothing here allocates. The crate `coap-lite` has the same format in owned maps and lists, some ten allocations a
//! message, takes a payload marker without a payload and any version; it is what the tests compare with.

mod block;
mod code;
mod frame;
pub mod number;
mod options;
mod signal;
mod write;

pub use block::{Block, BlockError};
pub use code::{Code, Kind};
pub use frame::{Frame, FrameError, Split, split};
pub use options::{Opt, Options, uint};
pub use signal::{BASE_MESSAGE_SIZE, Csm, Release, Signal, SignalError};
pub use write::Writer;

/// A token: what a client knows its request by (RFC 7252 section 5.3.1).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Token {
    /// Most bytes of a token.
    pub const MAX: usize = 8;

    /// `None` when it is longer than a token may be.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut token = Self::default();
        token.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        token.len = bytes.len() as u8;
        Some(token)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A message, borrowed from the datagram it came in.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Whether and what it acknowledges.
    pub kind: Kind,
    /// What is asked, or what became of it.
    pub code: Code,
    /// What an acknowledgement names it by.
    pub id: u16,
    /// What a response names its request by.
    pub token: Token,
    /// In the order of their numbers.
    pub options: Options<'a>,
    /// Empty when there is none.
    pub payload: &'a [u8],
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is shorter than a header: nothing can be said of it.
    #[error("a message has at least 4 bytes (RFC 7252 section 3)")]
    Short,
    /// Silently ignored (RFC 7252 section 3).
    #[error("version {0} is not known (RFC 7252 section 3)")]
    Version(u8),
    /// A message format error: answered with Reset when the message is confirmable (section 4.2).
    #[error("{why}")]
    Format {
        /// The type of the message.
        kind: Kind,
        /// Its identifier.
        id: u16,
        /// What is wrong.
        why: FormatError,
    },
}

/// What is wrong with a message whose header can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Lengths 9 to 15 are reserved.
    #[error("a token has at most 8 bytes (RFC 7252 section 3)")]
    TokenLength,
    /// It promises more than there is.
    #[error("the message ends inside its token (RFC 7252 section 3)")]
    Token,
    /// A delta or length of 15, or one that promises more than there is.
    #[error("an option is cut off or has a reserved length (RFC 7252 section 3.1)")]
    Option,
    /// A number beyond 65,535.
    #[error("an option number has at most 16 bits (RFC 7252 section 3.1)")]
    OptionNumber,
    /// "The presence of a marker followed by a zero-length payload MUST be processed as a message format error."
    #[error("a payload marker is followed by a payload (RFC 7252 section 3)")]
    Marker,
    /// An empty message has nothing behind its identifier.
    #[error("an empty message has no token, options or payload (RFC 7252 section 4.1)")]
    NotEmpty,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some((&[first, code, id @ ..], rest)) = bytes.split_first_chunk::<4>() else {
            return Err(ParseError::Short);
        };
        let version = first >> 6;
        if version != 1 {
            return Err(ParseError::Version(version));
        }
        let (kind, id) = (Kind::of(first >> 4), u16::from_be_bytes(id));
        let code = Code(code);
        let format = |why| ParseError::Format { kind, id, why };
        if code == Code::EMPTY && (first & 0x0F != 0 || !rest.is_empty()) {
            return Err(format(FormatError::NotEmpty));
        }
        let (token, options, payload) = body(first & 0x0F, rest).map_err(format)?;
        Ok(Self {
            kind,
            code,
            id,
            token,
            options,
            payload,
        })
    }
}

/// Token, options and payload, which are the same over UDP and TCP.
pub fn body(token_len: u8, rest: &[u8]) -> Result<(Token, Options<'_>, &[u8]), FormatError> {
    if usize::from(token_len) > Token::MAX {
        return Err(FormatError::TokenLength);
    }
    let (token, rest) = rest
        .split_at_checked(token_len.into())
        .ok_or(FormatError::Token)?;
    let token = Token::new(token).ok_or(FormatError::TokenLength)?;
    let (options, payload) = Options::split(rest)?;
    Ok((token, options, payload))
}
