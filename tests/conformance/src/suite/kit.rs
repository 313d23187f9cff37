//! What the tests of several subjects need: exchanges that must succeed, and what a server has announced.

use std::thread;

use tidegate_tests::wire::{
    Client, Connect, Event, Packet, Property, Publish, SubAck, Version, frame, patience,
};

use crate::case::Case;

/// Publishes; the server must accept the message.
#[track_caller]
pub(super) fn publish(client: &mut Client, message: &Publish) {
    let code = client.publish(message);
    assert!(code < 0x80, "PUBLISH to {}: {code:#04x}", message.topic);
}

/// Subscribes to one filter. A server may grant less than was asked for; then there is nothing to test.
#[track_caller]
pub(super) fn subscribe(case: &Case, client: &mut Client, filter: &str, options: u8) {
    subscribe_with(case, client, filter, options, &[]);
}

/// Subscribes to one filter, with a subscription identifier.
#[track_caller]
pub(super) fn subscribe_as(case: &Case, client: &mut Client, filter: &str, options: u8, id: u32) {
    let available = told(client, |property| match property {
        Property::SubscriptionIdsAvailable(value) => Some(*value),
        _ => None,
    });
    if available == Some(0) {
        case.does_not_apply("the server says that it has no subscription identifiers");
    }
    subscribe_with(
        case,
        client,
        filter,
        options,
        &[Property::SubscriptionId(id)],
    );
}

#[track_caller]
fn subscribe_with(
    case: &Case,
    client: &mut Client,
    filter: &str,
    options: u8,
    properties: &[Property],
) {
    let answer = client.subscribe_with(&[(filter, options)], properties);
    granted(case, &answer, &[options & 3]);
}

/// A SUBSCRIBE to this filter, which is none, is refused by its code or ends the connection.
#[track_caller]
pub(super) fn refused_filter(case: &Case, client: &mut Client, filter: &str) {
    let mut body = vec![0, 9];
    if case.is_v5() {
        body.push(0);
    }
    body.extend_from_slice(&(filter.len() as u16).to_be_bytes());
    body.extend_from_slice(filter.as_bytes());
    body.push(0);
    client.send(&frame(0x82, &body));
    match client.next(patience()) {
        Event::Packet(Packet::SubAck(answer)) => {
            assert!(answer.codes[0] >= 0x80, "{filter:?} was granted");
        }
        Event::Packet(Packet::Disconnect(reason)) => assert!(reason.code >= 0x80, "{filter:?}"),
        Event::Closed => {}
        other => panic!("{filter:?}: {other:?}"),
    }
}

/// The filters of a SUBSCRIBE must have been granted, each with this QoS.
#[track_caller]
pub(super) fn granted(case: &Case, answer: &SubAck, asked: &[u8]) {
    assert_eq!(answer.codes.len(), asked.len(), "a code for each filter");
    for (code, asked) in answer.codes.iter().zip(asked) {
        assert!(code <= asked, "QoS {asked} was asked for, {code:#04x} came");
        if code < asked {
            case.does_not_apply(&format!("the server grants QoS {code} at most"));
        }
    }
}

/// Every message up to the one with this text, which is awaited; all are acknowledged.
#[track_caller]
pub(super) fn until(client: &mut Client, text: &str) -> Vec<Publish> {
    let mut before = Vec::new();
    loop {
        let message = client.receive();
        if message.text() == text {
            return before;
        }
        before.push(message);
    }
}

/// The next message must be the one with this text: what would have come before it did not.
#[track_caller]
pub(super) fn nothing_before(client: &mut Client, text: &str) {
    let before = until(client, text);
    assert!(before.is_empty(), "these were not to come: {before:?}");
}

/// `count` messages that stay unacknowledged, in order.
#[track_caller]
pub(super) fn take(client: &mut Client, count: usize) -> Vec<Publish> {
    (0..count).map(|_| client.expect_publish()).collect()
}

/// The texts of messages.
pub(super) fn texts(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(Publish::text).collect()
}

/// What comes before the answer to a ping, or before the end of the connection if the server ends it: for
/// packets that a server may answer, pass over or take for an error.
#[track_caller]
pub(super) fn answers(client: &mut Client) -> Vec<Packet> {
    // A server that has ended the connection takes no more.
    let _ = client.try_send(&[0xC0, 0x00]);
    let mut came = Vec::new();
    loop {
        match client.next(patience()) {
            Event::Packet(Packet::PingResp) | Event::Closed => return came,
            Event::Packet(packet) => came.push(packet),
            Event::Silence => panic!("an answer to a ping expected, only {came:?} came"),
        }
    }
}

