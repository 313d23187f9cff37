//! Data representation, CONNECT and CONNACK (chapters 1, 2, 3.1, 3.2); PINGREQ and DISCONNECT (3.12 to
//! 3.14); errors, WebSocket and conformance (4.8, 6, 7).

use crate::statement::{Statement, client, server, unobservable};

const CLIENT_SENDS: &str = "it is about what a client sends or leaves";

/// Chapters 1 to 3.2.
pub(super) const BEFORE: &[Statement] = &[
    server(
        "1.5.3-1",
        "Text is well-formed UTF-8, without encodings of surrogates; a packet with other text ends the connection.",
    ),
    server(
        "1.5.3-2",
        "Text has no U+0000; a packet with it ends the connection.",
    ),
    server(
        "1.5.3-3",
        "The bytes EF BB BF are the character U+FEFF wherever they stand, and stay there.",
    ),
    server(
        "2.2.2-1",
        "A reserved flag of the fixed header has the value that the table gives it.",
    ),
    server("2.2.2-2", "Flags that are not valid end the connection."),
    server(
        "2.3.1-1",
        "SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 have an identifier other than 0.",
    ),
    client(
        "2.3.1-2",
        "A client gives each new packet of these types an unused identifier.",
        CLIENT_SENDS,
    ),
    client(
        "2.3.1-3",
        "A client sends a packet again with its first identifier, which is free after the acknowledgement.",
        CLIENT_SENDS,
    ),
    server(
        "2.3.1-4",
        "The identifiers of the server's PUBLISH packets follow the same rules.",
    ),
    server(
        "2.3.1-5",
        "A PUBLISH of QoS 0 carries no packet identifier.",
    ),
    server(
        "2.3.1-6",
        "PUBACK, PUBREC and PUBREL carry the identifier of the PUBLISH that they belong to.",
    ),
    server(
        "2.3.1-7",
        "SUBACK and UNSUBACK carry the identifier of the packet that they answer.",
    ),
    server(
        "3.1.0-1",
        "The first packet of a client is CONNECT; a connection that begins otherwise is not served.",
    ),
    server(
        "3.1.0-2",
        "A second CONNECT breaks the protocol and ends the connection.",
    ),
    server(
        "3.1.2-1",
        "A CONNECT with another protocol name is refused, or served by another specification, never by this one.",
    ),
    server(
        "3.1.2-2",
        "A level that the server does not take is answered with return code 1, and the connection closed.",
    ),
    server(
        "3.1.2-3",
        "The reserved bit of the connect flags is checked; a client that sets it is disconnected.",
    ),
    server(
        "3.1.2-4",
        "Clean Session 0 goes on with the session of this client identifier, or begins one; it is kept after the connection.",
    ),
    server(
        "3.1.2-5",
        "For a session of Clean Session 0 that is away, matching messages of QoS 1 and 2 are stored.",
    ),
    server(
        "3.1.2-6",
        "Clean Session 1 throws the old session away; the new one ends with its connection and leaves nothing.",
    ),
    server(
        "3.1.2-7",
        "Retained messages belong to no session and outlive it.",
    ),
    server(
        "3.1.2-8",
        "A will is kept with its connection and published when that ends, unless DISCONNECT has removed it.",
    ),
    server(
        "3.1.2-9",
        "With the Will Flag the will's QoS and RETAIN are used, and topic and message are in the payload.",
    ),
    server(
        "3.1.2-10",
        "A will that was published, or taken back by DISCONNECT, is gone.",
    ),
    server(
        "3.1.2-11",
        "Without the Will Flag its QoS and RETAIN are 0, and the payload has no will.",
    ),
    server("3.1.2-12", "Without the Will Flag no will is published."),
    server("3.1.2-13", "Without the Will Flag the Will QoS is 0."),
    server("3.1.2-14", "The Will QoS is 0, 1 or 2."),
    server("3.1.2-15", "Without the Will Flag Will Retain is 0."),
    server(
        "3.1.2-16",
        "Without Will Retain the will is published as a message that is not retained.",
    ),
    server(
        "3.1.2-17",
        "With Will Retain the will is published as a retained message.",
    ),
    server(
        "3.1.2-18",
        "Without the User Name Flag there is no user name in the payload.",
    ),
    server(
        "3.1.2-19",
        "With the User Name Flag there is a user name in the payload.",
    ),
    server(
        "3.1.2-20",
        "Without the Password Flag there is no password in the payload.",
    ),
    server(
        "3.1.2-21",
        "With the Password Flag there is a password in the payload.",
    ),
    server(
        "3.1.2-22",
        "Without a user name there is no password either.",
    ),
    client(
        "3.1.2-23",
        "A client keeps within its Keep Alive and sends PINGREQ if it has nothing else to send.",
        CLIENT_SENDS,
    ),
    server(
        "3.1.2-24",
        "A client that is silent for one and a half times its Keep Alive is disconnected as if the network had failed.",
    ),
    server(
        "3.1.3-1",
        "The payload of CONNECT is client identifier, will topic, will message, user name, password, in this order.",
    ),
    server(
        "3.1.3-2",
        "Sessions are told apart by their client identifiers.",
    ),
    server(
        "3.1.3-3",
        "The client identifier is there, and first in the payload.",
    ),
    server("3.1.3-4", "The client identifier is a UTF-8 string."),
    server(
        "3.1.3-5",
        "Client identifiers of 1 to 23 letters and digits are taken.",
    ),
    server(
        "3.1.3-6",
        "A client that may come without an identifier is given one of its own and served as if it had come with it.",
    ),
    client(
        "3.1.3-7",
        "A client without identifier asks for Clean Session 1.",
        CLIENT_SENDS,
    ),
    server(
        "3.1.3-8",
        "No identifier with Clean Session 0 is answered with return code 2, and the connection closed.",
    ),
    server(
        "3.1.3-9",
        "A client identifier that is refused is answered with return code 2, and the connection closed.",
    ),
    server("3.1.3-10", "The will topic is a UTF-8 string."),
    server("3.1.3-11", "The user name is a UTF-8 string."),
    server(
        "3.1.4-1",
        "A CONNECT that is not of the form described ends the connection, without a CONNACK.",
    ),
    server(
        "3.1.4-2",
        "The older connection of a client identifier is ended.",
    ),
    server("3.1.4-3", "Clean Session is done as described."),
    server(
        "3.1.4-4",
        "A CONNECT that is accepted is answered with return code 0.",
    ),
    server(
        "3.1.4-5",
        "Nothing that comes behind a refused CONNECT is processed.",
    ),
    server("3.2.0-1", "The first packet of the server is CONNACK."),
    server(
        "3.2.2-1",
        "With Clean Session 1 the CONNACK of success says Session Present 0.",
    ),
    server(
        "3.2.2-2",
        "With Clean Session 0 and a stored session the CONNACK says Session Present 1.",
    ),
    server(
        "3.2.2-3",
        "Without a stored session the CONNACK of success says Session Present 0.",
    ),
    server("3.2.2-4", "A CONNACK that refuses says Session Present 0."),
    server(
        "3.2.2-5",
        "Behind a CONNACK that refuses the server closes the connection.",
    ),
    server(
        "3.2.2-6",
        "Where no return code fits the connection is closed without a CONNACK.",
    ),
];

