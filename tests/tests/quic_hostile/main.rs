//! QUIC from somebody who means no good: floods of handshakes and streams, no credit, packets that are none, packets
//! of somebody else. What is asked is the same each time: nothing grows without a limit, the gateway is no amplifier,
//! and its other clients notice nothing.

#![expect(
    clippy::unwrap_used,
    reason = "helpers are part of a test: what fails in them fails the test"
)]

mod datagrams;
mod floods;
mod forged;
mod handshakes;
mod packets;
mod raw;
mod streams;
mod windows;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime,
    TransportConfig,
};
use tidegate_tests::wire::{Client, Connect, PATIENCE, Publish, Subscribe, Version};
use tidegate_tests::{Gateway, TlsClient, Transport, unique};
use tokio::runtime::Runtime;

/// Carries the connections of quinn, also while a test waits elsewhere.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
});

/// How long an exchange between others may take while somebody attacks. A lost datagram is sent again after a
/// second or less, so more than that is the attack's. Generous, since the machine may be busy.
const DELAY: Duration = Duration::from_secs(5);

/// Two clients, of QUIC and of TCP, that send messages to each other and lose none.
struct Neighbours {
    quic: Client,
    tcp: Client,
    topics: [String; 2],
    sent: usize,
}

impl Neighbours {
    #[track_caller]
    fn of(gateway: &Gateway) -> Self {
        let server = gateway.listener("quic", Transport::Quic);
        let topics = [unique("to-quic"), unique("to-tcp")];
        let mut quic = Connect::v5(&unique("quic")).open(server);
        let mut tcp = Connect::v5(&unique("tcp")).open(gateway.mqtt());
        quic.subscribe(&topics[0], 1);
        tcp.subscribe(&topics[1], 1);
        Self {
            quic,
            tcp,
            topics,
            sent: 0,
        }
    }

    /// One message each way; the next in order, and in time.
    #[track_caller]
    fn exchange(&mut self) {
        let began = Instant::now();
        let payload = self.sent.to_string();
        self.sent += 1;
        let [to_quic, to_tcp] = &self.topics;
        self.tcp.publish(&Publish::new(to_quic, &payload).qos(1));
        assert_eq!(self.quic.receive().text(), payload);
        self.quic.publish(&Publish::new(to_tcp, &payload).qos(1));
        assert_eq!(self.tcp.receive().text(), payload);
        let took = began.elapsed();
        assert!(took < DELAY, "an exchange took {took:?}");
    }

    /// They are there, and have got nothing beyond what was sent.
    #[track_caller]
    fn part(mut self) {
        self.exchange();
        self.quic.expect_nothing();
        self.tcp.expect_nothing();
        self.quic.disconnect();
        self.tcp.disconnect();
    }
}

/// A connection of quinn's, by a client of this transport configuration.
fn connect(gateway: &Gateway, transport: TransportConfig) -> Connection {
    let mut tls = (*TlsClient::trusting_file(&gateway.authority()).build()).clone();
    tls.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let address = gateway.address("quic");
    RUNTIME.block_on(async {
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            None,
            packets::socket(),
            Arc::new(TokioRuntime),
        );
        let connecting = endpoint.unwrap().connect_with(config, address, "localhost");
        within(connecting.unwrap()).await.unwrap()
    })
}

/// Not longer than anything may take.
async fn within<T>(what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, what).await {
        Ok(done) => done,
        Err(_elapsed) => panic!("not within {PATIENCE:?}"),
    }
}

/// A stream of quinn's with MQTT on it.
struct Speech {
    send: SendStream,
    receive: RecvStream,
    bytes: Vec<u8>,
}

impl Speech {
    fn open(connection: &Connection) -> Self {
        let (send, receive) = RUNTIME.block_on(within(connection.open_bi())).unwrap();
        Self {
            send,
            receive,
            bytes: Vec::new(),
        }
    }

    /// The control stream, with CONNECT sent on it.
    fn begin(connection: &Connection, connect: &Connect) -> Self {
        let mut speech = Self::open(connection);
        speech.say(&connect.encode());
        speech
    }

    fn say(&mut self, packet: &[u8]) {
        RUNTIME
            .block_on(within(self.send.write_all(packet)))
            .unwrap();
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        let subscribe = Subscribe {
            id: 1,
            properties: Vec::new(),
            filters: vec![(filter.to_owned(), qos)],
        };
        self.say(&subscribe.encode(Version::V5));
    }

    /// The next packet: its first byte and its body.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(packet) = raw::mqtt(&mut self.bytes) {
                return packet;
            }
            let chunk = RUNTIME.block_on(within(self.receive.read_chunk(64 << 10, true)));
            let Some(chunk) = chunk.unwrap() else {
                panic!("the stream is over");
            };
            self.bytes.extend(&chunk.bytes);
        }
    }
}

/// What the gateway counts at its QUIC listener.
#[track_caller]
fn counted(gateway: &Gateway, name: &str, labels: &[&str]) -> u64 {
    let labels: Vec<&str> = labels
        .iter()
        .chain(&["listener=\"quic\""])
        .copied()
        .collect();
    gateway.metric(name, &labels) as u64
}

#[track_caller]
fn refused(gateway: &Gateway, reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    counted(gateway, "tidegate_listener_refused_total", &[&reason])
}
