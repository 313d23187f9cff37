//! The order of messages: MQTT 3.1.1 and 5.0 section 4.6.

use tidegate_tests::wire::{Ack, Connect, Publish, Version};

use super::kit::{number, publish, speaks, subscribe, window};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_0)
        .mqtt3(&["4.6.0-5", "4.6.0-6"])
        .mqtt5(&["4.6.0-5", "4.6.0-6"])
        .level3("A topic keeps its order at QoS 0.")
        .fault(Fault::server(packet::PUBLISH).nth(45).swapped()),
    test!(mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_1)
        .mqtt3(&["4.6.0-5", "4.6.0-6"])
        .mqtt5(&["4.6.0-5", "4.6.0-6"])
        .level3("A topic keeps its order at QoS 1.")
        .fault(Fault::server(packet::PUBLISH).nth(45).swapped()),
    test!(mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_2)
        .mqtt3(&["4.6.0-5", "4.6.0-6"])
        .mqtt5(&["4.6.0-5", "4.6.0-6"])
        .level3("A topic keeps its order at QoS 2.")
        .fault(Fault::server(packet::PUBLISH).nth(45).swapped()),
    test!(mqtt_4_6_0_5_what_waits_in_a_queue_keeps_its_order)
        .mqtt3(&["4.6.0-6"])
        .mqtt5(&["4.6.0-5", "4.6.0-6"])
        .level3("What waits in a queue keeps its order.")
        .fault(Fault::server(packet::PUBLISH).nth(5).swapped()),
    test!(mqtt_4_6_0_5_each_qos_of_a_mixed_stream_keeps_its_order)
        .mqtt3(&["4.6.0-6"])
        .mqtt5(&["4.6.0-5", "4.6.0-6"])
        .interplay("order across QoS levels")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.qos() == 1)
                .nth(4)
                .altered("the number of a later one", |frame| {
                    frame.set_payload(b"25");
                }),
        ),
    test!(mqtt_4_6_0_6_each_of_two_publishers_keeps_its_order)
        .mqtt3(&["4.6.0-6"])
        .mqtt5(&["4.6.0-5"])
        .level3("Each of two publishers keeps its order.")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"1:20")
                .altered("the text of the next one", |frame| {
                    frame.set_payload(b"1:21");
                }),
        ),
];

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// What one client publishes at a QoS comes in its order.
#[track_caller]
fn ordered(case: &Case, qos: u8) {
    let topic = case.topic("ordered");
    let mut receiver = case.client("ordered");
    subscribe(case, &mut receiver, &topic, qos);
    let mut sender = case.client("ordered");
    let expected = numbers(100);
    // In batches, so that several are under way at a time and no queue is full.
    let together = window(&sender, 10);
    for batch in expected.chunks(usize::from(together)) {
        let mut bytes = Vec::new();
        for (id, text) in (1..).zip(batch) {
            let message = Publish::new(&topic, text).qos(qos).id(id);
            bytes.extend(message.encode(case.version()));
        }
        sender.send(&bytes);
        for (id, _) in (1..).zip(batch) {
            match qos {
                0 => {}
                1 => drop(sender.await_puback(id)),
                _ => {
                    sender.await_pubrec(id);
                    sender.send_pubrel(&Ack::new(id));
                    sender.await_pubcomp(id);
                }
            }
        }
        assert_eq!(receiver.receive_texts(batch.len()), batch);
    }
}

fn mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_0(case: &Case) {
    ordered(case, 0);
}

fn mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_1(case: &Case) {
    ordered(case, 1);
}

fn mqtt_4_6_0_5_a_topic_keeps_its_order_at_qos_2(case: &Case) {
    ordered(case, 2);
}

fn mqtt_4_6_0_5_what_waits_in_a_queue_keeps_its_order(case: &Case) {
    let topic = case.topic("queue");
    let connect = case.lasting("queue");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    receiver.disconnect();
    let mut sender = case.client("queue");
    let expected = numbers(60);
    for text in &expected {
        publish(&mut sender, &Publish::new(&topic, text).qos(1));
    }
    assert_eq!(case.open(&connect).receive_texts(60), expected);
}

fn mqtt_4_6_0_5_each_qos_of_a_mixed_stream_keeps_its_order(case: &Case) {
    let topic = case.topic("mixed");
    let mut receiver = case.client("mixed");
    subscribe(case, &mut receiver, &topic, 2);
    let mut sender = case.client("mixed");
    for (index, qos) in (0..30).zip([0, 1, 2].into_iter().cycle()) {
        publish(
            &mut sender,
            &Publish::new(&topic, format!("{index}")).qos(qos),
        );
    }
    let mut came = [const { Vec::new() }; 3];
    for _ in 0..30 {
        let message = receiver.receive();
        came[usize::from(message.qos)].push(number(&message));
    }
    let expected = [0, 1, 2].map(|qos| (0..30).filter(|n| n % 3 == qos).collect::<Vec<u32>>());
    assert_eq!(came, expected);
}

fn mqtt_4_6_0_6_each_of_two_publishers_keeps_its_order(case: &Case) {
    let topic = case.topic("two");
    let mut receiver = case.client("two");
    subscribe(case, &mut receiver, &topic, 0);
    // Of another version where the server speaks several: the order is the server's.
    let other = match case.version() {
        Version::V5 if speaks(case, Version::V311) => Version::V311,
        version => version,
    };
    let mut senders = [
        case.client("first"),
        case.open(&Connect::new(other, &case.topic("second"))),
    ];
    for number in 0..40 {
        for (index, sender) in senders.iter_mut().enumerate() {
            let text = format!("{index}:{number}");
            sender.send_publish(&Publish::new(&topic, text));
        }
    }
    let came = receiver.receive_texts(80);
    for index in 0..2 {
        let sent: Vec<String> = (0..40).map(|number| format!("{index}:{number}")).collect();
        let prefix = format!("{index}:");
        let of_one: Vec<&String> = came
            .iter()
            .filter(|text| text.starts_with(&prefix))
            .collect();
        assert_eq!(of_one, sent.iter().collect::<Vec<_>>());
    }
}
