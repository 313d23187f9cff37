//! A client's side of MQTT without a socket: packets in, events and bytes out.
//!
//! It keeps what the protocol needs within one connection: packet identifiers, the acknowledgements
//! that are open in both directions (MQTT 5.0 section 4.3), flow control (4.9) and topic aliases
//! (3.3.2.3.4). It survives no connection.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use tidegate_bus::{QoS, TopicName};
use tidegate_mqtt::codec::{
    Ack, AckType, Connect, Disconnect, Frame, Packet, Properties, PropertyBlock, Publish,
    PublishProperties, ReasonCode, Subscribe, SubscribeFilters, SubscriptionOptions, Version,
    decode,
};

use super::error::ClientError;
use super::message::Message;
use super::reason::Reason;
use super::server::Server;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The gateway accepted the connection.
    Connected(Server),
    /// A message came.
    Message(Message),
    /// A message of QoS 1 or 2 is done, or was refused.
    Acknowledged(Reason),
    /// The gateway's answer to each filter.
    Subscribed(Vec<Reason>),
    /// The gateway is there.
    Pong,
    /// Bytes left for the gateway.
    Written,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PropertyBlock,
    /// The topic alias that is among the properties.
    pub(crate) alias: Option<NonZeroU16>,
}

/// What a sent message of QoS 1 or 2 waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// PUBACK: the end, of QoS 1.
    Ack,
    /// PUBREC: half of QoS 2.
    Rec,
    /// PUBCOMP: the end.
    Comp,
}

/// One connection's state.
#[derive(Debug)]
pub(crate) struct State {
    version: Version,
    /// The gateway, once it has accepted.
    server: Option<Server>,
    /// What this client announced; 65,535 and 0 when it said nothing.
    receive_maximum: u16,
    topic_alias_maximum: u16,
    last_id: u16,
    sent: BTreeMap<NonZeroU16, Stage>,
    subscribing: Option<NonZeroU16>,
    /// QoS 2 messages that came and were not released.
    received: BTreeSet<NonZeroU16>,
    aliases: BTreeMap<NonZeroU16, String>,
    /// The aliases this client has introduced.
    introduced: BTreeSet<NonZeroU16>,
    deaf: bool,
    out: Vec<u8>,
}

impl State {
    /// Begins with `connect`.
    pub(crate) fn new(connect: &Connect<'_>) -> Self {
        let mut out = Vec::new();
        connect.encode(&mut out);
        let properties = connect.properties;
        Self {
            version: connect.version,
            server: None,
            receive_maximum: properties
                .receive_maximum()
                .map_or(u16::MAX, NonZeroU16::get),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(0),
            last_id: 0,
            sent: BTreeMap::new(),
            subscribing: None,
            received: BTreeSet::new(),
            aliases: BTreeMap::new(),
            introduced: BTreeSet::new(),
            deaf: false,
            out,
        }
    }

    /// The bytes for the gateway; whoever sends them takes them out.
    pub(crate) const fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether nothing waits for an acknowledgement.
    pub(crate) fn is_settled(&self) -> bool {
        self.sent.is_empty() && self.received.is_empty() && self.subscribing.is_none()
    }

    /// Whether the gateway's Receive Maximum allows another message (MQTT-3.3.4-7).
    pub(crate) fn may_publish(&self, qos: QoS) -> bool {
        let maximum = self
            .server
            .as_ref()
            .map_or(0, |server| server.receive_maximum);
        !qos.is_acknowledged() || self.sent.len() < usize::from(maximum)
    }

    /// From now on messages are neither reported nor acknowledged, so that a session keeps them.
    pub(crate) const fn stop_listening(&mut self) {
        self.deaf = true;
    }

