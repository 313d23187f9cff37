//! A gateway that is a script: every message is looked at, every answer is chosen.

use std::net::{SocketAddr, UdpSocket};
use std::process::Child;

use tidegate_coap::codec::{Code, Kind, Message, Options, Token, Writer, number};

use super::run::{Ended, PATIENCE, Process, tidegate};

/// A socket, and who speaks with it.
pub(super) struct Script {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
}

/// A message of the client.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: Kind,
    pub(super) code: Code,
    pub(super) id: u16,
    pub(super) token: Token,
    pub(super) path: Vec<String>,
    pub(super) query: Vec<String>,
    pub(super) options: Vec<(u16, Vec<u8>)>,
    pub(super) payload: Vec<u8>,
}

impl Received {
    /// Type and identifier a frame does not have.
    pub(super) fn of(
        kind: Option<(Kind, u16)>,
        code: Code,
        token: Token,
        options: Options<'_>,
        payload: &[u8],
    ) -> Self {
        let texts = |number| {
            let all = options.all(number);
            all.map(|it| String::from_utf8(it.to_vec()).unwrap())
                .collect()
        };
        let (kind, id) = kind.unwrap_or((Kind::Confirmable, 0));
        Self {
            kind,
            code,
            id,
            token,
            path: texts(number::URI_PATH),
            query: texts(number::URI_QUERY),
            options: options
                .iter()
                .map(|it| (it.number, it.value.to_vec()))
                .collect(),
            payload: payload.to_vec(),
        }
    }

    pub(super) fn first(&self, number: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(other, _)| *other == number);
        found.map(|(_, value)| &value[..])
    }
}

impl Script {
    pub(super) fn listen() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, peer: None }
    }

    pub(super) fn url(&self) -> String {
        format!("coap://{}", self.socket.local_addr().unwrap())
    }

    pub(super) fn client(&self, arguments: &[&str]) -> Client {
        Client::start(&self.url(), arguments)
    }

    pub(super) fn receive(&mut self) -> Received {
        let mut buffer = [0; 2048];
        let (len, from) = self
            .socket
            .recv_from(&mut buffer)
            .expect("a message in time");
        self.peer = Some(from);
        let message = Message::parse(&buffer[..len]).unwrap();
        let kind = Some((message.kind, message.id));
        Received::of(
            kind,
            message.code,
            message.token,
            message.options,
            message.payload,
        )
    }

    /// Sends a message; the options are in the order of their numbers.
    pub(super) fn send(
        &self,
        kind: Kind,
        code: Code,
        id: u16,
        token: Token,
        options: &[(u16, &[u8])],
        payload: &[u8],
    ) {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, kind, code, id, token);
        for (number, value) in options {
            writer.option(*number, value);
        }
        writer.payload(payload);
        self.socket.send_to(&bytes, self.peer.unwrap()).unwrap();
    }

    /// Answers a request in its acknowledgement.
    pub(super) fn answer(
        &self,
        request: &Received,
        code: Code,
        options: &[(u16, &[u8])],
        payload: &[u8],
    ) {
        let kind = Kind::Acknowledgement;
        self.send(kind, code, request.id, request.token, options, payload);
    }

    /// A message without anything: it acknowledges, resets or pings.
    pub(super) fn empty(&self, kind: Kind, id: u16) {
        self.send(kind, Code::EMPTY, id, Token::default(), &[], b"");
    }

    /// The next one acknowledges or resets this.
    #[track_caller]
    pub(super) fn expect_empty(&mut self, kind: Kind, id: u16) {
        let received = self.receive();
        assert_eq!(
            (received.kind, received.code, received.id),
            (kind, Code::EMPTY, id)
        );
    }
}

pub(super) struct Client(Process);

impl Client {
    pub(super) fn start(url: &str, arguments: &[&str]) -> Self {
        Self(Process::start(&mut tidegate(url, arguments)))
    }

    pub(super) fn end(mut self) -> Ended {
        let child: &mut Child = &mut self.0.0;
        let text =
            |pipe: Option<Box<dyn std::io::Read>>| std::io::read_to_string(pipe.unwrap()).unwrap();
        let stdout = text(child.stdout.take().map(|it| Box::new(it) as _));
        let stderr = text(child.stderr.take().map(|it| Box::new(it) as _));
        let code = child.wait().unwrap().code();
        Ended {
            code,
            stdout,
            stderr,
        }
    }

    #[track_caller]
    pub(super) fn succeeds(self) -> String {
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr, "");
        ended.stdout
    }

    #[track_caller]
    pub(super) fn fails(self, code: i32, text: &str) {
        let ended = self.end();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
    }
}
