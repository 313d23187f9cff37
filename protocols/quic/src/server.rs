//! One UDP socket at which handshakes are answered.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use parking_lot::Mutex;
use quinn_proto::{EndpointConfig, RandomConnectionIdGenerator, TransportConfig, VarInt};

use crate::cid::Generator;
use crate::connection::Connection;
use crate::crypto::Crypto;
use crate::endpoint::{Arriving, Endpoint};
use crate::error::EstablishError;
use crate::metrics::{Metrics, Observed};
use crate::settings::{Retry, Settings};

/// Octets of the packets that a client may send before its handshake is looked at, of one and of all that wait.
const WAITING_BYTES: u64 = 64 << 10;
const ALL_WAITING_BYTES: u64 = 16 << 20;
/// Octets of a connection identifier that names no node.
const ID: usize = 8;
/// Handshakes that wait to be looked at.
const WAITING: usize = 1_024;
/// So long a connection whose handshake has failed is kept, to answer what still comes of it: three probe timeouts
/// (RFC 9000 section 10.2), as they are while no round trip is known (RFC 9002 section 6.2.2).
const CLOSING: Duration = Duration::from_secs(3);
/// Between two stateless resets. After a restart each client gets one, so there must be many; each is smaller than
/// what it answers.
const RESETS: Duration = Duration::from_millis(1);

/// What the next handshake is answered with; asked for each, so that certificates follow their files.
pub type TlsConfig = Box<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// Secrets that should outlive the process: what was made with them is recognized by the next one.
#[derive(Clone)]
pub struct Keys {
    reset: [u8; 64],
    token: [u8; 64],
}

impl Keys {
    /// From 128 random octets. The first half is for stateless resets (RFC 9000 section 10.3), by which a client
    /// hears at once that its connection is gone, the second for address validation tokens (section 8.1).
    #[must_use]
    pub fn new(secret: &[u8; 128]) -> Self {
        let (mut reset, mut token) = ([0; 64], [0; 64]);
        reset.copy_from_slice(&secret[..64]);
        token.copy_from_slice(&secret[64..]);
        Self { reset, token }
    }

    fn endpoint(&self) -> EndpointConfig {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.reset);
        let mut config = EndpointConfig::new(Arc::new(key));
        config.min_reset_interval(RESETS);
        config
    }

    fn token(&self) -> Arc<hkdf::Prk> {
        Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.token))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// Answers handshakes at one UDP socket.