    /// Publishes `payload` as `message`.
    pub(crate) fn publish(
        &mut self,
        message: &Outgoing,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let Some(server) = &self.server else {
            return Err(ClientError::Usage("there is no connection".to_owned()));
        };
        check_capabilities(server, message)?;
        let maximum = server.maximum_packet_size;
        let too_large = || {
            ClientError::Usage(format!(
                "the message does not fit: the gateway takes packets of {maximum} bytes"
            ))
        };
        if payload.len() > maximum as usize {
            return Err(too_large());
        }
        let topic = TopicName::new(&message.topic)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let known = message
            .alias
            .is_some_and(|alias| self.introduced.contains(&alias));
        let packet_id = message.qos.is_acknowledged().then(|| self.free_id());
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: (!known).then_some(topic),
            packet_id,
            properties: PublishProperties::parse(message.properties.raw())?,
            payload,
        };
        let before = self.out.len();
        publish.encode(self.version, &mut self.out);
        if self.out.len() - before > maximum as usize {
            self.out.truncate(before);
            return Err(too_large());
        }
        self.introduced.extend(message.alias);
        if let Some(id) = packet_id {
            let stage = match message.qos {
                QoS::ExactlyOnce => Stage::Rec,
                _ => Stage::Ack,
            };
            self.sent.insert(id, stage);
        }
        Ok(())
    }

    /// Subscribes to all `filters` at once.
    pub(crate) fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) {
        let packet_id = self.free_id();
        let subscribe = Subscribe {
            packet_id,
            properties,
            filters: SubscribeFilters::new(filters),
        };
        subscribe.encode(self.version, &mut self.out);
        self.subscribing = Some(packet_id);
    }

    /// Asks whether the gateway is there.
    pub(crate) fn ping(&mut self) {
        Packet::PingReq.encode(self.version, &mut self.out);
    }

    /// Says goodbye.
    pub(crate) fn disconnect(&mut self, reason: ReasonCode) {
        Disconnect::with_reason(reason).encode(self.version, &mut self.out);
    }

    /// Takes a packet from the gateway.
    pub(crate) fn receive(&mut self, frame: Frame<'_>) -> Result<Option<Event>, ClientError> {
        let packet = decode(self.version, frame)?;
        if self.server.is_none() && !matches!(packet, Packet::ConnAck(_)) {
            let text = format!("{} came before CONNACK", packet.packet_type());
            return Err(ClientError::Protocol(text));
        }
        match packet {
            Packet::ConnAck(connack) if self.server.is_none() => {
                if connack.reason.is_error() {
                    let reason = Reason::new(connack.reason, connack.properties.reason_string());
                    let what = "the connection".to_owned();
                    return Err(ClientError::Refused { what, reason });
                }
                let server = Server::of(&connack);
                self.server = Some(server.clone());
                Ok(Some(Event::Connected(server)))
            }
            Packet::Publish(publish) => self.receive_publish(&publish),
            Packet::PubAck(ack) => match self.sent.remove(&ack.packet_id) {
                Some(Stage::Ack) => Ok(Some(acknowledged(&ack))),
                _ => Err(unexpected("PUBACK", ack.packet_id)),
            },
            Packet::PubRec(ack) => self.receive_pubrec(&ack),
            Packet::PubRel(ack) => {
                let code = if self.received.remove(&ack.packet_id) {
                    ReasonCode::Success
                } else {
                    ReasonCode::PacketIdentifierNotFound
                };
                self.acknowledge(AckType::PubComp, ack.packet_id, code);
                Ok(None)
            }
            Packet::PubComp(ack) => match self.sent.remove(&ack.packet_id) {
                Some(Stage::Comp) => Ok(Some(acknowledged(&ack))),
                Some(_) => Err(unexpected("PUBCOMP", ack.packet_id)),
                // The end of an exchange of an earlier connection.
                None => Ok(None),
            },
            Packet::SubAck(suback) if self.subscribing == Some(suback.packet_id) => {
                self.subscribing = None;
                let explanation = suback.properties.reason_string();
                let reasons = suback.reasons.iter();
                let reasons = reasons.map(|code| Reason::new(code, explanation));
                Ok(Some(Event::Subscribed(reasons.collect())))
            }
            Packet::PingResp => Ok(Some(Event::Pong)),
            Packet::Disconnect(disconnect) if self.version.is_v5() => {
                let explanation = disconnect.properties.reason_string();
                let reason = Reason::new(disconnect.reason, explanation);
                Err(ClientError::Disconnected(reason))
            }
            other => {
                let text = format!("{} is out of place", other.packet_type());
                Err(ClientError::Protocol(text))
            }
        }
    }

    fn receive_publish(&mut self, publish: &Publish<'_>) -> Result<Option<Event>, ClientError> {
        let topic = self.resolve(publish)?;
        let message = Message::of(publish, &topic);
        match (publish.qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(id)) => {
                let again = self.received.contains(&id);
                if self.deaf && !again {
                    return Ok(None);
                }
                if !again && self.received.len() >= usize::from(self.receive_maximum) {
                    let text = "it sent more than the Receive Maximum allows (MQTT-3.3.4-9)";
                    return Err(ClientError::Protocol(text.to_owned()));
                }
                self.received.insert(id);
                self.acknowledge(AckType::PubRec, id, ReasonCode::Success);
                Ok((!again).then_some(Event::Message(message)))
            }
            _ if self.deaf => Ok(None),
            (_, Some(id)) => {
                self.acknowledge(AckType::PubAck, id, ReasonCode::Success);
                Ok(Some(Event::Message(message)))
            }
            (_, None) => Ok(Some(Event::Message(message))),
        }
    }

    /// The topic that the message was sent to, be it by alias.
    fn resolve(&mut self, publish: &Publish<'_>) -> Result<String, ClientError> {
        let topic = publish.topic.map(|topic| topic.as_str().to_owned());
        let Some(alias) = publish.properties.topic_alias() else {
            return topic.ok_or_else(|| ClientError::Protocol("a PUBLISH has no topic".to_owned()));
        };
        if alias.get() > self.topic_alias_maximum {
            let text = format!("topic alias {alias} is above the maximum (MQTT-3.1.2-26)");
            return Err(ClientError::Protocol(text));
        }
        match topic {
            Some(topic) => {
                self.aliases.insert(alias, topic.clone());
                Ok(topic)
            }
            None => self.aliases.get(&alias).cloned().ok_or_else(|| {
                ClientError::Protocol(format!("topic alias {alias} stands for nothing"))
            }),
        }
    }

    fn receive_pubrec(&mut self, ack: &Ack<'_>) -> Result<Option<Event>, ClientError> {
        match self.sent.get(&ack.packet_id) {
            Some(Stage::Rec | Stage::Comp) if ack.reason.is_error() => {
                self.sent.remove(&ack.packet_id);
                Ok(Some(acknowledged(ack)))
            }
            Some(Stage::Rec | Stage::Comp) => {
                self.sent.insert(ack.packet_id, Stage::Comp);
                self.acknowledge(AckType::PubRel, ack.packet_id, ReasonCode::Success);
                Ok(None)
            }
            Some(Stage::Ack) => Err(unexpected("PUBREC", ack.packet_id)),
            None => {
                let code = ReasonCode::PacketIdentifierNotFound;
                self.acknowledge(AckType::PubRel, ack.packet_id, code);
                Ok(None)
            }
        }
    }

    fn acknowledge(&mut self, kind: AckType, id: NonZeroU16, code: ReasonCode) {
        Ack::with_reason(id, code).encode(kind, self.version, &mut self.out);
    }

    /// An identifier that nothing open uses. There is one: Receive Maximum is at most 65,535, one
    /// less than the SUBSCRIBE would need, and that is sent before any message.
    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.sent.contains_key(&id)
                && self.subscribing != Some(id)
            {
                return id;
            }
        }
    }
}

