//! What goes over the wire, as far as the model looks at it.

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.
    V3_1,
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.0.
    V5,
}

/// CONNECT. What the version does not know is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version.
    pub version: Version,
    /// The client identifier.
    pub client: String,
    /// Clean Start, or Clean Session.
    pub clean_start: bool,
    /// Keep Alive in seconds.
    pub keep_alive: u16,
    /// Session Expiry Interval in seconds; absent is 0.
    pub expiry: Option<u32>,
    /// Receive Maximum.
    pub receive_maximum: Option<u16>,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: u16,
    /// The will.
    pub will: Option<Will>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay: u32,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
}

/// A PUBLISH of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where to; empty where the alias stands for it.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The flag of one that was sent before.
    pub dup: bool,
    /// The packet identifier; of no meaning at QoS 0.
    pub id: u16,
    /// Topic Alias.
    pub alias: Option<u16>,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// The value of a User Property.
    pub tag: Option<u8>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The filter.
    pub filter: String,
    /// The highest QoS.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: u8,
}

/// Which acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPacket {
    /// CONNECT.
    Connect(Connect),
    /// PUBLISH.
    Publish(Publish),
    /// One of the four.
    Ack {
        /// Which.
        kind: AckKind,
        /// The packet identifier.
        id: u16,
        /// The reason code; 0 before MQTT 5.
        code: u8,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// The packet identifier.
        id: u16,
        /// The filters.
        filters: Vec<Filter>,
        /// Subscription Identifier.
        identifier: Option<u32>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// The packet identifier.
        id: u16,
        /// The filters.
        filters: Vec<String>,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect {
        /// The reason code.
        code: u8,
        /// Session Expiry Interval.
        expiry: Option<u32>,
    },
    /// AUTH that no CONNECT has prepared.
    Auth,
    /// What no client may send.
    Broken {
        /// The packet.
        bytes: Vec<u8>,
        /// The reason codes one of which a client of MQTT 5 is told.
        codes: Vec<u8>,
    },
}

/// A PUBLISH of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where to; empty where the alias stands for it.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The flag of one that was sent before.
    pub dup: bool,
    /// The packet identifier; 0 at QoS 0.
    pub id: u16,
    /// Topic Alias.
    pub alias: Option<u16>,
    /// Message Expiry Interval in seconds.
    pub expiry: Option<u32>,
    /// The value of the User Property.
    pub tag: Option<u8>,
    /// Subscription Identifiers.
    pub identifiers: Vec<u32>,
}

/// What a server sends. Where the model expects one, several reason codes may be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerPacket {
    /// CONNACK.
    ConnAck {
        /// Session Present.
        present: bool,
        /// The reason code, in the numbers of MQTT 5.
        code: u8,
    },
    /// PUBLISH.
    Publish(Delivered),
    /// One of the four.
    Ack {
        /// Which.
        kind: AckKind,
        /// The packet identifier.
        id: u16,
        /// The reason codes: the one seen, or those allowed.
        codes: Vec<u8>,
    },
    /// SUBACK.
    SubAck {
        /// The packet identifier.
        id: u16,
        /// A reason code for each filter.
        codes: Vec<u8>,
    },
    /// UNSUBACK.
    UnsubAck {
        /// The packet identifier.
        id: u16,
        /// A reason code for each filter; none before MQTT 5.
        codes: Vec<u8>,
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect {
        /// The reason code.
        code: u8,
    },
    /// What no server sends.
    Unexpected(String),
}
