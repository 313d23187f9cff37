//! A connection: what it was promised, what it is owed, how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::packet::{AckKind, Connect, ServerPacket, Version};
use super::session::{KeptWill, Pending, Session};
use super::{Checked, ConnectionId, Model, mismatch};

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The reason codes one of which DISCONNECT has; `None` without DISCONNECT.
    pub(super) codes: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) version: Version,
    pub(super) client: String,
    /// Most acknowledged messages open to it.
    pub(super) window: usize,
    keep_alive: u16,
    pub(super) heard_at: u64,
    /// Answers that are owed.
    replies: VecDeque<ServerPacket>,
    /// Aliases of the client.
    pub(super) inbound: BTreeMap<u16, String>,
    alias_maximum: u16,
    /// Aliases of the server.
    outbound: BTreeMap<u16, String>,
    /// QoS 2 messages of this connection that are not released.
    pub(super) receiving: BTreeSet<u16>,
    /// The session has an expiry that DISCONNECT may change.
    pub(super) has_expiry: bool,
    pub(super) end: Option<End>,
    /// What could have been under way when the end came.
    pub(super) late: Vec<Pending>,
    /// PUBRELs that could have been under way when the end came.
    pub(super) late_releases: BTreeSet<u16>,
    /// The end was seen.
    pub(super) gone: bool,
}

impl Connection {
    /// When the client has been silent for too long (MQTT-3.1.2-22). Keep alives are even here.
    pub(super) fn silent_until(&self) -> Option<u64> {
        (self.keep_alive > 0 && self.end.is_none())
            .then(|| self.heard_at + u64::from(self.keep_alive) * 3 / 2)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.end.is_some() && !self.gone
    }

    pub(super) fn expect(&mut self, reply: ServerPacket) {
        self.replies.push_back(reply);
    }

    pub(super) fn expect_ack(&mut self, kind: AckKind, id: u16, codes: &[u8]) {
        let codes = if self.version == Version::V5 {
            codes.to_vec()
        } else {
            vec![0]
        };
        self.expect(ServerPacket::Ack { kind, id, codes });
    }

    pub(super) fn expects(&self, packet: &ServerPacket) -> bool {
        self.replies.iter().any(|reply| answers(reply, packet))
    }

    /// Answers of one kind come in the order of what they answer (MQTT-4.6.0-2 to -4); CONNACK comes
    /// before everything (MQTT-3.2.0-1).
    pub(super) fn saw_reply(&mut self, packet: &ServerPacket) -> Checked {
        let found = self
            .replies
            .iter()
            .position(|reply| same_kind(reply, packet));
        let Some(at) = found else {
            return mismatch(format!("{packet:?}, which answers nothing"));
        };
        if at > 0 && matches!(self.replies[0], ServerPacket::ConnAck { .. }) {
            return mismatch(format!("{packet:?} before CONNACK"));
        }
        if !answers(&self.replies[at], packet) {
            return mismatch(format!("{packet:?} instead of {:?}", self.replies[at]));
        }
        self.replies.remove(at);
        Ok(())
    }

    pub(super) fn awaits_connack(&self) -> bool {
        matches!(self.replies.front(), Some(ServerPacket::ConnAck { .. }))
    }

    pub(super) fn saw_disconnect(&mut self, code: u8) -> Checked {
        let codes = self.end.as_ref().and_then(|end| end.codes.as_ref());
        if self.version != Version::V5 {
            return mismatch("DISCONNECT of a server before MQTT 5");
        }
        match codes {
            Some(codes) if codes.contains(&code) => {
                self.end = Some(End { codes: None });
                Ok(())
            }
            _ => mismatch(format!("DISCONNECT {code:#04x} instead of {codes:02x?}")),
        }
    }

    pub(super) fn saw_end(&mut self) -> Checked {
        match &self.end {
            None => mismatch("the connection was closed"),
            Some(End { codes: Some(codes) }) if self.version == Version::V5 => mismatch(format!(
                "the connection was closed without DISCONNECT {codes:02x?}"
            )),
            Some(_) => {
                self.gone = true;
                Ok(())
            }
        }
    }

