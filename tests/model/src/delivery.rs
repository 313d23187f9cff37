//! Deliveries and their acknowledgements (MQTT 5.0 sections 4.3, 4.4, 4.6 and 4.9).

use super::packet::{AckKind, Delivered, Version};
use super::session::{Flight, Pending};
use super::{Checked, ConnectionId, Model, mismatch};

impl Pending {
    fn is(&self, seen: &Delivered, version: Version, now: u64) -> bool {
        self.is_but_for_identifiers(seen, version, now)
            && (version != Version::V5 || self.identifiers == seen.identifiers)
    }

    fn is_but_for_identifiers(&self, seen: &Delivered, version: Version, now: u64) -> bool {
        let message = &self.message;
        let same = message.topic == seen.topic
            && message.payload == seen.payload
            && self.qos == seen.qos
            && self.retain == seen.retain;
        let left = message.expires_at.map(|at| at.saturating_sub(now));
        let left = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        same && (version != Version::V5 || (message.tag == seen.tag && left == seen.expiry))
    }
}

impl Model {
    pub(super) fn saw_publish(&mut self, id: ConnectionId, seen: &Delivered) -> Checked {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        if connection.awaits_connack() {
            return mismatch(format!("{seen:?} before CONNACK"));
        }
        let mut seen = seen.clone();
        match connection.resolve(&seen.topic, seen.alias) {
            Ok(topic) => seen.topic = topic,
            Err(text) => return mismatch(format!("{seen:?}: {text}")),
        }
        seen.identifiers.sort_unstable();
        let version = connection.version;
        let window = connection.window;
        let ended = connection.end.is_some();
        let mut session = self.sessions.get_mut(&connection.client);
        if version == Version::V5
            && let Some(session) = &mut session
            && (seen.qos == 0 || session.flights.iter().all(|flight| flight.id != seen.id))
        {
            // Those that are it but for what a client before MQTT 5 is not told.
            let queue = session.queue.iter();
            let it = queue.map(|pending| {
                let fits = pending.is_but_for_identifiers(&seen, version, now);
                (fits, fits && pending.identifiers == seen.identifiers)
            });
            let it: Vec<_> = it.collect();
            let first = it.iter().position(|(fits, _)| *fits);
            if let Some(first) = first.filter(|_| !it.iter().any(|(_, is)| *is)) {
                session.tell_queue_apart(first, &seen.identifiers);
            }
        }
        if seen.qos == 0 {
            // MQTT-3.3.1-2.
            if seen.dup {
                return mismatch(format!("{seen:?} has DUP"));
            }
            return match session {
                Some(session) if !ended => {
                    let pending = take(&mut session.queue, &seen, version, now)?;
                    if version != Version::V5 {
                        session.gone_untold.push(pending);
                    }
                    Ok(())
                }
                _ => take(&mut connection.late, &seen, version, now).map(drop),
            };
        }
        let Some(session) = session else {
            // The session has ended with its connection.
            return take(&mut connection.late, &seen, version, now).map(drop);
        };
        if session.connection.is_some_and(|other| other != id) {
            // It was under way when another connection took over, which is owed it again: what the
            // client makes of it is not in the session.
            return take(&mut connection.late, &seen, version, now).map(drop);
        }
        if let Some(flight) = session.flights.iter().position(|f| f.id == seen.id) {
            // The identifier is in use (MQTT-2.2.1-3): it must be the same message, sent again.
            let first = session.flights.iter().position(|f| f.owed && !f.released);
            if first != Some(flight) {
                return mismatch(format!(
                    "{seen:?} uses the identifier of an open exchange, or is not the first that is owed ({first:?} of {:?})",
                    session.flights
                ));
            }
            if version == Version::V5 && !session.flights[flight].told {
                session.tell_apart(flight, &seen.identifiers);
            }
            let flight = &mut session.flights[flight];
            // MQTT-3.3.1-1.
            if !seen.dup || !flight.pending.is(&seen, version, now) {
                return mismatch(format!("{seen:?} is not {flight:?} sent again"));
            }
            flight.owed = false;
            flight.counted = true;
        } else {
            // MQTT-4.6.0-1.
            if let Some(owed) = session.flights.iter().find(|f| f.owed && !f.released) {
                return mismatch(format!("{seen:?} before {owed:?} was sent again"));
            }
            if ended {
                take(&mut connection.late, &seen, version, now)?;
            }
            let pending = match take(&mut session.queue, &seen, version, now) {
                Ok(pending) => pending,
                Err(_) if ended => return Ok(()),
                Err(error) => return Err(error),
            };
            if seen.dup && !pending.may_be_dup {
                return mismatch(format!("{seen:?} has DUP"));
            }
            // PUBREC came before it was sent again.
            let released = session.released_unseen.remove(&seen.id) && seen.dup;
            session.flights.push(Flight {
                id: seen.id,
                pending,
                released,
                owed: false,
                counted: true,
                told: version == Version::V5,
            });
        }
        // MQTT-3.3.4-9.
        let open = session.open().0;
        if open > window {
            return mismatch(format!("{open} messages are open of {window} that may"));
        }
        Ok(())
    }

