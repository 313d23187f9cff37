//! Shared subscriptions: MQTT 5.0 section 4.8.2.

use std::ops::Range;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{
    Ack, Client, Event, Packet, Property, Publish, Version, code, patience,
};

use super::kit::{
    Retained, needs_shared, needs_wildcards, nothing_before, number, publish, refused_filter,
    resumed, subscribe, subscribe_as,
};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

/// In place of an answer the client is told that all is well.
const GRANTED: fn(&Frame) -> Vec<u8> = |frame| {
    let [high, low] = frame.id().to_be_bytes();
    vec![packet::SUBACK, 4, high, low, 0, 0]
};

/// A message that was not for this member comes before the one that is.
const ANOTHER: fn(&Frame) -> Vec<u8> = |frame| {
    let mut other = frame.clone();
    other.set_qos(0);
    other.set_payload(b"of another member");
    [other.bytes(), frame.bytes()].concat()
};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_4_8_2_1_a_share_name_that_is_missing_or_empty_is_refused)
        .mqtt5(&["4.8.2-1"])
        .fault(Fault::client(packet::SUBSCRIBE).answered("a SUBACK that grants", GRANTED)),
    test!(mqtt5_4_8_2_1_a_filter_that_begins_with_share_is_a_shared_one)
        .mqtt5(&["4.8.2-1"])
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(1)
                .altered("another first level", |frame| {
                    // `$share` becomes `_share`: an ordinary filter.
                    if let Some(position) = frame.body.iter().position(|byte| *byte == b'$') {
                        frame.body[position] = b'_';
                    }
                }),
        ),
    test!(mqtt5_4_8_2_2_a_share_name_with_a_wildcard_or_without_a_filter_is_refused)
        .mqtt5(&["4.8.2-2"])
        .fault(Fault::client(packet::SUBSCRIBE).answered("a SUBACK that grants", GRANTED)),
    test!(mqtt5_4_8_2_3_the_members_granted_qos_holds)
        .mqtt5(&["4.8.2-3"])
        .fault(
            Fault::server(packet::PUBLISH).altered("the QoS published", |frame| frame.set_qos(2)),
        ),
    test!(mqtt5_4_8_2_4_a_qos_2_delivery_is_completed_with_its_member)
        .mqtt5(&["4.8.2-4"])
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt5_4_8_2_5_a_qos_2_message_of_an_ended_session_goes_to_nobody_else)
        .mqtt5(&["4.8.2-5"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"end")
                .answered("the message of the ended session before it", ANOTHER),
        ),
    test!(mqtt5_4_8_2_6_a_message_refused_by_puback_goes_to_nobody_else)
        .mqtt5(&["4.8.2-6"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"end")
                .answered("the refused message before it", ANOTHER),
        ),
    test!(mqtt5_4_8_2_6_a_message_refused_by_pubrec_goes_to_nobody_else)
        .mqtt5(&["4.8.2-6"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"end")
                .answered("the refused message before it", ANOTHER),
        ),
    test!(mqtt5_4_8_2_every_message_goes_to_one_member)
        .at(&[Version::V5])
        .fault(Fault::server(packet::PUBLISH).nth(17).doubled()),
    test!(mqtt5_4_8_2_groups_and_plain_subscriptions_each_get_their_copy)
        .at(&[Version::V5])
        .interplay("shared and plain subscriptions of one topic")
        .fault(Fault::server(packet::PUBLISH).nth(2)),
    test!(mqtt5_4_8_2_a_client_has_a_copy_for_each_of_its_subscriptions)
        .at(&[Version::V5])
        .interplay("a client in a group and by itself")
        .fault(
            Fault::server(packet::PUBLISH).altered("one identifier for all", |frame| {
                frame.set_property(&Property::SubscriptionId(1));
            }),
        ),
    test!(mqtt5_4_8_2_no_retained_message_for_a_shared_subscription)
        .at(&[Version::V5])
        .interplay("$share with retained messages")
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .nth(1)
                .altered("a plain filter", |frame| {
                    // `$share/group/` is taken away; the lengths are those of this test.
                    let filter = frame.body[5 + b"$share/group/".len()..].to_vec();
                    frame.body.truncate(3);
                    let length = filter.len() as u16 - 1;
                    frame.body.extend_from_slice(&length.to_be_bytes());
                    frame.body.extend_from_slice(&filter);
                }),
        ),
    test!(mqtt5_4_8_2_wildcards_work_in_shared_filters)
        .mqtt5(&["3.3.2-3"])
        .interplay("$share with wildcards")
        .fault(Fault::server(packet::PUBLISH).nth(2).altered(
            "a topic that does not match",
            |frame| {
                frame.set_topic("elsewhere");
            },
        )),
    test!(mqtt5_4_8_2_a_member_that_unsubscribes_gets_nothing_more)
        .mqtt5(&["3.10.4-2"])
        .fault(Fault::client(packet::UNSUBSCRIBE).answered(
            "an UNSUBACK that stands for nothing",
            |frame| {
                let [high, low] = frame.id().to_be_bytes();
                vec![packet::UNSUBACK, 4, high, low, 0, 0]
            },
        )),
    test!(mqtt5_4_8_2_a_group_goes_on_when_a_member_leaves)
        .at(&[Version::V5])
        .regression(&["shared subscription that strands messages when a member leaves"])
        .fault(Fault::server(packet::PUBLISH).only(|frame| frame.payload() == b"105")),
];

