//! The stream inside TLS, against rustls' own client and openssl: bytes, ends, errors, memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConnection, SupportedProtocolVersion};
use support::*;
use tidegate_tls::{Acceptor, Identity, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const MEGABYTE: usize = 1 << 20;

/// Two ends of one connection.
async fn connected(version: &'static SupportedProtocolVersion) -> (Stream, ClientStream) {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let acceptor = Acceptor::new(
        Identity::load("test", settings(vec![files])).unwrap(),
        ACCEPT,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = client(roots(&[&authority]), &[version], None);
    let (server, client) = tokio::join!(
        async { acceptor.accept(listener.accept().await.unwrap().0).await },
        async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let connector = tokio_rustls::TlsConnector::from(config);
            connector
                .connect("localhost".try_into().unwrap(), stream)
                .await
        },
    );
    (server.unwrap().0, client.unwrap())
}

/// The same, the client in pieces: what it sends can be held back, split and spoilt. Nothing is under
/// way, tickets neither.
async fn connected_raw(
    version: &'static SupportedProtocolVersion,
) -> (Stream, TcpStream, ClientConnection) {
    let (mut server, mut client) = connected(version).await;
    server.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    let (tcp, connection) = client.into_inner();
    (server, tcp, connection)
}

/// What the client would send with this plaintext.
fn ciphertext(client: &mut ClientConnection, plaintext: &[u8]) -> Vec<u8> {
    client.writer().write_all(plaintext).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i * 7 + i / 251 + seed) as u8)
        .collect()
}

fn poll_read(stream: &mut Stream, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut reader = ReadBuf::new(buffer);
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Pin::new(stream).poll_read(&mut cx, &mut reader);
    polled.map_ok(|()| reader.filled().len())
}

fn poll_write(stream: &mut Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

fn tls_error(error: &io::Error) -> &rustls::Error {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    error.get_ref().unwrap().downcast_ref().unwrap()
}

/// Reads until the end, which has to come.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    tokio::time::timeout(PATIENCE, read).await.unwrap()?;
    Ok(bytes)
}

/// Writes all of it in chunks of odd sizes, and flushes.
async fn write_in_chunks(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let mut rest = bytes;
    for size in [1, 7, 997, 16_383, 16_385, 65_537, 200_000].iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(rest.len().min(*size));
        stream.write_all(now).await.unwrap();
        rest = later;
    }
    stream.flush().await.unwrap();
}

async fn read_in_chunks(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    for size in [3, 4096, 65_536, 1, 16_384, 30_000].iter().cycle() {
        if bytes.len() == length {
            break;
        }
        let read = stream.read(&mut buffer[..*size]).await.unwrap();
        assert_ne!(read, 0);
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes
}

#[tokio::test]
async fn many_megabytes_arrive_in_both_directions() {
    for version in VERSIONS {
        let (server, client) = connected(version).await;
        let (up, down) = (pattern(5 * MEGABYTE, 1), pattern(7 * MEGABYTE, 2));
        let (mut client_read, mut client_write) = tokio::io::split(client);
        // One task polls both sides of each end.
        let (mut server_read, mut server_write) = tokio::io::split(server);
        let work = async {
            tokio::join!(
                write_in_chunks(&mut client_write, &up),
                read_in_chunks(&mut client_read, down.len()),
                write_in_chunks(&mut server_write, &down),
                read_in_chunks(&mut server_read, up.len()),
            )
        };
        let ((), at_client, (), at_server) = tokio::time::timeout(PATIENCE, work).await.unwrap();
        assert!(at_client == down);
        assert!(at_server == up);
    }
}

#[tokio::test]
async fn openssl_reads_and_writes_megabytes() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let acceptor = Acceptor::new(
        Identity::load("test", settings(vec![files])).unwrap(),
        ACCEPT,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let input: String = (0..300_000).map(|line| format!("{line}\n")).collect();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = async {
            let tcp = listener.accept().await.unwrap().0;
            let (mut stream, _) = acceptor.accept(tcp).await.unwrap();
            let mut bytes = vec![0; input.len()];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            // Until openssl has closed, which it does at the end of its input or of ours.
            let _ = rest(&mut stream).await;
        };
        let arguments = ["s_client", "-connect", &address, version, "-quiet"];
        let (output, ()) = tokio::join!(openssl(&arguments, &input), server);
        assert!(output.stdout == input.as_bytes(), "{version}");
    }
}

