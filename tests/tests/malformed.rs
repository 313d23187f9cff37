//! Bad input: whatever arrives on a socket, a clear reason code where the version has one, the
//! connection closed, every other client undisturbed, no memory spent (MQTT 5.0 section 4.13). That each
//! error ends the connection is in `tests/conformance`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Ack, Client, Connect, Event, Publish, Version, code};
use tidegate_tests::{Gateway, Noise, unique};

/// The packets of `vectors/mqtt5-strict.json` that a server must not take.
#[track_caller]
fn rejected() -> Vec<Vec<u8>> {
    let text = include_str!("../vectors/mqtt5-strict.json");
    let vectors: serde_json::Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("the vectors: {error}"));
    let all = vectors.as_array().into_iter().flatten();
    let rejected = all
        .filter(|vector| vector["expect"] == "reject")
        .map(|vector| {
            let hex = vector["hex"].as_str().unwrap_or_default();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
            let bytes: Result<Vec<u8>, _> = (0..hex.len()).step_by(2).map(byte).collect();
            bytes.unwrap_or_else(|error| panic!("{hex}: {error}"))
        });
    let rejected: Vec<Vec<u8>> = rejected.collect();
    assert!(rejected.len() > 30, "the vectors are there");
    rejected
}

/// Sends the bytes where they belong: a CONNECT first, anything else after one.
#[track_caller]
fn send(gateway: &Gateway, bytes: &[u8]) -> Client {
    let mut client = if bytes[0] >> 4 == 1 {
        Client::dial(gateway.mqtt(), Version::V5)
    } else {
        Connect::v5(&unique("malformed")).open(gateway.mqtt())
    };
    client.send(bytes);
    client
}

