//! Requests and responses (RFC 7252).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use coap_lite::MessageType;
use parking_lot::Mutex;
use support::*;
use tidegate_bus::{
    Access, AccessFuture, Bus, Claim, ClientId, Completion, Credentials, Denial, Epoch,
    MemoryStore, MessageProperty, Place, Publication, QoS, QueueReader, SessionChange, Store,
    StoreError, StoreFuture, StoredMessage, SystemClock, Ticket, TopicFilter, TopicName,
};
use tidegate_coap::codec::{Code, Kind, number};
use tidegate_coap::{Settings, Unverified};

#[test]
fn a_put_is_published_and_answered_in_its_acknowledgement() {
    let mut net = Net::new();
    let heard = Heard::to(&net.bus, "#");
    let request = put("/ps/home/temp", "21");
    let answer = net.ask(1, &request);
    assert_eq!(
        (answer.kind(), answer.id()),
        (MessageType::Acknowledgement, request.id)
    );
    assert_eq!(
        (answer.code(), answer.text()),
        ("2.04".to_owned(), String::new())
    );
    assert_eq!(heard.take(), [("home/temp".to_owned(), "21".to_owned())]);
    let answer = net.ask(1, &ask(Code::POST, "/ps/home/temp?qos=2").non());
    assert_eq!(
        (answer.kind(), answer.code().as_str()),
        (MessageType::NonConfirmable, "2.04")
    );
    assert_eq!(heard.take().len(), 1);
}

#[test]
fn a_get_reads_what_is_retained_and_a_delete_clears_it() {
    let mut net = Net::new();
    let read = |net: &mut Net| {
        let answer = net.ask(1, &get("/ps/a"));
        (answer.code(), answer.text())
    };
    assert_eq!(read(&mut net), ("2.05".to_owned(), String::new()));
    net.ask(1, &put("/ps/a", "live"));
    assert_eq!(read(&mut net).1, "");
    net.ask(1, &put("/ps/a?retain=true", "kept"));
    assert_eq!(read(&mut net).1, "kept");
    assert_eq!(net.ask(1, &ask(Code::DELETE, "/ps/a")).code(), "2.02");
    assert_eq!(read(&mut net).1, "");
}

#[test]
fn rfc_7252_5_10_6_an_entity_tag_that_is_known_saves_the_body() {
    let mut net = Net::new();
    net.ask(1, &put("/ps/a?retain", "kept"));
    let first = net.ask(1, &get("/ps/a"));
    let tag = first.all(number::ETAG).remove(0);
    let known = net.ask(
        1,
        &get("/ps/a")
            .option(number::ETAG, b"other")
            .option(number::ETAG, &tag),
    );
    assert_eq!(
        (known.code(), known.text()),
        ("2.03".to_owned(), String::new())
    );
    net.ask(1, &put("/ps/a?retain", "changed"));
    let changed = net.ask(1, &get("/ps/a").option(number::ETAG, &tag));
    assert_eq!(
        (changed.code(), changed.text()),
        ("2.05".to_owned(), "changed".to_owned())
    );
}

#[test]
fn content_formats_and_content_types_are_the_same_thing() {
    let mut net = Net::new();
    net.ask(
        1,
        &put("/ps/a?retain", "{}").uint(number::CONTENT_FORMAT, 50),
    );
    let kept = net.bus.retained(&TopicFilter::new("a").unwrap()).remove(0);
    let properties: Vec<_> = kept.as_message().properties.iter().collect();
    assert_eq!(
        properties,
        [MessageProperty::ContentType("application/json")]
    );
    assert_eq!(
        net.ask(1, &get("/ps/a")).number(number::CONTENT_FORMAT),
        Some(50)
    );
    // One without a content type comes back as it went.
    net.ask(
        1,
        &put("/ps/a?retain", "?").uint(number::CONTENT_FORMAT, 65_001),
    );
    assert_eq!(
        net.ask(1, &get("/ps/a")).number(number::CONTENT_FORMAT),
        Some(65_001)
    );
    let other = net.ask(1, &get("/ps/a").uint(number::ACCEPT, 0));
    assert_eq!(other.code(), "4.06");
}

#[test]
fn rfc_7252_4_5_a_repeated_request_has_no_effect_and_the_same_answer() {
    let mut net = Net::new();
    let heard = Heard::to(&net.bus, "#");
    let request = put("/ps/a", "once");
    let first = net.ask(1, &request);
    for _ in 0..3 {
        assert_eq!(net.ask(1, &request).bytes, first.bytes);
    }
    assert_eq!(heard.take().len(), 1);
    assert_eq!(net.metrics.duplicates.get(), 3);
    // The same identifier from elsewhere is another request.
    net.ask(2, &request);
    assert_eq!(heard.take().len(), 1);
    let non = put("/ps/a", "once").non();
    net.ask(1, &non);
    assert!(net.send(1, &non.bytes()).is_empty());
    assert_eq!(heard.take().len(), 1);
    net.advance(Duration::from_secs(248));
    net.ask(1, &request);
    assert_eq!(heard.take().len(), 1);
}

