//! Operational behaviour (chapters 4.1 to 4.11): state, quality of service, redelivery, order, topics,
//! and in MQTT 5.0 shared subscriptions, flow control and request/response.

use crate::statement::{Statement, client, server, unobservable};

const RULE_FOR_CLIENTS: &str = "the rule is given for clients; the server's own order is 4.6.0-5";

/// Chapters 4.1 to 4.11. Sections 4.10 and 4.11 have no numbered statement.
pub(super) const STATEMENTS: &[Statement] = &[
    server(
        "4.1.0-1",
        "Session state is not discarded while the connection is open.",
    ),
    server(
        "4.1.0-2",
        "Session state is discarded when the connection is closed and the session expiry interval is over.",
    ),
    server(
        "4.2.0-1",
        "There is a transport that carries bytes both ways in order and without loss.",
    ),
    server("4.3.1-1", "A QoS 0 message is sent with QoS 0 and DUP 0."),
    server(
        "4.3.2-1",
        "Each new QoS 1 message is sent with a packet identifier that is not in use.",
    ),
    server(
        "4.3.2-2",
        "A new QoS 1 message is sent with that identifier, QoS 1 and DUP 0.",
    ),
    server(
        "4.3.2-3",
        "A QoS 1 PUBLISH counts as unacknowledged until its PUBACK has come.",
    ),
    server(
        "4.3.2-4",
        "The receiver of a QoS 1 PUBLISH owns the message and answers PUBACK with its identifier.",
    ),
    server(
        "4.3.2-5",
        "After PUBACK a PUBLISH with the same identifier is a new message, whatever its DUP.",
    ),
    server(
        "4.3.3-1",
        "Each new QoS 2 message is sent with a packet identifier that is not in use.",
    ),
    server(
        "4.3.3-2",
        "A new QoS 2 message is sent with that identifier, QoS 2 and DUP 0.",
    ),
    server(
        "4.3.3-3",
        "A QoS 2 PUBLISH counts as unacknowledged until its PUBREC has come.",
    ),
    server(
        "4.3.3-4",
        "A PUBREC below 0x80 is answered with a PUBREL of the same identifier.",
    ),
    server(
        "4.3.3-5",
        "A PUBREL counts as unacknowledged until its PUBCOMP has come.",
    ),
    server("4.3.3-6", "After its PUBREL a PUBLISH is not sent again."),
    server(
        "4.3.3-7",
        "A message whose PUBLISH has been sent does not expire.",
    ),
    server(
        "4.3.3-8",
        "The receiver of a QoS 2 PUBLISH owns the message and answers PUBREC with its identifier.",
    ),
    server(
        "4.3.3-9",
        "After a PUBREC of 0x80 or more a PUBLISH with the same identifier is a new message.",
    ),
    server(
        "4.3.3-10",
        "Until PUBREL a PUBLISH with the same identifier is answered with PUBREC and delivered to nobody again.",
    ),
    server(
        "4.3.3-11",
        "PUBREL is answered with a PUBCOMP of the same identifier.",
    ),
    server(
        "4.3.3-12",
        "After PUBCOMP a PUBLISH with the same identifier is a new message.",
    ),
    server(
        "4.3.3-13",
        "A QoS 2 exchange goes on to its end though the message has expired.",
    ),
    server(
        "4.4.0-1",
        "On resume, and only then, PUBLISH and PUBREL packets not yet acknowledged are sent again, with their identifiers.",
    ),
    server(
        "4.4.0-2",
        "A message refused by PUBACK or PUBREC with 0x80 or more counts as acknowledged and is not sent again.",
    ),
    server(
        "4.5.0-1",
        "A message that the server owns is added to the state of every session with a matching subscription.",
    ),
    client(
        "4.5.0-2",
        "A client acknowledges what it receives, whether or not it makes use of it.",
        "it is about what a client does with a message",
    ),
    client(
        "4.6.0-1",
        "A client that sends PUBLISH packets again does so in their first order.",
        RULE_FOR_CLIENTS,
    ),
    client(
        "4.6.0-2",
        "A client sends its PUBACKs in the order of the PUBLISH packets.",
        RULE_FOR_CLIENTS,
    ),
    client(
        "4.6.0-3",
        "A client sends its PUBRECs in the order of the PUBLISH packets.",
        RULE_FOR_CLIENTS,
    ),
    client(
        "4.6.0-4",
        "A client sends its PUBRELs in the order of the PUBRECs.",
        RULE_FOR_CLIENTS,
    ),
    server(
        "4.6.0-5",
        "Messages of one client to one ordered topic reach a consumer, at each QoS, in their order.",
    ),
    server(
        "4.6.0-6",
        "For subscriptions that are not shared every topic is an ordered one.",
    ),
    server(
        "4.7.0-1",
        "Wildcards belong into filters, never into topic names.",
    ),
    server(
        "4.7.1-1",
        "The wildcard # stands alone or behind a separator, and last.",
    ),
    server("4.7.1-2", "The wildcard + may be any level, and fills it."),
    server(
        "4.7.2-1",
        "A filter that begins with a wildcard matches no topic that begins with $.",
    ),
    server(
        "4.7.3-1",
        "Topic names and filters have at least one character.",
    ),
    server("4.7.3-2", "Topic names and filters have no U+0000."),
    unobservable(
        "4.7.3-3",
        "Topic names and filters have at most 65,535 bytes.",
        "the two bytes of their length cannot say more",
    ),
    server(
        "4.7.3-4",
        "Matching neither normalizes nor alters topic names and filters.",
    ),
    server(
        "4.8.2-1",
        "A shared subscription begins with $share/ and a name of at least one character.",
    ),
    server(
        "4.8.2-2",
        "The share name has none of / + # and is followed by / and a filter.",
    ),
    server(
        "4.8.2-3",
        "A shared subscription's messages keep to the QoS granted to the member.",
    ),
    server(
        "4.8.2-4",
        "A QoS 2 delivery that a member left unfinished is completed with that member when it is back.",
    ),
    server(
        "4.8.2-5",
        "If the member's session ends first, that message goes to no other member.",
    ),
    server(
        "4.8.2-6",
        "A message that a member refuses with 0x80 or more goes to no other member.",
    ),
    server(
        "4.9.0-1",
        "The first send quota is not zero and not above the Receive Maximum.",
    ),
    server(
        "4.9.0-2",
        "Each PUBLISH above QoS 0 uses the quota up by one, and at zero none is sent.",
    ),
    server(
        "4.9.0-3",
        "All other packets are dealt with though the quota is zero.",
    ),
];
