//! Topic names and filters: MQTT 3.1.1 and 5.0 section 4.7.

use tidegate_tests::wire::{Publish, Subscribe, Version, options};

use super::kit::{needs_wildcards, publish, refused_filter, subscribe, until};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::frame::Frame;
use crate::test::{Test, test};

/// In place of an answer the client is told that all is well.
const GRANTED: fn(&Frame) -> Vec<u8> = |frame| {
    let [high, low] = frame.id().to_be_bytes();
    if frame.version == Version::V5 {
        vec![packet::SUBACK, 4, high, low, 0, 0]
    } else {
        vec![packet::SUBACK, 3, high, low, 0]
    }
};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt_3_3_2_3_the_topic_of_a_message_matches_the_filter)
        .mqtt3(&["3.3.2-3"])
        .mqtt5(&["3.3.2-3"])
        .level3("The topic of a message matches the filter.")
        .fault(
            Fault::server(packet::PUBLISH)
                .altered("another topic name", |frame| frame.set_topic("elsewhere")),
        ),
    test!(mqtt5_4_2_0_1_bytes_arrive_in_order_and_whole)
        .mqtt5(&["4.2.0-1"])
        .fault(Fault::server(packet::PUBLISH).nth(3).swapped()),
    test!(mqtt_4_7_1_1_the_multi_level_wildcard_matches_its_level_and_all_below)
        .mqtt3(&["4.7.1-2"])
        .mqtt5(&["4.7.1-1"])
        .level3("# matches its level and all below.")
        .fault(Fault::server(packet::PUBLISH).only(|frame| frame.topic().ends_with(b"/sport"))),
    test!(mqtt_4_7_1_1_a_multi_level_wildcard_elsewhere_is_refused)
        .mqtt3(&["4.7.1-2"])
        .mqtt5(&["4.7.1-1"])
        .fault(Fault::client(packet::SUBSCRIBE).answered("a SUBACK that grants", GRANTED)),
    test!(mqtt_4_7_1_2_the_single_level_wildcard_matches_one_level)
        .mqtt3(&["4.7.1-3"])
        .mqtt5(&["4.7.1-2"])
        .level3("+ matches one level.")
        .fault(Fault::server(packet::PUBLISH).only(|frame| frame.topic().ends_with(b"/sport/"))),
    test!(mqtt_4_7_1_2_a_single_level_wildcard_that_shares_its_level_is_refused)
        .mqtt3(&["4.7.1-3"])
        .mqtt5(&["4.7.1-2"])
        .fault(Fault::client(packet::SUBSCRIBE).answered("a SUBACK that grants", GRANTED)),
    test!(mqtt_4_7_2_1_a_wildcard_in_front_does_not_match_a_dollar)
        .mqtt3(&["4.7.2-1"])
        .mqtt5(&["4.7.2-1"])
        .level3("A wildcard in front does not match $.")
        .fault(
            Fault::client(packet::SUBSCRIBE)
                .only(|frame| frame.body.ends_with(b"/leaf\x01"))
                .nth(1)
                .altered("the first level spelt out", |frame| {
                    let leaf = b"$conformance/leaf\x01";
                    let start = if frame.version == Version::V5 { 3 } else { 2 };
                    frame.body.truncate(start);
                    frame.body.extend_from_slice(&[0, leaf.len() as u8 - 1]);
                    frame.body.extend_from_slice(leaf);
                }),
        ),
    test!(mqtt_4_7_3_1_an_empty_topic_name_ends_the_connection)
        .mqtt3(&["4.7.3-1"])
        .mqtt5(&["4.7.3-1"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_7_3_1_an_empty_filter_is_refused)
        .mqtt3(&["4.7.3-1"])
        .mqtt5(&["4.7.3-1"])
        .fault(Fault::client(packet::SUBSCRIBE).answered("a SUBACK that grants", GRANTED)),
    test!(mqtt_4_7_3_2_nul_in_a_topic_name_ends_the_connection)
        .mqtt3(&["4.7.3-2"])
        .mqtt5(&["4.7.3-2"])
        .regression(&["NUL in a topic"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_7_3_2_nul_in_a_filter_ends_the_connection)
        .mqtt3(&["4.7.3-2"])
        .mqtt5(&["4.7.3-2"])
        .regression(&["NUL in a topic"])
        .fault(Fault::never_closes()),
    test!(mqtt_4_7_3_4_names_that_look_alike_are_different)
        .mqtt3(&["4.7.3-4"])
        .mqtt5(&["4.7.3-4"])
        .level3("Names that look alike are different.")
        .fault(
            Fault::client(packet::PUBLISH)
                .only(|frame| frame.topic().ends_with(b"/accounts"))
                .altered("the same name in another case", |frame| {
                    let name = String::from_utf8_lossy(frame.topic()).into_owned();
                    frame.set_topic(&name.replace("/accounts", "/Accounts"));
                }),
        ),
    test!(mqtt_4_7_3_4_characters_of_any_kind_are_kept)
        .mqtt3(&["4.7.3-4"])
        .mqtt5(&["4.7.3-4"])
        .level3("Characters of any kind are kept.")
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.topic().ends_with("ü".as_bytes()))
                .altered("ü taken apart", |frame| {
                    let name = String::from_utf8_lossy(frame.topic()).into_owned();
                    frame.set_topic(&name.replace('ü', "u\u{308}"));
                }),
        ),
];

