//! CONNECT to CONNACK (MQTT 5.0 sections 3.1 and 3.2).

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU16;

use tidegate_bus::{
    AttachRefusal, Attachment, ClientId, ConnectRequest, Credentials, Denial, Departure, Message,
    Properties, PublisherKey, TopicName, Will,
};

use crate::codec::{
    ConnAck, Connect, DecodeError, Frame, Property, PropertyBlock, ReasonCode, Version,
    Will as WillPacket,
};
use crate::encoder::{LARGEST_PACKET, MqttEncoder};
use crate::endpoint::{Endpoint, Peer};
use crate::foreign::Foreign;
use crate::protocol::Terms;

/// A client that has been let in.
pub(crate) struct Accepted {
    pub(crate) attachment: Attachment,
    pub(crate) terms: Terms,
    /// The CONNACK.
    pub(crate) reply: Vec<u8>,
}

/// A client that has not: what it is told, which may be nothing.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) reply: Vec<u8>,
    pub(crate) reason: ReasonCode,
    pub(crate) text: String,
    /// It does not speak MQTT at all.
    pub(crate) foreign: Option<Foreign>,
}

impl Rejected {
    fn new(version: Version, reason: ReasonCode, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut reply = Vec::new();
        let mut properties = PropertyBlock::new();
        properties.push(Property::ReasonString(&text));
        let connack = ConnAck {
            session_present: false,
            reason,
            properties: properties.as_properties(),
        };
        connack.encode(version, &mut reply);
        Self {
            reply,
            reason,
            text,
            foreign: None,
        }
    }

    /// Leaves the words out when they make the packet too large for the client (MQTT-3.2.2-19), and
    /// the packet when it is too large without them (MQTT-3.1.2-24).
    fn within(mut self, version: Version, maximum_packet_size: u32) -> Self {
        if self.reply.len() > maximum_packet_size as usize {
            self.reply.clear();
            let connack = ConnAck {
                session_present: false,
                reason: self.reason,
                properties: crate::codec::Properties::EMPTY,
            };
            connack.encode(version, &mut self.reply);
        }
        if self.reply.len() > maximum_packet_size as usize {
            self.reply.clear();
        }
        self
    }

    /// A CONNECT that could not be read. The version is told apart as far as the bytes go, so that
    /// a client of MQTT 5 gets a reason it understands.
    pub(crate) fn malformed(frame: Frame<'_>, error: &DecodeError) -> Self {
        let text = error.to_string();
        match (error, frame.body) {
            // MQTT-3.1.2-2 of 3.1.1: return code 1. Levels above 4 understand the form of MQTT 5.
            (DecodeError::UnsupportedProtocolVersion { level }, _) => {
                let version = if *level > 5 {
                    Version::V5
                } else {
                    Version::V3_1_1
                };
                Self::new(version, ReasonCode::UnsupportedProtocolVersion, text)
            }
            (_, [0, 4, b'M', b'Q', b'T', b'T', 5, ..]) => {
                Self::new(Version::V5, error.reason_code(), text)
            }
            // Before MQTT 5 a malformed CONNECT is closed without an answer (MQTT-3.1.4-1).
            _ => Self::silent(error.reason_code(), text),
        }
    }

    pub(crate) fn silent(reason: ReasonCode, text: impl Into<String>) -> Self {
        Self {
            reply: Vec::new(),
            reason,
            text: text.into(),
            foreign: None,
        }
    }
}

/// The largest packet the client takes (MQTT 5.0 section 3.1.2.11.4).
fn maximum_packet_size(connect: &Connect<'_>) -> u32 {
    let size = connect.properties.maximum_packet_size();
    size.map_or(LARGEST_PACKET, u32::from)
}

/// Tells a client that it is not served at all.
pub(crate) fn refuse(frame: Frame<'_>, reason: ReasonCode) -> Rejected {
    match Connect::decode(frame) {
        Ok(connect) => Rejected::new(
            connect.version,
            reason,
            "the gateway takes no more connections",
        )
        .within(connect.version, maximum_packet_size(&connect)),
        Err(error) => Rejected::malformed(frame, &error),
    }
}

impl Endpoint {
    /// Lets a client in, or not.
    pub(crate) async fn handshake(
        &self,
        frame: Frame<'_>,
        peer: &Peer,
    ) -> Result<Accepted, Rejected> {
        let connect = Connect::decode(frame).map_err(|error| {
            self.counters().protocol_errors.add(1);
            Rejected::malformed(frame, &error)
        })?;
        let maximum_packet_size = maximum_packet_size(&connect);
        self.let_in(&connect, maximum_packet_size, peer)
            .await
            .map_err(|rejected| rejected.within(connect.version, maximum_packet_size))
    }

