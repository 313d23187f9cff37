//! Who asks. A client says so with each request (`?c=&u=&p=`); what the access decision said of it holds for a while,
//! so that a sensor that publishes once a second does not have its password verified once a second.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bus::{Bus, ClientId, Credentials, Denial};

use crate::codec::Code;
use crate::request::Query;
use crate::response::Response;
use crate::sessions::Proved;

/// How long a decision holds.
const HOLDS: Duration = Duration::from_secs(60);

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) client: ClientId,
    /// Whether the client has named itself.
    named: bool,
    user: Option<Box<str>>,
    password: Option<Box<[u8]>>,
    /// Who it is, where that was proved.
    proved: Option<Proved>,
}

impl Login {
    /// An identifier that is given to who has none is what it has proved to be, or else its address.
    pub(crate) fn of(
        query: &Query<'_>,
        from: SocketAddr,
        proved: Option<&Proved>,
        longest: usize,
    ) -> Result<Self, Response> {
        let bad = |why: String| Response::refusal(Code::BAD_REQUEST, why);
        // A name that cannot be an identifier proves who it is all the same.
        let proven = || {
            let name = proved.map(Proved::name);
            let fitting = name.filter(|name| name.len() <= longest);
            fitting.and_then(|name| ClientId::new(name).ok())
        };
        let client = match query.client {
            Some(client) if client.len() > longest => {
                return Err(bad("the client identifier is too long".to_owned()));
            }
            Some(client) => ClientId::new(client),
            None => match proven() {
                Some(client) => Ok(client),
                None => ClientId::new(&format!("coap-{from}")),
            },
        };
        Ok(Self {
            client: client.map_err(|error| bad(error.to_string()))?,
            named: query.client.is_some(),
            user: query.user.map(Into::into),
            password: query.password.map(|password| password.as_bytes().into()),
            proved: proved.cloned(),
        })
    }

    fn says(&self, query: &Query<'_>) -> bool {
        let password = query.password.map(str::as_bytes);
        query.client.is_some() == self.named
            && query.client.is_none_or(|client| client == self.client.as_str())
            && query.user == self.user.as_deref()
            && password.map(<[u8]>::len) == self.password.as_deref().map(<[u8]>::len)
            // In a time that does not depend on how much of it is right.
            && password.zip(self.password.as_deref()).is_none_or(|(said, known)| {
                aws_lc_rs::constant_time::verify_slices_are_equal(said, known).is_ok()
            })
    }

    /// Asks whether this client may connect.
    pub(crate) fn ask(
        &self,
        bus: &Arc<Bus>,
        from: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send>> {
        let (bus, login) = (Arc::clone(bus), self.clone());
        Box::pin(async move {
            let mut credentials = Credentials::new(&login.client);
            credentials.user_name = login.user.as_deref();
            credentials.password = login.password.as_deref();
            credentials.peer = Some(from);
            match &login.proved {
                Some(Proved::Key(name)) => credentials.psk_identity = Some(name),
                Some(Proved::Certificate(name)) => credentials.certificate_name = Some(name),
                None => {}
            }
            bus.access().connect(credentials).await
        })
    }
}

/// A login, and what was decided about it.
pub(crate) struct Known {
    login: Login,
    decision: Result<(), Denial>,
    until: Instant,
}

impl Known {
    /// Decided now.
    pub(crate) fn new(login: Login, decision: Result<(), Denial>, now: Instant) -> Self {
        Self {
            login,
            decision,
            until: now + HOLDS,
        }
    }

    /// What is known of who asks, if it is this one; `None`: somebody must be asked.
    pub(crate) fn answers(
        &self,
        query: &Query<'_>,
        now: Instant,
    ) -> Option<Result<ClientId, Denial>> {
        let same = self.until > now && self.login.says(query);
        same.then(|| self.decision.map(|()| self.login.client.clone()))
    }
}

/// The decisions of one listener, by address.
pub(crate) struct Identities {
    known: HashMap<SocketAddr, Known>,
    /// In the order in which they end; one that was replaced stands here until then.
    ends: VecDeque<(Instant, SocketAddr)>,
    most: usize,
}

impl Identities {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            known: HashMap::new(),
            ends: VecDeque::new(),
            most: most.max(1),
        }
    }

    /// What is known of who asks; `None`: somebody must be asked.
    pub(crate) fn find(
        &self,
        query: &Query<'_>,
        from: SocketAddr,
        now: Instant,
    ) -> Option<Result<ClientId, Denial>> {
        self.known.get(&from)?.answers(query, now)
    }

    /// Notes a decision.
    pub(crate) fn decided(
        &mut self,
        from: SocketAddr,
        login: Login,
        decision: Result<(), Denial>,
        now: Instant,
    ) {
        self.expire(now);
        while self.ends.len() >= self.most {
            // The oldest is asked for anew.
            self.forget_first();
        }
        let known = Known::new(login, decision, now);
        self.ends.push_back((known.until, from));
        self.known.insert(from, known);
    }

    /// Forgets the decision on an address.
    pub(crate) fn end(&mut self, from: SocketAddr) {
        self.known.remove(&from);
    }

    /// Forgets what holds no longer.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        if self.known.capacity() > 4 * self.known.len().max(256) {
            // A burst that has passed gives its memory back.
            self.known.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    fn forget_first(&mut self) {
        if let Some((until, from)) = self.ends.pop_front()
            && self
                .known
                .get(&from)
                .is_some_and(|known| known.until == until)
        {
            self.known.remove(&from);
        }
    }
}

/// How a client is refused that may not connect.
pub(crate) fn denied(denial: Denial) -> Response {
    match denial {
        Denial::BadCredentials => {
            Response::refusal(Code::UNAUTHORIZED, "user name or password is wrong")
        }
        Denial::Unavailable => Response::later(
            Code::SERVICE_UNAVAILABLE,
            5,
            "the access decision could not be had in time",
        ),
        _ => Response::refusal(Code::FORBIDDEN, "the client may not connect"),
    }
}
