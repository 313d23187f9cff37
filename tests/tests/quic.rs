//! What is particular to QUIC: networks that lose, double and reorder datagrams, addresses that change, and
//! gateways that are gone. A client that is not ours is in `tests/interop/python/test_quic.py`.

#![expect(
    clippy::unwrap_used,
    reason = "the relay is part of a test: what fails in it fails the test"
)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Publish};
use tidegate_tests::{Gateway, Server, Transport, unique};

/// How often a relay looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// Of a hundred datagrams, how many are lost, come twice, and come after the next one.
#[derive(Clone, Copy, Default)]
struct Network {
    lost: u64,
    doubled: u64,
    swapped: u64,
}

/// A network between one client and the gateway.
struct Relay {
    front: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    front: UdpSocket,
    /// What the gateway sees, and where it is.
    back: Mutex<(Arc<UdpSocket>, SocketAddr)>,
    client: Mutex<Option<SocketAddr>>,
    network: Network,
    ended: AtomicBool,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}

impl Relay {
    fn to(gateway: SocketAddr, network: Network) -> Self {
        let shared = Arc::new(Shared {
            front: socket(),
            back: Mutex::new((Arc::new(socket()), gateway)),
            client: Mutex::new(None),
            network,
            ended: AtomicBool::new(false),
        });
        let (there, back) = (Arc::clone(&shared), Arc::clone(&shared));
        Self {
            front: shared.front.local_addr().unwrap(),
            threads: vec![
                thread::spawn(move || there.to_gateway()),
                thread::spawn(move || back.to_client()),
            ],
            shared,
        }
    }

    /// As when a NAT has forgotten: the gateway sees another port from now on.
    fn rebind(&self) {
        self.shared.back.lock().unwrap().0 = Arc::new(socket());
    }

    /// Another gateway takes the place of the first.
    fn lead_to(&self, gateway: SocketAddr) {
        self.shared.back.lock().unwrap().1 = gateway;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn to_gateway(&self) {
        let mut wire = Wire::new(self.network, 1);
        let mut buffer = [0; 2048];
        while !self.ended.load(Ordering::Relaxed) {
            let Ok((length, client)) = self.front.recv_from(&mut buffer) else {
                continue;
            };
            *self.client.lock().unwrap() = Some(client);
            for datagram in wire.pass(&buffer[..length]) {
                let (socket, gateway) = self.back.lock().unwrap().clone();
                let _ = socket.send_to(&datagram, gateway);
            }
        }
    }

    fn to_client(&self) {
        let mut wire = Wire::new(self.network, 2);
        let mut buffer = [0; 2048];
        while !self.ended.load(Ordering::Relaxed) {
            let socket = Arc::clone(&self.back.lock().unwrap().0);
            let Ok((length, _)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let Some(client) = *self.client.lock().unwrap() else {
                continue;
            };
            for datagram in wire.pass(&buffer[..length]) {
                let _ = self.front.send_to(&datagram, client);
            }
        }
    }
}

/// One direction.
struct Wire {
    network: Network,
    random: u64,
    /// Comes after the next.
    held: Option<Vec<u8>>,
}

impl Wire {
    fn new(network: Network, seed: u64) -> Self {
        Self {
            network,
            random: seed,
            held: None,
        }
    }

    /// 0 to 99.
    fn dice(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100
    }

    fn pass(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let Network {
            lost,
            doubled,
            swapped,
        } = self.network;
        if self.dice() < lost {
            return Vec::new();
        }
        if self.held.is_none() && self.dice() < swapped {
            self.held = Some(datagram.to_vec());
            return Vec::new();
        }
        let mut out = vec![datagram.to_vec()];
        if self.dice() < doubled {
            out.push(datagram.to_vec());
        }
        out.extend(self.held.take());
        out
    }
}

fn server(gateway: &Gateway) -> Server {
    gateway.listener("quic", Transport::Quic)
}

/// Publishes to itself, with QoS 2 both ways, and sees to it that `meanwhile` happens in between.
fn to_and_fro(client: &mut Client, topic: &str, messages: usize, meanwhile: impl Fn(usize)) {
    client.subscribe(topic, 2);
    for number in 0..messages {
        let id = client.next_id();
        let message = Publish::new(topic, number.to_string()).qos(2).id(id);
        client.send_publish(&message);
        client.await_pubrec(id);
        meanwhile(number);
        client.send_pubrel(&tidegate_tests::wire::Ack::new(id));
        client.await_pubcomp(id);
        let received = client.receive();
        assert_eq!(received.payload, number.to_string().into_bytes());
    }
    client.expect_nothing();
}

#[test]
fn losses_repetitions_and_another_order_change_nothing() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = server(&gateway);
    let network = Network {
        lost: 10,
        doubled: 10,
        swapped: 10,
    };
    let relay = Relay::to(server.address(), network);
    let mut client = Connect::v5(&unique("lossy")).open(server.at(relay.front));
    to_and_fro(&mut client, &unique("lossy"), 20, |_| {});
    // Larger than a datagram and than the window of a stream.
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let topic = unique("large");
    client.subscribe(&topic, 0);
    client.send_publish(&Publish::new(&topic, large.clone()));
    assert!(client.receive().payload == large);
    client.disconnect();
    let listener = &["listener=\"quic\""];
    let ended = || gateway.metric("tidegate_listener_connections", listener) < 0.5;
    wait_for(ended);
    let lost = gateway.metric("tidegate_quic_packets_lost_total", listener);
    let sent = gateway.metric("tidegate_quic_packets_sent_total", listener);
    assert!(lost > 0.0 && lost < sent, "{lost} of {sent}");
    let times = gateway.metric("tidegate_quic_rtt_seconds_count", listener);
    let sum = gateway.metric("tidegate_quic_rtt_seconds_sum", listener);
    assert!(times >= 1.0 && sum > 0.0, "{times} times, {sum} s");
    let streams = gateway.metric("tidegate_quic_streams_opened_total", listener);
    assert!((streams - 1.0).abs() < f64::EPSILON, "{streams} streams");
}

/// Waits until something is so.
fn wait_for(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about");
        thread::sleep(TICK);
    }
}