fn mqtt_3_3_2_3_the_topic_of_a_message_matches_the_filter(case: &Case) {
    let root = case.topic("names");
    let mut client = case.client("names");
    needs_wildcards(case, &client);
    subscribe(case, &mut client, &format!("{root}/+/#"), 1);
    for topic in ["a", "b/c", "/d", "e/"] {
        let topic = format!("{root}/{topic}");
        publish(&mut client, &Publish::new(&topic, "x").qos(1));
        let name = client.receive().topic;
        // A server may rename, but only to what still matches.
        assert!(name.starts_with(&format!("{root}/")), "{name}");
    }
}

fn mqtt5_4_2_0_1_bytes_arrive_in_order_and_whole(case: &Case) {
    let topic = case.topic("stream");
    let mut client = case.client("stream");
    subscribe(case, &mut client, &topic, 0);
    let mut bytes = Vec::new();
    for number in 0..200 {
        bytes.extend(Publish::new(&topic, number.to_string()).encode(case.version()));
    }
    // In pieces that end anywhere.
    for piece in bytes.chunks(97) {
        client.send(piece);
    }
    let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(client.receive_texts(200), expected);
}

/// Whether each filter matches each topic, seen by who receives what is published.
#[track_caller]
fn matching(case: &Case, expected: &[(&str, &str, bool)]) {
    let root = case.topic("match");
    for (filter, topic, matches) in expected {
        let mut client = case.client("match");
        needs_wildcards(case, &client);
        let (end, topic) = (format!("{root}/end"), format!("{root}/{topic}"));
        subscribe(case, &mut client, &end, 1);
        subscribe(case, &mut client, &format!("{root}/{filter}"), 1);
        publish(&mut client, &Publish::new(&topic, "x").qos(1));
        publish(&mut client, &Publish::new(&end, "end").qos(1));
        let came: Vec<String> = until(&mut client, "end")
            .into_iter()
            .map(|message| message.topic)
            .collect();
        let wanted = if *matches {
            vec![topic.clone()]
        } else {
            vec![]
        };
        assert_eq!(came, wanted, "{filter} and {topic}");
    }
}

fn mqtt_4_7_1_1_the_multi_level_wildcard_matches_its_level_and_all_below(case: &Case) {
    matching(
        case,
        &[
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/ranking",
                true,
            ),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/tennis/player1/#", "sport/tennis/player2", false),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("#", "anything/at/all", true),
            ("sport/#", "sport", true),
            ("sport/#", "sport/", true),
            ("sport/#", "sports", false),
            ("+/tennis/#", "sport/tennis", true),
            ("sport/+/#", "sport", false),
        ],
    );
}

fn mqtt_4_7_1_2_the_single_level_wildcard_matches_one_level(case: &Case) {
    matching(
        case,
        &[
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+", "finance", true),
            ("sport/+/player1", "sport/tennis/player1", true),
            ("sport/+/player1", "sport//player1", true),
            ("sport/+/player1", "sport/a/b/player1", false),
            ("+/$data", "x/$data", true),
        ],
    );
}

