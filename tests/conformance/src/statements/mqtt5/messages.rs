//! PUBLISH and its acknowledgements, SUBSCRIBE, UNSUBSCRIBE and their answers (chapters 3.3 to 3.11).

use crate::statement::{Statement, client, server};

const SENT_BY_CLIENTS: &str = "it is about a packet that clients send";
const CLIENT_RECEIVES: &str = "it is about what a client does with a packet that it receives";

/// Chapters 3.3 to 3.11.
pub(super) const STATEMENTS: &[Statement] = &[
    server("3.3.1-1", "A PUBLISH that is sent again has DUP set."),
    server("3.3.1-2", "DUP is never set at QoS 0."),
    server(
        "3.3.1-3",
        "DUP of an outgoing PUBLISH says only whether this packet is a repetition, whatever the incoming one had.",
    ),
    server(
        "3.3.1-4",
        "No PUBLISH has QoS 3; a receiver of one ends the connection.",
    ),
    server(
        "3.3.1-5",
        "A PUBLISH with RETAIN replaces the retained message of its topic and is kept with its QoS.",
    ),
    server(
        "3.3.1-6",
        "A retained PUBLISH without payload is delivered like any other and removes what its topic retained.",
    ),
    server(
        "3.3.1-7",
        "A retained PUBLISH without payload is not kept itself.",
    ),
    server(
        "3.3.1-8",
        "A PUBLISH without RETAIN is not kept and leaves the retained message alone.",
    ),
    server(
        "3.3.1-9",
        "Retain Handling 0: every subscribe is answered with the retained messages that match.",
    ),
    server(
        "3.3.1-10",
        "Retain Handling 1: only a subscription that did not exist is sent the retained messages that match.",
    ),
    server(
        "3.3.1-11",
        "Retain Handling 2: a subscribe is sent no retained messages.",
    ),
    server(
        "3.3.1-12",
        "Without Retain As Published a forwarded message has RETAIN cleared, however it was published.",
    ),
    server(
        "3.3.1-13",
        "With Retain As Published a forwarded message has RETAIN as it was published.",
    ),
    server(
        "3.3.2-1",
        "The topic name comes first in the variable header and is a UTF-8 string.",
    ),
    server("3.3.2-2", "A topic name has no wildcards."),
    server(
        "3.3.2-3",
        "The topic name of a message sent to a subscriber matches the filter it subscribed to.",
    ),
    server(
        "3.3.2-4",
        "The Payload Format Indicator reaches every subscriber as it was.",
    ),
    server(
        "3.3.2-5",
        "A message whose expiry is over before its delivery to a subscriber began is not delivered to it.",
    ),
    server(
        "3.3.2-6",
        "The expiry interval that a subscriber is sent is the received one less the time spent waiting.",
    ),
    server("3.3.2-7", "Topic aliases do not outlive their connection."),
    server("3.3.2-8", "No PUBLISH has topic alias 0."),
    client(
        "3.3.2-9",
        "A client uses no topic alias above the server's Topic Alias Maximum.",
        SENT_BY_CLIENTS,
    ),
    client(
        "3.3.2-10",
        "A client accepts every topic alias from 1 to its own Topic Alias Maximum.",
        CLIENT_RECEIVES,
    ),
    server(
        "3.3.2-11",
        "A server uses no topic alias above the client's Topic Alias Maximum.",
    ),
    server(
        "3.3.2-12",
        "A server accepts every topic alias from 1 to its own Topic Alias Maximum.",
    ),
    server("3.3.2-13", "The Response Topic is a UTF-8 string."),
    server("3.3.2-14", "The Response Topic has no wildcards."),
    server(
        "3.3.2-15",
        "The Response Topic reaches every subscriber as it was.",
    ),
    server(
        "3.3.2-16",
        "The Correlation Data reaches every subscriber as it was.",
    ),
    server(
        "3.3.2-17",
        "Every user property reaches the subscribers as it was.",
    ),
    server(
        "3.3.2-18",
        "User properties keep their order when a message is forwarded.",
    ),
    server("3.3.2-19", "The Content Type is a UTF-8 string."),
    server(
        "3.3.2-20",
        "The Content Type reaches every subscriber as it was.",
    ),
    server(
        "3.3.4-1",
        "A PUBLISH is answered as its QoS asks for: not at all, with PUBACK, or with PUBREC.",
    ),
    server(
        "3.3.4-2",
        "Where subscriptions of a client overlap, the message is delivered at the highest QoS that they grant.",
    ),
    server(
        "3.3.4-3",
        "Where subscriptions overlap, the message names the identifiers of those that have one.",
    ),
    server(
        "3.3.4-4",
        "A single copy for overlapping subscriptions carries the identifiers of all of them.",
    ),
    server(
        "3.3.4-5",
        "Of several copies each carries the identifier of its own subscription, if that has one.",
    ),
    client(
        "3.3.4-6",
        "A client's PUBLISH has no Subscription Identifier.",
        SENT_BY_CLIENTS,
    ),
    client(
        "3.3.4-7",
        "A client has no more unfinished QoS 1 and 2 messages than the server's Receive Maximum.",
        SENT_BY_CLIENTS,
    ),
    client(
        "3.3.4-8",
        "A client whose window is full holds back nothing but PUBLISH.",
        SENT_BY_CLIENTS,
    ),
    server(
        "3.3.4-9",
        "A server has no more unfinished QoS 1 and 2 messages than the client's Receive Maximum.",
    ),
    server(
        "3.3.4-10",
        "A server holds back nothing but PUBLISH when the client's window is full.",
    ),
    server(
        "3.4.2-1",
        "The reason code of PUBACK is one of those listed for it.",
    ),
    server(
        "3.4.2-2",
        "PUBACK goes without a reason string that would make it too large for the receiver.",
    ),
    server(
        "3.4.2-3",
        "PUBACK goes without user properties that would make it too large for the receiver.",
    ),
    server(
        "3.5.2-1",
        "The reason code of PUBREC is one of those listed for it.",
    ),
    server(
        "3.5.2-2",
        "PUBREC goes without a reason string that would make it too large for the receiver.",
    ),
    server(
        "3.5.2-3",
        "PUBREC goes without user properties that would make it too large for the receiver.",
    ),
    server(
        "3.6.1-1",
        "The flags of PUBREL are 0010; any others end the connection.",
    ),
    server(
        "3.6.2-1",
        "The reason code of PUBREL is one of those listed for it.",
    ),
    server(
        "3.6.2-2",
        "PUBREL goes without a reason string that would make it too large for the receiver.",
    ),
    server(
        "3.6.2-3",
        "PUBREL goes without user properties that would make it too large for the receiver.",
    ),
    server(
        "3.7.2-1",
        "The reason code of PUBCOMP is one of those listed for it.",
    ),
    server(
        "3.7.2-2",
        "PUBCOMP goes without a reason string that would make it too large for the receiver.",
    ),
    server(
        "3.7.2-3",
        "PUBCOMP goes without user properties that would make it too large for the receiver.",
    ),
    server(
        "3.8.1-1",
        "The flags of SUBSCRIBE are 0010; any others end the connection.",
    ),
    server("3.8.3-1", "The filters of SUBSCRIBE are UTF-8 strings."),
    server(
        "3.8.3-2",
        "SUBSCRIBE has at least one filter with its options.",
    ),
    server(
        "3.8.3-3",
        "With No Local a client is not sent what a connection of its own client identifier published.",
    ),
    server(
        "3.8.3-4",
        "No Local on a shared subscription is a protocol error.",
    ),
    server(
        "3.8.3-5",
        "A SUBSCRIBE with reserved bits set in its options is malformed.",
    ),
    server("3.8.4-1", "Every SUBSCRIBE is answered with SUBACK."),
    server(
        "3.8.4-2",
        "SUBACK has the packet identifier of its SUBSCRIBE.",
    ),
    server(
        "3.8.4-3",
        "A subscribe to a filter that the session has already replaces that subscription.",
    ),
    server(
        "3.8.4-4",
        "A replacing subscribe with Retain Handling 0 brings the retained messages again and loses no others.",
    ),
    server(
        "3.8.4-5",
        "Several filters in one SUBSCRIBE are handled as so many SUBSCRIBEs, with one answer.",
    ),
    server("3.8.4-6", "SUBACK has one reason code for each filter."),
    server(
        "3.8.4-7",
        "The reason code is the QoS granted, or says that the subscription failed.",
    ),
    server(
        "3.8.4-8",
        "A message is delivered at the lower one of the published and the granted QoS.",
    ),
    server(
        "3.9.2-1",
        "SUBACK goes without a reason string that would make it too large for the client.",
    ),
    server(
        "3.9.2-2",
        "SUBACK goes without user properties that would make it too large for the client.",
    ),
    server(
        "3.9.3-1",
        "The reason codes of SUBACK are in the order of the filters.",
    ),
    server(
        "3.9.3-2",
        "Each reason code of SUBACK is one of those listed for it.",
    ),
    server(
        "3.10.1-1",
        "The flags of UNSUBSCRIBE are 0010; any others end the connection.",
    ),
    server("3.10.3-1", "The filters of UNSUBSCRIBE are UTF-8 strings."),
    server("3.10.3-2", "UNSUBSCRIBE has at least one filter."),
    server(
        "3.10.4-1",
        "Filters to be ended are compared with those held byte by byte; the same one is ended.",
    ),
    server(
        "3.10.4-2",
        "After UNSUBSCRIBE no new message is added for that filter.",
    ),
    server(
        "3.10.4-3",
        "Deliveries of QoS 1 and 2 that began before UNSUBSCRIBE are completed.",
    ),
    server("3.10.4-4", "Every UNSUBSCRIBE is answered with UNSUBACK."),
    server(
        "3.10.4-5",
        "UNSUBACK has the packet identifier of its UNSUBSCRIBE, and comes even if nothing was ended.",
    ),
    server(
        "3.10.4-6",
        "Several filters in one UNSUBSCRIBE are handled as so many UNSUBSCRIBEs, with one answer.",
    ),
    server(
        "3.11.2-1",
        "UNSUBACK goes without a reason string that would make it too large for the client.",
    ),
    server(
        "3.11.2-2",
        "UNSUBACK goes without user properties that would make it too large for the client.",
    ),
    server(
        "3.11.3-1",
        "The reason codes of UNSUBACK are in the order of the filters.",
    ),
    server(
        "3.11.3-2",
        "Each reason code of UNSUBACK is one of those listed for it.",
    ),
];
