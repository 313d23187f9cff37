//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 sections 3.8 and 3.10).

use std::rc::Rc;

use super::packet::{Filter, ServerPacket, Version};
use super::session::Pending;
use super::{ConnectionId, Model, matches};

impl Model {
    pub(super) fn on_subscribe(
        &mut self,
        id: ConnectionId,
        packet_id: u16,
        filters: &[Filter],
        identifier: Option<u32>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let v5 = connection.version == Version::V5;
        let client = connection.client.clone();
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        let mut codes = Vec::new();
        for filter in filters {
            if filter.filter.split('/').count() > self.limits.max_levels {
                codes.push(if v5 { 0x8f } else { 0x80 });
                continue;
            }
            let mut filter = filter.clone();
            if !v5 {
                filter.no_local = false;
                filter.retain_as_published = false;
                filter.retain_handling = 0;
            }
            codes.push(filter.qos);
            let identifier = identifier.filter(|_| v5);
            let name = filter.filter.clone();
            // MQTT-3.8.4-3.
            let replaced = session
                .subscriptions
                .insert(name.clone(), (filter.clone(), identifier));
            // MQTT-3.3.1-9 to -11.
            let wanted = match filter.retain_handling {
                0 => true,
                1 => replaced.is_none(),
                _ => false,
            };
            if !wanted {
                continue;
            }
            self.batches += 1;
            let batch = self.batches;
            for pending in &mut session.queue {
                // Retained messages of this filter come anew; those that wait need not come twice.
                pending.may_be_left_out |=
                    pending.was_retained && pending.filters == [name.clone()];
            }
            for message in self.retained.values() {
                if !matches(&name, &message.topic) || (filter.no_local && message.from == client) {
                    continue;
                }
                session.queue.push(Pending {
                    message: Rc::clone(message),
                    qos: message.qos.min(filter.qos),
                    // MQTT-3.3.1-8.
                    retain: true,
                    was_retained: true,
                    identifiers: identifier.into_iter().collect(),
                    filters: vec![name.clone()],
                    batch,
                    may_be_left_out: false,
                    may_be_dup: false,
                });
            }
        }
        connection.expect(ServerPacket::SubAck {
            id: packet_id,
            codes,
        });
    }

    pub(super) fn on_unsubscribe(&mut self, id: ConnectionId, packet_id: u16, filters: &[String]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&connection.client) else {
            return;
        };
        let mut codes = Vec::new();
        for filter in filters {
            let known = session.subscriptions.remove(filter).is_some();
            codes.push(if known { 0x00 } else { 0x11 });
            if !known {
                continue;
            }
            // Section 3.10.4: what waits may still come.
            for pending in &mut session.queue {
                pending.filters.retain(|other| other != filter);
                pending.may_be_left_out |= pending.filters.is_empty();
            }
        }
        if connection.version != Version::V5 {
            codes.clear();
        }
        connection.expect(ServerPacket::UnsubAck {
            id: packet_id,
            codes,
        });
    }
}