#[test]
fn mqtt5_4_13_a_live_client_is_told_why() {
    let gateway = Gateway::start();
    let cases: [(&str, &[u8], &[u8]); 12] = [
        ("QoS 3", &[0x36, 6, 0, 1, b't', 0, 1, 0], &[code::MALFORMED]),
        (
            "a wildcard in a topic",
            &[0x30, 6, 0, 3, b'a', b'/', b'#', 0],
            &[code::TOPIC_INVALID, code::MALFORMED, code::PROTOCOL_ERROR],
        ),
        (
            "topic alias 0",
            &[0x30, 7, 0, 1, b't', 3, 0x23, 0, 0],
            &[code::ALIAS_INVALID, code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "payload format 2",
            &[0x30, 7, 0, 1, b't', 2, 1, 2, b'P'],
            &[code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "neither topic nor alias",
            &[0x30, 3, 0, 0, 0],
            &[code::PROTOCOL_ERROR, code::TOPIC_INVALID],
        ),
        (
            "a property twice",
            &[0x30, 8, 0, 1, b't', 4, 1, 0, 1, 0],
            &[code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "SUBSCRIBE with wrong flags",
            &[0x80, 7, 0, 1, 0, 0, 1, b't', 0],
            &[code::MALFORMED],
        ),
        (
            "SUBSCRIBE without filters",
            &[0x82, 3, 0, 1, 0],
            &[code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "retain handling 3",
            &[0x82, 7, 0, 1, 0, 0, 1, b't', 0x30],
            &[code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "a subscription identifier from a client (3.3.4-6)",
            &[0x30, 6, 0, 1, b't', 2, 0x0B, 1],
            &[code::PROTOCOL_ERROR, code::MALFORMED],
        ),
        (
            "packet type 0",
            &[0x00, 0],
            &[code::MALFORMED, code::PROTOCOL_ERROR],
        ),
        (
            "a length of five bytes",
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[code::MALFORMED],
        ),
    ];
    for (what, bytes, expected) in cases {
        let told = send(&gateway, bytes).expect_error();
        assert!(
            told.is_some_and(|code| expected.contains(&code)),
            "{what}: {told:02x?}"
        );
    }
}

#[test]
fn what_came_before_an_error_is_processed() {
    let gateway = Gateway::start();
    let topic = unique("before");
    let mut watcher = Connect::v5(&unique("watcher")).open(gateway.mqtt());
    watcher.subscribe(&topic, 0);
    for version in Version::ALL {
        let mut client = Connect::new(version, &unique("before")).open(gateway.mqtt());
        let mut bytes = Publish::new(&topic, "before").encode(version);
        bytes.extend([0x00, 0x00]);
        client.send(&bytes);
        client.expect_error();
        assert_eq!(watcher.receive().text(), "before", "{version:?}");
    }
}

#[test]
fn a_thousand_malformed_connections_leave_the_others_traffic_complete() {
    let gateway = Gateway::start();
    let topic = unique("undisturbed");
    let vectors = rejected();
    let (done, attacks) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let traffic: Vec<_> = (0..=2)
            .map(|qos| {
                let (topic, gateway, done) = (format!("{topic}/{qos}"), &gateway, &done);
                let mut receiver = Connect::v5(&unique("receiver")).open(gateway.mqtt());
                receiver.subscribe(&topic, qos);
                scope.spawn(move || {
                    let mut sender = Connect::v311(&unique("sender")).open(gateway.mqtt());
                    let mut sent = 0_u32;
                    // As long as the attack lasts, and never less than some.
                    while sent < 300 || !done.load(Ordering::Relaxed) {
                        sender.publish(&Publish::new(&topic, sent.to_string()).qos(qos));
                        assert_eq!(receiver.receive().text(), sent.to_string());
                        sent += 1;
                    }
                    receiver.expect_nothing();
                    sent
                })
            })
            .collect();
        let attackers: Vec<_> = (0..4_u64)
            .map(|number| {
                let (gateway, vectors, attacks) = (&gateway, &vectors, &attacks);
                scope.spawn(move || {
                    let mut noise = Noise::new(0x9E37_79B9_7F4A_7C15 ^ number);
                    for round in 0..250 {
                        let mut bytes =
                            vectors[(round * 4 + number as usize) % vectors.len()].clone();
                        if round % 3 == 1 {
                            bytes = noise.bytes(1 + round % 60);
                        }
                        let version = Version::ALL[round % 3];
                        let mut client = if round % 5 == 0 {
                            Client::dial(gateway.mqtt(), version)
                        } else {
                            Connect::new(version, &unique("attacker")).open(gateway.mqtt())
                        };
                        // The server may close at the first byte.
                        let _ = client.try_send(&bytes);
                        if round % 7 == 0 {
                            client.vanish();
                        }
                        attacks.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = attackers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        // First of all, so that a failure does not leave the traffic running for ever.
        done.store(true, Ordering::Relaxed);
        assert!(
            outcomes.iter().all(Result::is_ok),
            "an attacker could not connect"
        );
        for thread in traffic {
            assert!(thread.join().unwrap() >= 300);
        }
    });
    assert_eq!(attacks.into_inner(), 1_000);
}

#[test]
fn random_bytes_never_disturb_the_gateway() {
    let gateway = Gateway::start();
    let topic = unique("calm");
    let mut calm = Connect::v5(&unique("calm")).open(gateway.mqtt());
    calm.subscribe(&topic, 1);
    let mut noise = Noise::new(42);
    for round in 0..300 {
        let mut client = if round % 2 == 0 {
            Client::dial(gateway.mqtt(), Version::V5)
        } else {
            Connect::v5(&unique("noise")).open(gateway.mqtt())
        };
        let length = 1 + noise.below(2_000);
        let mut bytes = noise.bytes(length);
        // Half of them begin like a packet that could be one.
        if round % 4 < 2 {
            bytes[0] = [0x10, 0x30, 0x32, 0x34, 0x82, 0xA2, 0x62, 0xE0][noise.below(8)];
        }
        let _ = client.try_send(&bytes);
        client.vanish();
        calm.publish(&Publish::new(&topic, round.to_string()).qos(1));
        assert_eq!(calm.receive().text(), round.to_string());
    }
}

#[test]
fn every_prefix_of_a_valid_stream_may_be_the_last() {
    let gateway = Gateway::start();
    let topic = unique("prefix");
    let mut calm = Connect::v5(&unique("calm")).open(gateway.mqtt());
    let mut stream = Connect::v5(&unique("cut")).encode();
    stream.extend(
        Publish::new(&topic, "payload")
            .qos(2)
            .id(1)
            .encode(Version::V5),
    );
    stream.extend(Ack::new(1).encode(0x62, Version::V5));
    for end in 1..stream.len() {
        let mut client = Client::dial(gateway.mqtt(), Version::V5);
        client.send(&stream[..end]);
        client.vanish();
    }
    calm.expect_nothing();
}

#[test]
fn a_slow_connect_is_cut_off_however_steadily_it_drips() {
    let Some(gateway) = Gateway::configured("[limits]\nconnect_timeout = \"1s\"") else {
        return;
    };
    let mut calm = Connect::v5(&unique("calm")).open(gateway.mqtt());
    let since = Instant::now();
    let mut drips: Vec<(Client, std::vec::IntoIter<u8>)> = (0..20)
        .map(|_| {
            let bytes = Connect::v5(&"x".repeat(200)).encode();
            (Client::dial(gateway.mqtt(), Version::V5), bytes.into_iter())
        })
        .collect();
    // And one that never says anything.
    let mut silent = Client::dial(gateway.mqtt(), Version::V5);
    while !drips.is_empty() {
        assert!(
            since.elapsed() < Duration::from_secs(6),
            "{} still drip",
            drips.len()
        );
        thread::sleep(Duration::from_millis(50));
        drips.retain_mut(|(client, bytes)| {
            let byte = bytes.next().unwrap();
            client.try_send(&[byte]).is_ok()
                && client.next(Duration::from_millis(1)) == Event::Silence
        });
    }
    silent.expect_close();
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "{:?}",
        since.elapsed()
    );
    calm.expect_nothing();
}

#[test]
fn a_promise_of_a_large_packet_reserves_no_memory() {
    let Some(gateway) = Gateway::configured("[limits]\nmax_packet_size = \"200MiB\"") else {
        return;
    };
    let promise: u32 = 190 << 20;
    let mut header = Vec::new();
    let mut rest = promise;
    while rest > 0 {
        header.push((rest & 0x7F) as u8 | if rest > 0x7F { 0x80 } else { 0 });
        rest >>= 7;
    }
    let open = |_| -> Client {
        let mut client = Connect::v5(&unique("promise")).open(gateway.mqtt());
        let mut bytes = Publish::new("t", "x").qos(1).id(1).encode(Version::V5);
        bytes.push(0x30);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(b"\0\x01t\0 and a few bytes more");
        client.send(&bytes);
        // The answer to what came in the same segment says that the promise was read.
        client.await_puback(1);
        client
    };
    let before = gateway.resident_bytes();
    let promises: Vec<Client> = (0..40).map(open).collect();
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "40 promises of 190 MiB took {grown} bytes"
    );
    drop(promises);
    // The same before CONNECT.
    let promises: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = Client::dial(gateway.mqtt(), Version::V5);
            let mut bytes = vec![0x10];
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(b"\0\x04MQTT\x05");
            let _ = client.try_send(&bytes);
            client
        })
        .collect();
    Connect::v5(&unique("after"))
        .open(gateway.mqtt())
        .expect_nothing();
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "40 promises of 190 MiB took {grown} bytes"
    );
    drop(promises);
}

#[test]
fn a_promised_packet_beyond_the_limit_is_refused_before_it_comes() {
    let gateway = Gateway::start();
    let mut client = Connect::v5(&unique("promise")).open(gateway.mqtt());
    // The longest remaining length there is, and nothing of it.
    client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.expect_disconnect().code, code::TOO_LARGE);
}
