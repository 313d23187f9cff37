//! The UDP socket: several datagrams in one call (GSO, GRO), and marks of congestion (ECN), as far as the system has
//! them.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;

/// Bytes of datagrams that the kernel keeps in either direction, as far as it allows so many
/// (`net.core.rmem_max` and `wmem_max` on Linux): what it does not keep is lost, and sent again later.
const BUFFER: usize = 4 << 20;

/// Bytes that one call may put at one place: a datagram cannot be larger, nor can several that come as one (GRO).
const LARGEST: usize = 64 << 10;
/// After an error that is not the fault of a datagram, such as want of memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A UDP socket at this address; port 0 is a free one.
///
/// # Errors
///
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, ipv6_only: bool, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Said either way: what a system does unasked differs.
        socket.set_only_v6(ipv6_only)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port)?;
    // With smaller ones it works as well.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    udp: tokio::net::UdpSocket,
    system: UdpSocketState,
    /// One send of so many finds no room; 0: none. The loopback has always room.
    #[cfg(test)]
    pub(crate) every_nth_is_full: std::sync::atomic::AtomicUsize,
    #[cfg(test)]
    sends: std::sync::atomic::AtomicUsize,
}

impl Socket {
    /// To be called inside a tokio runtime.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self {
            system: UdpSocketState::new((&socket).into())?,
            udp: tokio::net::UdpSocket::from_std(socket)?,
            #[cfg(test)]
            every_nth_is_full: std::sync::atomic::AtomicUsize::default(),
            #[cfg(test)]
            sends: std::sync::atomic::AtomicUsize::default(),
        })
    }

    /// Whether datagrams may arrive in pieces: then nobody can find out how large they may be.
    pub(crate) fn may_fragment(&self) -> bool {
        self.system.may_fragment()
    }

    /// Datagrams that one call sends at the most. It may be fewer later.
    pub(crate) fn most_segments(&self) -> usize {
        self.system.max_gso_segments()
    }

    /// Sends, and tells whether there was room; what cannot be sent for another reason is lost, as on the way.
    pub(crate) fn send(&self, transmit: &Transmit, contents: &[u8]) -> bool {
        #[cfg(test)]
        if self.is_full() {
            return false;
        }
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &contents[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        let send = || self.system.send((&self.udp).into(), &transmit);
        match self.udp.try_io(Interest::WRITABLE, send) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(()) => true,
        }
    }

    #[cfg(test)]
    fn is_full(&self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;

        let nth = self.every_nth_is_full.load(Relaxed);
        nth > 0 && self.sends.fetch_add(1, Relaxed).is_multiple_of(nth)
    }

    /// Waits until there is room again, or seems to be.
    pub(crate) async fn writable(&self) {
        // It fails only when the runtime is ended.
        let _ = self.udp.writable().await;
    }

    /// Waits for datagrams and takes as many as one call gives.
    pub(crate) async fn receive(&self, received: &mut Received) {
        loop {
            let mut ready = self.udp.readable().await;
            if ready.is_ok() {
                ready = self.udp.try_io(Interest::READABLE, || received.fill(self));
            }
            match ready {
                Ok(()) => return,
                // The latter is what somebody else has sent about a datagram of ours, if it is true.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::ConnectionReset
                    ) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// What one call has brought.
pub(crate) struct Received {
    bytes: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// A datagram, and how it came.
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) bytes: &'a [u8],
}

impl Received {
    pub(crate) fn new() -> Self {
        Self {
            // Memory of which the system gives only what is touched.
            bytes: vec![0; BATCH_SIZE * LARGEST].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    fn fill(&mut self, socket: &Socket) -> io::Result<()> {
        self.filled = 0;
        let mut places = self.bytes.chunks_exact_mut(LARGEST).map(IoSliceMut::new);
        // There are as many.
        let mut places: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| places.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let socket = (&socket.udp, &socket.system);
        self.filled = socket
            .1
            .recv(socket.0.into(), &mut places, &mut self.metas)?;
        Ok(())
    }

    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let places = self.bytes.chunks_exact(LARGEST);
        let filled = self.metas.iter().zip(places).take(self.filled);
        filled.flat_map(|(meta, place)| {
            let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            place[..meta.len]
                .chunks(meta.stride.max(1))
                .map(move |bytes| Datagram {
                    from: meta.addr,
                    to: meta.dst_ip,
                    ecn,
                    bytes,
                })
        })
    }
}