#[tokio::test]
async fn a_record_may_come_byte_by_byte() {
    for version in VERSIONS {
        let (mut server, mut tcp, mut client) = connected_raw(version).await;
        let mut buffer = [0; 1000];
        for round in 0..3 {
            let plaintext = pattern(300, round);
            let bytes = ciphertext(&mut client, &plaintext);
            let (last, first) = bytes.split_last().unwrap();
            for byte in first {
                tcp.write_all(&[*byte]).await.unwrap();
                server.get_ref().readable().await.unwrap();
                assert!(poll_read(&mut server, &mut buffer).is_pending());
            }
            tcp.write_all(&[*last]).await.unwrap();
            let read = server.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], plaintext);
        }
    }
}

#[tokio::test]
async fn many_records_of_one_segment_come_with_one_read() {
    for version in VERSIONS {
        let (mut server, mut tcp, mut client) = connected_raw(version).await;
        let mut bytes = Vec::new();
        for record in 0..100 {
            bytes.extend(ciphertext(&mut client, &[record; 10]));
        }
        tcp.write_all(&bytes).await.unwrap();
        server.get_ref().readable().await.unwrap();
        let mut buffer = vec![0; 65_536];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 1000);
        assert!((0..1000).all(|at| buffer[at] == (at / 10) as u8));
    }
}

#[tokio::test]
async fn a_reader_may_ask_for_single_bytes() {
    for version in VERSIONS {
        let (mut server, mut client) = connected(version).await;
        let sent = pattern(100_000, 3);
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        for expected in sent {
            let mut byte = [0];
            assert_eq!(server.read(&mut byte).await.unwrap(), 1);
            assert_eq!(byte[0], expected);
        }
        assert!(poll_read(&mut server, &mut []).is_ready());
        assert!(poll_read(&mut server, &mut [0]).is_pending());
    }
}

#[tokio::test]
async fn pieces_become_one_record() {
    for version in VERSIONS {
        let (mut server, mut tcp, mut client) = connected_raw(version).await;
        assert!(server.is_write_vectored());
        let pieces = [&b"\x82\x0b"[..], b"", b"hello ", b"world"].map(IoSlice::new);
        let written = server.write_vectored(&pieces).await.unwrap();
        assert_eq!(written, 13);
        let mut header = [0; 5];
        tcp.read_exact(&mut header).await.unwrap();
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let mut record = header.to_vec();
        record.resize(5 + length, 0);
        tcp.read_exact(&mut record[5..]).await.unwrap();
        client.read_tls(&mut &record[..]).unwrap();
        let read = client.process_new_packets().unwrap();
        assert_eq!(read.plaintext_bytes_to_read(), 13);

        let large = vec![0; 40_000];
        let pieces = [&large, &large].map(|piece| IoSlice::new(piece));
        assert_eq!(server.write_vectored(&pieces).await.unwrap(), 16_384);
    }
}

/// Writes until nothing more is taken.
fn fill(server: &mut Stream, chunk: &[u8]) -> Vec<u8> {
    let mut taken = Vec::new();
    while let Poll::Ready(written) = poll_write(server, &chunk[taken.len() % chunk.len()..]) {
        taken.extend_from_slice(&chunk[taken.len() % chunk.len()..][..written.unwrap()]);
    }
    taken
}

#[tokio::test]
async fn a_stuck_writer_goes_on_where_it_was() {
    for version in VERSIONS {
        let (mut server, mut client) = connected(version).await;
        let chunk = pattern(MEGABYTE, 4);
        let mut taken = fill(&mut server, &chunk);
        assert!(poll_write(&mut server, b"more").is_pending());
        let read = async {
            let mut bytes = vec![0; taken.len()];
            client.read_exact(&mut bytes).await.unwrap();
            bytes
        };
        // The last bytes move when somebody flushes, and also when somebody only reads.
        let mut byte = [0];
        let bytes = tokio::select! {
            bytes = read => bytes,
            end = server.read(&mut byte) => panic!("nothing was sent: {end:?}"),
        };
        assert!(bytes == taken);
        taken = fill(&mut server, &chunk);
        let (bytes, flushed) = tokio::join!(
            async {
                let mut bytes = vec![0; taken.len()];
                client.read_exact(&mut bytes).await.unwrap();
                bytes
            },
            server.flush()
        );
        flushed.unwrap();
        assert!(bytes == taken);
    }
}