    async fn let_in(
        &self,
        connect: &Connect<'_>,
        maximum_packet_size: u32,
        peer: &Peer,
    ) -> Result<Accepted, Rejected> {
        let version = connect.version;
        let properties = &connect.properties;
        if properties.authentication_method().is_some() {
            return Err(Rejected::new(
                version,
                ReasonCode::BadAuthenticationMethod,
                "no authentication method is supported",
            ));
        }
        let (client_id, assigned) = self.client_id(connect)?;
        let will = connect
            .will
            .as_ref()
            .map(|will| self.will(version, &client_id, will))
            .transpose()?;

        let mut credentials = Credentials::new(&client_id);
        credentials.user_name = connect.user_name;
        credentials.password = connect.password;
        credentials.peer = peer.address;
        credentials.certificate_name = peer.certificate_name.as_deref();
        self.bus
            .access()
            .connect(credentials)
            .await
            .map_err(|denial| {
                self.counters().refused_access.add(1);
                let (reason, text) = denial_reason(denial);
                Rejected::new(version, reason, text)
            })?;
        if let Some(will) = &connect.will {
            let allowed = self
                .bus
                .access()
                .publish(&client_id, will.topic, will.qos, will.retain);
            allowed.map_err(|_| {
                Rejected::new(
                    version,
                    ReasonCode::NotAuthorized,
                    "the will may not be published",
                )
            })?;
        }

        let keep_alive = self.keep_alive(version, connect.keep_alive);
        let asked_expiry = if version.is_v5() {
            properties.session_expiry_interval().unwrap_or(0)
        } else if connect.clean_start {
            0
        } else {
            u32::try_from(self.settings.v3_session_expiry.as_secs()).unwrap_or(u32::MAX)
        };
        let expiry = self.bus.clamp_expiry(asked_expiry);
        let alias_maximum = properties
            .topic_alias_maximum()
            .unwrap_or(0)
            .min(self.settings.topic_alias_maximum_outbound);
        let request = ConnectRequest {
            clean_start: connect.clean_start,
            expiry,
            will,
            receive_maximum: properties.receive_maximum().unwrap_or(NonZeroU16::MAX),
            keep_alive,
            encoder: Box::new(MqttEncoder::new(
                version,
                maximum_packet_size,
                alias_maximum,
            )),
        };
        let unavailable = || {
            Rejected::new(
                version,
                ReasonCode::ServerUnavailable,
                "the store does not answer",
            )
        };
        let claim = self
            .bus
            .claim(&client_id)
            .await
            .map_err(|_| unavailable())?;
        let attached = self
            .bus
            .batch(|worker| self.bus.attach(worker, &client_id, claim, request));
        let (attachment, session_present) = attached.map_err(|refusal| match refusal {
            AttachRefusal::QuotaExceeded => Rejected::new(
                version,
                ReasonCode::QuotaExceeded,
                "there are as many sessions as there may be",
            ),
            // Another connection with this client identifier was faster and is newer. This one is replaced before
            // its CONNACK, and closed as any that is replaced (MQTT-3.1.4-3). CONNACK has no code for that, and a
            // server that is unavailable or busy would be a false word.
            _ => Rejected::silent(ReasonCode::SessionTakenOver, "another connection is newer"),
        })?;

        // The will, and the end of a session before, are acknowledged with it.
        if self.bus.store().accepts().is_ok() {
            std::future::poll_fn(|cx| attachment.ticket().poll(cx.waker()))
                .await
                .map_err(|_| unavailable())?;
        }

        let mut reply = Vec::new();
        let mut block = PropertyBlock::new();
        if version.is_v5() {
            if expiry != asked_expiry {
                block.push(Property::SessionExpiryInterval(expiry));
            }
            if let Some(receive_maximum) = NonZeroU16::new(self.settings.receive_maximum) {
                block.push(Property::ReceiveMaximum(receive_maximum));
            }
            if let Some(size) = std::num::NonZeroU32::new(self.settings.max_packet_bytes) {
                block.push(Property::MaximumPacketSize(size));
            }
            if assigned {
                block.push(Property::AssignedClientIdentifier(client_id.as_str()));
            }
            if self.settings.topic_alias_maximum > 0 {
                block.push(Property::TopicAliasMaximum(
                    self.settings.topic_alias_maximum,
                ));
            }
            if keep_alive != connect.keep_alive {
                block.push(Property::ServerKeepAlive(keep_alive));
            }
            let prefix = &self.settings.response_information;
            if properties.request_response_information() == Some(true) && !prefix.is_empty() {
                let information = format!("{prefix}/{client_id}");
                block.push(Property::ResponseInformation(&information));
            }
        }
        let connack = ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: block.as_properties(),
        };
        connack.encode(version, &mut reply);
        if reply.len() > maximum_packet_size as usize {
            // The client could not be told on which terms it is let in (MQTT-3.1.2-24).
            self.bus
                .batch(|worker| attachment.detach(worker, Departure::Normal, None));
            let text = "CONNACK is larger than the client accepts";
            return Err(Rejected::new(version, ReasonCode::PacketTooLarge, text));
        }
        let terms = Terms {
            version,
            problem_information: properties.request_problem_information().unwrap_or(true),
            has_expiry: asked_expiry > 0,
            maximum_packet_size,
        };
        Ok(Accepted {
            attachment,
            terms,
            reply,
        })
    }

    /// The client's identifier, and whether the gateway had to give it one.
    fn client_id(&self, connect: &Connect<'_>) -> Result<(ClientId, bool), Rejected> {
        let invalid =
            |text: &str| Rejected::new(connect.version, ReasonCode::ClientIdentifierNotValid, text);
        let text = connect.client_id;
        if text.len() > self.bus.settings().max_client_id_bytes {
            return Err(invalid("the client identifier is too long"));
        }
        if !text.is_empty() {
            let id = ClientId::new(text).map_err(|error| invalid(&error.to_string()))?;
            return Ok((id, false));
        }
        match connect.version {
            Version::V3_1 => {
                return Err(invalid(
                    "a client identifier has 1 to 23 characters (MQTT 3.1 section 3.1)",
                ));
            }
            Version::V3_1_1 if !connect.clean_start => {
                return Err(invalid(
                    "without a client identifier the session is clean (MQTT-3.1.3-8)",
                ));
            }
            Version::V3_1_1 | Version::V5 => {}
        }
        let id = ClientId::new(&assigned_client_id()).map_err(|e| invalid(&e.to_string()))?;
        Ok((id, true))
    }

    fn will(
        &self,
        version: Version,
        client: &ClientId,
        will: &WillPacket<'_>,
    ) -> Result<Will, Rejected> {
        self.bus.check_will_topic(will.topic).map_err(|_| {
            Rejected::new(
                version,
                ReasonCode::TopicNameInvalid,
                "the topic of the will is too long",
            )
        })?;
        let mut scratch = Vec::new();
        let mut message = Message::new(will.topic, will.payload);
        message.properties = Properties::from_validated(will.properties.forwardable(&mut scratch));
        message.qos = will.qos;
        message.retain = will.retain;
        let delay = will.properties.will_delay_interval().unwrap_or(0);
        message.publisher = PublisherKey::of(client);
        let expiry = will.properties.message_expiry_interval();
        Will::new(&message, delay, expiry, self.bus.memory()).ok_or_else(|| {
            let text = "all that waits takes as much memory as it may";
            Rejected::new(version, ReasonCode::QuotaExceeded, text)
        })
    }

    /// The keep alive that holds: the client's own, or less when the operator says so and the
    /// client can be told (MQTT-3.2.2-21).
    fn keep_alive(&self, version: Version, asked: u16) -> u16 {
        let longest = self.settings.max_keep_alive;
        if !version.is_v5() || longest == 0 || (asked > 0 && asked <= longest) {
            return asked;
        }
        longest
    }
}

