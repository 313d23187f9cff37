//! Operational behaviour (chapters 4.1 to 4.7): state, quality of service, redelivery, order, topics.

use crate::statement::{Statement, client, server, unobservable};

const RULE_FOR_CLIENTS: &str =
    "the rule is given for clients; of servers 4.6.0-6 asks it for what they send to subscribers";

/// Chapters 4.1 to 4.7.
pub(super) const STATEMENTS: &[Statement] = &[
    server(
        "4.1.0-1",
        "Session state is kept for the whole of a session.",
    ),
    server(
        "4.1.0-2",
        "A session lasts at least as long as its connection.",
    ),
    server("4.3.1-1", "A QoS 0 message is sent with QoS 0 and DUP 0."),
    server(
        "4.3.2-1",
        "A new QoS 1 message is sent with an unused identifier, QoS 1 and DUP 0, and is unacknowledged until its PUBACK has come.",
    ),
    server(
        "4.3.2-2",
        "A QoS 1 PUBLISH is answered with a PUBACK of its identifier, which then stands for a new message, whatever its DUP.",
    ),
    server(
        "4.3.3-1",
        "The sender of QoS 2: an unused identifier, QoS 2, DUP 0; PUBREL after PUBREC, repeated until PUBCOMP; no PUBLISH after PUBREL.",
    ),
    server(
        "4.3.3-2",
        "The receiver of QoS 2: PUBREC for each PUBLISH, no second delivery before PUBREL, PUBCOMP after it, then a new message.",
    ),
    server(
        "4.4.0-1",
        "On resume PUBLISH packets above QoS 0 and PUBREL packets not yet acknowledged are sent again, with their identifiers.",
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
    server(
        "4.6.0-1",
        "PUBLISH packets that are sent again keep their first order; asked of servers by 4.6.0-6.",
    ),
    client(
        "4.6.0-2",
        "PUBACKs are sent in the order of the PUBLISH packets.",
        RULE_FOR_CLIENTS,
    ),
    client(
        "4.6.0-3",
        "PUBRECs are sent in the order of the PUBLISH packets.",
        RULE_FOR_CLIENTS,
    ),
    server(
        "4.6.0-4",
        "PUBRELs are sent in the order of the PUBRECs; asked of servers by 4.6.0-6.",
    ),
    server(
        "4.6.0-5",
        "Unless it is set up otherwise, a topic is an ordered one.",
    ),
    server(
        "4.6.0-6",
        "What is sent to the subscribers of an ordered topic keeps these rules, and of each client and QoS its order.",
    ),
    server(
        "4.7.1-1",
        "Wildcards belong into filters, never into topic names.",
    ),
    server(
        "4.7.1-2",
        "The wildcard # stands alone or behind a separator, and last.",
    ),
    server("4.7.1-3", "The wildcard + may be any level, and fills it."),
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
];
