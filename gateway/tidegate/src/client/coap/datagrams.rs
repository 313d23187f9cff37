//! Messages over datagrams, from a client's side and without a socket (RFC 7252 section 4): identifiers, repetitions,
//! acknowledgements, and what comes twice.
//!
//! It does not know what requests are about. Whoever sends one request after the other keeps to NSTART = 1.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tidegate_coap::codec::{Code, Kind, Message, ParseError, Token, Writer};

use super::arrival::{Arrival, GaveUp};
use super::chance::Chance;
use super::draft::Draft;
use super::response::Response;

/// How often a message is repeated (section 4.8).
const MAX_RETRANSMIT: u32 = 4;

/// How long an identifier may not be used again, and a response may take that comes after an acknowledgement
/// (section 4.8.2).
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// Messages of the gateway that are remembered in case they come twice.
const REMEMBERED: usize = 4096;

/// Messages that are on their way, and that have come.
#[derive(Debug)]
pub(super) struct Datagrams {
    ack_timeout: Duration,
    chance: Chance,
    last_id: u16,
    /// When the identifiers were used that may not be used again, the oldest first.
    used: VecDeque<Instant>,
    /// Whose responses are waited for.
    expected: BTreeSet<Token>,
    outstanding: Vec<Outstanding>,
    /// Messages that came, and when; the oldest first.
    seen: VecDeque<(u16, Instant)>,
    out: VecDeque<Vec<u8>>,
}

/// A confirmable message that was not answered.
#[derive(Debug)]
struct Outstanding {
    id: u16,
    /// `None` for a ping.
    token: Option<Token>,
    bytes: Vec<u8>,
    due: Instant,
    timeout: Duration,
    attempts: u32,
    /// It came; the response comes in a message of its own.
    acknowledged: bool,
}

