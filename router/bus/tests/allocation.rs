//! What a message costs in allocations (DESIGN section 1, point 3).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use allocation_counter::measure;
use support::{Client, TestBus};
use tidegate_bus::*;

/// Publishes a batch and takes the output of every receiver until nothing is left, as connections do.
fn batch(bus: &TestBus, publisher: &Client, receivers: &[Client], messages: usize) {
    let topic = TopicName::new("site/7/meter/1234/power").unwrap();
    bus.bus.batch(|worker| {
        for _ in 0..messages {
            let message = Message::new(topic, &[7; 16]);
            let _ = publisher.attachment.publish(worker, message, None).unwrap();
        }
    });
    let mut out = Vec::new();
    for receiver in receivers {
        loop {
            out.clear();
            let _ = receiver.attachment.take_output(&mut out, bus.bus.now());
            if out.is_empty() {
                break;
            }
        }
    }
}

/// An encoder that allocates nothing itself.
struct Plain;

impl Encoder for Plain {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        _outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        message.encode_once(0, out, |out| {
            out.extend_from_slice(message.topic.as_str().as_bytes());
        });
        out.extend_from_slice(message.payload);
        Ok(())
    }

    fn release(&mut self, _out: &mut Vec<u8>, _packet_id: std::num::NonZeroU16) {}

    fn count_unacknowledged(&self, _unsent: &[u8]) -> u64 {
        0
    }
}

fn allocations(receivers: usize, messages: usize) -> u64 {
    let bus = TestBus::new();
    let publisher = bus.connect("publisher");
    let receivers: Vec<_> = (0..receivers)
        .map(|n| {
            let client = bus.connect_with(&format!("r{n}"), |r| r.encoder = Box::new(Plain));
            client.subscribe("site/+/meter/+/power", QoS::AtMostOnce);
            client
        })
        .collect();
    // The first batches warm the worker: its cache, its lists, the size of the outboxes.
    for _ in 0..3 {
        batch(&bus, &publisher, &receivers, messages);
    }
    measure(|| batch(&bus, &publisher, &receivers, messages)).count_total
}

#[test]
fn a_live_qos_0_message_allocates_nothing_the_batch_one_buffer_a_receiver() {
    // Each receiver's outbox is made in one piece, as large as the last; the messages cost nothing.
    assert_eq!(allocations(1, 300), 1);
    assert_eq!(allocations(10, 300), 10);
    // Beyond 16 KiB, which a client that does not read may hold without a charge, it is doubled.
    let large = allocations(1, 1_000);
    assert!(large <= 3, "{large}");
}

/// Clients come, subscribe, receive and go; the clock moves on so that timers and caches let go.
fn come_and_go(bus: &TestBus, rounds: usize) {
    for round in 0..rounds {
        let client = bus.connect_with(&format!("c{}", round % 50), |request| {
            request.keep_alive = 60;
            request.clean_start = round % 3 == 0;
            request.expiry = if round % 2 == 0 { 30 } else { 0 };
        });
        client.subscribe("site/+/meter/#", QoS::AtLeastOnce);
        client.subscribe(&format!("own/{round}"), QoS::AtMostOnce);
        bus.publish_as("site/1/meter/2", "m", QoS::AtLeastOnce, |m| m.retain = true);
        bus.publish(&format!("own/{round}"), "m");
        client.disconnect(Departure::WithWill);
    }
    for _ in 0..4 {
        bus.advance(61);
    }
}

#[test]
fn clients_that_have_gone_leave_no_memory_behind() {
    let bus = TestBus::new();
    come_and_go(&bus, 500);
    let kept = measure(|| come_and_go(&bus, 5_000)).bytes_current;
    // Tables that have grown may stay; ten bytes a client would be a leak.
    assert!(kept < 50_000, "{kept} bytes are left");
    assert_eq!(bus.bus.counters().sessions.get(), 0);
    assert_eq!(bus.bus.memory().used(), 0);
}