#[test]
fn a_full_table_of_requests_answers_5_03_and_forgets_none_early() {
    let mut net = Net::with(Arc::new(MemoryStore::new()), |s| s.max_exchanges = 2);
    let heard = Heard::to(&net.bus, "#");
    let first = put("/ps/a", "1");
    net.ask(1, &first);
    net.ask(1, &put("/ps/a", "2"));
    let refused = net.ask(1, &put("/ps/a", "3"));
    assert_eq!(refused.code(), "5.03");
    assert!(refused.number(number::MAX_AGE).is_some());
    assert_eq!(net.ask(1, &first).code(), "2.04");
    assert_eq!(heard.take().len(), 2);
    assert_eq!(
        net.ask(1, &get("/ps/a")).code(),
        "2.05",
        "a GET needs no place"
    );
}

#[test]
fn rfc_7252_4_2_what_cannot_be_read_is_reset_when_it_is_confirmable() {
    let mut net = Net::new();
    let confirmable: [&[u8]; 6] = [
        b"\x49\x01\x12\x34123456789",
        b"\x44\x01\x12\x34123",
        b"\x40\x01\x12\x34\xff",
        b"\x40\x01\x12\x34\xb4ps",
        b"\x40\x01\x12\x34\xf0",
        b"\x41\x00\x12\x34\x01",
    ];
    for bytes in confirmable {
        let reset = one(net.send(1, bytes));
        assert!(reset.is_empty_of(MessageType::Reset), "{bytes:?}");
        assert_eq!(reset.id(), 0x1234);
        let mut non = bytes.to_vec();
        non[0] |= 0x10;
        assert!(net.send(1, &non).is_empty());
    }
    for ignored in [
        &b""[..],
        b"\x40\x01\x12",
        b"\x00\x01\x12\x34",
        b"\x80\x01\x12\x34",
        b"\xc0\x01\x12\x34",
    ] {
        assert!(net.send(1, ignored).is_empty(), "{ignored:?}");
    }
}

#[test]
fn rfc_7252_4_3_a_ping_is_answered_with_reset_and_so_is_what_answers_nothing() {
    let mut net = Net::new();
    let pong = one(net.empty(1, Kind::Confirmable, 77));
    assert!(pong.is_empty_of(MessageType::Reset) && pong.id() == 77);
    for code in [0x45, 0x21, 0xE1] {
        let reset = one(net.send(1, &[0x40, code, 0, 9]));
        assert!(reset.is_empty_of(MessageType::Reset), "{code:x}");
        assert!(net.send(1, &[0x50, code, 0, 9]).is_empty());
    }
    for kind in [Kind::Acknowledgement, Kind::Reset, Kind::NonConfirmable] {
        assert!(net.empty(1, kind, 5).is_empty());
    }
}

#[test]
fn rfc_7252_5_4_1_critical_options_that_are_not_known_are_refused_and_elective_ones_ignored() {
    let mut net = Net::new();
    for number in [9, 13, 19, 31, 65_001] {
        let answer = net.ask(1, &get("/ps/a").option(number, b""));
        assert_eq!(answer.code(), "4.02", "{number}");
        let reset = one(net.send(1, &get("/ps/a").non().option(number, b"").bytes()));
        assert!(reset.is_empty_of(MessageType::Reset));
    }
    for number in [2, 16, 64_998] {
        assert_eq!(
            net.ask(1, &get("/ps/a").option(number, b"12345678")).code(),
            "2.05"
        );
    }
    // Too long (5.4.3), and once too often (5.4.5).
    assert_eq!(
        net.ask(1, &get("/ps/a").option(number::ACCEPT, b"123"))
            .code(),
        "4.02"
    );
    let twice = get("/ps/a").uint(number::ACCEPT, 0).uint(number::ACCEPT, 0);
    assert_eq!(net.ask(1, &twice).code(), "4.02");
    assert_eq!(
        net.ask(1, &get("/ps/a").option(number::OBSERVE, b"1234"))
            .code(),
        "2.05"
    );
}

