//! Match and deliver: what one publish costs in the bus, without codec and sockets.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a bench fails where it stands"
)]

use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_bus::*;

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

fn new_bus() -> Arc<Bus> {
    Bus::new(
        Settings::default(),
        Arc::new(MemoryStore::new()),
        Arc::new(AllowAll),
        Arc::new(SystemClock::new()),
    )
}

fn connect(bus: &Arc<Bus>, runtime: &ready::Ready, id: &str) -> Attachment {
    let id = ClientId::new(id).expect("a valid identifier");
    let claim = runtime
        .run(bus.claim(&id))
        .expect("the memory store claims");
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

/// Runs futures that are ready at once.
mod ready {
    use std::task::{Context, Poll, Waker};

    pub(super) struct Ready;

    impl Ready {
        pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
            let mut future = std::pin::pin!(future);
            match future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(value) => value,
                Poll::Pending => unreachable!("the memory store never waits"),
            }
        }
    }
}

fn subscribe(client: &Attachment, filter: &str) {
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

fn publish(publisher: &Attachment, worker: &mut Worker, topic: TopicName<'_>, qos: QoS) {
    let mut message = Message::new(topic, &[7; 64]);
    message.qos = qos;
    let _ = black_box(publisher.publish(worker, message, None).expect("publishes"));
}

fn benches(criterion: &mut Criterion) {
    let now = ready::Ready;
    let topic = TopicName::new("site/7/meter/1234/power").expect("a valid topic");

    let mut group = criterion.benchmark_group("match");
    let bus = new_bus();
    let others: Vec<_> = (0..1_000)
        .map(|n| {
            let client = connect(&bus, &now, &format!("other-{n}"));
            subscribe(&client, &format!("site/{n}/+/+/power"));
            subscribe(&client, &format!("+/{n}/#"));
            client
        })
        .collect();
    let publisher = connect(&bus, &now, "publisher");
    // A batch of many, so that its beginning and end weigh little.
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("unmatched_cached", |bencher| {
        let topic = TopicName::new("nobody/listens").expect("a valid topic");
        bencher.iter(|| {
            bus.batch(|worker| {
                for _ in 0..1_000 {
                    publish(&publisher, worker, topic, QoS::AtMostOnce);
                }
            });
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("index_walk_among_2000_wildcards", |bencher| {
        // A subscription that comes and goes in the topic's shard voids the cache.
        let filter = TopicFilter::new("site/none").expect("a valid filter");
        bencher.iter_batched(
            || {
                subscribe(&publisher, "site/none");
                publisher.unsubscribe(&filter).expect("holds its session");
            },
            |()| bus.batch(|worker| publish(&publisher, worker, topic, QoS::AtMostOnce)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    drop(others);

    let mut group = criterion.benchmark_group("deliver");
    for (name, receivers, qos) in [
        ("one_to_one_qos0", 1, QoS::AtMostOnce),
        ("fan_out_100_qos0", 100, QoS::AtMostOnce),
        ("one_to_one_qos1", 1, QoS::AtLeastOnce),
    ] {
        let bus = new_bus();
        let publisher = connect(&bus, &now, "publisher");
        let receivers: Vec<_> = (0..receivers)
            .map(|n| {
                let client = connect(&bus, &now, &format!("receiver-{n}"));
                subscribe(&client, "site/+/meter/+/power");
                client
            })
            .collect();
        group.throughput(Throughput::Elements(64 * receivers.len() as u64));
        group.bench_function(name, |bencher| {
            let mut out = Vec::new();
            bencher.iter(|| {
                bus.batch(|worker| {
                    for _ in 0..64 {
                        publish(&publisher, worker, topic, qos);
                    }
                });
                let at = bus.now();
                for receiver in &receivers {
                    out.clear();
                    let _ = receiver.take_output(&mut out, at);
                    if qos == QoS::AtLeastOnce {
                        for id in (1..=64).filter_map(NonZeroU16::new) {
                            let _ = receiver.acknowledge(at, id, false);
                        }
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(route, benches);
criterion_main!(route);
