//! QUIC version 1 as bytes: packets (RFC 9000 section 17), their protection (RFC 9001 section 5) and frames (RFC
//! 9000 section 19), written and read by hand, so that they can be wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::quic::{
    ClientConnection, DirectionalKeys, HeaderProtectionKey, KeyChange, Keys, PacketKey, Suite,
    Version,
};
use rustls::{RootCertStore, Side};

use tidegate_tests::Gateway;
use tidegate_tests::wire::PATIENCE;

/// The smallest datagram that may begin a connection (RFC 9000 section 14.1).
pub(crate) const SMALLEST: usize = 1_200;
/// The largest that fits into UDP over IPv4.
pub(crate) const LARGEST: usize = 65_507;
/// Octets of the connection identifiers that are given here.
pub(crate) const ID: usize = 8;

pub(crate) const INITIAL: u8 = 0xC0;
pub(crate) const HANDSHAKE: u8 = 0xE0;
pub(crate) const SHORT: u8 = 0x40;
/// The bit of a short header that changes with each key update (RFC 9001 section 6).
pub(crate) const PHASE: u8 = 0x04;

/// The two bits of a long header's first byte that say which packet it is (RFC 9000 section 17.2).
const TYPE: u8 = 0x30;
/// Octets of each packet number written here.
const NUMBER: usize = 4;
const TAG: usize = 16;
const SAMPLE: usize = 16;

pub(crate) fn varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend((value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend((value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend((value | 0xC000_0000_0000_0000).to_be_bytes()),
    }
}

/// Reads a packet or a frame from its beginning.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let length = 1 << (self.0.first()? >> 6);
        let bytes = self.bytes(length)?;
        let first = u64::from(bytes[0] & 0x3F);
        let rest = &bytes[1..];
        Some(
            rest.iter()
                .fold(first, |value, byte| value << 8 | u64::from(*byte)),
        )
    }
}

fn suite() -> Suite {
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    suite
        .and_then(rustls::Tls13CipherSuite::quic_suite)
        .unwrap()
}

/// The keys of Initial packets, which whoever sees the first one can derive (RFC 9001 section 5.2).
pub(crate) fn initial_keys(destination: &[u8]) -> Keys {
    suite().keys(destination, Side::Client, Version::V1)
}

/// What stands before the packet number.
#[derive(Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) kind: u8,
    pub(crate) destination: &'a [u8],
    pub(crate) source: &'a [u8],
    pub(crate) token: &'a [u8],
}

impl<'a> Header<'a> {
    pub(crate) fn initial(destination: &'a [u8], source: &'a [u8]) -> Self {
        Self {
            kind: INITIAL,
            destination,
            source,
            token: &[],
        }
    }

    fn encode(&self, length: usize) -> Vec<u8> {
        let mut out = vec![self.kind | (NUMBER - 1) as u8];
        if self.kind & 0x80 == 0 {
            out.extend(self.destination);
            return out;
        }
        out.extend(1_u32.to_be_bytes());
        for id in [self.destination, self.source] {
            out.push(id.len() as u8);
            out.extend(id);
        }
        if self.kind & 0xF0 == INITIAL {
            varint(&mut out, self.token.len() as u64);
            out.extend(self.token);
        }
        varint(&mut out, (NUMBER + length + TAG) as u64);
        out
    }

    /// A protected packet. Its frames are padded, so that it has `smallest` octets at least.
    pub(crate) fn seal(
        &self,
        keys: &DirectionalKeys,
        number: u64,
        frames: &[u8],
        smallest: usize,
    ) -> Vec<u8> {
        // As long as it can be: a length of two octets for any that is padded.
        let around = self.encode(smallest.max(frames.len())).len() + NUMBER + TAG;
        let mut payload = frames.to_vec();
        payload.resize(
            frames
                .len()
                .max(smallest.saturating_sub(around))
                .max(NUMBER),
            0,
        );
        let mut packet = self.encode(payload.len());
        let at = packet.len();
        packet.extend((number as u32).to_be_bytes());
        let tag = keys
            .packet
            .encrypt_in_place(number, &packet, &mut payload)
            .unwrap();
        packet.extend(payload);
        packet.extend(tag.as_ref());
        let (before, sample) = packet.split_at_mut(at + NUMBER);
        let (first, number) = before.split_at_mut(at);
        keys.header
            .encrypt_in_place(&sample[..SAMPLE], &mut first[0], number)
            .unwrap();
        packet
    }
}