#[test]
fn what_cannot_be_done_is_refused_with_its_code_and_a_reason() {
    let all = |settings: &mut Settings| settings.unverified = Unverified::All;
    let mut net = Net::with(Arc::new(MemoryStore::new()), all);
    let heard = Heard::to(&net.bus, "#");
    let long = format!("/ps/{}", "a/".repeat(40));
    let proxy = get("/ps/a").option(number::PROXY_URI, "coap://elsewhere/");
    for (request, code) in [
        (get("/elsewhere"), "4.04"),
        (get("/ps"), "4.04"),
        (put("/.well-known/core", ""), "4.05"),
        (ask(Code(5), "/ps/a"), "4.05"),
        (ask(Code(31), "/ps/a"), "4.05"),
        (put("/ps/a/+", ""), "4.00"),
        (put("/ps/a/#", ""), "4.00"),
        (put("/ps/a\0b", ""), "4.00"),
        (get("/ps/a#"), "4.00"),
        (get("/ps/+/b"), "4.00"),
        (put("/ps/a?qos=3", ""), "4.00"),
        (put("/ps/a?retian=1", ""), "4.00"),
        (put("/ps/a?expiry=soon", ""), "4.00"),
        (put("/ps/$SYS/a", ""), "4.03"),
        (put(&long, ""), "4.00"),
        (get(&long), "4.00"),
        (get("/ps/a").option(number::URI_PATH, b"\xff"), "4.00"),
        (proxy, "5.05"),
    ] {
        let answer = net.ask(1, &request);
        assert_eq!(answer.code(), code, "{:?}", request.bytes());
        // RFC 9290: a map with a title.
        assert_eq!(answer.number(number::CONTENT_FORMAT), Some(257));
        assert_eq!(answer.packet.payload[..2], [0xA1, 0x20]);
    }
    assert!(heard.take().is_empty());
}

#[test]
fn rfc_6690_4_what_there_is_can_be_asked_for() {
    let all = |settings: &mut Settings| settings.unverified = Unverified::All;
    let mut net = Net::with(Arc::new(MemoryStore::new()), all);
    let links = net.ask(1, &get("/.well-known/core"));
    assert_eq!(links.number(number::CONTENT_FORMAT), Some(40));
    assert!(
        links.packet.payload.starts_with(b"</ps>"),
        "{}",
        links.text()
    );
    assert!(
        !net.ask(1, &get("/.well-known/core?rt=tidegate.*"))
            .text()
            .is_empty()
    );
    assert!(
        net.ask(1, &get("/.well-known/core?rt=other"))
            .text()
            .is_empty()
    );
}

#[test]
fn rfc_7967_2_answers_that_are_not_wanted_are_not_sent() {
    let mut net = Net::new();
    let quiet = |classes| put("/ps/a", "x").uint(number::NO_RESPONSE, classes);
    assert!(net.send(1, &quiet(2).non().bytes()).is_empty());
    assert!(!net.send(1, &quiet(8).non().bytes()).is_empty());
    let acknowledged = one(net.send(1, &quiet(26).bytes()));
    assert!(acknowledged.is_empty_of(MessageType::Acknowledgement));
    let bad = put("/ps/+", "x").uint(number::NO_RESPONSE, 8);
    assert!(net.send(1, &bad.non().bytes()).is_empty());
}

/// A durable engine whose tickets complete when the test says so.
#[derive(Default)]
struct SlowStore(Mutex<Vec<Completion>>);

impl SlowStore {
    fn ticket(&self) -> Ticket {
        let (ticket, completion) = Ticket::pending();
        self.0.lock().push(completion);
        ticket
    }
}

