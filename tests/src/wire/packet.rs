//! The packets of MQTT as plain values, for tests to build and to look at.

use super::property::Property;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 3] = [Self::V31, Self::V311, Self::V5];

    /// The protocol level of the CONNECT packet.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// A CONNECT packet; the methods that build one are in [`super::Connect`]'s own file.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Protocol version.
    pub version: Version,
    /// Clean start, or clean session before MQTT 5.
    pub clean: bool,
    /// Keep alive, seconds; 0 is none.
    pub keep_alive: u16,
    /// Client identifier.
    pub client_id: String,
    /// The will, if there is one.
    pub will: Option<Will>,
    /// The user name, if there is one.
    pub user_name: Option<String>,
    /// The password, if there is one.
    pub password: Option<Vec<u8>>,
    /// Properties (MQTT 5).
    pub properties: Vec<Property>,
}

/// A will message.
#[derive(Clone, Debug)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties (MQTT 5).
    pub properties: Vec<Property>,
}

impl Will {
    /// A will of QoS 0 that is not retained.
    #[must_use]
    pub fn new(topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
        Self {
            topic,
            payload,
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// With this quality of service.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Retained.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With one more property.
    #[must_use]
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// A CONNACK packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Session present.
    pub session_present: bool,
    /// Return code (3.x) or reason code (5).
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

/// A PUBLISH packet, of either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// DUP flag.
    pub dup: bool,
    /// Quality of service.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name.
    pub topic: String,
    /// Packet identifier; 0 for QoS 0.
    pub id: u16,
    /// Properties.
    pub properties: Vec<Property>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Publish {
    /// A message of QoS 0; its identifier is given when it is sent.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            dup: false,
            qos: 0,
            retain: false,
            topic: topic.to_owned(),
            id: 0,
            properties: Vec::new(),
            payload: payload.as_ref().to_vec(),
        }
    }

    /// With this quality of service.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With this packet identifier.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With RETAIN set.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP set.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With one more property.
    #[must_use]
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The subscription identifiers, in ascending order.
    #[must_use]
    pub fn subscription_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .properties
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionId(id) => Some(*id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The seconds until the message expires, if it does.
    #[must_use]
    pub fn expiry(&self) -> Option<u32> {
        self.properties.iter().find_map(|property| match property {
            Property::MessageExpiry(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// The topic alias, if there is one.
    #[must_use]
    pub fn alias(&self) -> Option<u16> {
        self.properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(*alias),
            _ => None,
        })
    }
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Packet identifier.
    pub id: u16,
    /// Reason code; 0 before MQTT 5.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

impl Ack {
    /// An acknowledgement of success.
    #[must_use]
    pub fn new(id: u16) -> Self {
        Self {
            id,
            code: 0,
            properties: Vec::new(),
        }
    }

    /// With this reason code.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

/// A SUBSCRIBE packet.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Packet identifier.
    pub id: u16,
    /// Properties.
    pub properties: Vec<Property>,
    /// Filters with their options byte.
    pub filters: Vec<(String, u8)>,
}

/// An UNSUBSCRIBE packet.
#[derive(Clone, Debug)]
pub struct Unsubscribe {
    /// Packet identifier.
    pub id: u16,
    /// Filters.
    pub filters: Vec<String>,
}

/// A SUBACK or UNSUBACK packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Packet identifier.
    pub id: u16,
    /// One code for each filter; none in an UNSUBACK before MQTT 5.
    pub codes: Vec<u8>,
    /// Properties.
    pub properties: Vec<Property>,
}

/// A DISCONNECT or AUTH packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Reason code.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

/// A packet that a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Connection acknowledged or refused.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish),
    /// QoS 1 acknowledged.
    PubAck(Ack),
    /// QoS 2, step one.
    PubRec(Ack),
    /// QoS 2, step two.
    PubRel(Ack),
    /// QoS 2, step three.
    PubComp(Ack),
    /// Subscriptions granted or refused.
    SubAck(SubAck),
    /// Subscriptions ended.
    UnsubAck(SubAck),
    /// Answer to a ping.
    PingResp,
    /// The server ends the connection.
    Disconnect(Reason),
    /// Authentication exchange.
    Auth(Reason),
}
