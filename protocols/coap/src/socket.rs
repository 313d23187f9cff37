//! A socket of UDP that reads many datagrams at a time, and says of each where it was sent to: an answer leaves from
//! there.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;

use crate::outgoing::{Outgoing, Path};

/// Datagrams, or trains of them, that are read at once.
const BATCH: usize = 8;

/// Bytes of a buffer: of the longest train that the kernel gives at once.
const BUFFER: usize = 64 << 10;

/// The socket of a listener, and the buffers that it is read into.
#[derive(Debug)]
pub struct Socket {
    udp: tokio::net::UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
}

impl Socket {
    /// `socket` does not block. To be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The operating system does not take its options.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new(UdpSockRef::from(&socket))?,
            udp: tokio::net::UdpSocket::from_std(socket)?,
            buffers: vec![0; BATCH * BUFFER],
        })
    }

    /// Completes when there may be something to read.
    ///
    /// # Errors
    ///
    /// The socket is of no use any more.
    pub async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await
    }

    /// Takes what has come, up to a batch. What was sent to a group is passed over: only who has asked for it answers to
    /// one (RFC 7252 section 8).
    pub fn receive(&mut self, mut take: impl FnMut(Path, &[u8])) {
        let mut metas = [RecvMeta::default(); BATCH];
        let (udp, state, buffers) = (&self.udp, &self.state, &mut self.buffers);
        let received = udp.try_io(Interest::READABLE, || {
            let mut parts = buffers.chunks_exact_mut(BUFFER);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            state.recv(UdpSockRef::from(udp), &mut slices, &mut metas)
        });
        // Nothing is there after all, or an error of an earlier datagram of ours, which is lost as any.
        let Ok(count) = received else {
            return;
        };
        for (meta, buffer) in metas[..count].iter().zip(self.buffers.chunks_exact(BUFFER)) {
            let path = Path {
                remote: meta.addr,
                local: meta.dst_ip,
            };
            if meta.dst_ip.is_some_and(|ip| ip.is_multicast()) {
                continue;
            }
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                take(path, datagram);
            }
        }
    }

    /// Sends what there is, and forgets it. What cannot be sent is lost, as any datagram may be: who needs it asks
    /// again, or is sent it again. Gives back how many that are.
    pub async fn send(&self, out: &mut Outgoing) -> u64 {
        let mut unsent = 0;
        for (path, datagram) in out.iter() {
            let transmit = Transmit {
                destination: path.remote,
                ecn: None,
                contents: datagram,
                segment_size: None,
                src_ip: path.local,
            };
            let sent = self.udp.async_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.udp), &transmit)
            });
            if let Err(error) = sent.await {
                unsent += 1;
                tracing::debug!(peer = %path.remote, %error, "A datagram could not be sent.");
            }
        }
        out.clear();
        unsent
    }
}
