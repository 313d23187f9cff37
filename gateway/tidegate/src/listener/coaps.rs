//! CoAP over DTLS (RFC 7252 section 9): one task that takes what was said in sessions from the datagrams that come, has it
//! answered, and protects the answers.
//!
//! DTLS and CoAP do not know each other. What is between them is this: a message of CoAP goes into the session that there
//! is at its address; and when that ends, all that CoAP has for the address ends, before anything of the next session is
//! heard ([`tidegate_coap::Server::session_ends`]).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tidegate_bus::{Bus, Worker};
use tidegate_coap::{Outgoing, Path, Proved, Server, Socket};
use tidegate_dtls::{Counters, Credentials, End, Failure, Method, Output, SessionId, Who};

use super::Listener;
use crate::drain::Drain;

/// What an operator sees of the DTLS of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Dtls {
    pub(crate) counters: Arc<Counters>,
    pub(crate) credentials: Arc<Credentials>,
}

impl Listener {
    /// Answers requests until the drain begins; then observers hear that they are observers no more, and all clients
    /// that their sessions end.
    pub(crate) async fn serve_coaps(
        self: Arc<Self>,
        socket: UdpSocket,
        bus: Arc<Bus>,
        settings: tidegate_coap::Settings,
        dtls: Box<tidegate_dtls::Server>,
        drain: Drain,
    ) {
        let metrics = self.coap.clone().unwrap_or_default();
        let coap = Server::new(
            Arc::clone(&bus),
            settings,
            Arc::clone(&metrics),
            Instant::now(),
        );
        let secured = Secured {
            listener: Arc::clone(&self),
            dtls,
            coap,
            metrics,
            plain: Outgoing::default(),
            said: Outgoing::default(),
            wire: Outgoing::default(),
        };
        if let Err(error) = secured.serve(socket, &bus, drain.begun()).await {
            tracing::error!(listener = self.name, %error, "CoAP is not served any more.");
        }
    }
}

/// Both protocols at one socket.
struct Secured {
    listener: Arc<Listener>,
    dtls: Box<tidegate_dtls::Server>,
    coap: Server,
    metrics: Arc<tidegate_coap::Metrics>,
    /// What CoAP has to say.
    plain: Outgoing,
    /// What of it is being protected.
    said: Outgoing,
    /// What goes out.
    wire: Outgoing,
}

impl Secured {
    async fn serve(
        mut self,
        socket: UdpSocket,
        bus: &Arc<Bus>,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut socket = Socket::new(socket)?;
        let ready = self.coap.ready();
        let mut stop = pin!(stop);
        loop {
            let timeout = tokio::time::Instant::from_std(self.next_timeout());
            let mut is_readable = false;
            tokio::select! {
                () = &mut stop => break,
                readable = socket.readable() => {
                    readable?;
                    is_readable = true;
                }
                () = ready.wait() => {}
                () = tokio::time::sleep_until(timeout) => {}
            }
            let now = Instant::now();
            bus.batch(|worker| {
                if is_readable {
                    socket.receive(|path, datagram| self.receive(worker, path, datagram, now));
                }
                self.turn(worker, now);
            });
            self.metrics.unsent.add(socket.send(&mut self.wire).await);
        }
        let now = Instant::now();
        bus.batch(|worker| self.shut_down(worker, now));
        self.metrics.unsent.add(socket.send(&mut self.wire).await);
        Ok(())
    }

    /// When [`Self::turn`] is due.
    fn next_timeout(&self) -> Instant {
        let coap = self.coap.next_timeout();
        let dtls = self.dtls.next_timeout();
        dtls.map_or(coap, |dtls| dtls.min(coap))
    }

    /// Takes a datagram, and answers what was said in it.
    fn receive(&mut self, worker: &mut Worker, path: Path, datagram: &[u8], now: Instant) {
        let (dtls, mut between) = self.split(worker, now);
        let path = tidegate_dtls::Path {
            peer: path.remote,
            local: path.local,
        };
        dtls.receive(path, datagram, now, &mut between);
        self.protect(worker, now);
    }

    /// Does what is due, and what has come from elsewhere.
    fn turn(&mut self, worker: &mut Worker, now: Instant) {
        self.coap.wake(worker, now, &mut self.plain);
        if self.coap.next_timeout() <= now {
            self.coap.timeout(now, &mut self.plain);
        }
        self.protect(worker, now);
        let (dtls, mut between) = self.split(worker, now);
        dtls.handle_timeout(now, &mut between);
    }

