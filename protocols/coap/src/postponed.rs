//! Requests that wait for something that is not the client's to give: an access decision, its session, a proof of its
//! address. They are kept as they came, and served again when it is there.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tidegate_bus::{Claim, ClientId, Denial, StoreError, Worker};

use crate::answers::Exchange;
use crate::client_session::{not_kept, taken_over};
use crate::codec::{Code, Message};
use crate::identity::{Login, denied};
use crate::outgoing::{Outgoing, Path};
use crate::request::Request;
use crate::response::Response;
use crate::seats::Wait;
use crate::server::Server;

/// Most requests that wait for an access decision or a session.
const MAX_ASKED: usize = 1_024;

/// A request that waits for something, and is served again then.
pub(crate) struct Asked {
    pub(crate) path: Path,
    id: u16,
    datagram: Box<[u8]>,
    reason: Reason,
}

/// An access decision that is under way.
pub(crate) type Deciding = Pin<Box<dyn Future<Output = Result<(), Denial>> + Send>>;

/// What a request waits for.
pub(crate) enum Reason {
    /// Whether its client may connect.
    Access { login: Login, decision: Deciding },
    /// The session of its client.
    Session(Wait),
}

impl Server {
    /// The decision about who registers an observation is not kept where it is there at once: it is asked for once in
    /// the life of an observer, and many of them should cost little.
    pub(crate) fn decide_at_once(
        &self,
        request: &Request<'_>,
        login: Login,
        from: SocketAddr,
    ) -> Result<ClientId, Result<(Login, Option<Deciding>), Response>> {
        if request.observe != Some(0) {
            return Err(Ok((login, None)));
        }
        let mut decision = login.ask(&self.bus, from);
        let mut cx = Context::from_waker(&self.waker);
        match decision.as_mut().poll(&mut cx) {
            Poll::Ready(Ok(())) => Ok(login.client),
            Poll::Ready(Err(denial)) => Err(Err(denied(denial))),
            Poll::Pending => Err(Ok((login, Some(decision)))),
        }
    }

    /// Keeps a request until what it waits for is there.
    pub(crate) fn postpone(
        &mut self,
        exchange: &Exchange,
        reason: Reason,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let path = exchange.path;
        if self.asked.len() >= MAX_ASKED {
            self.metrics.full.add(1);
            let why = "as many access decisions are under way as may be";
            let refusal = Response::later(Code::SERVICE_UNAVAILABLE, 5, why);
            return self.answer(exchange, refusal, now, out);
        }
        if let Reason::Session(Wait::Proof) = reason {
            let Some(peer) = self.peer(path, exchange.len, now) else {
                self.metrics.full.add(1);
                let why = "as many endpoints are kept as may be";
                let refusal = Response::later(Code::SERVICE_UNAVAILABLE, 30, why);
                return self.answer(exchange, refusal, now, out);
            };
            self.ask_whether_it_lives(peer, now, out);
        }
        self.asked.push(Asked {
            path,
            id: exchange.id,
            datagram: datagram.into(),
            reason,
        });
        // It may be there at once, and wakes the listener otherwise.
        self.waker.wake_by_ref();
    }

    /// Whether the request with this identifier waits.
    pub(crate) fn is_postponed(&self, remote: SocketAddr, id: u16) -> bool {
        let mut asked = self.asked.iter();
        asked.any(|asked| asked.id == id && asked.path.remote == remote)
    }

    /// Registrations that wait for the proof of their addresses.
    pub(crate) fn proving(&self) -> usize {
        let asked = self.asked.iter();
        asked
            .filter(|asked| matches!(asked.reason, Reason::Session(Wait::Proof)))
            .count()
    }

    /// Whether something is under way to an address whose acknowledgement would prove it.
    fn is_asked_for_proof(&self, address: SocketAddr) -> bool {
        let peer = self.peer_at(address);
        peer.is_some_and(|peer| self.peers[peer].outstanding.is_some())
    }

    /// Whether the session of a client was asked for and is not there yet.
    pub(crate) fn is_claiming(&self, client: &ClientId) -> bool {
        self.asked.iter().any(|asked| {
            matches!(&asked.reason, Reason::Session(Wait::Claim { client: known, claim: Some(_), .. })
                if known == client)
        })
    }

    /// Serves the requests that have waited for something that is there now.
    pub(crate) fn take_postponed(&mut self, worker: &mut Worker, now: Instant, out: &mut Outgoing) {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut at = 0;
        while at < self.asked.len() {
            if let Reason::Session(Wait::Proof) = self.asked[at].reason {
                let remote = self.asked[at].path.remote;
                if !self.is_proved(remote) {
                    if self.is_asked_for_proof(remote) {
                        at += 1;
                    } else {
                        // Nobody is there.
                        self.asked.swap_remove(at);
                    }
                    continue;
                }
            }
            let Poll::Ready(outcome) = self.asked[at].reason.poll(&mut cx) else {
                at += 1;
                continue;
            };
            if let Reason::Session(Wait::Claim {
                client,
                claim: None,
                ..
            }) = &self.asked[at].reason
                && self.is_claiming(client)
            {
                at += 1;
                continue;
            }
            let Asked {
                path,
                datagram,
                reason,
                ..
            } = self.asked.swap_remove(at);
            // It was parsed before.
            let Ok(message) = Message::parse(&datagram) else {
                continue;
            };
            let mut exchange = Exchange {
                path,
                kind: message.kind,
                id: message.id,
                token: message.token,
                no_response: 0,
                block2: None,
                len: datagram.len(),
            };
            let refused = match (reason, outcome) {
                (Reason::Access { login, .. }, Outcome::Decided(decision)) => {
                    self.identities.decided(path.remote, login, decision, now);
                    None
                }
                (Reason::Session(Wait::Claim { client, expiry, .. }), Outcome::Claimed(claim)) => {
                    // Others may have waited for it.
                    self.waker.wake_by_ref();
                    self.attach(worker, &client, path.remote, claim, expiry, now)
                        .err()
                }
                (Reason::Session(Wait::Kept { client, .. }), Outcome::Ready)
                    if !self.has_seat(&client, path.remote) =>
                {
                    // Two that take it from each other would go on for ever.
                    Some(taken_over())
                }
                (_, Outcome::Refused(refusal)) => Some(refusal),
                _ => None,
            };
            match refused {
                Some(refusal) => self.answer(&exchange, refusal, now, out),
                None => self.serve(worker, &mut exchange, &message, &datagram, now, out),
            }
        }
    }
}

/// What a request waited for, when it is there.
enum Outcome {
    Decided(Result<(), Denial>),
    Claimed(Result<Claim, StoreError>),
    Refused(Response),
    /// The request is served again.
    Ready,
}

impl Reason {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self {
            Self::Access { decision, .. } => decision.as_mut().poll(cx).map(Outcome::Decided),
            Self::Session(Wait::Claim { claim, .. }) => match claim {
                Some(claim) => claim.as_mut().poll(cx).map(Outcome::Claimed),
                None => Poll::Ready(Outcome::Ready),
            },
            Self::Session(Wait::Proof) => Poll::Ready(Outcome::Ready),
            Self::Session(Wait::Kept { ticket, .. } | Wait::Ended(ticket)) => {
                ticket.poll(cx.waker()).map(|kept| match kept {
                    Ok(()) => Outcome::Ready,
                    Err(_) => Outcome::Refused(not_kept()),
                })
            }
        }
    }
}
