//! QUIC: from the first packet of a client to the stream that MQTT is spoken on.
//!
//! A connection counts as soon as its handshake begins, and for its address when it has proved that: before,
//! anybody could take the places of somebody else. For the same reason who has not proved it takes none of the last
//! places, where it may be asked to. What is refused before the handshake is refused with
//! QUIC's own CONNECTION_REFUSED, and later with an application error code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use tidegate_mqtt::{Peer, Place};
use tidegate_quic::{Arrival, Connection, EstablishError, Server, code};
use tidegate_tls::{Acceptor, ClientCertificate};

use super::{Listener, Reason};
use crate::drain::Drain;

impl Listener {
    /// Answers handshakes until the drain begins. Connections go on after that.
    pub(crate) async fn serve_quic(self: Arc<Self>, server: Arc<Server>, drain: Drain) {
        let accepting = async {
            let too_many = |address: SocketAddr| {
                self.counters.accepted.add(1);
                let what = "as many handshakes are under way as may be";
                self.complain(Reason::Rate, Some(address), what, false);
            };
            let scarce = |unproved| self.endpoint.is_scarce(unproved);
            while let Some(arrival) = server.accept(scarce, too_many).await {
                self.arrived(arrival, &server, &drain);
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain.clone().begun() => {}
        }
        server.stop();
    }

    fn arrived(self: &Arc<Self>, arrival: Arrival, server: &Arc<Server>, drain: &Drain) {
        self.counters.accepted.add(1);
        let place = match self.endpoint.admit() {
            Ok(place) => place,
            Err(refused) => {
                self.refused(&refused);
                return arrival.refuse();
            }
        };
        let (listener, server) = (Arc::clone(self), Arc::clone(server));
        let drain = drain.clone();
        tokio::spawn(async move {
            let established = Box::pin(listener.establish_quic(arrival, &server, place));
            tokio::select! {
                () = established => {}
                // Nobody is let in any more.
                () = drain.begun() => {}
            }
        });
    }

    async fn establish_quic(self: &Arc<Self>, arrival: Arrival, server: &Server, place: Place) {
        let address = arrival.address();
        let established = async {
            let connection = server.establish(arrival).await?;
            let certificate_name = self.certificate_name(&connection)?;
            Ok((connection, certificate_name))
        };
        let counters = self.tls.as_ref().map(Acceptor::counters);
        let begun = counters.map(|counters| counters.begin());
        let (connection, certificate_name) = match established.await {
            Ok(established) => established,
            Err(error) => {
                if let Some(counters) = counters {
                    counters.failure(matches!(error, EstablishError::Timeout { .. }));
                }
                return self.complain_quic(address, &error);
            }
        };
        drop(begun);
        if let Some(counters) = counters {
            counters.completed(connection.handshake().resumed);
        }
        let peer = Peer {
            address: Some(connection.address()),
            certificate_name,
        };
        let place = match place.count_for(connection.address().ip()) {
            Ok(place) => place,
            Err(refused) => {
                self.refused(&refused);
                return connection.close(code::QUOTA_EXCEEDED, "too many connections");
            }
        };
        match connection.control_stream().await {
            Ok(control) => {
                let mut streams = connection.data_streams();
                let next = move |cx: &mut Context<'_>| streams.poll_next(cx);
                self.spawn(place.serve_streams(control, next, peer));
            }
            Err(error) => self.complain_quic(address, &error),
        }
    }

    /// The common name of the client's certificate, which must hold now: a session that was resumed may be
    /// older than what is believed.
    fn certificate_name(&self, connection: &Connection) -> Result<Option<String>, EstablishError> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let certificates = connection.certificates();
        let refused = |error| {
            connection.close(code::NOT_AUTHORIZED, "the certificate does not hold");
            EstablishError::Certificate(error)
        };
        tls.identity()
            .still_trusts(certificates.as_deref())
            .map_err(refused)?;
        let first = certificates.as_ref().and_then(|all| all.first());
        let certificate = first.map(ClientCertificate::read);
        let certificate = certificate.transpose().map_err(refused)?;
        Ok(certificate.and_then(|certificate| certificate.common_name))
    }

    fn complain_quic(&self, source: SocketAddr, error: &EstablishError) {
        let reason = match error {
            EstablishError::Timeout { .. } | EstablishError::NoStream { .. } => Reason::QuicTimeout,
            _ => Reason::QuicHandshake,
        };
        let went_away = matches!(error, EstablishError::Lost);
        self.complain(reason, Some(source), &error.to_string(), went_away);
    }
}
