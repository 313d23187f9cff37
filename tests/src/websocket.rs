//! WebSocket by hand (RFC 6455): requests and frames that may be wrong in any way.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wire::patience;

/// The key of RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcodes of RFC 6455 section 5.2.
pub mod opcode {
    /// A further part of a message.
    pub const CONTINUATION: u8 = 0;
    /// A text message.
    pub const TEXT: u8 = 1;
    /// A binary message.
    pub const BINARY: u8 = 2;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// A request for a WebSocket, to be changed line by line.
#[derive(Clone, Debug)]
pub struct Upgrade {
    line: String,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// What a client sends that does all right.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let headers = [
            ("Host", server.to_string()),
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Key", KEY.to_owned()),
            ("Sec-WebSocket-Version", "13".to_owned()),
            ("Sec-WebSocket-Protocol", "mqtt".to_owned()),
        ];
        Self {
            line: "GET /mqtt HTTP/1.1".to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
        }
    }

    /// With another request line.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    /// With this header instead of any of its name.
    #[must_use]
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).add(name, value)
    }

    /// With one more header.
    #[must_use]
    pub fn add(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without the headers of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn text(&self) -> String {
        let headers = self.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("{}\r\n{headers}\r\n", self.line)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The last of its message.
    pub last: bool,
    /// See [`opcode`].
    pub opcode: u8,
    /// Unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        (self.opcode == opcode::CLOSE).then(|| u16::from_be_bytes([code[0], code[1]]))
    }
}

/// A whole message in a frame, masked as a client must.
#[must_use]
pub fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x80 | opcode, payload)
}

