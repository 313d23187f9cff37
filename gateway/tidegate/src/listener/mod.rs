//! One listener: from an accepted socket to a byte stream that MQTT, or CoAP, is spoken over.
//!
//! A connection is counted in, says where it really comes from (PROXY protocol), shakes hands (TLS),
//! asks for WebSocket, as far as the listener has these, and is then served on a task of its own that
//! holds nothing of what was needed before. Each step has a time limit, and whatever ends there is
//! counted with its reason and logged at a limited rate: whoever can connect must not be able to
//! fill the log.

mod coap;
mod coap_stream;
mod coaps;
mod counters;
mod quic;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use coaps::Dtls;
pub(crate) use counters::{Counters, Reason};
use tidegate_bus::Bus;
use tidegate_mqtt::{Adapter, Endpoint, Peer, Place, Refused, Served};
use tidegate_tcp::{Complaints, ProxyError, ProxyProtocol};
use tidegate_tls::{Acceptor, HandshakeError, Identity};
use tidegate_websocket::{UpgradeError, Upgrader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{self, Kind};
use crate::drain::Drain;

/// How long it may take to be able to tell a client why it is refused.
const TELL: Duration = Duration::from_secs(5);

/// What the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) counters: Counters,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) tls: Option<Acceptor>,
    /// What its connections count, if QUIC is spoken there.
    pub(crate) quic: Option<Arc<tidegate_quic::Metrics>>,
    /// What it counts, if CoAP is spoken there.
    pub(crate) coap: Option<Arc<tidegate_coap::Metrics>>,
    /// Its DTLS, if that is under CoAP there.
    pub(crate) dtls: Option<Dtls>,
    /// What serves its connections, if CoAP is spoken over them.
    pub(crate) coap_stream: Option<Arc<tidegate_coap::stream::Endpoint>>,
    proxy: Option<ProxyProtocol>,
    websocket: Option<Upgrader>,
    complaints: Complaints,
}

/// What becomes of a connection once it can be spoken to.
enum Verdict {
    Serve(Place),
    Tell(Refused),
}

impl Listener {
    /// `identity` is what it shows, if TLS is spoken there; `quic` what is counted, if QUIC is; `dtls` the same of DTLS.
    pub(crate) fn new(
        config: config::Listener,
        adapter: &Arc<Adapter>,
        identity: Option<Arc<Identity>>,
        quic: Option<Arc<tidegate_quic::Metrics>>,
        dtls: Option<Dtls>,
        bus: &Arc<Bus>,
    ) -> Arc<Self> {
        let tls = config.tls.zip(identity);
        let coap: Option<Arc<tidegate_coap::Metrics>> =
            config.coap.as_ref().map(|_| Arc::default());
        let coap_stream = config
            .coap
            .zip(coap.clone())
            .filter(|_| config.kind.is_coap_stream());
        let coap_stream = coap_stream.map(|(settings, metrics)| {
            tidegate_coap::stream::Endpoint::new(Arc::clone(bus), settings, metrics)
        });
        Arc::new(Self {
            name: config.name,
            kind: config.kind,
            counters: Counters::default(),
            endpoint: if coap_stream.is_some() {
                adapter.foreign_endpoint(config.mqtt)
            } else {
                adapter.endpoint(config.mqtt)
            },
            tls: tls.map(|(tls, identity)| Acceptor::new(identity, tls.accept)),
            quic,
            dtls,
            coap,
            coap_stream,
            proxy: config.proxy,
            websocket: config
                .websocket
                .map(|settings| Upgrader::new(settings).charging(Arc::clone(adapter.memory()))),
            complaints: Complaints::default(),
        })
    }

