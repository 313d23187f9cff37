//! What a client may not do in its frames, and the close code that tells it so (RFC 6455 section
//! 7.4.1).

/// How a client broke the WebSocket protocol or a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// MQTT-6.0.0-1: MQTT is carried in binary frames only.
    #[error("a text frame; MQTT is carried in binary frames (MQTT-6.0.0-1)")]
    Text,
    /// Section 5.1.
    #[error("a frame without a mask; a client masks every frame (RFC 6455 section 5.1)")]
    Unmasked,
    /// Section 5.2: no extension was agreed on that would give them a meaning.
    #[error("a reserved bit that no agreed extension uses (RFC 6455 section 5.2)")]
    ReservedBits,
    /// Section 5.2.
    #[error("the unknown opcode {0} (RFC 6455 section 5.2)")]
    UnknownOpcode(u8),
    /// Section 5.5.
    #[error("a control frame in fragments (RFC 6455 section 5.5)")]
    FragmentedControl,
    /// Section 5.5.
    #[error("a control frame of more than 125 bytes (RFC 6455 section 5.5)")]
    LongControl,
    /// Section 5.4.
    #[error("a continuation of no message (RFC 6455 section 5.4)")]
    LoneContinuation,
    /// Section 5.4.
    #[error("a new message inside a fragmented one (RFC 6455 section 5.4)")]
    InterruptedMessage,
    /// Section 5.2.
    #[error("a length in more bytes than it needs (RFC 6455 section 5.2)")]
    LengthNotMinimal,
    /// Section 5.2: the most significant bit of a length is 0.
    #[error("a length beyond 63 bits (RFC 6455 section 5.2)")]
    LengthOutOfRange,
    /// The frame is longer than the listener takes.
    #[error("a frame over the limit")]
    FrameTooLarge,
    /// The message is longer than the listener takes.
    #[error("a message over the limit")]
    MessageTooLarge,
    /// Section 5.5.1: a close frame has no body, or one that begins with a code of two bytes.
    #[error("a close frame with half a code (RFC 6455 section 5.5.1)")]
    CloseBody,
    /// Section 7.4: not a code that may be sent.
    #[error("the close code {0}, which may not be sent (RFC 6455 section 7.4)")]
    CloseCode(u16),
    /// Section 5.5.1.
    #[error("a close reason that is not UTF-8 (RFC 6455 section 5.5.1)")]
    CloseReason,
}

impl Violation {
    /// The code of the close frame that answers it.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::CloseReason => 1007,
            Self::FrameTooLarge | Self::MessageTooLarge => 1009,
            _ => 1002,
        }
    }
}
