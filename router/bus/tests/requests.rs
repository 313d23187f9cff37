//! What protocols of requests need: to publish without a session, to acknowledge by how far they have come, and
//! to read what is retained page by page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use support::*;
use tidegate_bus::*;

/// Writes the place of each message and its payload, and remembers what its session is called.
struct PlaceEncoder(Arc<AtomicU64>);

impl Encoder for PlaceEncoder {
    fn begin(&mut self, kept_as: Option<Epoch>, key: u64) {
        assert_eq!(kept_as, None, "the engine keeps nothing");
        self.0.store(key, Ordering::SeqCst);
    }

    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        let payload = String::from_utf8_lossy(message.payload);
        let dup = if outgoing.dup { "!" } else { "" };
        out.extend(format!("{}={payload}{dup} ", outgoing.place.0).bytes());
        Ok(())
    }

    fn release(&mut self, out: &mut Vec<u8>, packet_id: NonZeroU16) {
        out.extend(format!("release {packet_id} ").bytes());
    }

    fn count_unacknowledged(&self, _unsent: &[u8]) -> u64 {
        0
    }
}

fn connect(bus: &TestBus, window: u16) -> Client {
    bus.connect_with("c", |request| {
        request.clean_start = false;
        request.expiry = 3_600;
        request.receive_maximum = NonZeroU16::new(window).unwrap();
        request.encoder = Box::new(PlaceEncoder(Arc::default()));
    })
}

/// Attaches without a look at what waits.
fn attach(bus: &TestBus, window: u16) -> Attachment {
    let id = ClientId::new("c").unwrap();
    let claim = now_or_never(bus.bus.claim(&id)).unwrap();
    let request = ConnectRequest {
        clean_start: false,
        expiry: 3_600,
        will: None,
        receive_maximum: NonZeroU16::new(window).unwrap(),
        keep_alive: 0,
        encoder: Box::new(PlaceEncoder(Arc::default())),
    };
    let attached = bus
        .bus
        .batch(|worker| bus.bus.attach(worker, &id, claim, request));
    attached.unwrap().0
}

fn read(attachment: &Attachment, bus: &TestBus) -> String {
    let mut out = Vec::new();
    while attachment.take_output(&mut out, bus.bus.now()).unwrap() {}
    String::from_utf8(out).unwrap()
}

fn publish(bus: &TestBus, payloads: std::ops::RangeInclusive<u32>, qos: QoS) {
    for n in payloads {
        bus.publish_as("t", &n.to_string(), qos, |_| {});
    }
}

#[test]
fn what_was_received_up_to_a_place_is_not_sent_again_and_the_rest_is_whatever_its_qos() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let bus = TestBus::new();
        let client = connect(&bus, 100);
        client.subscribe("t", qos);
        let first = read(&client.attachment, &bus);
        assert_eq!(first, "");
        publish(&bus, 1..=4, qos);
        let said = read(&client.attachment, &bus);
        let places: Vec<u64> = said
            .split_whitespace()
            .map(|word| word.split_once('=').unwrap().0.parse().unwrap())
            .collect();
        assert!(places.is_sorted() && places.len() == 4, "{said}");
        client.disconnect(Departure::Normal);
        publish(&bus, 5..=5, qos);

        let attachment = attach(&bus, 100);
        let now = bus.bus.now();
        let closed = attachment.acknowledge_through(now, Place(places[1]));
        assert_eq!(closed, Ok(2), "{qos:?}");
        let said = read(&attachment, &bus);
        let (third, fourth) = (places[2], places[3]);
        assert!(
            said.starts_with(&format!("{third}=3! {fourth}=4! ")),
            "{said}"
        );
        assert!(said.ends_with("=5 "), "{said}");
        // Said once more it means nothing: identifiers of packets are used again, places are not.
        assert_eq!(attachment.acknowledge_through(now, Place(places[1])), Ok(0));
    }
}

#[test]
fn a_place_makes_room_in_the_window_for_what_waits() {
    let bus = TestBus::new();
    let client = connect(&bus, 2);
    client.subscribe("t", QoS::AtLeastOnce);
    publish(&bus, 1..=5, QoS::AtLeastOnce);
    let said = read(&client.attachment, &bus);
    assert_eq!(said.split_whitespace().count(), 2, "{said}");
    let last: u64 = said
        .split_whitespace()
        .last()
        .and_then(|word| word.split_once('='))
        .unwrap()
        .0
        .parse()
        .unwrap();
    let now = bus.bus.now();
    let closed = client.attachment.acknowledge_through(now, Place(last));
    assert_eq!(closed, Ok(2));
    let said = read(&client.attachment, &bus);
    assert!(said.contains("=3 ") && said.ends_with("=4 "), "{said}");
    // A place beyond all of them takes nothing that was not sent.
    let closed = client.attachment.acknowledge_through(now, Place(u64::MAX));
    assert_eq!(closed, Ok(2));
    assert!(read(&client.attachment, &bus).ends_with("=5 "));
}

