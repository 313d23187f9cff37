//! tokio as quinn's runtime, made for connections that rest most of the time.
//!
//! A connection of quinn makes room for ten datagrams as soon as it sends a second one at once, which it does in
//! nearly every handshake, and keeps it: some 14 KB for as long as it lives, also if it rests from then on. So
//! here the first datagrams of each go out one by one. Later they go out together again (GSO): a connection that has
//! more to send than fits one datagram has traffic, and then the room is worth it.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

/// Datagrams that a connection sends one by one: those of the handshake, the search for the path's MTU and the first
/// packets of MQTT, and then some.
const ONE_BY_ONE: u32 = 32;

thread_local! {
    /// Datagrams that the connection has sent that does something now, no more of them than matter.
    static SENT: Cell<u32> = const { Cell::new(0) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tokio;

impl Runtime for Tokio {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    /// What drives a connection is asked for here, and what drives the socket.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(Driver { future, sent: 0 });
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(Socket(socket)))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A connection's own task.
struct Driver {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    sent: u32,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        SENT.set(self.sent);
        let polled = self.future.as_mut().poll(cx);
        self.sent = SENT.get();
        polled
    }
}

struct Socket(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)?;
        SENT.set(SENT.get().saturating_add(1).min(ONE_BY_ONE));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, buffers, metas)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Asked for by each connection before it sends.
    fn max_transmit_segments(&self) -> usize {
        if SENT.get() < ONE_BY_ONE {
            1
        } else {
            self.0.max_transmit_segments()
        }
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use parking_lot::Mutex;

    use super::*;

    /// Sends ten datagrams at once.
    #[derive(Debug)]
    struct Ten;

    impl AsyncUdpSocket for Ten {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            panic!("nobody waits")
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }

        fn max_transmit_segments(&self) -> usize {
            10
        }
    }

    /// Sends once whenever it is polled, and notes how much it might have.
    fn driver(socket: &Arc<Socket>, noted: &Arc<Mutex<Vec<usize>>>) -> Driver {
        let (socket, noted) = (Arc::clone(socket), Arc::clone(noted));
        let future = Box::pin(std::future::poll_fn(move |_| {
            noted.lock().push(socket.max_transmit_segments());
            let transmit = Transmit {
                destination: SocketAddr::from(([127, 0, 0, 1], 2)),
                ecn: None,
                contents: &[],
                segment_size: None,
                src_ip: None,
            };
            socket.try_send(&transmit).unwrap();
            Poll::Pending
        }));
        Driver { future, sent: 0 }
    }

    #[test]
    fn the_first_datagrams_go_out_one_by_one() {
        let socket = Arc::new(Socket(Arc::new(Ten)));
        let noted: [Arc<Mutex<Vec<usize>>>; 2] = Default::default();
        let mut drivers = noted.each_ref().map(|noted| driver(&socket, noted));
        let mut cx = Context::from_waker(Waker::noop());
        let [one, other] = &mut drivers;
        for round in 0..100 {
            assert!(Pin::new(&mut *one).poll(&mut cx).is_pending());
            if round >= 50 {
                assert!(Pin::new(&mut *other).poll(&mut cx).is_pending());
            }
        }
        // What one has sent does not count for the other.
        for (noted, all) in noted.iter().zip([100, 50]) {
            let mut expected = vec![1; ONE_BY_ONE as usize];
            expected.resize(all, 10);
            assert_eq!(*noted.lock(), expected);
        }
    }
}
