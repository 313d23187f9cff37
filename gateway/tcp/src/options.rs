//! How a listening socket is made.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// What an operator decides about one listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Where it listens; port 0 is a free one.
    pub bind: SocketAddr,
    /// Connections that the kernel keeps until they are accepted. It lowers this to its own maximum
    /// (`net.core.somaxconn` on Linux).
    pub backlog: u32,
    /// `SO_REUSEPORT`: other sockets, of another process too, may listen at the same address if they
    /// set it as well, and the kernel spreads new connections over them. Not on Windows.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY` (RFC 3493 section 5.3): without it a socket bound to `[::]` takes IPv4
    /// connections, too.
    pub ipv6_only: bool,
}

impl SocketOptions {
    /// A socket at `bind` with a backlog of 4,096, an address of its own, and both families at
    /// `[::]`.
    #[must_use]
    pub const fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            backlog: 4_096,
            reuse_port: false,
            ipv6_only: false,
        }
    }

    /// Binds and listens. To be called inside a tokio runtime.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let domain = Domain::for_address(self.bind);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if self.bind.is_ipv6() {
            // Said either way: what a system does unasked differs.
            socket.set_only_v6(self.ipv6_only)?;
        }
        // A gateway that is started again need not wait for the old connections to be forgotten. On
        // Windows the option would let another process take the address away.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(self.reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.bind.into())?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        TcpListener::from_std(socket.into())
    }
}