/// Chapters 3.12 to 3.14.
pub(super) const AFTER: &[Statement] = &[
    server("3.12.4-1", "PINGREQ is answered with PINGRESP."),
    server(
        "3.14.1-1",
        "The reserved bits of DISCONNECT are checked; a client that sets one is disconnected.",
    ),
    client(
        "3.14.4-1",
        "A client closes the connection behind its DISCONNECT.",
        CLIENT_SENDS,
    ),
    client(
        "3.14.4-2",
        "A client sends nothing behind its DISCONNECT.",
        CLIENT_SENDS,
    ),
    server(
        "3.14.4-3",
        "DISCONNECT takes the will of the connection away.",
    ),
];

/// Chapters 4.8, 5, 6 and 7.
pub(super) const ERRORS: &[Statement] = &[
    server(
        "4.8.0-1",
        "A breach of the protocol ends the connection it came on, unless another clause says otherwise.",
    ),
    unobservable(
        "4.8.0-2",
        "A passing failure while a packet is processed ends the connection it came on.",
        "such a failure lies within the server: no client can bring it about, or know that it happened",
    ),
    server(
        "6.0.0-1",
        "MQTT travels in binary frames; any other data frame ends the connection.",
    ),
    server(
        "6.0.0-2",
        "A frame may hold a part of a packet or several; their boundaries mean nothing.",
    ),
    client(
        "6.0.0-3",
        "A client offers the subprotocol `mqtt`.",
        CLIENT_SENDS,
    ),
    server(
        "6.0.0-4",
        "The subprotocol that the server chooses is `mqtt`.",
    ),
    unobservable(
        "7.0.0-1",
        "A server that connects to other servers is a conforming client there.",
        "what it does there is not seen by its own clients",
    ),
    server(
        "7.0.0-2",
        "Nothing outside of the specification is needed to work together.",
    ),
    server(
        "7.1.1-1",
        "The server takes a transport that carries bytes in order and without loss, both ways.",
    ),
    client(
        "7.1.2-1",
        "A client takes such a transport.",
        "it is about clients",
    ),
];
