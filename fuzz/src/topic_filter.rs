//! Topic names, topic filters and the subscription index against the plainest reading of sections 4.7
//! and 4.8 of MQTT 5.0.
//!
//! The input is lines. The first byte of a line says what is done with the rest: subscribe, end a
//! subscription, publish, retain, ask for retained messages. Whatever it is, the line is held against
//! the checkers for names and filters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_bus::{
    AllowAll, Bus, Delivery, DeliveryContext, MemoryStore, Message, Settings, Subscriber,
    Subscription, SubscriptionOptions, SystemClock, TopicFilter, TopicName,
};

use tidegate_model::matches;

/// Clients may not go deeper, and the bus relies on that.
const MOST_LEVELS: usize = 24;

/// More lines find the same.
const MOST_LINES: usize = 64;

/// Subscribers, which a line is given to by its number.
const SUBSCRIBERS: usize = 3;

/// Checks what is made of the lines.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    for (number, line) in data
        .split(|&byte| byte == b'\n')
        .take(MOST_LINES)
        .enumerate()
    {
        let Some((&what, text)) = line.split_first() else {
            continue;
        };
        check_name(text);
        let Ok(text) = std::str::from_utf8(text) else {
            continue;
        };
        check_filter(text);
        match what % 8 {
            0..3 => world.subscribe(number % SUBSCRIBERS, text),
            3 => world.unsubscribe(usize::from(what >> 3)),
            4 => world.ask(text),
            5 => world.publish(text, true),
            _ => world.publish(text, false),
        }
    }
}

// ---- names and filters by the letter -------------------------------------------------------------

fn is_name(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        // MQTT-4.7.3-1 to -3, MQTT-3.3.2-2.
        !text.is_empty() && text.len() <= 65_535 && !text.contains(['\0', '+', '#'])
    })
}

fn is_filter(text: &str) -> bool {
    if text.is_empty() || text.len() > 65_535 || text.contains('\0') {
        return false;
    }
    let mut levels: Vec<&str> = text.split('/').collect();
    if levels[0] == "$share" && levels.len() > 1 {
        // MQTT-4.8.2-1, -2: a name without wildcards, then a filter of at least one character.
        if levels.len() < 3 || levels[1].is_empty() || levels[1].contains(['+', '#']) {
            return false;
        }
        levels.drain(..2);
        if levels == [""] {
            return false;
        }
    }
    let last = levels.len() - 1;
    levels.iter().enumerate().all(|(at, level)| {
        // MQTT-4.7.1-1, -2.
        (!level.contains('#') || (*level == "#" && at == last))
            && (!level.contains('+') || *level == "+")
    })
}

/// The share name, if there is one, and the filter.
fn parts(text: &str) -> (Option<&str>, &str) {
    let shared = text
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'));
    shared.map_or((None, text), |(name, filter)| (Some(name), filter))
}

fn check_name(bytes: &[u8]) {
    let taken = TopicName::from_bytes(bytes);
    assert_eq!(taken.is_ok(), is_name(bytes), "{taken:?} {bytes:02x?}");
    let Ok(name) = taken else { return };
    assert_eq!(name.as_str().as_bytes(), bytes);
    assert!(name.levels().eq(name.as_str().split('/')));
}

fn check_filter(text: &str) {
    let taken = TopicFilter::new(text);
    assert_eq!(taken.is_ok(), is_filter(text), "{taken:?} {text:?}");
    let Ok(filter) = taken else { return };
    assert_eq!(filter.as_str(), text);
    let (share, pattern) = parts(text);
    assert_eq!((filter.share_name(), filter.pattern()), (share, pattern));
    assert_eq!(filter.has_wildcard(), pattern.contains(['+', '#']));
}

// ---- the index -----------------------------------------------------------------------------------

/// A subscriber that writes down through which subscriptions a message came.
struct Recorder {
    key: u64,
    seen: Mutex<Vec<Vec<String>>>,
}