impl Store for SlowStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        Box::pin(std::future::pending())
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        self.ticket()
    }

    fn change(&self, _: &ClientId, _: Epoch, _: &[SessionChange]) -> Ticket {
        Ticket::ready()
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.ticket()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

#[test]
fn what_is_acknowledged_is_kept_and_what_cannot_be_kept_is_5_03() {
    let store = Arc::new(SlowStore::default());
    let mut net = Net::with(Arc::clone(&store) as _, |_| {});
    let complete = |result| store.0.lock().remove(0).complete(result);
    let request = put("/ps/a?retain", "x");
    assert!(net.send(1, &request.bytes()).is_empty());
    assert!(
        net.send(1, &request.bytes()).is_empty(),
        "a repetition waits, too"
    );
    complete(Ok(()));
    let answer = one(net.rest());
    assert_eq!(
        (answer.code(), answer.kind()),
        ("2.04".to_owned(), MessageType::Acknowledgement)
    );
    assert!(net.send(1, &put("/ps/a?retain", "y").bytes()).is_empty());
    complete(Err(StoreError::Full));
    assert_eq!(one(net.rest()).code(), "5.03");
    assert_eq!(
        net.ask(1, &put("/ps/a?retain&qos=0", "z")).code(),
        "2.04",
        "QoS 0 waits for nothing"
    );
}

#[test]
fn rfc_7252_5_2_2_an_answer_that_takes_long_is_separate_and_repeated_until_it_is_acknowledged() {
    let store = Arc::new(SlowStore::default());
    let mut net = Net::with(Arc::clone(&store) as _, |_| {});
    let request = put("/ps/a?retain", "x");
    assert!(net.send(1, &request.bytes()).is_empty());
    let acknowledged = one(net.advance(Duration::from_secs(1)));
    assert!(acknowledged.is_empty_of(MessageType::Acknowledgement));
    assert_eq!(acknowledged.id(), request.id);
    assert_eq!(one(net.send(1, &request.bytes())).bytes, acknowledged.bytes);
    store.0.lock().remove(0).complete(Ok(()));
    let answer = one(net.rest());
    assert_eq!(
        (answer.code(), answer.kind()),
        ("2.04".to_owned(), MessageType::Confirmable)
    );
    assert_eq!(answer.token(), request.token);
    let again = one(net.advance(Duration::from_secs(3)));
    assert_eq!(again.bytes, answer.bytes);
    net.acknowledge(&again);
    assert!(net.advance(Duration::from_secs(60)).is_empty());
}

/// Lets in who knows the password.
struct Guarded(Mutex<u32>);

impl Access for Guarded {
    fn connect<'a>(&'a self, credentials: Credentials<'a>) -> AccessFuture<'a> {
        *self.0.lock() += 1;
        let allowed = credentials.client_id.as_str() == "meter-7"
            && credentials.user_name == Some("u")
            && credentials.password == Some(b"secret");
        Box::pin(std::future::ready(if allowed {
            Ok(())
        } else {
            Err(Denial::BadCredentials)
        }))
    }

    fn publish(
        &self,
        client: &ClientId,
        topic: TopicName<'_>,
        _: QoS,
        _: bool,
    ) -> Result<(), Denial> {
        let own = topic.as_str().starts_with(client.as_str());
        if own {
            Ok(())
        } else {
            Err(Denial::NotAuthorized)
        }
    }

    fn subscribe(&self, _: &ClientId, filter: &TopicFilter, _: QoS) -> Result<(), Denial> {
        if filter.has_wildcard() {
            Err(Denial::NotAuthorized)
        } else {
            Ok(())
        }
    }
}

#[test]
fn the_access_decision_is_that_of_all_protocols_and_is_asked_once_a_minute() {
    let mut net = Net::new();
    let guarded = Arc::new(Guarded(Mutex::default()));
    let access: Arc<dyn Access> = Arc::clone(&guarded) as _;
    let store = Arc::new(MemoryStore::new());
    net.bus = Bus::new(
        tidegate_bus::Settings::default(),
        store,
        access,
        Arc::new(SystemClock::new()),
    );
    let settings = Settings::default();
    net.server = tidegate_coap::Server::new(
        Arc::clone(&net.bus),
        settings,
        Arc::clone(&net.metrics),
        net.now,
    );
    let good = "c=meter-7&u=u&p=secret";
    for (path, code) in [
        ("/ps/meter-7/a".to_owned(), "4.01"),
        ("/ps/meter-7/a?c=meter-7&u=u&p=wrong".to_owned(), "4.01"),
        (format!("/ps/meter-7/a?{good}"), "2.04"),
        (format!("/ps/meter-8/a?{good}"), "4.03"),
        // What was decided for one does not hold for another, nor without the password.
        ("/ps/meter-7/a?c=meter-7&u=u".to_owned(), "4.01"),
        ("/ps/meter-7/a?c=meter-8&u=u&p=secret".to_owned(), "4.01"),
    ] {
        assert_eq!(net.ask(1, &put(&path, "x")).code(), code, "{path}");
    }
    assert_eq!(
        net.ask(1, &get(&format!("/ps/#?{good}")).observe()).code(),
        "4.03"
    );
    // The decision about a registration is not kept: that about the next request is.
    let asked = *guarded.0.lock();
    net.ask(1, &put(&format!("/ps/meter-7/a?{good}"), "x"));
    let before = *guarded.0.lock();
    assert_eq!(before, asked + 1);
    for _ in 0..10 {
        assert_eq!(
            net.ask(1, &put(&format!("/ps/meter-7/a?{good}"), "x"))
                .code(),
            "2.04"
        );
    }
    assert_eq!(*guarded.0.lock(), before);
    net.advance(Duration::from_secs(61));
    assert_eq!(
        net.ask(1, &put(&format!("/ps/meter-7/a?{good}"), "x"))
            .code(),
        "2.04"
    );
    assert_eq!(*guarded.0.lock(), before + 1);
}
