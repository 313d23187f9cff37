//! The connection over a byte stream that is no socket: what a slow store and a stuck client do to
//! it. The wire as such is tested in `tests/` of the workspace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::io::ErrorKind;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::*;
use tidegate_bus::*;
use tidegate_mqtt::Settings;
use tidegate_mqtt::codec::{
    Ack, Packet, PropertyId, Publish, PublishProperties, ReasonCode, Split, Subscribe,
    SubscribeFilters, Version, decode, split,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Notify, oneshot};

mod support;
#[tokio::test]
async fn mqtt_4_6_0_2_pubacks_wait_for_the_store_in_order_and_pings_pass_by() {
    let store = Arc::new(SlowStore::default());
    let gateway = Gateway::new(Arc::clone(&store) as _);
    let mut receiver = gateway.connect("receiver", Version::V5, 4_096).await;
    receiver.subscribe(QoS::AtLeastOnce).await;
    let mut sender = gateway.connect("sender", Version::V5, 4_096).await;
    sender.publish(1, QoS::AtLeastOnce).await;
    sender.publish(2, QoS::AtLeastOnce).await;
    sender.send(&Packet::PingReq).await;
    assert_eq!(sender.next().await, "PingResp");
    // The receiver does not wait for the store.
    assert_eq!(receiver.next().await, "Publish(Some(1))");
    store.complete(1, Ok(()));
    sender.send(&Packet::PingReq).await;
    assert_eq!(
        sender.next().await,
        "PingResp",
        "2 is kept, but 1 goes first"
    );
    store.complete(0, Ok(()));
    assert_eq!(sender.next().await, "PubAck 1");
    assert_eq!(sender.next().await, "PubAck 2");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_whom_too_many_answers_wait_for_the_store_is_read_no_further() {
    let store = Arc::new(SlowStore::default());
    let gateway = Gateway::new(Arc::clone(&store) as _);
    let mut receiver = gateway.connect("receiver", Version::V5, 4_096).await;
    receiver.subscribe(QoS::AtLeastOnce).await;
    // It knows no Receive Maximum.
    let mut sender = gateway.connect("sender", Version::V3_1_1, 4_096).await;
    let mut ids = 1..=u16::MAX;
    // Time stands still until nothing moves any more.
    let patience = Duration::from_secs(1);
    loop {
        let id = ids.next().expect("it is read to the end");
        let published = sender.publish(id, QoS::AtLeastOnce);
        if tokio::time::timeout(patience, published).await.is_err() {
            break;
        }
    }
    let waiting = || store.open.lock().unwrap().len();
    // Those of one read come on top.
    assert!((8_192..9_000).contains(&waiting()), "{}", waiting());
    for _ in 0..waiting() {
        store.complete(0, Ok(()));
    }
    for id in 1..=8_192 {
        assert_eq!(sender.next().await, format!("PubAck {id}"));
    }
}

#[tokio::test]
async fn mqtt_4_3_3_pubrec_and_pubcomp_wait_for_the_store() {
    let store = Arc::new(SlowStore::default());
    let gateway = Gateway::new(Arc::clone(&store) as _);
    let mut receiver = gateway.connect("receiver", Version::V5, 4_096).await;
    receiver.subscribe(QoS::AtMostOnce).await;
    let mut sender = gateway.connect("sender", Version::V5, 4_096).await;
    sender.publish(7, QoS::ExactlyOnce).await;
    sender.send(&Packet::PingReq).await;
    assert_eq!(sender.next().await, "PingResp");
    store.complete(0, Ok(()));
    assert_eq!(sender.next().await, "PubRec 7");
    sender
        .send(&Packet::PubRel(Ack::success(NonZeroU16::new(7).unwrap())))
        .await;
    sender.send(&Packet::PingReq).await;
    assert_eq!(sender.next().await, "PingResp");
    store.complete(0, Ok(()));
    assert_eq!(sender.next().await, "PubComp 7");
}

#[tokio::test]
async fn a_store_that_is_full_refuses_with_0x97_and_closes_an_older_client_without_a_puback() {
    let store = Arc::new(SlowStore::default());
    let gateway = Gateway::new(Arc::clone(&store) as _);
    let mut receiver = gateway.connect("receiver", Version::V5, 4_096).await;
    receiver.subscribe(QoS::AtLeastOnce).await;
    let mut sender = gateway.connect("sender", Version::V5, 4_096).await;
    sender.publish(1, QoS::AtLeastOnce).await;
    assert_eq!(receiver.next().await, "Publish(Some(1))");
    store.complete(0, Err(StoreError::Full));
    assert_eq!(sender.next().await, "PubAck 1 QuotaExceeded");
    let mut older = gateway.connect("older", Version::V3_1_1, 4_096).await;
    older.publish(1, QoS::AtLeastOnce).await;
    assert_eq!(receiver.next().await, "Publish(Some(2))");
    store.complete(0, Err(StoreError::Full));
    assert_eq!(older.next().await, "closed");
}

/// A client that subscribes and then reads no more, until its stream is full.
async fn stuck(gateway: &Gateway) -> Client {
    let mut client = gateway.connect("stuck", Version::V5, 256).await;
    client.subscribe(QoS::AtMostOnce).await;
    let payload = [0; 1_000];
    let sent = gateway.bus.counters().messages_sent[0].get();
    gateway.bus.batch(|worker| {
        let message = Message::new(TopicName::new("t").unwrap(), &payload);
        let _ = gateway.bus.publish(worker, message).unwrap();
    });
    // The connection has taken the message and is stuck in the middle of it.
    while gateway.bus.counters().messages_sent[0].get() == sent {
        tokio::task::yield_now().await;
    }
    client
}

#[tokio::test]
async fn a_client_that_does_not_read_hears_of_its_end_when_it_does() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let mut client = stuck(&gateway).await;
    let id = ClientId::new("stuck").unwrap();
    assert!(gateway.bus.disconnect(&id, EndReason::SlowConsumer));
    while gateway.bus.counters().connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.next().await, "Publish(None)");
    assert_eq!(client.next().await, "Disconnect(QuotaExceeded)");
    assert_eq!(client.next().await, "closed");
    assert_eq!(gateway.bus.counters().drops.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_stuck_client_never_reads_is_counted_when_it_is_given_up() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let client = stuck(&gateway).await;
    let id = ClientId::new("stuck").unwrap();
    assert!(gateway.bus.disconnect(&id, EndReason::Administrative));
    while gateway.endpoint.open_connections() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        gateway
            .bus
            .counters()
            .drops
            .get(DropReason::ConnectionClosed),
        1
    );
    drop(client);
}

