//! MQTT over WebSocket: the upgrade and the frames of RFC 6455, in any pieces.
//!
//! The first byte of the input says which. An upgrade of any bytes, in one piece and byte by byte,
//! comes to the same. Frames of any bytes give, in any pieces and with any room to read into, the
//! payload and the end that the decoder here finds, which has all bytes at once.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tidegate_websocket::{Settings, Upgrader, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pipe::{Client, Gateway, pipe};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const MOST_IN_FRAME: u64 = 600;
const MOST_IN_MESSAGE: u64 = 1_000;

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost:8083\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Checks an upgrade or a stream of frames.
pub fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let Ok(runtime) = runtime else {
        panic!("there is no runtime");
    };
    runtime.block_on(async {
        if what % 4 == 0 {
            check_upgrade(bytes).await;
        } else {
            check_frames(what, bytes).await;
        }
    });
}

fn upgrader() -> Upgrader {
    Upgrader::new(Settings {
        max_frame_bytes: MOST_IN_FRAME,
        max_message_bytes: MOST_IN_MESSAGE,
        ..Settings::default()
    })
}

// ---- the upgrade ---------------------------------------------------------------------------------

async fn check_upgrade(request: &[u8]) {
    let whole = upgrade(request, request.len().max(1)).await;
    let in_bytes = upgrade(request, 1).await;
    if request.first().is_some_and(u8::is_ascii_alphabetic) {
        assert_eq!(whole, in_bytes, "{}", request.escape_ascii());
    } else {
        // What it is instead of HTTP is guessed from what has come.
        assert!(whole.0.is_err() && in_bytes.0.is_err());
    }
    let (outcome, answer) = whole;
    let switched = answer.starts_with(b"HTTP/1.1 101 ");
    assert_eq!(outcome.is_ok(), switched, "{}", answer.escape_ascii());
    if !answer.is_empty() {
        let head = answer.windows(4).any(|end| end == b"\r\n\r\n");
        assert!(
            head && answer.starts_with(b"HTTP/1.1 "),
            "{}",
            answer.escape_ascii()
        );
    }
}

/// What an upgrade comes to, and what is answered.
async fn upgrade(request: &[u8], piece: usize) -> (Result<(), String>, Vec<u8>) {
    let (client, gateway) = pipe();
    let upgrading = tokio::spawn(async move { upgrader().upgrade(gateway, LOOPBACK).await });
    for piece in request.chunks(piece) {
        client.send(piece);
        tokio::task::yield_now().await;
    }
    client.close();
    let outcome = match upgrading.await {
        Ok(outcome) => outcome.map(drop).map_err(|error| error.to_string()),
        Err(error) => panic!("{error}"),
    };
    let mut answer = Vec::new();
    client.receive(&mut answer);
    (outcome, answer)
}

// ---- frames --------------------------------------------------------------------------------------

/// How a stream of frames ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The bytes were at their end.
    Lost,
    /// The client has closed it, with this code.
    Closed(Option<u16>),
    /// The client broke the protocol; the close code that answers is one of these.
    Failed(Vec<u16>),
}

#[derive(Debug)]
struct Expected {
    payload: Vec<u8>,
    pings: Vec<Vec<u8>>,
    end: End,
    /// The last header is not whole: what is wrong with it may be seen already.
    cut_header: bool,
}

async fn check_frames(what: u8, bytes: &[u8]) {
    let expected = decode(bytes);
    // The same stream in two ways.
    let (piece, room) = (
        usize::from(what >> 4) + 1,
        usize::from(what >> 2 & 3) * 7 + 1,
    );
    converse(bytes, bytes.len().max(1), 4_096, true, &expected).await;
    converse(bytes, piece, room, what & 4 == 0, &expected).await;
}

