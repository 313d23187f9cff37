//! Random changes beside a model: what is folded, cancelled, swept and read back is what it would be one by
//! one.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::*;
use tidegate_bus::{
    ClientId, Epoch, Origin, Place, Reference, SessionChange, Stage, Store, SubscriptionOptions,
    Ticket, Timestamp,
};
use tidegate_store::Engine;

/// A payload, short enough to be shown.
fn shown(payload: &[u8]) -> (String, usize) {
    let text = String::from_utf8_lossy(payload);
    (text.trim_end_matches('.').to_owned(), payload.len())
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

#[derive(Default)]
struct ModelSession {
    session: Epoch,
    epoch: Epoch,
    subscriptions: BTreeMap<String, bool>,
    received: BTreeSet<u16>,
    queue: BTreeMap<u64, (Stage, Vec<u8>)>,
    last: u64,
}

#[derive(Default)]
struct Model {
    sessions: BTreeMap<String, ModelSession>,
    retained: BTreeMap<String, Vec<u8>>,
    number: u64,
}

impl Model {
    fn step(&mut self, engine: &Engine, random: &mut Random) -> Ticket {
        let name = format!("c{}", random.below(4));
        let client = client(&name);
        let Some(s) = self.sessions.get_mut(&name) else {
            let epoch = claim(engine, &client);
            let new = ModelSession {
                session: epoch,
                epoch,
                ..ModelSession::default()
            };
            self.sessions.insert(name, new);
            return engine.change(&client, epoch, &[attached(random.below(2) == 0)]);
        };
        let tell = |s: &ModelSession, change| engine.change(&client, s.epoch, &[change]);
        let place = s.queue.keys().nth(random.below(8) as usize).copied();
        match random.below(100) {
            0 => {
                let ticket = tell(s, SessionChange::Ended);
                self.sessions.remove(&name);
                ticket
            }
            1 => {
                let epoch = claim(engine, &client);
                *s = ModelSession {
                    session: epoch,
                    epoch,
                    ..ModelSession::default()
                };
                tell(s, attached(true))
            }
            2..5 => {
                s.epoch = claim(engine, &client);
                tell(s, attached(false))
            }
            5..8 => tell(
                s,
                SessionChange::Detached {
                    ends_at: Timestamp::from_millis(5),
                    will_at: None,
                },
            ),
            8..20 => {
                let text = format!("f/{}", random.below(5));
                let owed = random.below(2) == 0;
                s.subscriptions.insert(text.clone(), owed);
                tell(
                    s,
                    SessionChange::Subscribed {
                        filter: filter(&text),
                        options: SubscriptionOptions::default(),
                        identifier: None,
                        retained_owed: owed,
                    },
                )
            }
            20..25 => {
                let text = format!("f/{}", random.below(5));
                s.subscriptions.remove(&text);
                tell(s, SessionChange::Unsubscribed(filter(&text)))
            }
            25..30 => {
                let text = format!("f/{}", random.below(5));
                if let Some(owed) = s.subscriptions.get_mut(&text) {
                    *owed = false;
                }
                tell(s, SessionChange::RetainedSent(filter(&text)))
            }
            30..38 => {
                let number = 1 + random.below(5) as u16;
                s.received.remove(&number);
                tell(s, SessionChange::Released(id(number)))
            }
            38..60 => match place {
                Some(place) => {
                    s.queue.remove(&place);
                    tell(s, SessionChange::Done(Place(place)))
                }
                None => Ticket::ready(),
            },
            60..70 => match place {
                Some(place) if s.queue[&place].0 == Stage::Queued => {
                    let packet_id = id(1 + random.below(60_000) as u16);
                    s.queue.get_mut(&place).unwrap().0 = Stage::Sent(packet_id);
                    tell(s, SessionChange::Sent(Place(place), packet_id))
                }
                Some(place) => {
                    let stage = &mut s.queue.get_mut(&place).unwrap().0;
                    if let Stage::Sent(packet_id) = *stage {
                        *stage = Stage::Received(packet_id);
                    }
                    tell(s, SessionChange::Received(Place(place)))
                }
                None => Ticket::ready(),
            },
            70..75 => {
                let topic = format!("r/{}", random.below(4));
                if random.below(3) == 0 {
                    self.retained.remove(&topic);
                    engine.retain(&topic, None)
                } else {
                    self.number += 1;
                    let payload = self.number.to_string().into_bytes();
                    let body = message(&topic, &payload);
                    self.retained.insert(topic.clone(), payload);
                    engine.retain(&topic, Some(&body))
                }
            }
            _ => self.publish(engine, random, &client),
        }
    }

    fn publish(&mut self, engine: &Engine, random: &mut Random, from: &ClientId) -> Ticket {
        self.number += 1;
        let mut payload = self.number.to_string().into_bytes();
        if random.below(4) == 0 {
            payload.resize(1_500, b'.');
        }
        let mut to = Vec::<Reference>::new();
        for (name, s) in &mut self.sessions {
            if random.below(2) == 0 {
                continue;
            }
            s.last += 1 + random.below(3);
            let mut reference = reference(&client(name), s.session, s.last);
            if random.below(3) == 0 {
                reference.entry.stage = Stage::Sent(id(1 + random.below(60_000) as u16));
            }
            s.queue
                .insert(s.last, (reference.entry.stage, payload.clone()));
            to.push(reference);
        }
        let body = message("t", &payload);
        let s = self.sessions.get_mut(from.as_str()).unwrap();
        let number = 1 + random.below(5) as u16;
        if random.below(2) == 0 && s.received.insert(number) {
            let origin = Origin {
                client: from.clone(),
                session: s.session,
                packet_id: id(number),
            };
            return publish_from(engine, &body, &to, &origin);
        }
        publish(engine, &body, &to)
    }

    fn check_queues(&self, engine: &Engine) {
        for (name, s) in &self.sessions {
            let read: Vec<_> = read(engine, &client(name), s.session)
                .into_iter()
                .map(|(entry, message)| (entry.place.0, entry.stage, message.map(|m| shown(&m.1))))
                .collect();
            let told: Vec<_> = s
                .queue
                .iter()
                .map(|(place, (stage, payload))| {
                    let gone = matches!(stage, Stage::Received(_));
                    (*place, *stage, (!gone).then(|| shown(payload)))
                })
                .collect();
            assert_eq!(read, told, "the queue of {name}");
        }
    }

    fn check_all(&self, engine: &Engine) {
        let kept = recover(engine);
        assert_eq!(kept.retained, self.retained);
        assert!(kept.sessions.keys().eq(self.sessions.keys()));
        for (name, s) in &self.sessions {
            let back = &kept.sessions[name];
            assert_eq!((back.session, back.epoch), (s.session, s.epoch));
            let subscriptions = back.subscriptions.iter();
            let subscriptions: BTreeMap<_, _> = subscriptions
                .map(|s| (s.filter.to_string(), s.retained_owed))
                .collect();
            assert_eq!(subscriptions, s.subscriptions);
            let received: BTreeSet<_> = back.received.iter().map(|id| id.get()).collect();
            assert_eq!(received, s.received);
            let queued = s.queue.values().filter(|e| e.0 == Stage::Queued);
            assert_eq!(back.queued.messages, queued.count() as u64);
            let in_flight = s.queue.iter().filter(|(_, e)| e.0 != Stage::Queued);
            let in_flight: Vec<_> = in_flight.map(|(p, e)| (*p, e.0)).collect();
            let back: Vec<_> = back
                .in_flight
                .iter()
                .map(|e| (e.place.0, e.stage))
                .collect();
            assert_eq!(back, in_flight);
        }
        assert_eq!(engine.recovered().corrupt, 0);
        self.check_queues(engine);
    }
}

#[test]
fn bursts_come_to_what_they_would_one_by_one() {
    for seed in [1, 0x9e37_79b9_7f4a_7c15, 77_777] {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let mut model = Model::default();
        for _ in 0..5 {
            let engine = open(directory.path());
            model.check_all(&engine);
            for _ in 0..40 {
                let mut last = Ticket::ready();
                for _ in 0..=random.below(60) {
                    last = model.step(&engine, &mut random);
                }
                kept(&last);
                model.check_queues(&engine);
            }
            let crashed = tempfile::tempdir().unwrap();
            copy(directory.path(), crashed.path());
            model.check_all(&open(crashed.path()));
        }
        let verified = tidegate_store::verify(directory.path(), None).unwrap();
        assert_eq!((verified.problems, verified.named), (0, vec![]));
    }
}