    /// A PUBREL that answers nothing: the second half of an exchange of an earlier connection.
    pub(super) fn saw_owed_release(&mut self, id: ConnectionId, packet_id: u16) -> Checked {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.late_releases.remove(&packet_id)
        {
            return Ok(());
        }
        let client = self.connections.get(&id).map(|c| c.client.clone());
        let session = client.and_then(|client| self.sessions.get_mut(&client));
        let Some(session) = session else {
            return mismatch(format!("PUBREL {packet_id} without a session"));
        };
        let flight = session
            .flights
            .iter_mut()
            .find(|flight| flight.id == packet_id && flight.released && flight.owed);
        match flight {
            Some(flight) => {
                flight.owed = false;
                Ok(())
            }
            None if session.released_unseen.contains(&packet_id) => Ok(()),
            None => mismatch(format!("PUBREL {packet_id}, which is not owed")),
        }
    }

    /// A PUBREL that answers a PUBREC of the client.
    pub(super) fn saw_release(&mut self, id: ConnectionId, packet_id: u16, codes: &[u8]) {
        let client = self.connections.get(&id).map(|c| &c.client);
        let Some(session) = client.and_then(|client| self.sessions.get_mut(client)) else {
            return;
        };
        let seen = session.flights.iter().any(|flight| flight.id == packet_id);
        // Before MQTT 5 every PUBREL looks like this.
        let success = codes.iter().all(|code| *code == 0x00);
        if success && !seen && session.may_have_unseen(2) {
            session.ended_unseen(2);
            session.released_unseen.insert(packet_id);
        }
    }

    /// An acknowledgement of the client.
    pub(super) fn on_ack(&mut self, id: ConnectionId, kind: AckKind, packet_id: u16, code: u8) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&connection.client) else {
            return;
        };
        let code = if connection.version == Version::V5 {
            code
        } else {
            0
        };
        let place = session.flights.iter().position(|f| f.id == packet_id);
        let state = place.map(|at| {
            let flight = &session.flights[at];
            (at, flight.pending.qos, flight.released)
        });
        match (kind, state) {
            (AckKind::PubAck, Some((at, 1, _))) | (AckKind::PubComp, Some((at, 2, true))) => {
                session.end_flight(at);
            }
            // It may be that of a message which the client has not seen.
            (AckKind::PubAck, None) => session.ended_unseen(1),
            (AckKind::PubComp, None) => {
                session.released_unseen.remove(&packet_id);
            }
            // Nothing is said about an acknowledgement that fits no exchange; it ends none.
            (AckKind::PubAck | AckKind::PubComp, _) => {}
            (AckKind::PubRec, Some((at, 2, false))) if code >= 0x80 => {
                session.end_flight(at);
            }
            (AckKind::PubRec, Some((at, 2, _))) => {
                let flight = &mut session.flights[at];
                flight.released = true;
                flight.owed = false;
                connection.expect_ack(AckKind::PubRel, packet_id, &[0x00]);
            }
            (AckKind::PubRec, state) if code >= 0x80 => {
                if state.is_none() {
                    session.ended_unseen(2);
                }
            }
            (AckKind::PubRec, None)
                if session.may_have_unseen(2) || session.released_unseen.contains(&packet_id) =>
            {
                connection.expect_ack(AckKind::PubRel, packet_id, &[0x92, 0x00]);
            }
            (AckKind::PubRec, _) => connection.expect_ack(AckKind::PubRel, packet_id, &[0x92]),
            (AckKind::PubRel, _) => {
                connection.receiving.remove(&packet_id);
                let known = session.receiving.remove(&packet_id);
                let code = if known { 0x00 } else { 0x92 };
                connection.expect_ack(AckKind::PubComp, packet_id, &[code]);
            }
        }
    }
}

/// Takes the message that was seen from those that wait. It is the first of its line, QoS 0 or the
/// rest (MQTT-4.6.0-6), but for those of its batch and those that need not come.
fn take(
    queue: &mut Vec<Pending>,
    seen: &Delivered,
    version: Version,
    now: u64,
) -> Result<Pending, super::Mismatch> {
    let acknowledged = seen.qos > 0;
    let line = |pending: &Pending| (pending.qos > 0) == acknowledged;
    let first = queue
        .iter()
        .find(|pending| line(pending) && !pending.may_be_left_out)
        .map(|pending| pending.batch);
    let fits = |pending: &Pending| {
        line(pending)
            && pending.is(seen, version, now)
            && first.is_none_or(|batch| pending.batch <= batch)
    };
    // What must come before what may.
    let found = queue
        .iter()
        .position(|pending| fits(pending) && !pending.may_be_left_out)
        .or_else(|| queue.iter().position(fits));
    match found {
        Some(at) => Ok(queue.remove(at)),
        None => Err(super::Mismatch(format!(
            "{seen:?} is none of those that may come now: {queue:#?}"
        ))),
    }
}