/// A frame with this first byte (FIN, reserved bits, opcode), masked.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = header(first, true, payload.len() as u64);
    bytes.extend_from_slice(&mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// A frame that is not masked.
#[must_use]
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, false, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// The beginning of a frame, up to its length.
#[must_use]
pub fn header(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask | length as u8),
        126..=0xFFFF => {
            bytes.push(mask | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// What follows, where the server closes behind it.
    pub body: String,
}

impl Answer {
    /// The value of a header, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

/// A connection of bytes to a WebSocket's port.
pub struct RawWebSocket {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawWebSocket {
    /// Opens TCP and sends nothing.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    #[must_use]
    #[track_caller]
    pub fn dial(server: SocketAddr) -> Self {
        let open = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&server, patience())?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(patience()))?;
            Ok(stream)
        };
        let stream = open().unwrap_or_else(|error| panic!("no connection to {server}: {error}"));
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Opens a WebSocket; the server must accept.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn open(server: SocketAddr) -> Self {
        let mut socket = Self::dial(server);
        socket.send(Upgrade::to(server).text().as_bytes());
        let answer = socket.expect_head();
        assert_eq!(answer.status, 101, "{answer:?}");
        socket
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// If they are not taken.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .unwrap_or_else(|error| panic!("{} bytes were not sent: {error}", bytes.len()));
    }

    /// Sends bytes to a server that may have closed already.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Ends TCP at once.
    pub fn cut(&self) {
        // Gone already is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The head of an HTTP answer; what follows is left.
    ///
    /// # Panics
    ///
    /// If none comes.
    #[track_caller]
    pub fn expect_head(&mut self) -> Answer {
        let end = loop {
            let found = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at;
            }
            assert!(
                self.more(patience()),
                "an HTTP answer expected, closed after {:?}",
                String::from_utf8_lossy(&self.received)
            );
        };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("not HTTP: {head:?}")),
            head,
            body: String::new(),
        }
    }

    /// An HTTP answer behind which the server closes.
    ///
    /// # Panics
    ///
    /// If none comes, or the connection stays open.
    #[track_caller]
    pub fn expect_answer(&mut self) -> Answer {
        let mut answer = self.expect_head();
        while self.more(patience()) {}
        answer.body = String::from_utf8_lossy(&self.received).into_owned();
        answer
    }

    /// The next frame; the server's are not masked (5.1).
    ///
    /// # Panics
    ///
    /// If there is none, or it is masked.
    #[track_caller]
    pub fn expect_frame(&mut self) -> Frame {
        self.next_frame()
            .unwrap_or_else(|| panic!("a frame expected, the server closed"))
    }

    /// The next frame, or `None` once the server has closed.
    ///
    /// # Panics
    ///
    /// If nothing comes, or a frame is masked or cut short.
    #[track_caller]
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            if !self.more(patience()) {
                let left = &self.received;
                assert!(
                    left.is_empty(),
                    "closed in the middle of a frame: {left:02x?}"
                );
                return None;
            }
        }
    }

    /// The next message is a CONNACK that lets the client in.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect_connack(&mut self) {
        let answer = self.expect_message();
        assert_eq!((answer[0], answer[3]), (0x20, 0), "CONNACK: {answer:02x?}");
    }

    /// The content of the next binary message, pongs aside.
    ///
    /// # Panics
    ///
    /// If something else comes.
    #[track_caller]
    pub fn expect_message(&mut self) -> Vec<u8> {
        let frame = self.expect_frame();
        assert_eq!(
            (frame.last, frame.opcode),
            (true, opcode::BINARY),
            "{frame:?}"
        );
        frame.payload
    }

    /// The server must send a close frame of this code and then close TCP. Messages before it are
    /// passed over.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        loop {
            let frame = self
                .next_frame()
                .unwrap_or_else(|| panic!("close frame {code} expected, the server closed TCP"));
            if frame.opcode == opcode::CLOSE {
                assert_eq!(frame.close_code(), Some(code), "{frame:?}");
                break;
            }
        }
        // Some servers wait for the answer to their close frame (7.1.1).
        let _ = self.try_send(&message(opcode::CLOSE, &code.to_be_bytes()));
        self.expect_end();
    }

    /// The server must close TCP and send nothing more.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert!(
            !self.more(patience()) && self.received.is_empty(),
            "the server was to close, but sent {:02x?}",
            self.received
        );
    }

    /// The server must close TCP, and may say why in an answer of this status.
    ///
    /// # Panics
    ///
    /// If it does not close, or says something else.
    #[track_caller]
    pub fn expect_end_or_answer(&mut self, status: u16) {
        while self.more(patience()) {}
        let said = String::from_utf8_lossy(&self.received);
        let fits = said.is_empty() || said.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(fits, "an end expected, or {status}: {said:?}");
    }

    /// Sends until `end` at most; whether all of it was taken.
    #[must_use]
    pub fn try_send_within(&mut self, bytes: &[u8], end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        let _ = self.stream.set_write_timeout(Some(left));
        self.stream.write_all(bytes).is_ok()
    }

    /// Whether the server stays silent and open for this time.
    #[must_use]
    #[track_caller]
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(time));
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        self.received.is_empty() && peeked.is_err_and(|error| kinds.contains(&error.kind()))
    }

    /// Reads more; `false` once the server has closed.
    #[track_caller]
    fn more(&mut self, within: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(within));
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!(
                "neither bytes nor an end: {error}; so far {:?}",
                String::from_utf8_lossy(&self.received)
            ),
        }
    }
}

/// A frame at the beginning of `bytes`, and its length.
#[track_caller]
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(
        second & 0x80,
        0,
        "a server must not mask (5.1): {bytes:02x?}"
    );
    assert_eq!(first & 0x70, 0, "reserved bits (5.2): {bytes:02x?}");
    let (start, length) = match second {
        126 => {
            let length = bytes.get(2..4)?;
            (4, u64::from(u16::from_be_bytes([length[0], length[1]])))
        }
        127 => {
            let length = bytes.get(2..10)?;
            (
                10,
                length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            )
        }
        short => (2, short.into()),
    };
    let payload = bytes.get(start..start + usize::try_from(length).ok()?)?;
    let frame = Frame {
        last: first & 0x80 != 0,
        opcode: first & 0x0F,
        payload: payload.to_vec(),
    };
    Some((frame, start + payload.len()))
}