/// A packet that came, still protected.
pub(crate) struct Received {
    pub(crate) kind: u8,
    pub(crate) source: Vec<u8>,
    /// The whole of it, for a Retry from behind the source.
    pub(crate) bytes: Vec<u8>,
    number_at: usize,
}

/// The packets of a datagram (RFC 9000 section 12.2); what is none ends it.
pub(crate) fn split(datagram: &[u8]) -> Vec<Received> {
    let mut packets = Vec::new();
    let mut rest = datagram;
    while let Some((packet, length)) = first(rest) {
        packets.push(packet);
        rest = &rest[length..];
    }
    packets
}

fn first(datagram: &[u8]) -> Option<(Received, usize)> {
    let mut reader = Reader(datagram);
    let first = reader.byte()?;
    if first & 0x80 == 0 {
        let packet = Received {
            kind: SHORT,
            source: Vec::new(),
            bytes: datagram.to_vec(),
            number_at: 1 + ID,
        };
        return Some((packet, datagram.len()));
    }
    let version = reader.bytes(4)?;
    let length = reader.byte()?;
    reader.bytes(length.into())?;
    let length = reader.byte()?;
    let source = reader.bytes(length.into())?.to_vec();
    let kind = if version == [0; 4] {
        VERSION_NEGOTIATION
    } else {
        0xC0 | first & TYPE
    };
    if matches!(kind, RETRY | VERSION_NEGOTIATION) {
        let packet = Received {
            kind,
            source,
            bytes: reader.0.to_vec(),
            number_at: 0,
        };
        return Some((packet, datagram.len()));
    }
    if kind == INITIAL {
        let token = reader.varint()?;
        reader.bytes(token as usize)?;
    }
    let length = reader.varint()? as usize;
    let number_at = datagram.len() - reader.0.len();
    reader.bytes(length)?;
    let end = number_at + length;
    let packet = Received {
        kind,
        source,
        bytes: datagram[..end].to_vec(),
        number_at,
    };
    Some((packet, end))
}

pub(crate) const RETRY: u8 = 0xF0;
pub(crate) const VERSION_NEGOTIATION: u8 = 0;

impl Received {
    /// Its number and its frames; `None` if it is not protected with these keys.
    pub(crate) fn open(&self, keys: &DirectionalKeys, expected: u64) -> Option<(u64, Vec<u8>)> {
        self.open_with(&*keys.header, &*keys.packet, expected)
    }

    pub(crate) fn open_with(
        &self,
        header_key: &dyn HeaderProtectionKey,
        key: &dyn PacketKey,
        expected: u64,
    ) -> Option<(u64, Vec<u8>)> {
        let mut packet = self.bytes.clone();
        let at = self.number_at;
        let (before, sample) = packet.split_at_mut_checked(at + NUMBER)?;
        let (first, number) = before.split_at_mut(at);
        let sample = sample.get(..SAMPLE)?;
        header_key
            .decrypt_in_place(sample, &mut first[0], number)
            .ok()?;
        let length = usize::from(packet[0] & 3) + 1;
        let truncated = packet[at..at + length].iter();
        let truncated = truncated.fold(0, |number, byte| number << 8 | u64::from(*byte));
        // RFC 9000 appendix A.3.
        let window = 1_u64 << (8 * length);
        let near = expected & !(window - 1) | truncated;
        let number = if near + window / 2 <= expected {
            near + window
        } else if near > expected + window / 2 && near >= window {
            near - window
        } else {
            near
        };
        let (header, payload) = packet.split_at_mut(at + length);
        let frames = key.decrypt_in_place(number, header, payload).ok()?;
        Some((number, frames.to_vec()))
    }
}