/// A client of MQTT 5 that shares `topic` as a member of `group`.
#[track_caller]
fn member(case: &Case, topic: &str, qos: u8) -> Client {
    let mut member = case.client("member");
    needs_shared(case, &member);
    subscribe(case, &mut member, &format!("$share/group/{topic}"), qos);
    member
}

/// What comes to a client until nothing does for a while; acknowledged.
#[track_caller]
fn drain(client: &mut Client, within: Duration) -> Vec<Publish> {
    let mut messages = Vec::new();
    while let Event::Packet(packet) = client.next(within) {
        let Packet::Publish(message) = packet else {
            panic!("PUBLISH expected, {packet:?} came")
        };
        client.acknowledge(&message);
        messages.push(message);
    }
    messages
}

/// A SUBSCRIBE to this filter is refused by its code or ends the connection.
#[track_caller]
fn refused(case: &Case, filter: &str) {
    let mut client = case.client("refused");
    needs_shared(case, &client);
    refused_filter(case, &mut client, filter);
}

fn mqtt5_4_8_2_1_a_share_name_that_is_missing_or_empty_is_refused(case: &Case) {
    refused(case, "$share/");
    refused(case, &format!("$share//{}", case.topic("empty")));
}

fn mqtt5_4_8_2_1_a_filter_that_begins_with_share_is_a_shared_one(case: &Case) {
    let topic = case.topic("begins");
    let mut member = member(case, &topic, 1);
    publish(
        &mut case.client("begins"),
        &Publish::new(&topic, "x").qos(1),
    );
    assert_eq!(member.receive().topic, topic);
}

fn mqtt5_4_8_2_2_a_share_name_with_a_wildcard_or_without_a_filter_is_refused(case: &Case) {
    let name = case.topic("name");
    refused(case, &format!("$share/{name}"));
    refused(case, &format!("$share/{name}/"));
    for name in [
        format!("{name}+"),
        format!("{name}#"),
        "+".into(),
        "#".into(),
    ] {
        refused(case, &format!("$share/{name}/topic"));
    }
}

fn mqtt5_4_8_2_3_the_members_granted_qos_holds(case: &Case) {
    for granted in [0, 1] {
        let topic = case.topic("granted");
        let mut member = member(case, &topic, granted);
        publish(
            &mut case.client("granted"),
            &Publish::new(&topic, "x").qos(2),
        );
        assert_eq!(member.receive().qos, granted);
    }
}

fn mqtt5_4_8_2_4_a_qos_2_delivery_is_completed_with_its_member(case: &Case) {
    let topic = case.topic("complete");
    let connect = case.lasting("complete");
    let mut client = case.open(&connect);
    needs_shared(case, &client);
    subscribe(case, &mut client, &format!("$share/group/{topic}"), 2);
    publish(
        &mut case.client("complete"),
        &Publish::new(&topic, "x").qos(2),
    );
    let first = client.expect_publish();
    let mut other = member(case, &topic, 2);
    client.vanish();
    let mut client = case.open(&connect);
    resumed(&client);
    let again = client.receive();
    assert_eq!((again.id, again.text().as_str()), (first.id, "x"));
    assert_eq!(drain(&mut other, Duration::from_millis(200)), []);
}

