//! What is sent again on resume: MQTT 3.1.1 and 5.0 section 4.4.

use std::time::Duration;

use tidegate_tests::wire::{Ack, Client, Connect, Event, Packet, Publish, code, patience};

use super::kit::{publish, resumed, subscribe, take, texts};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_3_1_1_what_is_sent_again_has_dup)
        .mqtt3(&["3.3.1-1"])
        .mqtt5(&["3.3.1-1"])
        .level3("What is sent again has DUP.")
        .fault(
            Fault::server(packet::PUBLISH)
                .nth(3)
                .altered("DUP cleared", |frame| frame.first &= !0x08),
        ),
    test!(mqtt_4_3_2_3_a_qos_1_message_without_puback_is_sent_again)
        .mqtt3(&["4.4.0-1", "4.3.2-1"])
        .mqtt5(&["4.4.0-1", "4.3.2-3"])
        .level3("A QoS 1 message without PUBACK is sent again on resume.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_4_3_3_3_a_qos_2_message_without_pubrec_is_sent_again)
        .mqtt3(&["4.4.0-1", "4.3.3-1"])
        .mqtt5(&["4.4.0-1", "4.3.3-3"])
        .level3("A QoS 2 message without PUBREC is sent again on resume.")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt_4_3_3_5_a_pubrel_without_pubcomp_is_sent_again)
        .mqtt3(&["4.4.0-1", "4.3.3-1"])
        .mqtt5(&["4.4.0-1", "4.3.3-5"])
        .level3("A PUBREL without PUBCOMP is sent again on resume.")
        .regression(&["PUBREL owed on resume and not sent"])
        .fault(Fault::server(packet::PUBREL).nth(2)),
    test!(mqtt_4_3_3_6_after_its_pubrel_a_publish_is_not_sent_again)
        .mqtt3(&["4.3.3-1"])
        .mqtt5(&["4.3.3-6"])
        .level3("After its PUBREL a PUBLISH is not sent again.")
        .fault(
            Fault::server(packet::PUBREL)
                .nth(2)
                .altered("the form of a PUBLISH", |frame| {
                    let [high, low] = frame.id().to_be_bytes();
                    frame.first = packet::PUBLISH | 0x0C;
                    frame.body = vec![0, 1, b't', high, low, 0, b'x'];
                }),
        ),
    test!(mqtt_4_4_0_1_packets_keep_their_identifiers)
        .mqtt3(&["4.4.0-1"])
        .mqtt5(&["4.4.0-1"])
        .level3("What is sent again has its identifier.")
        .fault(
            Fault::server(packet::PUBLISH)
                .nth(4)
                .altered("another identifier", |frame| frame.set_id(frame.id() + 100)),
        ),
    test!(mqtt_4_4_0_1_what_is_acknowledged_is_not_sent_again)
        .mqtt3(&["4.3.2-1", "4.3.3-1"])
        .mqtt5(&["4.4.0-1"])
        .level3("What is acknowledged is not sent again.")
        .fault(Fault::client(packet::PUBACK)),
    test!(mqtt5_4_4_0_1_a_live_connection_sees_nothing_again)
        .mqtt5(&["4.4.0-1"])
        .fault(Fault::server(packet::PUBLISH).doubled()),
    test!(mqtt5_4_4_0_2_what_is_refused_is_not_sent_again)
        .mqtt5(&["4.4.0-2"])
        .fault(Fault::client(packet::PUBACK)),
    test!(mqtt_4_6_0_5_what_is_sent_again_keeps_its_order)
        .mqtt3(&["4.6.0-1", "4.6.0-6"])
        .mqtt5(&["4.6.0-5"])
        .level3("What is sent again keeps its order.")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.first & 8 != 0 && frame.payload() == b"2")
                .swapped(),
        ),
    test!(mqtt3_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs)
        .mqtt3(&["4.6.0-4", "4.6.0-6"])
        .level3("PUBRELs come in the order of the PUBRECs.")
        .fault(Fault::server(packet::PUBREL).nth(1).swapped()),
];

/// A client with a session that has these messages unacknowledged; they are numbered from 0.
struct Owed {
    connect: Connect,
    topic: String,
    receiver: Client,
    sender: Client,
    messages: Vec<Publish>,
}

impl Owed {
    #[track_caller]
    fn new(case: &Case, qos: &[u8]) -> Self {
        let topic = case.topic("owed");
        let connect = case.lasting("owed");
        let mut receiver = case.open(&connect);
        subscribe(case, &mut receiver, &topic, 2);
        let mut sender = case.client("owed");
        for (number, qos) in qos.iter().enumerate() {
            publish(
                &mut sender,
                &Publish::new(&topic, number.to_string()).qos(*qos),
            );
        }
        let messages = take(&mut receiver, qos.len());
        assert_eq!(
            texts(&messages),
            (0..qos.len())
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        );
        Self {
            connect,
            topic,
            receiver,
            sender,
            messages,
        }
    }

    /// The network fails, and the client comes back.
    #[track_caller]
    fn resume(self, case: &Case) -> (Client, Vec<Publish>) {
        self.receiver.vanish();
        let receiver = case.open(&self.connect);
        resumed(&receiver);
        (receiver, self.messages)
    }
}

fn mqtt_3_3_1_1_what_is_sent_again_has_dup(case: &Case) {
    let (mut receiver, messages) = Owed::new(case, &[1, 2]).resume(case);
    assert!(messages.iter().all(|message| !message.dup), "{messages:?}");
    for message in take(&mut receiver, 2) {
        assert!(message.dup, "sent again: {message:?}");
    }
}

