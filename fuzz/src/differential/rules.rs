//! Where the codecs differ, and who is right.
//!
//! A rule is as narrow as the difference: one codec, one clause, the packets it was seen in. What it
//! does not name is a finding.

use std::fmt;

use tidegate_mqtt::codec::{DecodeError, Packet, PacketType, Property, ReasonCode, Version};

use super::{Ours, Theirs};
use PacketType as P;

/// Another codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// `rmqtt-codec`.
    Rmqtt,
    /// `mqtt-protocol-core`.
    Core,
}

/// The versions in which a rule holds: a clause of one is no excuse in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    V3,
    V5,
    Both,
}

impl On {
    fn holds(self, version: Version) -> bool {
        match self {
            Self::V3 => version != Version::V5,
            Self::V5 => version == Version::V5,
            Self::Both => true,
        }
    }
}

/// One packet and what ours makes of it.
pub(super) struct Case<'a> {
    pub(super) peer: Peer,
    pub(super) version: Version,
    pub(super) bytes: &'a [u8],
    pub(super) ours: &'a Ours<'a>,
}

/// What ours refuses by a clause and the other lets pass: the clause says that ours is right.
struct Lenient {
    peer: Peer,
    on: On,
    /// As [`violation`] names it.
    clause: &'static str,
    /// Where; empty is everywhere, for what concerns a type of data.
    packets: &'static [PacketType],
    name: &'static str,
}

const fn lenient(
    peer: Peer,
    on: On,
    clause: &'static str,
    packets: &'static [PacketType],
    name: &'static str,
) -> Lenient {
    Lenient {
        peer,
        on,
        clause,
        packets,
        name,
    }
}

const FILTERS: &[PacketType] = &[P::Subscribe, P::Unsubscribe];
const TOPICS: &[PacketType] = &[P::Publish, P::Connect];

