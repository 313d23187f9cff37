//! The UDP socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of datagrams that the kernel keeps in either direction, as far as it allows so many
/// (`net.core.rmem_max` and `wmem_max` on Linux): what it does not keep is lost, and sent again later.
const BUFFER: usize = 4 << 20;

/// A UDP socket at this address; port 0 is a free one.
///
/// # Errors
///
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, ipv6_only: bool, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
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
