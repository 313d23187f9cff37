//! Keep alive and PINGREQ: MQTT 3.1.1 and 5.0 sections 3.1.2.10, 3.12 and 3.13.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Event, Packet, Property, Publish, Will, code};

use super::kit::told;
use super::raw::{set_keep_alive, watcher};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_1_2_22_a_silent_client_is_disconnected)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22", "3.2.2-22"])
        .level3("a client is disconnected after one and a half times its keep alive")
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_2_22_a_client_is_not_disconnected_before)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22", "3.2.2-22"])
        .level3("not before one and a half times the keep alive")
        .fault(
            Fault::client(packet::CONNECT)
                .altered("a keep alive of 1 s", |frame| set_keep_alive(frame, 1)),
        ),
    test!(mqtt_3_1_2_22_half_a_packet_keeps_nobody_alive)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22"])
        .regression(&["a remaining length that promises more than ever comes"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_2_22_what_the_server_sends_keeps_nobody_alive)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22"])
        .level3("what the server sends keeps nobody alive")
        .fault(Fault::never_closes()),
    test!(mqtt_3_1_2_22_a_silent_client_leaves_its_will)
        .mqtt3(&["3.1.2-24", "3.1.2-8"])
        .mqtt5(&["3.1.2-22", "3.1.2-8"])
        .level3("a client that is silent for too long leaves its will")
        .fault(Fault::server(packet::PUBLISH)),
    test!(mqtt_3_1_2_22_any_packet_keeps_a_client_alive)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22"])
        .level3("any packet keeps a client alive")
        .fault(Fault::client(packet::PUBLISH)),
    test!(mqtt_3_1_2_22_a_ping_keeps_a_client_alive)
        .mqtt3(&["3.1.2-24", "3.12.4-1"])
        .mqtt5(&["3.1.2-22", "3.12.4-1"])
        .level3("a ping keeps a client alive")
        .fault(
            Fault::client(packet::PINGREQ)
                .answered("PINGRESP, the server unaware of it", |_| vec![0xD0, 0]),
        ),
    test!(mqtt_3_1_2_22_a_keep_alive_of_0_turns_it_off)
        .mqtt3(&["3.1.2-24"])
        .mqtt5(&["3.1.2-22"])
        .level3("a keep alive of 0 turns it off")
        .fault(
            Fault::client(packet::CONNECT)
                .altered("a keep alive of 1 s", |frame| set_keep_alive(frame, 1)),
        ),
    test!(mqtt_3_12_4_1_a_ping_is_answered)
        .mqtt3(&["3.12.4-1"])
        .mqtt5(&["3.12.4-1"])
        .level3("a ping is answered")
        .fault(Fault::server(packet::PINGRESP)),
    test!(mqtt_3_12_4_1_each_ping_has_its_answer)
        .mqtt3(&["3.12.4-1"])
        .mqtt5(&["3.12.4-1"])
        .fault(Fault::server(packet::PINGRESP).nth(2)),
];

/// Opens with a keep alive that the server must respect.
#[track_caller]
fn with_keep_alive(case: &Case, connect: &Connect) -> Client {
    let client = case.open(connect);
    let other = told(&client, |property| match property {
        Property::ServerKeepAlive(seconds) => Some(*seconds),
        _ => None,
    });
    if other.is_some_and(|seconds| seconds != connect.keep_alive) {
        case.does_not_apply("the server sets a keep alive of its own");
    }
    client
}

/// How late a server may be. The clause names none; some servers look at their clients every few
/// seconds only.
const LATEST: Duration = Duration::from_secs(10);

/// Waits for the server to close for silence.
#[track_caller]
fn closed_for_silence(client: &mut Client) {
    let since = Instant::now();
    loop {
        match client.next(LATEST.saturating_sub(since.elapsed())) {
            Event::Closed => return,
            // MQTT 5 leaves open whether a DISCONNECT comes before the close.
            Event::Packet(Packet::Disconnect(reason)) => assert_eq!(reason.code, code::KEEP_ALIVE),
            other => panic!(
                "closed it was to be, but after {:?}: {other:?}",
                since.elapsed()
            ),
        }
    }
}

