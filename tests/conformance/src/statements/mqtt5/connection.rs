//! Data representation, CONNECT and CONNACK (chapters 1, 2, 3.1, 3.2); PINGREQ, DISCONNECT and AUTH
//! (3.12 to 3.15); errors and WebSocket (4.12, 4.13, 6).

use crate::statement::{Statement, client, server};

const CLIENT_SENDS: &str = "it is about what a client sends or leaves";
const CLIENT_RECEIVES: &str = "it is about what a client does with the server's CONNACK";

/// Chapters 1 to 3.2.
pub(super) const BEFORE: &[Statement] = &[
    server(
        "1.5.4-1",
        "Text is well-formed UTF-8, without encodings of surrogates.",
    ),
    server("1.5.4-2", "Text has no U+0000."),
    server(
        "1.5.4-3",
        "The bytes EF BB BF are the character U+FEFF wherever they stand, and stay there.",
    ),
    server(
        "1.5.5-1",
        "A variable byte integer takes no more bytes than its value needs.",
    ),
    server(
        "1.5.7-1",
        "Both halves of a string pair are valid UTF-8 strings.",
    ),
    server(
        "2.1.3-1",
        "A reserved flag of the fixed header has the value that the table gives it.",
    ),
    server(
        "2.2.1-2",
        "A PUBLISH of QoS 0 carries no packet identifier.",
    ),
    client(
        "2.2.1-3",
        "A client gives each new SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 an unused identifier other than 0.",
        CLIENT_SENDS,
    ),
    server(
        "2.2.1-4",
        "The server gives each new PUBLISH above QoS 0 an unused identifier other than 0.",
    ),
    server(
        "2.2.1-5",
        "PUBACK, PUBREC, PUBREL and PUBCOMP carry the identifier of the PUBLISH that they belong to.",
    ),
    server(
        "2.2.1-6",
        "SUBACK and UNSUBACK carry the identifier of the packet that they answer.",
    ),
    server("2.2.2-1", "No properties are written as a length of zero."),
    server(
        "3.1.0-1",
        "The first packet of a client is CONNECT; a connection that begins otherwise is not served.",
    ),
    server(
        "3.1.0-2",
        "A second CONNECT is a protocol error and ends the connection.",
    ),
    server(
        "3.1.2-1",
        "The protocol name is `MQTT`; a server that refuses another one closes the connection, and may say 0x84 before.",
    ),
    server(
        "3.1.2-2",
        "A version that the server does not take is refused, with CONNACK 0x84 or none, and the connection closed.",
    ),
    server(
        "3.1.2-3",
        "The server checks that the reserved bit of the connect flags is 0.",
    ),
    server(
        "3.1.2-4",
        "Clean Start 1 throws the old session away and begins a new one.",
    ),
    server(
        "3.1.2-5",
        "Clean Start 0 goes on with the session of this client identifier, if there is one.",
    ),
    server(
        "3.1.2-6",
        "Clean Start 0 begins a new session where there is none.",
    ),
    server("3.1.2-7", "A will is kept with the session."),
    server(
        "3.1.2-8",
        "The will is published after the connection has ended, when its delay is over or the session ends, unless DISCONNECT 0x00 or a new connection in time has removed it.",
    ),
    server(
        "3.1.2-9",
        "With the Will Flag the payload has will properties, topic and payload.",
    ),
    server(
        "3.1.2-10",
        "A will that was published, or taken back by DISCONNECT 0x00, is gone.",
    ),
    server("3.1.2-11", "Without the Will Flag the Will QoS is 0."),
    server("3.1.2-12", "The Will QoS is 0, 1 or 2."),
    server("3.1.2-13", "Without the Will Flag Will Retain is 0."),
    server(
        "3.1.2-14",
        "Without Will Retain the will is published as a message that is not retained.",
    ),
    server(
        "3.1.2-15",
        "With Will Retain the will is published as a retained message.",
    ),
    server(
        "3.1.2-16",
        "Without the User Name Flag there is no user name in the payload.",
    ),
    server(
        "3.1.2-17",
        "With the User Name Flag there is a user name in the payload.",
    ),
    server(
        "3.1.2-18",
        "Without the Password Flag there is no password in the payload.",
    ),
    server(
        "3.1.2-19",
        "With the Password Flag there is a password in the payload.",
    ),
    client(
        "3.1.2-20",
        "A client with a Keep Alive that has nothing else to send sends PINGREQ.",
        CLIENT_SENDS,
    ),
    client(
        "3.1.2-21",
        "A client uses the Server Keep Alive in place of its own, where it is given one.",
        CLIENT_RECEIVES,
    ),
    server(
        "3.1.2-22",
        "A client that is silent for one and a half times its Keep Alive is disconnected as if the network had failed.",
    ),
    server(
        "3.1.2-23",
        "A session with an expiry interval above 0 is kept after its connection.",
    ),
    server(
        "3.1.2-24",
        "The server sends no packet beyond the client's Maximum Packet Size.",
    ),
    server(
        "3.1.2-25",
        "A message that is too large for a client counts as delivered to it, without being sent.",
    ),
    server(
        "3.1.2-26",
        "The server uses no topic alias beyond the client's Topic Alias Maximum.",
    ),
    server(
        "3.1.2-27",
        "A client whose Topic Alias Maximum is absent or 0 is sent no topic alias.",
    ),
    server(
        "3.1.2-28",
        "Response Information is not given to a client that asks for none.",
    ),
    server(
        "3.1.2-29",
        "With Request Problem Information 0 only PUBLISH, CONNACK and DISCONNECT may carry a Reason String or User Properties.",
    ),
    client(
        "3.1.2-30",
        "A client that named an authentication method sends only AUTH and DISCONNECT before CONNACK.",
        CLIENT_SENDS,
    ),
    server(
        "3.1.3-1",
        "The payload of CONNECT is client identifier, will properties, will topic, will payload, user name, password, in this order.",
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
        "A client that may come without an identifier is given one of its own.",
    ),
    server(
        "3.1.3-7",
        "A client without identifier is served as if it had come with the one assigned, which CONNACK tells.",
    ),
    server(
        "3.1.3-8",
        "A client identifier that is refused may be answered with CONNACK 0x85; the connection is closed.",
    ),
    server(
        "3.1.3-9",
        "A new connection of the session before the Will Delay Interval is over keeps the will from being sent.",
    ),
    server(
        "3.1.3-10",
        "The User Properties of a will keep their order.",
    ),
    server("3.1.3-11", "The will topic is a UTF-8 string."),
    server(
        "3.1.3-12",
        "The user name is a UTF-8 string and comes where the flag says it does.",
    ),
    server(
        "3.1.4-1",
        "A CONNECT that is not of the form described ends the connection.",
    ),
    server(
        "3.1.4-2",
        "A CONNECT that fails a further check of the server ends the connection.",
    ),
    server(
        "3.1.4-3",
        "The older connection of a client identifier is told 0x8E and closed.",
    ),
    server("3.1.4-4", "Clean Start is done as described."),
    server(
        "3.1.4-5",
        "A CONNECT that is accepted is answered with CONNACK 0x00.",
    ),
    server(
        "3.1.4-6",
        "Nothing that comes behind a refused CONNECT is processed, AUTH aside.",
    ),
    server(
        "3.2.0-1",
        "No packet but AUTH is sent before the CONNACK with 0x00.",
    ),
    server("3.2.0-2", "There is one CONNACK in a connection."),
    server("3.2.2-1", "Bits 7 to 1 of the CONNACK's flags are 0."),
    server(
        "3.2.2-2",
        "With Clean Start 1 the CONNACK of success says Session Present 0.",
    ),
    server(
        "3.2.2-3",
        "With Clean Start 0 Session Present says whether the server has the session.",
    ),
    client(
        "3.2.2-4",
        "A client that is told of a session which it does not have closes the connection.",
        CLIENT_RECEIVES,
    ),
    client(
        "3.2.2-5",
        "A client that is told of no session forgets its own, if it stays.",
        CLIENT_RECEIVES,
    ),
    server("3.2.2-6", "A CONNACK that refuses says Session Present 0."),
    server(
        "3.2.2-7",
        "Behind a CONNACK of 0x80 or more the server closes the connection.",
    ),
    server(
        "3.2.2-8",
        "The reason code of a CONNACK is one of those listed for it.",
    ),
    server(
        "3.2.2-9",
        "A server that does not take QoS 1 or 2 says its Maximum QoS.",
    ),
    server(
        "3.2.2-10",
        "Subscriptions of every QoS are taken, whatever the Maximum QoS.",
    ),
    client(
        "3.2.2-11",
        "A client publishes nothing above the server's Maximum QoS.",
        CLIENT_RECEIVES,
    ),
    server(
        "3.2.2-12",
        "A will of a QoS beyond the server's is refused, and the connection closed.",
    ),
    server(
        "3.2.2-13",
        "A retained will is refused, and the connection closed, where nothing can be retained.",
    ),
    client(
        "3.2.2-14",
        "A client that is told Retain Available 0 publishes nothing with RETAIN.",
        CLIENT_RECEIVES,
    ),
    client(
        "3.2.2-15",
        "A client sends no packet beyond the server's Maximum Packet Size.",
        CLIENT_SENDS,
    ),
    server(
        "3.2.2-16",
        "A client without identifier is told one that no other session has.",
    ),
    client(
        "3.2.2-17",
        "A client uses no topic alias beyond the server's maximum.",
        CLIENT_SENDS,
    ),
    client(
        "3.2.2-18",
        "A client uses no topic alias at all where the server's maximum is absent or 0.",
        CLIENT_SENDS,
    ),
    server(
        "3.2.2-19",
        "A Reason String that would bring CONNACK beyond the client's Maximum Packet Size is left out.",
    ),
    server(
        "3.2.2-20",
        "User Properties that would bring CONNACK beyond the client's Maximum Packet Size are left out.",
    ),
    client(
        "3.2.2-21",
        "A client that is given a Server Keep Alive uses it.",
        CLIENT_RECEIVES,
    ),
    server(
        "3.2.2-22",
        "A server that gives no Server Keep Alive uses the client's Keep Alive.",
    ),
];