    pub(super) fn settled(&self) -> Checked {
        if let Some(reply) = self.replies.front() {
            return mismatch(format!("{reply:?} did not come"));
        }
        if let Some(end) = &self.end
            && !self.gone
        {
            return mismatch(format!("the connection was not closed: {end:?}"));
        }
        Ok(())
    }

    /// The topic of a delivery (section 3.3.2.3.4).
    pub(super) fn resolve(&mut self, topic: &str, alias: Option<u16>) -> Result<String, String> {
        let Some(alias) = alias else {
            return if topic.is_empty() {
                Err("neither topic nor alias".to_owned())
            } else {
                Ok(topic.to_owned())
            };
        };
        // MQTT-3.1.2-26, -27, MQTT-3.3.2-8.
        if alias == 0 || alias > self.alias_maximum {
            return Err(format!("alias {alias} of {} at most", self.alias_maximum));
        }
        if !topic.is_empty() {
            self.outbound.insert(alias, topic.to_owned());
            return Ok(topic.to_owned());
        }
        let known = self.outbound.get(&alias).cloned();
        known.ok_or_else(|| format!("alias {alias} stands for nothing"))
    }
}

fn same_kind(a: &ServerPacket, b: &ServerPacket) -> bool {
    match (a, b) {
        (ServerPacket::Ack { kind, .. }, ServerPacket::Ack { kind: other, .. }) => kind == other,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn answers(expected: &ServerPacket, seen: &ServerPacket) -> bool {
    match (expected, seen) {
        (
            ServerPacket::Ack { kind, id, codes },
            ServerPacket::Ack {
                kind: seen_kind,
                id: seen_id,
                codes: seen,
            },
        ) => kind == seen_kind && id == seen_id && seen.iter().all(|code| codes.contains(code)),
        _ => expected == seen,
    }
}

impl Model {
    pub(super) fn connect(&mut self, id: ConnectionId, connect: &Connect) {
        let v5 = connect.version == Version::V5;
        let expiry = match connect.expiry {
            _ if !v5 && connect.clean_start => 0,
            _ if !v5 => self.limits.v3_expiry,
            expiry => expiry.unwrap_or(0),
        };
        let asked = if v5 { connect.receive_maximum } else { None };
        let window = asked.unwrap_or(u16::MAX).min(self.limits.max_inflight);
        let present = self.take_over(&connect.client, connect.clean_start);
        let now = self.now;
        let session = self.sessions.entry(connect.client.clone()).or_default();
        session.connection = Some(id);
        session.expiry = expiry.min(self.limits.max_expiry);
        session.will = connect
            .will
            .as_ref()
            .map(|will| will.of(&connect.client, connect.version));
        session.resume();
        let mut connection = Connection {
            version: connect.version,
            client: connect.client.clone(),
            window: usize::from(window),
            keep_alive: connect.keep_alive,
            heard_at: now,
            replies: VecDeque::new(),
            inbound: BTreeMap::new(),
            alias_maximum: if v5 { connect.topic_alias_maximum } else { 0 },
            outbound: BTreeMap::new(),
            receiving: BTreeSet::new(),
            has_expiry: expiry > 0,
            end: None,
            late: Vec::new(),
            late_releases: BTreeSet::new(),
            gone: false,
        };
        connection.expect(ServerPacket::ConnAck {
            // MQTT 3.1 has no such flag.
            present: present && connect.version != Version::V3_1,
            code: 0,
        });
        self.connections.insert(id, connection);
        // The old connection's will comes when the new one is there.
        if let Some(will) = self
            .sessions
            .get_mut(&connect.client)
            .and_then(|s| s.owed_will.take())
        {
            let before = self.batches;
            self.publish_will(&will);
            // A QoS 0 message may pass between the two connections.
            if let Some(session) = self.sessions.get_mut(&connect.client) {
                for pending in &mut session.queue {
                    pending.may_be_left_out |= pending.batch > before && pending.qos == 0;
                }
            }
        }
    }

    /// What a new connection makes of the session there is: `true` when it goes on (MQTT-3.1.2-4, -5,
    /// MQTT-3.1.4-3).
    fn take_over(&mut self, client: &str, clean_start: bool) -> bool {
        let Some(session) = self.sessions.get_mut(client) else {
            return false;
        };
        let connected = session.connection;
        let over = connected.is_some() && session.expiry == 0;
        let goes_on = !clean_start && !over;
        let mut owed = None;
        if goes_on {
            // Section 3.1.3.2.2: a will that waits is spared; one that does not belongs to the
            // connection that ends.
            let will = session.will.take();
            owed = will.filter(|will| connected.is_some() && will.delay == 0);
            session.will_at = None;
            session.ends_at = None;
        }
        if let Some(old) = connected {
            self.close_connection(old, Some(&[0x8e]));
        }
        if goes_on {
            if let Some(session) = self.sessions.get_mut(client) {
                session.owed_will = owed;
            }
        } else {
            self.end_session(client);
        }
        goes_on
    }

    /// A client broke the protocol (section 4.13).
    pub(super) fn violation(&mut self, id: ConnectionId, codes: &[u8]) {
        self.end_connection(id, Some(codes), true);
    }

    pub(super) fn on_disconnect(&mut self, id: ConnectionId, code: u8, expiry: Option<u32>) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let v5 = connection.version == Version::V5;
        let expiry = expiry.filter(|_| v5);
        // Section 3.14.2.2.2.
        if expiry.is_some_and(|seconds| seconds > 0) && !connection.has_expiry {
            return self.violation(id, &[0x82]);
        }
        let maximum = self.limits.max_expiry;
        if let Some(session) = self.sessions.get_mut(&connection.client)
            && let Some(expiry) = expiry
        {
            session.expiry = expiry.min(maximum);
        }
        // MQTT-3.14.4-3.
        self.end_connection(id, None, v5 && code != 0);
    }

    /// The connection ends; `codes` are told to a client of MQTT 5.
    pub(super) fn end_connection(
        &mut self,
        id: ConnectionId,
        codes: Option<&[u8]>,
        with_will: bool,
    ) {
        let Some(client) = self.close_connection(id, codes) else {
            return;
        };
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if !with_will {
            session.will = None;
        }
        if session.expiry == 0 {
            return self.end_session(&client);
        }
        let ends_at = now + u64::from(session.expiry);
        session.ends_at = Some(ends_at);
        match session.will.as_ref().map(|will| will.delay) {
            None => {}
            Some(0) => {
                if let Some(will) = session.will.take() {
                    self.publish_will(&will);
                }
            }
            // MQTT-3.1.3-9.
            Some(delay) => session.will_at = Some((now + u64::from(delay)).min(ends_at)),
        }
    }

    /// The will that is published when the connection ends now, if it does not wait.
    pub(super) fn take_due_will(&mut self, id: ConnectionId) -> Option<KeptWill> {
        let client = &self.connections.get(&id)?.client;
        let session = self.sessions.get_mut(client)?;
        let expiry = session.expiry;
        session.will.take_if(|will| expiry == 0 || will.delay == 0)
    }

    /// Takes the connection from its session. Gives back whose it was.
    fn close_connection(&mut self, id: ConnectionId, codes: Option<&[u8]>) -> Option<String> {
        let connection = self.connections.get_mut(&id)?;
        if connection.end.is_some() {
            return None;
        }
        connection.end = Some(End {
            codes: codes.map(<[u8]>::to_vec),
        });
        let session = self.sessions.get_mut(&connection.client)?;
        session.connection = None;
        for flight in session.flights.iter().filter(|flight| flight.owed) {
            if flight.released {
                connection.late_releases.insert(flight.id);
            } else {
                connection.late.push(flight.pending.clone());
            }
        }
        connection.late_releases.extend(&session.released_unseen);
        connection.late.extend_from_slice(&session.queue);
        session.leave();
        Some(connection.client.clone())
    }

    /// The session ends, and with it the time of its will (MQTT-3.1.3-9).
    pub(super) fn end_session(&mut self, client: &str) {
        if let Some(Session {
            will: Some(will), ..
        }) = self.sessions.remove(client)
        {
            self.publish_will(&will);
        }
    }
}
