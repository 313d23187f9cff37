//! A walk on its way: the clients, what each has still to acknowledge, and the model beside them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_model::{
    AckKind, ClientPacket, Connect as ModelConnect, ConnectionId, Delivered, Filter as ModelFilter,
    Limits, Mismatch, Model, Publish as ModelPublish, ServerPacket, Version as ModelVersion,
    Will as ModelWill,
};
use tidegate_tests::wire::{
    Ack, Client, Connect, Event, Packet, Property, Publish, Subscribe, Unsubscribe, Version, Will,
    disconnect, options,
};
use tidegate_tests::{Gateway, Server, Transport, unique};

use crate::action::{Action, CLIENTS, Filter};

/// The client that watches everything, by which the end of another's connection is seen.
const WATCHER: usize = CLIENTS;

/// Which version each client speaks.
const VERSIONS: [Version; CLIENTS + 1] = [
    Version::V5,
    Version::V5,
    Version::V5,
    Version::V311,
    Version::V31,
    Version::V5,
];

/// The gateway's defaults, as far as the model asks for them.
const LIMITS: Limits = Limits {
    max_inflight: 1024,
    receive_maximum: 1024,
    topic_alias_maximum: 64,
    v3_expiry: 7 * 24 * 3600,
    max_expiry: 30 * 24 * 3600,
    max_levels: 128,
};

type Step = Result<(), String>;

/// How often walks got to what is worth getting to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    pub(crate) retained: u64,
    pub(crate) aliases: u64,
    pub(crate) identifiers: u64,
    pub(crate) resumed_sessions: u64,
    pub(crate) messages_sent_again: u64,
    pub(crate) releases_sent_again: u64,
    pub(crate) unknown_releases: u64,
}

impl Seen {
    fn look_at(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(message) => {
                self.messages += 1;
                self.retained += u64::from(message.retain);
                self.aliases += u64::from(message.alias().is_some());
                self.identifiers += u64::from(!message.subscription_ids().is_empty());
                self.messages_sent_again += u64::from(message.dup);
            }
            Packet::ConnAck(answer) => self.resumed_sessions += u64::from(answer.session_present),
            Packet::PubComp(ack) => self.unknown_releases += u64::from(ack.code != 0),
            _ => {}
        }
    }

    /// All of these and those.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            retained: self.retained + other.retained,
            aliases: self.aliases + other.aliases,
            identifiers: self.identifiers + other.identifiers,
            resumed_sessions: self.resumed_sessions + other.resumed_sessions,
            messages_sent_again: self.messages_sent_again + other.messages_sent_again,
            releases_sent_again: self.releases_sent_again + other.releases_sent_again,
            unknown_releases: self.unknown_releases + other.unknown_releases,
        }
    }

    /// Each by name, for a report and for the check that none is 0.
    pub(crate) fn each(self) -> [(&'static str, u64); 8] {
        [
            ("messages", self.messages),
            ("retained", self.retained),
            ("by alias", self.aliases),
            ("with identifiers", self.identifiers),
            ("sessions resumed", self.resumed_sessions),
            ("messages sent again", self.messages_sent_again),
            ("releases sent again", self.releases_sent_again),
            ("unknown releases", self.unknown_releases),
        ]
    }
}

/// A connection as a client has it.
struct Online {
    id: ConnectionId,
    client: Client,
    has_will: bool,
    /// The session expiry is above 0.
    lasting: bool,
    /// Messages received at QoS 1 and 2 that are not acknowledged to the end.
    open: BTreeMap<u16, Open>,
    /// PINGRESPs that are awaited.
    pings: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// PUBACK is owed.
    First,
    /// PUBREC is owed.
    Second,
    /// PUBREC was sent, PUBREL is awaited.
    Received,
    /// PUBREL has come, PUBCOMP is owed.
    Released,
}

