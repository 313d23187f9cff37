//! A small model of an MQTT server, written from the specification (MQTT 5.0, and 3.1.1 where it
//! differs) and from `docs/mqtt.md` where that settles what the specification leaves open.
//!
//! It is told what clients send ([`Model::client`]) and what they see ([`Model::saw`]), and says when
//! what they see is wrong, or when something is missing ([`Model::settled`]). Where a server may
//! choose, the model follows what was seen: which packet identifier a message has, which of several
//! messages comes first where no order is promised, which reason code of those allowed.
//!
//! It knows no gateway, no socket and no clock: time goes by when it is told so.

mod connection;
mod delivery;
mod filter;
mod packet;
mod publish;
mod session;
mod subscribe;

use std::collections::BTreeMap;
use std::rc::Rc;

use connection::Connection;
pub use filter::matches;
pub use packet::{
    AckKind, ClientPacket, Connect, Delivered, Filter, Publish, ServerPacket, Version, Will,
};
use session::{Message, Session};

/// What the server was told to keep to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most messages in flight to one client.
    pub max_inflight: u16,
    /// Acknowledged publishes of one client that may be open at once.
    pub receive_maximum: u16,
    /// Highest alias a client may use.
    pub topic_alias_maximum: u16,
    /// Session expiry before MQTT 5, in seconds.
    pub v3_expiry: u32,
    /// The longest session expiry.
    pub max_expiry: u32,
    /// Most levels of a topic or filter.
    pub max_levels: usize,
}

/// A connection, by a number of the caller's choice.
pub type ConnectionId = u32;

/// What was seen and must not be, or was not seen and must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

type Checked = Result<(), Mismatch>;

fn mismatch(text: impl Into<String>) -> Checked {
    Err(Mismatch(text.into()))
}

/// The model.
#[derive(Debug)]
pub struct Model {
    limits: Limits,
    /// Seconds since the start.
    now: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Rc<Message>>,
    /// Numbers whatever may come in any order within itself.
    batches: u64,
}

