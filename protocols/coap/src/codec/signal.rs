//! Signals (RFC 8323 section 5): what the two ends of a connection say to each other about the connection itself.
//!
//! The options of each have numbers of their own (section 5.2). One that is elective and not known is passed over.

use super::{Code, Frame, Options, Token, Writer, number, uint};

/// Bytes of a message that everybody takes (section 5.3.1).
pub const BASE_MESSAGE_SIZE: u32 = 1_152;

const MAX_MESSAGE_SIZE: u16 = 2;
const BLOCK_WISE_TRANSFER: u16 = 4;
const CUSTODY: u16 = 2;
const ALTERNATIVE_ADDRESS: u16 = 2;
const HOLD_OFF: u16 = 4;
const BAD_CSM_OPTION: u16 = 2;

/// What one end can do. What it leaves out is as it was before, and in the beginning as small as it can be
/// (section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Csm {
    /// Bytes of the longest message that it takes.
    pub max_message_size: Option<u32>,
    /// It knows bodies in blocks, and BERT where messages may be long enough for it (section 5.3.2).
    pub block_wise: bool,
}

/// A signal.
#[derive(Clone, Copy, Debug)]
pub enum Signal<'a> {
    /// 7.01: the first message of each end.
    Csm(Csm),
    /// 7.02: asks for a pong.
    Ping {
        /// The pong is to come when everything before the ping was dealt with (section 5.4.1).
        custody: bool,
    },
    /// 7.03: answers a ping.
    Pong {
        /// Everything before the ping was dealt with.
        custody: bool,
    },
    /// 7.04: the connection is to end when what is under way was answered.
    Release(Release<'a>),
    /// 7.05: the connection ends now.
    Abort {
        /// An option of CSM that the other end could not deal with (section 5.6).
        bad_csm_option: Option<u16>,
        /// Why, in words.
        why: &'a str,
    },
}

/// Where to go on, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Release<'a> {
    options: Options<'a>,
    /// Seconds to wait before a new connection.
    pub hold_off: Option<u32>,
}

impl<'a> Release<'a> {
    /// One that names no other address.
    #[must_use]
    pub fn new(hold_off: Option<u32>) -> Self {
        Self {
            options: Options::default(),
            hold_off,
        }
    }

    /// Addresses where the other end can be reached as well (section 5.5).
    pub fn alternative_addresses(&self) -> impl Iterator<Item = &'a str> {
        self.options
            .all(ALTERNATIVE_ADDRESS)
            .filter_map(|value| std::str::from_utf8(value).ok())
    }
}

/// Why a signal cannot be followed: answered with Abort (section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The option of CSM is critical and not known, or not as it is defined: Abort names it.
    #[error(
        "option {0} of CSM is critical and not known, or not well formed (RFC 8323 section 5.3)"
    )]
    CsmOption(u16),
    /// As above, of another signal.
    #[error("option {1} of {0} is critical and not known (RFC 8323 section 5.2)")]
    Option(Code, u16),
    /// It is no signal of this version.
    #[error("the signal {0} is not known (RFC 8323 section 5.1)")]
    Unknown(Code),
}

impl<'a> Signal<'a> {
    /// Reads a signal.
    pub fn read(frame: &Frame<'a>) -> Result<Self, SignalError> {
        match frame.code {
            Code::CSM => Csm::read(frame.options).map(Self::Csm),
            Code::PING | Code::PONG => {
                known(frame, |number| number == CUSTODY)?;
                let custody = frame.options.first(CUSTODY).is_some();
                Ok(if frame.code == Code::PING {
                    Self::Ping { custody }
                } else {
                    Self::Pong { custody }
                })
            }
            Code::RELEASE => {
                known(frame, |number| {
                    matches!(number, ALTERNATIVE_ADDRESS | HOLD_OFF)
                })?;
                let hold_off = frame.options.first(HOLD_OFF);
                Ok(Self::Release(Release {
                    options: frame.options,
                    hold_off: hold_off.and_then(|value| uint(value, 3)),
                }))
            }
            // Whatever it says, it ends the connection.
            Code::ABORT => Ok(Self::Abort {
                bad_csm_option: frame
                    .options
                    .first(BAD_CSM_OPTION)
                    .and_then(|value| uint(value, 2))
                    .and_then(|number| u16::try_from(number).ok()),
                why: text(frame.payload),
            }),
            code => Err(SignalError::Unknown(code)),
        }
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Csm(_) => Code::CSM,
            Self::Ping { .. } => Code::PING,
            Self::Pong { .. } => Code::PONG,
            Self::Release(_) => Code::RELEASE,
            Self::Abort { .. } => Code::ABORT,
        }
    }

    /// Appends it to a buffer. A pong has the token of its ping, all others have any.
    pub fn write(&self, token: Token, out: &mut Vec<u8>) {
        let mut writer = Writer::frame(out, self.code(), token);
        let mut payload = "";
        match self {
            Self::Csm(csm) => {
                if let Some(size) = csm.max_message_size {
                    writer.uint(MAX_MESSAGE_SIZE, size);
                }
                if csm.block_wise {
                    writer.option(BLOCK_WISE_TRANSFER, &[]);
                }
            }
            Self::Ping { custody } | Self::Pong { custody } => {
                if *custody {
                    writer.option(CUSTODY, &[]);
                }
            }
            Self::Release(release) => {
                for address in release.alternative_addresses() {
                    writer.option(ALTERNATIVE_ADDRESS, address.as_bytes());
                }
                if let Some(seconds) = release.hold_off {
                    writer.uint(HOLD_OFF, seconds);
                }
            }
            Self::Abort {
                bad_csm_option,
                why,
            } => {
                if let Some(number) = bad_csm_option {
                    writer.uint(BAD_CSM_OPTION, (*number).into());
                }
                payload = why;
            }
        }
        writer.payload(payload.as_bytes());
    }
}

