//! What serves the connections of one listener, whatever carries their bytes.
//!
//! A connection is counted in as soon as it is accepted ([`Endpoint::admit`]), and for its address as
//! soon as that is known ([`Place::count_for`]); what lies between, such as a TLS handshake, is the
//! caller's. Then it is served, or told why not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_bus::Bus;
use tokio::io::{AsyncRead, AsyncWrite, Empty};

use crate::adapter::Adapter;
use crate::admission::{Admission, Refusal, Told};
use crate::connection;
use crate::counters::MqttCounters;
use crate::foreign::Foreign;
use crate::settings::Settings;
use crate::transport::Carrier;

/// One listener's side of the adapter.
pub struct Endpoint {
    pub(crate) bus: Arc<Bus>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) adapter: Arc<Adapter>,
    admission: Arc<Admission>,
    /// What is counted here and not among all: another protocol is spoken.
    foreign: Option<MqttCounters>,
}

/// Who is at the other end of a connection, as far as is known before CONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub address: Option<SocketAddr>,
    /// The common name of the certificate it has shown, verified.
    pub certificate_name: Option<String>,
}

/// What became of a connection that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// It spoke MQTT, or did not speak.
    Ended,
    /// Its first bytes were those of another protocol, and it was closed.
    Foreign(Foreign, Option<SocketAddr>),
}

/// A connection that was counted in; it counts until this is dropped.
#[derive(Debug)]
pub struct Place {
    endpoint: Arc<Endpoint>,
    /// The address that it counts for, once that is known.
    ip: Option<IpAddr>,
}

/// A connection that is not served.
#[derive(Debug)]
pub struct Refused {
    endpoint: Arc<Endpoint>,
    refusal: Refusal,
    told: Option<Told>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("open", &self.open_connections())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(
        adapter: &Arc<Adapter>,
        settings: Settings,
        foreign: Option<MqttCounters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            bus: Arc::clone(&adapter.bus),
            admission: Arc::new(Admission::new(&settings)),
            settings: Arc::new(settings),
            adapter: Arc::clone(adapter),
            foreign,
        })
    }

    pub(crate) fn counters(&self) -> &MqttCounters {
        self.foreign.as_ref().unwrap_or(&self.adapter.counters)
    }

    /// Connections of this listener open now, those that have not sent CONNECT yet included.
    pub fn open_connections(&self) -> usize {
        self.admission.open()
    }

    /// Whether it would be a loss to others if somebody took `places` connections and did not use them: there is
    /// room for less than twice as many, or half of what may come within a second has come.
    pub fn is_scarce(&self, places: usize) -> bool {
        self.admission.is_scarce(places) || self.adapter.admission.is_scarce(places)
    }

    /// Counts in a connection that was just accepted, or not.
    pub fn admit(self: &Arc<Self>) -> Result<Place, Refused> {
        self.counters().accepted.add(1);
        if let Err(refusal) = self.admission.enter() {
            return Err(self.refuse(refusal));
        }
        if let Err(refusal) = self.adapter.admission.enter() {
            self.admission.leave();
            return Err(self.refuse(refusal));
        }
        Ok(Place {
            endpoint: Arc::clone(self),
            ip: None,
        })
    }

    fn refuse(self: &Arc<Self>, refusal: Refusal) -> Refused {
        let counters = self.counters();
        match refusal {
            Refusal::Rate => counters.refused_rate.add(1),
            Refusal::Connections | Refusal::ConnectionsPerIp => counters.refused_limit.add(1),
        }
        Refused {
            endpoint: Arc::clone(self),
            refusal,
            told: Told::new(&self.admission),
        }
    }
}

impl Place {
    /// Counts the connection among those from `ip`. Done once.
    pub fn count_for(mut self, ip: IpAddr) -> Result<Self, Refused> {
        let endpoint = &self.endpoint;
        if let Err(refusal) = endpoint.admission.enter_for(ip) {
            return Err(endpoint.refuse(refusal));
        }
        if let Err(refusal) = endpoint.adapter.admission.enter_for(ip) {
            endpoint.admission.leave_for(ip);
            return Err(endpoint.refuse(refusal));
        }
        self.ip = Some(ip);
        Ok(self)
    }

    /// Serves the connection until it ends.
    ///
    /// Not an `async fn`: that would keep room for its arguments for as long as it runs.
    pub fn serve<S>(self, stream: S, peer: Peer) -> impl Future<Output = Served> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // There are no others.
        self.serve_streams(stream, |_| Poll::<Empty>::Pending, peer)
    }

    /// Serves a connection that may have several streams until it ends. It begins on `first`, and its end is spoken
    /// there; `next` is asked for those that the client has opened since, after CONNACK: until then they wait
    /// below. Whoever carries the connection bounds how many there are at a time.
    ///
    /// A further stream completes its shutdown when the client has everything, and fails it when that will not be.
    /// Dropped before, it is reset. What fails `first` ends the connection; nothing else does.
    pub fn serve_streams<S, N>(
        self,
        first: S,
        next: impl FnMut(&mut Context<'_>) -> Poll<N> + Unpin + Send,
        peer: Peer,
    ) -> impl Future<Output = Served> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        N: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let transport = Carrier { first, next };
        let serving = connection::serve(Arc::clone(&self.endpoint), transport, peer);
        async move {
            let served = serving.await;
            drop(self);
            served
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Endpoint {
            admission, adapter, ..
        } = &*self.endpoint;
        if let Some(ip) = self.ip {
            admission.leave_for(ip);
            adapter.admission.leave_for(ip);
        }
        admission.leave();
        adapter.admission.leave();
    }
}

impl Refused {
    /// A word for metrics: `limit` or `rate`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self.refusal {
            Refusal::Rate => "rate",
            Refusal::Connections | Refusal::ConnectionsPerIp => "limit",
        }
    }

    /// Whether there is room to tell it why. Otherwise it is to be closed without a word, so that
    /// refusing costs no more than serving.
    #[must_use]
    pub const fn may_be_told(&self) -> bool {
        self.told.is_some()
    }

    /// Whether it came too fast. Then nothing that costs more than closing is worth while.
    #[must_use]
    pub fn is_of_rate(&self) -> bool {
        self.refusal == Refusal::Rate
    }

    /// Reads CONNECT, answers why it is refused, and closes.
    pub async fn tell<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        connection::refuse(&self.endpoint, stream, self.refusal.reason()).await;
    }
}