/// What a frame says, as far as anybody here asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Asks for an acknowledgement and is of no interest otherwise.
    Other,
    /// Asks for none.
    Quiet,
    Crypto(u64, Vec<u8>),
    Stream(u64, u64, Vec<u8>),
    ResetStream(u64),
    NewConnectionId(Vec<u8>),
    PathChallenge([u8; 8]),
    /// The error code of QUIC or of the application.
    Close(u64),
    ApplicationClose(u64),
    HandshakeDone,
}

/// RFC 9000 section 19.
pub(crate) fn frames(payload: &[u8]) -> Option<Vec<Frame>> {
    let mut reader = Reader(payload);
    let mut frames = Vec::new();
    while !reader.0.is_empty() {
        frames.push(frame(&mut reader)?);
    }
    Some(frames)
}

fn frame(reader: &mut Reader<'_>) -> Option<Frame> {
    let kind = reader.varint()?;
    let numbers = match kind {
        0x01 | 0x1E => 0,
        0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 => 1,
        0x05 | 0x11 | 0x15 => 2,
        0x04 => 3,
        _ => usize::MAX,
    };
    if numbers < usize::MAX {
        let numbers: Option<Vec<u64>> = (0..numbers).map(|_| reader.varint()).collect();
        return Some(match (kind, numbers?.as_slice()) {
            (0x1E, _) => Frame::HandshakeDone,
            (0x04, [stream, ..]) => Frame::ResetStream(*stream),
            _ => Frame::Other,
        });
    }
    Some(match kind {
        0x00 => Frame::Quiet,
        0x02 | 0x03 => {
            reader.varint()?;
            reader.varint()?;
            let ranges = reader.varint()?;
            let numbers = 1 + 2 * ranges + if kind == 0x03 { 3 } else { 0 };
            for _ in 0..numbers {
                reader.varint()?;
            }
            Frame::Quiet
        }
        0x06 => {
            let offset = reader.varint()?;
            let length = reader.varint()?;
            Frame::Crypto(offset, reader.bytes(length as usize)?.to_vec())
        }
        0x07 => {
            let length = reader.varint()?;
            reader.bytes(length as usize)?;
            Frame::Other
        }
        0x08..=0x0F => {
            let stream = reader.varint()?;
            let offset = if kind & 4 > 0 { reader.varint()? } else { 0 };
            let rest = reader.0.len() as u64;
            let length = if kind & 2 > 0 { reader.varint()? } else { rest };
            Frame::Stream(stream, offset, reader.bytes(length as usize)?.to_vec())
        }
        0x18 => {
            reader.varint()?;
            reader.varint()?;
            let length = reader.byte()?;
            let id = reader.bytes(length.into())?.to_vec();
            reader.bytes(16)?;
            Frame::NewConnectionId(id)
        }
        0x1A | 0x1B => {
            let data = reader.bytes(8)?.try_into().ok()?;
            if kind == 0x1A {
                Frame::PathChallenge(data)
            } else {
                Frame::Other
            }
        }
        0x1C | 0x1D => {
            let code = reader.varint()?;
            if kind == 0x1C {
                reader.varint()?;
            }
            let length = reader.varint()?;
            reader.bytes(length as usize)?;
            if kind == 0x1C {
                Frame::Close(code)
            } else {
                Frame::ApplicationClose(code)
            }
        }
        _ => return None,
    })
}

/// CRYPTO (RFC 9000 section 19.6).
pub(crate) fn crypto(offset: u64, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x06];
    varint(&mut out, offset);
    varint(&mut out, data.len() as u64);
    out.extend(data);
    out
}