pub(crate) struct Walk {
    tcp: Server,
    websocket: Option<Server>,
    model: Model,
    /// First level of every topic, and stem of the client ids.
    name: String,
    online: Vec<Option<Online>>,
    /// Half QoS 2 publishes by client: packet identifier and packet. A client goes on with them also
    /// where the server has lost its session.
    half: Vec<BTreeMap<u16, ModelPublish>>,
    next_connection: ConnectionId,
    next_payload: u64,
    next_id: u16,
    /// How long is waited for what has to come.
    patience: Duration,
    seen: Seen,
}

impl Walk {
    pub(crate) fn new(gateway: &Gateway, patience: Duration) -> Self {
        Self {
            tcp: gateway.mqtt().into(),
            websocket: gateway.server(Transport::Ws),
            model: Model::new(LIMITS),
            name: unique("model"),
            online: (0..=CLIENTS).map(|_| None).collect(),
            half: vec![BTreeMap::new(); CLIENTS + 1],
            next_connection: 0,
            next_payload: 0,
            next_id: 0,
            patience,
            seen: Seen::default(),
        }
    }

    /// Goes all the way; an error says what was wrong after which action.
    pub(crate) fn run(mut self, actions: &[Action]) -> Result<Seen, String> {
        self.begin()
            .map_err(|error| format!("at the start: {error}"))?;
        for (number, action) in actions.iter().enumerate() {
            self.step(action)
                .map_err(|error| format!("after action {number}, {action:?}: {error}"))?;
        }
        self.end().map_err(|error| format!("at the end: {error}"))?;
        Ok(self.seen)
    }

    /// The watcher connects and sees everything at QoS 0.
    fn begin(&mut self) -> Step {
        let connect = Action::Connect {
            client: WATCHER,
            clean: true,
            lasting: false,
            receive_maximum: None,
            alias_maximum: 0,
            will: None,
            over_websocket: false,
        };
        self.step(&connect)?;
        for filter in ["#", "$c"] {
            self.step(&Action::Subscribe {
                client: WATCHER,
                filters: vec![Filter {
                    filter,
                    qos: 0,
                    no_local: false,
                    retain_as_published: true,
                    retain_handling: 0,
                }],
                identifier: None,
            })?;
        }
        Ok(())
    }

    /// Leaves nothing behind: sessions end, retained messages go.
    fn end(&mut self) -> Step {
        for client in 0..CLIENTS {
            let connect = Action::Connect {
                client,
                clean: true,
                lasting: false,
                receive_maximum: None,
                alias_maximum: 0,
                will: None,
                over_websocket: false,
            };
            self.step(&connect)?;
        }
        for topic in ["a", "a/b", "a/b/c", "b", "b/b", "$c"] {
            self.step(&Action::Publish {
                client: 0,
                topic,
                qos: 1,
                retain: true,
                empty: true,
                alias: None,
                half: false,
            })?;
        }
        for client in 0..=CLIENTS {
            self.step(&Action::Disconnect {
                client,
                with_will: false,
                expiry: None,
            })?;
        }
        Ok(())
    }