/// A filter that is none is refused by its code or ends the connection.
#[track_caller]
fn refused(case: &Case, filter: &str) {
    let mut client = case.client("refused");
    needs_wildcards(case, &client);
    refused_filter(case, &mut client, filter);
}

fn mqtt_4_7_1_1_a_multi_level_wildcard_elsewhere_is_refused(case: &Case) {
    let root = case.topic("hash");
    for filter in ["a#", "#a", "#/a", "a/#/b", "##", "a/#b", "#/"] {
        refused(case, &format!("{root}/{filter}"));
    }
    refused(case, "##");
}

fn mqtt_4_7_1_2_a_single_level_wildcard_that_shares_its_level_is_refused(case: &Case) {
    let root = case.topic("plus");
    for filter in ["a+", "+a", "a+b/c", "a/+b", "++", "+#"] {
        refused(case, &format!("{root}/{filter}"));
    }
}

fn mqtt_4_7_2_1_a_wildcard_in_front_does_not_match_a_dollar(case: &Case) {
    // Not a name of its own: the fault has to know it. What others publish to it is told by its text.
    let (topic, own) = ("$conformance/leaf", case.topic("own"));
    let end = case.topic("end");
    let mut client = case.client("dollar");
    needs_wildcards(case, &client);
    subscribe(case, &mut client, "+/leaf", 1);
    let quiet = if case.is_v5() {
        options::NO_RETAINED
    } else {
        0
    };
    subscribe(case, &mut client, "#", 1 | quiet);
    // 4.7.2 leaves it to the server whether clients may publish there at all.
    if client.publish(&Publish::new(topic, &own).qos(1)) >= 0x80 {
        case.does_not_apply("the server takes no message for a topic that begins with $");
    }
    publish(&mut client, &Publish::new(&end, &end).qos(1));
    loop {
        let message = client.receive();
        assert_ne!(message.text(), own, "{} was matched", message.topic);
        if message.text() == end {
            return;
        }
    }
}

fn mqtt_4_7_3_1_an_empty_topic_name_ends_the_connection(case: &Case) {
    let mut client = case.client("empty");
    client.send_publish(&Publish::new("", "x"));
    client.expect_error();
}

fn mqtt_4_7_3_1_an_empty_filter_is_refused(case: &Case) {
    refused(case, "");
}

fn mqtt_4_7_3_2_nul_in_a_topic_name_ends_the_connection(case: &Case) {
    let root = case.topic("nul");
    for name in ["\0", "\0a", "a\0b"] {
        let mut client = case.client("nul");
        client.send_publish(&Publish::new(&format!("{root}/{name}"), "x"));
        client.expect_error();
    }
}

fn mqtt_4_7_3_2_nul_in_a_filter_ends_the_connection(case: &Case) {
    let root = case.topic("nul");
    for name in ["\0", "a\0b", "\0/#"] {
        let mut client = case.client("nul");
        let packet = Subscribe {
            id: 9,
            properties: Vec::new(),
            filters: vec![(format!("{root}/{name}"), 0)],
        };
        client.send(&packet.encode(case.version()));
        client.expect_error();
    }
}

fn mqtt_4_7_3_4_names_that_look_alike_are_different(case: &Case) {
    matching(
        case,
        &[
            ("Accounts", "accounts", false),
            ("ACCOUNTS", "Accounts", false),
            ("a/", "a", false),
            ("a", "a/", false),
            ("/a", "a", false),
            ("a//b", "a/b", false),
            ("a/b", "a//b", false),
            ("a b", "a  b", false),
            // The same letter, composed and not; a letter and its look-alike.
            ("\u{fc}", "u\u{308}", false),
            ("\u{212b}", "\u{c5}", false),
            ("%41", "A", false),
        ],
    );
}

fn mqtt_4_7_3_4_characters_of_any_kind_are_kept(case: &Case) {
    let root = case.topic("kinds");
    let mut reader = case.client("reader");
    for name in [
        " ",
        "a b",
        "ü",
        "日本",
        "\u{1F600}",
        "/",
        "//",
        "$",
        "a$",
        "~!%",
    ] {
        let topic = format!("{root}/{name}");
        subscribe(case, &mut reader, &topic, 1);
        publish(&mut reader, &Publish::new(&topic, name).qos(1));
        assert_eq!(reader.receive().topic, topic);
    }
}
