//! How bytes reach the gateway: datagrams over UDP and DTLS, a stream over TCP and TLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::secured::Secured;
use super::stream::Stream;

/// The largest datagram there is.
const LARGEST: usize = 1 << 16;

/// A way to the gateway. What is queued leaves while [`Link::receive`] waits, and nothing is lost when that is dropped.
pub(super) enum Link {
    Udp(Datagrams),
    Dtls(Box<Secured>),
    Stream(Stream),
}

/// A socket that speaks with one address.
pub(super) struct Datagrams {
    socket: UdpSocket,
    pub(super) queue: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        Ok(Self {
            socket,
            queue: VecDeque::new(),
            buffer: vec![0; LARGEST],
        })
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while let Some(datagram) = self.queue.front() {
            self.socket.send(datagram).await?;
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Sends what is queued, and waits for what comes.
    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        self.flush().await?;
        let len = self.socket.recv(&mut self.buffer).await?;
        Ok(&self.buffer[..len])
    }
}

impl Link {
    /// Takes bytes for the gateway: a datagram where there are datagrams.
    pub(super) fn queue(&mut self, bytes: Vec<u8>) {
        match self {
            Self::Udp(datagrams) => datagrams.queue.push_back(bytes),
            Self::Dtls(secured) => secured.queue(&bytes),
            Self::Stream(stream) => stream.queue(&bytes),
        }
    }

    /// Sends what is queued, and waits for what comes.
    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Udp(datagrams) => datagrams.receive().await,
            Self::Dtls(secured) => secured.receive().await,
            Self::Stream(stream) => stream.receive().await,
        }
    }

    /// Sends what is queued, where this takes no time: acknowledgements leave before what they acknowledge is acted on.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Udp(datagrams) => datagrams.flush().await,
            Self::Dtls(secured) => secured.flush().await,
            Self::Stream(_) => Ok(()),
        }
    }

    /// Sends what is queued, and ends.
    pub(super) async fn close(mut self) -> io::Result<()> {
        match &mut self {
            Self::Udp(datagrams) => datagrams.flush().await,
            Self::Dtls(secured) => secured.close().await,
            Self::Stream(stream) => stream.close().await,
        }
    }
}
