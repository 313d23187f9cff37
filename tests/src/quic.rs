//! MQTT over QUIC as a TCP connection of the loopback: a task carries the bytes between the two, so that whoever
//! tests need not know. What happens to one happens to the other: an end of the bytes, a loss, a close.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime,
    VarInt,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;

use crate::server::Server;
use crate::wire::PATIENCE;

/// One thread carries the bytes of all connections of this process.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("no runtime for QUIC: {error}"))
});

/// How long a server may take to have what was sent before the end.
const FAREWELL: Duration = Duration::from_secs(5);
const NORMAL: VarInt = VarInt::from_u32(0);

/// Shakes hands and opens the control stream; the near end of what carries it.
pub(crate) fn connect(server: &Server) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, peer) = listener.accept()?;
    if peer != near.local_addr()? {
        return Err(io::Error::other("somebody else has connected"));
    }
    far.set_nonblocking(true)?;
    far.set_nodelay(true)?;
    let mut tls = server
        .tls
        .as_deref()
        .cloned()
        .ok_or_else(|| io::Error::other("QUIC needs Server::trusting in a test"))?;
    tls.alpn_protocols = vec![b"mqtt".to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let config = ClientConfig::new(Arc::new(crypto));
    let (address, name) = (server.address, server.name.clone());
    let (sender, connected) = mpsc::channel();
    RUNTIME.spawn(async move {
        match dial(address, &name, config).await {
            Ok((connection, send, receive)) => {
                // Nobody waits any more when it took too long.
                let _ = sender.send(Ok(()));
                let _ = carry(far, connection, send, receive).await;
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        }
    });
    match connected.recv_timeout(PATIENCE) {
        Ok(result) => result.map(|()| near),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn dial(
    address: SocketAddr,
    name: &str,
    config: ClientConfig,
) -> io::Result<(Connection, SendStream, RecvStream)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )?;
    let connecting = endpoint.connect_with(config, address, name);
    let connection = connecting.map_err(io::Error::other)?.await?;
    let (send, receive) = connection.open_bi().await?;
    Ok((connection, send, receive))
}

async fn carry(
    far: TcpStream,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
) -> io::Result<()> {
    let (from_test, to_test) = tokio::net::TcpStream::from_std(far)?.into_split();
    let up = upwards(from_test, send, &connection);
    let down = downwards(receive, to_test, &connection);
    let _ = tokio::join!(up, down);
    connection.close(NORMAL, b"");
    Ok(())
}

async fn upwards(
    mut from: OwnedReadHalf,
    mut to: SendStream,
    connection: &Connection,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => to.write_all(&buffer[..length]).await?,
            Err(error) => {
                // A reset.
                connection.close(NORMAL, b"");
                return Err(error);
            }
        }
    }
    // It may be finished already: the server has stopped it.
    let _ = to.finish();
    let _ = tokio::time::timeout(FAREWELL, to.stopped()).await;
    Ok(())
}

async fn downwards(
    mut from: RecvStream,
    mut to: OwnedWriteHalf,
    connection: &Connection,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(Some(length)) = from.read(&mut buffer).await {
        if let Err(error) = to.write_all(&buffer[..length]).await {
            // The test has closed.
            connection.close(NORMAL, b"");
            return Err(error);
        }
    }
    to.shutdown().await
}