#[test]
fn rfc9000_9_a_client_that_moves_in_every_exchange_goes_on() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = server(&gateway);
    let relay = Relay::to(server.address(), Network::default());
    let mut client = Connect::v5(&unique("moving")).open(server.at(relay.front));
    to_and_fro(&mut client, &unique("moving"), 20, |_| relay.rebind());
    client.disconnect();
    let moves = gateway.metric("tidegate_quic_migrations_total", &["listener=\"quic\""]);
    assert!((moves - 20.0).abs() < f64::EPSILON, "{moves} moves");
    let accepted = gateway.metric("tidegate_listener_accepted_total", &["listener=\"quic\""]);
    assert!(
        (accepted - 1.0).abs() < f64::EPSILON,
        "{accepted} connections"
    );
}

#[test]
fn where_no_client_may_move_its_connection_ends() {
    let configuration = "[listeners.quic.quic]\nmigration = false\nidle_timeout = \"1s\"\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    let server = server(&gateway);
    let relay = Relay::to(server.address(), Network::default());
    let mut client = Connect::v5(&unique("moving")).open(server.at(relay.front));
    client.expect_nothing();
    relay.rebind();
    client.expect_close();
}

#[test]
fn rfc9000_10_3_a_client_hears_at_once_that_its_gateway_was_restarted() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let server = server(&gateway);
    let relay = Relay::to(server.address(), Network::default());
    let mut client = Connect::v5(&unique("reset")).open(server.at(relay.front));
    client.expect_nothing();
    let gateway = gateway.restart("KILL");
    relay.lead_to(gateway.address("quic"));
    let began = Instant::now();
    // A PINGREQ to a gateway that knows nothing of it. Without an answer it would take the idle timeout.
    let _ = client.try_send(&[0xC0, 0]);
    client.expect_close();
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn rfc9000_8_1_2_who_must_prove_its_address_does() {
    let Some(gateway) = Gateway::configured("[listeners.quic.quic]\nretry = \"always\"\n") else {
        return;
    };
    let mut client = Connect::v5(&unique("retry")).open(server(&gateway));
    client.expect_nothing();
    client.disconnect();
}

#[test]
fn one_connection_more_than_an_address_may_have_is_closed() {
    let Some(gateway) = Gateway::configured("[listeners.quic]\nmax_connections_per_ip = 1\n")
    else {
        return;
    };
    let server = server(&gateway);
    let mut first = Connect::v5(&unique("first")).open(&server);
    let second = server.connect();
    // The handshake is over before the address counts.
    if let Ok(stream) = second {
        Client::over(stream, tidegate_tests::wire::Version::V5).expect_close();
    }
    first.expect_nothing();
    let limited = &["listener=\"quic\"", "reason=\"limit\""];
    let refused = gateway.metric("tidegate_listener_refused_total", limited);
    assert!(
        (refused - 1.0).abs() < f64::EPSILON,
        "{refused} were refused"
    );
}

#[test]
fn a_client_that_opens_no_stream_is_closed() {
    let configuration = "[listeners.quic.tls]\nhandshake_timeout = \"100ms\"\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    // A stream is opened with its first byte, and none is sent.
    let stream = server(&gateway).connect().unwrap();
    Client::over(stream, tidegate_tests::wire::Version::V5).expect_close();
    let late = &["listener=\"quic\"", "reason=\"quic_timeout\""];
    let refused = gateway.metric("tidegate_listener_refused_total", late);
    assert!(
        (refused - 1.0).abs() < f64::EPSILON,
        "{refused} were refused"
    );
}