/// The number that a message's text is.
#[track_caller]
pub(super) fn number(message: &Publish) -> u32 {
    let text = message.text();
    let number = text.parse();
    number.unwrap_or_else(|_| panic!("a number was published, {text:?} came"))
}

/// Whether the server speaks this version: it need not speak all that a test crosses. It says no with a
/// CONNACK or by closing; silence is neither.
#[track_caller]
pub(super) fn speaks(case: &Case, version: Version) -> bool {
    let mut client = Client::dial(case.server_of(version), version);
    client.send(&Connect::new(version, &case.topic("speaks")).encode());
    match client.next(patience()) {
        Event::Packet(Packet::ConnAck(answer)) => answer.code == 0,
        Event::Closed => false,
        other => panic!("a CONNECT of {version:?} was answered with {other:?}"),
    }
}

/// The server must have resumed the session; MQTT 3.1 has no word for it.
#[track_caller]
pub(super) fn resumed(client: &Client) {
    assert!(
        client.version() == Version::V31 || client.session_present(),
        "the session was to be resumed"
    );
}

/// What the server has announced in its CONNACK.
#[track_caller]
pub(super) fn told<T>(client: &Client, pick: impl Fn(&Property) -> Option<T>) -> Option<T> {
    client.connack().properties.iter().find_map(pick)
}

/// Ends a test that needs a QoS that the server does not have.
#[track_caller]
pub(super) fn needs_qos(case: &Case, client: &Client, qos: u8) {
    let maximum = told(client, |property| match property {
        Property::MaximumQos(value) => Some(*value),
        _ => None,
    });
    if maximum.is_some_and(|maximum| maximum < qos) {
        case.does_not_apply("the server announces a lower Maximum QoS");
    }
}

/// Ends a test that needs retained messages where the server has none.
#[track_caller]
pub(super) fn needs_retained(case: &Case, client: &Client) {
    let available = told(client, |property| match property {
        Property::RetainAvailable(value) => Some(*value),
        _ => None,
    });
    if available == Some(0) {
        case.does_not_apply("the server says that it retains no messages");
    }
}

/// Ends a test that needs filters with wildcards where the server has none.
#[track_caller]
pub(super) fn needs_wildcards(case: &Case, client: &Client) {
    let available = told(client, |property| match property {
        Property::WildcardAvailable(value) => Some(*value),
        _ => None,
    });
    if available == Some(0) {
        case.does_not_apply("the server says that it has no wildcards");
    }
}

/// Ends a test that needs shared subscriptions where the server has none.
#[track_caller]
pub(super) fn needs_shared(case: &Case, client: &Client) {
    let available = told(client, |property| match property {
        Property::SharedAvailable(value) => Some(*value),
        _ => None,
    });
    if available == Some(0) {
        case.does_not_apply("the server says that it has no shared subscriptions");
    }
}

/// How many messages of QoS 1 and 2 a client may send before it waits for an answer (3.3.4-7), up to
/// `most`.
#[track_caller]
pub(super) fn window(client: &Client, most: u16) -> u16 {
    let maximum = told(client, |property| match property {
        Property::ReceiveMaximum(value) => Some(*value),
        _ => None,
    });
    maximum.unwrap_or(most).clamp(1, most)
}

/// The most topic aliases that a client may use.
#[track_caller]
pub(super) fn alias_maximum(client: &Client) -> u16 {
    let maximum = told(client, |property| match property {
        Property::TopicAliasMaximum(value) => Some(*value),
        _ => None,
    });
    maximum.unwrap_or(0)
}

/// Retained messages of a test, removed when it is over: the server is shared.
pub(super) struct Retained<'a> {
    case: &'a Case,
    topics: Vec<String>,
}

impl<'a> Retained<'a> {
    /// Will remove what these topics retain.
    pub(super) fn of(case: &'a Case, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Self { case, topics }
    }

    /// Publishes messages with RETAIN, at QoS 1 or as they say.
    #[track_caller]
    pub(super) fn new(case: &'a Case, messages: &[Publish]) -> Self {
        let mut sender = case.client("retainer");
        needs_retained(case, &sender);
        for message in messages {
            let message = message.clone();
            let qos = message.qos.max(1);
            publish(&mut sender, &message.qos(qos).retain());
        }
        let topics = messages.iter().map(|message| message.topic.clone());
        Self {
            case,
            topics: topics.collect(),
        }
    }
}

impl Drop for Retained<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut sender = self.case.client("cleaner");
        for topic in &self.topics {
            sender.publish(&Publish::new(topic, "").qos(1).retain());
        }
    }
}