#[tokio::test]
async fn what_waits_goes_out_before_close_notify() {
    for version in VERSIONS {
        let (mut server, mut client) = connected(version).await;
        let taken = fill(&mut server, &pattern(MEGABYTE, 5));
        let (shut, read) = tokio::join!(server.shutdown(), rest(&mut client));
        shut.unwrap();
        // An end without `close_notify` would be an error.
        assert!(read.unwrap() == taken);
        let error = server.write(b"late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // The other direction is still open.
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"bye");
    }
}

#[tokio::test]
async fn rfc8446_6_1_close_notify_is_the_end_and_tcp_alone_is_not() {
    for version in VERSIONS {
        let (mut server, mut client) = connected(version).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"last");
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        // Only the client has closed.
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), b"answer");

        for cut in [0, 10] {
            let (mut server, mut tcp, mut client) = connected_raw(version).await;
            let mut bytes = ciphertext(&mut client, b"last");
            let next = ciphertext(&mut client, b"never whole");
            bytes.extend_from_slice(&next[..cut]);
            tcp.write_all(&bytes).await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut last = [0; 4];
            server.read_exact(&mut last).await.unwrap();
            let error = server.read(&mut last).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

/// Sends bytes that break the protocol. The client must see this alert, the server's reader the error
/// once, then zeros, then the end.
async fn refused(
    version: &'static SupportedProtocolVersion,
    spoil: impl Fn(&mut ClientConnection) -> Vec<u8>,
    alert: AlertDescription,
) -> rustls::Error {
    let (mut server, mut tcp, mut client) = connected_raw(version).await;
    let mut bytes = ciphertext(&mut client, b"before");
    bytes.extend(spoil(&mut client));
    tcp.write_all(&bytes).await.unwrap();
    let mut buffer = [0; 100];
    assert_eq!(server.read(&mut buffer).await.unwrap(), 6);
    let error = server.read(&mut buffer).await.unwrap_err();
    let error = tls_error(&error).clone();
    // It was sent without anybody asking for it.
    loop {
        tcp.readable().await.unwrap();
        let mut raw = [0; 100];
        match tcp.try_read(&mut raw) {
            Ok(read) => {
                client.read_tls(&mut &raw[..read]).unwrap();
                break;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(
        client.process_new_packets().unwrap_err(),
        rustls::Error::AlertReceived(alert)
    );
    let write = server.write(b"no").await.unwrap_err();
    assert_eq!(write.kind(), io::ErrorKind::BrokenPipe);
    server.shutdown().await.unwrap();
    // Nothing but the alert: no `close_notify` after it.
    assert!(rest(&mut tcp).await.unwrap().is_empty());
    tcp.write_all(b"more").await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), [0; 4]);
    error
}

#[tokio::test]
async fn rfc8446_5_2_a_spoilt_record_is_answered_with_bad_record_mac() {
    for version in VERSIONS {
        let spoil = |client: &mut ClientConnection| {
            let mut bytes = ciphertext(client, b"after");
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        };
        let error = refused(version, spoil, AlertDescription::BadRecordMac).await;
        assert_eq!(error, rustls::Error::DecryptError);
    }
}

#[tokio::test]
async fn what_is_no_record_is_refused() {
    for version in VERSIONS {
        let mqtt = |_: &mut ClientConnection| b"\xc0\x00\xc0\x00\xc0\x00".to_vec();
        let error = refused(version, mqtt, AlertDescription::DecodeError).await;
        assert!(matches!(error, rustls::Error::InvalidMessage(_)));
        let too_long = |_: &mut ClientConnection| vec![23, 3, 3, 0xff, 0xff];
        refused(version, too_long, AlertDescription::DecodeError).await;
    }
}

#[tokio::test]
async fn rfc8446_4_6_3_new_keys_of_the_client_are_followed() {
    let (mut server, mut tcp, mut client) = connected_raw(&TLS13).await;
    let mut buffer = [0; 100];
    for round in 0..40_u8 {
        client.refresh_traffic_keys().unwrap();
        let bytes = ciphertext(&mut client, &[round; 20]);
        tcp.write_all(&bytes).await.unwrap();
        // The server only reads for a while.
        assert_eq!(server.read(&mut buffer).await.unwrap(), 20);
        assert_eq!(buffer[..20], [round; 20]);
        if round % 10 == 9 {
            server.write_all(b"answer").await.unwrap();
            while client
                .process_new_packets()
                .unwrap()
                .plaintext_bytes_to_read()
                < 6
            {
                let mut raw = [0; 200];
                let read = tcp.read(&mut raw).await.unwrap();
                client.read_tls(&mut &raw[..read]).unwrap();
            }
            let mut answer = [0; 6];
            io::Read::read_exact(&mut client.reader(), &mut answer).unwrap();
            assert_eq!(&answer, b"answer");
        }
    }
}

#[tokio::test]
async fn key_updates_without_data_have_an_end() {
    let (mut server, mut tcp, mut client) = connected_raw(&TLS13).await;
    let mut bytes = Vec::new();
    for _ in 0..100 {
        client.refresh_traffic_keys().unwrap();
        bytes.extend(ciphertext(&mut client, b""));
    }
    tcp.write_all(&bytes).await.unwrap();
    let error = server.read(&mut [0; 10]).await.unwrap_err();
    assert!(matches!(
        tls_error(&error),
        rustls::Error::PeerMisbehaved(_)
    ));
}

#[tokio::test]
async fn a_renegotiation_is_refused_while_the_server_only_reads() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let acceptor = Acceptor::new(
        Identity::load("test", settings(vec![files])).unwrap(),
        ACCEPT,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let arguments = ["s_client", "-connect", &address, "-tls1_2"];
    let server = async {
        let tcp = listener.accept().await.unwrap().0;
        let (mut stream, _) = acceptor.accept(tcp).await.unwrap();
        rest(&mut stream).await
    };
    let (output, end) = tokio::join!(openssl(&arguments, "R\n"), server);
    // The warning `no_renegotiation` (RFC 5246, 7.2.2) came, which openssl takes for fatal.
    assert!(
        text(&output).contains("no renegotiation"),
        "{}",
        text(&output)
    );
    assert_eq!(
        tls_error(&end.unwrap_err()),
        &rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
    );
}

#[test]
fn nothing_grows_and_nothing_stays() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for version in VERSIONS {
        let (mut server, mut client) = runtime.block_on(connected(version));
        let chunk = pattern(64 << 10, 6);
        let mut buffer = vec![0; 64 << 10];
        // What is made once: the buffers of the thread, rustls' queues.
        runtime.block_on(async {
            client.write_all(&chunk).await.unwrap();
            let (read, written) =
                tokio::join!(read_in_chunks(&mut server, chunk.len()), client.flush());
            written.unwrap();
            assert!(read == chunk);
            let (written, read) = tokio::join!(
                server.write_all(&chunk),
                read_in_chunks(&mut client, chunk.len())
            );
            written.unwrap();
            assert!(read == chunk);
        });

        // A client that does not read.
        let mut taken = 0;
        let stuck = allocation_counter::measure(|| {
            let _guard = runtime.enter();
            while let Poll::Ready(written) = poll_write(&mut server, &chunk) {
                taken += written.unwrap();
            }
            for _ in 0..1000 {
                assert!(poll_write(&mut server, &chunk).is_pending());
                assert!(poll_read(&mut server, &mut buffer).is_pending());
            }
        });
        assert!(stuck.bytes_current > 0, "{stuck:?}");
        assert!(stuck.bytes_current <= 17 << 10, "{stuck:?}");
        // It reads after all.
        let mut held = stuck.bytes_current;
        let mut bytes = vec![0; 64 << 10];
        let both = poll_fn(|cx| {
            loop {
                let flush = allocation_counter::measure(|| {
                    let _ = Pin::new(&mut server).poll_flush(cx);
                });
                held += flush.bytes_current;
                if taken == 0 {
                    return Poll::Ready(());
                }
                let mut reader = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut client).poll_read(cx, &mut reader)).unwrap();
                taken -= reader.filled().len();
            }
        });
        // A turn that tokio ends costs an allocation of its own.
        let both = tokio::task::unconstrained(both);
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, both).await })
            .unwrap();
        assert_eq!(held, 0);

        // Half a record, and plaintext that there is no room for.
        let (tcp, connection) = client.get_mut();
        let bytes = ciphertext(connection, &chunk[..16_000]);
        let (first, second) = bytes.split_at(10_000);
        let mut read = 0;
        let mut receive = |bytes: &[u8], buffer: &mut [u8]| {
            runtime.block_on(async {
                tcp.write_all(bytes).await.unwrap();
                if !bytes.is_empty() {
                    server.get_ref().readable().await.unwrap();
                }
            });
            allocation_counter::measure(|| {
                let _guard = runtime.enter();
                if let Poll::Ready(received) = poll_read(&mut server, buffer) {
                    read += received.unwrap();
                }
            })
            .bytes_current
        };
        let half = receive(first, &mut buffer);
        assert!((10_000..11_000).contains(&half), "{half}");
        let plaintext = receive(second, &mut buffer[..100]);
        assert!(
            (15_900 - half..32_000 - half).contains(&plaintext),
            "{plaintext}"
        );
        let rest = receive(&[], &mut buffer);
        assert_eq!(half + plaintext + rest, 0);
        assert_eq!(read, 16_000);
    }
}