fn mqtt_3_1_2_22_a_silent_client_is_disconnected(case: &Case) {
    let mut client = with_keep_alive(case, &case.connect("silent").keep_alive(1));
    closed_for_silence(&mut client);
}

fn mqtt_3_1_2_22_a_client_is_not_disconnected_before(case: &Case) {
    // Before CONNECT is sent, so before the server can have heard it.
    let since = Instant::now();
    let mut client = with_keep_alive(case, &case.connect("before").keep_alive(2));
    closed_for_silence(&mut client);
    let waited = since.elapsed();
    // A clock of whole milliseconds is allowed.
    let earliest = Duration::from_millis(2_998);
    assert!(waited >= earliest, "closed after {waited:?}");
}

fn mqtt_3_1_2_22_half_a_packet_keeps_nobody_alive(case: &Case) {
    let mut client = with_keep_alive(case, &case.connect("half").keep_alive(1));
    let whole = Publish::new(&case.topic("half"), vec![b'x'; 1_000]).encode(case.version());
    // Bytes come, but no packet ever does.
    for piece in whole[..40].chunks(10) {
        if client.try_send(piece).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(300));
    }
    closed_for_silence(&mut client);
}

fn mqtt_3_1_2_22_a_silent_client_leaves_its_will(case: &Case) {
    let topic = case.topic("leaves");
    let mut watcher = watcher(case, &topic);
    let connect = case
        .connect("leaves")
        .keep_alive(1)
        .will(Will::new(&topic, "silent"));
    let mut silent = with_keep_alive(case, &connect);
    closed_for_silence(&mut silent);
    assert_eq!(watcher.receive().text(), "silent");
}

fn mqtt_3_1_2_22_any_packet_keeps_a_client_alive(case: &Case) {
    let topic = case.topic("alive");
    // Some servers count whole seconds: one of Keep Alive would leave no room.
    let mut client = with_keep_alive(case, &case.connect("alive").keep_alive(2));
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(700));
        client.send_publish(&Publish::new(&topic, "here"));
    }
    client.expect_nothing();
}

fn mqtt_3_1_2_22_a_ping_keeps_a_client_alive(case: &Case) {
    let mut client = with_keep_alive(case, &case.connect("ping").keep_alive(2));
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(700));
        client.expect_nothing();
    }
}

fn mqtt_3_1_2_22_a_keep_alive_of_0_turns_it_off(case: &Case) {
    let mut client = with_keep_alive(case, &case.connect("off").keep_alive(0));
    assert_eq!(client.next(Duration::from_millis(2_500)), Event::Silence);
    client.expect_nothing();
}

fn mqtt_3_12_4_1_a_ping_is_answered(case: &Case) {
    case.client("ping").expect_nothing();
}

fn mqtt_3_12_4_1_each_ping_has_its_answer(case: &Case) {
    let mut client = case.client("pings");
    client.send(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
    for _ in 0..3 {
        client.expect("PINGRESP", |packet| {
            (*packet == Packet::PingResp).then_some(())
        });
    }
    client.expect_nothing();
}

fn mqtt_3_1_2_22_what_the_server_sends_keeps_nobody_alive(case: &Case) {
    let topic = case.topic("listens");
    let mut client = with_keep_alive(case, &case.connect("listens").keep_alive(1));
    client.subscribe_with(&[(&topic, 0)], &[]);
    let mut sender = case.client("sender");
    let (since, mut received) = (Instant::now(), 0);
    loop {
        let waited = since.elapsed();
        assert!(waited < LATEST, "still there after {waited:?}");
        sender.publish(&Publish::new(&topic, "x"));
        match client.next(Duration::from_millis(200)) {
            Event::Packet(Packet::Publish(_)) => received += 1,
            Event::Closed => break,
            _ => {}
        }
    }
    assert!(received > 3, "messages were to come until then");
}