/// Chapters 3.12 to 3.15.
pub(super) const AFTER: &[Statement] = &[
    server("3.12.4-1", "PINGREQ is answered with PINGRESP."),
    server(
        "3.14.0-1",
        "The server sends no DISCONNECT before a CONNACK below 0x80.",
    ),
    server(
        "3.14.1-1",
        "A DISCONNECT whose reserved bits are not 0 is malformed: 0x81.",
    ),
    server(
        "3.14.2-1",
        "The reason code of a DISCONNECT is one of those listed for it.",
    ),
    server(
        "3.14.2-2",
        "The server's DISCONNECT has no Session Expiry Interval.",
    ),
    server(
        "3.14.2-3",
        "A Reason String that would bring DISCONNECT beyond the receiver's Maximum Packet Size is left out.",
    ),
    server(
        "3.14.2-4",
        "User Properties that would bring DISCONNECT beyond the receiver's Maximum Packet Size are left out.",
    ),
    server("3.14.4-1", "Nothing follows a DISCONNECT."),
    server("3.14.4-2", "Who has sent DISCONNECT closes the connection."),
    server(
        "3.14.4-3",
        "DISCONNECT 0x00 takes the will of the connection away.",
    ),
    server(
        "3.15.1-1",
        "An AUTH whose reserved bits are not 0 is malformed and ends the connection.",
    ),
    server(
        "3.15.2-1",
        "The reason code of an AUTH is one of the three listed for it.",
    ),
    server(
        "3.15.2-2",
        "A Reason String that would bring AUTH beyond the receiver's Maximum Packet Size is left out.",
    ),
    server(
        "3.15.2-3",
        "User Properties that would bring AUTH beyond the receiver's Maximum Packet Size are left out.",
    ),
];

