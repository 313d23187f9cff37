//! A gateway without sockets, a client of it, and an engine that is done when the test says so.

#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_bus::*;
use tidegate_mqtt::codec::{
    Ack, Connect, Packet, PropertyBlock, Publish, PublishProperties, ReasonCode, Split, Subscribe,
    SubscribeFilters, Version, decode, split,
};
use tidegate_mqtt::{Adapter, Endpoint, Peer, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// A durable engine whose tickets complete when the test says so.
#[derive(Default)]
pub struct SlowStore {
    pub open: Mutex<Vec<Completion>>,
    epochs: Mutex<u64>,
}

impl SlowStore {
    pub fn ticket(&self) -> Ticket {
        let (ticket, completion) = Ticket::pending();
        self.open.lock().unwrap().push(completion);
        ticket
    }

    /// Completes the ticket at `place` of those that are open.
    pub fn complete(&self, place: usize, result: Result<(), StoreError>) {
        let completion = self.open.lock().unwrap().remove(place);
        completion.complete(result);
    }
}

impl Store for SlowStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let mut epochs = self.epochs.lock().unwrap();
        *epochs += 1;
        let epoch = Epoch(*epochs);
        Box::pin(std::future::ready(Ok(Claim {
            epoch,
            session: None,
        })))
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        self.ticket()
    }

    fn change(&self, _client: &ClientId, _epoch: Epoch, changes: &[SessionChange]) -> Ticket {
        let waits = |change: &SessionChange| {
            matches!(
                change,
                SessionChange::Released(_) | SessionChange::Received(_)
            )
        };
        if changes.iter().any(waits) {
            self.ticket()
        } else {
            Ticket::ready()
        }
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        Ticket::ready()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

pub struct Gateway {
    pub adapter: Arc<Adapter>,
    pub endpoint: Arc<Endpoint>,
    pub bus: Arc<Bus>,
}

/// What a listener does with a connection of which everything is known.
pub fn accept(endpoint: &Arc<Endpoint>, stream: DuplexStream) {
    let admitted = endpoint.admit();
    match admitted.and_then(|place| place.count_for(Ipv4Addr::LOCALHOST.into())) {
        Ok(place) => {
            tokio::spawn(place.serve(stream, Peer::default()));
        }
        Err(refused) => {
            assert!(refused.may_be_told());
            tokio::spawn(refused.tell(stream));
        }
    }
}

impl Gateway {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let settings = tidegate_bus::Settings::default();
        let bus = Bus::new(
            settings,
            store,
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        Self::of(bus, Settings::default())
    }

    pub fn of(bus: Arc<Bus>, settings: Settings) -> Self {
        let adapter = Adapter::new(Arc::clone(&bus), settings.clone());
        let endpoint = adapter.endpoint(settings);
        Self {
            adapter,
            endpoint,
            bus,
        }
    }

    /// A client that has been let in.
    pub async fn connect(&self, id: &str, version: Version, buffer: usize) -> Client {
        let mut client = self.begin(id, version, buffer).await;
        assert!(client.next().await.starts_with("ConnAck(Success)"));
        client
    }

    /// A client that has sent CONNECT.
    pub async fn begin(&self, id: &str, version: Version, buffer: usize) -> Client {
        let (ours, theirs) = duplex(buffer);
        accept(&self.endpoint, theirs);
        let mut block = PropertyBlock::new();
        block.push(tidegate_mqtt::codec::Property::SessionExpiryInterval(60));
        let mut client = Client {
            stream: ours,
            version,
            read: Vec::new(),
        };
        let connect = Connect {
            version,
            clean_start: false,
            keep_alive: 0,
            client_id: id,
            will: None,
            user_name: None,
            password: None,
            properties: block.as_properties(),
        };
        let mut out = Vec::new();
        connect.encode(&mut out);
        client.stream.write_all(&out).await.unwrap();
        client
    }
}

pub struct Client {
    pub stream: DuplexStream,
    pub version: Version,
    pub read: Vec<u8>,
}

impl Client {
    pub async fn send(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        packet.encode(self.version, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    pub async fn publish(&mut self, id: u16, qos: QoS) {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: Some(TopicName::new("t").unwrap()),
            packet_id: NonZeroU16::new(id),
            properties: PublishProperties::EMPTY,
            payload: b"m",
        };
        self.send(&Packet::Publish(publish)).await;
    }

    pub async fn subscribe(&mut self, qos: QoS) {
        let filters = [(
            "t",
            SubscriptionOptions {
                qos,
                ..Default::default()
            },
        )];
        let subscribe = Subscribe {
            packet_id: NonZeroU16::MIN,
            properties: tidegate_mqtt::codec::Properties::EMPTY,
            filters: SubscribeFilters::new(&filters),
        };
        self.send(&Packet::Subscribe(subscribe)).await;
        assert_eq!(self.next().await, "SubAck");
    }

    /// The next packet, in words; "closed" at the end of the stream.
    pub async fn next(&mut self) -> String {
        loop {
            if let Split::Frame(frame) = split(&self.read, u32::MAX).unwrap() {
                let len = frame.len;
                let words = match decode(self.version, frame).unwrap() {
                    Packet::ConnAck(connack) => format!("ConnAck({:?})", connack.reason),
                    Packet::SubAck(_) => "SubAck".to_owned(),
                    Packet::PubAck(ack) => in_words("PubAck", &ack),
                    Packet::PubRec(ack) => in_words("PubRec", &ack),
                    Packet::PubComp(ack) => in_words("PubComp", &ack),
                    Packet::PingResp => "PingResp".to_owned(),
                    Packet::Disconnect(disconnect) => {
                        format!("Disconnect({:?})", disconnect.reason)
                    }
                    Packet::Publish(publish) => {
                        format!("Publish({:?})", publish.packet_id.map(NonZeroU16::get))
                    }
                    other => format!("{other:?}"),
                };
                self.read.drain(..len);
                return words;
            }
            let mut chunk = [0; 512];
            let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut chunk));
            match read.await.expect("the gateway answers in time").unwrap() {
                0 => return "closed".to_owned(),
                read => self.read.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

fn in_words(name: &str, ack: &Ack<'_>) -> String {
    if ack.reason == ReasonCode::Success {
        format!("{name} {}", ack.packet_id)
    } else {
        format!("{name} {} {:?}", ack.packet_id, ack.reason)
    }
}
