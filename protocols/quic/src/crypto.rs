//! The TLS of a server's connections, as quinn-proto asks for it (RFC 9001).
//!
//! quinn-proto's own does the same and keeps what is wanted here to itself: whether a session was resumed, and what
//! became of early data.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::pki_types::CertificateDer;
use rustls::quic::{KeyChange, Secrets, ServerConnection, Version};
use rustls::{AlertDescription, HandshakeKind};

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

impl Handshake {
    pub(crate) const NOTHING: Self = Self {
        resumed: false,
        early_data: EarlyData::None,
    };
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
    /// Tries whether connections can be made of this configuration.
    pub(crate) fn new(
        tls: Arc<rustls::ServerConfig>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, rustls::Error> {
        ServerConnection::new(Arc::clone(&tls), Version::V1, Vec::new())?;
        let initial = QuicServerConfig::try_from(Arc::clone(&tls))
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            initial: Arc::new(initial),
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
        Box::new(self.session(version, params))
    }
}

impl Crypto {
    fn session(&self, version: u32, params: &TransportParameters) -> ServerSession {
        let mut encoded = Vec::new();
        params.write(&mut encoded);
        let tls = ServerConnection::new(Arc::clone(&self.tls), tls_version(version), encoded);
        #[expect(
            clippy::expect_used,
            reason = "it fails for what is wrong with a configuration, and this one was tried"
        )]
        let tls = tls.expect("a configuration for QUIC");
        ServerSession {
            version,
            initial: Arc::clone(&self.initial),
            told: false,
            secrets: None,
            state: State::Handshaking(Box::new(Handshaking {
                tls,
                hello: FirstHello::default(),
            })),
        }
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
    initial: Arc<QuicServerConfig>,
    /// It was said that there is something to know of the handshake.
    told: bool,
    /// What the keys after the next are made of.
    secrets: Option<Secrets>,
    state: State,
}

enum State {
    Handshaking(Box<Handshaking>),
    Confirmed(Confirmed),
}

/// What is needed to shake hands: kilobytes.
struct Handshaking {
    tls: ServerConnection,
    hello: FirstHello,
}

/// What is kept for as long as the connection lives. rustls would keep its buffers, what the client has sent of
/// itself, and the secrets of exporters, for which nobody asks.
struct Confirmed {
    handshake: Handshake,
    certificates: Option<Vec<CertificateDer<'static>>>,
}

impl Handshaking {
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

    fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        let certificates = self.tls.peer_certificates()?;
        let owned = |certificate: &CertificateDer<'_>| certificate.clone().into_owned();
        Some(certificates.iter().map(owned).collect())
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
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
        })
    }
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
        Some(Box::new(match &self.state {
            State::Handshaking(handshaking) => handshaking.handshake(),
            State::Confirmed(confirmed) => confirmed.handshake,
        }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let certificates = match &self.state {
            State::Handshaking(handshaking) => handshaking.certificates(),
            State::Confirmed(confirmed) => confirmed.certificates.clone(),
        };
        Some(Box::new(certificates?))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        let State::Handshaking(handshaking) = &self.state else {
            return None;
        };
        let keys = handshaking.tls.zero_rtt_keys()?;
        Some((Box::new(keys.header), Box::new(keys.packet)))
    }

    /// Asked of clients only.
    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Handshaking(handshaking) => handshaking.tls.is_handshaking(),
            State::Confirmed(_) => false,
        }
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let State::Handshaking(handshaking) = &mut self.state else {
            // No message of TLS comes from a client that has shaken hands: keys are updated without one (RFC 9001
            // section 6), and it is not asked for a certificate later (section 4.4).
            return Err(TransportError {
                code: TransportErrorCode::crypto(AlertDescription::UnexpectedMessage.into()),
                frame: None,
                reason: "a handshake message after the handshake".to_owned(),
            });
        };
        handshaking.read(bytes)?;
        let tls = &handshaking.tls;
        let known = tls.alpn_protocol().is_some() || !tls.is_handshaking();
        Ok(known && !std::mem::replace(&mut self.told, known))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        // Asked for when the handshake begins.
        let State::Handshaking(handshaking) = &self.state else {
            return Ok(None);
        };
        let Some(encoded) = handshaking.tls.quic_transport_parameters() else {
            return Ok(None);
        };
        let parameters = TransportParameters::read(Side::Server, &mut Cursor::new(encoded));
        parameters.map(Some).map_err(Into::into)
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        let State::Handshaking(handshaking) = &mut self.state else {
            return None;
        };
        let keys = match handshaking.tls.write_hs(out) {
            Some(KeyChange::Handshake { keys }) => keys,
            Some(KeyChange::OneRtt { keys, next }) => {
                self.secrets = Some(next);
                keys
            }
            None => {
                // Everything is written: after the client's Finished that includes the tickets.
                if !handshaking.tls.is_handshaking() {
                    self.state = State::Confirmed(Confirmed {
                        handshake: handshaking.handshake(),
                        certificates: handshaking.certificates(),
                    });
                }
                return None;
            }
        };
        Some(Keys {
            header: KeyPair {
                local: Box::new(keys.local.header),
                remote: Box::new(keys.remote.header),
            },
            packet: KeyPair {
                local: Box::new(keys.local.packet),
                remote: Box::new(keys.remote.packet),
            },
        })
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

    /// Of nobody here.
    fn export_keying_material(
        &self,
        _out: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::quic::ClientConnection;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, RootCertStore, version::TLS13};

    use super::*;

    /// A server, and a client that it knows by its certificate, which is the same.
    struct Sides {
        crypto: Crypto,
        client: Arc<ClientConfig>,
        certificate: CertificateDer<'static>,
    }

    impl Sides {
        fn new() -> Self {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let certificate = made.cert.der().clone();
            let key = made.signing_key.serialize_der();
            let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
            let provider = Arc::new(default_provider());
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&roots),
                Arc::clone(&provider),
            );
            let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_client_cert_verifier(verifier.build().unwrap())
                .with_single_cert(vec![certificate.clone()], key())
                .unwrap();
            let mut client = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate.clone()], key())
                .unwrap();
            for protocols in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
                *protocols = vec![crate::ALPN.to_vec()];
            }
            Self {
                crypto: Crypto::new(Arc::new(server), Arc::default()).unwrap(),
                client: Arc::new(client),
                certificate,
            }
        }

        /// A session whose handshake is over, and the secrets of its client.
        fn shake_hands(&self) -> (ServerSession, Secrets) {
            let parameters = TransportParameters::read(Side::Client, &mut Cursor::new([]));
            let mut session = self.crypto.session(1, &parameters.unwrap());
            let name = ServerName::try_from("localhost").unwrap();
            let client = Arc::clone(&self.client);
            let mut client = ClientConnection::new(client, Version::V1, name, Vec::new()).unwrap();
            let mut secrets = None;
            loop {
                let mut is_over = true;
                loop {
                    let mut out = Vec::new();
                    let change = client.write_hs(&mut out);
                    if change.is_none() && out.is_empty() {
                        break;
                    }
                    if !out.is_empty() {
                        is_over = false;
                        session.read_handshake(&out).unwrap();
                    }
                    if let Some(KeyChange::OneRtt { next, .. }) = change {
                        secrets = Some(next);
                    }
                }
                loop {
                    let mut out = Vec::new();
                    let keys = session.write_handshake(&mut out);
                    if keys.is_none() && out.is_empty() {
                        break;
                    }
                    client.read_hs(&out).unwrap();
                }
                if is_over {
                    return (session, secrets.unwrap());
                }
            }
        }
    }

    fn told(session: &ServerSession) -> Handshake {
        *session.handshake_data().unwrap().downcast().unwrap()
    }

    #[test]
    fn a_handshake_leaves_nothing_but_what_is_asked_for_later() {
        let sides = Sides::new();
        for resumed in [false, true] {
            // The second handshake needs the tickets of the first.
            let (session, _) = sides.shake_hands();
            assert!(matches!(session.state, State::Confirmed(_)));
            assert!(size_of::<ServerSession>() <= 256);
            assert!(!session.is_handshaking());
            let early_data = EarlyData::None;
            assert_eq!(
                told(&session),
                Handshake {
                    resumed,
                    early_data
                }
            );
            let shown = session.peer_identity().unwrap();
            let shown = shown.downcast::<Vec<CertificateDer<'static>>>().unwrap();
            assert_eq!(*shown, std::slice::from_ref(&sides.certificate));
        }
    }

    #[test]
    fn rfc9001_6_keys_are_updated_after_the_handshake() {
        let (mut session, mut secrets) = Sides::new().shake_hands();
        for number in 0..3 {
            let server = session.next_1rtt_keys().unwrap();
            let client = secrets.next_packet_keys();
            let mut packet = b"headerpayload".to_vec();
            packet.resize(packet.len() + server.local.tag_len(), 0);
            server.local.encrypt(number, &mut packet, 6);
            let (header, payload) = packet.split_at_mut(6);
            let payload = client.remote.decrypt_in_place(number, header, payload);
            assert_eq!(payload.unwrap(), b"payload");
        }
    }

    #[test]
    fn rfc9001_6_a_handshake_message_after_the_handshake_is_unexpected() {
        let (mut session, _) = Sides::new().shake_hands();
        // KeyUpdate.
        let refused = session.read_handshake(&[24, 0, 0, 1, 0]).unwrap_err();
        assert_eq!(refused.code, TransportErrorCode::crypto(10));
    }
}
