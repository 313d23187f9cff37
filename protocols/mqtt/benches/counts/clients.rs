//! Connections without sockets and without a runtime: bytes are laid before a connection, it is polled
//! by hand, and what it has written is taken. So every run does the same.

use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tidegate_bus::{
    AllowAll, Bus, Clock, MemoryStore, QoS, Settings as BusSettings, SubscriptionOptions, Timestamp,
};
use tidegate_mqtt::codec::{
    Ack, AckType, Connect, Frame, PacketType, Properties, Publish, Split, Subscribe,
    SubscribeFilters, Version, split,
};
use tidegate_mqtt::{Adapter, Endpoint, Peer, Settings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use super::case::under_callgrind;
use super::support::put_publish;

const FILTER: &str = "site/+/line/+/temperature";

/// Publishes that the publisher's connection reads at once.
const BATCH: u16 = 64;

/// Time that does not pass: what happens every few seconds happens in no count.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }
}

/// A gateway's MQTT side, one publisher and its receivers.
pub(crate) struct Clients {
    publisher: Client,
    receivers: Vec<Client>,
    batch: Vec<u8>,
    /// Until CONNECT a connection has a time limit, and so needs a runtime's timer to be there.
    _runtime: Runtime,
}

impl Clients {
    pub(crate) fn connect(version: Version, receivers: usize, qos: QoS) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let bus = Bus::new(
            BusSettings::default(),
            Arc::new(MemoryStore::new()),
            Arc::new(AllowAll),
            Arc::new(Standing),
        );
        let endpoint = Adapter::new(bus, Settings::default()).endpoint(Settings::default());
        let context = runtime.enter();
        let publisher = Client::connect(&endpoint, version, "publisher");
        let receivers = (0..receivers)
            .map(|n| {
                let mut receiver = Client::connect(&endpoint, version, &format!("receiver-{n}"));
                receiver.subscribe(qos);
                receiver
            })
            .collect();
        drop(context);
        let mut batch = Vec::new();
        for id in (1..=BATCH).filter_map(NonZeroU16::new) {
            put_publish(version, qos, id, &[], &mut batch);
        }
        Self {
            publisher,
            receivers,
            batch,
            _runtime: runtime,
        }
    }

    /// Counts `rounds` batches and gives back how many deliveries that were.
    pub(crate) fn count(&mut self, rounds: u64) -> u64 {
        // Uncounted, so that caches are filled and buffers have their size.
        for _ in 0..4 {
            self.round(&mut |work| work());
        }
        let before = self.delivered();
        for _ in 0..rounds {
            self.round(&mut |work| under_callgrind(work));
        }
        let delivered = self.delivered() - before;
        let expected = rounds * u64::from(BATCH) * self.receivers.len() as u64;
        assert_eq!(delivered, expected, "nothing is lost");
        delivered
    }

    fn delivered(&self) -> u64 {
        self.receivers.iter().map(|client| client.delivered).sum()
    }

    /// One batch, and all that the clients answer. What connections do goes through `run`; what
    /// clients do does not.
    fn round(&mut self, run: &mut dyn FnMut(&mut dyn FnMut())) {
        self.publisher.wire.lay(&self.batch);
        let mut moved = true;
        while moved {
            moved = false;
            for client in std::iter::once(&mut self.publisher).chain(&mut self.receivers) {
                while client.is_ready() {
                    run(&mut || client.poll());
                    client.answer();
                    moved = true;
                }
            }
        }
    }
}

/// One client, and the connection that serves it.
struct Client {
    version: Version,
    wire: Wire,
    serving: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    waker: Waker,
    delivered: u64,
    /// What the connection has written; kept for its memory.
    taken: Vec<u8>,
    answers: Vec<u8>,
}

