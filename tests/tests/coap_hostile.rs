//! CoAP from somebody who means no good: a million tokens, sources that answer nothing, bodies without an end, messages
//! that are none. What is asked is the same each time: the protocol's own error, nothing grows without a limit, the
//! gateway is no amplifier, and its other clients notice nothing.

#![expect(
    clippy::unwrap_used,
    reason = "helpers are part of a test: what fails in them fails the test"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Publish};
use tidegate_tests::{Gateway, unique};

/// How long an exchange between others may take while somebody attacks. Generous, since the machine may be busy.
const DELAY: Duration = Duration::from_secs(5);

const GET: u8 = 1;
const PUT: u8 = 3;
const CON: u8 = 0;
const NON: u8 = 1;

const OBSERVE: u16 = 6;
const URI_PATH: u16 = 11;
const BLOCK1: u16 = 27;

/// Observes all topics of one level.
const WILDCARD: [(u16, &[u8]); 3] = [(OBSERVE, b""), (URI_PATH, b"ps"), (URI_PATH, b"+")];

/// A request: kind, code, identifier, token, options in the order of their numbers, payload.
fn request(
    (kind, code): (u8, u8),
    id: u16,
    token: &[u8],
    options: &[(u16, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0x40 | kind << 4 | token.len() as u8, code];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(token);
    let mut before = 0;
    for (number, value) in options {
        let delta = number - before;
        before = *number;
        // No value here is longer than 12 bytes.
        match delta {
            0..=12 => out.push((delta as u8) << 4 | value.len() as u8),
            _ => out.extend_from_slice(&[0xD0 | value.len() as u8, (delta - 13) as u8]),
        }
        out.extend_from_slice(value);
    }
    if !payload.is_empty() {
        out.push(0xFF);
        out.extend_from_slice(payload);
    }
    out
}

/// An endpoint: 127.0.0.1 is not the only address of the loopback.
fn endpoint(gateway: &Gateway, address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.connect(gateway.address("coap")).unwrap();
    socket.set_read_timeout(Some(DELAY)).unwrap();
    socket
}

/// The code of a message, as the specification writes it.
fn code(message: &[u8]) -> String {
    format!("{}.{:02}", message[1] >> 5, message[1] & 0x1F)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// All that has come, without waiting.
fn received(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2_048];
    let mut all = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        all.push(buffer[..length].to_vec());
    }
    socket.set_nonblocking(false).unwrap();
    all
}

/// Waits until the gateway has read everything that was sent to it: a ping is answered with Reset (RFC 7252
/// section 4.3), and datagrams are read in their order.
fn settle(gateway: &Gateway) {
    let ping = endpoint(gateway, Ipv4Addr::new(127, 9, 9, 9));
    for _ in 0..100 {
        ping.send(&[0x40, 0, 0, 1]).unwrap();
        ping.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut buffer = [0; 16];
        if ping.recv(&mut buffer).is_ok() {
            return;
        }
    }
    panic!("a ping is not answered");
}

/// An endpoint of CoAP that publishes, and a client of MQTT that receives, in order and in time.
struct Neighbours {
    coap: UdpSocket,
    mqtt: Client,
    topic: String,
    sent: u16,
}

impl Neighbours {
    fn of(gateway: &Gateway) -> Self {
        let topic = unique("neighbour");
        let mut mqtt = Connect::v5(&unique("mqtt")).open(gateway.mqtt());
        mqtt.subscribe(&topic, 1);
        Self {
            coap: endpoint(gateway, Ipv4Addr::LOCALHOST),
            mqtt,
            topic,
            sent: 0,
        }
    }

    #[track_caller]
    fn exchange(&mut self) {
        let began = Instant::now();
        self.sent += 1;
        let payload = self.sent.to_string();
        let path: Vec<(u16, &[u8])> = ["ps", &self.topic]
            .map(|segment| (URI_PATH, segment.as_bytes()))
            .to_vec();
        let bytes = put(&path, self.sent, payload.as_bytes());
        self.coap.send(&bytes).unwrap();
        self.coap
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut buffer = [0; 64];
        let mut repeated = 0;
        // What a full socket drops is sent again, as RFC 7252 section 4.2 has it.
        while self.coap.recv(&mut buffer).is_err() {
            repeated += 1;
            assert!(repeated < 10, "a publish is not answered");
            self.coap.send(&bytes).unwrap();
        }
        assert_eq!(code(&buffer), "2.04");
        assert_eq!(self.mqtt.receive().text(), payload);
        let took = began.elapsed();
        assert!(took < DELAY, "an exchange took {took:?}");
        received(&self.coap);
    }
}

