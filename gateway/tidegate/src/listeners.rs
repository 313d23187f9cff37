//! Every socket that the gateway listens at, bound before anything is served.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};

use crate::banner::Line;
use crate::config::{Config, HTTP, Kind};
use crate::ready_file::{Address, Ready};

/// Connections that the kernel keeps until they are accepted; it lowers this to its own maximum.
const BACKLOG: u32 = 4_096;

/// All listeners of one gateway.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) protocols: Vec<Bound>,
    pub(crate) http: Option<tidegate_api::Server>,
}

/// One bound listener of a protocol.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) socket: TcpListener,
}

impl Listeners {
    /// Binds every listener that the configuration has, or none.
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut protocols = Vec::new();
        for listener in &config.listeners {
            let bind = listener.bind;
            let socket = listen(bind)
                .with_context(|| format!("listener {} cannot be bound to {bind}", listener.name))?;
            protocols.push(Bound {
                name: listener.name.clone(),
                kind: listener.kind,
                address: socket.local_addr()?,
                socket,
            });
        }
        let http = match &config.http {
            None => None,
            Some(settings) => {
                let server = tidegate_api::Server::bind(settings.clone()).await;
                let bind = settings.bind;
                Some(server.with_context(|| format!("HTTP cannot be bound to {bind}"))?)
            }
        };
        Ok(Self { protocols, http })
    }

    /// What the ready file says about them.
    pub(crate) fn ready(&self) -> Ready {
        let addresses = self.lines().into_iter().map(|line| {
            let address = Address {
                kind: line.kind,
                address: line.address,
            };
            (line.name.to_owned(), address)
        });
        Ready::new(addresses.collect::<BTreeMap<_, _>>())
    }

    /// Their names, kinds and addresses, HTTP last.
    pub(crate) fn lines(&self) -> Vec<Line<'_>> {
        let protocols = self.protocols.iter().map(|bound| Line {
            name: &bound.name,
            kind: bound.kind.scheme(),
            address: bound.address,
        });
        let http = self.http.iter().map(|server| Line {
            name: HTTP,
            kind: HTTP,
            address: server.local_addr(),
        });
        protocols.chain(http).collect()
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A gateway that is started again need not wait for the old connections to be forgotten. On
    // Windows the option would let another process take the address away.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
