//! One UDP socket with the connections at it: who a datagram is for, who comes anew, and who is gone.
//!
//! The loop here does no work of a connection: what has come goes into an inbox. Its lock is held while one datagram is
//! looked at, and while a connection begins, which is where quinn-proto reads a first packet.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use parking_lot::Mutex;
use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, EndpointConfig,
    EndpointEvent, Incoming, ServerConfig, Transmit, VarInt,
};
use tokio::sync::Notify;

use crate::driver::drive;
use crate::error::code;
use crate::inbox::Waiting;
use crate::link::{Link, Owner};
use crate::metrics::Metrics;
use crate::socket::{Datagram, Received, Socket};

/// Datagrams after which others have their turn.
const MOST_IN_A_TURN: usize = 64;

/// A socket that is served as long as this is there, or a connection.
pub(crate) struct Endpoint(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) socket: Socket,
    /// What waits in the inboxes of all connections.
    pub(crate) waiting: Waiting,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Somebody has come, or nobody is let in any more.
    arrived: Notify,
    /// A last connection is gone.
    emptied: Notify,
}

struct State {
    quic: quinn_proto::Endpoint,
    /// By their handles, which are numbers that are given anew.
    links: Vec<Option<Arc<Link>>>,
    open: usize,
    arrivals: VecDeque<Incoming>,
    /// With what all were ended.
    closed: Option<VarInt>,
    /// The [`Endpoint`] is gone.
    is_left: bool,
}

/// A client that has begun a handshake. Dropped, it is refused.
pub(crate) struct Arriving {
    /// Taken by what becomes of it.
    incoming: Option<Incoming>,
    address: SocketAddr,
    endpoint: Arc<Shared>,
}

/// What is to be done about a datagram.
enum Routed {
    Nothing,
    Wake(Arc<Link>),
    Arrived,
    Answer(Transmit),
}

impl Endpoint {
    /// Serves at this socket. To be called inside a tokio runtime.
    pub(crate) fn new(
        config: EndpointConfig,
        socket: UdpSocket,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let find_mtu = !socket.may_fragment();
        let shared = Arc::new(Shared {
            socket,
            waiting: Waiting::default(),
            metrics,
            state: Mutex::new(State {
                // Answers nothing until there is a configuration.
                quic: quinn_proto::Endpoint::new(Arc::new(config), None, find_mtu, None),
                links: Vec::new(),
                open: 0,
                arrivals: VecDeque::new(),
                closed: None,
                is_left: false,
            }),
            arrived: Notify::new(),
            emptied: Notify::new(),
        });
        let serving = Serving(Arc::clone(&shared));
        tokio::spawn(async move { serving.0.serve().await });
        Ok(Self(shared))
    }

    #[cfg(test)]
    pub(crate) fn socket(&self) -> &Socket {
        &self.0.socket
    }

    /// What handshakes begin with from now on; with `None` nobody is let in.
    pub(crate) fn configure(&self, config: Option<Arc<ServerConfig>>) {
        self.0.state.lock().quic.set_server_config(config);
    }

    /// The next client; `None` once all were ended. There may be one who waits for it.
    pub(crate) async fn accept(&self) -> Option<Arriving> {
        loop {
            {
                let mut state = self.0.state.lock();
                if let Some(incoming) = state.arrivals.pop_front() {
                    return Some(Arriving {
                        address: incoming.remote_address(),
                        incoming: Some(incoming),
                        endpoint: Arc::clone(&self.0),
                    });
                }
                if state.closed.is_some() {
                    return None;
                }
            }
            self.0.arrived.notified().await;
        }
    }

    /// Ends all connections, and those that begin after that.
    pub(crate) fn close(&self, code: VarInt) {
        let links: Vec<_> = {
            let mut state = self.0.state.lock();
            state.closed = Some(code);
            state.links.iter().flatten().cloned().collect()
        };
        for link in links {
            link.close(code, &[]);
        }
        self.0.arrived.notify_one();
    }

    /// Waits until no connection is there any more.
    pub(crate) async fn emptied(&self) {
        self.0.until(|state| state.open == 0).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.0.state.lock().is_left = true;
        self.0.emptied.notify_waiters();
    }
}

/// The loop. However it ends, nobody waits any more for somebody to come.
struct Serving(Arc<Shared>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.state.lock().closed.get_or_insert(code::NORMAL);
        self.0.arrived.notify_one();
    }
}

impl Shared {
    async fn serve(&self) {
        let mut left = pin!(self.until(|state| state.is_left && state.open == 0));
        let mut received = Received::new();
        let mut response = Vec::new();
        let mut in_turn = 0;
        loop {
            tokio::select! {
                biased;
                () = &mut left => return,
                () = self.socket.receive(&mut received) => {}
            }
            let mut now = Instant::now();
            for datagram in received.datagrams() {
                if in_turn >= MOST_IN_A_TURN {
                    in_turn = 0;
                    give_way().await;
                    now = Instant::now();
                }
                in_turn += 1;
                match self.route(now, &datagram, &mut response) {
                    Routed::Nothing => {}
                    Routed::Wake(link) => link.wake(),
                    Routed::Arrived => self.arrived.notify_one(),
                    Routed::Answer(transmit) => self.answer(&transmit, &response),
                }
            }
        }
    }