impl Client {
    fn connect(endpoint: &Arc<Endpoint>, version: Version, id: &str) -> Self {
        let wire = Wire::default();
        let place = endpoint.admit().expect("there is room");
        let place = place
            .count_for(Ipv4Addr::LOCALHOST.into())
            .expect("there is room");
        let serving = place.serve(wire.clone(), Peer::default());
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let mut client = Self {
            version,
            wire,
            serving: Box::pin(async {
                serving.await;
            }),
            waker: Arc::clone(&woken).into(),
            woken,
            delivered: 0,
            taken: Vec::new(),
            answers: Vec::new(),
        };
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id: id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::EMPTY,
        };
        client.exchange(|out| connect.encode(out), PacketType::ConnAck);
        client
    }

    fn subscribe(&mut self, qos: QoS) {
        let options = SubscriptionOptions {
            qos,
            ..Default::default()
        };
        let filters = [(FILTER, options)];
        let subscribe = Subscribe {
            packet_id: NonZeroU16::MIN,
            properties: Properties::EMPTY,
            filters: SubscribeFilters::new(&filters),
        };
        let version = self.version;
        self.exchange(|out| subscribe.encode(version, out), PacketType::SubAck);
    }

    /// Sends a packet and expects one back.
    fn exchange(&mut self, write: impl FnOnce(&mut Vec<u8>), expected: PacketType) {
        let mut out = Vec::new();
        write(&mut out);
        self.wire.lay(&out);
        while self.is_ready() {
            self.poll();
        }
        self.wire.take(&mut self.taken);
        let kinds: Vec<_> = frames(&self.taken).map(|f| f.packet_type()).collect();
        assert_eq!(kinds, [Some(expected)]);
    }

    /// Whether its connection has something to do.
    fn is_ready(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed) || !self.wire.lock().incoming_is_read()
    }

    fn poll(&mut self) {
        self.woken.0.store(false, Ordering::Relaxed);
        let mut context = Context::from_waker(&self.waker);
        let served = self.serving.as_mut().poll(&mut context);
        assert!(served.is_pending(), "the connection goes on");
    }

    /// Reads what the connection has written and acknowledges it.
    fn answer(&mut self) {
        self.wire.take(&mut self.taken);
        self.answers.clear();
        for frame in frames(&self.taken) {
            let kind = match frame.packet_type() {
                Some(PacketType::Publish) => {
                    self.delivered += 1;
                    match QoS::from_u8(frame.first >> 1 & 3) {
                        Some(QoS::AtLeastOnce) => AckType::PubAck,
                        Some(QoS::ExactlyOnce) => AckType::PubRec,
                        _ => continue,
                    }
                }
                Some(PacketType::PubRec) => AckType::PubRel,
                Some(PacketType::PubRel) => AckType::PubComp,
                Some(PacketType::PubAck | PacketType::PubComp) => continue,
                other => unreachable!("{other:?}"),
            };
            let id = match frame.packet_type() {
                Some(PacketType::Publish) => Publish::decode(self.version, frame)
                    .expect("a valid PUBLISH")
                    .packet_id
                    .expect("it is acknowledged"),
                // What acknowledges begins with the packet identifier.
                _ => NonZeroU16::new(u16::from_be_bytes([frame.body[0], frame.body[1]]))
                    .expect("no identifier is 0"),
            };
            Ack::success(id).encode(kind, self.version, &mut self.answers);
        }
        if !self.answers.is_empty() {
            self.wire.lay(&self.answers);
        }
    }
}

/// Whole packets, one after the other.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || match split(bytes, u32::MAX) {
        Ok(Split::Frame(frame)) => {
            bytes = &bytes[frame.len..];
            Some(frame)
        }
        _ => {
            assert!(bytes.is_empty(), "whole packets are written");
            None
        }
    })
}

/// Whether somebody asked for the connection to be polled.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A byte stream whose other end is laid and taken by hand.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    incoming: Vec<u8>,
    read: usize,
    outgoing: Vec<u8>,
}

impl Ends {
    fn incoming_is_read(&self) -> bool {
        self.read == self.incoming.len()
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the connection reads next, after what it has read to its end.
    fn lay(&self, bytes: &[u8]) {
        let mut ends = self.lock();
        assert!(ends.incoming_is_read(), "one batch after the other");
        ends.incoming.clear();
        ends.incoming.extend_from_slice(bytes);
        ends.read = 0;
    }

    /// What the connection has written since.
    fn take(&self, into: &mut Vec<u8>) {
        into.clear();
        std::mem::swap(into, &mut self.lock().outgoing);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.lock();
        if ends.incoming_is_read() {
            return Poll::Pending;
        }
        let bytes = &ends.incoming[ends.read..];
        let bytes = &bytes[..bytes.len().min(buffer.remaining())];
        buffer.put_slice(bytes);
        let read = bytes.len();
        ends.read += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
