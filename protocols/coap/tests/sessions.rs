//! Sessions under CoAP (RFC 7252 section 9.1): what was said in one means nothing in the next, at the same address.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coap_lite::MessageType;
use parking_lot::Mutex;
use support::*;
use tidegate_bus::{
    Access, AccessFuture, Bus, Claim, ClientId, Completion, Credentials, Denial, Epoch,
    MemoryStore, Place, Publication, QoS, QueueReader, SessionChange, Store, StoreFuture,
    StoredMessage, SystemClock, Ticket, TopicFilter, TopicName,
};
use tidegate_coap::codec::number;
use tidegate_coap::{Cancel, Outgoing, Proved, Server, Settings, Unverified};

fn address(port: u16) -> SocketAddr {
    path(port).remote
}

/// A listener over DTLS: no address is one that is not proved.
fn net(store: Arc<dyn Store>) -> Net {
    Net::with(store, |settings| settings.unverified = Unverified::All)
}

fn begin(net: &mut Net, port: u16, name: &str) {
    let proved = Some(Proved::Key(name.into()));
    net.server.session_begins(address(port), proved);
}

fn end(net: &mut Net, port: u16) {
    let mut out = Outgoing::default();
    net.server.session_ends(address(port), net.now, &mut out);
    assert!(out.is_empty(), "nobody is there to be told");
}

#[test]
fn rfc_7252_9_1_observations_end_with_their_session_and_those_of_others_do_not() {
    let mut net = net(Arc::new(MemoryStore::new()));
    let subscriptions = net.bus.counters().subscriptions.get();
    for port in [1, 2] {
        begin(&mut net, port, "a");
        for topic in ["/ps/a", "/ps/b"] {
            let answer = net.ask(port, &get(topic).observe().token(topic.as_bytes()));
            assert_eq!(answer.kind(), MessageType::Acknowledgement);
            assert!(answer.number(number::OBSERVE).is_some());
        }
    }
    // One is told something, and has not acknowledged it.
    assert_eq!(net.publish("a", "1", false).len(), 2);
    end(&mut net, 1);
    assert_eq!(net.metrics.cancelled[Cancel::Session as usize].get(), 2);
    let left = net.bus.counters().subscriptions.get();
    assert_eq!(left, subscriptions + 2);
    begin(&mut net, 1, "b");
    let told = net.advance(Duration::from_secs(120));
    assert!(told.iter().all(|sent| sent.port == 2), "{told:?}");
    assert!(!told.is_empty(), "the other one is asked again");
    net.publish("b", "2", false);
    let told = net.advance(Duration::from_secs(1));
    assert!(told.iter().all(|sent| sent.port == 2), "{told:?}");
}

#[test]
fn rfc_7252_4_5_an_identifier_of_the_session_before_is_not_a_repetition() {
    let mut net = net(Arc::new(MemoryStore::new()));
    let heard = Heard::to(&net.bus, "#");
    let request = put("/ps/a", "1");
    begin(&mut net, 1, "a");
    net.ask(1, &request);
    assert_eq!(net.ask(1, &request).code(), "2.04");
    assert_eq!(heard.take().len(), 1, "it is repeated");
    end(&mut net, 1);
    begin(&mut net, 1, "a");
    net.ask(1, &request);
    assert_eq!(heard.take().len(), 1, "it is another one");
    net.ask(1, &request);
    assert!(heard.take().is_empty());
    assert_eq!(net.metrics.duplicates.get(), 2);
}

#[test]
fn rfc_7959_2_5_a_body_that_began_in_a_session_is_not_finished_in_the_next() {
    let mut net = net(Arc::new(MemoryStore::new()));
    let heard = Heard::to(&net.bus, "#");
    let first = put("/ps/a", [b'x'; 16]).block(number::BLOCK1, 0, true, 16);
    let last = put("/ps/a", b"y").block(number::BLOCK1, 1, false, 16);
    begin(&mut net, 1, "a");
    assert_eq!(net.ask(1, &first).code(), "2.31");
    end(&mut net, 1);
    begin(&mut net, 1, "a");
    assert_eq!(net.ask(1, &last).code(), "4.08");
    assert!(heard.take().is_empty());
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
        Box::pin(pending())
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
fn rfc_7252_5_3_2_an_answer_that_was_owed_in_a_session_does_not_come_in_the_next() {
    let store = Arc::new(SlowStore::default());
    let mut net = net(Arc::clone(&store) as _);
    // One is acknowledged by then and the other one is not, and the third is of somebody else.
    begin(&mut net, 1, "a");
    begin(&mut net, 2, "b");
    assert!(net.send(1, &put("/ps/a?retain", "1").bytes()).is_empty());
    assert_eq!(net.advance(Duration::from_secs(1)).len(), 1);
    assert!(net.send(1, &put("/ps/a?retain", "2").bytes()).is_empty());
    assert!(net.send(2, &put("/ps/a?retain", "3").bytes()).is_empty());
    end(&mut net, 1);
    begin(&mut net, 1, "a");
    for completion in store.0.lock().drain(..) {
        completion.complete(Ok(()));
    }
    let answer = one(net.rest());
    assert_eq!((answer.port, answer.code().as_str()), (2, "2.04"));
    assert!(net.advance(Duration::from_secs(10)).is_empty());
}

#[test]
fn what_is_about_to_be_sent_in_a_session_is_taken_back_when_it_ends() {
    let mut net = net(Arc::new(MemoryStore::new()));
    let mut out = Outgoing::default();
    for port in [1, 2] {
        begin(&mut net, port, "a");
        let ask = get("/ps/a").bytes();
        let (server, now) = (&mut net.server, net.now);
        net.bus
            .batch(|worker| server.receive(worker, path(port), &ask, now, &mut out));
        net.bus.batch(|worker| server.wake(worker, now, &mut out));
    }
    net.server.session_ends(address(1), net.now, &mut out);
    let ports: Vec<u16> = out.iter().map(|(path, _)| path.remote.port()).collect();
    assert_eq!(ports, [2]);
}

#[test]
fn a_session_proves_an_address_so_that_nothing_is_held_back() {
    // All endpoints but one could be such that have proved nothing.
    let mut net = Net::with(Arc::new(MemoryStore::new()), |settings| {
        settings.unverified = Unverified::All;
        settings.max_endpoints = 8;
    });
    for port in 1..=8 {
        begin(&mut net, port, "a");
        let answer = net.ask(port, &get("/ps/a").observe());
        assert!(answer.number(number::OBSERVE).is_some(), "{port}");
    }
    let mut out = Outgoing::default();
    net.server.shut_down(net.now, &mut out);
    assert_eq!(out.iter().count(), 8, "all hear that it is over");
}

/// What access was asked about.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    client: String,
    key: Option<String>,
    certificate: Option<String>,
}