    /// Accepts connections until the drain begins. Connections go on after that.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener, drain: Drain) {
        let accepting = async {
            loop {
                let (stream, peer) = tidegate_tcp::accept(&socket, &self.name).await;
                self.take(stream, peer, &drain);
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain.clone().begun() => {}
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, drain: &Drain) {
        self.counters.accepted.add(1);
        if let Some(proxy) = &self.proxy
            && !proxy.trusts(address.ip())
        {
            // Before it counts: strangers take nothing from those who may connect.
            let what = "it comes from none of the configured networks";
            return self.complain(Reason::ProxyNetwork, Some(address), what, false);
        }
        let verdict = match self.endpoint.admit() {
            Ok(place) => Verdict::Serve(place),
            Err(refused) => {
                self.refused(&refused);
                // Who comes too fast is not worth a handshake.
                let worth = self.tls.is_none() || !refused.is_of_rate();
                if !worth || !refused.may_be_told() {
                    return;
                }
                Verdict::Tell(refused)
            }
        };
        if self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none() {
            // Nothing comes before the protocol itself.
            if let Some(verdict) = self.count_for(verdict, address) {
                let peer = Peer {
                    address: Some(address),
                    certificate_name: None,
                };
                self.hand_over(stream, peer, verdict);
            }
            return;
        }
        let listener = Arc::clone(self);
        let drain = drain.clone();
        tokio::spawn(async move {
            let established = listener.establish(stream, address, verdict);
            tokio::select! {
                () = established => {}
                // Nobody is let in any more.
                () = drain.begun() => {}
            }
        });
    }

    /// Everything before the first byte of the protocol itself.
    async fn establish(
        self: &Arc<Self>,
        mut stream: TcpStream,
        address: SocketAddr,
        verdict: Verdict,
    ) {
        let mut peer = Peer {
            address: Some(address),
            certificate_name: None,
        };
        if let Some(proxy) = &self.proxy {
            match proxy.read(&mut stream).await {
                Ok(proxied) => {
                    peer.address = proxied.source.or(peer.address);
                    peer.certificate_name = proxied.certificate_name;
                }
                Err(error) => return self.complain_proxy(address, &error),
            }
        }
        let source = peer.address.unwrap_or(address);
        let Some(verdict) = self.count_for(verdict, source) else {
            return;
        };
        match verdict {
            Verdict::Serve(_) => self.set_up(stream, peer, verdict).await,
            // There are few places for those who are told why: nobody keeps one for long.
            Verdict::Tell(_) => {
                let told = self.set_up(stream, peer, verdict);
                let _ = tokio::time::timeout(TELL, told).await;
            }
        }
    }

    /// TLS and WebSocket, as far as they are spoken here.
    async fn set_up(self: &Arc<Self>, stream: TcpStream, mut peer: Peer, verdict: Verdict) {
        let Ok(local) = stream.local_addr() else {
            // The peer is gone already.
            return;
        };
        let Some(acceptor) = &self.tls else {
            return self.upgrade(stream, local.ip(), peer, verdict).await;
        };
        let (stream, shown) = match Box::pin(acceptor.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(error) => return self.complain_tls(peer.address, &error),
        };
        // What the client itself has shown goes before what a load balancer says of it.
        if let Some(certificate) = shown.certificate {
            peer.certificate_name = certificate.common_name;
        }
        self.upgrade(stream, local.ip(), peer, verdict).await;
    }

    async fn upgrade<S>(self: &Arc<Self>, stream: S, local: IpAddr, peer: Peer, verdict: Verdict)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(upgrader) = &self.websocket else {
            return self.hand_over(stream, peer, verdict);
        };
        match Box::pin(upgrader.upgrade(stream, local)).await {
            Ok(stream) => self.hand_over(stream, peer, verdict),
            Err(error) => self.complain_websocket(peer.address, &error),
        }
    }

    /// Counts the connection for where it comes from. `None`: it is to be closed without a word.
    fn count_for(&self, verdict: Verdict, source: SocketAddr) -> Option<Verdict> {
        let Verdict::Serve(place) = verdict else {
            return Some(verdict);
        };
        match place.count_for(source.ip()) {
            Ok(place) => Some(Verdict::Serve(place)),
            Err(refused) => {
                self.refused(&refused);
                refused.may_be_told().then_some(Verdict::Tell(refused))
            }
        }
    }

