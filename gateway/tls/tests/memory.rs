//! What an idle connection costs. Prints the figures: `cargo test -p tidegate-tls --test memory --
//! --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use support::*;
use tidegate_tls::{Acceptor, ClientAuth, Identity, Peer, Settings, Stream};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

const CONNECTIONS: u64 = 50;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Reads what is there, until there is nothing.
async fn drain(stream: &mut Stream) {
    poll_fn(|cx| {
        let mut bytes = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(end) => panic!("the connection should be idle: {end:?}"),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Bytes on the heap of a connection after its handshake, and after it has been read from.
fn cost(
    settings: Settings,
    version: &'static SupportedProtocolVersion,
    authority: &Authority,
    own: Option<&Pair>,
) -> [u64; 2] {
    let config = client(roots(&[authority]), &[version], own);
    let acceptor = Acceptor::new(Identity::load("test", settings).unwrap(), ACCEPT);
    let server = runtime();
    let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    // The clients have a thread of their own, so that only the server's side is counted.
    let (ready, wait) = tokio::sync::oneshot::channel::<()>();
    let clients = std::thread::spawn(move || {
        runtime().block_on(async {
            let mut streams = Vec::new();
            for _ in 0..=CONNECTIONS {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let name = "localhost".try_into().unwrap();
                let connector = tokio_rustls::TlsConnector::from(config.clone());
                streams.push(connector.connect(name, stream).await.unwrap());
            }
            for stream in &mut streams {
                stream.write_all(&[0; 3000]).await.unwrap();
            }
            wait.await.unwrap();
        });
    });
    let first = server.block_on(async { listener.accept().await.unwrap().0 });
    let future = acceptor.accept(first);
    let size = size_of_val(&future);
    println!("A connection that waits for its first bytes: {size} bytes of the caller's future.");
    assert!(size <= 1024, "{size}");
    let mut streams: Vec<(Stream, Peer)> = Vec::with_capacity(CONNECTIONS as usize + 1);
    let accept =
        || server.block_on(async { acceptor.accept(listener.accept().await.unwrap().0).await });
    // The first also pays for what is made once.
    streams.push(server.block_on(future).unwrap());
    let handshakes = allocation_counter::measure(|| {
        for _ in 0..CONNECTIONS {
            streams.push(accept().unwrap());
        }
    });
    let reads = allocation_counter::measure(|| {
        server.block_on(async {
            for (stream, _) in &mut streams[1..] {
                stream.get_ref().readable().await.unwrap();
                drain(stream).await;
            }
        });
    });
    ready.send(()).unwrap();
    clients.join().unwrap();
    let after_handshake = handshakes.bytes_current.unsigned_abs() / CONNECTIONS;
    let read = reads.bytes_current / CONNECTIONS as i64;
    [after_handshake, after_handshake.saturating_add_signed(read)]
}

#[test]
fn an_idle_connection_costs_a_few_kilobytes() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let device = authority.issue(Leaf::client("device"));
    let mut asking = settings(vec![files]);
    let plain = asking.clone();
    let ca = folder.write("ca.crt", &authority.pem());
    asking.client = ClientAuth::Required(client_ca(ca, None));
    println!("The stream itself: {} bytes.", size_of::<Stream>());
    for (name, version) in [("1.2", &TLS12), ("1.3", &TLS13)] {
        for (settings, own) in [(&plain, None), (&asking, Some(&device))] {
            let [handshake, read] = cost(settings.clone(), version, &authority, own);
            println!(
                "TLS {name}, client certificate {}: heap {handshake} bytes after the handshake, \
                 {read} after reading.",
                if own.is_some() { "shown" } else { "not asked" },
            );
            // What rustls keeps of a connection, and no buffer.
            let total = handshake.max(read) + size_of::<Stream>() as u64;
            assert!(total <= 3584, "{total}");
        }
    }
}
