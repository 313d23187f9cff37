//! The PROXY protocol, versions 1 and 2, before whatever a listener speaks.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use tidegate_tests::websocket::{RawWebSocket, Upgrade};
use tidegate_tests::wire::{Client, Connect, PATIENCE, Publish, Stream, Version, code};
use tidegate_tests::{Gateway, Noise, Server, Transport, eventually, unique};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 1883\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A gateway all of whose listeners want the header from loopback.
#[track_caller]
fn start(more: &str) -> Option<Gateway> {
    let listeners = Transport::ALL.map(|transport| {
        let name = transport.scheme();
        format!("[listeners.{name}]\nproxy_networks = [\"127.0.0.0/8\"]\n{more}\n")
    });
    Gateway::configured(&listeners.concat())
}

/// A header of version 2: `command` with the version, `family`, what follows the length.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The addresses of a TCP connection over IPv4, from 192.0.2.N.
fn ipv4(last: u8) -> Vec<u8> {
    [
        &[192, 0, 2, last, 198, 51, 100, 1][..],
        &[0xC3, 0x50, 0x07, 0x5B],
    ]
    .concat()
}

/// A type-length-value.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

/// PP2_TYPE_SSL with a common name: what HAProxy's `send-proxy-v2-ssl-cn` writes.
fn ssl(common_name: &str) -> Vec<u8> {
    let inner = [tlv(0x21, b"TLSv1.3"), tlv(0x22, common_name.as_bytes())].concat();
    let value = [&[0x07, 0, 0, 0, 0][..], &inner].concat();
    tlv(0x20, &value)
}

#[track_caller]
fn dial(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, PATIENCE);
    let stream = stream.unwrap_or_else(|error| panic!("no connection: {error}"));
    let _ = stream.set_nodelay(true);
    stream
}

/// A connection on which these bytes were sent, in one segment.
#[track_caller]
fn said(server: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = dial(server);
    let sent = stream.write_all(bytes);
    sent.unwrap_or_else(|error| panic!("not sent: {error}"));
    stream
}

/// Connects with MQTT 5 over a stream on which the header was sent.
#[track_caller]
fn connect(stream: impl Into<Stream>) -> Client {
    let mut client = Client::over(stream, Version::V5);
    client.send(&Connect::v5(&unique("proxied")).encode());
    assert_eq!(client.expect_connack().code, 0);
    client
}

/// The server must close and say nothing.
#[track_caller]
fn expect_silent_end(stream: TcpStream) {
    let mut client = Client::over(stream, Version::V5);
    assert_eq!(client.next_raw(), None);
}

