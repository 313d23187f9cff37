//! Request and response: MQTT 5.0 section 4.10, which has no statement with a number of its own.

use tidegate_tests::wire::{Client, Property, Publish, Version};

use super::kit::{publish, subscribe};
use crate::case::Case;
use crate::fault::{Fault, packet};
use crate::test::{Test, test};

pub(super) const TESTS: &[Test] = &[
    test!(mqtt5_4_10_1_a_request_finds_its_response)
        .mqtt5(&["3.3.2-15", "3.3.2-16"])
        .fault(
            Fault::server(packet::PUBLISH)
                .only(|frame| frame.payload() == b"answer 1")
                .altered("the correlation data of another request", |frame| {
                    frame.set_property(&Property::CorrelationData(vec![0]));
                }),
        ),
    test!(mqtt5_4_10_1_a_request_can_find_several_responders)
        .at(&[Version::V5])
        .fault(Fault::server(packet::PUBLISH).nth(2)),
];

/// Answers the next request, as its properties ask for.
#[track_caller]
fn respond(responder: &mut Client, text: &str) {
    let request = responder.receive();
    let (mut topic, mut data) = (None, None);
    for property in request.properties {
        match property {
            Property::ResponseTopic(value) => topic = Some(value),
            Property::CorrelationData(value) => data = Some(value),
            _ => {}
        }
    }
    let (Some(topic), Some(data)) = (topic, data) else {
        panic!("the request came without what it needs to be answered")
    };
    let response = Publish::new(&topic, text).qos(1);
    publish(responder, &response.with(Property::CorrelationData(data)));
}

fn mqtt5_4_10_1_a_request_finds_its_response(case: &Case) {
    let (requests, responses) = (case.topic("requests"), case.topic("responses"));
    let mut responder = case.client("responder");
    subscribe(case, &mut responder, &requests, 1);
    let mut requester = case.client("requester");
    subscribe(case, &mut requester, &responses, 1);
    for number in [0, 1, 255] {
        let request = Publish::new(&requests, "question")
            .qos(1)
            .with(Property::ResponseTopic(responses.clone()))
            .with(Property::CorrelationData(vec![number, 0]));
        publish(&mut requester, &request);
        respond(&mut responder, &format!("answer {number}"));
        let response = requester.receive();
        assert_eq!(response.text(), format!("answer {number}"));
        assert_eq!(
            response.properties,
            [Property::CorrelationData(vec![number, 0])]
        );
    }
}

fn mqtt5_4_10_1_a_request_can_find_several_responders(case: &Case) {
    let (requests, responses) = (case.topic("requests"), case.topic("responses"));
    let mut requester = case.client("requester");
    subscribe(case, &mut requester, &responses, 1);
    let mut responders = ["one", "two"].map(|text| {
        let mut responder = case.client("responder");
        subscribe(case, &mut responder, &requests, 1);
        (responder, text)
    });
    let request = Publish::new(&requests, "question")
        .qos(1)
        .with(Property::ResponseTopic(responses))
        .with(Property::CorrelationData(b"id".to_vec()));
    publish(&mut requester, &request);
    for (responder, text) in &mut responders {
        respond(responder, text);
        assert_eq!(requester.receive().text(), *text);
    }
}
