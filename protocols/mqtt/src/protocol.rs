//! The MQTT protocol after CONNECT: what each packet of a client means to the bus, and what it is
//! answered. No socket, no clock: the connection hands in packets and takes the answers.

use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::task::Waker;

use smallvec::SmallVec;
use tidegate_bus::{
    Attachment, Departure, EndReason, Fenced, Message, Progress, Properties, PublishRefusal,
    Published, QoS, Receive, Received, Released, StoreError, SubscribeRefusal, Ticket, TopicFilter,
    Worker,
};

use crate::codec::{
    Ack, AckType, DecodeError, Disconnect, Frame, Packet, PacketType, Property, PropertyBlock,
    Publish, ReasonCode, ReasonCodes, SubAck, Subscribe, UnsubAck, Unsubscribe, Version, decode,
};
use crate::pending::PendingAck;
use crate::settings::Settings;
use crate::side::Side;

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The client has closed the stream, or it failed with an error. `InvalidData` is the word of what
    /// carries MQTT, WebSocket or TLS, for a breach of its own protocol.
    Lost(Option<io::Error>),
    /// The client sent DISCONNECT.
    Client {
        departure: Departure,
        expiry: Option<u32>,
    },
    /// The client broke the protocol, or asked for what it may not have.
    Violation { reason: ReasonCode, text: String },
    /// The bus asked for it.
    Bus(EndReason),
}

impl Ending {
    pub(crate) fn violation(reason: ReasonCode, text: impl Into<String>) -> Self {
        Self::Violation {
            reason,
            text: text.into(),
        }
    }
}

impl From<DecodeError> for Ending {
    fn from(error: DecodeError) -> Self {
        Self::Violation {
            reason: error.reason_code(),
            text: error.to_string(),
        }
    }
}

impl From<Fenced> for Ending {
    fn from(_: Fenced) -> Self {
        Self::Bus(EndReason::TakenOver)
    }
}

/// Whether the next packet may be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Yes.
    Continue,
    /// Not before [`Protocol::continue_fan_out`] says so.
    Busy,
}

/// What CONNECT settled for the time of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) version: Version,
    /// Whether reasons may be told in words (MQTT-3.1.2-29).
    pub(crate) problem_information: bool,
    /// The session outlives the connection: only then may DISCONNECT change its expiry.
    pub(crate) has_expiry: bool,
    /// The largest packet the client takes.
    pub(crate) maximum_packet_size: u32,
}

/// One connection's side of the protocol.
pub(crate) struct Protocol {
    pub(crate) attachment: Attachment,
    settings: Arc<Settings>,
    terms: Terms,
    /// QoS 2 messages received on this connection and not yet released. Those of a connection before
    /// take nothing from the quota (MQTT 5.0 section 4.9).
    receiving: u32,
    /// PUBACKs that wait for the store, on all streams.
    unacknowledged: u32,
}

impl Protocol {
    pub(crate) fn new(attachment: Attachment, settings: Arc<Settings>, terms: Terms) -> Self {
        Self {
            attachment,
            settings,
            terms,
            receiving: 0,
            unacknowledged: 0,
        }
    }