#[tokio::test]
async fn acknowledgements_are_read_while_writing_is_stuck() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let mut client = stuck(&gateway).await;
    // More than the stream holds: it gets through only because the gateway goes on reading.
    for id in 1..=200 {
        client.publish(id, QoS::AtLeastOnce).await;
    }
    assert_eq!(client.next().await, "Publish(None)");
    let mut acknowledged = 0;
    while acknowledged < 200 {
        match client.next().await.as_str() {
            "Publish(None)" => {}
            words => {
                acknowledged += 1;
                assert_eq!(words, format!("PubAck {acknowledged}"));
            }
        }
    }
}

#[tokio::test]
async fn the_gateway_tells_the_truth_about_itself_in_connack() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let (mut ours, theirs) = duplex(4_096);
    accept(&gateway.endpoint, theirs);
    // Empty client identifier, request response information, keep alive 0.
    ours.write_all(b"\x10\x0f\0\x04MQTT\x05\x02\0\0\x02\x19\x01\0\0")
        .await
        .unwrap();
    let mut bytes = vec![0; 1_024];
    let read = ours.read(&mut bytes).await.unwrap();
    let Split::Frame(frame) = split(&bytes[..read], u32::MAX).unwrap() else {
        panic!()
    };
    let Packet::ConnAck(connack) = decode(Version::V5, frame).unwrap() else {
        panic!()
    };
    let properties = connack.properties;
    let id = properties.assigned_client_identifier().unwrap();
    assert!(id.starts_with("tidegate-"));
    assert_eq!(
        properties.response_information(),
        Some(format!("response/{id}").as_str())
    );
    assert_eq!(properties.receive_maximum().map(u16::from), Some(1_024));
    assert_eq!(
        properties.maximum_packet_size().map(u32::from),
        Some(1 << 20)
    );
    assert_eq!(properties.topic_alias_maximum(), Some(64));
    // What is not said is available (MQTT 5.0 section 3.2.2.3).
    let silent = [
        PropertyId::MaximumQos,
        PropertyId::RetainAvailable,
        PropertyId::WildcardSubscriptionAvailable,
        PropertyId::SharedSubscriptionAvailable,
        PropertyId::ServerKeepAlive,
    ];
    assert!(
        properties
            .iter()
            .all(|property| !silent.contains(&property.id()))
    );
}

