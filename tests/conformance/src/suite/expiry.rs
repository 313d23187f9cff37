//! Messages that expire: MQTT 5.0 sections 3.3.2.3.3 and 4.3.3. Time is what is tested here.

use std::thread;
use std::time::Duration;

use tidegate_tests::wire::{Ack, Property, Publish};

use super::kit::{Retained, nothing_before, publish, resumed, subscribe};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

/// Beyond an expiry of one second, also where a server's clock ticks in whole ones.
const TWO_TICKS: Duration = Duration::from_millis(2_200);

/// A server that knows of no expiry.
const NEVER: fn(&mut crate::frame::Frame) = |frame| frame.remove_property(0x02);

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_3_2_5_an_expired_message_does_not_leave_the_queue)
        .mqtt5(&["3.3.2-5"])
        .fault(Fault::client(packet::PUBLISH).altered("no expiry", NEVER)),
    test!(mqtt5_3_3_2_5_an_expired_message_is_retained_no_longer)
        .mqtt5(&["3.3.2-5"])
        .fault(Fault::client(packet::PUBLISH).altered("no expiry", NEVER)),
    test!(mqtt5_3_3_2_6_a_message_that_did_not_wait_keeps_its_expiry)
        .mqtt5(&["3.3.2-6"])
        .fault(Fault::server(packet::PUBLISH).altered("no expiry", NEVER)),
    test!(mqtt5_3_3_2_6_the_expiry_of_a_queued_message_counts_down)
        .mqtt5(&["3.3.2-6"])
        .regression(&["expiry not decremented for queued messages"])
        .fault(
            Fault::server(packet::PUBLISH).altered("the expiry as it was published", |frame| {
                frame.set_property(&Property::MessageExpiry(60));
            }),
        ),
    test!(mqtt5_3_3_2_6_the_expiry_of_a_retained_message_counts_down)
        .mqtt5(&["3.3.2-6"])
        .regression(&["expiry not decremented for retained messages"])
        .fault(
            Fault::server(packet::PUBLISH).altered("the expiry as it was published", |frame| {
                frame.set_property(&Property::MessageExpiry(60));
            }),
        ),
    test!(mqtt5_4_3_3_5_an_expiry_does_not_end_an_exchange_past_pubrec)
        .mqtt5(&["4.3.3-5", "4.3.3-7"])
        .regression(&["expiry that deletes a QoS 2 exchange past PUBREC"])
        .fault(Fault::server(packet::PUBREL).nth(2)),
    test!(mqtt5_4_3_3_7_a_message_that_was_sent_does_not_expire)
        .mqtt5(&["4.3.3-7"])
        .interplay("expiry in flight")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
];

fn expiring(topic: &str, text: &str, seconds: u32) -> Publish {
    let message = Publish::new(topic, text).qos(1);
    message.with(Property::MessageExpiry(seconds))
}

fn mqtt5_3_3_2_5_an_expired_message_does_not_leave_the_queue(case: &Case) {
    let topic = case.topic("queue");
    let connect = case.lasting("queue");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    receiver.disconnect();
    let mut sender = case.client("queue");
    publish(&mut sender, &expiring(&topic, "short", 1));
    publish(&mut sender, &Publish::new(&topic, "endless").qos(1));
    thread::sleep(TWO_TICKS);
    let mut receiver = case.open(&connect);
    nothing_before(&mut receiver, "endless");
}

fn mqtt5_3_3_2_5_an_expired_message_is_retained_no_longer(case: &Case) {
    let topic = case.topic("expired");
    let _retained = Retained::new(case, &[expiring(&topic, "gone", 1)]);
    thread::sleep(TWO_TICKS);
    let mut receiver = case.client("expired");
    subscribe(case, &mut receiver, &topic, 1);
    publish(&mut receiver, &Publish::new(&topic, "live").qos(1));
    nothing_before(&mut receiver, "live");
}

fn mqtt5_3_3_2_6_a_message_that_did_not_wait_keeps_its_expiry(case: &Case) {
    let topic = case.topic("live");
    let mut receiver = case.client("live");
    subscribe(case, &mut receiver, &topic, 1);
    publish(&mut case.client("live"), &expiring(&topic, "x", 1_000));
    let left = receiver.receive().expiry();
    // As many seconds less as the server was slow, on a busy machine.
    assert!(matches!(left, Some(990..=1_000)), "{left:?} of 1000 s");
}

fn mqtt5_3_3_2_6_the_expiry_of_a_queued_message_counts_down(case: &Case) {
    let topic = case.topic("counts");
    let connect = case.lasting("counts");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 1);
    receiver.disconnect();
    publish(&mut case.client("counts"), &expiring(&topic, "x", 60));
    thread::sleep(TWO_TICKS);
    let left = case.open(&connect).receive().expiry();
    assert!(matches!(left, Some(48..=59)), "{left:?} of 60 s after two");
}

fn mqtt5_3_3_2_6_the_expiry_of_a_retained_message_counts_down(case: &Case) {
    let topic = case.topic("counts");
    let _retained = Retained::new(case, &[expiring(&topic, "kept", 60)]);
    thread::sleep(TWO_TICKS);
    let mut receiver = case.client("counts");
    subscribe(case, &mut receiver, &topic, 1);
    let left = receiver.receive().expiry();
    assert!(matches!(left, Some(48..=59)), "{left:?} of 60 s after two");
}

fn mqtt5_4_3_3_5_an_expiry_does_not_end_an_exchange_past_pubrec(case: &Case) {
    let topic = case.topic("past");
    let connect = case.lasting("past");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 2);
    let message = expiring(&topic, "x", 1).qos(2);
    publish(&mut case.client("past"), &message);
    let message = receiver.expect_publish();
    receiver.send_pubrec(&Ack::new(message.id));
    assert_eq!(receiver.expect_pubrel().id, message.id);
    receiver.vanish();
    thread::sleep(TWO_TICKS);
    let mut receiver = case.open(&connect);
    resumed(&receiver);
    assert_eq!(receiver.expect_pubrel().id, message.id);
    receiver.send_pubcomp(&Ack::new(message.id));
    receiver.expect_nothing();
}

fn mqtt5_4_3_3_7_a_message_that_was_sent_does_not_expire(case: &Case) {
    let topic = case.topic("sent");
    let connect = case.lasting("sent");
    let mut receiver = case.open(&connect);
    subscribe(case, &mut receiver, &topic, 2);
    publish(&mut case.client("sent"), &expiring(&topic, "x", 1).qos(2));
    let first = receiver.expect_publish();
    receiver.vanish();
    thread::sleep(TWO_TICKS);
    let again = case.open(&connect).receive();
    assert_eq!(
        (again.id, again.dup, again.text().as_str()),
        (first.id, true, "x")
    );
}