fn mqtt5_4_8_2_5_a_qos_2_message_of_an_ended_session_goes_to_nobody_else(case: &Case) {
    let topic = case.topic("nobody");
    let mut lost = member(case, &topic, 2);
    let mut sender = case.client("nobody");
    publish(&mut sender, &Publish::new(&topic, "QoS 2").qos(2));
    assert_eq!(lost.expect_publish().text(), "QoS 2");
    let mut other = member(case, &topic, 2);
    // Its session ends with its connection.
    lost.disconnect();
    publish(&mut sender, &Publish::new(&topic, "end").qos(2));
    nothing_before(&mut other, "end");
}

/// One member refuses, with PUBACK or PUBREC; the other is not asked, nor when the first has gone.
#[track_caller]
fn refusing(case: &Case, qos: u8) {
    let topic = case.topic("refusing");
    let mut members = vec![member(case, &topic, 2)];
    let mut sender = case.client("refusing");
    publish(&mut sender, &Publish::new(&topic, "unwanted").qos(qos));
    let message = members[0].expect_publish();
    members.push(member(case, &topic, 2));
    let refusal = Ack::new(message.id).code(code::UNSPECIFIED);
    if qos == 1 {
        members[0].send_puback(&refusal);
    } else {
        members[0].send_pubrec(&refusal);
    }
    members[0].expect_nothing();
    members.remove(0).disconnect();
    publish(&mut sender, &Publish::new(&topic, "end").qos(qos));
    nothing_before(&mut members[0], "end");
}

fn mqtt5_4_8_2_6_a_message_refused_by_puback_goes_to_nobody_else(case: &Case) {
    refusing(case, 1);
}

fn mqtt5_4_8_2_6_a_message_refused_by_pubrec_goes_to_nobody_else(case: &Case) {
    refusing(case, 2);
}