/// Sends `bytes` in pieces, reads with so much room, and holds what comes against `expected`.
/// `early`: the first piece comes together with the upgrade request.
async fn converse(bytes: &[u8], piece: usize, room: usize, early: bool, expected: &Expected) {
    let (client, gateway) = pipe();
    let mut pieces = bytes.chunks(piece);
    let mut first = REQUEST.to_vec();
    if early {
        first.extend(pieces.next().unwrap_or_default());
    }
    client.send(&first);
    let mut socket = match upgrader().upgrade(gateway, LOOPBACK).await {
        Ok(socket) => socket,
        Err(error) => panic!("a good request: {error}"),
    };
    let mut answered = Vec::new();
    client.receive(&mut answered);
    assert!(answered.starts_with(b"HTTP/1.1 101 "));
    answered.clear();

    let mut payload = Vec::new();
    let mut end = read(&client, &mut socket, room, &mut payload);
    while end.is_none()
        && let Some(piece) = pieces.next()
    {
        client.send(piece);
        end = read(&client, &mut socket, room, &mut payload);
    }
    let end = end.unwrap_or(End::Lost);
    assert_eq!(payload, expected.payload, "{end:?}");
    match (&end, &expected.end) {
        (End::Failed(code), End::Failed(codes)) => {
            assert!(codes.contains(&code[0]), "{end:?} {codes:?}");
        }
        (End::Failed(_), End::Lost) if expected.cut_header => {}
        // The stream is at its end after a close frame; with which code is seen below.
        (End::Lost, End::Lost) | (End::Closed(_), End::Closed(_)) => {}
        (end, expected) => panic!("{end:?} instead of {expected:?}"),
    }
    let context = &mut Context::from_waker(Waker::noop());
    let shut = Pin::new(&mut socket).poll_shutdown(context);
    assert!(matches!(shut, Poll::Ready(Ok(()))), "{shut:?}");
    client.receive(&mut answered);
    check_answers(&answered, &end, expected);
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads until everything that has come is read, or the end.
fn read(
    client: &Client,
    socket: &mut WebSocket<Gateway>,
    room: usize,
    payload: &mut Vec<u8>,
) -> Option<End> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut bytes = vec![0; room];
    loop {
        let mut buf = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut *socket).poll_read(&mut Context::from_waker(&waker), &mut buf);
        match read {
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => {
                assert!(client.is_drained(), "it waits for what has come");
                return None;
            }
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Some(End::Closed(None)),
            Poll::Ready(Ok(())) => payload.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                let Some(violation) = socket.violation() else {
                    panic!("{error}");
                };
                return Some(End::Failed(vec![violation.close_code()]));
            }
        }
    }
}