impl Recorder {
    fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Subscriber for Recorder {
    fn key(&self) -> u64 {
        self.key
    }

    fn deliver(
        &self,
        _message: &Message<'_>,
        subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let mut filters: Vec<String> = subscriptions
            .iter()
            .map(|subscription| subscription.filter().as_str().to_owned())
            .collect();
        filters.sort_unstable();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(filters);
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

struct World {
    bus: Arc<Bus>,
    recorders: Vec<Arc<Recorder>>,
    /// What each has subscribed to.
    standing: Vec<(usize, Arc<Subscription>)>,
    retained: BTreeMap<String, Vec<u8>>,
    published: u64,
}

impl World {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.max_topic_levels = MOST_LEVELS;
        settings.max_topic_bytes = 65_535;
        let bus = Bus::new(
            settings,
            Arc::new(MemoryStore::new()),
            Arc::new(AllowAll),
            Arc::new(SystemClock::new()),
        );
        let recorders = (0..SUBSCRIBERS).map(|_| {
            Arc::new(Recorder {
                key: bus.new_subscriber_key(),
                seen: Mutex::default(),
            })
        });
        Self {
            recorders: recorders.collect(),
            bus,
            standing: Vec::new(),
            retained: BTreeMap::new(),
            published: 0,
        }
    }

    fn subscribe(&mut self, who: usize, text: &str) {
        let Ok(filter) = TopicFilter::new(text) else {
            return;
        };
        // A client has one subscription of a filter, and the bus does not look at its depth here.
        let known = |(other, standing): &(usize, Arc<Subscription>)| {
            *other == who && standing.filter() == &filter
        };
        if self.standing.iter().any(known) || text.split('/').count() > MOST_LEVELS {
            return;
        }
        let options = SubscriptionOptions::default();
        let subscription = Arc::new(Subscription::new(filter, options, None));
        let recorder = Arc::clone(&self.recorders[who]) as _;
        self.bus
            .add_subscription(recorder, Arc::clone(&subscription));
        self.standing.push((who, subscription));
    }

    fn unsubscribe(&mut self, which: usize) {
        if self.standing.is_empty() {
            return;
        }
        let (_, subscription) = self.standing.swap_remove(which % self.standing.len());
        assert!(self.bus.remove_subscription(&subscription));
        assert!(!self.bus.remove_subscription(&subscription), "twice");
    }

    fn publish(&mut self, text: &str, retain: bool) {
        let Ok(topic) = TopicName::new(text) else {
            return;
        };
        if text.split('/').count() > MOST_LEVELS {
            return;
        }
        self.published += 1;
        // Now and then a retained message is taken back.
        let payload = if retain && self.published.is_multiple_of(3) {
            Vec::new()
        } else {
            self.published.to_le_bytes().to_vec()
        };
        let mut message = Message::new(topic, &payload);
        message.retain = retain;
        let published = self
            .bus
            .batch(|worker| self.bus.publish(worker, message).map(drop));
        assert!(published.is_ok(), "{published:?} {text:?}");
        if retain && payload.is_empty() {
            self.retained.remove(text);
        } else if retain {
            self.retained.insert(text.to_owned(), payload);
        }
        self.check_receivers(text);
    }

    /// Everybody got it once for all plain subscriptions together (section 3.3.4), and of each shared
    /// group one member (MQTT-4.8.2-3).
    fn check_receivers(&self, topic: &str) {
        let seen: Vec<_> = self
            .recorders
            .iter()
            .map(|recorder| recorder.take())
            .collect();
        let mut groups: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        let mut plain: Vec<Vec<String>> = vec![Vec::new(); SUBSCRIBERS];
        for (who, subscription) in &self.standing {
            let text = subscription.filter().as_str();
            let (share, filter) = parts(text);
            if !matches(filter, topic) {
                continue;
            }
            match share {
                None => plain[*who].push(text.to_owned()),
                Some(name) => groups
                    .entry((name.to_owned(), text.to_owned()))
                    .or_default()
                    .push(*who),
            }
        }
        for (who, filters) in plain.iter_mut().enumerate() {
            filters.sort_unstable();
            let wanted = usize::from(!filters.is_empty());
            let got = seen[who].iter().filter(|got| *got == filters).count();
            let of_plain = seen[who]
                .iter()
                .filter(|got| !got.iter().all(|filter| parts(filter).0.is_some()))
                .count();
            assert!(
                got >= wanted && of_plain == wanted,
                "{topic:?} came to {who} through {:?} instead of {filters:?}",
                seen[who]
            );
        }
        for ((_, filter), members) in &groups {
            let of_group = |who: &usize| {
                let got = seen[*who].iter();
                got.filter(|got| **got == [filter.clone()]).count()
            };
            let got: usize = members.iter().map(of_group).sum();
            assert_eq!(got, 1, "{topic:?} through {filter:?}: {seen:?}");
        }
        let expected = groups.len() + plain.iter().filter(|filters| !filters.is_empty()).count();
        let got: usize = seen.iter().map(Vec::len).sum();
        assert_eq!(got, expected, "{topic:?}: {seen:?}");
    }

    /// The retained messages of a filter.
    fn ask(&self, text: &str) {
        let Ok(filter) = TopicFilter::new(text) else {
            return;
        };
        let mut found: Vec<_> = self
            .bus
            .retained(&filter)
            .iter()
            .map(|message| {
                (
                    message.topic().to_owned(),
                    message.as_message().payload.to_vec(),
                )
            })
            .collect();
        found.sort_unstable();
        let pattern = parts(text).1;
        let expected: Vec<_> = self
            .retained
            .iter()
            .filter(|(topic, _)| matches(pattern, topic))
            .map(|(topic, payload)| (topic.clone(), payload.clone()))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }
}
