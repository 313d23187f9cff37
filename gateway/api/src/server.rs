//! The HTTP/1.1 server: sockets on one side, the [`Service`] on the other.
//!
//! Whoever connects gets a bounded share: so many connections at once, so long for a request's
//! head, so much of it, and so long for a connection as a whole, because a peer that does not read
//! its response would otherwise keep its place for ever. A connection with an event stream lives as long as that
//! does, and is cut off when its client takes nothing of it any more.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tidegate_origin::{AllowedHost, AllowedOrigin, Gate};
use tidegate_tcp::SocketOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::health::Health;
use crate::service::Service;
use crate::v1::Api;

/// Most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// Most bytes of one connection's read buffer.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// What an operator decides about the HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen at; port 0 is a free one.
    pub bind: SocketAddr,
    /// Hosts that requests may name, besides loopback and the address they arrive at.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Origins whose pages may send requests, besides the gateway's own.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Most connections at once; others wait in the listener's backlog.
    pub max_connections: usize,
    /// Time for a request's head, and how long a connection may idle between two requests.
    pub header_read_timeout: Duration,
    /// Age at which a connection is closed after its current response.
    pub max_connection_age: Duration,
    /// Time that a connection has for its current response when it is to be closed.
    pub close_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 18083)),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_connections: 256,
            header_read_timeout: Duration::from_secs(15),
            max_connection_age: Duration::from_secs(300),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// A bound server that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    settings: Settings,
}

/// What all connections share.
struct Shared {
    service: Service,
    http: http1::Builder,
    max_connection_age: Duration,
    close_timeout: Duration,
}

impl Server {
    /// Takes the address. From now on connections queue up until [`serve`](Self::serve). To be called
    /// inside a tokio runtime.
    pub fn bind(settings: Settings) -> io::Result<Self> {
        let listener = SocketOptions::new(settings.bind).listen()?;
        let local_addr = listener.local_addr()?;
        Ok(Self {
            listener,
            local_addr,
            settings,
        })
    }

    /// The address it is bound to, with the port that port 0 became.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers requests until `stop` completes, then closes every connection after its current
    /// response. Event streams are ended.
    pub async fn serve(
        self,
        health: Health,
        registry: Registry,
        api: Api,
        stop: impl Future<Output = ()>,
    ) {
        let Settings {
            bind: _,
            allowed_hosts,
            allowed_origins,
            max_connections,
            header_read_timeout,
            max_connection_age,
            close_timeout,
        } = self.settings;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(header_read_timeout)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES);
        let shared = Arc::new(Shared {
            service: Service::new(
                health,
                registry,
                &api,
                Gate::new(allowed_hosts, allowed_origins),
            ),
            http,
            max_connection_age,
            close_timeout,
        });

        let places = Arc::new(Semaphore::new(max_connections));
        let (closing, _) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, tidegate_tcp::accept(&self.listener, "http").await.0)
            };
            let (place, stream) = tokio::select! {
                biased;
                () = &mut stop => break,
                next = next => next,
            };
            while connections.try_join_next().is_some() {}
            let shared = Arc::clone(&shared);
            let closing = closing.subscribe();
            connections.spawn(async move {
                let _place = place;
                shared.serve_connection(stream, closing).await;
            });
        }
        drop(self.listener);
        api.shut_down().await;
        closing.send_replace(true);
        while connections.join_next().await.is_some() {}
    }
}

impl Shared {
    async fn serve_connection(&self, stream: TcpStream, mut closing: watch::Receiver<bool>) {
        // The peer can be gone already; then there is nobody to answer.
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let peer = stream.peer_addr().ok();
        let connection = Arc::new(Connection::new(peer));
        let service = service_fn(|request: Request<Incoming>| {
            let connection = Arc::clone(&connection);
            let request = request.map(Body::new);
            let responding = self.service.respond_on(request, local.ip(), connection);
            async move { Ok::<_, Infallible>(responding.await) }
        });
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let aged = async {
            tokio::time::sleep(self.max_connection_age).await;
            connection.quiet().await;
        };
        tokio::select! {
            ended = serving.as_mut() => return report(ended),
            () = connection.stalled() => return report_stalled(),
            _ = closing.wait_for(|closing| *closing) => {}
            () = aged => {}
        }
        serving.as_mut().graceful_shutdown();
        if let Ok(ended) = tokio::time::timeout(self.close_timeout, serving).await {
            report(ended);
        }
    }
}

fn report_stalled() {
    tracing::debug!("An HTTP client took nothing of its event stream and was cut off.");
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "An HTTP connection ended early.");
    }
}