#[test]
fn a_half_done_qos_2_exchange_ends_with_the_place_whatever_it_is() {
    let bus = TestBus::new();
    let mut client = bus.connect_durable("c");
    client.subscribe("t", QoS::ExactlyOnce);
    publish(&bus, 1..=1, QoS::ExactlyOnce);
    let id = client.read()[0].id();
    client
        .attachment
        .received(bus.bus.now(), id, false)
        .unwrap();
    client.disconnect(Departure::Normal);
    let attachment = attach(&bus, 10);
    // The client has had it: only the end of the exchange is missing.
    let closed = attachment.acknowledge_through(bus.bus.now(), Place(0));
    assert_eq!(closed, Ok(1));
    assert_eq!(read(&attachment, &bus), "");
    assert_eq!(bus.bus.pending_messages(), 0);
}

#[test]
fn an_encoder_is_told_the_name_of_its_session_which_the_next_session_does_not_have() {
    let bus = TestBus::new();
    let name = |clean_start: bool| {
        let name = Arc::new(AtomicU64::new(0));
        let client = bus.connect_with("c", |request| {
            request.clean_start = clean_start;
            request.expiry = 60;
            request.encoder = Box::new(PlaceEncoder(Arc::clone(&name)));
        });
        let name = name.load(Ordering::SeqCst);
        assert_eq!(name, client.attachment.session().key());
        assert_eq!(client.attachment.kept_as(), None);
        name
    };
    let first = name(false);
    assert_eq!(name(false), first);
    assert_ne!(name(true), first);
}

/// Nobody may publish to `no`.
#[derive(Debug)]
struct Picky;

impl Access for Picky {
    fn connect<'a>(&'a self, _credentials: Credentials<'a>) -> AccessFuture<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn publish(
        &self,
        client: &ClientId,
        topic: TopicName<'_>,
        _: QoS,
        _: bool,
    ) -> Result<(), Denial> {
        if client.as_str() == "asker" && topic.as_str() == "no" {
            return Err(Denial::NotAuthorized);
        }
        Ok(())
    }

    fn subscribe(&self, _: &ClientId, _: &TopicFilter, _: QoS) -> Result<(), Denial> {
        Ok(())
    }
}

#[test]
fn a_client_without_a_session_publishes_under_the_same_limits_and_counts() {
    let bus = Bus::new(
        Settings::default(),
        Arc::new(MemoryStore::new()),
        Arc::new(Picky),
        Arc::new(SystemClock::new()),
    );
    let asker = ClientId::new("asker").unwrap();
    let publish = |topic: &str| {
        let message = Message::new(TopicName::new(topic).unwrap(), b"12345");
        bus.batch(|worker| bus.publish_for(worker, &asker, message))
            .map(|published| published.matched)
    };
    assert_eq!(publish("yes"), Ok(false));
    assert_eq!(publish("no"), Err(PublishRefusal::NotAuthorized));
    assert_eq!(
        publish(&"/".repeat(40)),
        Err(PublishRefusal::TopicNameInvalid)
    );
    let counters = bus.counters();
    assert_eq!(counters.received(), 3);
    assert_eq!(counters.payload_bytes_received.get(), 15);
    assert_eq!(counters.drops.get(DropReason::NotAuthorized), 1);
    assert_eq!(counters.drops.get(DropReason::TopicTooLong), 1);
    assert_eq!(counters.sessions.get(), 0);
}

#[test]
fn what_is_retained_comes_in_pages_by_topic() {
    let bus = TestBus::new();
    let topics = ["b/1", "a/2", "a", "c", "b", "a/1", "$x"];
    for topic in topics {
        bus.publish_as(topic, topic, QoS::AtMostOnce, |m| m.retain = true);
    }
    let page = |filter: &str, after: Option<&str>, limit| -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let page = bus.bus.retained_page(&filter, after, limit);
        page.iter()
            .map(|message| message.topic().to_owned())
            .collect()
    };
    assert_eq!(page("#", None, 100), ["a", "a/1", "a/2", "b", "b/1", "c"]);
    assert_eq!(page("#", None, 2), ["a", "a/1"]);
    assert_eq!(page("#", Some("a/1"), 2), ["a/2", "b"]);
    assert_eq!(page("#", Some("b/0"), 9), ["b/1", "c"]);
    assert_eq!(page("a/+", Some("a/1"), 1), ["a/2"]);
    assert_eq!(page("#", Some("c"), 1), [""; 0]);
    assert_eq!(page("#", None, 0), [""; 0]);
}
