//! Authorities, certificates, a server that echoes and clients, all on loopback.

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

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tidegate_tls::{
    AcceptSettings, Acceptor, CertificateFiles, ClientAuth, ClientCa, HandshakeError, Identity,
    MinVersion, Peer, Settings, provider,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
    pub serial: SerialNumber,
}

/// What to put into a certificate.
pub struct Leaf<'a> {
    pub common_name: &'a str,
    pub names: &'a [&'a str],
    pub usage: ExtendedKeyUsagePurpose,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl<'a> Leaf<'a> {
    pub fn server(names: &'a [&'a str]) -> Self {
        Self {
            common_name: names.first().copied().unwrap_or("server"),
            names,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            not_before: SystemTime::now() - DAY,
            not_after: SystemTime::now() + 90 * DAY,
        }
    }

    pub fn client(common_name: &'a str) -> Self {
        Self {
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            common_name,
            ..Self::server(&[])
        }
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

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn issue(&self, leaf: Leaf<'_>) -> Pair {
        let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.common_name);
        params.extended_key_usages = vec![leaf.usage];
        params.not_before = leaf.not_before.into();
        params.not_after = leaf.not_after.into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let serial = SerialNumber::from(
            u64::from_be_bytes(key.public_key_raw()[1..9].try_into().unwrap()) >> 1,
        );
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            serial,
        }
    }

    pub fn crl(&self, revoked: &[&Pair], next_update: SystemTime) -> String {
        let revoked_certs = revoked
            .iter()
            .map(|pair| RevokedCertParams {
                serial_number: pair.serial.clone(),
                revocation_time: (SystemTime::now() - DAY).into(),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        CertificateRevocationListParams {
            this_update: (SystemTime::now() - 30 * DAY).into(),
            next_update: next_update.into(),
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

/// A temporary directory of certificate files.
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
        let path = self.path(name);
        fs::rename(temporary, &path).unwrap();
        path
    }

    pub fn write_pair(&self, name: &str, pair: &Pair) -> CertificateFiles {
        CertificateFiles {
            chain: self.write(&format!("{name}.crt"), &pair.chain),
            key: self.write(&format!("{name}.key"), &pair.key),
        }
    }
}

pub fn settings(certificates: Vec<CertificateFiles>) -> Settings {
    Settings {
        certificates,
        client: ClientAuth::None,
        min_version: MinVersion::Tls12,
        alpn: Vec::new(),
        resumption: tidegate_tls::Resumption::Tickets { keys: Vec::new() },
    }
}

pub fn client_ca(ca: PathBuf, crl: Option<PathBuf>) -> ClientCa {
    ClientCa { ca, crl }
}

pub const ACCEPT: AcceptSettings = AcceptSettings {
    handshake_timeout: PATIENCE,
    max_handshakes: 64,
};

/// Accepts, reports the result of each handshake and echoes what it receives.
pub struct Server {
    pub address: SocketAddr,
    pub acceptor: Arc<Acceptor>,
    pub identity: Arc<Identity>,
    results: mpsc::UnboundedReceiver<Result<Peer, HandshakeError>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(settings: Settings) -> Self {
        Self::with(settings, ACCEPT).await
    }

    pub async fn with(settings: Settings, accept: AcceptSettings) -> Self {
        let identity = Identity::load("test", settings).unwrap();
        let acceptor = Arc::new(Acceptor::new(identity.clone(), accept));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, results) = mpsc::unbounded_channel();
        let shared = acceptor.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, sender) = (shared.clone(), sender.clone());
                tokio::spawn(async move {
                    match acceptor.accept(stream).await {
                        Ok((mut stream, peer)) => {
                            let _ = sender.send(Ok(peer));
                            let mut buffer = [0; 256];
                            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                                if stream.write_all(&buffer[..length]).await.is_err() {
                                    break;
                                }
                            }
                            let _ = stream.shutdown().await;
                        }
                        Err(error) => {
                            let _ = sender.send(Err(error));
                        }
                    }
                });
            }
        });
        Self {
            address,
            acceptor,
            identity,
            results,
            task,
        }
    }

    /// How the next handshake ended, in order of their ends.
    pub async fn result(&mut self) -> Result<Peer, HandshakeError> {
        tokio::time::timeout(PATIENCE, self.results.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

pub fn roots(authorities: &[&Authority]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.der()).unwrap();
    }
    roots
}

pub fn client(
    roots: RootCertStore,
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&Pair>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            // Shown whatever authorities the server names: these tests are about its answer.
            let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.resumption = Resumption::in_memory_sessions(64);
    Arc::new(config)
}

/// Shakes hands and sends a byte back and forth, so that a refusal after the client's last flight and
/// tickets have arrived.
pub async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    server_name: &str,
) -> io::Result<ClientStream> {
    let work = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let mut stream = connector.connect(name, stream).await?;
        ping(&mut stream).await?;
        Ok(stream)
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

pub async fn ping(stream: &mut ClientStream) -> io::Result<()> {
    stream.write_all(b"x").await?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    assert_eq!(&byte, b"x");
    Ok(())
}

/// The certificate the server has shown.
pub fn shown(stream: &ClientStream) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

pub fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()
}

/// The alert that a connection ended with.
pub fn alert(result: io::Result<ClientStream>) -> AlertDescription {
    let error = result.expect_err("the connection should have been refused");
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert but {error:?}"),
    }
}

/// Runs the openssl command; its input is what is given.
pub async fn openssl(arguments: &[&str], input: &str) -> Output {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || openssl_blocking(&arguments, &input))
        .await
        .unwrap()
}

pub fn openssl_blocking(arguments: &[String], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl should be installed");
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

pub fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}
