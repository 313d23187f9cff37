//! The frames of a client (RFC 6455 sections 5 and 7), taken apart in the buffer they were read into.
//!
//! It holds no payload of data frames and does no input or output. What it keeps between two reads is
//! where it stands: a header that has come in part, what is left of a frame, its mask.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::control::{Body, MAX_CONTROL, Rare};
use crate::mask::Mask;
use crate::violation::Violation;

/// The longest header of a client: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// The greatest length: the most significant bit is 0 (section 5.2).
const MAX_LENGTH: u64 = u64::MAX >> 1;

/// How much a client may put into a frame and into a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) frame: u64,
    pub(crate) message: u64,
}

/// Where the client's side of the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// The client has sent a close frame, with this code.
    Closed(Option<u16>),
    /// The client has broken the protocol and the reader does not know yet.
    Failing(Violation),
    Failed(Violation),
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

#[derive(Debug)]
pub(crate) struct Decoder {
    limits: Limits,
    /// Bytes of the frame's payload that have not come.
    left: u64,
    /// Payload announced by the frames of the message so far.
    message: u64,
    mask: Mask,
    /// The first bytes of a header that has come in part.
    header: [u8; MAX_HEADER],
    header_len: u8,
    kind: Kind,
    /// The last data frame was not the final one of its message.
    in_message: bool,
    state: State,
}

impl Decoder {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            left: 0,
            message: 0,
            mask: Mask::default(),
            header: [0; MAX_HEADER],
            header_len: 0,
            kind: Kind::Data,
            in_message: false,
            state: State::Open,
        }
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// Reports the violation: from now on it is known.
    pub(crate) const fn report(&mut self, violation: Violation) {
        self.state = State::Failed(violation);
    }

    /// Takes apart the next bytes of the client and moves the payload among them to the front.
    /// Gives back how much that is. Bytes behind a close frame or a violation count for nothing.
    pub(crate) fn decode(&mut self, raw: &mut [u8], rare: &mut Option<Box<Rare>>) -> usize {
        let mut payload = 0;
        let mut at = 0;
        while at < raw.len() && self.state == State::Open {
            if self.left == 0 {
                match self.begin(&raw[at..]) {
                    Ok(taken) => at += taken,
                    Err(violation) => {
                        self.state = State::Failing(violation);
                        break;
                    }
                }
                if self.left == 0 && self.header_len == 0 {
                    self.end(rare);
                }
                continue;
            }
            let here = raw.len() - at;
            let len = usize::try_from(self.left).map_or(here, |left| left.min(here));
            match self.kind {
                Kind::Data => {
                    raw.copy_within(at..at + len, payload);
                    self.mask.apply(&mut raw[payload..payload + len]);
                    payload += len;
                }
                // A pong is not awaited: it may come unasked (section 5.5.3) and says nothing.
                Kind::Pong => {}
                Kind::Ping | Kind::Close => {
                    let body = &mut raw[at..at + len];
                    self.mask.apply(body);
                    rare.get_or_insert_default().incoming().push(body);
                }
            }
            at += len;
            self.left -= len as u64;
            if self.left == 0 {
                self.end(rare);
            }
        }
        payload
    }

    /// Reads a header, or the part of it that is there. Gives back how many bytes that took.
    fn begin(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let kept = usize::from(self.header_len);
        if kept == 0
            && let Some((header, payload, len)) = parse(bytes)?
        {
            self.open(&header, payload)?;
            return Ok(len);
        }
        let more = bytes.len().min(MAX_HEADER - kept);
        self.header[kept..kept + more].copy_from_slice(&bytes[..more]);
        let whole = self.header;
        match parse(&whole[..kept + more])? {
            Some((header, payload, len)) => {
                self.header_len = 0;
                self.open(&header, payload)?;
                Ok(len - kept)
            }
            None => {
                self.header_len = (kept + more) as u8;
                Ok(more)
            }
        }
    }

    /// Whether a frame with this header may come now.
    fn open(&mut self, header: &FrameHeader, payload: u64) -> Result<(), Violation> {
        let Some(mask) = header.mask else {
            return Err(Violation::Unmasked);
        };
        let kind = match header.opcode {
            OpCode::Data(data) => {
                match (data, self.in_message) {
                    (Data::Text, _) => return Err(Violation::Text),
                    (Data::Continue, false) => return Err(Violation::LoneContinuation),
                    (Data::Binary, true) => return Err(Violation::InterruptedMessage),
                    (Data::Binary, false) => self.message = 0,
                    (Data::Continue, true) => {}
                    (Data::Reserved(code), _) => return Err(Violation::UnknownOpcode(code)),
                }
                if payload > self.limits.frame {
                    return Err(Violation::FrameTooLarge);
                }
                self.message = self.message.saturating_add(payload);
                if self.message > self.limits.message {
                    return Err(Violation::MessageTooLarge);
                }
                self.in_message = !header.is_final;
                Kind::Data
            }
            OpCode::Control(control) => {
                if !header.is_final {
                    return Err(Violation::FragmentedControl);
                }
                if payload > MAX_CONTROL as u64 {
                    return Err(Violation::LongControl);
                }
                match control {
                    Control::Close => Kind::Close,
                    Control::Ping => Kind::Ping,
                    Control::Pong => Kind::Pong,
                    Control::Reserved(code) => return Err(Violation::UnknownOpcode(code)),
                }
            }
        };
        self.kind = kind;
        self.left = payload;
        self.mask = Mask::new(mask);
        Ok(())
    }

    /// The frame's payload is complete.
    fn end(&mut self, rare: &mut Option<Box<Rare>>) {
        match self.kind {
            Kind::Data | Kind::Pong => {}
            Kind::Ping => {
                let rare = rare.get_or_insert_default();
                let body = rare.take_incoming();
                rare.answer_ping(body);
            }
            Kind::Close => {
                let body = rare.as_mut().map(|rare| rare.take_incoming());
                self.state = closed(&body.unwrap_or_default());
            }
        }
    }
}

/// A whole header, what it says is the length of the payload, and its own length.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    // From memory, the codec fails at an opcode that it does not know and at nothing else.
    let parsed = FrameHeader::parse(&mut cursor)
        .map_err(|_| Violation::UnknownOpcode(bytes.first().map_or(0, |first| first & 0x0f)))?;
    let Some((header, payload)) = parsed else {
        return Ok(None);
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::ReservedBits);
    }
    if payload > MAX_LENGTH {
        return Err(Violation::LengthOutOfRange);
    }
    let len = header.len(payload);
    if cursor.position() != len as u64 {
        return Err(Violation::LengthNotMinimal);
    }
    Ok(Some((header, payload, len)))
}

/// What a close frame with this body comes to (sections 5.5.1, 7.4).
fn closed(body: &Body) -> State {
    match body.as_slice() {
        [] => State::Closed(None),
        [_] => State::Failing(Violation::CloseBody),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // 1012 to 1014 were registered with IANA after the RFC; 3000 and above are free to use.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                State::Failing(Violation::CloseCode(code))
            } else if std::str::from_utf8(reason).is_err() {
                State::Failing(Violation::CloseReason)
            } else {
                State::Closed(Some(code))
            }
        }
    }
}