/// Sends the bytes of a MQTT 5 PUBLISH to a topic that the gateway refuses: too deep.
fn too_deep(id: u16, version: Version) -> Vec<u8> {
    let topic = "a/".repeat(40);
    let publish = Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: Some(TopicName::new(&topic).unwrap()),
        packet_id: NonZeroU16::new(id),
        properties: PublishProperties::EMPTY,
        payload: b"m",
    };
    let mut out = Vec::new();
    publish.encode(version, &mut out);
    out
}

#[tokio::test]
async fn a_qos_2_message_that_was_refused_is_not_taken_for_received_when_it_is_sent_again() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    for _ in 0..2 {
        let mut older = gateway.connect("older", Version::V3_1_1, 4_096).await;
        older
            .stream
            .write_all(&too_deep(5, Version::V3_1_1))
            .await
            .unwrap();
        assert_eq!(older.next().await, "closed");
    }
    let mut client = gateway.connect("c", Version::V5, 4_096).await;
    for _ in 0..2 {
        client
            .stream
            .write_all(&too_deep(5, Version::V5))
            .await
            .unwrap();
        assert_eq!(client.next().await, "PubRec 5 TopicNameInvalid");
    }
}

#[tokio::test]
async fn mqtt_4_9_exchanges_of_an_earlier_connection_take_nothing_from_receive_maximum() {
    let settings = {
        let mut settings = Settings::default();
        settings.receive_maximum = 2;
        settings
    };
    let bus = Bus::new(
        tidegate_bus::Settings::default(),
        Arc::new(MemoryStore::new()),
        Arc::new(AllowAll),
        Arc::new(SystemClock::new()),
    );
    let gateway = Gateway::of(bus, settings);
    let mut client = gateway.connect("c", Version::V5, 4_096).await;
    for id in [1, 2] {
        client.publish(id, QoS::ExactlyOnce).await;
        assert_eq!(
            client.next().await,
            format!("PubRec {id} NoMatchingSubscribers")
        );
    }
    drop(client);
    let mut client = gateway.connect("c", Version::V5, 4_096).await;
    for id in [1, 2] {
        client.publish(id, QoS::ExactlyOnce).await;
        assert_eq!(
            client.next().await,
            format!("PubRec {id}"),
            "received before"
        );
    }
    let release = |id: u16| Packet::PubRel(Ack::success(NonZeroU16::new(id).unwrap()));
    client.publish(3, QoS::ExactlyOnce).await;
    assert_eq!(client.next().await, "PubRec 3 NoMatchingSubscribers");
    // Nor do they give anything back.
    client.send(&release(1)).await;
    assert_eq!(client.next().await, "PubComp 1");
    client.publish(4, QoS::ExactlyOnce).await;
    assert_eq!(client.next().await, "PubRec 4 NoMatchingSubscribers");
    client.publish(5, QoS::ExactlyOnce).await;
    assert_eq!(client.next().await, "Disconnect(ReceiveMaximumExceeded)");
    drop(client);
    // The one that was too many was not received (MQTT-4.3.3-9): sent again, it would be new.
    let mut client = gateway.connect("c", Version::V5, 4_096).await;
    client.send(&release(5)).await;
    assert_eq!(client.next().await, "PubComp 5 PacketIdentifierNotFound");
}