    fn route(&self, now: Instant, datagram: &Datagram<'_>, response: &mut Vec<u8>) -> Routed {
        let Datagram {
            from,
            to,
            ecn,
            bytes,
        } = *datagram;
        response.clear();
        // Each has memory of its own: of several that came as one, one would keep all.
        let own = bytes.into();
        let mut state = self.state.lock();
        let event = state.quic.handle(now, from, to, ecn, own, response);
        match event {
            None => Routed::Nothing,
            Some(DatagramEvent::Response(transmit)) => Routed::Answer(transmit),
            Some(DatagramEvent::NewConnection(incoming)) => {
                if state.closed.is_some() {
                    return Routed::Answer(state.quic.refuse(incoming, response));
                }
                state.arrivals.push_back(incoming);
                Routed::Arrived
            }
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                // Until it is forgotten it is there.
                let Some(link) = state.links.get(handle.0).and_then(Option::as_ref) else {
                    return Routed::Nothing;
                };
                match link.inbox.put(event, bytes.len(), &self.waiting) {
                    Ok(true) => Routed::Wake(Arc::clone(link)),
                    Ok(false) => Routed::Nothing,
                    Err(full) => {
                        self.metrics.dropped(full);
                        Routed::Nothing
                    }
                }
            }
        }
    }

    /// Sends what no connection says. If there is no room it is lost: whoever it is for will ask again.
    fn answer(&self, transmit: &Transmit, response: &[u8]) {
        self.socket.send(transmit, response);
    }

    /// Tells what a connection has said to the endpoint, and gives what that has to say to it. After its last word it is
    /// forgotten.
    pub(crate) fn handle_events(
        &self,
        handle: ConnectionHandle,
        events: Vec<EndpointEvent>,
    ) -> Vec<ConnectionEvent> {
        if events.is_empty() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let mut answers = Vec::new();
        let mut gone = None;
        for event in events {
            if event.is_drained() {
                gone = state.take(handle);
            }
            answers.extend(state.quic.handle_event(handle, event));
        }
        let is_empty = state.open == 0;
        drop(state);
        if gone.is_some() && is_empty {
            self.emptied.notify_waiters();
        }
        answers
    }

    /// Nothing more is said of this connection, whatever it still had to say.
    pub(crate) fn forget(&self, handle: ConnectionHandle, link: &Arc<Link>) {
        let there = {
            let state = self.state.lock();
            let there = state.links.get(handle.0).and_then(Option::as_ref);
            there.is_some_and(|there| Arc::ptr_eq(there, link))
        };
        if there {
            self.handle_events(handle, vec![EndpointEvent::drained()]);
        }
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changed = pin!(self.emptied.notified());
        loop {
            // Before the look, so that nothing is missed after it.
            changed.as_mut().enable();
            if is_so(&self.state.lock()) {
                return;
            }
            changed.as_mut().await;
            changed.set(self.emptied.notified());
        }
    }
}

impl State {
    fn insert(&mut self, handle: ConnectionHandle, link: &Arc<Link>) {
        if self.links.len() <= handle.0 {
            self.links.resize_with(handle.0 + 1, || None);
        }
        self.links[handle.0] = Some(Arc::clone(link));
        self.open += 1;
    }

    fn take(&mut self, handle: ConnectionHandle) -> Option<Arc<Link>> {
        let link = self.links.get_mut(handle.0)?.take()?;
        self.open -= 1;
        Some(link)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for incoming in self.arrivals.drain(..) {
            self.quic.ignore(incoming);
        }
    }
}

impl Arriving {
    /// Where it seems to be: nobody has proved it.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has not proved its address, and may be asked to.
    pub(crate) fn may_retry(&self) -> bool {
        self.incoming
            .as_ref()
            .is_some_and(|it| !it.remote_address_validated() && it.may_retry())
    }

    /// Has it prove its address (RFC 9000 section 8.1.2).
    pub(crate) fn retry(mut self) {
        self.answer(|quic, incoming, response| quic.retry(incoming, response).ok());
    }

    /// Goes on with the handshake.
    pub(crate) fn accept(
        mut self,
        config: Arc<ServerConfig>,
    ) -> Result<Arc<Owner>, ConnectionError> {
        let Some(incoming) = self.incoming.take() else {
            // Nobody else has taken it.
            return Err(ConnectionError::LocallyClosed);
        };
        let endpoint = Arc::clone(&self.endpoint);
        let mut response = Vec::new();
        let mut state = endpoint.state.lock();
        let now = Instant::now();
        let accepted = state
            .quic
            .accept(incoming, now, &mut response, Some(config));
        let (handle, quic) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                drop(state);
                if let Some(transmit) = error.response {
                    endpoint.answer(&transmit, &response);
                }
                return Err(error.cause);
            }
        };
        let link = Link::new(quic);
        state.insert(handle, &link);
        let closed = state.closed;
        drop(state);
        tokio::spawn(drive(endpoint, Arc::clone(&link), handle));
        if let Some(code) = closed {
            link.close(code, &[]);
        }
        Ok(link.owner())
    }

    fn answer(
        &mut self,
        how: impl FnOnce(&mut quinn_proto::Endpoint, Incoming, &mut Vec<u8>) -> Option<Transmit>,
    ) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        let mut response = Vec::new();
        let answer = how(
            &mut self.endpoint.state.lock().quic,
            incoming,
            &mut response,
        );
        if let Some(transmit) = answer {
            self.endpoint.answer(&transmit, &response);
        }
    }
}

/// Refused with CONNECTION_REFUSED (RFC 9000 section 20.1), unless something else has become of it.
impl Drop for Arriving {
    fn drop(&mut self) {
        self.answer(|quic, incoming, response| Some(quic.refuse(incoming, response)));
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving").finish_non_exhaustive()
    }
}

/// Lets others have their turn, and comes back behind those that were woken. Not `yield_now`, which comes back only when
/// nobody else has anything to do: until then the system would drop what comes, of whomever it is.
async fn give_way() {
    let mut has_given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