const LENIENT: &[Lenient] = {
    use On::{Both, V3, V5};
    use Peer::{Core, Rmqtt};
    &[
        lenient(Rmqtt, Both, "MQTT-1.5.4-2", &[], "U+0000 in a string"),
        lenient(
            Rmqtt,
            V5,
            "MQTT-1.5.5-1",
            &[],
            "an integer in more bytes than it needs",
        ),
        // 3.1.1 does not ask for the shortest form: the gateway's choice.
        lenient(
            Rmqtt,
            V3,
            "MQTT-1.5.5-1",
            &[],
            "a length in more bytes than it needs: our choice before MQTT 5",
        ),
        lenient(
            Rmqtt,
            Both,
            "section 2.1.4, cut short",
            &[P::Connect, P::ConnAck, P::Auth],
            "fields cut short",
        ),
        lenient(
            Rmqtt,
            Both,
            "section 2.1.4, bytes behind the end",
            &[P::Connect, P::ConnAck, P::Auth],
            "bytes behind the end",
        ),
        lenient(
            Rmqtt,
            Both,
            "section 2.1.4, bytes behind the end",
            &[P::PingReq, P::PingResp, P::Disconnect],
            "a body where there is none",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.1.2-2",
            &[P::Connect],
            "the name of one version with the level of another",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.1.2-11",
            &[P::Connect],
            "a Will QoS without a will",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.1.2-13",
            &[P::Connect],
            "Will Retain without a will",
        ),
        lenient(
            Rmqtt,
            V3,
            "MQTT-3.1.2-22 (3.1.1)",
            &[P::Connect],
            "a password without a user name before MQTT 5",
        ),
        lenient(
            Rmqtt,
            V5,
            "section 3.1.2.11.10",
            &[P::Connect, P::ConnAck, P::Auth],
            "Authentication Data without a method",
        ),
        lenient(
            Rmqtt,
            V5,
            "section 3.15.2.2.2",
            &[P::Auth],
            "AUTH without a method",
        ),
        lenient(
            Rmqtt,
            V5,
            "section 3.1.2.11.4",
            &[P::Connect, P::ConnAck],
            "a Maximum Packet Size of 0",
        ),
        lenient(
            Rmqtt,
            V5,
            "section 3.2.2.3.4",
            &[P::ConnAck],
            "a Maximum QoS of 2",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.2.2-6",
            &[P::ConnAck],
            "Session Present in a refusal",
        ),
        lenient(
            Rmqtt,
            V3,
            "section 3.2.2.3 (3.1.1)",
            &[P::ConnAck],
            "the reserved return code 6",
        ),
        lenient(Rmqtt, Both, "MQTT-3.3.1-2", &[P::Publish], "DUP at QoS 0"),
        lenient(
            Rmqtt,
            V5,
            "section 3.3.2.1",
            &[P::Publish],
            "neither topic nor alias",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.3.2-2",
            TOPICS,
            "wildcards in a topic name",
        ),
        lenient(Rmqtt, Both, "MQTT-4.7.3-1", TOPICS, "an empty topic name"),
        lenient(
            Rmqtt,
            Both,
            "MQTT-4.7.3-2",
            TOPICS,
            "U+0000 in a topic name",
        ),
        lenient(
            Rmqtt,
            V5,
            "MQTT-4.7.3-1, Response Topic",
            TOPICS,
            "an empty Response Topic",
        ),
        lenient(
            Rmqtt,
            V5,
            "MQTT-3.3.2-14",
            TOPICS,
            "wildcards in a Response Topic",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-4.7.1-1",
            FILTERS,
            "`#` that does not stand alone",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-4.7.1-2",
            FILTERS,
            "`+` that does not stand alone",
        ),
        lenient(Rmqtt, Both, "MQTT-4.7.3-1", FILTERS, "an empty filter"),
        lenient(
            Rmqtt,
            V5,
            "MQTT-4.8.2-1",
            FILTERS,
            "a share name that is none",
        ),
        // 3.1.1 knows no shared subscriptions; the gateway has them for all: its choice.
        lenient(
            Rmqtt,
            V3,
            "MQTT-4.8.2-1",
            FILTERS,
            "a share name that is none: our choice before MQTT 5",
        ),
        lenient(
            Rmqtt,
            V5,
            "MQTT-3.8.3-4",
            &[P::Subscribe],
            "No Local on a shared subscription",
        ),
        lenient(
            Rmqtt,
            V3,
            "MQTT-3.8.3-5",
            &[P::Subscribe],
            "reserved bits of a requested QoS before MQTT 5",
        ),
        lenient(
            Rmqtt,
            Both,
            "MQTT-3.9.3-1",
            &[P::SubAck],
            "SUBACK without a code",
        ),
        lenient(
            Rmqtt,
            V5,
            "MQTT-3.11.3-1",
            &[P::UnsubAck],
            "UNSUBACK without a code",
        ),
        lenient(Core, Both, "MQTT-1.5.4-2", &[], "U+0000 in a string"),
        lenient(Core, Both, "MQTT-2.2.1-3", &[], "packet identifier 0"),
        lenient(
            Core,
            V5,
            "section 2.1.4, cut short",
            &[P::Publish],
            "PUBLISH of MQTT 5 without a Property Length",
        ),
        lenient(
            Core,
            V3,
            "section 2.1.4, bytes behind the end",
            &[P::PubAck, P::PubRec, P::PubRel, P::PubComp],
            "a reason code before MQTT 5",
        ),
        lenient(Core, Both, "MQTT-3.6.1-1", &[P::PubRel], "flags of PUBREL"),
        lenient(
            Core,
            Both,
            "MQTT-3.8.1-1",
            &[P::Subscribe],
            "flags of SUBSCRIBE",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.10.1-1",
            &[P::Unsubscribe],
            "flags of UNSUBSCRIBE",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.1.2-3",
            &[P::Connect],
            "the reserved flag of CONNECT",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.1.2-11",
            &[P::Connect],
            "a Will QoS without a will",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.1.2-12",
            &[P::Connect],
            "Will QoS 3 without a will, or with one",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.1.2-13",
            &[P::Connect],
            "Will Retain without a will",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.2.2-1",
            &[P::ConnAck],
            "reserved flags of CONNACK",
        ),
        lenient(Core, Both, "MQTT-3.3.1-2", &[P::Publish], "DUP at QoS 0"),
        lenient(
            Core,
            Both,
            "MQTT-4.7.3-1",
            &[P::Publish, P::Connect, P::Subscribe, P::Unsubscribe],
            "an empty topic name or filter",
        ),
        lenient(Core, Both, "MQTT-4.7.3-2", TOPICS, "U+0000 in a topic name"),
        lenient(
            Core,
            V5,
            "section 2.2.2.2, twice",
            &[P::Subscribe],
            "two Subscription Identifiers in SUBSCRIBE (section 3.8.2.1.2)",
        ),
        lenient(
            Core,
            V5,
            "MQTT-1.5.5-1",
            &[],
            "an integer in more bytes than it needs, among the properties",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.2.2-6",
            &[P::ConnAck],
            "Session Present in a refusal",
        ),
        lenient(
            Core,
            V5,
            "section 3.1.2.11.10",
            &[P::Connect, P::ConnAck, P::Auth],
            "Authentication Data without a method",
        ),
        lenient(
            Core,
            V5,
            "section 3.15.2.2.2",
            &[P::Auth],
            "AUTH without a method",
        ),
        lenient(
            Core,
            V5,
            "section 2.1.4, cut short",
            &[P::Auth],
            "AUTH with a reason code and no Property Length",
        ),
        lenient(
            Core,
            V5,
            "section 3.3.2.1",
            &[P::Publish],
            "neither topic nor alias",
        ),
        lenient(
            Core,
            Both,
            "MQTT-3.3.2-2",
            TOPICS,
            "wildcards in a topic name",
        ),
        lenient(
            Core,
            V5,
            "MQTT-4.7.3-1, Response Topic",
            TOPICS,
            "an empty Response Topic",
        ),
        lenient(
            Core,
            V5,
            "MQTT-3.3.2-14",
            TOPICS,
            "wildcards in a Response Topic",
        ),
        lenient(
            Core,
            Both,
            "MQTT-4.7.1-1",
            FILTERS,
            "`#` that does not stand alone",
        ),
        lenient(
            Core,
            Both,
            "MQTT-4.7.1-2",
            FILTERS,
            "`+` that does not stand alone",
        ),
        lenient(
            Core,
            V5,
            "MQTT-4.8.2-1",
            FILTERS,
            "a share name that is none",
        ),
        // 3.1.1 knows no shared subscriptions; the gateway has them for all: its choice.
        lenient(
            Core,
            V3,
            "MQTT-4.8.2-1",
            FILTERS,
            "a share name that is none: our choice before MQTT 5",
        ),
        lenient(
            Core,
            V5,
            "MQTT-3.8.3-4",
            &[P::Subscribe],
            "No Local on a shared subscription",
        ),
        lenient(
            Core,
            V3,
            "MQTT-3.8.3-5",
            &[P::Subscribe],
            "reserved bits of a requested QoS before MQTT 5",
        ),
    ]
};

