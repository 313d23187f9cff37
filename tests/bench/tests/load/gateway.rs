//! Every workload against the gateway, which loses, doubles and reorders nothing.

use tidegate_bench::{
    Handshakes, Idle, Measurement, Order, Pace, Queues, Reply, Retained, Shape, Traffic, Version,
    Workload,
};
use tidegate_tests::wire::Connect;
use tidegate_tests::{Gateway, Transport};

use crate::run::{failed, measured, one_to_one, order, replies};

/// A gateway, unless the suites run against another broker.
fn gateway() -> Option<Gateway> {
    Gateway::configured("")
}

fn to(gateway: &Gateway, workload: Workload) -> Order {
    order(gateway.mqtt(), gateway.pid(), workload)
}

#[track_caller]
fn assert_complete(measured: &Measurement, what: &str) {
    let Measurement {
        lost,
        duplicated,
        out_of_order,
        ..
    } = *measured;
    assert_eq!(
        (lost, duplicated, out_of_order),
        (0, 0, 0),
        "{what}: {measured:?}"
    );
    assert!(measured.deliveries > 0, "{what}: {measured:?}");
    assert!(measured.broker_cpu > 0.0, "{what}: {measured:?}");
    assert!(measured.load_cpu > 0.0, "{what}: {measured:?}");
    assert!(measured.resident > 1 << 20, "{what}: {measured:?}");
    let latency = measured.latency.unwrap();
    assert!(latency.p50 > 0.0, "{what}: {measured:?}");
    assert!(latency.p50 <= latency.p99, "{what}: {measured:?}");
    assert!(latency.p99 <= latency.p999, "{what}: {measured:?}");
}

#[track_caller]
fn assert_traffic_is_complete(traffic: Traffic) {
    let Some(gateway) = gateway() else {
        return;
    };
    let what = format!("{traffic:?}");
    let order = Order {
        warm_up: 0.05,
        ..to(&gateway, Workload::Traffic(traffic))
    };
    assert_complete(&measured(&order), &what);
    assert_eq!(gateway.dropped(), 0, "{what}");
}

#[test]
fn pairs() {
    for qos in 0..3 {
        assert_traffic_is_complete(Traffic {
            publishers: 5,
            subscribers: 5,
            qos,
            ..one_to_one()
        });
    }
}

#[test]
fn fan_in_and_fan_out() {
    for (publishers, subscribers) in [(5, 1), (1, 5)] {
        for qos in 0..3 {
            assert_traffic_is_complete(Traffic {
                version: Version::V5,
                shape: Shape::All,
                publishers,
                subscribers,
                qos,
                ..one_to_one()
            });
        }
    }
}

#[test]
fn shared() {
    for qos in 0..3 {
        assert_traffic_is_complete(Traffic {
            version: Version::V5,
            shape: Shape::Shared,
            publishers: 5,
            subscribers: 3,
            qos,
            ..one_to_one()
        });
    }
}

#[test]
fn large_payloads_over_several_topics() {
    for qos in 0..3 {
        assert_traffic_is_complete(Traffic {
            payload: 16 * 1024,
            topics: 12,
            qos,
            ..one_to_one()
        });
    }
}

#[test]
fn properties_and_idle_filters() {
    assert_traffic_is_complete(Traffic {
        version: Version::V5,
        qos: 1,
        idle_filters: 250,
        properties: true,
        ..one_to_one()
    });
}

#[test]
fn an_open_loop_sends_what_its_rate_says() {
    let Some(gateway) = gateway() else {
        return;
    };
    for qos in 0..3 {
        let traffic = Traffic {
            publishers: 3,
            subscribers: 3,
            qos,
            pace: Pace::Rate(2_000),
            ..one_to_one()
        };
        let measured = measured(&to(&gateway, Workload::Traffic(traffic)));
        assert_complete(&measured, "open loop");
        let due = measured.seconds * 2_000.0 + 1.0;
        let deliveries = measured.deliveries as f64;
        assert!(deliveries <= due, "{measured:?}");
        // Nobody waits for a window: no more is missing than what was on its way in the end.
        assert!(deliveries >= due / 10.0, "{measured:?}");
    }
}

#[test]
fn a_window_above_the_receive_maximum_is_lowered_and_said() {
    let Some(gateway) = Gateway::configured("[limits]\nreceive_maximum = 7") else {
        return;
    };
    let traffic = Traffic {
        version: Version::V5,
        qos: 1,
        ..one_to_one()
    };
    let replies = replies(&to(&gateway, Workload::Traffic(traffic)));
    let lowered = Reply::Progress("the broker lowers the window to 7".to_owned());
    assert!(replies.contains(&lowered), "{replies:?}");
    match replies.last() {
        Some(Reply::Measured(measured)) => assert_complete(measured, "receive maximum"),
        other => panic!("{other:?}"),
    }
}

/// An order to what carries MQTT so.
fn over(transport: Transport, gateway: &Gateway, workload: Workload) -> Order {
    let scheme = transport.scheme();
    Order {
        scheme: scheme.to_owned(),
        authority: transport.is_encrypted().then(|| gateway.authority()),
        ..order(gateway.address(scheme), gateway.pid(), workload)
    }
}

#[test]
fn traffic_over_what_is_encrypted() {
    let Some(gateway) = gateway() else {
        return;
    };
    for transport in [Transport::Tls, Transport::Quic] {
        for qos in 0..3 {
            // The second is more than the gateway lets a client send ahead.
            for (version, payload, pace) in [
                (Version::V3, 64, Pace::Window(64)),
                (Version::V5, 16 * 1024, Pace::Window(64)),
                (Version::V3, 64, Pace::Rate(2_000)),
            ] {
                let traffic = Traffic {
                    version,
                    publishers: 5,
                    subscribers: 5,
                    qos,
                    payload,
                    pace,
                    idle_filters: 10,
                    ..one_to_one()
                };
                let order = Order {
                    warm_up: 0.05,
                    ..over(transport, &gateway, Workload::Traffic(traffic))
                };
                assert_complete(&measured(&order), &format!("{order:?}"));
            }
        }
    }
    assert_eq!(gateway.dropped(), 0);
}