    /// Serves the connection on a task of its own, which is as large as it has to be while it is
    /// idle, not as large as the steps before were.
    fn hand_over<S>(self: &Arc<Self>, stream: S, peer: Peer, verdict: Verdict)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(endpoint) = &self.coap_stream {
            return self.hand_over_coap(endpoint, stream, peer, verdict);
        }
        match verdict {
            Verdict::Serve(place) => self.spawn(place.serve(stream, peer)),
            Verdict::Tell(refused) => {
                tokio::spawn(refused.tell(stream));
            }
        }
    }

    /// Serves a connection in a task of its own.
    fn spawn(self: &Arc<Self>, serving: impl Future<Output = Served> + Send + 'static) {
        let listener = Arc::clone(self);
        tokio::spawn(async move {
            if let Served::Foreign(foreign, source) = serving.await {
                listener.complain_mqtt(source, foreign);
            }
        });
    }

    // ---- what goes wrong --------------------------------------------------------------------

    fn refused(&self, refused: &Refused) {
        let reason = if refused.is_of_rate() {
            Reason::Rate
        } else {
            Reason::Limit
        };
        self.counters.refused(reason).add(1);
        if let Some(passed_over) = self.complaints.may_say(reason.as_str()) {
            tracing::warn!(
                listener = self.name,
                reason = reason.as_str(),
                passed_over,
                "A connection was refused."
            );
        }
    }

    /// Counts a connection that is not served and says so. That a client went away, as the probe of a
    /// load balancer does, is no news.
    fn complain(&self, reason: Reason, source: Option<SocketAddr>, what: &str, went_away: bool) {
        self.counters.refused(reason).add(1);
        // What a stranger wrote may be part of it, at any length.
        let what = what
            .char_indices()
            .nth(400)
            .map_or(what, |(end, _)| &what[..end]);
        let what = what.trim_end_matches('.');
        let source = source.map(tracing::field::display);
        let news = (!went_away).then(|| self.complaints.may_say(reason.as_str()));
        match news.flatten() {
            Some(passed_over) => tracing::warn!(
                listener = self.name,
                peer = source,
                reason = reason.as_str(),
                passed_over,
                "A connection was closed: {what}."
            ),
            None => tracing::debug!(
                listener = self.name,
                peer = source,
                reason = reason.as_str(),
                "A connection was closed: {what}."
            ),
        }
    }

    fn complain_proxy(&self, source: SocketAddr, error: &ProxyError) {
        let reason = match error {
            ProxyError::Timeout => Reason::ProxyTimeout,
            _ => Reason::ProxyHeader,
        };
        let went_away = matches!(error, ProxyError::Lost(_));
        self.complain(reason, Some(source), &error.to_string(), went_away);
    }

    fn complain_tls(&self, source: Option<SocketAddr>, error: &HandshakeError) {
        let reason = match error {
            HandshakeError::NotTls(_) => Reason::NotTls,
            HandshakeError::Timeout { .. } => Reason::TlsTimeout,
            _ => Reason::TlsHandshake,
        };
        let went_away = matches!(error, HandshakeError::Lost);
        self.complain(reason, source, &error.to_string(), went_away);
    }

    fn complain_websocket(&self, source: Option<SocketAddr>, error: &UpgradeError) {
        let reason = match error {
            UpgradeError::Timeout => Reason::WebsocketTimeout,
            _ => Reason::WebsocketRequest,
        };
        let went_away = matches!(error, UpgradeError::Lost);
        self.complain(reason, source, &error.to_string(), went_away);
    }

    fn complain_mqtt(&self, source: Option<SocketAddr>, foreign: tidegate_mqtt::Foreign) {
        let name = foreign.name();
        let hint = match foreign {
            tidegate_mqtt::Foreign::Tls => " (a listener of the kind mqtts or wss takes it)",
            tidegate_mqtt::Foreign::Http => " (a listener of the kind ws takes WebSocket)",
            tidegate_mqtt::Foreign::Proxy => " (proxy_networks says who may)",
            _ => "",
        };
        let kind = self.kind.scheme();
        let what = format!("it speaks {name} where {kind} is spoken{hint}");
        self.complain(Reason::NotMqtt, source, &what, false);
    }
}