#[test]
fn a_small_message_costs_no_allocation_but_what_rustls_makes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for version in VERSIONS {
        let (mut server, mut tcp, mut client) = runtime.block_on(connected_raw(version));
        let mut buffer = vec![0; 64 << 10];
        for round in 0..3 {
            let bytes = ciphertext(&mut client, b"a small message");
            runtime.block_on(async {
                tcp.write_all(&bytes).await.unwrap();
                server.get_ref().readable().await.unwrap();
            });
            let _guard = runtime.enter();
            let read = allocation_counter::measure(|| {
                assert!(poll_read(&mut server, &mut buffer).is_ready());
            });
            let written = allocation_counter::measure(|| {
                assert!(poll_write(&mut server, b"a small answer").is_ready());
            });
            let pieces = [IoSlice::new(b"\x82\x0e"), IoSlice::new(b"a small answer")];
            let gathered = allocation_counter::measure(|| {
                let mut cx = Context::from_waker(Waker::noop());
                let written = Pin::new(&mut server).poll_write_vectored(&mut cx, &pieces);
                assert!(written.is_ready());
            });
            println!(
                "{version:?}: {} allocations of a read, {} of a write, {} of one in pieces.",
                read.count_total, written.count_total, gathered.count_total
            );
            // The first round also makes the thread's buffers and rustls' queues.
            if round > 0 {
                assert!(read.count_total <= 1, "{read:?}");
                assert!(written.count_total <= 1, "{written:?}");
                assert!(gathered.count_total <= 1, "{gathered:?}");
            }
        }
    }
}