#[tokio::test]
async fn a_fan_out_is_finished_although_its_publisher_is_ended() {
    let settings = {
        let mut settings = tidegate_bus::Settings::default();
        settings.fanout_slice = 1;
        settings
    };
    let store = Arc::new(MemoryStore::new());
    let bus = Bus::new(
        settings,
        store,
        Arc::new(AllowAll),
        Arc::new(SystemClock::new()),
    );
    let gateway = Gateway::of(bus, Settings::default());
    let mut receivers = Vec::new();
    for n in 0..50 {
        let mut receiver = gateway.connect(&format!("r{n}"), Version::V5, 4_096).await;
        receiver.subscribe(QoS::AtLeastOnce).await;
        receivers.push(receiver);
    }
    let mut sender = gateway.connect("sender", Version::V5, 4_096).await;
    sender.publish(1, QoS::AtLeastOnce).await;
    // The first receiver has it: the fan-out has begun, and is not at its end.
    assert_eq!(receivers[0].next().await, "Publish(Some(1))");
    gateway
        .bus
        .disconnect(&ClientId::new("sender").unwrap(), EndReason::Administrative);
    for receiver in &mut receivers[1..] {
        assert_eq!(receiver.next().await, "Publish(Some(1))");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_those_without_connect_and_lets_nobody_in() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let mut served = gateway.connect("served", Version::V5, 4_096).await;
    let (mut silent, theirs) = duplex(4_096);
    accept(&gateway.endpoint, theirs);
    let (mut late, theirs) = duplex(4_096);
    accept(&gateway.endpoint, theirs);
    assert_eq!(gateway.endpoint.open_connections(), 3);
    let start = tokio::time::Instant::now();
    let closing = tokio::spawn({
        let adapter = Arc::clone(&gateway.adapter);
        async move { adapter.shut_down().await }
    });
    assert_eq!(
        silent.read_u8().await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    let _ = late
        .write_all(b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0")
        .await;
    assert_eq!(
        late.read_u8().await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(served.next().await, "Disconnect(ServerShuttingDown)");
    drop(served);
    closing.await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(gateway.endpoint.open_connections(), 0);
}

#[tokio::test]
async fn mqtt_3_1_2_24_a_new_alias_is_left_out_where_the_packet_would_not_fit() {
    let gateway = Gateway::new(Arc::new(MemoryStore::new()));
    let (mut ours, theirs) = duplex(4_096);
    accept(&gateway.endpoint, theirs);
    // Maximum Packet Size 60, Topic Alias Maximum 10.
    let connect = b"\x10\x16\0\x04MQTT\x05\x02\0\0\x08\x27\0\0\0\x3c\x22\0\x0a\0\x01c";
    ours.write_all(connect).await.unwrap();
    let mut client = Client {
        stream: ours,
        version: Version::V5,
        read: Vec::new(),
    };
    assert!(client.next().await.starts_with("ConnAck(Success)"));
    client.subscribe(QoS::AtMostOnce).await;
    // Without an alias the packet has 2 + 3 + 1 + payload bytes.
    for (payload, arrives) in [(54, true), (55, false)] {
        gateway.bus.batch(|worker| {
            let payload = vec![0; payload];
            let message = Message::new(TopicName::new("t").unwrap(), &payload);
            let _ = gateway.bus.publish(worker, message).unwrap();
        });
        if arrives {
            assert_eq!(client.next().await, "Publish(None)");
        }
        client.send(&Packet::PingReq).await;
        assert_eq!(client.next().await, "PingResp");
    }
}

/// Connects with or without Request Problem Information and gives back the stream.
async fn connect_asking(gateway: &Gateway, problem_information: u8) -> DuplexStream {
    let (mut ours, theirs) = duplex(4_096);
    accept(&gateway.endpoint, theirs);
    let mut connect = b"\x10\x10\0\x04MQTT\x05\x02\0\0\x02\x17\x01\0\x01c".to_vec();
    connect[14] = problem_information;
    ours.write_all(&connect).await.unwrap();
    let mut connack = [0; 2];
    ours.read_exact(&mut connack).await.unwrap();
    let mut rest = vec![0; usize::from(connack[1])];
    ours.read_exact(&mut rest).await.unwrap();
    ours
}

#[tokio::test]
async fn mqtt_3_1_2_29_refusals_have_words_unless_the_client_wants_none() {
    for wanted in [1, 0] {
        let gateway = Gateway::new(Arc::new(MemoryStore::new()));
        let mut stream = connect_asking(&gateway, wanted).await;
        stream.write_all(&too_deep(5, Version::V5)).await.unwrap();
        // SUBSCRIBE to a filter that is too deep.
        let filter = "a/".repeat(40);
        let filters = [(filter.as_str(), SubscriptionOptions::default())];
        let subscribe = Subscribe {
            packet_id: NonZeroU16::MIN,
            properties: tidegate_mqtt::codec::Properties::EMPTY,
            filters: SubscribeFilters::new(&filters),
        };
        let mut out = Vec::new();
        subscribe.encode(Version::V5, &mut out);
        stream.write_all(&out).await.unwrap();
        let mut bytes = Vec::new();
        let mut words = Vec::new();
        while words.len() < 3 {
            let found = match split(&bytes, u32::MAX).unwrap() {
                Split::Frame(frame) => Some((
                    frame.len,
                    match decode(Version::V5, frame).unwrap() {
                        Packet::PubRec(ack) => ack.properties.reason_string().map(str::to_owned),
                        Packet::SubAck(ack) => ack.properties.reason_string().map(str::to_owned),
                        Packet::Disconnect(last) => {
                            last.properties.reason_string().map(str::to_owned)
                        }
                        other => panic!("{other:?}"),
                    },
                )),
                Split::Incomplete { .. } => None,
            };
            if let Some((len, text)) = found {
                bytes.drain(..len);
                words.push(text);
                if words.len() == 2 {
                    let id = ClientId::new("c").unwrap();
                    gateway.bus.disconnect(&id, EndReason::Administrative);
                }
                continue;
            }
            let mut chunk = [0; 512];
            let read = stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "closed after {words:?}");
            bytes.extend_from_slice(&chunk[..read]);
        }
        assert!(
            words.iter().all(|text| text.is_some() == (wanted == 1)),
            "{wanted} {words:?}"
        );
    }
}

#[tokio::test]
async fn mqtt_3_2_2_19_a_client_over_the_limit_is_told_in_a_packet_it_takes() {
    let mut settings = Settings::default();
    settings.max_connections = 0;
    let bus = Bus::new(
        tidegate_bus::Settings::default(),
        Arc::new(MemoryStore::new()),
        Arc::new(AllowAll),
        Arc::new(SystemClock::new()),
    );
    let endpoint = Gateway::of(bus, settings).endpoint;
    // Maximum Packet Size 5, and none.
    let small = &b"\x10\x13\0\x04MQTT\x05\x02\0\0\x05\x27\0\0\0\x05\0\x01c"[..];
    let any = &b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c"[..];
    for (connect, has_words) in [(small, false), (any, true)] {
        let (mut ours, theirs) = duplex(4_096);
        accept(&endpoint, theirs);
        ours.write_all(connect).await.unwrap();
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        assert_eq!(
            answer[..4],
            [
                0x20,
                (answer.len() - 2) as u8,
                0,
                ReasonCode::ServerBusy as u8
            ]
        );
        assert_eq!(answer.len() > 5, has_words, "{answer:?}");
    }
}

/// An engine that answers a claim when the test says so.
#[derive(Default)]
struct LateStore {
    inner: SlowStore,
    claims: Mutex<Vec<oneshot::Sender<()>>>,
    claimed: Notify,
}

impl LateStore {
    /// Waits until there are `count` claims.
    async fn claimed(&self, count: usize) {
        while self.claims.lock().unwrap().len() < count {
            self.claimed.notified().await;
        }
    }

    fn answer(&self, place: usize) {
        self.claims.lock().unwrap().remove(place).send(()).unwrap();
    }
}

impl Store for LateStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim> {
        let (answer, answered) = oneshot::channel();
        self.claims.lock().unwrap().push(answer);
        self.claimed.notify_one();
        let claim = self.inner.claim(client);
        Box::pin(async {
            answered.await.unwrap();
            claim.await
        })
    }

    fn append(&self, publication: &Publication<'_>) -> Ticket {
        self.inner.append(publication)
    }

    fn change(&self, client: &ClientId, epoch: Epoch, changes: &[SessionChange]) -> Ticket {
        self.inner.change(client, epoch, changes)
    }

    fn retain(&self, topic: &str, message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.inner.retain(topic, message)
    }

    fn read(&self, client: &ClientId, from: Epoch, place: Place, reader: Box<dyn QueueReader>) {
        self.inner.read(client, from, place, reader);
    }
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_connection_that_is_replaced_before_its_connack_is_closed_without_one() {
    for version in [Version::V3_1_1, Version::V5] {
        let store = Arc::new(LateStore::default());
        let gateway = Gateway::new(Arc::clone(&store) as _);
        let mut older = gateway.begin("one", version, 4_096).await;
        store.claimed(1).await;
        let mut newer = gateway.begin("one", version, 4_096).await;
        store.claimed(2).await;
        store.answer(1);
        assert_eq!(newer.next().await, "ConnAck(Success)");
        store.answer(0);
        assert_eq!(older.next().await, "closed");
        newer.send(&Packet::PingReq).await;
        assert_eq!(newer.next().await, "PingResp");
    }
}
