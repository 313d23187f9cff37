//! The reason codes of MQTT 5.0 (section 2.4) that answers over HTTP carry, and the status that goes with each.

use axum::http::StatusCode;
use tidegate_bus::{Denial, PublishRefusal, StoreError, SubscribeRefusal};

/// Why, or with what result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    Success = 0x00,
    NoMatchingSubscribers = 0x10,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketTooLarge = 0x95,
    QuotaExceeded = 0x97,
}

impl Reason {
    /// Its number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// Its name, as the specification has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::NoMatchingSubscribers => "No matching subscribers",
            Self::UnspecifiedError => "Unspecified error",
            Self::MalformedPacket => "Malformed Packet",
            Self::ClientIdentifierNotValid => "Client Identifier not valid",
            Self::BadUserNameOrPassword => "Bad User Name or Password",
            Self::NotAuthorized => "Not authorized",
            Self::ServerUnavailable => "Server unavailable",
            Self::ServerBusy => "Server busy",
            Self::Banned => "Banned",
            Self::ServerShuttingDown => "Server shutting down",
            Self::SessionTakenOver => "Session taken over",
            Self::TopicFilterInvalid => "Topic Filter invalid",
            Self::TopicNameInvalid => "Topic Name invalid",
            Self::PacketTooLarge => "Packet too large",
            Self::QuotaExceeded => "Quota exceeded",
        }
    }

    /// The last part of the type of its problem (RFC 9457 section 3.1.1).
    pub(crate) const fn slug(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::NoMatchingSubscribers => "no-matching-subscribers",
            Self::UnspecifiedError => "unspecified-error",
            Self::MalformedPacket => "malformed-request",
            Self::ClientIdentifierNotValid => "client-identifier-not-valid",
            Self::BadUserNameOrPassword => "bad-user-name-or-password",
            Self::NotAuthorized => "not-authorized",
            Self::ServerUnavailable => "server-unavailable",
            Self::ServerBusy => "server-busy",
            Self::Banned => "banned",
            Self::ServerShuttingDown => "server-shutting-down",
            Self::SessionTakenOver => "session-taken-over",
            Self::TopicFilterInvalid => "topic-filter-invalid",
            Self::TopicNameInvalid => "topic-name-invalid",
            Self::PacketTooLarge => "message-too-large",
            Self::QuotaExceeded => "quota-exceeded",
        }
    }
}

/// What became of something that was refused: the reason, the status that says so, and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

impl Refused {
    const fn new(reason: Reason, status: StatusCode, text: &'static str) -> Self {
        Self {
            reason,
            status,
            text,
        }
    }

    /// The engine keeps nothing now.
    pub(crate) const STORE: Self = Self::new(
        Reason::QuotaExceeded,
        StatusCode::SERVICE_UNAVAILABLE,
        "The store cannot keep anything now, so nothing was acknowledged. Send it again later.",
    );
    /// All that waits takes as much memory as it may.
    pub(crate) const MEMORY: Self = Self::new(
        Reason::QuotaExceeded,
        StatusCode::SERVICE_UNAVAILABLE,
        "All that waits takes as much memory as it may (limits.max_memory). Send it again later.",
    );
}

impl From<PublishRefusal> for Refused {
    fn from(refusal: PublishRefusal) -> Self {
        match refusal {
            PublishRefusal::NotAuthorized => Self::new(
                Reason::NotAuthorized,
                StatusCode::FORBIDDEN,
                "The client may not publish to this topic.",
            ),
            PublishRefusal::TopicNameInvalid => Self::new(
                Reason::TopicNameInvalid,
                StatusCode::UNPROCESSABLE_ENTITY,
                "The topic is longer or deeper than the limits allow (limits.max_topic_size, \
                 limits.max_topic_levels).",
            ),
            PublishRefusal::QuotaExceeded => Self::new(
                Reason::QuotaExceeded,
                StatusCode::INSUFFICIENT_STORAGE,
                "As much is retained as may be (limits.max_retained_messages, \
                 limits.max_retained_size).",
            ),
            PublishRefusal::StoreUnavailable => Self::STORE,
            _ => Self::new(
                Reason::UnspecifiedError,
                StatusCode::INTERNAL_SERVER_ERROR,
                "The message was refused.",
            ),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::new(
                Reason::QuotaExceeded,
                StatusCode::INSUFFICIENT_STORAGE,
                "There is no room to keep the message for everybody who waits for it, so it was not \
                 acknowledged. Send it again later.",
            ),
            _ => Self::STORE,
        }
    }
}

impl From<SubscribeRefusal> for Refused {
    fn from(refusal: SubscribeRefusal) -> Self {
        match refusal {
            SubscribeRefusal::NotAuthorized => Self::from(SubscribeDenied),
            SubscribeRefusal::TopicFilterInvalid => Self::new(
                Reason::TopicFilterInvalid,
                StatusCode::UNPROCESSABLE_ENTITY,
                "A filter is longer or deeper than the limits allow (limits.max_topic_size, \
                 limits.max_topic_levels).",
            ),
            SubscribeRefusal::QuotaExceeded => Self::new(
                Reason::QuotaExceeded,
                StatusCode::TOO_MANY_REQUESTS,
                "The client has as many subscriptions as it may \
                 (limits.max_subscriptions_per_client).",
            ),
            SubscribeRefusal::StoreUnavailable => Self::STORE,
            SubscribeRefusal::Fenced => Self::from(Newer),
            _ => Self::new(
                Reason::UnspecifiedError,
                StatusCode::INTERNAL_SERVER_ERROR,
                "The subscription was refused.",
            ),
        }
    }
}

/// The client may not subscribe.
pub(crate) struct SubscribeDenied;

impl From<SubscribeDenied> for Refused {
    fn from(_: SubscribeDenied) -> Self {
        Self::new(
            Reason::NotAuthorized,
            StatusCode::FORBIDDEN,
            "The client may not subscribe to this filter.",
        )
    }
}

/// Another connection of the client is newer.
pub(crate) struct Newer;

impl From<Newer> for Refused {
    fn from(_: Newer) -> Self {
        Self::new(
            Reason::SessionTakenOver,
            StatusCode::CONFLICT,
            "Another connection with this client identifier is newer.",
        )
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::BadCredentials => Self::new(
                Reason::BadUserNameOrPassword,
                StatusCode::UNAUTHORIZED,
                "User name or password is wrong.",
            ),
            Denial::Banned => Self::new(
                Reason::Banned,
                StatusCode::FORBIDDEN,
                "The client is banned.",
            ),
            Denial::Unavailable => Self::new(
                Reason::ServerUnavailable,
                StatusCode::SERVICE_UNAVAILABLE,
                "The access decision could not be had in time.",
            ),
            _ => Self::new(
                Reason::NotAuthorized,
                StatusCode::FORBIDDEN,
                "The client may not connect.",
            ),
        }
    }
}
