//! Why a connection ends.

use std::borrow::Cow;
use std::{fmt, io};

use super::limits::Limits;
use crate::codec::{FrameError, Release, Signal, SignalError, Token};
use crate::metrics::Closed;

#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed it, or it was lost.
    Lost(Option<io::Error>),
    /// The client released it, and has the answers that it waited for.
    Released,
    /// The client aborted it, and said this.
    Aborted(String),
    /// The client broke the protocol.
    Refused {
        /// The option of CSM that is to blame.
        option: Option<u16>,
        why: Cow<'static, str>,
    },
    /// The client said nothing for too long.
    Silent(&'static str),
    /// The gateway shuts down; the client was told.
    ShutDown,
}

impl Ending {
    pub(super) fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused {
            option: None,
            why: why.into(),
        }
    }

    /// How it is counted.
    pub(super) const fn closed(&self) -> Closed {
        match self {
            Self::Lost(_) => Closed::Lost,
            Self::Released => Closed::Released,
            Self::Aborted(_) => Closed::Aborted,
            Self::Refused { .. } => Closed::Refused,
            Self::Silent(_) => Closed::Silent,
            Self::ShutDown => Closed::ShutDown,
        }
    }

    /// Appends what the client hears of it (RFC 8323 section 5.6): in words, where it takes so many.
    pub(super) fn last_word(&self, limits: Limits, out: &mut Vec<u8>) {
        let (bad_csm_option, why) = match self {
            Self::Refused { option, why } => (*option, &**why),
            Self::Silent(why) => (None, *why),
            Self::Lost(_) | Self::Released | Self::Aborted(_) | Self::ShutDown => return,
        };
        let start = out.len();
        for why in [why, ""] {
            out.truncate(start);
            let abort = Signal::Abort {
                bad_csm_option,
                why,
            };
            abort.write(Token::default(), out);
            if limits.take(out.len() - start) {
                return;
            }
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(None) => f.write_str("the client closed it"),
            Self::Lost(Some(error)) => write!(f, "it was lost: {error}"),
            Self::Released => f.write_str("the client released it"),
            Self::Aborted(why) => write!(f, "the client aborted it: {why:?}"),
            Self::Refused { why, .. } => f.write_str(why),
            Self::Silent(why) => f.write_str(why),
            Self::ShutDown => f.write_str("the gateway shuts down"),
        }
    }
}

impl From<FrameError> for Ending {
    fn from(error: FrameError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<SignalError> for Ending {
    fn from(error: SignalError) -> Self {
        let option = match error {
            SignalError::CsmOption(option) => Some(option),
            SignalError::Option(..) | SignalError::Unknown(_) => None,
        };
        Self::Refused {
            option,
            why: error.to_string().into(),
        }
    }
}

/// Appends the signal that the gateway leaves (RFC 8323 section 5.5).
pub(super) fn release(hold_off: Option<u32>, out: &mut Vec<u8>) {
    Signal::Release(Release::new(hold_off)).write(Token::default(), out);
}
