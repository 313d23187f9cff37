//! Authorities, certificates, a server over a wire of its own with a time of its own, and dimpl's client at the other
//! end of it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

pub mod socket;

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dimpl::{Config, Dtls, DtlsCertificate, PskResolver};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use tempfile::TempDir;
use tidegate_dtls::{
    Counters, CredentialSettings, Credentials, Dropped, End, Failure, Method, Output, Path,
    PskKeys, PskSource, Server, SessionId, Settings, Who,
};
use tidegate_tls::{CertificateFiles, ClientAuth, ClientCa};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub const KEY_TEXT: &str = "0123456789abcdef";
pub const KEY: &[u8] = KEY_TEXT.as_bytes();
pub const CLIENT: &str = "127.0.0.1:40001";

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Leaf {
    pub pem: String,
    pub key_pem: String,
    pub dtls: DtlsCertificate,
    pub serial: SerialNumber,
}

/// What to put into a certificate.
#[derive(Clone)]
pub struct Subject<'a> {
    pub common_name: &'a str,
    pub usage: ExtendedKeyUsagePurpose,
    /// Days from now.
    pub from: i64,
    pub until: i64,
    pub algorithm: &'static rcgen::SignatureAlgorithm,
}

pub fn client_named(common_name: &str) -> Subject<'_> {
    Subject {
        common_name,
        usage: ExtendedKeyUsagePurpose::ClientAuth,
        from: -1,
        until: 90,
        algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
    }
}

pub fn server_named(common_name: &str) -> Subject<'_> {
    Subject {
        usage: ExtendedKeyUsagePurpose::ServerAuth,
        ..client_named(common_name)
    }
}