/// What the gateway said: pongs of pings that were sent, in their order, then one close frame.
fn check_answers(mut bytes: &[u8], end: &End, expected: &Expected) {
    let mut pings = expected.pings.iter();
    let (mut last, mut last_pong) = (None, None);
    while let [first, len, rest @ ..] = bytes {
        assert!(*len <= 125, "a control frame of the gateway");
        let (body, rest) = rest.split_at(usize::from(*len));
        assert!(
            !matches!(last, Some(0x88)),
            "something behind the close frame"
        );
        match first {
            0x8a => {
                assert!(pings.any(|ping| ping == body), "a pong to no ping");
                last_pong = Some(body);
            }
            0x88 => {
                let code = body.first_chunk().map(|code| u16::from_be_bytes(*code));
                let wanted = match (end, &expected.end) {
                    (End::Failed(codes), _) => Some(codes[0]),
                    (_, End::Closed(code)) => *code,
                    _ => Some(1000),
                };
                assert_eq!(code, wanted);
            }
            other => panic!("a frame of the gateway that begins with {other:#04x}"),
        }
        last = Some(*first);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame of the gateway");
    assert_eq!(last, Some(0x88), "no close frame");
    if *end == End::Lost {
        // Section 5.5.3: the newest ping has its pong at least.
        assert_eq!(last_pong, expected.pings.last().map(Vec::as_slice));
    }
}

/// Takes a whole stream apart, by the letter of RFC 6455 sections 5 and 7.
fn decode(mut bytes: &[u8]) -> Expected {
    let mut expected = Expected {
        payload: Vec::new(),
        pings: Vec::new(),
        end: End::Lost,
        cut_header: false,
    };
    let mut message = None;
    loop {
        let Some((head, rest)) = Head::read(bytes) else {
            expected.cut_header = !bytes.is_empty();
            return expected;
        };
        let codes = head.violations(message);
        if !codes.is_empty() {
            expected.end = End::Failed(codes);
            return expected;
        }
        let len = usize::try_from(head.len).map_or(rest.len(), |len| len.min(rest.len()));
        let (masked, rest) = rest.split_at(len);
        let whole = masked.len() as u64 == head.len;
        let body: Vec<u8> = masked
            .iter()
            .zip(head.mask.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        match head.opcode {
            0x0 | 0x2 => {
                expected.payload.extend(body);
                let before = message.unwrap_or(0);
                message = (!head.is_final).then_some(before + head.len);
            }
            0x9 if whole => expected.pings.push(body),
            0x8 if whole => {
                expected.end = closed(&body);
                return expected;
            }
            _ => {}
        }
        if !whole {
            return expected;
        }
        bytes = rest;
    }
}

struct Head {
    is_final: bool,
    reserved: bool,
    opcode: u8,
    masked: bool,
    /// The length is in its shortest form, and in 63 bits.
    well_formed: bool,
    len: u64,
    mask: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[first, second], mut rest) = bytes.split_first_chunk()?;
        let (len, least) = match second & 0x7f {
            126 => {
                let (len, after) = rest.split_first_chunk()?;
                rest = after;
                (u64::from(u16::from_be_bytes(*len)), 126)
            }
            127 => {
                let (len, after) = rest.split_first_chunk()?;
                rest = after;
                (u64::from_be_bytes(*len), 65_536)
            }
            short => (u64::from(short), 0),
        };
        let mut mask = [0; 4];
        let masked = second & 0x80 != 0;
        if masked {
            let (key, after) = rest.split_first_chunk()?;
            (mask, rest) = (*key, after);
        }
        let head = Self {
            is_final: first & 0x80 != 0,
            reserved: first & 0x70 != 0,
            opcode: first & 0x0f,
            masked,
            well_formed: len >= least && len < 1 << 63,
            len,
            mask,
        };
        Some((head, rest))
    }

    /// The close codes of everything that is wrong. `message` is the length so far of the message
    /// that is not at its end.
    fn violations(&self, message: Option<u64>) -> Vec<u16> {
        let mut codes = Vec::new();
        let control = self.opcode >= 0x8;
        let wrong = self.reserved
            || !self.masked
            || !self.well_formed
            || matches!(self.opcode, 0x3..=0x7 | 0xb..=0xf)
            || (control && (!self.is_final || self.len > 125))
            || (self.opcode == 0x0 && message.is_none())
            || (matches!(self.opcode, 0x1 | 0x2) && message.is_some());
        if wrong {
            codes.push(1002);
        }
        if self.opcode == 0x1 {
            codes.push(1003);
        }
        let total = message.unwrap_or(0).saturating_add(self.len);
        if !control && (self.len > MOST_IN_FRAME || total > MOST_IN_MESSAGE) {
            codes.push(1009);
        }
        codes
    }
}

fn closed(body: &[u8]) -> End {
    let Some((code, reason)) = body.split_first_chunk() else {
        return if body.is_empty() {
            End::Closed(None)
        } else {
            End::Failed(vec![1002])
        };
    };
    let code = u16::from_be_bytes(*code);
    let mut codes = Vec::new();
    // Section 7.4; 1012 to 1014 are registered with IANA.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        codes.push(1002);
    }
    if std::str::from_utf8(reason).is_err() {
        codes.push(1007);
    }
    if codes.is_empty() {
        End::Closed(Some(code))
    } else {
        End::Failed(codes)
    }
}
