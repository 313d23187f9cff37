//! Messages over a byte stream, from a client's side and without a socket (RFC 8323): lengths, capabilities, pings.
//!
//! Nothing is repeated here, and nothing is acknowledged: that is the stream's.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_coap::codec::{
    BASE_MESSAGE_SIZE, Code, Csm, Frame, Signal, Split, Token, Writer, split,
};

use super::arrival::{Arrival, GaveUp};
use super::draft::Draft;
use super::response::Response;
use crate::client::connection::ANSWER;
use crate::client::error::ClientError;

/// Bytes of a message that is taken: a body of 8 MiB as one.
const LARGEST: u32 = (8 << 20) + 1024;

/// How long an answer may take, as over datagrams (RFC 7252 section 4.8.2).
const PATIENCE: Duration = Duration::from_secs(247);

/// A stream of messages in both directions.
#[derive(Debug)]
pub(super) struct Frames {
    incoming: Vec<u8>,
    /// Bytes of `incoming` that were taken.
    taken: usize,
    out: Vec<u8>,
    /// What the gateway can do; `None` as long as it has not said so.
    server: Option<Csm>,
    /// Whose responses are waited for.
    expected: BTreeSet<Token>,
    /// Since when the answer to a request is waited for.
    asked: Option<(Token, Instant)>,
    pinged: Option<Instant>,
    /// Pings that have asked for Custody: they are answered when all that came before was taken (section 5.4.1).
    custody: Vec<Token>,
    /// Why the gateway wants to end: with what is under way it may go on (section 5.5).
    is_released: bool,
}

impl Frames {
    /// Begins with what this client can do (section 5.3).
    pub(super) fn new() -> Self {
        let mut out = Vec::new();
        let csm = Csm {
            max_message_size: Some(LARGEST),
            block_wise: true,
        };
        Signal::Csm(csm).write(Token::default(), &mut out);
        Self {
            incoming: Vec::new(),
            taken: 0,
            out,
            server: None,
            expected: BTreeSet::new(),
            asked: None,
            pinged: None,
            custody: Vec::new(),
            is_released: false,
        }
    }

    /// Whether the gateway has said what it can do.
    pub(super) const fn is_ready(&self) -> bool {
        self.server.is_some()
    }

    /// Bytes of a message that the gateway takes.
    pub(super) fn largest(&self) -> usize {
        let said = self.server.and_then(|csm| csm.max_message_size);
        said.unwrap_or(BASE_MESSAGE_SIZE) as usize
    }

    /// Sends a request.
    pub(super) fn send(&mut self, draft: &Draft, now: Instant) {
        draft.write(Writer::frame(&mut self.out, draft.code, draft.token));
        self.expected.insert(draft.token);
        self.asked = Some((draft.token, now));
    }

    /// Asks whether the gateway is there (section 5.4).
    pub(super) fn ping(&mut self, now: Instant) {
        Signal::Ping { custody: false }.write(Token::default(), &mut self.out);
        self.pinged = Some(now);
    }

    /// No response with this token is waited for any more.
    pub(super) fn forget(&mut self, token: Token) {
        self.expected.remove(&token);
        self.asked.take_if(|(asked, _)| *asked == token);
    }

    /// Takes bytes of the stream.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// The next thing in what has come.
    pub(super) fn arrival(&mut self) -> Result<Option<Arrival>, ClientError> {
        loop {
            let rest = &self.incoming[self.taken..];
            // No CSM begins so; an alert of TLS does (RFC 8446 section 5.1).
            if self.server.is_none() && rest.starts_with(&[0x15, 0x03]) {
                return Err(ClientError::SpeaksTls);
            }
            let wrong = |why: String| ClientError::Protocol(why);
            let frame = match split(rest, LARGEST as usize) {
                Ok(Split::Frame(frame)) => frame,
                Ok(Split::Incomplete(_)) => {
                    self.incoming.drain(..self.taken);
                    self.taken = 0;
                    return Ok(None);
                }
                Err(error) => return Err(wrong(error.to_string())),
            };
            self.taken += frame.len;
            if frame.code.is_signal() {
                let signal = Signal::read(&frame).map_err(|error| wrong(error.to_string()))?;
                let token = frame.token;
                match signal {
                    Signal::Csm(csm) => {
                        let before = self.server.unwrap_or_default();
                        self.server = Some(Csm {
                            max_message_size: csm.max_message_size.or(before.max_message_size),
                            block_wise: csm.block_wise || before.block_wise,
                        });
                    }
                    Signal::Ping { custody: true } => self.custody.push(token),
                    Signal::Ping { custody } => {
                        Signal::Pong { custody }.write(token, &mut self.out);
                    }
                    Signal::Pong { .. } => {
                        self.pinged = None;
                        return Ok(Some(Arrival::Pong));
                    }
                    Signal::Release(_) => self.is_released = true,
                    Signal::Abort { why, .. } => return Err(aborted(why)),
                }
                continue;
            }
            if self.server.is_none() {
                let text = "its first message is not CSM (RFC 8323 section 5.3)";
                return Err(wrong(text.to_owned()));
            }
            if let Some(response) = response(&frame)
                && self.expected.contains(&frame.token)
            {
                self.asked.take_if(|(asked, _)| *asked == frame.token);
                return Ok(Some(Arrival::Response(response)));
            }
        }
    }

    /// Whether the gateway has asked to end the connection.
    pub(super) const fn is_released(&self) -> bool {
        self.is_released
    }

    /// When something must be done although nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let answer = self.asked.map(|(_, since)| since + PATIENCE);
        let pong = self.pinged.map(|since| since + ANSWER);
        answer.into_iter().chain(pong).min()
    }

    /// Gives up what was not answered in time.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), GaveUp> {
        if self.pinged.is_some_and(|since| since + ANSWER <= now) {
            return Err(GaveUp::Ping);
        }
        if self.asked.is_some_and(|(_, since)| since + PATIENCE <= now) {
            return Err(GaveUp::Request);
        }
        Ok(())
    }

    /// All that has come was taken.
    pub(super) fn processed(&mut self) {
        for token in self.custody.drain(..) {
            Signal::Pong { custody: true }.write(token, &mut self.out);
        }
    }

    /// The next bytes for the gateway.
    pub(super) fn output(&mut self) -> Option<Vec<u8>> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out))
    }

    /// Says that nothing more comes (section 5.5).
    pub(super) fn goodbye(&mut self) {
        let release = tidegate_coap::codec::Release::new(None);
        Signal::Release(release).write(Token::default(), &mut self.out);
    }
}

/// `None`: it is no response, or none that can be understood.
fn response(frame: &Frame<'_>) -> Option<Response> {
    if frame.code == Code::EMPTY || frame.code.is_request() {
        return None;
    }
    Response::read(frame.code, frame.token, false, frame.options, frame.payload)
}

fn aborted(why: &str) -> ClientError {
    let why = why.replace(char::is_control, " ");
    ClientError::Aborted(if why.is_empty() {
        "it does not say why".to_owned()
    } else {
        why
    })
}
