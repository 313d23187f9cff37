//! What a broker does wrong, the load tells: exactly, and without hanging.

use std::process;
use std::thread;
use std::time::Duration;

use tidegate_bench::{
    Measurement, Order, Pace, Queues, Reply, Retained, Shape, Traffic, Version, Workload,
};

use crate::broker::{Fault, FaultyBroker};
use crate::run::{failed, measured, one_to_one, order, replies_to};

/// Which message a fault strikes: one of many.
const STRUCK: usize = 40;

/// Traffic at a broker with this fault. What counts begins with the first message, and the broker is in
/// this process.
fn to(fault: Fault, traffic: Traffic) -> Order {
    let broker = FaultyBroker::with(fault);
    order(broker.address(), process::id(), Workload::Traffic(traffic))
}

/// Lost, duplicated, out of order.
#[track_caller]
fn assert_counts(fault: Fault, traffic: &Traffic, expected: (u64, u64, u64)) {
    let measured = measured(&to(fault, traffic.clone()));
    let counts = (measured.lost, measured.duplicated, measured.out_of_order);
    assert_eq!(counts, expected, "{fault:?}, {traffic:?}: {measured:?}");
    assert!(measured.deliveries > STRUCK as u64, "{measured:?}");
}

/// What is told apart per receiver, and what over a group.
fn kinds() -> [Traffic; 3] {
    let pair = one_to_one();
    let acknowledged = Traffic {
        qos: 1,
        ..one_to_one()
    };
    let shared = Traffic {
        shape: Shape::Shared,
        subscribers: 3,
        ..one_to_one()
    };
    [pair, acknowledged, shared]
}

#[test]
fn nothing_is_wrong_with_a_broker_that_is_right() {
    for traffic in kinds() {
        assert_counts(Fault::None, &traffic, (0, 0, 0));
    }
}

#[test]
fn a_lost_message_is_lost() {
    // At once: most of it is waiting for what may still come.
    thread::scope(|scope| {
        for traffic in kinds() {
            scope.spawn(move || assert_counts(Fault::Loses(STRUCK), &traffic, (1, 0, 0)));
        }
    });
}

#[test]
fn a_message_that_is_lost_to_all_is_lost_to_each() {
    let traffic = Traffic {
        shape: Shape::All,
        subscribers: 4,
        ..one_to_one()
    };
    assert_counts(Fault::Loses(STRUCK), &traffic, (4, 0, 0));
}

#[test]
fn a_message_that_comes_twice_is_duplicated() {
    for traffic in kinds() {
        assert_counts(Fault::Doubles(STRUCK), &traffic, (0, 1, 0));
    }
}

#[test]
fn a_message_after_its_successor_is_out_of_order_and_not_lost() {
    let [pair, acknowledged, _] = kinds();
    for traffic in [pair, acknowledged] {
        assert_counts(Fault::Swaps(STRUCK), &traffic, (0, 0, 1));
    }
    let shared_alone = Traffic {
        shape: Shape::Shared,
        ..one_to_one()
    };
    assert_counts(Fault::Swaps(STRUCK), &shared_alone, (0, 0, 1));
}

#[test]
fn warm_up_does_not_count() {
    let order = Order {
        warm_up: 0.3,
        ..to(Fault::Loses(STRUCK), one_to_one())
    };
    assert_eq!(measured(&order).lost, 0);
}

#[test]
fn a_broker_that_delivers_nothing_loses_the_window() {
    let measured = measured(&to(Fault::LosesAll, one_to_one()));
    let Measurement {
        deliveries, lost, ..
    } = measured;
    assert_eq!((deliveries, lost), (0, 16), "{measured:?}");
    assert_eq!(measured.latency, None);
}

#[test]
fn a_broker_that_keeps_no_session_is_told() {
    let queues = Workload::Queues(Queues {
        version: Version::V5,
        sessions: 2,
        publishers: 1,
        messages: 10,
        payload: 64,
        window: 4,
    });
    let broker = FaultyBroker::with(Fault::None);
    assert_eq!(
        failed(&order(broker.address(), process::id(), queues)),
        "the broker has no session 0 any more"
    );
}

/// A storm of which the fault strikes the fifth round.
fn storm_at(fault: Fault) -> Order {
    let retained = Retained {
        version: Version::V3,
        messages: STRUCK as u32 / 4,
        qos: 0,
        payload: 64,
        subscribers: 1,
    };
    let broker = FaultyBroker::with(fault);
    let retained = Workload::Retained(retained);
    order(broker.address(), process::id(), retained)
}

#[test]
fn a_storm_that_stopped_before_the_count_is_told() {
    let order = Order {
        warm_up: 0.1,
        ..storm_at(Fault::Loses(STRUCK))
    };
    assert_eq!(
        failed(&order),
        "nothing came in the time that counts, and 1 messages are missing"
    );
}