fn days(days: i64) -> SystemTime {
    let distance = DAY * u32::try_from(days.unsigned_abs()).unwrap();
    if days < 0 {
        SystemTime::now() - distance
    } else {
        SystemTime::now() + distance
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn issue(&self, subject: &Subject<'_>) -> Leaf {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, subject.common_name);
        params.extended_key_usages = vec![subject.usage.clone()];
        params.not_before = days(subject.from).into();
        params.not_after = days(subject.until).into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(subject.algorithm).unwrap();
        let random = key.public_key_raw()[1..9].try_into().unwrap();
        let serial = SerialNumber::from(u64::from_be_bytes(random) >> 1);
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            dtls: DtlsCertificate {
                certificate: certificate.der().to_vec(),
                private_key: key.serialize_der(),
            },
            serial,
        }
    }

    pub fn crl(&self, revoked: &[&Leaf]) -> String {
        let revoked_certs = revoked
            .iter()
            .map(|leaf| RevokedCertParams {
                serial_number: leaf.serial.clone(),
                revocation_time: days(-1).into(),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        CertificateRevocationListParams {
            this_update: days(-30).into(),
            next_update: days(30).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
        .pem()
        .unwrap()
    }
}

/// A temporary directory of keys and certificates.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces a file as one.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let temporary = self.path(&format!("{name}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).unwrap();
        let path = self.path(name);
        fs::rename(temporary, &path).unwrap();
        path
    }

    pub fn write_leaf(&self, name: &str, leaf: &Leaf) -> CertificateFiles {
        CertificateFiles {
            chain: self.write(&format!("{name}.crt"), &leaf.pem),
            key: self.write(&format!("{name}.key"), &leaf.key_pem),
        }
    }
}

/// Everything a listener can be configured with.
pub struct House {
    pub authority: Authority,
    pub folder: Folder,
    pub settings: CredentialSettings,
}

impl House {
    /// With the key of `device`, a certificate, and clients that are not asked for theirs.
    pub fn new() -> Self {
        let (authority, folder) = (Authority::new("house"), Folder::new());
        let leaf = authority.issue(&server_named("localhost"));
        let files = folder.write_leaf("server", &leaf);
        folder.write("ca.pem", &authority.pem());
        let mut keys = PskKeys::default();
        keys.insert("device", KEY).unwrap();
        Self {
            authority,
            folder,
            settings: CredentialSettings {
                psk: Some(PskSource::Keys(keys)),
                psk_hint: None,
                certificate: Some(files),
                client: ClientAuth::None,
            },
        }
    }

    /// Clients with a certificate must show theirs.
    pub fn mutual() -> Self {
        let mut house = Self::new();
        house.settings.client = ClientAuth::Required(ClientCa {
            ca: house.folder.path("ca.pem"),
            crl: None,
        });
        house
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        Credentials::load("coaps", self.settings.clone()).unwrap()
    }

    pub fn wire(&self, settings: Settings) -> Wire {
        Wire::new(settings, self.credentials())
    }
}

/// The address of ours that clients speak to.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

pub fn to_us(peer: SocketAddr) -> Path {
    Path {
        peer,
        local: Some(LOCAL),
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Established(SessionId, Who, Method),
    Data(SessionId, Vec<u8>),
    Ended(SessionId, End),
}

#[derive(Debug, Default)]
pub struct Log {
    pub sent: VecDeque<(SocketAddr, Vec<u8>)>,
    pub events: Vec<Event>,
    pub failures: Vec<Failure>,
}

impl Output for Log {
    /// What is said leaves from the address that was spoken to, at once or later.
    fn transmit(&mut self, path: Path, datagram: &[u8]) {
        assert_eq!(path.local, Some(LOCAL));
        self.sent.push_back((path.peer, datagram.to_vec()));
    }

    fn failed(&mut self, _: SocketAddr, why: Failure) {
        self.failures.push(why);
    }

    fn established(&mut self, session: SessionId, who: &Who, method: Method) {
        self.events
            .push(Event::Established(session, who.clone(), method));
    }

    fn data(&mut self, session: SessionId, plaintext: &[u8]) {
        self.events.push(Event::Data(session, plaintext.to_vec()));
    }

    fn ended(&mut self, session: SessionId, why: End) {
        self.events.push(Event::Ended(session, why));
    }
}

/// A server, and what it has said so far.
pub struct Wire {
    pub server: Server,
    pub log: Log,
    pub now: Instant,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    Lost,
    Twice,
    /// After the next one.
    Later,
}

impl Wire {
    pub fn new(settings: Settings, credentials: Arc<Credentials>) -> Self {
        let now = Instant::now();
        let counters = Arc::new(Counters::default());
        Self {
            server: Server::new(settings, credentials, counters, now).unwrap(),
            log: Log::default(),
            now,
        }
    }

    /// A datagram comes; what is answered to its address.
    pub fn receive(&mut self, peer: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.server
            .receive(to_us(peer), datagram, self.now, &mut self.log);
        self.sent_to(peer)
    }

    pub fn sent_to(&mut self, peer: SocketAddr) -> Vec<Vec<u8>> {
        let (there, elsewhere) = std::mem::take(&mut self.log.sent)
            .into_iter()
            .partition(|(to, _)| *to == peer);
        self.log.sent = elsewhere;
        let there: VecDeque<(SocketAddr, Vec<u8>)> = there;
        there.into_iter().map(|(_, datagram)| datagram).collect()
    }

    pub fn send(&mut self, session: SessionId, plaintext: &[u8]) {
        let sent = self
            .server
            .send(session, plaintext, self.now, &mut self.log);
        sent.unwrap();
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now, &mut self.log);
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log.events)
    }

    /// The session that has begun, and nothing else has happened.
    pub fn established(&mut self) -> (SessionId, Who, Method) {
        match self.events().as_slice() {
            [Event::Established(session, who, method)] => (*session, who.clone(), *method),
            other => panic!("{other:?}"),
        }
    }

    pub fn dropped(&self, why: Dropped) -> u64 {
        self.server.counters().dropped(why)
    }

    /// As many are counted as were told.
    pub fn failures(&self, why: Failure) -> u64 {
        let counted = self.server.counters().failures(why);
        let told = self.log.failures.iter().filter(|told| **told == why);
        assert_eq!(told.count() as u64, counted, "{why:?}");
        counted
    }

    pub fn sessions(&self) -> u64 {
        self.server.counters().sessions()
    }

    pub fn handshakes(&self) -> u64 {
        self.server.counters().handshakes()
    }
}

struct OneKey(Vec<u8>);

impl PskResolver for OneKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// dimpl's client.
pub struct Client {
    pub dtls: Dtls,
    pub address: SocketAddr,
    pub connected: bool,
    pub closed: bool,
    pub error: Option<dimpl::Error>,
    pub received: Vec<Vec<u8>>,
    pub server_certificate: Option<Vec<u8>>,
}

impl Client {
    pub fn psk(address: SocketAddr, identity: &str, key: &[u8], now: Instant) -> Self {
        let resolver = Arc::new(OneKey(key.to_vec()));
        let config = Config::builder()
            .with_psk_client(identity.as_bytes().to_vec(), resolver)
            .build();
        Self::of(address, Dtls::new_12_psk(Arc::new(config.unwrap()), now))
    }