fn denial_reason(denial: Denial) -> (ReasonCode, &'static str) {
    match denial {
        Denial::BadCredentials => (
            ReasonCode::BadUserNameOrPassword,
            "user name or password is wrong",
        ),
        Denial::Banned => (ReasonCode::Banned, "the client is banned"),
        Denial::Unavailable => (
            ReasonCode::ServerUnavailable,
            "the access decision could not be had in time",
        ),
        _ => (ReasonCode::NotAuthorized, "the client may not connect"),
    }
}

/// An identifier nobody can guess: two hashes under keys that the operating system made random.
fn assigned_client_id() -> String {
    let (a, b) = (
        RandomState::new().hash_one(0_u8),
        RandomState::new().hash_one(1_u8),
    );
    format!("tidegate-{a:016x}{b:016x}")
}

/// Whether `topic` is one the bus takes; for wills, which are published later.
trait WillTopic {
    fn check_will_topic(&self, topic: TopicName<'_>) -> Result<(), ()>;
}

impl WillTopic for tidegate_bus::Bus {
    fn check_will_topic(&self, topic: TopicName<'_>) -> Result<(), ()> {
        let settings = self.settings();
        let fits = topic.as_str().len() <= settings.max_topic_bytes
            && topic.levels().count() <= settings.max_topic_levels;
        if fits { Ok(()) } else { Err(()) }
    }
}