impl Datagrams {
    /// `ack_timeout`: the time before a message is repeated for the first time, at least.
    pub(super) fn new(ack_timeout: Duration, mut chance: Chance) -> Self {
        Self {
            ack_timeout,
            last_id: chance.next() as u16,
            chance,
            used: VecDeque::new(),
            expected: BTreeSet::new(),
            outstanding: Vec::new(),
            seen: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// Until when no message may be sent, because every identifier was used within its lifetime (section 4.4).
    pub(super) fn exhausted_until(&mut self, now: Instant) -> Option<Instant> {
        while let Some(oldest) = self.used.front()
            && *oldest + EXCHANGE_LIFETIME <= now
        {
            self.used.pop_front();
        }
        // A ping now and then is always possible.
        let is_exhausted = self.used.len() >= usize::from(u16::MAX) - 16;
        let oldest = self.used.front().filter(|_| is_exhausted);
        oldest.map(|oldest| *oldest + EXCHANGE_LIFETIME)
    }

    /// Sends a request, and again until something comes back.
    pub(super) fn send(&mut self, draft: &Draft, now: Instant) {
        let id = self.next_id(now);
        let mut bytes = Vec::new();
        let (code, token) = (draft.code, draft.token);
        draft.write(Writer::new(&mut bytes, Kind::Confirmable, code, id, token));
        self.expected.insert(token);
        self.confirm(id, Some(token), bytes, now);
    }

    /// Asks whether anybody is there (section 4.3).
    pub(super) fn ping(&mut self, now: Instant) {
        let id = self.next_id(now);
        let mut bytes = Vec::new();
        Writer::empty(&mut bytes, Kind::Confirmable, id);
        self.confirm(id, None, bytes, now);
    }

    fn confirm(&mut self, id: u16, token: Option<Token>, bytes: Vec<u8>, now: Instant) {
        // Up to ACK_RANDOM_FACTOR, 1.5, times as long (section 4.8).
        let random = self.chance.next() % 1_000;
        let timeout = self.ack_timeout + self.ack_timeout / 2 * random as u32 / 1_000;
        self.out.push_back(bytes.clone());
        self.outstanding.push(Outstanding {
            id,
            token,
            bytes,
            due: now + timeout,
            timeout,
            attempts: 0,
            acknowledged: false,
        });
    }

    fn next_id(&mut self, now: Instant) -> u16 {
        self.used.push_back(now);
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// No response with this token is waited for any more.
    pub(super) fn forget(&mut self, token: Token) {
        self.expected.remove(&token);
        self.outstanding.retain(|it| it.token != Some(token));
    }

    /// Takes a datagram. What cannot be read is passed over, or refused when it is confirmable.
    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) -> Option<Arrival> {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(ParseError::Format {
                kind: Kind::Confirmable,
                id,
                ..
            }) => {
                self.empty(Kind::Reset, id);
                return None;
            }
            Err(_) => return None,
        };
        match message.kind {
            Kind::Acknowledgement | Kind::Reset => self.receive_reply(&message, now),
            Kind::Confirmable | Kind::NonConfirmable => self.receive_message(&message, now),
        }
    }

    /// What comes back to a message of ours.
    fn receive_reply(&mut self, message: &Message<'_>, now: Instant) -> Option<Arrival> {
        let place = self.outstanding.iter().position(|it| it.id == message.id)?;
        if message.kind == Kind::Reset {
            return Some(match self.outstanding.remove(place).token {
                None => Arrival::Pong,
                Some(token) => {
                    self.expected.remove(&token);
                    Arrival::Reset(token)
                }
            });
        }
        let waiting = &mut self.outstanding[place];
        if message.code == Code::EMPTY {
            waiting.acknowledged = true;
            waiting.due = now + EXCHANGE_LIFETIME;
            return None;
        }
        // A response in an acknowledgement is that of the request (section 5.2.1).
        if waiting.token != Some(message.token) {
            return None;
        }
        let response = response(message)?;
        self.outstanding.swap_remove(place);
        Some(Arrival::Response(response))
    }

    /// A message of its own: a response, or a ping.
    fn receive_message(&mut self, message: &Message<'_>, now: Instant) -> Option<Arrival> {
        let confirmable = message.kind == Kind::Confirmable;
        let known = self.expected.contains(&message.token);
        if message.code == Code::EMPTY || message.code.class() < 2 || !known {
            // A ping; a request, though nothing is served here; or what nobody waits for, the notification of an
            // observation that has ended, say (RFC 7641 section 3.6). What came twice is not one of those.
            let again = self.is_repeated(message.id, now);
            if confirmable {
                let kind = match again && message.code != Code::EMPTY {
                    true => Kind::Acknowledgement,
                    false => Kind::Reset,
                };
                self.empty(kind, message.id);
            } else if message.code != Code::EMPTY && !again {
                self.empty(Kind::Reset, message.id);
            }
            return None;
        }
        let Some(response) = response(message) else {
            self.empty(Kind::Reset, message.id);
            return None;
        };
        if confirmable {
            self.empty(Kind::Acknowledgement, message.id);
        }
        if self.is_repeated(message.id, now) {
            return None;
        }
        self.seen.push_back((message.id, now));
        // It is the acknowledgement as well, when that was lost (section 5.2.2).
        self.outstanding
            .retain(|it| it.token != Some(message.token));
        Some(Arrival::Response(response))
    }

    fn is_repeated(&mut self, id: u16, now: Instant) -> bool {
        while let Some((_, when)) = self.seen.front()
            && (*when + EXCHANGE_LIFETIME <= now || self.seen.len() >= REMEMBERED)
        {
            self.seen.pop_front();
        }
        self.seen.iter().rev().any(|(seen, _)| *seen == id)
    }

    fn empty(&mut self, kind: Kind, id: u16) {
        let mut bytes = Vec::new();
        Writer::empty(&mut bytes, kind, id);
        self.out.push_back(bytes);
    }

    /// When something must be done although nothing happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.outstanding.iter().map(|it| it.due).min()
    }