impl Model {
    /// A server that nobody has connected to.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: 0,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            batches: 0,
        }
    }

    /// Seconds since the start.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// What a client that keeps to the protocol owes for the messages in flight to it, in their
    /// order.
    pub fn owed_by(&self, connection: ConnectionId) -> Vec<(AckKind, u16)> {
        let client = self.connections.get(&connection).map(|c| &c.client);
        let session = client.and_then(|client| self.sessions.get(client));
        let flights = session.into_iter().flat_map(|session| &session.flights);
        flights
            .map(|flight| match (flight.pending.qos, flight.released) {
                (2, false) => (AckKind::PubRec, flight.id),
                (2, true) => (AckKind::PubComp, flight.id),
                _ => (AckKind::PubAck, flight.id),
            })
            .collect()
    }

    /// Whether the connection is served: its CONNECT was accepted and it has not ended.
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| connection.end.is_none())
    }

    /// When the next thing happens by itself, if anything will.
    pub fn next_event(&self) -> Option<u64> {
        let sessions = self.sessions.values().flat_map(Session::times);
        let silences = self
            .connections
            .values()
            .filter_map(Connection::silent_until);
        sessions.chain(silences).min()
    }

    /// Lets time go by, up to the next event at most: see [`Self::next_event`].
    pub fn advance_to(&mut self, now: u64) {
        self.now = now;
        let silent: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.silent_until().is_some_and(|at| at <= now))
            .map(|(&id, _)| id)
            .collect();
        // What happens at one moment happens in any order: whoever is there at its beginning may get
        // it.
        self.batches += 1;
        let batch = self.batches;
        let clients: Vec<String> = self.sessions.keys().cloned().collect();
        for client in clients {
            let Some(session) = self.sessions.get_mut(&client) else {
                continue;
            };
            session.expire(now);
            if session.ends_at.is_some_and(|at| at <= now) {
                self.end_session(&client);
            } else if session.will_at.is_some_and(|at| at <= now) {
                session.will_at = None;
                if let Some(will) = session.will.take() {
                    self.publish_will(&will);
                }
            }
        }
        for id in &silent {
            if let Some(will) = self.take_due_will(*id) {
                self.publish_will(&will);
            }
        }
        for id in silent {
            // Section 3.1.2.10, MQTT-3.1.2-22.
            self.end_connection(id, Some(&[0x8d]), true);
        }
        for session in self.sessions.values_mut() {
            for pending in &mut session.queue {
                if pending.message.is_will && pending.batch >= batch {
                    pending.batch = batch;
                }
            }
        }
        self.retained.retain(|_, message| !message.is_expired(now));
    }

    /// What a client sends.
    pub fn client(&mut self, id: ConnectionId, packet: &ClientPacket) {
        if let ClientPacket::Connect(connect) = packet
            && !self.connections.contains_key(&id)
        {
            self.connect(id, connect);
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.end.is_some() {
            return;
        }
        connection.heard_at = self.now;
        match packet {
            // MQTT-3.1.0-2.
            ClientPacket::Connect(_) => self.violation(id, &[0x82]),
            ClientPacket::Publish(publish) => self.on_publish(id, publish),
            ClientPacket::Ack {
                kind,
                id: packet,
                code,
            } => self.on_ack(id, *kind, *packet, *code),
            ClientPacket::Subscribe {
                id: packet,
                filters,
                identifier,
            } => self.on_subscribe(id, *packet, filters, *identifier),
            ClientPacket::Unsubscribe {
                id: packet,
                filters,
            } => self.on_unsubscribe(id, *packet, filters),
            ClientPacket::PingReq => connection.expect(ServerPacket::PingResp),
            ClientPacket::Disconnect { code, expiry } => self.on_disconnect(id, *code, *expiry),
            // No method was agreed on in CONNECT (MQTT-4.12.0-6); unknown before MQTT 5.
            ClientPacket::Auth => self.violation(id, &[0x82]),
            ClientPacket::Broken { codes, .. } => self.violation(id, codes),
        }
    }

    /// A client closes its connection without a word.
    pub fn cut(&mut self, id: ConnectionId) {
        self.end_connection(id, None, true);
    }

    /// What a client sees.
    ///
    /// # Errors
    ///
    /// When it must not see it.
    pub fn saw(&mut self, id: ConnectionId, packet: &ServerPacket) -> Checked {
        let Some(connection) = self.connections.get_mut(&id) else {
            return mismatch(format!("{packet:?} on a connection without CONNECT"));
        };
        if connection.gone {
            return mismatch(format!("{packet:?} behind the end"));
        }
        match packet {
            ServerPacket::Publish(publish) => self.saw_publish(id, publish),
            ServerPacket::Disconnect { code } => connection.saw_disconnect(*code),
            ServerPacket::Ack {
                kind: AckKind::PubRel,
                id: packet_id,
                ..
            } if !connection.expects(packet) => self.saw_owed_release(id, *packet_id),
            ServerPacket::Ack {
                kind: AckKind::PubRel,
                id: packet_id,
                codes,
            } => {
                connection.saw_reply(packet)?;
                self.saw_release(id, *packet_id, codes);
                Ok(())
            }
            packet => connection.saw_reply(packet),
        }
    }

    /// A client sees the end of its connection.
    ///
    /// # Errors
    ///
    /// When it must not end, or not like this.
    pub fn saw_end(&mut self, id: ConnectionId) -> Checked {
        match self.connections.get_mut(&id) {
            Some(connection) => connection.saw_end(),
            None => mismatch("an end before CONNECT"),
        }
    }

    /// Everything that was to come has come.
    ///
    /// # Errors
    ///
    /// When something is missing.
    pub fn settled(&self) -> Checked {
        for (id, connection) in &self.connections {
            connection
                .settled()
                .map_err(|Mismatch(text)| Mismatch(format!("connection {id}: {text}")))?;
            if connection.end.is_some() {
                continue;
            }
            if let Some(session) = self.sessions.get(&connection.client) {
                session
                    .settled(connection)
                    .map_err(|Mismatch(text)| Mismatch(format!("connection {id}: {text}")))?;
            }
        }
        Ok(())
    }

    /// Forgets connections that are over and were seen to be.
    pub fn forget_ended(&mut self) {
        self.connections.retain(|_, connection| !connection.gone);
    }
}