fn mqtt_4_3_2_3_a_qos_1_message_without_puback_is_sent_again(case: &Case) {
    let (mut receiver, messages) = Owed::new(case, &[1]).resume(case);
    let again = receiver.receive();
    assert_eq!(
        (again.text(), again.qos, again.id),
        (messages[0].text(), 1, messages[0].id)
    );
}

fn mqtt_4_3_3_3_a_qos_2_message_without_pubrec_is_sent_again(case: &Case) {
    let (mut receiver, messages) = Owed::new(case, &[2]).resume(case);
    let again = receiver.receive();
    assert_eq!(
        (again.text(), again.qos, again.id),
        (messages[0].text(), 2, messages[0].id)
    );
}

fn mqtt_4_3_3_5_a_pubrel_without_pubcomp_is_sent_again(case: &Case) {
    let mut owed = Owed::new(case, &[2]);
    let id = owed.messages[0].id;
    owed.receiver.send_pubrec(&Ack::new(id));
    assert_eq!(owed.receiver.expect_pubrel().id, id);
    let (mut receiver, _) = owed.resume(case);
    assert_eq!(receiver.expect_pubrel().id, id);
    receiver.send_pubcomp(&Ack::new(id));
}

fn mqtt_4_3_3_6_after_its_pubrel_a_publish_is_not_sent_again(case: &Case) {
    let mut owed = Owed::new(case, &[2, 2]);
    let [released, repeated] = [owed.messages[0].id, owed.messages[1].id];
    owed.receiver.send_pubrec(&Ack::new(released));
    assert_eq!(owed.receiver.expect_pubrel().id, released);
    let (mut receiver, _) = owed.resume(case);
    // In which order the two come is left open.
    let mut came = Vec::new();
    for _ in 0..2 {
        match receiver.next(patience()) {
            Event::Packet(Packet::PubRel(ack)) => came.push(("PUBREL", ack.id)),
            Event::Packet(Packet::Publish(message)) => came.push(("PUBLISH", message.id)),
            other => panic!("a PUBREL and a PUBLISH expected: {other:?}"),
        }
    }
    came.sort_unstable();
    assert_eq!(came, [("PUBLISH", repeated), ("PUBREL", released)]);
}

fn mqtt_4_4_0_1_packets_keep_their_identifiers(case: &Case) {
    let (mut receiver, messages) = Owed::new(case, &[1, 2, 1]).resume(case);
    for (before, after) in messages.iter().zip(take(&mut receiver, 3)) {
        assert_eq!(
            (after.text(), after.id, after.qos),
            (before.text(), before.id, before.qos)
        );
    }
}

fn mqtt_4_4_0_1_what_is_acknowledged_is_not_sent_again(case: &Case) {
    let mut owed = Owed::new(case, &[1, 2, 1]);
    let messages = owed.messages.clone();
    owed.receiver.acknowledge(&messages[0]);
    owed.receiver.acknowledge(&messages[1]);
    // The server has read both by the time it answers.
    owed.receiver.expect_nothing();
    let (mut receiver, _) = owed.resume(case);
    assert_eq!(receiver.receive().text(), "2");
    receiver.expect_nothing();
}

fn mqtt5_4_4_0_1_a_live_connection_sees_nothing_again(case: &Case) {
    let mut owed = Owed::new(case, &[1]);
    // Time is what is tested: servers of old sent again by a timer.
    let came = owed.receiver.next(Duration::from_millis(1_500));
    assert_eq!(came, Event::Silence);
    publish(&mut owed.sender, &Publish::new(&owed.topic, "end").qos(1));
    assert_eq!(owed.receiver.expect_publish().text(), "end");
}

fn mqtt5_4_4_0_2_what_is_refused_is_not_sent_again(case: &Case) {
    let mut owed = Owed::new(case, &[1, 2, 1]);
    let refusal = |index: usize| Ack::new(owed.messages[index].id).code(code::UNSPECIFIED);
    let (first, second) = (refusal(0), refusal(1));
    owed.receiver.send_puback(&first);
    owed.receiver.send_pubrec(&second);
    owed.receiver.expect_nothing();
    let (mut receiver, _) = owed.resume(case);
    assert_eq!(receiver.receive().text(), "2");
    receiver.expect_nothing();
}

fn mqtt_4_6_0_5_what_is_sent_again_keeps_its_order(case: &Case) {
    for qos in [1, 2] {
        let mut owed = Owed::new(case, &[qos; 5]);
        let first = owed.messages[0].clone();
        owed.receiver.acknowledge(&first);
        owed.receiver.expect_nothing();
        owed.receiver.disconnect();
        // What came meanwhile stands behind what was sent before.
        let message = Publish::new(&owed.topic, "meanwhile").qos(qos);
        publish(&mut owed.sender, &message);
        let mut receiver = case.open(&owed.connect);
        let came = texts(&take(&mut receiver, 5));
        assert_eq!(came, ["1", "2", "3", "4", "meanwhile"]);
    }
}

fn mqtt3_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs(case: &Case) {
    let mut owed = Owed::new(case, &[2; 4]);
    // As a client has to: in the order of the PUBLISH packets (4.6.0-3).
    let order: Vec<u16> = owed.messages.iter().map(|message| message.id).collect();
    for id in &order {
        owed.receiver.send_pubrec(&Ack::new(*id));
    }
    let released: Vec<u16> = (0..4).map(|_| owed.receiver.expect_pubrel().id).collect();
    assert_eq!(released, order);
}