    /// Handles one packet that came on `side`, and appends what it is answered to the replies there. `scratch` is
    /// overwritten.
    pub(crate) fn on_frame(
        &mut self,
        worker: &mut Worker,
        frame: Frame<'_>,
        scratch: &mut Vec<u8>,
        side: &mut Side,
    ) -> Result<Flow, Ending> {
        if frame.packet_type() == Some(PacketType::Publish) {
            let publish = Publish::decode(self.terms.version, frame)?;
            return self.on_publish(worker, &publish, scratch, side);
        }
        if let Some(packet) = frame
            .packet_type()
            .filter(|packet| !side.may_carry(*packet))
        {
            let text = format!("{} is sent on the control stream", packet.name());
            return Err(Ending::violation(ReasonCode::ProtocolError, text));
        }
        let now = worker.now();
        match decode(self.terms.version, frame)? {
            Packet::PubAck(ack) => {
                self.attachment
                    .acknowledge(now, ack.packet_id, ack.reason.is_error())?;
            }
            Packet::PubRec(ack) => {
                let (received, ticket) =
                    self.attachment
                        .received(now, ack.packet_id, ack.reason.is_error())?;
                let reason = match received {
                    Received::Release => ReasonCode::Success,
                    Received::Refused => return Ok(Flow::Continue),
                    Received::Unknown if ack.reason.is_error() => return Ok(Flow::Continue),
                    Received::Unknown => ReasonCode::PacketIdentifierNotFound,
                };
                self.answer(AckType::PubRel, &ack, reason, ticket, side)?;
            }
            Packet::PubRel(ack) => {
                let (released, ticket) = self.attachment.release(side.inbound(ack.packet_id))?;
                let reason = match released {
                    Released::Here => {
                        self.receiving = self.receiving.saturating_sub(1);
                        ReasonCode::Success
                    }
                    Released::Before => ReasonCode::Success,
                    Released::Unknown => ReasonCode::PacketIdentifierNotFound,
                };
                self.answer(AckType::PubComp, &ack, reason, ticket, side)?;
            }
            Packet::PubComp(ack) => {
                self.attachment.complete(now, ack.packet_id)?;
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(worker, &subscribe, side)?,
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(&unsubscribe, side)?,
            Packet::PingReq => Packet::PingResp.encode(self.terms.version, &mut side.replies),
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(&disconnect)),
            Packet::Connect(_) => {
                return Err(Ending::violation(
                    ReasonCode::ProtocolError,
                    "CONNECT is sent once (MQTT-3.1.0-2)",
                ));
            }
            Packet::Auth(_) => {
                return Err(Ending::violation(
                    ReasonCode::ProtocolError,
                    "AUTH without an authentication method in CONNECT (MQTT-4.12.0-6)",
                ));
            }
            // PUBLISH was handled above; the others are sent by servers only.
            packet @ (Packet::Publish(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp) => {
                return Err(Ending::violation(
                    ReasonCode::ProtocolError,
                    format!("{} is not sent by clients", packet.packet_type().name()),
                ));
            }
        }
        Ok(Flow::Continue)
    }

    /// Handles PUBACKs that came one after the other, and empties the list.
    #[inline]
    pub(crate) fn on_pubacks(
        &mut self,
        worker: &Worker,
        packet_ids: &mut Vec<NonZeroU16>,
    ) -> Result<(), Fenced> {
        if packet_ids.is_empty() {
            return Ok(());
        }
        self.attachment.acknowledge_all(worker.now(), packet_ids)
    }

    // ---- PUBLISH ----------------------------------------------------------------------------

    #[inline]
    fn on_publish(
        &mut self,
        worker: &mut Worker,
        publish: &Publish<'_>,
        scratch: &mut Vec<u8>,
        side: &mut Side,
    ) -> Result<Flow, Ending> {
        let properties = &publish.properties;
        if properties.has_subscription_identifier() {
            return Err(Ending::violation(
                ReasonCode::ProtocolError,
                "a client sends no subscription identifier in PUBLISH (MQTT-3.3.4-6)",
            ));
        }
        let longest = self.attachment.bus().settings().max_topic_bytes;
        let maximum = self.settings.topic_alias_maximum;
        let inbound = publish.packet_id.map(|id| side.inbound(id));
        let topic = side
            .aliases
            .resolve(publish.topic, properties.topic_alias(), maximum, longest)
            .map_err(|reason| {
                let text = "the topic alias is unknown or above the maximum (MQTT-3.3.2-9)";
                Ending::violation(reason, text)
            })?;
        let mut ack = None;
        if let Some(packet_id) = publish.packet_id {
            let exactly_once = publish.qos == QoS::ExactlyOnce;
            let kind = if exactly_once {
                AckType::PubRec
            } else {
                AckType::PubAck
            };
            let pending = PendingAck {
                kind,
                packet_id,
                reason: ReasonCode::Success,
            };
            if exactly_once
                && let Some(inbound) = inbound
                && let Receive::Repeated(ticket) =
                    self.attachment.begin_receiving(inbound, publish.dup)?
            {
                // MQTT-4.3.3-10: received before; acknowledged, not published again.
                self.acknowledge(pending, ticket, side)?;
                return Ok(Flow::Continue);
            }
            let room = self.check_receive_maximum();
            if room.is_err()
                && exactly_once
                && let Some(inbound) = inbound
            {
                // Not received: sent again after a reconnect, it is new.
                self.attachment.refuse_receiving(inbound)?;
            }
            room?;
            self.receiving += u32::from(exactly_once);
            ack = Some(pending);
        }
        let mut message = Message::new(topic, publish.payload);
        message.properties = Properties::from_validated(properties.forwardable(scratch));
        message.qos = publish.qos;
        message.retain = publish.retain;
        message.expires_at = properties
            .message_expiry_interval()
            .map(|seconds| worker.now().plus_seconds(u64::from(seconds)));
        let packet_id = publish
            .packet_id
            .filter(|_| publish.qos == QoS::ExactlyOnce);
        match self.attachment.publish(worker, message, packet_id) {
            Ok(Published {
                ticket,
                matched,
                rest,
            }) => {
                if let Some(ack) = &mut ack
                    && !matched
                    && self.terms.version.is_v5()
                {
                    ack.reason = ReasonCode::NoMatchingSubscribers;
                }
                if let Some(rest) = rest {
                    side.fan_out = Some((rest, ack));
                    return Ok(Flow::Busy);
                }
                if let Some(ack) = ack {
                    self.acknowledge(ack, ticket, side)?;
                }
            }
            Err(refusal) => self.refuse_publish(refusal, ack, side)?,
        }
        Ok(Flow::Continue)
    }

    /// MQTT-3.3.4-7 and -8: the client may have so many acknowledged publishes open and no more, on all its
    /// streams together.
    fn check_receive_maximum(&self) -> Result<(), Ending> {
        let open = self.receiving + self.unacknowledged;
        if !self.terms.version.is_v5() || open < u32::from(self.settings.receive_maximum) {
            return Ok(());
        }
        Err(Ending::violation(
            ReasonCode::ReceiveMaximumExceeded,
            "more publishes are open than Receive Maximum allows (MQTT-3.3.4-9)",
        ))
    }

    fn refuse_publish(
        &mut self,
        refusal: PublishRefusal,
        ack: Option<PendingAck>,
        side: &mut Side,
    ) -> Result<(), Ending> {
        let reason = match refusal {
            PublishRefusal::NotAuthorized => ReasonCode::NotAuthorized,
            PublishRefusal::TopicNameInvalid => ReasonCode::TopicNameInvalid,
            PublishRefusal::QuotaExceeded | PublishRefusal::StoreUnavailable => {
                ReasonCode::QuotaExceeded
            }
            PublishRefusal::Fenced => return Err(Fenced.into()),
            _ => ReasonCode::UnspecifiedError,
        };
        // QoS 0 has no answer; the bus has counted the message.
        let Some(mut ack) = ack else { return Ok(()) };
        if !self.terms.version.is_v5() {
            // MQTT 3.1.1 knows no refusal: acknowledge or close (MQTT-3.3.5-2). What may not be
            // published is acknowledged and dropped; what could not be kept must not be, so that
            // the client tries again.
            if refusal != PublishRefusal::NotAuthorized {
                self.forget(ack, side)?;
                return Err(Ending::violation(reason, "the publish was refused"));
            }
        } else {
            ack.reason = reason;
            self.forget(ack, side)?;
        }
        self.acknowledge(ack, Ticket::ready(), side)
    }

    /// A QoS 2 message that was refused is not one that was received: sent again, it is new
    /// (MQTT-4.3.3-9).
    fn forget(&mut self, ack: PendingAck, side: &Side) -> Result<(), Fenced> {
        let message = side.inbound(ack.packet_id);
        if ack.kind == AckType::PubRec && self.attachment.refuse_receiving(message)? {
            self.receiving = self.receiving.saturating_sub(1);
        }
        Ok(())
    }

    /// Serves the next slice of a large fan-out.
    pub(crate) fn continue_fan_out(
        &mut self,
        worker: &mut Worker,
        side: &mut Side,
    ) -> Result<Flow, Ending> {
        let Some((fan_out, ack)) = side.fan_out.take() else {
            return Ok(Flow::Continue);
        };
        match self.attachment.bus().continue_fan_out(worker, fan_out) {
            Progress::More(fan_out) => {
                side.fan_out = Some((fan_out, ack));
                Ok(Flow::Busy)
            }
            Progress::Done(ticket) => {
                if let Some(ack) = ack {
                    self.acknowledge(ack, ticket, side)?;
                }
                Ok(Flow::Continue)
            }
        }
    }

    // ---- acknowledgements -------------------------------------------------------------------

    fn answer(
        &mut self,
        kind: AckType,
        to: &Ack<'_>,
        reason: ReasonCode,
        ticket: Ticket,
        side: &mut Side,
    ) -> Result<(), Ending> {
        self.acknowledge(
            PendingAck {
                kind,
                packet_id: to.packet_id,
                reason,
            },
            ticket,
            side,
        )
    }

    #[inline]
    fn acknowledge(
        &mut self,
        ack: PendingAck,
        ticket: Ticket,
        side: &mut Side,
    ) -> Result<(), Ending> {
        if side.acks.is_empty()
            && let Some(result) = ticket.result()
        {
            return self.send_ack(ack, result, side);
        }
        if ack.kind == AckType::PubRec {
            let message = side.inbound(ack.packet_id);
            self.attachment.receiving_until(message, &ticket)?;
        }
        self.unacknowledged += u32::from(ack.kind == AckType::PubAck);
        side.acks.push(ack, ticket);
        Ok(())
    }

    /// Sends the acknowledgements whose tickets are complete.
    pub(crate) fn poll_acks(&mut self, waker: &Waker, side: &mut Side) -> Result<(), Ending> {
        while let Some((ack, result)) = side.acks.next(waker) {
            self.unacknowledged -= u32::from(ack.kind == AckType::PubAck);
            self.send_ack(ack, result, side)?;
        }
        while let Some((packet, result)) = side.answers.next(waker) {
            result.map_err(|error| ending_of(&error))?;
            side.replies.extend_from_slice(&packet);
        }
        Ok(())
    }

    #[inline]
    fn send_ack(
        &mut self,
        ack: PendingAck,
        result: Result<(), StoreError>,
        side: &mut Side,
    ) -> Result<(), Ending> {
        let mut reason = ack.reason;
        if let Err(error) = result {
            reason = self.refused_by_store(ack, &error, side)?;
        }
        let out = &mut side.replies;
        if reason.is_error() {
            self.encode_refusal(ack, reason, out);
        } else {
            Ack::with_reason(ack.packet_id, reason).encode(ack.kind, self.terms.version, out);
        }
        Ok(())
    }

    #[cold]
    fn encode_refusal(&self, ack: PendingAck, reason: ReasonCode, out: &mut Vec<u8>) {
        let words = refused_publish(reason).filter(|_| self.terms.problem_information);
        let block = reason_string(words);
        let start = out.len();
        let refusal = Ack {
            packet_id: ack.packet_id,
            reason,
            properties: block.as_properties(),
        };
        refusal.encode(ack.kind, self.terms.version, out);
        // MQTT-3.4.2-2: no words that make the packet too large.
        if out.len() - start > self.terms.maximum_packet_size as usize {
            out.truncate(start);
            Ack::with_reason(ack.packet_id, reason).encode(ack.kind, self.terms.version, out);
        }
    }

    #[cold]
    fn refused_by_store(
        &mut self,
        ack: PendingAck,
        error: &StoreError,
        side: &Side,
    ) -> Result<ReasonCode, Ending> {
        let reason = match error {
            StoreError::Fenced => return Err(Fenced.into()),
            error => reason_of_store(error),
        };
        self.forget(ack, side)?;
        // Only answers to PUBLISH can refuse; the second half of a QoS 2 exchange cannot, and
        // before MQTT 5 nothing can: the client tries again on its next connection.
        let can_refuse = matches!(ack.kind, AckType::PubAck | AckType::PubRec);
        if !can_refuse || !self.terms.version.is_v5() {
            return Err(Ending::violation(reason, error.to_string()));
        }
        Ok(reason)
    }

    // ---- SUBSCRIBE and UNSUBSCRIBE ------------------------------------------------------------

    fn on_subscribe(
        &mut self,
        worker: &mut Worker,
        subscribe: &Subscribe<'_>,
        side: &mut Side,
    ) -> Result<(), Ending> {
        // The codec refuses 0.
        let identifier = subscribe
            .properties
            .subscription_identifier()
            .and_then(NonZeroU32::new);
        let mut reasons: SmallVec<[ReasonCode; 8]> = SmallVec::new();
        let mut ticket = Ticket::ready();
        for (filter, options) in subscribe.filters.iter() {
            let reason = match TopicFilter::new(filter) {
                Err(_) => ReasonCode::TopicFilterInvalid,
                Ok(filter) => {
                    match self.attachment.subscribe_on(
                        side.channel,
                        worker.now(),
                        filter,
                        options,
                        identifier,
                    ) {
                        Ok((qos, told)) => {
                            ticket = told;
                            ReasonCode::granted(qos)
                        }
                        Err(SubscribeRefusal::NotAuthorized) => ReasonCode::NotAuthorized,
                        Err(SubscribeRefusal::TopicFilterInvalid) => ReasonCode::TopicFilterInvalid,
                        Err(
                            SubscribeRefusal::QuotaExceeded | SubscribeRefusal::StoreUnavailable,
                        ) => ReasonCode::QuotaExceeded,
                        Err(SubscribeRefusal::Fenced) => return Err(Fenced.into()),
                        Err(_) => ReasonCode::UnspecifiedError,
                    }
                }
            };
            reasons.push(reason);
        }
        let words = reasons.iter().find_map(|reason| refused_filter(*reason));
        let block = reason_string(words.filter(|_| self.terms.problem_information));
        let mut suback = SubAck {
            packet_id: subscribe.packet_id,
            properties: block.as_properties(),
            reasons: ReasonCodes::new(&reasons),
        };
        let out = &mut side.replies;
        let start = out.len();
        suback.encode(self.terms.version, out);
        if out.len() - start > self.terms.maximum_packet_size as usize {
            // MQTT-3.9.2-1: no words that make the packet too large.
            out.truncate(start);
            suback.properties = crate::codec::Properties::EMPTY;
            suback.encode(self.terms.version, out);
        }
        self.check_size(start, out)?;
        hold_answer(start, &ticket, side);
        Ok(())
    }

    fn on_unsubscribe(
        &mut self,
        unsubscribe: &Unsubscribe<'_>,
        side: &mut Side,
    ) -> Result<(), Ending> {
        let mut reasons: SmallVec<[ReasonCode; 8]> = SmallVec::new();
        let mut ticket = Ticket::ready();
        for filter in unsubscribe.filters.iter() {
            let reason = match TopicFilter::new(filter) {
                Err(_) => ReasonCode::TopicFilterInvalid,
                Ok(filter) => {
                    let (existed, told) = self.attachment.unsubscribe(&filter)?;
                    ticket = told;
                    if existed {
                        ReasonCode::Success
                    } else {
                        ReasonCode::NoSubscriptionExisted
                    }
                }
            };
            reasons.push(reason);
        }
        let unsuback = UnsubAck {
            packet_id: unsubscribe.packet_id,
            properties: crate::codec::Properties::EMPTY,
            reasons: ReasonCodes::new(&reasons),
        };
        let out = &mut side.replies;
        let start = out.len();
        unsuback.encode(self.terms.version, out);
        self.check_size(start, out)?;
        hold_answer(start, &ticket, side);
        Ok(())
    }

    /// MQTT-3.1.2-24: what is larger than the client accepts is not sent; it cannot be left out
    /// either, since the client waits for it.
    fn check_size(&self, start: usize, out: &mut Vec<u8>) -> Result<(), Ending> {
        if out.len() - start <= self.terms.maximum_packet_size as usize {
            return Ok(());
        }
        out.truncate(start);
        let text = "the answer is larger than the client accepts (MQTT-3.1.2-24)";
        Err(Ending::violation(ReasonCode::PacketTooLarge, text))
    }

    // ---- the end ------------------------------------------------------------------------------

    fn on_disconnect(&self, disconnect: &Disconnect<'_>) -> Ending {
        let expiry = disconnect.properties.session_expiry_interval();
        if !self.terms.has_expiry && expiry.is_some_and(|seconds| seconds > 0) {
            return Ending::violation(
                ReasonCode::ProtocolError,
                "a session without expiry is given none in DISCONNECT (MQTT 5.0 section 3.14.2.2.2)",
            );
        }
        // MQTT-3.14.4-3: only a normal disconnection discards the will.
        let departure = if disconnect.reason == ReasonCode::Success {
            Departure::Normal
        } else {
            Departure::WithWill
        };
        Ending::Client { departure, expiry }
    }

    /// The client says nothing more on this stream.
    pub(crate) fn end_stream(&mut self, side: &Side) -> Result<(), Fenced> {
        if let Some(channel) = side.channel {
            let adrift = self.attachment.end_channel(channel)?;
            self.receiving = self.receiving.saturating_sub(adrift);
        }
        Ok(())
    }

    /// This stream is no more; `out` gets what lay encoded for the client. See [`Attachment::close_channel`].
    pub(crate) fn close_stream(
        &mut self,
        side: &Side,
        lost: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Fenced> {
        self.unacknowledged -= side.acks.count(AckType::PubAck) as u32;
        match side.channel {
            Some(channel) => self.attachment.close_channel(channel, lost, out),
            None => Ok(()),
        }
    }

    /// What was accepted is served to the last receiver, also when its publisher is gone.
    pub(crate) fn finish_fan_out(&mut self, worker: &mut Worker, side: &mut Side) {
        // An error here is a second end.
        while let Ok(Flow::Busy) = self.continue_fan_out(worker, side) {}
    }

    /// Gives the session back and appends the last packet the client gets, if any.
    pub(crate) fn close(self, worker: &mut Worker, ending: &Ending, out: &mut Vec<u8>) {
        let (departure, expiry) = match ending {
            Ending::Client { departure, expiry } => (*departure, *expiry),
            _ => (Departure::WithWill, None),
        };
        if self.terms.version.is_v5() {
            encode_disconnect(ending, self.terms, out);
        }
        self.attachment.detach(worker, departure, expiry);
    }
}

/// Keeps the answer at the end of the replies back until its ticket is complete.
fn hold_answer(start: usize, ticket: &Ticket, side: &mut Side) {
    if ticket.result() != Some(Ok(())) {
        let answer = side.replies.split_off(start);
        side.answers.push(answer, ticket.clone());
    }
}

const fn reason_of_store(error: &StoreError) -> ReasonCode {
    match error {
        StoreError::Full => ReasonCode::QuotaExceeded,
        _ => ReasonCode::UnspecifiedError,
    }
}

fn ending_of(error: &StoreError) -> Ending {
    match error {
        StoreError::Fenced => Fenced.into(),
        error => Ending::violation(reason_of_store(error), error.to_string()),
    }
}

fn reason_string(words: Option<&str>) -> PropertyBlock {
    let mut block = PropertyBlock::new();
    if let Some(words) = words {
        block.push(Property::ReasonString(words));
    }
    block
}

fn encode_disconnect(ending: &Ending, terms: Terms, out: &mut Vec<u8>) {
    let (reason, text) = match ending {
        Ending::Lost(_) | Ending::Client { .. } => return,
        Ending::Violation { reason, text } => (*reason, Some(text.as_str())),
        Ending::Bus(reason) => (reason_of(*reason), Some(text_of(*reason))),
    };
    let start = out.len();
    let properties = reason_string(text.filter(|_| terms.problem_information));
    Disconnect {
        reason,
        properties: properties.as_properties(),
    }
    .encode(Version::V5, out);
    // MQTT-3.14.2-3: no words that make the packet too large.
    if out.len() - start > terms.maximum_packet_size as usize {
        out.truncate(start);
        Disconnect::with_reason(reason).encode(Version::V5, out);
    }
}

const fn text_of(end: EndReason) -> &'static str {
    match end {
        EndReason::TakenOver => "another connection uses the client identifier",
        EndReason::SlowConsumer => "the client does not keep up with its messages",
        EndReason::KeepAliveTimeout => "nothing was heard for one and a half times the keep alive",
        EndReason::StoreFailed => "the store cannot give back what waits for the client",
        EndReason::ServerShuttingDown => "the gateway shuts down",
        EndReason::Administrative => "an operator ended the connection",
        _ => "the gateway ended the connection",
    }
}

/// Why a PUBLISH was refused, in words.
const fn refused_publish(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::NotAuthorized => Some("the client may not publish to this topic"),
        ReasonCode::TopicNameInvalid => Some("the topic is longer or deeper than the limits allow"),
        ReasonCode::QuotaExceeded => Some("there is no room to keep the message"),
        ReasonCode::UnspecifiedError => Some("the store failed"),
        _ => None,
    }
}

/// Why a filter was refused, in words.
const fn refused_filter(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::NotAuthorized => Some("the client may not subscribe to this filter"),
        ReasonCode::TopicFilterInvalid => {
            Some("the filter is longer or deeper than the limits allow")
        }
        ReasonCode::QuotaExceeded => Some("the client has as many subscriptions as it may"),
        _ => None,
    }
}

const fn reason_of(end: EndReason) -> ReasonCode {
    match end {
        EndReason::TakenOver => ReasonCode::SessionTakenOver,
        EndReason::SlowConsumer => ReasonCode::QuotaExceeded,
        EndReason::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
        EndReason::ServerShuttingDown => ReasonCode::ServerShuttingDown,
        EndReason::Administrative => ReasonCode::AdministrativeAction,
        _ => ReasonCode::UnspecifiedError,
    }
}
