//! What a server tells about its sessions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tidegate_tls::ClientCertificate;

use crate::{End, Failure, Method};

/// Between whom datagrams go: what is said leaves from the address that was spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address of ours, where it is known.
    pub local: Option<IpAddr>,
}

/// A session, for as long as it lives; no later one has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub(crate) peer: SocketAddr,
    pub(crate) number: u64,
}

impl SessionId {
    /// The client's address.
    #[must_use]
    pub fn peer(self) -> SocketAddr {
        self.peer
    }
}

/// Who is at the other end, as the handshake has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The one with this identity, who has its pre-shared key.
    Psk(Arc<str>),
    /// The one with this certificate, which has been checked, and its key.
    Certificate(Arc<ClientCertificate>),
    /// Clients are not asked for a certificate.
    Anonymous,
}

/// Where what a server does goes. Called while the server is at work: answers come afterwards.
pub trait Output {
    /// A datagram is to be sent: from the address that the client's hello came to.
    fn transmit(&mut self, path: Path, datagram: &[u8]);
    /// A client that has shown its address did not get a session.
    fn failed(&mut self, peer: SocketAddr, why: Failure);
    /// A session has begun. One that there was at the address before has ended already.
    fn established(&mut self, session: SessionId, who: &Who, method: Method);
    /// A client has sent this.
    fn data(&mut self, session: SessionId, plaintext: &[u8]);
    /// A session has ended. There is nothing of it afterwards.
    fn ended(&mut self, session: SessionId, why: End);
}

/// Why something could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session has ended.
    #[error("the session has ended")]
    NoSession,
    /// A record has 16,384 bytes at the most (RFC 6347, 4.1; RFC 9147, 4).
    #[error("it is larger than a record")]
    TooLarge,
}
