//! The scripted gateway and the client that runs against it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    ConnAck, Disconnect, Packet, Properties, Property, PropertyBlock, Publish, PublishProperties,
    ReasonCode, ReasonCodes, Split, SubAck, Version, decode, split,
};

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the scripted gateway listens.
pub(crate) struct Gateway(TcpListener);

/// One connection to it.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
    pub(crate) buffer: Vec<u8>,
}

/// A client that runs.
pub(crate) struct Client(Child);

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Gateway {
    pub(crate) fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Client {
        let url = format!("mqtt://{}", self.address());
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(arguments)
            .args(["--url", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Client(child.unwrap())
    }

    pub(crate) fn accept(&self, version: Version) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let buffer = Vec::new();
        Peer {
            stream,
            version,
            buffer,
        }
    }

    /// Accepts a connection and its CONNECT, which `check` looks at.
    pub(crate) fn connected(&self, version: Version, check: impl FnOnce(&Packet<'_>)) -> Peer {
        self.connected_with(version, &PropertyBlock::new(), check)
    }

    pub(crate) fn connected_with(
        &self,
        version: Version,
        properties: &PropertyBlock,
        check: impl FnOnce(&Packet<'_>),
    ) -> Peer {
        let mut peer = self.accept(version);
        peer.receive(|packet| {
            assert!(matches!(packet, Packet::Connect(_)), "{packet:?}");
            check(packet);
        });
        peer.send(&Packet::ConnAck(ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: properties.as_properties(),
        }));
        peer
    }
}

impl Peer {
    pub(crate) fn receive<T>(&mut self, look: impl FnOnce(&Packet<'_>) -> T) -> T {
        loop {
            if let Split::Frame(frame) = split(&self.buffer, u32::MAX).unwrap() {
                let result = look(&decode(self.version, frame).unwrap());
                let len = frame.len;
                self.buffer.drain(..len);
                return result;
            }
            let mut bytes = [0; 4096];
            let count = match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count.expect("a packet in time"),
            };
            assert_ne!(count, 0, "the client closed");
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Nothing that was not received has come so far.
    pub(crate) fn assert_quiet(&self) {
        assert_eq!(self.buffer, b"");
        self.stream.set_nonblocking(true).unwrap();
        let error = self.stream.peek(&mut [0]).expect_err("nothing more comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
    }

    /// The client says goodbye; the connection is closed.
    pub(crate) fn expect_goodbye(mut self) {
        self.receive(|packet| {
            assert_eq!(
                *packet,
                Packet::Disconnect(Disconnect::with_reason(ReasonCode::Success))
            );
        });
    }

    pub(crate) fn subscribed(&mut self) {
        let id = self.receive(|packet| match packet {
            Packet::Subscribe(subscribe) => subscribe.packet_id,
            other => panic!("{other:?}"),
        });
        self.send(&Packet::SubAck(SubAck {
            packet_id: id,
            properties: Properties::EMPTY,
            reasons: ReasonCodes::new(&[ReasonCode::GrantedQos2]),
        }));
    }
}

impl Client {
    pub(crate) fn input(&mut self, text: &str) {
        let mut stdin = self.0.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn end(mut self) -> Ended {
        drop(self.0.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        let code = self.0.wait().unwrap().code();
        Ended {
            code,
            stdout,
            stderr,
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        let ended = self.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr, "");
        ended.stdout
    }

    /// It ends with `code` and says `text`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, text: &str) {
        let ended = self.end();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

pub(crate) fn message<'a>(
    topic: &'a str,
    payload: &'a [u8],
    qos: QoS,
    packet_id: u16,
    properties: &'a PropertyBlock,
) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: (!topic.is_empty()).then(|| TopicName::new(topic).unwrap()),
        packet_id: NonZeroU16::new(packet_id),
        properties: PublishProperties::parse(properties.raw()).unwrap(),
        payload,
    })
}

pub(crate) fn block(properties: &[Property<'_>]) -> PropertyBlock {
    let mut block = PropertyBlock::new();
    block.extend(properties.iter().copied());
    block
}

pub(crate) const VERSIONS: [(&str, Version); 3] = [
    ("3.1", Version::V3_1),
    ("3.1.1", Version::V3_1_1),
    ("5", Version::V5),
];

pub(crate) fn publish_id(packet: &Packet<'_>) -> NonZeroU16 {
    match packet {
        Packet::Publish(publish) => publish.packet_id.unwrap(),
        other => panic!("{other:?}"),
    }
}
