//! A listener over UDP: one task that reads many datagrams at a time and answers them.

use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tidegate_bus::Bus;

use crate::metrics::Metrics;
use crate::outgoing::Outgoing;
use crate::server::Server;
use crate::settings::Settings;
use crate::socket::Socket;

/// Serves CoAP on a socket until `stop` completes. `socket` does not block.
pub async fn serve(
    socket: UdpSocket,
    bus: Arc<Bus>,
    settings: Settings,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut socket = Socket::new(socket)?;
    let mut server = Server::new(
        Arc::clone(&bus),
        settings,
        Arc::clone(&metrics),
        Instant::now(),
    );
    let ready = server.ready();
    let mut out = Outgoing::default();
    let mut stop = pin!(stop);
    loop {
        let timeout = tokio::time::Instant::from_std(server.next_timeout());
        tokio::select! {
            () = &mut stop => break,
            readable = socket.readable() => {
                readable?;
                let now = Instant::now();
                bus.batch(|worker| {
                    socket.receive(|path, datagram| {
                        server.receive(worker, path, datagram, now, &mut out);
                    });
                });
            }
            () = ready.wait() => {}
            () = tokio::time::sleep_until(timeout) => {}
        }
        let now = Instant::now();
        bus.batch(|worker| server.wake(worker, now, &mut out));
        if server.next_timeout() <= now {
            server.timeout(now, &mut out);
        }
        metrics.unsent.add(socket.send(&mut out).await);
    }
    server.shut_down(Instant::now(), &mut out);
    metrics.unsent.add(socket.send(&mut out).await);
    Ok(())
}
