//! Every socket that the gateway listens at, bound before anything is served.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::banner::Line;
use crate::config::{self, Config, HTTP};
use crate::ready_file::{Address, Ready};

/// All listeners of one gateway.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) protocols: Vec<Bound>,
    pub(crate) http: Option<tidegate_api::Server>,
}

/// One bound listener of a protocol.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) config: config::Listener,
    pub(crate) address: SocketAddr,
    pub(crate) socket: Socket,
}

/// What clients come to.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Listeners {
    /// Binds every listener that the configuration has, or none. To be called inside a tokio runtime.
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut protocols = Vec::new();
        for listener in &config.listeners {
            let bind = listener.socket.bind;
            let bound = bound(listener);
            let (socket, address) = bound
                .with_context(|| format!("listener {} cannot be bound to {bind}", listener.name))?;
            protocols.push(Bound {
                config: listener.clone(),
                address,
                socket,
            });
        }
        let http = match &config.http {
            None => None,
            Some(settings) => {
                let server = tidegate_api::Server::bind(settings.clone());
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
            name: &bound.config.name,
            kind: bound.config.kind.scheme(),
            address: bound.address,
            path: bound.config.websocket.as_ref().map_or("", |it| &it.path),
        });
        let http = self.http.iter().map(|server| Line {
            name: HTTP,
            kind: HTTP,
            address: server.local_addr(),
            path: "",
        });
        protocols.chain(http).collect()
    }
}

fn bound(listener: &config::Listener) -> io::Result<(Socket, SocketAddr)> {
    let options = &listener.socket;
    if listener.kind.is_udp() {
        let socket = tidegate_quic::bind(options.bind, options.ipv6_only, options.reuse_port)?;
        let address = socket.local_addr()?;
        return Ok((Socket::Udp(socket), address));
    }
    let socket = options.listen()?;
    let address = socket.local_addr()?;
    Ok((Socket::Tcp(socket), address))
}