/// What ours accepts and the other refuses.
struct Strict {
    peer: Peer,
    on: On,
    name: &'static str,
    is: fn(&Packet<'_>) -> bool,
}

const STRICT: &[Strict] = &[
    // Before MQTT 5 it is refused behind the codec, with return code 2; MQTT 5 has the server
    // assign one.
    Strict {
        peer: Peer::Rmqtt,
        on: On::Both,
        name: "MQTT-3.1.3-6 (3.1.1: -8): no client identifier and a session that is kept",
        is: |packet| {
            matches!(packet, Packet::Connect(connect)
                if connect.client_id.is_empty() && !connect.clean_start)
        },
    },
    // Ours is right: no clause gives the interval a least value.
    Strict {
        peer: Peer::Rmqtt,
        on: On::V5,
        name: "section 3.3.2.3.3: a message that expires at once",
        is: |packet| {
            matches!(packet, Packet::Publish(publish)
                if publish.properties.message_expiry_interval() == Some(0))
        },
    },
    Strict {
        peer: Peer::Rmqtt,
        on: On::V5,
        name: "section 3.1.3.2.4: a will that expires at once",
        is: |packet| {
            let Packet::Connect(connect) = packet else {
                return false;
            };
            connect.will.as_ref().is_some_and(|will| {
                let mut properties = will.properties.iter();
                properties.any(|property| matches!(property, Property::MessageExpiryInterval(0)))
            })
        },
    },
    // Ours is right: MQTT 5 takes the rule of its forerunners back.
    Strict {
        peer: Peer::Core,
        on: On::V5,
        name: "section 3.1.2.9: a password without a user name in MQTT 5",
        is: |packet| {
            matches!(packet, Packet::Connect(connect)
                if connect.password.is_some() && connect.user_name.is_none())
        },
    },
    // Open: the table of section 2.4 gives it to DISCONNECT, that of 3.14.2.1 does not.
    Strict {
        peer: Peer::Core,
        on: On::V5,
        name: "section 2.4: DISCONNECT with Bad authentication method",
        is: |packet| {
            matches!(packet, Packet::Disconnect(disconnect)
                if disconnect.reason == ReasonCode::BadAuthenticationMethod)
        },
    },
];

/// A rule, for whoever counts which of them are reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    peer: Peer,
    on: On,
    clause: &'static str,
    name: &'static str,
    packets: &'static [PacketType],
}