/// Not a benchmark: shows that nothing is badly wrong.
#[tokio::test]
async fn throughput_beside_that_of_tokio_rustls() {
    const BYTES: usize = 32 * MEGABYTE;
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let identity = Identity::load("test", settings(vec![files])).unwrap();
    let acceptor = Acceptor::new(identity.clone(), ACCEPT);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();

    async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
        let mut buffer = vec![0; 65_536];
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            stream.write_all(&buffer[..read]).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.shutdown().await.unwrap();
    }
    for version in VERSIONS {
        let config = client(roots(&[&authority]), &[version], None);
        let mut times = [Duration::ZERO; 2];
        for ours in [true, false, true, false] {
            let config = Arc::clone(&config);
            let client = tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let connector = tokio_rustls::TlsConnector::from(config);
                let name = "localhost".try_into().unwrap();
                let stream = connector.connect(name, stream).await.unwrap();
                let (mut read, mut write) = tokio::io::split(stream);
                let chunk = vec![1; 65_536];
                tokio::join!(
                    async {
                        for _ in 0..BYTES / chunk.len() {
                            write.write_all(&chunk).await.unwrap();
                        }
                        write.shutdown().await.unwrap();
                    },
                    async {
                        let mut buffer = vec![0; 65_536];
                        let mut total = 0;
                        while total < BYTES {
                            total += read.read(&mut buffer).await.unwrap();
                        }
                    }
                );
            });
            let tcp = listener.accept().await.unwrap().0;
            let start = Instant::now();
            if ours {
                echo(&mut acceptor.accept(tcp).await.unwrap().0).await;
            } else {
                let acceptor = tokio_rustls::TlsAcceptor::from(identity.config());
                echo(&mut acceptor.accept(tcp).await.unwrap()).await;
            }
            client.await.unwrap();
            times[usize::from(!ours)] += start.elapsed();
        }
        println!(
            "{version:?}: {} MiB there and back in {:?}; with tokio-rustls {:?}, ratio {:.2}.",
            2 * BYTES / MEGABYTE,
            times[0],
            times[1],
            times[1].as_secs_f64() / times[0].as_secs_f64()
        );
    }
}