    /// Repeats what was not answered in time, or gives it up.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), GaveUp> {
        for place in 0..self.outstanding.len() {
            let waiting = &mut self.outstanding[place];
            if waiting.due > now {
                continue;
            }
            if waiting.attempts >= MAX_RETRANSMIT || waiting.acknowledged {
                let waiting = self.outstanding.swap_remove(place);
                return Err(match waiting.token {
                    None => GaveUp::Ping,
                    Some(_) => GaveUp::Request,
                });
            }
            waiting.attempts += 1;
            waiting.timeout *= 2;
            waiting.due = now + waiting.timeout;
            self.out.push_back(waiting.bytes.clone());
        }
        Ok(())
    }

    /// The next datagram for the gateway.
    pub(super) fn output(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }
}

fn response(message: &Message<'_>) -> Option<Response> {
    Response::read(
        message.code,
        message.token,
        message.kind == Kind::Confirmable,
        message.options,
        message.payload,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_TIMEOUT: Duration = Duration::from_secs(2);

    fn datagrams() -> Datagrams {
        Datagrams::new(ACK_TIMEOUT, Chance::new())
    }

    fn request(text: &[u8]) -> Draft {
        let mut draft = Draft::new(Code::GET);
        draft.token = Token::new(text).unwrap();
        draft
    }

    /// What a gateway says.
    fn said(kind: Kind, code: Code, id: u16, token: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, kind, code, id, Token::new(token).unwrap());
        bytes
    }

    fn sent(datagrams: &mut Datagrams) -> Vec<(Kind, Code, u16)> {
        let all = std::iter::from_fn(|| datagrams.output());
        let seen = all.map(|bytes| {
            let message = Message::parse(&bytes).unwrap();
            (message.kind, message.code, message.id)
        });
        seen.collect()
    }

    #[test]
    fn rfc7252_4_2_a_message_is_repeated_four_times_each_time_after_twice_as_long() {
        let mut now = Instant::now();
        let mut datagrams = datagrams();
        datagrams.send(&request(b"a"), now);
        let first = sent(&mut datagrams);
        let mut before = None;
        for _ in 0..MAX_RETRANSMIT {
            let due = datagrams.due().unwrap();
            let waited = due - now;
            let expected = before.map_or(ACK_TIMEOUT..=ACK_TIMEOUT * 3 / 2, |before| {
                before * 2..=before * 2
            });
            assert!(expected.contains(&waited), "{waited:?}");
            assert_eq!(datagrams.handle_timeout(now), Ok(()));
            assert_eq!(sent(&mut datagrams), [], "not before its time");
            (before, now) = (Some(waited), due);
            assert_eq!(datagrams.handle_timeout(now), Ok(()));
            assert_eq!(sent(&mut datagrams), first, "the same message");
        }
        now = datagrams.due().unwrap();
        assert_eq!(datagrams.handle_timeout(now), Err(GaveUp::Request));
        assert_eq!(datagrams.due(), None);
    }

    #[test]
    fn rfc7252_5_2_2_a_response_may_come_after_its_acknowledgement_or_instead_of_it() {
        for acknowledged_first in [true, false] {
            let now = Instant::now();
            let mut datagrams = datagrams();
            datagrams.send(&request(b"a"), now);
            let [(.., id)] = sent(&mut datagrams)[..] else {
                panic!()
            };
            if acknowledged_first {
                let ack = said(Kind::Acknowledgement, Code::EMPTY, id, b"");
                assert_eq!(datagrams.receive(&ack, now), None);
                assert_eq!(datagrams.due(), Some(now + EXCHANGE_LIFETIME));
            }
            let separate = said(Kind::Confirmable, Code::CONTENT, 700, b"a");
            let arrived = datagrams.receive(&separate, now);
            assert!(matches!(arrived, Some(Arrival::Response(_))), "{arrived:?}");
            assert_eq!(datagrams.due(), None);
            let acknowledged = [(Kind::Acknowledgement, Code::EMPTY, 700)];
            assert_eq!(sent(&mut datagrams), acknowledged);
            // The acknowledgement was lost: the same again, and no second response, whoever still waits for one.
            assert_eq!(datagrams.receive(&separate, now), None);
            assert_eq!(sent(&mut datagrams), acknowledged);
            datagrams.forget(Token::new(b"a").unwrap());
            assert_eq!(datagrams.receive(&separate, now), None);
            assert_eq!(sent(&mut datagrams), acknowledged);
        }
    }

    #[test]
    fn rfc7252_4_3_and_rfc7641_3_6_what_nobody_waits_for_and_a_ping_are_reset() {
        let now = Instant::now();
        let mut datagrams = datagrams();
        for (kind, code, token, is_reset) in [
            (Kind::Confirmable, Code::EMPTY, &b""[..], true),
            (Kind::Confirmable, Code::CONTENT, b"?", true),
            (Kind::NonConfirmable, Code::CONTENT, b"?", true),
            (Kind::Confirmable, Code::GET, b"?", true),
            (Kind::NonConfirmable, Code::EMPTY, b"", false),
            (Kind::Acknowledgement, Code::CONTENT, b"?", false),
            (Kind::Reset, Code::EMPTY, b"", false),
        ] {
            assert_eq!(datagrams.receive(&said(kind, code, 9, token), now), None);
            let expected: &[_] = match is_reset {
                true => &[(Kind::Reset, Code::EMPTY, 9)],
                false => &[],
            };
            assert_eq!(sent(&mut datagrams), expected, "{kind:?} {code:?}");
        }
        // A reserved length of an option; a version that is not known.
        assert_eq!(datagrams.receive(&[0x40, 0x45, 0, 9, 0xF0], now), None);
        assert_eq!(sent(&mut datagrams), [(Kind::Reset, Code::EMPTY, 9)]);
        assert_eq!(datagrams.receive(&[0x80, 0x45, 0, 9], now), None);
        assert_eq!(sent(&mut datagrams), []);
    }

    #[test]
    fn rfc7252_4_3_a_reset_answers_a_ping_and_refuses_a_request() {
        let now = Instant::now();
        let mut datagrams = datagrams();
        datagrams.ping(now);
        datagrams.send(&request(b"a"), now);
        let [(.., ping), (.., request)] = sent(&mut datagrams)[..] else {
            panic!()
        };
        let reset = |id| said(Kind::Reset, Code::EMPTY, id, b"");
        assert_eq!(datagrams.receive(&reset(ping), now), Some(Arrival::Pong));
        let refused = Some(Arrival::Reset(Token::new(b"a").unwrap()));
        assert_eq!(datagrams.receive(&reset(request), now), refused);
        assert_eq!(datagrams.receive(&reset(request), now), None);
        assert_eq!(datagrams.due(), None);
    }

    #[test]
    fn rfc7252_5_4_1_a_response_with_an_unknown_critical_option_is_none() {
        let now = Instant::now();
        let mut datagrams = datagrams();
        datagrams.send(&request(b"a"), now);
        sent(&mut datagrams);
        let mut bytes = Vec::new();
        let token = Token::new(b"a").unwrap();
        Writer::new(&mut bytes, Kind::Confirmable, Code::CONTENT, 5, token).option(9, b"");
        assert_eq!(datagrams.receive(&bytes, now), None);
        assert_eq!(sent(&mut datagrams), [(Kind::Reset, Code::EMPTY, 5)]);
        assert!(datagrams.due().is_some(), "the request still waits");
    }

    #[test]
    fn rfc7252_4_4_an_identifier_is_not_used_again_within_its_lifetime() {
        let begun = Instant::now();
        let mut datagrams = datagrams();
        let mut ids = BTreeSet::new();
        while datagrams.exhausted_until(begun).is_none() {
            datagrams.ping(begun);
            datagrams.outstanding.clear();
            let [(.., id)] = sent(&mut datagrams)[..] else {
                panic!()
            };
            assert!(ids.insert(id));
        }
        assert!(ids.len() > 65_000);
        let until = begun + EXCHANGE_LIFETIME;
        assert_eq!(datagrams.exhausted_until(begun), Some(until));
        assert_eq!(datagrams.exhausted_until(until), None);
    }
}