    pub fn certificate12(address: SocketAddr, leaf: &Leaf, now: Instant) -> Self {
        let config = Arc::new(Config::default());
        Self::of(address, Dtls::new_12(config, leaf.dtls.clone(), now))
    }

    pub fn certificate13(address: SocketAddr, leaf: &Leaf, now: Instant) -> Self {
        let config = Arc::new(Config::default());
        Self::of(address, Dtls::new_13(config, leaf.dtls.clone(), now))
    }

    /// One that offers both versions.
    pub fn either(address: SocketAddr, leaf: &Leaf, now: Instant) -> Self {
        let config = Arc::new(Config::default());
        Self::of(address, Dtls::new_auto(config, leaf.dtls.clone(), now))
    }

    fn of(address: SocketAddr, mut dtls: Dtls) -> Self {
        dtls.set_active(true);
        Self {
            dtls,
            address,
            connected: false,
            closed: false,
            error: None,
            received: Vec::new(),
            server_certificate: None,
        }
    }

    /// What it wants to send now.
    pub fn output(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut buffer = vec![0; 1 << 15];
        if let Err(error) = self.dtls.handle_timeout(now) {
            self.error.get_or_insert(error);
        }
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(datagram) => datagrams.push(datagram.to_vec()),
                dimpl::Output::Connected => self.connected = true,
                dimpl::Output::CloseNotify => self.closed = true,
                dimpl::Output::ApplicationData(plaintext) => {
                    self.received.push(plaintext.to_vec());
                }
                dimpl::Output::PeerCert(der) => self.server_certificate = Some(der.to_vec()),
                dimpl::Output::Timeout(_) => return datagrams,
                _ => {}
            }
        }
    }

    pub fn input(&mut self, datagram: &[u8], now: Instant) {
        if self.error.is_none()
            && let Err(error) = self
                .dtls
                .handle_timeout(now)
                .and_then(|()| self.dtls.handle_packet(datagram))
        {
            self.error = Some(error);
        }
    }

    /// Lets both sides talk until nobody has more to say. `fate` decides what becomes of each datagram, by its number
    /// and by whether it is the client's.
    pub fn talk_with(&mut self, wire: &mut Wire, fate: &mut impl FnMut(usize, bool) -> Fate) {
        let (mut number, mut held): (usize, [Option<Vec<u8>>; 2]) = (0, [None, None]);
        loop {
            let up = self.output(wire.now);
            let down = wire.sent_to(self.address);
            if up.is_empty() && down.is_empty() {
                let [up, down] = &mut held;
                if up.is_none() && down.is_none() {
                    return;
                }
                if let Some(datagram) = up.take() {
                    wire.server
                        .receive(to_us(self.address), &datagram, wire.now, &mut wire.log);
                }
                if let Some(datagram) = down.take() {
                    self.input(&datagram, wire.now);
                }
                continue;
            }
            for (is_up, datagrams) in [(true, up), (false, down)] {
                for datagram in datagrams {
                    let late = held[usize::from(!is_up)].take();
                    let times = match fate(number, is_up) {
                        Fate::Arrives => 1,
                        Fate::Lost => 0,
                        Fate::Twice => 2,
                        Fate::Later => {
                            held[usize::from(!is_up)] = Some(datagram.clone());
                            0
                        }
                    };
                    number += 1;
                    let arriving = std::iter::repeat_n(datagram, times).chain(late);
                    for datagram in arriving {
                        if is_up {
                            wire.server.receive(
                                to_us(self.address),
                                &datagram,
                                wire.now,
                                &mut wire.log,
                            );
                        } else {
                            self.input(&datagram, wire.now);
                        }
                    }
                }
            }
        }
    }

    pub fn talk(&mut self, wire: &mut Wire) {
        self.talk_with(wire, &mut |_, _| Fate::Arrives);
    }

    /// Up to the end of the handshake.
    pub fn connect(&mut self, wire: &mut Wire) -> (SessionId, Who, Method) {
        self.talk(wire);
        assert!(self.connected, "{:?}", self.error);
        wire.established()
    }

    pub fn send(&mut self, plaintext: &[u8]) {
        self.dtls.send_application_data(plaintext).unwrap();
    }

    /// Whether the server answers this client's data.
    pub fn is_served(&mut self, wire: &mut Wire, session: SessionId) -> bool {
        self.send(b"ping");
        self.talk(wire);
        if wire.events() != [Event::Data(session, b"ping".to_vec())] {
            return false;
        }
        wire.send(session, b"pong");
        self.talk(wire);
        std::mem::take(&mut self.received) == [b"pong".to_vec()]
    }
}
