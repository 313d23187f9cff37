//! PUBLISH and its acknowledgements, SUBSCRIBE, UNSUBSCRIBE and their answers (chapters 3.3 to 3.11).

use crate::statement::{Statement, server};

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
        "No PUBLISH has QoS 3; a receiver of one closes the connection.",
    ),
    server(
        "3.3.1-5",
        "A PUBLISH with RETAIN is kept with its QoS for future subscribers of its topic.",
    ),
    server(
        "3.3.1-6",
        "A new subscription is sent the last retained message of each topic that matches.",
    ),
    server(
        "3.3.1-7",
        "A retained QoS 0 message displaces what its topic retained, though it need not be kept itself.",
    ),
    server(
        "3.3.1-8",
        "A message sent because a client has subscribed has RETAIN set.",
    ),
    server(
        "3.3.1-9",
        "A message sent to a subscription that was there has RETAIN cleared, however it was published.",
    ),
    server(
        "3.3.1-10",
        "A retained PUBLISH without payload is delivered like any other and removes what its topic retained.",
    ),
    server(
        "3.3.1-11",
        "A retained PUBLISH without payload is not kept itself.",
    ),
    server(
        "3.3.1-12",
        "A PUBLISH without RETAIN is not kept and leaves the retained message alone.",
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
        "3.3.4-1",
        "A PUBLISH is answered as its QoS asks for: not at all, with PUBACK, or with PUBREC.",
    ),
    server(
        "3.3.5-1",
        "Where subscriptions of a client overlap, the message is delivered at the highest QoS that they grant.",
    ),
    server(
        "3.3.5-2",
        "A PUBLISH that is not permitted is acknowledged like any other, or the connection is closed.",
    ),
    server(
        "3.6.1-1",
        "The flags of PUBREL are 0010; any others close the connection.",
    ),
    server(
        "3.8.1-1",
        "The flags of SUBSCRIBE are 0010; any others close the connection.",
    ),
    server("3.8.3-1", "The filters of SUBSCRIBE are UTF-8 strings."),
    server(
        "3.8.3-2",
        "A server without wildcard filters refuses every subscription that has one.",
    ),
    server("3.8.3-3", "SUBSCRIBE has at least one filter with its QoS."),
    server(
        "3.8.3-4",
        "A SUBSCRIBE with reserved bits set, or another QoS than 0, 1 and 2, is malformed and closes the connection.",
    ),
    server("3.8.4-1", "Every SUBSCRIBE is answered with SUBACK."),
    server(
        "3.8.4-2",
        "SUBACK has the packet identifier of its SUBSCRIBE.",
    ),
    server(
        "3.8.4-3",
        "A subscribe to a filter that is there replaces that subscription, brings the retained messages again and interrupts no flow.",
    ),
    server(
        "3.8.4-4",
        "Several filters in one SUBSCRIBE are handled as so many SUBSCRIBEs, with one answer.",
    ),
    server(
        "3.8.4-5",
        "SUBACK has a code for each filter: the QoS granted, or failure.",
    ),
    server(
        "3.8.4-6",
        "A message is delivered at the lower one of the published and the granted QoS.",
    ),
    server(
        "3.9.3-1",
        "The codes of SUBACK are in the order of the filters.",
    ),
    server("3.9.3-2", "SUBACK has no codes but 0, 1, 2 and 0x80."),
    server(
        "3.10.1-1",
        "The flags of UNSUBSCRIBE are 0010; any others close the connection.",
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
    server(
        "3.10.4-4",
        "Every UNSUBSCRIBE is answered with an UNSUBACK of the same packet identifier.",
    ),
    server("3.10.4-5", "UNSUBACK comes even if nothing was ended."),
    server(
        "3.10.4-6",
        "Several filters in one UNSUBSCRIBE are handled as so many UNSUBSCRIBEs, with one answer.",
    ),
];
