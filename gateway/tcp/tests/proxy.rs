//! The PROXY protocol over real sockets. Section numbers are those of HAProxy's specification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_tcp::{Proxied, ProxyError, ProxyProtocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP4: u8 = 0x11;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn from_loopback(timeout: Duration) -> ProxyProtocol {
    ProxyProtocol {
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        timeout,
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// What the gateway makes of `parts`, each sent in a segment of its own, and of "rest" behind them.
async fn read(parts: &[&[u8]]) -> Result<Proxied, ProxyError> {
    let (mut client, mut server) = pair().await;
    client.set_nodelay(true).unwrap();
    let settings = from_loopback(Duration::from_secs(10));
    let send = async {
        for part in parts {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        // It may have been closed by now: then the result says so.
        let _ = client.write_all(b"rest").await;
        let _ = client.shutdown().await;
    };
    let (result, ()) = tokio::join!(settings.read(&mut server), send);
    if result.is_ok() {
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"rest", "exactly the header is taken");
    }
    result
}

fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([version_and_command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut tlv = vec![kind];
    tlv.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    tlv.extend(value);
    tlv
}

/// 192.0.2.7:50000 to 192.0.2.1:8883.
fn tcp4_addresses() -> Vec<u8> {
    let mut bytes = vec![192, 0, 2, 7, 192, 0, 2, 1];
    bytes.extend(50_000_u16.to_be_bytes());
    bytes.extend(8_883_u16.to_be_bytes());
    bytes
}

fn with_tlvs(tlvs: &[Vec<u8>]) -> Vec<u8> {
    let mut rest = tcp4_addresses();
    rest.extend(tlvs.concat());
    v2(0x21, TCP4, &rest)
}

fn ssl(flags: u8, verify: u32, name: &str) -> Vec<u8> {
    let mut value = vec![flags];
    value.extend(verify.to_be_bytes());
    value.extend(tlv(0x21, b"TLSv1.3"));
    value.extend(tlv(0x22, name.as_bytes()));
    tlv(0x20, &value)
}

fn source(text: &str) -> Proxied {
    Proxied {
        source: Some(address(text)),
        certificate_name: None,
    }
}

#[tokio::test]
async fn section_2_1_a_line_names_the_client() {
    let v4 = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n";
    assert_eq!(read(&[v4]).await.unwrap(), source("192.0.2.7:50000"));
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 1883\r\n";
    assert_eq!(read(&[v6]).await.unwrap(), source("[2001:db8::7]:50000"));
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 50000 1883\r\n";
    assert_eq!(read(&[mapped]).await.unwrap(), source("192.0.2.7:50000"));
}

#[tokio::test]
async fn section_2_1_unknown_means_the_connection_itself() {
    for line in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    ] {
        let read = read(&[line.as_bytes()]).await.unwrap();
        assert_eq!(read, Proxied::default(), "{line}");
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\n";
    let bytes: Vec<&[u8]> = line.chunks(1).collect();
    assert_eq!(read(&bytes).await.unwrap(), source("192.0.2.7:50000"));
    let binary = v2(0x21, TCP4, &tcp4_addresses());
    let bytes: Vec<&[u8]> = binary.chunks(1).collect();
    assert_eq!(read(&bytes).await.unwrap(), source("192.0.2.7:50000"));
}

#[tokio::test]
async fn section_2_1_a_line_that_is_too_long_or_wrong_is_refused() {
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(120));
    for line in [
        long.as_str(),
        "PROXY TCP5 192.0.2.7 192.0.2.1 50000 1883\r\n",
        "PROXY TCP4 192.0.2.777 192.0.2.1 50000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 70000 1883\r\n",
        "PROXY TCP4 2001:db8::7 192.0.2.1 50000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\n",
    ] {
        let error = read(&[line.as_bytes()]).await.unwrap_err();
        assert!(matches!(error, ProxyError::Invalid(_)), "{line}: {error}");
    }
}

#[tokio::test]
async fn section_2_2_a_binary_header_names_the_client() {
    let v4 = v2(0x21, TCP4, &tcp4_addresses());
    assert_eq!(read(&[&v4]).await.unwrap(), source("192.0.2.7:50000"));
    let mut addresses = Vec::new();
    for ip in ["2001:db8::7", "2001:db8::1"] {
        let ip: std::net::Ipv6Addr = ip.parse().unwrap();
        addresses.extend(ip.octets());
    }
    addresses.extend([0xC3, 0x50, 0x07, 0x5B]);
    let v6 = v2(0x21, 0x21, &addresses);
    assert_eq!(read(&[&v6]).await.unwrap(), source("[2001:db8::7]:50000"));
}

#[tokio::test]
async fn section_2_2_local_and_clients_without_ip_mean_the_connection_itself() {
    for header in [
        v2(0x20, 0x00, b""),
        v2(0x20, TCP4, &tcp4_addresses()),
        // "discard the protocol block including the family which is ignored"
        v2(0x20, 0x77, b"anything"),
        v2(0x21, 0x00, b""),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        let read = read(&[&header]).await.unwrap();
        assert_eq!(read, Proxied::default(), "{header:02x?}");
    }
}

#[tokio::test]
async fn section_2_2_a_binary_header_that_breaks_the_rules_is_refused() {
    for header in [
        v2(0x11, TCP4, &tcp4_addresses()),
        v2(0x22, TCP4, &tcp4_addresses()),
        v2(0x21, 0x13, &tcp4_addresses()),
        v2(0x21, TCP4, &tcp4_addresses()[..8]),
        v2(0x21, 0x12, &tcp4_addresses()),
        v2(0x21, TCP4, &[0; 17 << 10]),
        with_tlvs(&[vec![0x04, 0xFF]]),
        with_tlvs(&[vec![0x04, 0, 9, 1]]),
    ] {
        let error = read(&[&header]).await.unwrap_err();
        let shown = &header[..header.len().min(40)];
        assert!(matches!(error, ProxyError::Invalid(_)), "{shown:02x?}");
    }
}

#[tokio::test]
async fn section_2_2_3_a_checksum_that_is_there_must_be_right() {
    // Behind the fixed part, the addresses and the type and length of the TLV.
    let checksum = 16 + 12 + 3..16 + 12 + 7;
    let mut header = with_tlvs(&[tlv(0x03, &[0; 4]), tlv(0x04, b"padding")]);
    let crc = crc32c::crc32c(&header);
    header[checksum.clone()].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(read(&[&header]).await.unwrap(), source("192.0.2.7:50000"));
    header[checksum.start] ^= 1;
    let error = read(&[&header]).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    let short = with_tlvs(&[tlv(0x03, &[0; 3])]);
    let error = read(&[&short]).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn section_2_2_5_the_name_of_a_verified_certificate_is_taken() {
    let name = |header: Vec<u8>| async move { read(&[&header]).await.unwrap().certificate_name };
    let unrelated = tlv(0x02, b"broker.example");
    // PP2_CLIENT_SSL with PP2_CLIENT_CERT_CONN, then with PP2_CLIENT_CERT_SESS.
    for flags in [0b011, 0b101] {
        let header = with_tlvs(&[unrelated.clone(), ssl(flags, 0, "meter-7")]);
        assert_eq!(name(header).await.as_deref(), Some("meter-7"));
    }
    // Not verified; no certificate; no TLS at all.
    for (flags, verify) in [(0b011, 1), (0b001, 0), (0b010, 0)] {
        let header = with_tlvs(&[ssl(flags, verify, "meter-7")]);
        assert_eq!(name(header).await, None, "{flags:03b} {verify}");
    }
    // Names that could be taken for others.
    for odd in ["", "meter\n7", "meter\0", "\u{1b}[31m"] {
        let header = with_tlvs(&[ssl(0b011, 0, odd)]);
        assert_eq!(name(header).await, None, "{odd:?}");
    }
    let twice = with_tlvs(&[ssl(0b011, 0, "meter-7"), ssl(0b011, 0, "meter-8")]);
    assert_eq!(name(twice).await, None);
}

#[tokio::test]
async fn section_5_a_connection_without_a_header_is_refused_at_its_first_bytes() {
    for bytes in [
        &b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00"[..],
        b"GET /mqtt HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
        b"PROXYTCP4 192.0.2.7",
        // Shorter than any header: the rest of one is not waited for.
        b"\x10",
        b"PROXX",
        b"\r\n\r\n\0\r\nQUAT",
    ] {
        let error = read(&[bytes]).await.unwrap_err();
        assert!(matches!(error, ProxyError::NoHeader), "{error}");
    }
}

#[test]
fn only_the_configured_networks_are_trusted() {
    let settings = ProxyProtocol {
        networks: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        timeout: Duration::from_secs(10),
    };
    for ip in ["10.0.0.1", "10.255.0.1", "::1", "::ffff:10.0.0.1"] {
        assert!(settings.trusts(ip.parse().unwrap()), "{ip}");
    }
    for ip in ["11.0.0.1", "127.0.0.1", "::2", "::ffff:11.0.0.1"] {
        assert!(!settings.trusts(ip.parse().unwrap()), "{ip}");
    }
}

#[tokio::test]
async fn half_a_header_is_waited_for_no_longer_than_the_time_limit() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"PROXY TCP4 192.0").await.unwrap();
    let settings = from_loopback(Duration::from_millis(50));
    let error = settings.read(&mut server).await.unwrap_err();
    assert!(matches!(error, ProxyError::Timeout), "{error}");
}

#[tokio::test]
async fn a_connection_that_ends_within_its_header_is_lost() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"PROXY TCP4 192.0").await.unwrap();
    client.shutdown().await.unwrap();
    let settings = from_loopback(Duration::from_secs(10));
    let error = settings.read(&mut server).await.unwrap_err();
    assert!(matches!(error, ProxyError::Lost(_)), "{error}");
}