impl Lenient {
    const fn rule(&self) -> Rule {
        Rule {
            peer: self.peer,
            on: self.on,
            clause: self.clause,
            name: self.name,
            packets: self.packets,
        }
    }
}

impl Strict {
    const fn rule(&self) -> Rule {
        Rule {
            peer: self.peer,
            on: self.on,
            clause: "accepted here",
            name: self.name,
            packets: &[],
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peer,
            on,
            clause,
            name,
            packets,
        } = self;
        write!(f, "{peer:?} {on:?} {packets:?} {clause}: {name}")
    }
}

/// Every rule.
pub(super) fn all() -> impl Iterator<Item = Rule> {
    let strict = STRICT.iter().map(Strict::rule);
    LENIENT.iter().map(Lenient::rule).chain(strict)
}

/// The clause, and what is violated where one clause stands for several errors.
fn violation(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnexpectedEnd => "section 2.1.4, cut short",
        DecodeError::TrailingBytes => "section 2.1.4, bytes behind the end",
        DecodeError::PropertyDuplicate { .. } => "section 2.2.2.2, twice",
        DecodeError::ResponseTopicEmpty => "MQTT-4.7.3-1, Response Topic",
        other => other.clause(),
    }
}

/// The rule that explains a difference.
pub(super) fn known(case: &Case<'_>, theirs: &Theirs) -> Option<Rule> {
    match (case.ours, theirs) {
        (Err(error), Theirs::Accepts(_)) => {
            let packet = case.bytes.first().copied().and_then(P::from_first_byte)?;
            let violation = violation(error);
            let mut rules = LENIENT.iter();
            rules
                .find(|rule| {
                    rule.peer == case.peer
                        && rule.on.holds(case.version)
                        && rule.clause == violation
                        && (rule.packets.is_empty() || rule.packets.contains(&packet))
                })
                .map(Lenient::rule)
        }
        (Ok(packet), Theirs::Refuses(_)) => {
            let mut rules = STRICT.iter();
            rules
                .find(|rule| {
                    rule.peer == case.peer && rule.on.holds(case.version) && (rule.is)(packet)
                })
                .map(Strict::rule)
        }
        _ => None,
    }
}