/// Chapters 4.12, 4.13, 5 and 6.
pub(super) const ERRORS: &[Statement] = &[
    server(
        "4.12.0-1",
        "A method that the server does not support ends the connection, with CONNACK 0x8C or 0x87 or none.",
    ),
    server(
        "4.12.0-2",
        "An AUTH by which the server asks for more has reason code 0x18.",
    ),
    client(
        "4.12.0-3",
        "An AUTH by which the client answers has reason code 0x18.",
        CLIENT_SENDS,
    ),
    server(
        "4.12.0-4",
        "An authentication that the server rejects ends the connection.",
    ),
    server(
        "4.12.0-5",
        "Every AUTH, and the CONNACK of success, names the method that CONNECT named.",
    ),
    server(
        "4.12.0-6",
        "A client that named no method is sent no AUTH, and no method in CONNACK.",
    ),
    client(
        "4.12.0-7",
        "A client that named no method sends no AUTH.",
        CLIENT_SENDS,
    ),
    client(
        "4.12.1-1",
        "A client that authenticates again names the method of its CONNECT.",
        CLIENT_SENDS,
    ),
    server(
        "4.12.1-2",
        "A second authentication that fails ends the connection.",
    ),
    server(
        "4.13.1-1",
        "A malformed packet or a protocol error ends the connection.",
    ),
    server(
        "4.13.2-1",
        "Where a reason of 0x80 or more is due in CONNACK or DISCONNECT the connection is closed, whether or not it is said.",
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
];
