//! CONNACK: MQTT 3.1.1 and 5.0 section 3.2, and what CONNECT may ask it to tell or leave out.

use tidegate_tests::wire::{
    Ack, Client, ConnAck, Event, Packet, Property, Publish, Subscribe, Version, Will, frame,
    patience,
};

use super::kit::{answers, publish, told};
use super::raw::{RawConnect, accepts, connack, last_words, send};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_3_2_0_2_there_is_one_connack)
        .mqtt5(&["3.2.0-2"])
        .fault(Fault::server(packet::CONNACK).doubled()),
    test!(mqtt5_3_2_2_1_the_reserved_flags_are_0)
        .mqtt5(&["3.2.2-1"])
        .fault(
            Fault::server(packet::CONNACK)
                .altered("a reserved flag", |frame| frame.body[0] |= 0x80),
        ),
    test!(mqtt_3_2_2_6_a_refusal_knows_no_session)
        .mqtt3(&["3.2.2-4"])
        .mqtt5(&["3.2.2-6"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(2)
                .altered("Session Present", |frame| frame.body[0] = 1),
        ),
    test!(mqtt_3_2_2_7_a_refusal_ends_the_connection)
        .mqtt3(&["3.2.2-5"])
        .mqtt5(&["3.2.2-7", "4.13.2-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_3_2_2_8_the_code_is_one_of_those_listed)
        .mqtt3(&["3.2.2-6"])
        .mqtt5(&["3.2.2-8"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(2)
                .altered("0xA3", |frame| frame.set_code(0xA3)),
        ),
    test!(mqtt5_3_2_2_9_qos_2_is_taken_unless_a_maximum_is_told)
        .mqtt5(&["3.2.2-9"])
        .fault(Fault::server(packet::PUBREC).altered("0x9B", |frame| frame.set_code(0x9B))),
    test!(mqtt5_3_2_2_10_subscriptions_of_every_qos_are_taken)
        .mqtt5(&["3.2.2-10"])
        .fault(
            Fault::server(packet::SUBACK)
                .nth(3)
                .altered("0x9B", |frame| frame.set_codes(&[0x9B])),
        ),
    test!(mqtt5_3_2_2_12_a_will_beyond_the_maximum_qos_is_refused)
        .mqtt5(&["3.2.2-12"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .altered("Maximum QoS 1", |frame| {
                    frame.add_property(&Property::MaximumQos(1));
                }),
        ),
    test!(mqtt5_3_2_2_13_a_retained_will_is_refused_where_nothing_is_retained)
        .mqtt5(&["3.2.2-13"])
        .fault(
            Fault::server(packet::CONNACK)
                .nth(1)
                .altered("Retain Available 0", |frame| {
                    frame.add_property(&Property::RetainAvailable(0));
                }),
        ),
    test!(mqtt5_3_2_2_3_7_a_given_identifier_is_not_assigned)
        .at(&[Version::V5])
        .fault(
            Fault::server(packet::CONNACK).altered("an assigned identifier", |frame| {
                frame.add_property(&Property::AssignedClientId("other".to_owned()));
            }),
        ),
    test!(mqtt5_3_2_2_19_a_reason_string_fits_the_client)
        .mqtt5(&["3.2.2-19"])
        .fault(
            Fault::server(packet::CONNACK).altered("a long reason", |frame| {
                frame.add_property(&Property::ReasonString("r".repeat(300)));
            }),
        ),
    test!(mqtt5_3_2_2_20_user_properties_fit_the_client)
        .mqtt5(&["3.2.2-20"])
        .fault(
            Fault::server(packet::CONNACK).altered("a long user property", |frame| {
                frame.add_property(&Property::user("name", &"v".repeat(300)));
            }),
        ),
    test!(mqtt5_3_1_2_24_a_connack_is_no_larger_than_the_client_takes)
        .mqtt5(&["3.1.2-24"])
        .fault(
            Fault::server(packet::CONNACK).altered("a long user property", |frame| {
                frame.add_property(&Property::user("name", &"v".repeat(300)));
            }),
        ),
    test!(mqtt5_3_1_2_24_a_suback_is_no_larger_than_the_client_takes)
        .mqtt5(&["3.1.2-24"])
        .fault(
            Fault::client(packet::SUBSCRIBE).answered("a SUBACK for each filter", |_| {
                frame(0x90, &[&[0, 1, 0][..], &[0; 200]].concat())
            }),
        ),
    test!(mqtt5_3_2_2_3_what_is_told_has_values_that_there_are)
        .at(&[Version::V5])
        .fault(
            Fault::server(packet::CONNACK).altered("a Receive Maximum of 0", |frame| {
                frame.remove_property(0x21);
                frame.add_property(&Property::ReceiveMaximum(0));
            }),
        ),
    test!(mqtt5_3_1_2_28_no_response_information_unless_asked)
        .mqtt5(&["3.1.2-28"])
        .fault(
            Fault::server(packet::CONNACK).altered("Response Information", |frame| {
                frame.add_property(&Property::ResponseInformation("replies".to_owned()));
            }),
        ),
    test!(mqtt5_3_1_2_29_no_explanations_unless_asked)
        .mqtt5(&["3.1.2-29"])
        .fault(
            Fault::client(packet::CONNECT).altered("no Request Problem Information", |frame| {
                frame.remove_property(0x17);
            }),
        ),
];

/// CONNECTs that a server must not accept, of a client identifier that may have a session. Before MQTT 5
/// there is one that must be answered; in MQTT 5 a server may close without a word, and some take a method
/// that they do not have: then the next one is tried.
fn refused_connects(case: &Case, id: &str, properties: &[u8]) -> Vec<Vec<u8>> {
    let plain = RawConnect::of(case).flags(0);
    if !case.is_v5() {
        return vec![plain.level(2).field(id.as_bytes()).bytes()];
    }
    let with = |more: &[u8]| plain.clone().properties(&[properties, more].concat());
    [
        // An authentication method that nobody has.
        with(b"\x15\0\x07unknown"),
        // A Receive Maximum of 0.
        with(&[0x21, 0, 0]),
        with(b"").level(6),
        with(b"").flags(1),
    ]
    .map(|connect| connect.field(id.as_bytes()).bytes())
    .to_vec()
}

/// A connection on which a CONNECT is refused by a CONNACK, and this CONNACK in whichever form.
#[track_caller]
fn refusal(case: &Case, id: &str) -> Option<(Client, Vec<u8>)> {
    for bytes in refused_connects(case, id, &[]) {
        let mut client = case.dial();
        send(&mut client, &bytes);
        let said = client.next_raw().unwrap_or_default();
        match connack(&said) {
            Some((_, 1..)) => return Some((client, said)),
            Some((_, 0)) => {}
            None => assert!(said.is_empty(), "{said:02x?} to {bytes:02x?}"),
        }
    }
    accepts(case);
    None
}

/// The same, for a test that is about nothing else.
#[track_caller]
fn needs_refusal(case: &Case, id: &str) -> (Client, Vec<u8>) {
    let Some(refusal) = refusal(case, id) else {
        case.does_not_apply("the server refuses without a CONNACK")
    };
    refusal
}

fn mqtt5_3_2_0_2_there_is_one_connack(case: &Case) {
    let topic = case.topic("one");
    let mut client = case.client("one");
    client.expect_nothing();
    client.subscribe_with(&[(&topic, 0)], &[]);
    publish(&mut client, &Publish::new(&topic, "x").qos(1));
    client.receive();
    client.expect_nothing();
}

fn mqtt5_3_2_2_1_the_reserved_flags_are_0(case: &Case) {
    // The decoder of this suite takes no others: of a new session, of one resumed. Then of a refusal.
    let lasting = case.lasting("flags");
    case.open(&lasting).disconnect();
    assert!(case.open(&lasting).session_present());
    if let Some((_client, said)) = refusal(case, &lasting.client_id) {
        let flags = connack(&said).map(|(flags, _)| flags & !1);
        assert_eq!(flags, Some(0), "{said:02x?}");
    }
}

fn mqtt_3_2_2_6_a_refusal_knows_no_session(case: &Case) {
    let lasting = case.lasting("known");
    case.open(&lasting).disconnect();
    let (_client, said) = needs_refusal(case, &lasting.client_id);
    let flags = connack(&said).map(|(flags, _)| flags);
    assert_eq!(flags, Some(0), "{said:02x?}");
}

fn mqtt_3_2_2_7_a_refusal_ends_the_connection(case: &Case) {
    let (mut client, said) = needs_refusal(case, &case.topic("refused"));
    let more = last_words(&mut client);
    assert!(more.is_empty(), "{more:02x?} after {said:02x?}");
    accepts(case);
}

fn mqtt_3_2_2_8_the_code_is_one_of_those_listed(case: &Case) {
    const OF_5: [u8; 22] = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let listed: &[u8] = if case.is_v5() {
        &OF_5
    } else {
        &[0, 1, 2, 3, 4, 5]
    };
    let id = case.topic("codes");
    let whole = RawConnect::of(case);
    let mut rows = vec![
        whole.clone().field(id.as_bytes()).bytes(),
        whole.clone().flags(0).field(b"").bytes(),
        whole.clone().flags(3).field(id.as_bytes()).bytes(),
        whole.clone().bytes(),
    ];
    // A method that nobody has; another level may be answered in another version's form.
    rows.extend(refused_connects(case, &id, &[]).into_iter().take(1));
    if case.is_v5() {
        rows.push(
            whole
                .clone()
                .properties(&[0x7F, 0])
                .field(id.as_bytes())
                .bytes(),
        );
        rows.push(whole.properties(&[0x21, 0, 0]).field(id.as_bytes()).bytes());
    }
    // The first has no fault, and so is answered.
    let mut answered = false;
    for bytes in rows {
        let mut client = case.dial();
        send(&mut client, &bytes);
        // In whichever form: what is asked for is the code.
        let Some(said) = client.next_raw() else {
            assert!(answered, "no CONNACK to {bytes:02x?}");
            continue;
        };
        answered = true;
        let fits = connack(&said).is_some_and(|(_, code)| listed.contains(&code));
        assert!(fits, "{said:02x?} to {bytes:02x?}");
    }
}

fn mqtt5_3_2_2_9_qos_2_is_taken_unless_a_maximum_is_told(case: &Case) {
    let topic = case.topic("maximum");
    let mut client = case.client("maximum");
    let maximum = told(&client, |property| match property {
        Property::MaximumQos(value) => Some(*value),
        _ => None,
    });
    let maximum = maximum.unwrap_or(2);
    for qos in 1..=maximum {
        let code = client.publish(&Publish::new(&topic, "x").qos(qos));
        assert!(code < 0x80, "QoS {qos} of {maximum}: {code:#04x}");
    }
}

fn mqtt5_3_2_2_10_subscriptions_of_every_qos_are_taken(case: &Case) {
    let mut client = case.client("every");
    for qos in 0..=2 {
        let answer = client.subscribe_with(&[(&case.topic("every"), qos)], &[]);
        assert!(
            matches!(answer.codes.as_slice(), [granted] if *granted <= qos),
            "QoS {qos}: {answer:?}"
        );
    }
}

/// A CONNECT with this will must be accepted, or refused and the connection closed.
#[track_caller]
fn will_is(case: &Case, accepted: bool, will: Will) {
    let mut client = case.dial();
    client.send(&case.connect("will").will(will).encode());
    match client.next(patience()) {
        Event::Packet(Packet::ConnAck(ConnAck { code, .. })) => {
            assert_eq!(
                code == 0,
                accepted,
                "the will was answered with {code:#04x}"
            );
            if accepted {
                client.disconnect();
            } else {
                client.expect_close();
            }
        }
        Event::Closed => assert!(!accepted, "the will was refused"),
        other => panic!("CONNACK expected, not {other:?}"),
    }
}

fn mqtt5_3_2_2_12_a_will_beyond_the_maximum_qos_is_refused(case: &Case) {
    let client = case.client("maximum");
    let maximum = told(&client, |property| match property {
        Property::MaximumQos(value) => Some(*value),
        _ => None,
    });
    let maximum = maximum.unwrap_or(2);
    for qos in 0..=2 {
        let will = Will::new(&case.topic("will"), "gone").qos(qos);
        will_is(case, qos <= maximum, will);
    }
    if maximum == 2 {
        case.does_not_apply("the server announces no Maximum QoS");
    }
}

fn mqtt5_3_2_2_13_a_retained_will_is_refused_where_nothing_is_retained(case: &Case) {
    let client = case.client("retain");
    let available = told(&client, |property| match property {
        Property::RetainAvailable(value) => Some(*value),
        _ => None,
    });
    let will = Will::new(&case.topic("will"), "gone").retain();
    will_is(case, available != Some(0), will);
    if available != Some(0) {
        case.does_not_apply("the server retains messages");
    }
}

fn mqtt5_3_2_2_3_7_a_given_identifier_is_not_assigned(case: &Case) {
    let client = case.client("given");
    let id = told(&client, |property| match property {
        Property::AssignedClientId(id) => Some(id.clone()),
        _ => None,
    });
    assert_eq!(id, None, "the client had one");
}

/// What a server answers that has a reason to explain, to clients of less and less room.
#[track_caller]
fn refusals_fit(case: &Case) {
    let said = |which: usize, most: u32| {
        let maximum = [&[0x27][..], &most.to_be_bytes()].concat();
        let connects = refused_connects(case, &case.topic("tight"), &maximum);
        let mut client = case.dial();
        send(&mut client, &connects[which]);
        client.next_raw().unwrap_or_default()
    };
    // The first one that is refused with a word; the last two need not be read as far as the maximum.
    let refused = |which: &usize| matches!(connack(&said(*which, 500)), Some((_, 1..)));
    let Some(which) = [0, 1].iter().find(|which| refused(which)) else {
        accepts(case);
        case.does_not_apply("the server refuses without a CONNACK")
    };
    for most in [200, 60, 30, 20, 10, 5] {
        let length = said(*which, most).len();
        assert!(
            length <= most as usize,
            "{length} bytes for a client that takes {most}"
        );
    }
}

fn mqtt5_3_2_2_19_a_reason_string_fits_the_client(case: &Case) {
    refusals_fit(case);
}

fn mqtt5_3_2_2_20_user_properties_fit_the_client(case: &Case) {
    refusals_fit(case);
}

fn mqtt5_3_2_2_3_what_is_told_has_values_that_there_are(case: &Case) {
    let client = case.client("values");
    for property in &client.connack().properties {
        let valid = match property {
            Property::RetainAvailable(value)
            | Property::WildcardAvailable(value)
            | Property::SubscriptionIdsAvailable(value)
            | Property::SharedAvailable(value)
            // 3.2.2.3.4: QoS 2 is said by saying nothing.
            | Property::MaximumQos(value) => *value <= 1,
            Property::ReceiveMaximum(value) => *value > 0,
            Property::MaximumPacketSize(value) => *value > 0,
            _ => true,
        };
        assert!(valid, "{property:?}");
    }
}

fn mqtt5_3_1_2_28_no_response_information_unless_asked(case: &Case) {
    for connect in [
        case.connect("info"),
        case.connect("info")
            .with(Property::RequestResponseInformation(0)),
    ] {
        let client = case.open(&connect);
        let information = told(&client, |property| match property {
            Property::ResponseInformation(text) => Some(text.clone()),
            _ => None,
        });
        assert_eq!(information, None);
    }
    // Asked for, it may be given or not; the request itself is taken.
    let asked = case
        .connect("info")
        .with(Property::RequestResponseInformation(1));
    case.open(&asked).disconnect();
}

fn mqtt5_3_1_2_29_no_explanations_unless_asked(case: &Case) {
    let topic = case.topic("terse");
    let connect = case
        .connect("terse")
        .with(Property::RequestProblemInformation(0));
    let mut client = case.open(&connect);
    let maximum = told(&client, |property| match property {
        Property::MaximumQos(value) => Some(*value),
        _ => None,
    });
    let unknown = client.unsubscribe(&[&topic]);
    assert_eq!(unknown.properties, [], "UNSUBACK: {unknown:?}");
    let known = client.subscribe_with(&[(&topic, 0)], &[]);
    assert_eq!(known.properties, [], "SUBACK: {known:?}");
    // Nobody listens there: worth a word, if one was wanted.
    let lonely = case.topic("lonely");
    if maximum != Some(0) {
        client.send_publish(&Publish::new(&lonely, "x").qos(1).id(7));
        assert_eq!(client.await_puback(7).properties, [], "PUBACK");
    }
    if !matches!(maximum, Some(0 | 1)) {
        client.send_publish(&Publish::new(&lonely, "x").qos(2).id(8));
        assert_eq!(client.await_pubrec(8).properties, [], "PUBREC");
        client.send_pubrel(&Ack::new(8));
        assert_eq!(client.await_pubcomp(8).properties, [], "PUBCOMP");
    }
    // What many servers refuse: a topic of their own, identifiers that are not known, a filter that is too
    // deep. Each on a connection of its own, which a server may end instead.
    let version = case.version();
    let own = |qos| Publish::new("$SYS/x", "x").qos(qos).id(9).encode(version);
    let deep = Subscribe {
        id: 9,
        properties: Vec::new(),
        filters: vec![(vec!["d"; 300].join("/"), 0)],
    };
    for (qos, bytes) in [
        (1, own(1)),
        (2, own(2)),
        (0, Ack::new(4711).encode(packet::PUBREL | 2, version)),
        (0, Ack::new(4711).encode(packet::PUBREC, version)),
        (0, deep.encode(version)),
    ] {
        if maximum.is_some_and(|maximum| maximum < qos) {
            continue;
        }
        let mut client = case.open(&connect);
        client.send(&bytes);
        for packet in answers(&mut client) {
            let told = match &packet {
                Packet::PubAck(ack)
                | Packet::PubRec(ack)
                | Packet::PubRel(ack)
                | Packet::PubComp(ack) => &ack.properties,
                Packet::SubAck(answer) => &answer.properties,
                _ => continue,
            };
            assert_eq!(*told, [], "{packet:?}");
        }
    }
}

fn mqtt5_3_1_2_24_a_connack_is_no_larger_than_the_client_takes(case: &Case) {
    for most in [200, 40, 20, 16, 12, 8, 5, 4, 2] {
        let connect = case
            .connect("small")
            .with(Property::MaximumPacketSize(most));
        let mut client = case.dial();
        client.send(&connect.encode());
        // One that does not fit is not sent; what else to do is the server's affair.
        let said = client.next_raw().unwrap_or_default();
        assert!(
            said.len() <= most as usize,
            "{} bytes for a client that takes {most}",
            said.len()
        );
        assert!(
            most < 200 || !said.is_empty(),
            "there was room for a CONNACK"
        );
    }
}

fn mqtt5_3_1_2_24_a_suback_is_no_larger_than_the_client_takes(case: &Case) {
    let most = 100;
    let topic = case.topic("many");
    let connect = case.connect("many").with(Property::MaximumPacketSize(most));
    let mut client = case.open(&connect);
    let names: Vec<String> = (0..200).map(|number| format!("{topic}/{number}")).collect();
    let id = client.next_id();
    let mut body = id.to_be_bytes().to_vec();
    body.push(0);
    for name in &names {
        body.extend_from_slice(&(name.len() as u16).to_be_bytes());
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    client.send(&frame(0x82, &body));
    // The answer has a code for each filter, and so is too large. There is no clause for what to do but
    // not to send it.
    client.send(&[0xC0, 0]);
    loop {
        match client.next(patience()) {
            Event::Packet(Packet::SubAck(answer)) => {
                panic!(
                    "{} codes for a client that takes {most} bytes",
                    answer.codes.len()
                )
            }
            Event::Packet(Packet::PingResp) | Event::Closed => break,
            Event::Packet(_) => {}
            Event::Silence => panic!("neither an answer nor an end"),
        }
    }
}