fn put(path: &[(u16, &[u8])], id: u16, payload: &[u8]) -> Vec<u8> {
    // A level of the topic may be longer than what a byte says here.
    let mut out = vec![0x40, PUT];
    out.extend_from_slice(&id.to_be_bytes());
    let mut before = 0;
    for (number, value) in path {
        let delta = (number - before) as u8;
        before = *number;
        match value.len() {
            short @ 0..=12 => out.push(delta << 4 | short as u8),
            long => out.extend_from_slice(&[delta << 4 | 13, (long - 13) as u8]),
        }
        out.extend_from_slice(value);
    }
    out.push(0xFF);
    out.extend_from_slice(payload);
    out
}

#[test]
fn rfc_7252_5_3_1_a_million_tokens_are_refused_and_cost_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let sockets: Vec<_> = (1..=8)
        .map(|last| endpoint(&gateway, Ipv4Addr::new(127, 0, 1, last)))
        .collect();
    // They have shown that they receive: who has not is not even refused.
    for socket in &sockets {
        socket
            .send(&request((CON, GET), 0, b"first", &WILDCARD, b""))
            .unwrap();
        assert_eq!(code(&receive(socket)), "0.00");
        let answer = receive(socket);
        assert_eq!(code(&answer), "2.05");
        socket.send(&[0x60, 0, answer[2], answer[3]]).unwrap();
    }
    let observe = |number: u32| {
        let token = u64::from(number).to_be_bytes();
        request((CON, GET), number as u16, &token, &WILDCARD, b"")
    };
    let send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let socket = &sockets[number as usize % sockets.len()];
            // A socket that is full loses it, as a network would.
            let _ = socket.send(&observe(number));
            if number % 1_024 == 0 {
                settle(&gateway);
            }
        }
        settle(&gateway);
    };
    // What a table takes once is there.
    send(0..20_000);
    let refused = |answers: &[Vec<u8>]| answers.iter().any(|answer| code(answer) == "4.29");
    let answers: Vec<_> = sockets.iter().flat_map(received).collect();
    assert!(refused(&answers), "4.29 (RFC 8516)");
    neighbours.exchange();
    let before = gateway.resident_bytes();
    for part in 1..50 {
        send(part * 20_000..(part + 1) * 20_000);
        neighbours.exchange();
        for socket in &sockets {
            received(socket);
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    let observed = gateway.metric("tidegate_coap_observations", &["coap"]);
    assert!(observed <= 800.0, "100 for each endpoint: {observed}");
}

#[test]
fn rfc_7252_11_3_sources_that_answer_nothing_get_three_times_what_came_and_no_more() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let mut publisher = Connect::v5(&unique("publisher")).open(gateway.mqtt());
    let value = "x".repeat(60_000);
    publisher.publish(&Publish::new("large", &value).qos(1).retain());
    let before = gateway.resident_bytes();
    let observe: &[(u16, &[u8])] = &[(OBSERVE, b""), (URI_PATH, b"ps"), (URI_PATH, b"large")];
    // It reads and observes what is large, and acknowledges nothing.
    let requests = [(1, &observe[1..]), (2, observe)]
        .map(|(id, options)| request((CON, GET), id, b"t", options, b""));
    let asked: usize = requests.iter().map(Vec::len).sum();
    for number in 0..5_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let socket = endpoint(&gateway, Ipv4Addr::new(127, 16 + b, c, d.max(1)));
        for request in &requests {
            socket.send(request).unwrap();
        }
        if number % 16 == 0 {
            // Who asks is let in first, which may take longer than a ping.
            let first = receive(&socket);
            settle(&gateway);
            let rest: usize = received(&socket).iter().map(Vec::len).sum();
            let got = first.len() + rest;
            assert!(got <= 3 * asked, "{got} bytes for {asked}");
        }
        if number % 64 == 0 {
            neighbours.exchange();
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for 5,000 sources");
    neighbours.exchange();
}

#[test]
fn rfc_7959_2_9_3_a_body_without_end_is_refused_with_4_13_and_is_not_kept() {
    let Some(gateway) = Gateway::configured("[listeners.coap.coap]\nmax_body_size = \"64KiB\"\n")
    else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let socket = endpoint(&gateway, Ipv4Addr::new(127, 0, 2, 1));
    let block = [b'x'; 1_024];
    let before = gateway.resident_bytes();
    for round in 0..20_u32 {
        let mut last = String::new();
        for num in 0..2_000_u32 {
            let value = (num << 4 | 0x8 | 6).to_be_bytes();
            let options: [(u16, &[u8]); 3] = [
                (URI_PATH, b"ps"),
                (URI_PATH, b"body"),
                (BLOCK1, &value[1..]),
            ];
            let id = (round * 2_000 + num) as u16;
            socket
                .send(&request((CON, PUT), id, b"", &options, &block))
                .unwrap();
            last = code(&receive(&socket));
            if last != "2.31" {
                break;
            }
        }
        assert_eq!(last, "4.13", "round {round}");
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    neighbours.exchange();
}

#[test]
fn rfc_7959_2_5_bodies_that_are_begun_and_left_are_bounded_by_endpoint_and_in_all() {
    let Some(gateway) = Gateway::configured("[listeners.coap.coap]\nmax_transfers = 64\n") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let block = [b'x'; 1_024];
    let mut codes = Vec::new();
    for last in 1..=20 {
        let socket = endpoint(&gateway, Ipv4Addr::new(127, 0, 3, last));
        for number in 0..10_u16 {
            let topic = number.to_string();
            let options: [(u16, &[u8]); 3] = [
                (URI_PATH, b"ps"),
                (URI_PATH, topic.as_bytes()),
                (BLOCK1, &[0x0E]),
            ];
            socket
                .send(&request((CON, PUT), number, b"", &options, &block))
                .unwrap();
            codes.push(code(&receive(&socket)));
        }
    }
    let count = |wanted: &str| codes.iter().filter(|code| *code == wanted).count();
    assert_eq!(count("2.31"), 64, "{codes:?}");
    assert!(
        count("4.29") >= 16,
        "more than 8 of one endpoint: {codes:?}"
    );
    assert_eq!(count("5.03"), 200 - 64 - count("4.29"), "{codes:?}");
    assert_eq!(
        gateway.metric("tidegate_coap_full_total", &["coap"]),
        count("5.03") as f64
    );
    neighbours.exchange();
}

#[test]
fn rfc_7252_4_2_what_is_no_message_is_ignored_or_reset_and_disturbs_nobody() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut neighbours = Neighbours::of(&gateway);
    let socket = endpoint(&gateway, Ipv4Addr::new(127, 0, 4, 1));
    // Reset by identifier, or nothing.
    let cases: [(&[u8], Option<u16>); 9] = [
        (b"", None),
        (b"\x40", None),
        // Version 2 is for others (section 3).
        (b"\x80\x01\x00\x01", None),
        // A token of nine bytes (section 3).
        (b"\x49\x01\x00\x02123456789", Some(2)),
        // An option that ends early, and one that is longer than the message.
        (b"\x40\x01\x00\x03\xD0", Some(3)),
        (b"\x40\x01\x00\x04\x4Eab", Some(4)),
        // 15 is reserved (section 3.1), a marker has something behind it (section 3).
        (b"\x40\x01\x00\x05\xF0\x00", Some(5)),
        (b"\x40\x01\x00\x06\xFF", Some(6)),
        // Not confirmable: nothing is said of it (section 4.3).
        (b"\x50\x01\x00\x07\xFF", None),
    ];
    for (bytes, reset) in cases {
        socket.send(bytes).unwrap();
        settle(&gateway);
        let expected: Vec<Vec<u8>> = reset
            .map(|id| [&[0x70, 0], &id.to_be_bytes()[..]].concat())
            .into_iter()
            .collect();
        assert_eq!(received(&socket), expected, "{bytes:02x?}");
    }
    neighbours.exchange();
}

#[test]
fn rfc_7252_4_5_a_full_table_of_exchanges_answers_5_03_and_forgets_nothing() {
    let Some(gateway) = Gateway::configured("[listeners.coap.coap]\nmax_exchanges = 1000\n") else {
        return;
    };
    let mut heard = Connect::v5(&unique("mqtt")).open(gateway.mqtt());
    heard.subscribe("once", 0);
    let socket = endpoint(&gateway, Ipv4Addr::new(127, 0, 5, 1));
    let path: [(u16, &[u8]); 2] = [(URI_PATH, b"ps"), (URI_PATH, b"once")];
    let send = |kind: u8, id: u16| {
        socket
            .send(&request((kind, PUT), id, b"", &path, b"x"))
            .unwrap();
        code(&receive(&socket))
    };
    for id in 0..1_000 {
        assert_eq!(send(if id % 2 == 0 { CON } else { NON }, id), "2.04");
    }
    assert_eq!(send(CON, 1_000), "5.03");
    // What was answered before is answered again, and published once.
    assert_eq!(send(CON, 0), "2.04");
    for _ in 0..1_000 {
        assert_eq!(heard.receive().text(), "x");
    }
    heard.expect_nothing();
}

/// Nobody else's address is needed to see it: the answer to a group would go to whoever is named as the source.
#[test]
fn rfc_7252_8_a_gateway_that_is_not_asked_to_does_not_listen_to_groups() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let group = SocketAddr::from(([224, 0, 1, 187], gateway.address("coap").port()));
    // Where there is no route for groups nothing can be sent, and nothing comes.
    let _ = socket.send_to(&[0x50, GET, 0, 1], group);
    settle(&gateway);
    assert!(received(&socket).is_empty());
}
