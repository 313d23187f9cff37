//! PUBLISH of a client, and who is to receive it (MQTT 5.0 sections 3.3 and 4.3).

use std::rc::Rc;

use super::packet::{AckKind, Publish, Version};
use super::session::{KeptWill, Message, Pending};
use super::{ConnectionId, Model, matches};

/// What became of a message.
struct Routed {
    /// Somebody receives it, now or later.
    received: bool,
}

impl Model {
    pub(super) fn on_publish(&mut self, id: ConnectionId, publish: &Publish) {
        let limits = self.limits.clone();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let v5 = connection.version == Version::V5;
        let mut topic = publish.topic.clone();
        if v5 && let Some(alias) = publish.alias {
            // MQTT-3.3.2-8, -9.
            if alias == 0 || alias > limits.topic_alias_maximum {
                return self.violation(id, &[0x94]);
            }
            if topic.is_empty() {
                match connection.inbound.get(&alias) {
                    Some(known) => topic.clone_from(known),
                    // Section 3.3.2.3.4.
                    None => return self.violation(id, &[0x82]),
                }
            } else {
                connection.inbound.insert(alias, topic.clone());
            }
        }
        if topic.is_empty() {
            // MQTT-4.7.3-1; in MQTT 5 it is the missing alias (section 3.3.2.1).
            return self.violation(id, &[0x82]);
        }
        let client = connection.client.clone();
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if publish.qos == 2 && session.receiving.contains(&publish.id) {
            // MQTT-4.3.3-10.
            connection.expect_ack(AckKind::PubRec, publish.id, &[0x00, 0x10]);
            return;
        }
        // MQTT-3.3.4-7, -9.
        if v5
            && publish.qos > 0
            && connection.receiving.len() >= usize::from(limits.receive_maximum)
        {
            return self.violation(id, &[0x93]);
        }
        let too_deep = topic.split('/').count() > limits.max_levels;
        let own = topic == "$SYS" || topic.starts_with("$SYS/");
        let kind = match publish.qos {
            0 => None,
            1 => Some(AckKind::PubAck),
            _ => Some(AckKind::PubRec),
        };
        if too_deep || own {
            match kind {
                None => {}
                Some(_) if !v5 && too_deep => self.violation(id, &[]),
                Some(kind) => {
                    let code = if too_deep { 0x90 } else { 0x87 };
                    connection.expect_ack(kind, publish.id, &[code]);
                    // Before MQTT 5 the client does not learn that it was refused (MQTT-3.3.5-2 of
                    // 3.1.1), so its exchange goes on.
                    if !v5 && publish.qos == 2 {
                        session.receiving.insert(publish.id);
                        connection.receiving.insert(publish.id);
                    }
                }
            }
            return;
        }
        if publish.qos == 2 {
            session.receiving.insert(publish.id);
            connection.receiving.insert(publish.id);
        }
        let expiry = publish.expiry.filter(|_| v5);
        let message = Message {
            from: client,
            topic,
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
            expires_at: expiry.map(|seconds| self.now + u64::from(seconds)),
            tag: publish.tag.filter(|_| v5),
            is_will: false,
        };
        let routed = self.route(message);
        if let Some(kind) = kind
            && let Some(connection) = self.connections.get_mut(&id)
        {
            // 0x10 is for a message that nobody has subscribed to (section 3.4.2.1).
            let codes: &[u8] = if routed.received {
                &[0x00]
            } else {
                &[0x00, 0x10]
            };
            connection.expect_ack(kind, publish.id, codes);
        }
    }

    pub(super) fn publish_will(&mut self, kept: &KeptWill) {
        let will = &kept.will;
        self.route(Message {
            from: kept.from.clone(),
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            // It counts from the publication of the will.
            expires_at: will.expiry.map(|seconds| self.now + u64::from(seconds)),
            tag: None,
            is_will: true,
        });
    }

    fn route(&mut self, message: Message) -> Routed {
        let message = Rc::new(message);
        if message.retain {
            // MQTT-3.3.1-5 to -7.
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else {
                self.retained
                    .insert(message.topic.clone(), Rc::clone(&message));
            }
        }
        self.batches += 1;
        let batch = self.batches;
        let mut received = false;
        for (client, session) in &mut self.sessions {
            let matching: Vec<_> = session
                .subscriptions
                .values()
                .filter(|(filter, _)| matches(&filter.filter, &message.topic))
                // MQTT-3.8.3-3.
                .filter(|(filter, _)| !(filter.no_local && *client == message.from))
                .collect();
            let Some(granted) = matching.iter().map(|(filter, _)| filter.qos).max() else {
                continue;
            };
            // MQTT-3.3.4-2, section 3.8.4.
            let qos = message.qos.min(granted);
            let here = session.connection.is_some();
            let kept = here || (qos > 0 && session.expiry > 0);
            received |= kept;
            let mut identifiers: Vec<u32> = matching.iter().filter_map(|(_, id)| *id).collect();
            identifiers.sort_unstable();
            // MQTT-3.3.1-12, -13.
            let retain = message.retain && matching.iter().any(|(f, _)| f.retain_as_published);
            let filters = matching.iter().map(|(f, _)| f.filter.clone()).collect();
            let pending = Pending {
                message: Rc::clone(&message),
                qos,
                retain,
                was_retained: false,
                identifiers,
                filters,
                batch,
                may_be_left_out: false,
                may_be_dup: false,
            };
            // A connection that ends at this moment may still get it.
            let ending = self.connections.values_mut();
            for connection in ending.filter(|c| c.client == *client && c.is_ending()) {
                connection.late.push(pending.clone());
            }
            if kept {
                session.queue.push(pending);
            }
        }
        Routed { received }
    }
}
