//! A listener over UDP: one task that reads many datagrams at a time and answers them.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tidegate_bus::Bus;
use tokio::io::Interest;

use crate::metrics::Metrics;
use crate::outgoing::{Outgoing, Path};
use crate::server::Server;
use crate::settings::Settings;

/// Datagrams, or trains of them, that are read at once.
const BATCH: usize = 8;

/// Bytes of a buffer: of the longest train that the kernel gives at once.
const BUFFER: usize = 64 << 10;

/// Serves CoAP on a socket until `stop` completes. `socket` does not block.
pub async fn serve(
    socket: UdpSocket,
    bus: Arc<Bus>,
    settings: Settings,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut server = Server::new(Arc::clone(&bus), settings, metrics, Instant::now());
    let ready = server.ready();
    let mut buffers = vec![0; BATCH * BUFFER];
    let mut out = Outgoing::default();
    let mut stop = pin!(stop);
    loop {
        let timeout = tokio::time::Instant::from_std(server.next_timeout());
        tokio::select! {
            () = &mut stop => break,
            readable = socket.readable() => {
                readable?;
                receive(&socket, &state, &bus, &mut server, &mut buffers, &mut out);
            }
            () = ready.wait() => {}
            () = tokio::time::sleep_until(timeout) => {}
        }
        let now = Instant::now();
        bus.batch(|worker| server.wake(worker, now, &mut out));
        if server.next_timeout() <= now {
            server.timeout(now, &mut out);
        }
        send(&socket, &state, &mut out).await;
    }
    server.shut_down(Instant::now(), &mut out);
    send(&socket, &state, &mut out).await;
    Ok(())
}

/// Takes what has come: a batch on the bus.
fn receive(
    socket: &tokio::net::UdpSocket,
    state: &UdpSocketState,
    bus: &Arc<Bus>,
    server: &mut Server,
    buffers: &mut [u8],
    out: &mut Outgoing,
) {
    let mut metas = [RecvMeta::default(); BATCH];
    let received = socket.try_io(Interest::READABLE, || {
        let mut parts = buffers.chunks_exact_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
        state.recv(UdpSockRef::from(socket), &mut slices, &mut metas)
    });
    // Nothing is there after all, or an error of an earlier datagram of ours, which is lost as any.
    let Ok(count) = received else {
        return;
    };
    let now = Instant::now();
    bus.batch(|worker| {
        for (meta, buffer) in metas[..count].iter().zip(buffers.chunks_exact(BUFFER)) {
            let path = Path {
                remote: meta.addr,
                local: meta.dst_ip,
            };
            if meta.dst_ip.is_some_and(|ip| ip.is_multicast()) {
                // RFC 7252 section 8: only who has asked for it answers to a group.
                continue;
            }
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                server.receive(worker, path, datagram, now, out);
            }
        }
    });
}

/// Sends what there is. What cannot be sent is lost, as any datagram may be: who needs it asks again, or is sent it
/// again.
async fn send(socket: &tokio::net::UdpSocket, state: &UdpSocketState, out: &mut Outgoing) {
    for (path, datagram) in out.iter() {
        let transmit = Transmit {
            destination: path.remote,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: path.local,
        };
        let sent = socket.async_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(socket), &transmit)
        });
        if let Err(error) = sent.await {
            tracing::debug!(peer = %path.remote, %error, "A datagram could not be sent.");
        }
    }
    out.clear();
}
