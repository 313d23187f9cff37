//! MQTT over TCP (MQTT 5.0 section 4.2).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::warn;

use crate::adapter::Adapter;

/// The longest pause after accepting has failed, as it does when the process has no file
/// descriptors left.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A bound TCP listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// A listener on a socket that is bound already.
    pub fn new(socket: TcpListener) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `shutdown` is ready. Connections go on after that.
    pub async fn serve(self, adapter: Arc<Adapter>, shutdown: impl Future<Output = ()> + Send) {
        let accepting = self.accept_all(&adapter);
        tokio::select! {
            () = accepting => {}
            () = shutdown => {}
        }
    }

    async fn accept_all(&self, adapter: &Arc<Adapter>) {
        let mut pause = Duration::ZERO;
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    pause = Duration::ZERO;
                    // Without it a small packet waits for the acknowledgement of the one before.
                    if stream.set_nodelay(true).is_ok() {
                        adapter.accept(stream, Some(peer));
                    }
                }
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(5), MAX_PAUSE);
                    warn!(%error, address = %self.address, "Accepting a connection failed.");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
