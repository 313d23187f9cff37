//! What the benches of the bus share: a bus whose clock stands still, clients, and an encoder that
//! costs next to nothing.

use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidegate_bus::*;

/// What is published to where somebody listens.
pub(crate) const TOPIC: &str = "site/7/meter/1234/power";

/// What the receivers of [`TOPIC`] subscribe to.
pub(crate) const FILTER: &str = "site/+/meter/+/power";

/// Writes the payload and nothing else: the bus's own cost is to be seen.
struct PayloadEncoder;

impl Encoder for PayloadEncoder {
    fn publish(
        &mut self,
        out: &mut Vec<u8>,
        message: &Message<'_>,
        _outgoing: &Outgoing<'_>,
    ) -> Result<(), TooLarge> {
        out.extend_from_slice(message.payload);
        Ok(())
    }

    fn release(&mut self, _out: &mut Vec<u8>, _packet_id: NonZeroU16) {}

    fn count_unacknowledged(&self, _unsent: &[u8]) -> u64 {
        0
    }
}

/// Time that does not pass: what happens every few seconds happens in no measurement.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }
}

pub(crate) fn new_bus() -> Arc<Bus> {
    Bus::new(
        Settings::default(),
        Arc::new(MemoryStore::new()),
        Arc::new(AllowAll),
        Arc::new(Standing),
    )
}

pub(crate) fn connect(bus: &Arc<Bus>, id: &str) -> Attachment {
    let id = ClientId::new(id).expect("a valid identifier");
    let claim = now_or_never(bus.claim(&id)).expect("the memory store claims");
    let request = ConnectRequest {
        clean_start: true,
        expiry: 0,
        will: None,
        receive_maximum: NonZeroU16::MAX,
        keep_alive: 0,
        encoder: Box::new(PayloadEncoder),
    };
    bus.batch(|worker| bus.attach(worker, &id, claim, request))
        .expect("attaches")
        .0
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

pub(crate) fn subscribe(client: &Attachment, filter: &str) {
    let filter = TopicFilter::new(filter).expect("a valid filter");
    let options = SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        ..Default::default()
    };
    let now = client.bus().now();
    client
        .subscribe(now, filter, options, None)
        .expect("subscribes");
}

pub(crate) fn publish(publisher: &Attachment, worker: &mut Worker, topic: TopicName<'_>, qos: QoS) {
    let mut message = Message::new(topic, &[7; 64]);
    message.qos = qos;
    let _ = black_box(publisher.publish(worker, message, None).expect("publishes"));
}

/// A thousand clients with two filters each that begin with a wildcard or hold one.
pub(crate) fn wildcards(bus: &Arc<Bus>) -> Vec<Attachment> {
    (0..1_000)
        .map(|n| {
            let client = connect(bus, &format!("other-{n}"));
            subscribe(&client, &format!("site/{n}/+/+/power"));
            subscribe(&client, &format!("+/{n}/#"));
            client
        })
        .collect()
}

/// Makes the next lookup of a topic under `site` walk the index: a subscription that comes and goes in
/// the topic's shard voids the cache.
pub(crate) fn void_cache(client: &Attachment) {
    let filter = TopicFilter::new("site/none").expect("a valid filter");
    subscribe(client, "site/none");
    client.unsubscribe(&filter).expect("holds its session");
}

/// A publisher, receivers of [`TOPIC`], and batches between them.
pub(crate) struct Delivering {
    pub(crate) bus: Arc<Bus>,
    publisher: Attachment,
    receivers: Vec<Attachment>,
    qos: QoS,
    out: Vec<u8>,
}

impl Delivering {
    /// Publishes in a batch.
    pub(crate) const BATCH: u16 = 64;

    pub(crate) fn new(receivers: usize, qos: QoS) -> Self {
        let bus = new_bus();
        let publisher = connect(&bus, "publisher");
        let receivers: Vec<_> = (0..receivers)
            .map(|n| {
                let client = connect(&bus, &format!("receiver-{n}"));
                subscribe(&client, FILTER);
                client
            })
            .collect();
        Self {
            bus,
            publisher,
            receivers,
            qos,
            out: Vec::new(),
        }
    }

    pub(crate) fn deliveries_per_batch(&self) -> u64 {
        u64::from(Self::BATCH) * self.receivers.len() as u64
    }

    /// A batch is published; every receiver takes and acknowledges what came.
    pub(crate) fn batch(&mut self) {
        let topic = TopicName::new(TOPIC).expect("a valid topic");
        self.bus.batch(|worker| {
            for _ in 0..Self::BATCH {
                publish(&self.publisher, worker, topic, self.qos);
            }
        });
        let at = self.bus.now();
        for receiver in &self.receivers {
            self.out.clear();
            let _ = receiver.take_output(&mut self.out, at);
            if self.qos == QoS::AtLeastOnce {
                for id in (1..=Self::BATCH).filter_map(NonZeroU16::new) {
                    let _ = receiver.acknowledge(at, id, false);
                }
            }
        }
    }
}