#[test]
fn headers_of_both_versions_are_understood() {
    let Some(gateway) = start("") else {
        return;
    };
    let ipv6 = [&[0x20; 16][..], &[0x21; 16], &[0xC3, 0x50, 0x07, 0x5B]].concat();
    let unix = [0; 216];
    let headers: [(&str, Vec<u8>); 12] = [
        ("v1 TCP4", V1.to_vec()),
        ("v1 TCP6", b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 1883\r\n".to_vec()),
        ("v1 UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec()),
        (
            "v1 UNKNOWN with addresses, as long as may be",
            b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n".to_vec(),
        ),
        ("v2 IPv4", v2(0x21, 0x11, &ipv4(7))),
        ("v2 IPv6", v2(0x21, 0x21, &ipv6)),
        ("v2 LOCAL", v2(0x20, 0x00, &[])),
        ("v2 LOCAL with addresses", v2(0x20, 0x11, &ipv4(7))),
        ("v2 UNSPEC", v2(0x21, 0x00, &[])),
        ("v2 UNIX", v2(0x21, 0x31, &unix)),
        ("v2 with TLVs", v2(0x21, 0x11, &[ipv4(7), ssl("device-7"), tlv(0x04, &[0; 20])].concat())),
        ("v2 with an unknown TLV", v2(0x21, 0x11, &[ipv4(7), tlv(0xE7, b"whatever")].concat())),
    ];
    for (what, header) in headers {
        eprintln!("{what}");
        let mut client = connect(said(gateway.mqtt(), &header));
        client.expect_nothing();
        client.disconnect();
    }
}

#[test]
fn a_header_may_be_followed_by_the_clients_bytes_in_one_segment() {
    let Some(gateway) = start("") else {
        return;
    };
    let topic = unique("joined");
    for header in [
        V1.to_vec(),
        v2(0x21, 0x11, &[ipv4(7), ssl("device-7")].concat()),
    ] {
        let connect = Connect::v5(&unique("joined")).encode();
        let message = Publish::new(&topic, "x").qos(1).id(1).encode(Version::V5);
        let stream = said(gateway.mqtt(), &[header, connect, message].concat());
        let mut client = Client::over(stream, Version::V5);
        assert_eq!(client.expect_connack().code, 0);
        client.await_puback(1);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let Some(gateway) = start("") else {
        return;
    };
    for header in [
        V1.to_vec(),
        v2(0x21, 0x11, &[ipv4(7), ssl("device-7")].concat()),
    ] {
        let mut stream = dial(gateway.mqtt());
        for byte in &header {
            let sent = stream.write_all(std::slice::from_ref(byte));
            sent.unwrap_or_else(|error| panic!("not sent: {error}"));
        }
        connect(stream).expect_nothing();
    }
}

#[test]
fn the_header_comes_before_tls_and_websocket() {
    let Some(gateway) = start("") else {
        return;
    };
    for transport in Transport::ALL {
        let server = gateway.listener(transport.scheme(), transport);
        for header in [V1.to_vec(), v2(0x21, 0x11, &ipv4(7))] {
            let stream = Stream::handshake(said(server.address(), &header), &server);
            let stream = stream.unwrap_or_else(|error| panic!("{transport:?}: {error}"));
            connect(stream).expect_nothing();
        }
        // Without it there is nothing: neither TLS nor HTTP answers.
        assert!(
            transport == Transport::Tcp || server.connect().is_err(),
            "{transport:?} without a header"
        );
    }
}

#[test]
fn a_websocket_behind_a_proxy_is_asked_for_by_the_proxys_clients() {
    let Some(gateway) = start("") else {
        return;
    };
    let server = gateway.address("ws");
    let mut socket = RawWebSocket::dial(server);
    let request = Upgrade::to(server).text();
    socket.send(&[V1, request.as_bytes()].concat());
    assert_eq!(socket.expect_head().status, 101);
}

#[test]
fn whoever_sends_no_header_is_closed() {
    let Some(gateway) = start("") else {
        return;
    };
    let mut witness = connect(said(gateway.mqtt(), V1));
    let connect = Connect::v5(&unique("direct")).encode();
    for bytes in [
        &connect[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[&[0x16, 3, 1, 0, 200, 1][..], &[0; 200]].concat(),
    ] {
        expect_silent_end(said(gateway.mqtt(), bytes));
    }
    witness.expect_nothing();
    assert_eq!(refused(&gateway, "proxy_header"), 3.0);
}

#[track_caller]
fn refused(gateway: &Gateway, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    let labels = ["listener=\"mqtt\"", reason.as_str()];
    gateway.metric("tidegate_listener_refused_total", &labels)
}

#[test]
fn headers_that_are_wrong_are_closed() {
    let Some(gateway) = start("") else {
        return;
    };
    let mut witness = connect(said(gateway.mqtt(), V1));
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let headers: [(&str, Vec<u8>); 14] = [
        (
            "no such family",
            b"PROXY TCP5 192.0.2.7 198.51.100.1 5 6\r\n".to_vec(),
        ),
        (
            "lower case",
            b"proxy TCP4 192.0.2.7 198.51.100.1 5 6\r\n".to_vec(),
        ),
        (
            "no address",
            b"PROXY TCP4 192.0.2 198.51.100.1 5 6\r\n".to_vec(),
        ),
        (
            "no port",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5\r\n".to_vec(),
        ),
        (
            "a port too large",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 6\r\n".to_vec(),
        ),
        (
            "too many words",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5 6 7\r\n".to_vec(),
        ),
        (
            "IPv6 as IPv4",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 5 6\r\n".to_vec(),
        ),
        ("longer than 107 bytes", long.into_bytes()),
        ("version 3", v2(0x31, 0x11, &ipv4(7))),
        ("no such command", v2(0x22, 0x11, &ipv4(7))),
        ("addresses cut short", v2(0x21, 0x11, &ipv4(7)[..8])),
        (
            "a TLV cut short",
            v2(0x21, 0x11, &[ipv4(7), vec![0x04, 0, 9, 1]].concat()),
        ),
        (
            "longer than anybody needs",
            v2(0x21, 0x11, &[ipv4(7), tlv(4, &[0; 60_000])].concat()),
        ),
        ("half a signature", [&SIGNATURE[..8], &[0; 8]].concat()),
    ];
    let count = headers.len();
    for (what, header) in headers {
        eprintln!("{what}");
        let mut stream = dial(gateway.mqtt());
        let _ = stream.write_all(&header);
        // Had the header been taken, this would be answered.
        let _ = stream.write_all(&Connect::v5(&unique("wrong")).encode());
        expect_silent_end(stream);
    }
    assert_eq!(refused(&gateway, "proxy_header"), count as f64);
    witness.expect_nothing();
}

#[test]
fn garbage_is_closed_and_disturbs_nobody() {
    let Some(gateway) = start("") else {
        return;
    };
    let mut witness = connect(said(gateway.mqtt(), V1));
    let mut noise = Noise::new(0xDEAD_BEEF_CAFE_F00D);
    for round in 0..200 {
        let length = 1 + noise.below(300);
        let bytes = noise.bytes(length);
        let beginning: &[u8] = match round % 3 {
            0 => &[],
            1 => b"PROXY ",
            _ => SIGNATURE,
        };
        let mut stream = dial(gateway.mqtt());
        let _ = stream.write_all(&[beginning, &bytes].concat());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut client = Client::over(stream, Version::V5);
        while client.next_raw().is_some() {}
    }
    witness.expect_nothing();
    eventually("only the witness is left", || {
        gateway.metric("tidegate_listener_connections", &["listener=\"mqtt\""]) == 1.0
    });
}

#[test]
fn a_header_that_does_not_end_is_closed_in_time() {
    let Some(gateway) = start("proxy_timeout = \"600ms\"") else {
        return;
    };
    let mut witness = connect(said(gateway.mqtt(), V1));
    let since = Instant::now();
    let streams = [&[][..], b"PROXY ", SIGNATURE].map(|bytes| said(gateway.mqtt(), bytes));
    // Byte by byte is not faster.
    let mut slow = dial(gateway.mqtt());
    for byte in V1 {
        if slow.write_all(std::slice::from_ref(byte)).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(30));
    }
    streams.into_iter().for_each(expect_silent_end);
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    witness.expect_nothing();
    eventually("four are counted", || {
        refused(&gateway, "proxy_timeout") == 4.0
    });
}

#[test]
fn a_network_that_is_not_configured_is_closed() {
    let more = "[listeners.mqtt]\nproxy_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    for _ in 0..20 {
        let mut stream = dial(gateway.mqtt());
        // It may be gone before it has read a byte.
        let _ = stream.write_all(V1);
        expect_silent_end(stream);
    }
    assert_eq!(refused(&gateway, "proxy_network"), 20.0);
    let lines = gateway.output().lines().count();
    assert!(lines < 60, "20 refusals made {lines} lines");
    // Other listeners are as they were.
    let other = gateway.listener("ws", Transport::Ws);
    Connect::v5(&unique("other")).open(&other).expect_nothing();
}

#[test]
fn limits_by_address_count_the_clients_address() {
    let Some(gateway) = start("max_connections_per_ip = 2") else {
        return;
    };
    let from = |last: u8| said(gateway.mqtt(), &v2(0x21, 0x11, &ipv4(last)));
    let mut clients: Vec<Client> = Vec::new();
    for last in 1..=5 {
        clients.extend([connect(from(last)), connect(from(last))]);
    }
    for header in [
        v2(0x21, 0x11, &ipv4(1)),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 9 9\r\n".to_vec(),
    ] {
        let mut client = Client::over(said(gateway.mqtt(), &header), Version::V5);
        // The connection may be ended before its CONNECT has arrived.
        let _ = client.try_send(&Connect::v5(&unique("third")).encode());
        let told = client.expect_error();
        assert!(matches!(told, Some(code::BUSY | code::QUOTA)), "{told:?}");
    }
    clients.iter_mut().for_each(Client::expect_nothing);
}

#[test]
fn without_networks_the_header_is_not_understood() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    // Else anybody could say to be somebody else.
    let mut client = Client::over(said(gateway.mqtt(), V1), Version::V5);
    let _ = client.try_send(&Connect::v5(&unique("liar")).encode());
    client.expect_error();
    let server = Server::from(gateway.mqtt());
    Connect::v5(&unique("honest"))
        .open(&server)
        .expect_nothing();
}

#[test]
fn the_address_and_the_certificates_name_are_those_of_the_client() {
    let configuration = "listeners.mqtt.proxy_networks = [\"127.0.0.0/8\"]\n\
                         telemetry.log = \"tidegate_mqtt=debug\"\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    let header = v2(0x21, 0x11, &[ipv4(7), ssl("device-7")].concat());
    let client = connect(said(gateway.mqtt(), &header));
    let output = gateway.output();
    let line = output
        .lines()
        .find(|line| line.contains("A client connected."));
    let line = line.unwrap_or_else(|| panic!("the log says nothing: {output}"));
    assert!(line.contains("192.0.2.7:50000"), "{line}");
    assert!(line.contains("device-7"), "{line}");
    client.disconnect();
}

#[test]
fn strangers_take_nothing_from_the_limit_on_the_rate() {
    let configuration = "limits.max_connect_rate = 20\n\
                         listeners.mqtt.proxy_networks = [\"192.0.2.0/24\"]\n";
    let Some(gateway) = Gateway::configured(configuration) else {
        return;
    };
    for _ in 0..200 {
        drop(dial(gateway.mqtt()));
    }
    eventually("all are refused", || {
        refused(&gateway, "proxy_network") >= 200.0
    });
    let other = gateway.listener("ws", Transport::Ws);
    Connect::v5(&unique("other")).open(&other).expect_nothing();
    assert_eq!(refused(&gateway, "rate"), 0.0);
}