impl Csm {
    fn read(options: Options<'_>) -> Result<Self, SignalError> {
        let mut csm = Self::default();
        for option in options.iter() {
            match option.number {
                MAX_MESSAGE_SIZE => {
                    let size = uint(option.value, 4);
                    let size = size.ok_or(SignalError::CsmOption(MAX_MESSAGE_SIZE))?;
                    csm.max_message_size = Some(size);
                }
                BLOCK_WISE_TRANSFER => csm.block_wise = true,
                other if number::is_critical(other) => return Err(SignalError::CsmOption(other)),
                _ => {}
            }
        }
        Ok(csm)
    }
}

fn known(frame: &Frame<'_>, known: impl Fn(u16) -> bool) -> Result<(), SignalError> {
    let unknown = frame
        .options
        .iter()
        .map(|option| option.number)
        .find(|option| number::is_critical(*option) && !known(*option));
    unknown.map_or(Ok(()), |option| {
        Err(SignalError::Option(frame.code, option))
    })
}

/// As much of it as is text.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it stands")]
mod tests {
    use super::super::{Split, split};
    use super::*;

    fn read(bytes: &[u8]) -> Result<Signal<'_>, SignalError> {
        let Split::Frame(frame) = split(bytes, 1_000).unwrap() else {
            panic!("it is whole");
        };
        Signal::read(&frame)
    }

    fn with(code: Code, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::frame(&mut out, code, Token::default());
        for (number, value) in options {
            writer.option(*number, value);
        }
        writer.payload(&[]);
        out
    }

    #[test]
    fn rfc_8323_5_what_is_written_is_read() {
        let token = Token::new(b"t").unwrap();
        let csm = Csm {
            max_message_size: Some(70_000),
            block_wise: true,
        };
        let signals = [
            Signal::Csm(csm),
            Signal::Csm(Csm::default()),
            Signal::Ping { custody: false },
            Signal::Ping { custody: true },
            Signal::Pong { custody: true },
            Signal::Release(Release::new(Some(30))),
            Signal::Abort {
                bad_csm_option: Some(3),
                why: "no",
            },
        ];
        for signal in signals {
            let mut bytes = Vec::new();
            signal.write(token, &mut bytes);
            let again = read(&bytes).unwrap();
            let text = |signal: &Signal<'_>| match signal {
                Signal::Release(release) => format!("release {:?}", release.hold_off),
                other => format!("{other:?}"),
            };
            assert_eq!(text(&again), text(&signal));
            assert_eq!(again.code().class(), 7);
        }
    }

    #[test]
    fn rfc_8323_5_3_a_critical_option_that_is_not_known_is_named() {
        let bytes = with(Code::CSM, &[(2, &[1, 0]), (5, b"?")]);
        assert_eq!(read(&bytes).unwrap_err(), SignalError::CsmOption(5));
        let bytes = with(Code::CSM, &[(6, b"?"), (8, b"")]);
        assert!(matches!(read(&bytes), Ok(Signal::Csm(csm)) if csm == Csm::default()));
        let bytes = with(Code::CSM, &[(2, &[1, 0, 0, 0, 0])]);
        assert_eq!(read(&bytes).unwrap_err(), SignalError::CsmOption(2));
        let bytes = with(Code::PING, &[(1, b"")]);
        let error = SignalError::Option(Code::PING, 1);
        assert_eq!(read(&bytes).unwrap_err(), error);
    }

    #[test]
    fn rfc_8323_5_5_a_release_names_where_to_go_on() {
        let bytes = with(Code::RELEASE, &[(2, b"a:1"), (2, b"b"), (4, &[10])]);
        let Signal::Release(release) = read(&bytes).unwrap() else {
            panic!("a release");
        };
        let addresses: Vec<&str> = release.alternative_addresses().collect();
        assert_eq!((addresses, release.hold_off), (vec!["a:1", "b"], Some(10)));
    }

    #[test]
    fn rfc_8323_5_1_a_signal_that_is_not_known_is_none() {
        let code = Code::new(7, 6);
        assert_eq!(
            read(&with(code, &[])).unwrap_err(),
            SignalError::Unknown(code)
        );
    }

    #[test]
    fn rfc_8323_5_6_of_a_diagnostic_payload_what_is_text_is_read() {
        let mut bytes = Vec::new();
        let writer = Writer::frame(&mut bytes, Code::ABORT, Token::default());
        writer.payload(b"too\xFFlong");
        assert!(matches!(read(&bytes), Ok(Signal::Abort { why: "too", .. })));
    }
}