fn check_capabilities(server: &Server, message: &Outgoing) -> Result<(), ClientError> {
    let refuse = |text: String| Err(ClientError::Usage(text));
    if message.qos > server.maximum_qos {
        let (qos, maximum) = (message.qos as u8, server.maximum_qos as u8);
        return refuse(format!(
            "QoS {qos} is too high: the gateway takes {maximum}"
        ));
    }
    if message.retain && !server.retain_available {
        return refuse("the gateway does not retain messages".to_owned());
    }
    match message.alias {
        Some(alias) if alias.get() > server.topic_alias_maximum => {
            let maximum = server.topic_alias_maximum;
            refuse(format!(
                "topic alias {alias} is too high: the gateway takes {maximum}"
            ))
        }
        _ => Ok(()),
    }
}

fn acknowledged(ack: &Ack<'_>) -> Event {
    Event::Acknowledged(Reason::new(ack.reason, ack.properties.reason_string()))
}

fn unexpected(packet: &str, id: NonZeroU16) -> ClientError {
    ClientError::Protocol(format!("{packet} {id} answers nothing"))
}

#[cfg(test)]
mod tests {
    use tidegate_mqtt::codec::{ConnAck, Property, Split, split};

    use super::*;

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    fn receive(state: &mut State, packet: &Packet<'_>) -> Result<Option<Event>, ClientError> {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        let Split::Frame(frame) = split(&bytes, u32::MAX).unwrap() else {
            panic!("a whole packet");
        };
        state.receive(frame)
    }

    /// A state that is connected; `own` and `server` are the limits of both sides.
    fn connected(own: &[Property<'_>], server: &[Property<'_>]) -> State {
        let mut properties = PropertyBlock::new();
        properties.extend(own.iter().copied());
        let mut state = State::new(&Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "c",
            will: None,
            user_name: None,
            password: None,
            properties: properties.as_properties(),
        });
        let mut properties = PropertyBlock::new();
        properties.extend(server.iter().copied());
        let connack = Packet::ConnAck(ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: properties.as_properties(),
        });
        assert!(matches!(
            receive(&mut state, &connack),
            Ok(Some(Event::Connected(_)))
        ));
        state.output().clear();
        state
    }

    fn outgoing(qos: QoS) -> Outgoing {
        Outgoing {
            topic: "t".to_owned(),
            qos,
            retain: false,
            properties: PropertyBlock::new(),
            alias: None,
        }
    }

    fn incoming(qos: QoS, packet_id: u16) -> Packet<'static> {
        Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic: Some(TopicName::new("t").unwrap()),
            packet_id: NonZeroU16::new(packet_id),
            properties: PublishProperties::EMPTY,
            payload: b"x",
        })
    }

    fn sent(state: &mut State) -> Vec<u8> {
        std::mem::take(state.output())
    }

    fn bytes(packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        bytes
    }

    #[test]
    fn mqtt_3_3_4_7_no_more_is_open_than_the_gateway_takes() {
        let mut state = connected(&[], &[Property::ReceiveMaximum(id(2))]);
        let (one, two) = (outgoing(QoS::AtLeastOnce), outgoing(QoS::ExactlyOnce));
        state.publish(&one, b"").unwrap();
        assert!(state.may_publish(QoS::AtLeastOnce));
        state.publish(&two, b"").unwrap();
        assert!(!state.may_publish(QoS::AtLeastOnce));
        assert!(state.may_publish(QoS::AtMostOnce));
        // The first half of QoS 2 frees nothing, the second does.
        receive(&mut state, &Packet::PubRec(Ack::success(id(2)))).unwrap();
        assert!(!state.may_publish(QoS::AtLeastOnce));
        receive(&mut state, &Packet::PubComp(Ack::success(id(2)))).unwrap();
        assert!(state.may_publish(QoS::AtLeastOnce));
    }

    #[test]
    fn an_identifier_in_use_is_not_used_again() {
        let mut state = connected(&[], &[]);
        let message = outgoing(QoS::AtLeastOnce);
        for _ in 0..65_535 {
            assert!(state.may_publish(QoS::AtLeastOnce));
            state.publish(&message, b"").unwrap();
        }
        assert!(!state.may_publish(QoS::AtLeastOnce));
        receive(&mut state, &Packet::PubAck(Ack::success(id(300)))).unwrap();
        sent(&mut state);
        state.publish(&message, b"").unwrap();
        let publish = sent(&mut state);
        assert!(
            publish
                .windows(2)
                .any(|window| window == 300u16.to_be_bytes())
        );
    }

    #[test]
    fn mqtt_3_3_4_9_the_gateway_may_not_send_more_than_this_client_takes() {
        let mut state = connected(&[Property::ReceiveMaximum(id(1))], &[]);
        receive(&mut state, &incoming(QoS::ExactlyOnce, 1)).unwrap();
        let error = receive(&mut state, &incoming(QoS::ExactlyOnce, 2)).unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }

    #[test]
    fn a_refused_half_of_qos_2_is_its_end() {
        let mut state = connected(&[], &[]);
        state.publish(&outgoing(QoS::ExactlyOnce), b"").unwrap();
        let refusal = Ack::with_reason(id(1), ReasonCode::QuotaExceeded);
        let event = receive(&mut state, &Packet::PubRec(refusal)).unwrap();
        let reason = Reason::new(ReasonCode::QuotaExceeded, None);
        assert_eq!(event, Some(Event::Acknowledged(reason)));
        assert!(state.is_settled());
    }

    #[test]
    fn what_belongs_to_an_earlier_connection_is_ended() {
        let mut state = connected(&[], &[]);
        let unknown = Ack::with_reason(id(9), ReasonCode::PacketIdentifierNotFound);
        assert_eq!(
            receive(&mut state, &Packet::PubRec(Ack::success(id(9)))).unwrap(),
            None
        );
        assert_eq!(sent(&mut state), bytes(&Packet::PubRel(unknown)));
        assert_eq!(
            receive(&mut state, &Packet::PubRel(Ack::success(id(9)))).unwrap(),
            None
        );
        assert_eq!(sent(&mut state), bytes(&Packet::PubComp(unknown)));
        assert_eq!(
            receive(&mut state, &Packet::PubComp(Ack::success(id(9)))).unwrap(),
            None
        );
    }

    #[test]
    fn an_answer_to_nothing_is_an_error() {
        for packet in [
            Packet::PubAck(Ack::success(id(1))),
            Packet::PingReq,
            Packet::ConnAck(ConnAck {
                session_present: false,
                reason: ReasonCode::Success,
                properties: Properties::EMPTY,
            }),
        ] {
            let error = receive(&mut connected(&[], &[]), &packet).unwrap_err();
            assert!(
                matches!(error, ClientError::Protocol(_)),
                "{packet:?}: {error}"
            );
        }
    }

    #[test]
    fn a_client_that_stopped_listening_leaves_messages_to_its_session() {
        let mut state = connected(&[], &[]);
        receive(&mut state, &incoming(QoS::ExactlyOnce, 1)).unwrap();
        sent(&mut state);
        state.stop_listening();
        for packet in [
            incoming(QoS::AtMostOnce, 0),
            incoming(QoS::AtLeastOnce, 2),
            incoming(QoS::ExactlyOnce, 3),
        ] {
            assert_eq!(receive(&mut state, &packet).unwrap(), None);
        }
        assert_eq!(sent(&mut state), b"", "nothing is acknowledged");
        assert!(!state.is_settled());
        receive(&mut state, &Packet::PubRel(Ack::success(id(1)))).unwrap();
        assert!(state.is_settled());
    }
}