pub struct Server {
    endpoint: Endpoint,
    settings: Settings,
    keys: Keys,
    transport: Arc<TransportConfig>,
    tls: TlsConfig,
    /// Made of the TLS configuration beside it.
    made: Mutex<Option<(Arc<rustls::ServerConfig>, Arc<quinn_proto::ServerConfig>)>>,
    handshakes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// A client that has begun a handshake; dropped, it is refused.
#[derive(Debug)]
pub struct Arrival {
    incoming: Arriving,
    turn: Turn,
}

/// One of the handshakes that are under way, or that have failed and are not forgotten.
#[derive(Debug)]
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Serves at this socket, which is bound. To be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the socket cannot be used, or TLS is not configured for QUIC: it needs version 1.3.
    pub fn new(
        socket: UdpSocket,
        settings: Settings,
        keys: Keys,
        tls: TlsConfig,
    ) -> io::Result<Self> {
        let mut endpoint = keys.endpoint();
        match settings.node_id {
            Some(node) => endpoint.cid_generator(move || Box::new(Generator(node))),
            // Not quinn-proto's own, which takes no identifier for one of its own that an earlier process gave, and
            // so would not answer it with a reset.
            None => endpoint.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(ID))),
        };
        let metrics = Arc::<Metrics>::default();
        let server = Self {
            endpoint: Endpoint::new(endpoint, socket, Arc::clone(&metrics))?,
            transport: settings.transport(&metrics),
            settings,
            keys,
            tls,
            made: Mutex::default(),
            handshakes: Arc::default(),
            metrics,
        };
        let config = server.config().map_err(io::Error::other)?;
        server.endpoint.configure(Some(config));
        tokio::spawn(Metrics::keep_looking(Arc::downgrade(&server.metrics)));
        Ok(server)
    }

    /// The configuration for the next handshake.
    fn config(&self) -> Result<Arc<quinn_proto::ServerConfig>, rustls::Error> {
        let tls = (self.tls)();
        let mut made = self.made.lock();
        if let Some((of, config)) = &*made
            && Arc::ptr_eq(of, &tls)
        {
            return Ok(Arc::clone(config));
        }
        let crypto = Crypto::new(Arc::clone(&tls), Arc::clone(&self.metrics))?;
        let mut config = quinn_proto::ServerConfig::new(Arc::new(crypto), self.keys.token());
        config
            .transport_config(Arc::clone(&self.transport))
            .migration(self.settings.migration)
            .max_incoming(WAITING)
            .incoming_buffer_size(WAITING_BYTES)
            .incoming_buffer_size_total(ALL_WAITING_BYTES);
        let config = Arc::new(config);
        *made = Some((tls, Arc::clone(&config)));
        Ok(config)
    }

    /// The next client; `None` once the server is closed. Those whose address must be validated first, and
    /// those for whom there is no handshake left, are answered here; `refused` is told of the latter. `scarce` is
    /// asked whether there is room for few more than so many connections: then none of it goes to whoever has not
    /// proved an address, unless that is never asked for.
    pub async fn accept(
        &self,
        scarce: impl Fn(usize) -> bool,
        mut refused: impl FnMut(SocketAddr),
    ) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let under_way = self.handshakes.load(Ordering::Relaxed);
            if under_way >= self.settings.max_handshakes {
                refused(incoming.address());
                continue;
            }
            let validate = match self.settings.retry {
                Retry::Always => true,
                Retry::Above(limit) => under_way >= limit || scarce(limit),
                Retry::Never => false,
            };
            if validate && incoming.may_retry() {
                incoming.retry();
                continue;
            }
            self.handshakes.fetch_add(1, Ordering::Relaxed);
            let turn = Turn(Arc::clone(&self.handshakes));
            return Some(Arrival { incoming, turn });
        }
    }

    /// What its connections count.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    #[cfg(test)]
    pub(crate) fn socket(&self) -> &crate::socket::Socket {
        self.endpoint.socket()
    }

    /// Shakes hands. When it is done the client has proved its address, and that it takes part now: nothing of
    /// what was replayed comes so far.
    ///
    /// # Errors
    ///
    /// Why there is no connection; the client was told as far as QUIC can.
    pub async fn establish(&self, arrival: Arrival) -> Result<Connection, EstablishError> {
        let Arrival { incoming, turn } = arrival;
        let config = self.config();
        let config = config.map_err(|error| EstablishError::Failed(error.to_string()))?;
        let connection = incoming.accept(config)?;
        let limit = self.settings.handshake_timeout;
        // This is when the client's Finished has come, which for a server confirms the handshake (RFC 9001 section
        // 4.1.2), and whoever only repeats packets has none. Early data waits in its stream until then, and takes no
        // more there than the windows allow.
        let established = match tokio::time::timeout(limit, connection.confirmed()).await {
            Ok(established) => established.map_err(EstablishError::from),
            Err(_elapsed) => Err(EstablishError::Timeout { limit }),
        };
        if established.is_err() {
            // It takes as much as before until it is forgotten.
            tokio::spawn(async move {
                tokio::time::sleep(CLOSING).await;
                drop(turn);
            });
        }
        established?;
        let handshake = connection.handshake();
        let observed = Observed::new(Arc::clone(&connection), handshake, &self.metrics);
        Ok(Connection::new(connection, limit, handshake, observed))
    }

    /// Lets nobody in any more; connections go on.
    pub fn stop(&self) {
        self.endpoint.configure(None);
    }

    /// Ends all connections with this application error code and waits until they have heard it.
    pub fn close(&self, code: VarInt) -> impl Future<Output = ()> + use<'_> {
        self.endpoint.close(code);
        self.endpoint.emptied()
    }
}

impl Arrival {
    /// Where it seems to be: nobody has proved it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.incoming.address()
    }

    /// Refuses it with CONNECTION_REFUSED (RFC 9000 section 20.1).
    pub fn refuse(self) {
        drop(self);
    }
}