    fn shut_down(&mut self, worker: &mut Worker, now: Instant) {
        self.coap.shut_down(now, &mut self.plain);
        self.protect(worker, now);
        let (dtls, mut between) = self.split(worker, now);
        dtls.close_all(now, &mut between);
    }

    /// Puts what CoAP has to say into sessions.
    fn protect(&mut self, worker: &mut Worker, now: Instant) {
        // Once more for what is said while it is done.
        while !self.plain.is_empty() {
            std::mem::swap(&mut self.plain, &mut self.said);
            let said = std::mem::take(&mut self.said);
            for (path, message) in said.iter() {
                let peer = path.remote;
                let (dtls, mut between) = self.split(worker, now);
                let Some(session) = dtls.session(peer) else {
                    // It ended while something was said to it that came before.
                    self.metrics.unsent.add(1);
                    continue;
                };
                if let Err(error) = dtls.send(session, message, now, &mut between) {
                    tracing::debug!(
                        listener = self.listener.name,
                        %peer,
                        %error,
                        "A message could not be sent."
                    );
                    self.metrics.unsent.add(1);
                }
            }
            self.said = said;
            self.said.clear();
        }
    }

    /// DTLS, and where it goes what that has to tell.
    fn split<'a>(
        &'a mut self,
        worker: &'a mut Worker,
        now: Instant,
    ) -> (&'a mut tidegate_dtls::Server, Between<'a>) {
        let between = Between {
            listener: &self.listener,
            coap: &mut self.coap,
            plain: &mut self.plain,
            wire: &mut self.wire,
            worker,
            now,
        };
        (&mut self.dtls, between)
    }
}

/// Where DTLS tells what it has heard.
struct Between<'a> {
    listener: &'a Listener,
    coap: &'a mut Server,
    plain: &'a mut Outgoing,
    wire: &'a mut Outgoing,
    worker: &'a mut Worker,
    now: Instant,
}

impl Output for Between<'_> {
    fn transmit(&mut self, path: tidegate_dtls::Path, datagram: &[u8]) {
        let path = Path {
            remote: path.peer,
            local: path.local,
        };
        self.wire.push(path, datagram);
    }

    /// As with TLS: counted each time, and said now and then. That a client began anew or went away is no news.
    fn failed(&mut self, peer: SocketAddr, why: Failure) {
        let reason = why.name();
        let went_away = matches!(
            why,
            Failure::Restarted | Failure::Timeout | Failure::Shutdown
        );
        let news = (!went_away).then(|| self.listener.complaints.may_say(reason));
        match news.flatten() {
            Some(passed_over) => tracing::warn!(
                listener = self.listener.name,
                %peer,
                reason,
                passed_over,
                "A DTLS handshake has failed."
            ),
            None => tracing::debug!(
                listener = self.listener.name,
                %peer,
                reason,
                "A DTLS handshake has failed."
            ),
        }
    }

    fn established(&mut self, session: SessionId, who: &Who, method: Method) {
        let proved = proved(who);
        tracing::debug!(
            listener = self.listener.name,
            peer = %session.peer(),
            method = method.name(),
            identity = proved.as_ref().map(Proved::name),
            "A DTLS session begins."
        );
        self.coap.session_begins(session.peer(), proved);
    }

    fn data(&mut self, session: SessionId, plaintext: &[u8]) {
        // From which address of ours is answered is known to the session.
        let path = Path {
            remote: session.peer(),
            local: None,
        };
        self.coap
            .receive(self.worker, path, plaintext, self.now, self.plain);
    }

    fn ended(&mut self, session: SessionId, why: End) {
        tracing::debug!(
            listener = self.listener.name,
            peer = %session.peer(),
            why = why.name(),
            "A DTLS session ends."
        );
        self.coap.session_ends(session.peer(), self.now, self.plain);
    }
}

/// What of a client's identity is a name.
fn proved(who: &Who) -> Option<Proved> {
    match who {
        Who::Psk(identity) => Some(Proved::Key(Arc::clone(identity))),
        Who::Certificate(certificate) => {
            let name = certificate.common_name.as_deref()?;
            Some(Proved::Certificate(name.into()))
        }
        Who::Anonymous => None,
    }
}
