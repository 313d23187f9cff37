//! Match and deliver: what one publish costs in the bus, without codec and sockets. This is for looking;
//! the figures are held by the instruction counts in `counts`.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a bench fails where it stands"
)]

mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_bus::{QoS, TopicName};

use support::{Delivering, TOPIC, connect, new_bus, publish, void_cache, wildcards};

fn benches(criterion: &mut Criterion) {
    let topic = TopicName::new(TOPIC).expect("a valid topic");

    let mut group = criterion.benchmark_group("match");
    let bus = new_bus();
    let others = wildcards(&bus);
    let publisher = connect(&bus, "publisher");
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
        bencher.iter_batched(
            || void_cache(&publisher),
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
        let mut delivering = Delivering::new(receivers, qos);
        group.throughput(Throughput::Elements(delivering.deliveries_per_batch()));
        group.bench_function(name, |bencher| bencher.iter(|| delivering.batch()));
    }
    group.finish();
}

criterion_group!(route, benches);
criterion_main!(route);