/// STREAM with offset and length (RFC 9000 section 19.8).
pub(crate) fn stream(id: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0E];
    varint(&mut out, id);
    varint(&mut out, offset);
    varint(&mut out, data.len() as u64);
    out.extend(data);
    out
}

/// CONNECTION_CLOSE of QUIC (RFC 9000 section 19.19).
pub(crate) const CLOSE: [u8; 4] = [0x1C, 0, 0, 0];
pub(crate) const PING: [u8; 1] = [0x01];

/// TLS of a client that trusts the gateway.
pub(crate) fn tls(gateway: &Gateway) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(gateway.authority()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    tls_trusting(roots)
}

/// TLS of a client that goes no further than its ClientHello.
pub(crate) fn tls_of_nobody() -> Arc<ClientConfig> {
    tls_trusting(RootCertStore::empty())
}

/// The ClientHello fits into one packet.
fn tls_trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    // A post-quantum share alone is larger than a packet.
    provider.kx_groups = vec![kx_group::X25519];
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    Arc::new(config)
}

/// The transport parameters of a client with this identifier that gives credit for everything (RFC 9000 section 18).
pub(crate) fn parameters(source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut parameter = |id: u64, value: &[u8]| {
        varint(&mut out, id);
        varint(&mut out, value.len() as u64);
        out.extend(value);
    };
    parameter(0x0F, source);
    let mut large = Vec::new();
    varint(&mut large, 1 << 30);
    for id in 0x04..=0x07 {
        parameter(id, &large);
    }
    out
}

/// A client's TLS and its ClientHello.
pub(crate) fn client_hello(
    config: Arc<ClientConfig>,
    source: &[u8],
) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config, Version::V1, name, parameters(source)).unwrap();
    let mut hello = Vec::new();
    let change: Option<KeyChange> = tls.write_hs(&mut hello);
    assert!(change.is_none(), "keys before ServerHello");
    (tls, hello)
}

/// A UDP socket of the loopback that waits for what comes.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram.
#[track_caller]
pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; LARGEST];
    let length = socket
        .recv(&mut buffer)
        .unwrap_or_else(|error| panic!("no datagram: {error}"));
    buffer.truncate(length);
    buffer
}

/// What has come and was not looked at.
pub(crate) fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_nonblocking(true).unwrap();
    let mut datagrams = Vec::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => datagrams.push(buffer[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("nothing can be received: {error}"),
        }
    }
    socket.set_nonblocking(false).unwrap();
    datagrams
}

/// Everything that was sent from this socket before has been looked at when this returns; what came for it. A
/// gateway looks at datagrams in the order in which they come, and answers one of a version that it does not speak
/// at once (RFC 9000 section 6).
#[track_caller]
pub(crate) fn fence(socket: &UdpSocket, gateway: SocketAddr, mark: u64) -> Vec<Vec<u8>> {
    let probe = probe(&mark.to_be_bytes(), SMALLEST);
    let end = Instant::now() + PATIENCE;
    let mut came = Vec::new();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    'again: loop {
        // It may be lost, as any datagram.
        socket.send_to(&probe, gateway).unwrap();
        let mut buffer = vec![0; LARGEST];
        while let Ok(length) = socket.recv(&mut buffer) {
            let datagram = buffer[..length].to_vec();
            let answer = split(&datagram);
            let own = answer.first().is_some_and(|packet| {
                packet.kind == VERSION_NEGOTIATION && packet.source == mark.to_be_bytes()
            });
            if own {
                break 'again;
            }
            came.push(datagram);
        }
        assert!(Instant::now() < end, "the gateway answers nothing any more");
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    came
}

/// A datagram of a version that is reserved to be unknown (RFC 9000 section 15).
pub(crate) fn probe(destination: &[u8], length: usize) -> Vec<u8> {
    let mut datagram = vec![0xC0, 0x1A, 0x2A, 0x3A, 0x4A, destination.len() as u8];
    datagram.extend(destination);
    datagram.push(0);
    datagram.resize(length, 0);
    datagram
}
