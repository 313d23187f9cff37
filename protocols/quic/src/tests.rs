//! A server and clients in one process, over the loopback.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::{
    ALPN, ClientStream, Connection, ConnectionError, Dialer, EstablishError, Keys, Server,
    Settings, bind, code,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct Sides {
    server: Arc<Server>,
    address: SocketAddr,
    dialer: Dialer,
}

impl Sides {
    fn new(settings: Settings) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(default_provider());
        let mut tls = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into(), true, false).unwrap();
        let address = socket.local_addr().unwrap();
        let tls = Arc::new(tls);
        let tls = Box::new(move || Arc::clone(&tls));
        let server = Server::new(socket, settings, Keys::new(&[7; 128]), tls).unwrap();
        Self {
            server: Arc::new(server),
            address,
            dialer: Dialer::new(client, false).unwrap(),
        }
    }

    /// A connection from both sides.
    async fn connect(&self) -> (Connection, ClientStream) {
        let server = Arc::clone(&self.server);
        let accepting: JoinHandle<Result<Connection, EstablishError>> = tokio::spawn(async move {
            let arrival = server.accept(|_| false, |_| {}).await.unwrap();
            server.establish(arrival).await
        });
        let stream = self.dialer.connect(self.address, "localhost");
        let stream = within(stream).await.unwrap();
        (within(accepting).await.unwrap().unwrap(), stream)
    }
}

/// Not longer than anything may take.
async fn within<T>(what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, what).await {
        Ok(done) => done,
        Err(_elapsed) => panic!("not within {PATIENCE:?}"),
    }
}

/// Sends back what comes, and its end.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 10_000];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        stream.write_all(&buffer[..read]).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

/// Sends so many bytes, which depend on `seed`, and awaits them back, and the end.
async fn bounce(stream: impl AsyncRead + AsyncWrite, seed: u8, length: usize) {
    let sent: Vec<u8> = (0..length)
        .map(|at| (at % 251) as u8 ^ (at >> 10) as u8 ^ seed)
        .collect();
    let (mut receive, mut send) = tokio::io::split(stream);
    let (mut received, mut buffer) = (Vec::new(), vec![0; 10_000]);
    let sending = async {
        send.write_all(&sent).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let receiving = async {
        while received.len() < length {
            let read = receive.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the end after {} bytes", received.len());
            received.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::join!(sending, receiving);
    assert!(received == sent);
}

fn application_code(error: &std::io::Error) -> Option<u64> {
    let inner = error.get_ref()?;
    let lost = inner.downcast_ref::<quinn::ReadError>()?;
    match lost {
        quinn::ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close)) => {
            Some(close.error_code.into_inner())
        }
        _ => None,
    }
}

/// The error code with which the gateway ends the connection.
async fn ended(mut stream: ClientStream) -> Option<u64> {
    let error = within(stream.read_u8()).await.unwrap_err();
    application_code(&error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_times_the_windows_pass_on_all_streams_at_once_in_both_directions() {
    let sides = Sides::new(Settings {
        stream_receive_window: 8 << 10,
        receive_window: 20 << 10,
        send_window: 16 << 10,
        ..Settings::default()
    });
    let (connection, control) = sides.connect().await;
    let serving = tokio::spawn(async move {
        let _control = within(connection.control_stream()).await.unwrap();
        let mut streams = connection.data_streams();
        let mut echoes = Vec::new();
        for _ in 0..16 {
            let stream = within(poll_fn(|cx| streams.poll_next(cx))).await;
            echoes.push(tokio::spawn(echo(stream)));
        }
        for echo in echoes {
            within(echo).await.unwrap();
        }
    });
    let mut control = control;
    control.write_all(b"opens it").await.unwrap();
    let mut bounces = Vec::new();
    for seed in 0..16 {
        let stream = control.open_data().await.unwrap();
        bounces.push(tokio::spawn(bounce(stream, seed, 300_000)));
    }
    for bounce in bounces {
        within(bounce).await.unwrap();
    }
    within(serving).await.unwrap();
    assert_eq!(sides.server.metrics().streams(), 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_socket_does_not_take_leaves_when_it_does() {
    // The client's socket has room for all that is on the way.
    let sides = Sides::new(Settings {
        send_window: 64 << 10,
        ..Settings::default()
    });
    // Handshake and all.
    sides.server.socket().every_nth_is_full.store(2, Relaxed);
    let (connection, mut control) = sides.connect().await;
    control.write_all(b"opens it").await.unwrap();
    let serving = tokio::spawn(async move {
        let _control = within(connection.control_stream()).await.unwrap();
        let mut streams = connection.data_streams();
        let stream = within(poll_fn(|cx| streams.poll_next(cx))).await;
        echo(stream).await;
    });
    let stream = control.open_data().await.unwrap();
    within(bounce(stream, 1, 2_000_000)).await;
    within(serving).await.unwrap();
    drop(control);
    // It would be sent again if it were dropped, and nobody noticed: half of it.
    let metrics = sides.server.metrics();
    let (sent, lost) = (metrics.packets_sent(), metrics.packets_lost());
    assert!(sent > 1_000, "{sent}");
    assert!(lost < sent / 10, "{lost} of {sent} packets were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_has_any_more_is_closed() {
    let sides = Sides::new(Settings::default());
    let (connection, mut client) = sides.connect().await;
    client.write_all(b"opens it").await.unwrap();
    let control = within(connection.control_stream()).await.unwrap();
    let streams = connection.data_streams();
    drop(connection);
    drop(streams);
    // The stream is enough.
    let serving = tokio::spawn(async move {
        let mut control = control;
        let mut read = [0; 8];
        control.read_exact(&mut read).await.unwrap();
        control.write_all(&read).await.unwrap();
        control
    });
    let mut read = [0; 8];
    within(client.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"opens it");
    drop(within(serving).await.unwrap());
    assert_eq!(ended(client).await, Some(0));
    // One that has no stream yet.
    let (connection, client) = sides.connect().await;
    drop(connection);
    assert_eq!(ended(client).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_server_closes_all_hear_its_code_and_it_knows_when() {
    let sides = Sides::new(Settings::default());
    let mut clients = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..3 {
        let (connection, client) = sides.connect().await;
        connections.push(connection);
        clients.push(client);
    }
    within(sides.server.close(code::SERVER_SHUTTING_DOWN)).await;
    for client in clients {
        assert_eq!(ended(client).await, Some(0x8B));
    }
    // Nobody comes any more.
    let accepted = within(sides.server.accept(|_| false, |_| {})).await;
    assert!(accepted.is_none());
    for connection in &connections {
        let over = within(connection.control_stream()).await.unwrap_err();
        assert!(matches!(over, EstablishError::Lost), "{over}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_serves_its_last_connection_and_leaves_the_socket() {
    let sides = Sides::new(Settings::default());
    let (connection, mut client) = sides.connect().await;
    let Sides {
        server,
        address,
        dialer: _,
    } = sides;
    assert!(bind(address, true, false).is_err(), "it is in use");
    drop(server);
    client.write_all(b"opens it").await.unwrap();
    let mut control = within(connection.control_stream()).await.unwrap();
    let mut read = [0; 8];
    within(control.read_exact(&mut read)).await.unwrap();
    drop((control, connection));
    assert_eq!(ended(client).await, Some(0));
    let free = async {
        // Nothing tells of it: a connection is forgotten some time after it has ended (RFC 9000 section 10.2).
        while bind(address, true, false).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(free).await;
}