/// All numbers below `count`, which came to these clients, each once.
#[track_caller]
fn each_once(clients: &mut [Client], count: u32) {
    let mut numbers: Vec<u32> = Vec::new();
    let end = Instant::now() + patience();
    while numbers.len() < count as usize && Instant::now() < end {
        for client in &mut *clients {
            let messages = drain(client, Duration::from_millis(20));
            numbers.extend(messages.iter().map(number));
        }
    }
    for client in clients {
        let messages = drain(client, Duration::from_millis(20));
        numbers.extend(messages.iter().map(number));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

fn mqtt5_4_8_2_every_message_goes_to_one_member(case: &Case) {
    for qos in 0..=2 {
        let topic = case.topic("one");
        let mut members: Vec<Client> = (0..3).map(|_| member(case, &topic, 2)).collect();
        let mut sender = case.client("one");
        for number in 0..20 {
            publish(
                &mut sender,
                &Publish::new(&topic, number.to_string()).qos(qos),
            );
        }
        each_once(&mut members, 20);
    }
}

fn mqtt5_4_8_2_groups_and_plain_subscriptions_each_get_their_copy(case: &Case) {
    let topic = case.topic("copies");
    let mut one = member(case, &topic, 1);
    let mut other = case.client("other");
    subscribe(case, &mut other, &format!("$share/other/{topic}"), 1);
    let mut plain = case.client("plain");
    subscribe(case, &mut plain, &topic, 1);
    let mut sender = case.client("copies");
    for text in ["x", "end"] {
        publish(&mut sender, &Publish::new(&topic, text).qos(1));
    }
    for receiver in [&mut one, &mut other, &mut plain] {
        assert_eq!(receiver.receive_texts(2), ["x", "end"]);
    }
}

fn mqtt5_4_8_2_a_client_has_a_copy_for_each_of_its_subscriptions(case: &Case) {
    let topic = case.topic("both");
    let mut both = case.client("both");
    needs_shared(case, &both);
    subscribe_as(case, &mut both, &topic, 1, 1);
    subscribe_as(case, &mut both, &format!("$share/group/{topic}"), 1, 2);
    publish(&mut both, &Publish::new(&topic, "x").qos(1));
    // Two copies or one with both identifiers.
    let mut ids = both.receive().subscription_ids();
    if ids.len() < 2 {
        ids.extend(both.receive().subscription_ids());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

fn mqtt5_4_8_2_no_retained_message_for_a_shared_subscription(case: &Case) {
    let topic = case.topic("retained");
    let _retained = Retained::new(case, &[Publish::new(&topic, "kept")]);
    let mut member = member(case, &topic, 1);
    publish(
        &mut case.client("retained"),
        &Publish::new(&topic, "live").qos(1),
    );
    nothing_before(&mut member, "live");
}

fn mqtt5_4_8_2_wildcards_work_in_shared_filters(case: &Case) {
    let root = case.topic("wild");
    let mut member = case.client("wild");
    needs_shared(case, &member);
    needs_wildcards(case, &member);
    subscribe(case, &mut member, &format!("$share/group/{root}/+/x/#"), 1);
    let mut sender = case.client("wild");
    for topic in ["a/x", "a/y", "a", "b/x/y/z"] {
        publish(
            &mut sender,
            &Publish::new(&format!("{root}/{topic}"), topic).qos(1),
        );
    }
    for topic in ["a/x", "b/x/y/z"] {
        assert_eq!(member.receive().topic, format!("{root}/{topic}"));
    }
}

fn mqtt5_4_8_2_a_member_that_unsubscribes_gets_nothing_more(case: &Case) {
    let topic = case.topic("leaves");
    let mut leaving = member(case, &topic, 1);
    let mut staying = [member(case, &topic, 1)];
    leaving.unsubscribe(&[&format!("$share/group/{topic}")]);
    let mut sender = case.client("leaves");
    for number in 0..10 {
        publish(
            &mut sender,
            &Publish::new(&topic, number.to_string()).qos(1),
        );
    }
    each_once(&mut staying, 10);
    assert_eq!(drain(&mut leaving, Duration::from_millis(20)), []);
}

fn mqtt5_4_8_2_a_group_goes_on_when_a_member_leaves(case: &Case) {
    let topic = case.topic("goes-on");
    // Room for one message each: of what is published, one is on its way to a member and the rest waits.
    let mut members: Vec<Client> = (0..3)
        .map(|_| {
            let connect = case.connect("member").with(Property::ReceiveMaximum(1));
            let mut member = case.open(&connect);
            needs_shared(case, &member);
            subscribe(case, &mut member, &format!("$share/group/{topic}"), 1);
            member
        })
        .collect();
    let mut sender = case.client("goes-on");
    let mut send = |numbers: Range<u32>| {
        for number in numbers {
            publish(
                &mut sender,
                &Publish::new(&topic, number.to_string()).qos(1),
            );
        }
    };
    // Nothing of this is acknowledged; it may be lost with its member, or given to others.
    send(0..9);
    leaves(&mut members);
    // What comes from now on goes to the others, all of it.
    send(100..112);
    all_of(&mut members, 100..112);
    send(200..203);
    leaves(&mut members);
    send(300..306);
    all_of(&mut members, 300..306);
}

/// A member that owes an acknowledgement leaves the group; its session ends with its connection.
#[track_caller]
fn leaves(members: &mut Vec<Client>) {
    let owes = members.iter_mut().position(|member| {
        let event = member.next(Duration::from_millis(500));
        matches!(event, Event::Packet(Packet::Publish(_)))
    });
    let Some(owes) = owes else {
        panic!("no message came to any member")
    };
    members.remove(owes).disconnect();
}

/// Each of these numbers comes to one of these clients, once; others may come, too.
#[track_caller]
fn all_of(clients: &mut [Client], wanted: Range<u32>) {
    let mut numbers: Vec<u32> = Vec::new();
    let end = Instant::now() + patience();
    let mut last = false;
    loop {
        for client in &mut *clients {
            let messages = drain(client, Duration::from_millis(20));
            numbers.extend(messages.iter().map(number).filter(|n| wanted.contains(n)));
        }
        // Once more when all are there: nothing is to come twice.
        if last {
            break;
        }
        last = numbers.len() >= wanted.len() || Instant::now() >= end;
    }
    numbers.sort_unstable();
    assert_eq!(numbers, wanted.collect::<Vec<_>>());
}
