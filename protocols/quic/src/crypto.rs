//! The TLS of a server's connections, as quinn asks for it (RFC 9001).
//!
//! quinn's own does the same and keeps what is wanted here to itself: whether a session was resumed, and what
//! became of early data.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::quic::{self, DirectionalKeys, KeyChange, Secrets, ServerConnection, Version};

use crate::hello::FirstHello;
use crate::metrics::Metrics;

/// What a handshake has come to. Exact for each connection, once it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// An earlier session was resumed.
    pub resumed: bool,
    /// What became of early data.
    pub early_data: EarlyData,
}

/// What became of early data (0-RTT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyData {
    /// The client offered none.
    None,
    /// It was kept until the handshake was confirmed.
    Accepted,
    /// It was passed over; the client sends it again.
    Refused,
}

/// Makes the TLS of connections.
pub(crate) struct Crypto {
    tls: Arc<rustls::ServerConfig>,
    /// Keys of Initial packets and of Retry, which are the same for everybody.
    initial: Arc<QuicServerConfig>,
    metrics: Arc<Metrics>,
}

impl Crypto {
    pub(crate) fn new(
        tls: Arc<rustls::ServerConfig>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NoInitialCipherSuite> {
        Ok(Self {
            initial: Arc::new(QuicServerConfig::try_from(Arc::clone(&tls))?),
            tls,
            metrics,
        })
    }
}

impl ServerConfig for Crypto {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        // Of each connection this is asked for once, just before its first path is made.
        self.metrics.connection();
        let mut encoded = Vec::new();
        params.write(&mut encoded);
        let tls = ServerConnection::new(Arc::clone(&self.tls), tls_version(version), encoded);
        #[expect(
            clippy::expect_used,
            reason = "it fails for a configuration without TLS 1.3 or a suite for QUIC, of which \
                      none is made, and for an amount of early data that none has"
        )]
        let tls = tls.expect("a configuration for QUIC");
        Box::new(ServerSession {
            version,
            tls: tls.into(),
            initial: Arc::clone(&self.initial),
            hello: FirstHello::default(),
            told: false,
            secrets: None,
        })
    }
}

/// The drafts that quinn knows, too, differ in salts and in the number of an extension.
const fn tls_version(version: u32) -> Version {
    match version {
        0xFF00_001D..=0xFF00_0020 => Version::V1Draft,
        _ => Version::V1,
    }
}

struct ServerSession {
    version: u32,
    tls: quic::Connection,
    initial: Arc<QuicServerConfig>,
    hello: FirstHello,
    /// It was said that there is something to know of the handshake.
    told: bool,
    secrets: Option<Secrets>,
}

impl ServerSession {
    fn handshake(&self) -> Handshake {
        let offered = self.hello.offers_early_data();
        Handshake {
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
            early_data: match (offered, self.tls.zero_rtt_keys().is_some()) {
                (false, _) => EarlyData::None,
                // rustls has no keys for what it does not take.
                (true, true) => EarlyData::Accepted,
                (true, false) => EarlyData::Refused,
            },
        }
    }
}

fn boxed(
    local: DirectionalKeys,
    remote: DirectionalKeys,
) -> (KeyPair<Box<dyn HeaderKey>>, KeyPair<Box<dyn PacketKey>>) {
    let header = KeyPair::<Box<dyn HeaderKey>> {
        local: Box::new(local.header),
        remote: Box::new(remote.header),
    };
    let packet = KeyPair::<Box<dyn PacketKey>> {
        local: Box::new(local.packet),
        remote: Box::new(remote.packet),
    };
    (header, packet)
}

impl Session for ServerSession {
    fn initial_keys(&self, id: &ConnectionId, _side: Side) -> Keys {
        #[expect(
            clippy::expect_used,
            reason = "quinn has asked for keys of this version before it made the session"
        )]
        self.initial
            .initial_keys(self.version, id)
            .expect("a version that is known")
    }

    /// A [`Handshake`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.handshake()))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let certificates = self.tls.peer_certificates()?;
        let owned: Vec<CertificateDer<'static>> = certificates
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Some(Box::new(owned))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let keys = self.tls.zero_rtt_keys()?;
        Some((Box::new(keys.header), Box::new(keys.packet)))
    }

    /// Asked of clients only.
    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.hello.read(bytes);
        self.tls.read_hs(bytes).map_err(|error| {
            let (code, reason) = match self.tls.alert() {
                Some(alert) => (TransportErrorCode::crypto(alert.into()), error.to_string()),
                None => (
                    TransportErrorCode::PROTOCOL_VIOLATION,
                    format!("TLS error: {error}"),
                ),
            };
            TransportError {
                code,
                frame: None,
                reason,
            }
        })?;
        let known = self.tls.alpn_protocol().is_some() || !self.is_handshaking();
        Ok(known && !std::mem::replace(&mut self.told, known))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(encoded) = self.tls.quic_transport_parameters() else {
            return Ok(None);
        };
        let parameters = TransportParameters::read(Side::Server, &mut Cursor::new(encoded));
        parameters.map(Some).map_err(Into::into)
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        let keys = match self.tls.write_hs(out)? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.secrets = Some(next);
                keys
            }
        };
        let (header, packet) = boxed(keys.local, keys.remote);
        Some(Keys { header, packet })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.secrets.as_mut()?.next_packet_keys();
        Some(KeyPair {
            local: Box::new(keys.local),
            remote: Box::new(keys.remote),
        })
    }

    /// Asked of clients only: servers get no Retry (RFC 9000 section 17.2.5).
    fn is_valid_retry(&self, _id: &ConnectionId, _header: &[u8], _payload: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        out: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let exported = self.tls.export_keying_material(out, label, Some(context));
        exported.map(|_| ()).map_err(|_| ExportKeyingMaterialError)
    }
}
