//! A connection whose handshake is confirmed.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::VarInt;
use rustls::pki_types::CertificateDer;

use crate::crypto::Handshake;
use crate::data::{DataStream, DataStreams};
use crate::error::{EstablishError, code};
use crate::link::Owner;
use crate::metrics::Observed;
use crate::stream::Stream;

/// A connection whose handshake is confirmed. Dropped, it is closed.
#[derive(Debug)]
pub struct Connection {
    connection: Arc<Owner>,
    /// How long the client may take to open a stream.
    patience: Duration,
    handshake: Handshake,
    observed: Arc<Observed>,
}

impl Connection {
    pub(crate) const fn new(
        connection: Arc<Owner>,
        patience: Duration,
        handshake: Handshake,
        observed: Arc<Observed>,
    ) -> Self {
        Self {
            connection,
            patience,
            handshake,
            observed,
        }
    }

    /// What its handshake has come to.
    #[must_use]
    pub const fn handshake(&self) -> Handshake {
        self.handshake
    }

    /// Where the client is now.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.connection.address()
    }

    /// The certificates that the client has shown, its own first.
    #[must_use]
    pub fn certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.connection.certificates()
    }

    /// The control stream: the first that the client opens.
    ///
    /// # Errors
    ///
    /// If it opens none in time, or goes away; then it is closed.
    pub async fn control_stream(&self) -> Result<Stream, EstablishError> {
        let limit = self.patience;
        let opened = poll_fn(|cx| self.connection.poll_accept(cx));
        match tokio::time::timeout(limit, opened).await {
            Ok(Ok(id)) => {
                self.observed.stream();
                let stream = DataStream::new(Arc::clone(&self.connection), id);
                Ok(Stream::new(stream, Arc::clone(&self.observed)))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => {
                self.close(code::PROTOCOL_ERROR, "no stream was opened");
                Err(EstablishError::NoStream { limit })
            }
        }
    }

    /// The streams that the client opens beside the control stream.
    #[must_use]
    pub fn data_streams(&self) -> DataStreams {
        DataStreams::new(Arc::clone(&self.connection), Arc::clone(&self.observed))
    }

    /// Ends it with an application error code (RFC 9000 section 10.2).
    pub fn close(&self, code: VarInt, reason: &str) {
        self.connection.close(code, reason.as_bytes());
    }
}