#[test]
fn a_storm_tells_what_is_lost_and_what_comes_twice() {
    thread::scope(|scope| {
        for (fault, expected) in [
            (Fault::None, (0, 0)),
            (Fault::Loses(STRUCK), (1, 0)),
            (Fault::Doubles(STRUCK), (0, 1)),
        ] {
            scope.spawn(move || {
                let measured = measured(&storm_at(fault));
                let counts = (measured.lost, measured.duplicated);
                assert_eq!(counts, expected, "{fault:?}: {measured:?}");
            });
        }
    });
}

#[test]
fn an_open_loop_charges_a_rest_to_all_who_wait() {
    let rest = Duration::from_millis(500);
    // Too large for the sockets to take what is due meanwhile: the load cannot send it in time.
    let traffic = Traffic {
        payload: 64 * 1024,
        pace: Pace::Rate(1_000),
        ..one_to_one()
    };
    let order = Order {
        seconds: 0.6,
        ..to(Fault::Rests(100, rest), traffic)
    };
    let measured = measured(&order);
    let latency = measured.latency.unwrap();
    // Five of six messages are due while it rests. In a closed loop it would be a window of them, and from
    // when they were really sent only those that the sockets took.
    assert!(latency.p50 > 100_000.0, "{measured:?}");
    assert_eq!(measured.lost, 0, "{measured:?}");
}

#[test]
fn a_failure_says_what_happened_and_to_whom() {
    let at_qos_1 = || Traffic {
        qos: 1,
        ..one_to_one()
    };
    for (fault, expected) in [
        (
            Fault::Refuses(5),
            "connection 0 (subscriber): the broker refused CONNECT with code 0x05",
        ),
        (
            Fault::ClosesAfterConnect,
            "connection 0 (subscriber): the broker closed the connection after CONNECT",
        ),
        (
            Fault::RefusesSubscribe,
            "connection 0 (subscriber): the broker refused SUBSCRIBE with code 0x80",
        ),
        (
            Fault::LowersQos,
            "connection 0 (subscriber): the broker granted QoS 0 instead of 1",
        ),
        (
            Fault::ClosesAfterSubscribe,
            "connection 0 (subscriber): closed by the broker",
        ),
        (
            Fault::Closes(STRUCK),
            "connection 0 (publisher): closed by the broker",
        ),
        (
            Fault::Alters(STRUCK),
            "connection 0 (subscriber): the broker delivered a message of another length",
        ),
    ] {
        let why = failed(&to(fault, at_qos_1()));
        assert!(why.starts_with(expected), "{fault:?}: {why}");
    }
}

#[test]
fn a_broker_that_does_less_than_the_others_has_no_figures() {
    let acknowledged = Traffic {
        qos: 1,
        ..one_to_one()
    };
    let with_properties = Traffic {
        version: Version::V5,
        properties: true,
        ..acknowledged.clone()
    };
    assert_counts(Fault::None, &with_properties, (0, 0, 0));
    for (fault, traffic, expected) in [
        (
            Fault::Downgrades(STRUCK),
            &acknowledged,
            "connection 0 (subscriber): the broker delivered QoS 0 instead of 1",
        ),
        (
            Fault::Strips(STRUCK),
            &with_properties,
            "connection 0 (subscriber): the broker delivered a message without its properties",
        ),
        (
            Fault::Forgets(STRUCK),
            &acknowledged,
            "the broker did not acknowledge 1 publishes",
        ),
        (
            Fault::GrantsNothing,
            &acknowledged,
            "connection 0 (subscriber): the broker granted 0 of 1 filters",
        ),
    ] {
        let why = failed(&to(fault, traffic.clone()));
        assert_eq!(why, expected, "{fault:?}");
    }
}

#[test]
fn an_order_that_makes_no_sense_fails() {
    for (traffic, expected) in [
        (
            Traffic {
                subscribers: 2,
                ..one_to_one()
            },
            "pairs are as many publishers as subscribers",
        ),
        (
            Traffic {
                qos: 3,
                ..one_to_one()
            },
            "there is no QoS 3",
        ),
        (
            Traffic {
                payload: 8,
                ..one_to_one()
            },
            "the payload needs",
        ),
        (
            Traffic {
                properties: true,
                ..one_to_one()
            },
            "MQTT 3.1.1 has no properties",
        ),
        (
            Traffic {
                pace: Pace::Rate(0),
                ..one_to_one()
            },
            "a pace of nothing",
        ),
    ] {
        let why = failed(&to(Fault::None, traffic));
        assert!(why.starts_with(expected), "{why}");
    }
    let order = to(
        Fault::None,
        Traffic {
            version: Version::V5,
            ..one_to_one()
        },
    );
    let why = failed(&Order {
        pid: 0x7FFF_FFFF,
        ..order
    });
    assert!(why.starts_with("there is no process"), "{why}");
    match replies_to("{}").pop() {
        Some(Reply::Failed(why)) => assert!(why.starts_with("no order"), "{why}"),
        other => panic!("{other:?}"),
    }
}