fn said(client: &str, key: Option<&str>, certificate: Option<&str>) -> Said {
    Said {
        client: client.to_owned(),
        key: key.map(ToOwned::to_owned),
        certificate: certificate.map(ToOwned::to_owned),
    }
}

/// Lets everybody in but one, for whom nothing is ever decided.
#[derive(Default)]
struct Asked(Mutex<Vec<Said>>);

impl Access for Asked {
    fn connect<'a>(&'a self, credentials: Credentials<'a>) -> AccessFuture<'a> {
        let (key, certificate) = (credentials.psk_identity, credentials.certificate_name);
        let client = credentials.client_id.as_str();
        self.0.lock().push(said(client, key, certificate));
        if client == "undecided" {
            return Box::pin(pending());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn publish(
        &self,
        client: &ClientId,
        topic: TopicName<'_>,
        _: QoS,
        _: bool,
    ) -> Result<(), Denial> {
        match topic.as_str() == client.as_str() {
            true => Ok(()),
            false => Err(Denial::NotAuthorized),
        }
    }

    fn subscribe(&self, _: &ClientId, _: &TopicFilter, _: QoS) -> Result<(), Denial> {
        Ok(())
    }
}

fn guarded() -> (Net, Arc<Asked>) {
    let mut net = net(Arc::new(MemoryStore::new()));
    let asked = Arc::new(Asked::default());
    let access: Arc<dyn Access> = Arc::clone(&asked) as _;
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(SystemClock::new());
    net.bus = Bus::new(tidegate_bus::Settings::default(), store, access, clock);
    let mut settings = Settings::default();
    settings.unverified = Unverified::All;
    let metrics = Arc::clone(&net.metrics);
    net.server = Server::new(Arc::clone(&net.bus), settings, metrics, net.now);
    (net, asked)
}

#[test]
fn who_a_session_has_proved_to_be_with_is_the_client_unless_it_names_another_and_access_hears_both()
{
    let (mut net, asked) = guarded();
    begin(&mut net, 1, "meter-7");
    assert_eq!(net.ask(1, &put("/ps/meter-7", "x")).code(), "2.04");
    assert_eq!(net.ask(1, &put("/ps/meter-8", "x")).code(), "4.03");
    assert_eq!(net.ask(1, &put("/ps/other?c=other", "x")).code(), "2.04");
    let certificate = Some(Proved::Certificate("pump-1".into()));
    net.server.session_begins(address(2), certificate);
    assert_eq!(net.ask(2, &put("/ps/pump-1", "x")).code(), "2.04");
    net.server.session_begins(address(3), None);
    let own = "/ps/coap-127.0.0.1:3";
    assert_eq!(net.ask(3, &put(own, "x")).code(), "2.04");
    let expected = [
        said("meter-7", Some("meter-7"), None),
        said("other", Some("meter-7"), None),
        said("pump-1", None, Some("pump-1")),
        said("coap-127.0.0.1:3", None, None),
    ];
    assert_eq!(*asked.0.lock(), expected);
}

#[test]
fn what_was_decided_on_a_session_does_not_hold_in_the_next() {
    let (mut net, asked) = guarded();
    begin(&mut net, 1, "meter-7");
    assert_eq!(net.ask(1, &put("/ps/meter-7", "x")).code(), "2.04");
    end(&mut net, 1);
    begin(&mut net, 1, "meter-8");
    assert_eq!(net.ask(1, &put("/ps/meter-7", "x")).code(), "4.03");
    assert_eq!(net.ask(1, &put("/ps/meter-8", "x")).code(), "2.04");
    let clients: Vec<_> = asked.0.lock().drain(..).map(|it| it.client).collect();
    assert_eq!(clients, ["meter-7", "meter-8"]);
}

#[test]
fn a_request_whose_decision_is_open_ends_with_its_session() {
    let (mut net, asked) = guarded();
    begin(&mut net, 1, "undecided");
    let request = put("/ps/undecided", "x");
    assert!(net.send(1, &request.bytes()).is_empty());
    assert_eq!(asked.0.lock().len(), 1);
    end(&mut net, 1);
    // As many may be open as there may be at once: those of sessions that have ended are not among them.
    for _ in 0..2_000 {
        begin(&mut net, 1, "undecided");
        assert!(net.send(1, &put("/ps/undecided", "x").bytes()).is_empty());
        end(&mut net, 1);
    }
    assert_eq!(net.metrics.full.get(), 0);
}