#[test]
fn handshakes_over_each_transport() {
    let Some(gateway) = gateway() else {
        return;
    };
    for transport in [Transport::Tcp, Transport::Tls, Transport::Quic] {
        let handshakes = Workload::Handshakes(Handshakes {
            version: Version::V5,
            at_once: 4,
        });
        let order = Order {
            warm_up: 0.05,
            seconds: 0.5,
            ..over(transport, &gateway, handshakes)
        };
        let measured = measured(&order);
        let connections = measured.connections.unwrap();
        assert!(connections.rate > 0.0, "{transport:?}: {measured:?}");
        assert!(connections.cpu > 0.0, "{transport:?}: {measured:?}");
        assert_eq!(connections.bytes, None, "{transport:?}: nobody stays");
    }
}

#[test]
fn a_client_that_is_refused_ends_the_handshakes() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_connections = 2") else {
        return;
    };
    let handshakes = Workload::Handshakes(Handshakes {
        version: Version::V5,
        at_once: 8,
    });
    let order = Order {
        seconds: 60.0,
        ..over(Transport::Tcp, &gateway, handshakes)
    };
    let why = failed(&order);
    assert!(why.contains("connection"), "{why}");
}

#[test]
fn connections_over_quic_that_the_broker_has_closed_are_told() {
    let Some(gateway) = Gateway::configured("[listeners.quic]\nquic.idle_timeout = \"1s\"") else {
        return;
    };
    let idle = Workload::Idle(Idle {
        version: Version::V3,
        first: 1,
        connections: 3,
        settle: 1.5,
    });
    let why = failed(&over(Transport::Quic, &gateway, idle));
    assert!(why.contains("the broker closed 3 of 3"), "{why}");
}

#[test]
fn idle_connections_over_each_transport() {
    let Some(gateway) = gateway() else {
        return;
    };
    for transport in [
        Transport::Tcp,
        Transport::Tls,
        Transport::Ws,
        Transport::Quic,
    ] {
        let idle = Workload::Idle(Idle {
            version: Version::V5,
            first: 20,
            connections: 100,
            settle: 0.05,
        });
        let measured = measured(&over(transport, &gateway, idle));
        let connections = measured.connections.unwrap();
        assert!(connections.rate > 0.0, "{transport:?}: {measured:?}");
        assert!(connections.cpu > 0.0, "{transport:?}: {measured:?}");
        assert!(connections.bytes.is_some(), "{transport:?}: {measured:?}");
    }
}

#[test]
fn connections_that_no_limit_allows_do_not_fit() {
    let idle = Workload::Idle(Idle {
        version: Version::V3,
        first: 1,
        connections: u32::MAX,
        settle: 0.0,
    });
    let nobody = "127.0.0.1:1".parse().unwrap();
    match replies(&order(nobody, std::process::id(), idle)).pop() {
        Some(Reply::DoesNotFit(why)) => assert!(why.contains("4294967"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn retained_messages_come_with_each_subscription_and_are_cleared() {
    let Some(gateway) = gateway() else {
        return;
    };
    for qos in 0..3 {
        for version in [Version::V3, Version::V5] {
            let retained = Workload::Retained(Retained {
                version,
                messages: 150,
                qos,
                payload: 64,
                subscribers: 2,
            });
            let order = Order {
                seconds: 0.1,
                ..to(&gateway, retained)
            };
            assert_complete(&measured(&order), &format!("{order:?}"));
        }
    }
    let mut client = Connect::v5("after").open(gateway.mqtt());
    client.subscribe("bench/#", 0);
    assert_eq!(client.fence(), [], "retained messages are left");
}

#[test]
fn sessions_that_are_kept_among_the_traffic() {
    for shape in [Shape::Pairs, Shape::All] {
        for version in [Version::V3, Version::V5] {
            assert_traffic_is_complete(Traffic {
                version,
                shape,
                publishers: 5,
                subscribers: if shape == Shape::All { 1 } else { 5 },
                qos: 1,
                durable: true,
                ..one_to_one()
            });
        }
    }
}

#[test]
fn who_comes_back_receives_all_that_was_published_meanwhile() {
    let Some(gateway) = gateway() else {
        return;
    };
    for version in [Version::V3, Version::V5] {
        let queues = Queues {
            version,
            sessions: 3,
            publishers: 2,
            messages: 500,
            payload: 64,
            window: 16,
        };
        let order = Order {
            metrics: Some(gateway.http()),
            data: Some(gateway.directory().to_path_buf()),
            ..to(&gateway, Workload::Queues(queues))
        };
        let measured = measured(&order);
        let Measurement {
            deliveries,
            lost,
            duplicated,
            out_of_order,
            ..
        } = measured;
        assert_eq!(
            (deliveries, lost, duplicated, out_of_order),
            (3_000, 0, 0, 0),
            "{measured:?}"
        );
        let durable = measured.durable.unwrap();
        assert_eq!(durable.acknowledged, 1_000);
        // Topic, payload and the bytes around them.
        assert!((75..85).contains(&durable.bytes), "{durable:?}");
        assert!(durable.syncs.unwrap() > 0, "{durable:?}");
        let queued = measured.queues.unwrap();
        assert!(queued.peak >= queued.before, "{queued:?}");
        assert!(queued.disk.is_some(), "{queued:?}");
    }
}