    /// A topic or filter of this walk alone. Wildcards at its first level would not match `$c`, which
    /// is a first level of its own therefore.
    fn named(&self, topic: &str) -> String {
        match topic.strip_prefix('$') {
            Some(rest) => format!("${rest}-{}", self.name),
            None => format!("{}/{topic}", self.name),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        self.next_payload += 1;
        format!("{} of {}", self.next_payload, self.name).into_bytes()
    }

    /// A packet identifier that no half publish of the client uses.
    fn packet_id(&mut self, client: usize) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.half[client].contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    fn step(&mut self, action: &Action) -> Step {
        match action {
            Action::Connect { .. } => self.connect(action)?,
            Action::Subscribe {
                client,
                filters,
                identifier,
            } => self.subscribe(*client, filters, *identifier)?,
            Action::Unsubscribe { client, filters } => self.unsubscribe(*client, filters)?,
            Action::Publish { client, .. } => self.publish(*client, action)?,
            Action::PublishAgain { client, which } => self.publish_again(*client, *which)?,
            Action::Release { client, which } => self.release(*client, *which)?,
            Action::Acknowledge {
                client,
                which,
                refuse,
            } => self.acknowledge(*client, *which, *refuse)?,
            Action::AcknowledgeAll { client } => self.acknowledge_all(*client)?,
            Action::Disconnect {
                client,
                with_will,
                expiry,
            } => self.disconnect(*client, *with_will, *expiry)?,
            Action::Break { client } => self.break_off(*client)?,
        }
        self.settle()
    }

    // ---- actions ----

    fn connect(&mut self, action: &Action) -> Step {
        let Action::Connect {
            client,
            clean,
            lasting,
            receive_maximum,
            alias_maximum,
            will,
            over_websocket,
        } = action
        else {
            return Ok(());
        };
        let version = VERSIONS[*client];
        let v5 = version == Version::V5;
        let client_id = format!("{}-{client}", self.name);
        let will = will.as_ref().map(|will| ModelWill {
            topic: self.named(will.topic),
            payload: self.payload(),
            qos: will.qos,
            retain: will.retain,
            delay: 0,
            expiry: None,
        });
        // Before MQTT 5 a session lasts if it is not clean.
        let clean = if v5 { *clean } else { !*lasting };
        let expiry = (v5 && *lasting).then_some(600);
        let mut connect = Connect::new(version, &client_id);
        connect.clean = clean;
        if v5 {
            connect
                .properties
                .extend(expiry.map(Property::SessionExpiry));
            let maximum = receive_maximum.map(Property::ReceiveMaximum);
            connect.properties.extend(maximum);
            let aliases = Property::TopicAliasMaximum(*alias_maximum);
            connect.properties.push(aliases);
        }
        connect.will = will.as_ref().map(|will| Will {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            properties: Vec::new(),
        });
        let has_will = will.is_some();
        let id = self.next_connection;
        self.next_connection += 1;
        let model = ModelConnect {
            version: match version {
                Version::V31 => ModelVersion::V3_1,
                Version::V311 => ModelVersion::V3_1_1,
                Version::V5 => ModelVersion::V5,
            },
            client: client_id,
            clean_start: clean,
            keep_alive: 0,
            expiry,
            receive_maximum: receive_maximum.filter(|_| v5),
            topic_alias_maximum: if v5 { *alias_maximum } else { 0 },
            will,
        };
        connect.keep_alive = 0;
        let server = match &self.websocket {
            Some(websocket) if *over_websocket => websocket,
            _ => &self.tcp,
        };
        let mut wire = Client::dial(server, version);
        wire.send(&connect.encode());
        self.model.client(id, &ClientPacket::Connect(model));
        let old = self.online[*client].replace(Online {
            id,
            client: wire,
            has_will,
            lasting: if v5 { *lasting } else { !clean },
            open: BTreeMap::new(),
            pings: 0,
        });
        // The new one is there before anything else is looked at.
        let end = Instant::now() + self.patience;
        self.look(*client, end)?;
        if let Some(mut old) = old {
            self.await_end(&mut old)?;
        }
        Ok(())
    }

    fn subscribe(&mut self, client: usize, filters: &[Filter], identifier: Option<u32>) -> Step {
        if self.online[client].is_none() {
            return Ok(());
        }
        let v5 = VERSIONS[client] == Version::V5;
        let id = self.packet_id(client);
        let mut model: Vec<ModelFilter> = Vec::new();
        for filter in filters {
            let name = self.named(filter.filter);
            // The same filter twice in one packet is another test's matter.
            if model.iter().all(|other| other.filter != name) {
                model.push(ModelFilter {
                    filter: name,
                    qos: filter.qos,
                    no_local: filter.no_local,
                    retain_as_published: filter.retain_as_published,
                    retain_handling: filter.retain_handling,
                });
            }
        }
        let options = |filter: &ModelFilter| {
            if !v5 {
                return filter.qos;
            }
            let mut byte = filter.qos | filter.retain_handling << 4;
            if filter.no_local {
                byte |= options::NO_LOCAL;
            }
            if filter.retain_as_published {
                byte |= options::RETAIN_AS_PUBLISHED;
            }
            byte
        };
        let packet = Subscribe {
            id,
            properties: identifier
                .filter(|_| v5)
                .map(Property::SubscriptionId)
                .into_iter()
                .collect(),
            filters: model
                .iter()
                .map(|filter| (filter.filter.clone(), options(filter)))
                .collect(),
        };
        let bytes = packet.encode(VERSIONS[client]);
        self.send(
            client,
            &bytes,
            &ClientPacket::Subscribe {
                id,
                filters: model,
                identifier,
            },
        )
    }

    fn unsubscribe(&mut self, client: usize, filters: &[&str]) -> Step {
        let id = self.packet_id(client);
        let mut names: Vec<String> = filters.iter().map(|filter| self.named(filter)).collect();
        names.dedup();
        let packet = Unsubscribe {
            id,
            filters: names.clone(),
        };
        let bytes = packet.encode(VERSIONS[client]);
        let model = ClientPacket::Unsubscribe { id, filters: names };
        self.send(client, &bytes, &model)
    }

    fn publish(&mut self, client: usize, action: &Action) -> Step {
        let Action::Publish {
            topic,
            qos,
            retain,
            empty,
            alias,
            half,
            ..
        } = action
        else {
            return Ok(());
        };
        if self.online[client].is_none() {
            return Ok(());
        }
        let payload = if *retain && *empty {
            Vec::new()
        } else {
            self.payload()
        };
        let v5 = VERSIONS[client] == Version::V5;
        let id = if *qos > 0 { self.packet_id(client) } else { 0 };
        let model = ModelPublish {
            topic: self.named(topic),
            payload,
            qos: *qos,
            retain: *retain,
            dup: false,
            id,
            alias: alias.filter(|_| v5),
            expiry: None,
            tag: v5.then_some(7),
        };
        self.send_publish(client, &model)?;
        if *qos == 2 {
            if *half {
                self.half[client].insert(id, model);
            } else {
                self.settle()?;
                self.send_ack(client, AckKind::PubRel, id, 0)?;
            }
        }
        Ok(())
    }

    fn publish_again(&mut self, client: usize, which: usize) -> Step {
        let Some((_, mut publish)) = nth(&self.half[client], which) else {
            return Ok(());
        };
        publish.dup = true;
        self.send_publish(client, &publish)
    }

    fn release(&mut self, client: usize, which: usize) -> Step {
        let Some((id, _)) = nth(&self.half[client], which) else {
            return Ok(());
        };
        if self.online[client].is_some() {
            self.half[client].remove(&id);
        }
        self.send_ack(client, AckKind::PubRel, id, 0)
    }

    fn acknowledge(&mut self, client: usize, which: usize, refuse: bool) -> Step {
        let Some(online) = &mut self.online[client] else {
            return Ok(());
        };
        let Some((id, open)) = nth(&online.open, which) else {
            return Ok(());
        };
        let refuse = refuse && VERSIONS[client] == Version::V5;
        let code = if refuse { 0x80 } else { 0 };
        match open {
            Open::First => {
                online.open.remove(&id);
                self.send_ack(client, AckKind::PubAck, id, code)
            }
            Open::Second => {
                if refuse {
                    online.open.remove(&id);
                } else {
                    online.open.insert(id, Open::Received);
                }
                self.send_ack(client, AckKind::PubRec, id, code)
            }
            Open::Received => Ok(()),
            Open::Released => {
                online.open.remove(&id);
                self.send_ack(client, AckKind::PubComp, id, 0)
            }
        }
    }

    fn acknowledge_all(&mut self, client: usize) -> Step {
        // What is acknowledged makes room for more.
        loop {
            let open = match &self.online[client] {
                Some(online) => online.open.len(),
                None => return Ok(()),
            };
            if open == 0 {
                return Ok(());
            }
            for which in (0..open).rev() {
                self.acknowledge(client, which, false)?;
            }
            self.settle()?;
        }
    }

    fn disconnect(&mut self, client: usize, with_will: bool, expiry: Option<u32>) -> Step {
        let Some(mut online) = self.online[client].take() else {
            return Ok(());
        };
        let v5 = VERSIONS[client] == Version::V5;
        // From 0 it may not be changed (section 3.14.2.2.2).
        let expiry = expiry.filter(|_| v5 && online.lasting);
        let code = if with_will && v5 { 0x04 } else { 0x00 };
        let properties: Vec<Property> = expiry.map(Property::SessionExpiry).into_iter().collect();
        let bytes = if v5 {
            disconnect(code, &properties)
        } else {
            vec![0xE0, 0x00]
        };
        online.client.send(&bytes);
        self.model
            .client(online.id, &ClientPacket::Disconnect { code, expiry });
        self.await_end(&mut online)
    }

    /// Only a connection with a will: its message, seen by the watcher, tells that the server knows.
    fn break_off(&mut self, client: usize) -> Step {
        let broken = self.online[client].take_if(|online| online.has_will);
        let Some(online) = broken else {
            return Ok(());
        };
        online.client.vanish();
        self.model.cut(online.id);
        self.model
            .saw_end(online.id)
            .map_err(|Mismatch(text)| text)?;
        self.model.forget_ended();
        Ok(())
    }

    // ---- packets ----

    fn send(&mut self, client: usize, bytes: &[u8], model: &ClientPacket) -> Step {
        let Some(online) = &mut self.online[client] else {
            return Ok(());
        };
        online.client.send(bytes);
        self.model.client(online.id, model);
        Ok(())
    }

    fn send_publish(&mut self, client: usize, publish: &ModelPublish) -> Step {
        let mut packet = Publish::new(&publish.topic, &publish.payload)
            .qos(publish.qos)
            .id(publish.id);
        packet.retain = publish.retain;
        packet.dup = publish.dup;
        if let Some(alias) = publish.alias {
            packet = packet.with(Property::TopicAlias(alias));
        }
        if let Some(tag) = publish.tag {
            packet = packet.with(Property::user("tag", &tag.to_string()));
        }
        let bytes = packet.encode(VERSIONS[client]);
        self.send(client, &bytes, &ClientPacket::Publish(publish.clone()))
    }

    fn send_ack(&mut self, client: usize, kind: AckKind, id: u16, code: u8) -> Step {
        let first = match kind {
            AckKind::PubAck => 0x40,
            AckKind::PubRec => 0x50,
            AckKind::PubRel => 0x62,
            AckKind::PubComp => 0x70,
        };
        let bytes = Ack::new(id).code(code).encode(first, VERSIONS[client]);
        self.send(client, &bytes, &ClientPacket::Ack { kind, id, code })
    }

    // ---- looking ----

    /// Every client sees what it was to see, and nothing else.
    fn settle(&mut self) -> Step {
        let end = Instant::now() + self.patience;
        loop {
            for client in 0..self.online.len() {
                self.fence(client, end)?;
            }
            // What follows the end of a broken connection is in nobody's step.
            match self.model.settled() {
                Ok(()) => return Ok(()),
                Err(Mismatch(text)) if Instant::now() >= end => return Err(text),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn fence(&mut self, client: usize, end: Instant) -> Step {
        let Some(online) = &mut self.online[client] else {
            return Ok(());
        };
        online.client.send(&[0xC0, 0x00]);
        online.pings += 1;
        self.model.client(online.id, &ClientPacket::PingReq);
        self.look(client, end)
    }

    /// Reads until the answer that is awaited: to a ping, or to CONNECT where there was no ping.
    fn look(&mut self, client: usize, end: Instant) -> Step {
        let Some(online) = &mut self.online[client] else {
            return Ok(());
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let packet = match online.client.next(left) {
                Event::Packet(packet) => packet,
                Event::Closed => return Err(format!("client {client} was closed")),
                Event::Silence => return Err(format!("client {client} was not answered")),
            };
            online.saw(&mut self.model, &mut self.seen, &packet)?;
            match packet {
                Packet::ConnAck(_) => return Ok(()),
                Packet::PingResp => {
                    online.pings -= 1;
                    if online.pings == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads a connection to its end.
    fn await_end(&mut self, online: &mut Online) -> Step {
        loop {
            match online.client.next(self.patience) {
                Event::Packet(packet) => online.saw(&mut self.model, &mut self.seen, &packet)?,
                Event::Closed => break,
                Event::Silence => return Err("a connection was not closed".to_owned()),
            }
        }
        self.model
            .saw_end(online.id)
            .map_err(|Mismatch(text)| text)?;
        self.model.forget_ended();
        Ok(())
    }
}

impl Online {
    /// The model is told of a packet, and what it asks of the client is noted.
    fn saw(&mut self, model: &mut Model, seen: &mut Seen, packet: &Packet) -> Step {
        seen.look_at(packet);
        match packet {
            Packet::Publish(message) if message.qos > 0 => {
                let open = if message.qos == 1 {
                    Open::First
                } else {
                    Open::Second
                };
                self.open.insert(message.id, open);
            }
            Packet::PubRel(ack) => {
                // It answers a PUBREC of this connection, or is owed from an earlier one.
                let answers = self.open.insert(ack.id, Open::Released) == Some(Open::Received);
                seen.releases_sent_again += u64::from(!answers);
            }
            _ => {}
        }
        model
            .saw(self.id, &translated(packet))
            .map_err(|Mismatch(text)| text)
    }
}

fn translated(packet: &Packet) -> ServerPacket {
    let ack = |kind, ack: &Ack| ServerPacket::Ack {
        kind,
        id: ack.id,
        codes: vec![ack.code],
    };
    match packet {
        Packet::ConnAck(answer) => ServerPacket::ConnAck {
            present: answer.session_present,
            code: answer.code,
        },
        Packet::Publish(message) => ServerPacket::Publish(delivered(message)),
        Packet::PubAck(answer) => ack(AckKind::PubAck, answer),
        Packet::PubRec(answer) => ack(AckKind::PubRec, answer),
        Packet::PubRel(answer) => ack(AckKind::PubRel, answer),
        Packet::PubComp(answer) => ack(AckKind::PubComp, answer),
        Packet::SubAck(answer) => ServerPacket::SubAck {
            id: answer.id,
            codes: answer.codes.clone(),
        },
        Packet::UnsubAck(answer) => ServerPacket::UnsubAck {
            id: answer.id,
            codes: answer.codes.clone(),
        },
        Packet::PingResp => ServerPacket::PingResp,
        Packet::Disconnect(reason) => ServerPacket::Disconnect { code: reason.code },
        Packet::Auth(reason) => ServerPacket::Unexpected(format!("AUTH {reason:?}")),
    }
}

fn delivered(message: &Publish) -> Delivered {
    let tag = message
        .properties
        .iter()
        .find_map(|property| match property {
            Property::User(name, value) if name == "tag" => value.parse().ok(),
            _ => None,
        });
    Delivered {
        topic: message.topic.clone(),
        payload: message.payload.clone(),
        qos: message.qos,
        retain: message.retain,
        dup: message.dup,
        id: message.id,
        alias: message.alias(),
        expiry: message.expiry(),
        tag,
        identifiers: message.subscription_ids(),
    }
}

/// The `which`th entry, counted around.
fn nth<T: Clone>(map: &BTreeMap<u16, T>, which: usize) -> Option<(u16, T)> {
    let count = map.len().max(1);
    let found = map.iter().nth(which % count);
    found.map(|(id, value)| (*id, value.clone()))
}
