//! Sessions under CoAP, where a listener has them (DTLS): an endpoint is then an address and a session, and what was
//! said in one session means nothing in the next (RFC 7252 section 9.1). Without them an endpoint is its address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who an endpoint is, as the handshake of its session has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proved {
    /// Who has the pre-shared key of this identity.
    Key(Arc<str>),
    /// Who has the certificate with this common name.
    Certificate(Arc<str>),
}

impl Proved {
    /// The name, however it was proved.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Key(name) | Self::Certificate(name) => name,
        }
    }
}

/// An address, and the number of its session; 0 without one.
pub(crate) type Endpoint = (SocketAddr, u32);

struct Session {
    number: u32,
    proved: Option<Proved>,
}

/// The sessions of one listener.
#[derive(Default)]
pub(crate) struct Sessions {
    by_address: HashMap<SocketAddr, Session>,
    last: u32,
}

impl Sessions {
    pub(crate) fn begin(&mut self, address: SocketAddr, proved: Option<Proved>) {
        // After four thousand million sessions a number comes again, long after its requests are forgotten.
        self.last = self.last.wrapping_add(1).max(1);
        let number = self.last;
        self.by_address.insert(address, Session { number, proved });
    }

    pub(crate) fn end(&mut self, address: SocketAddr) {
        self.by_address.remove(&address);
        if self.by_address.capacity() > 4 * self.by_address.len().max(256) {
            // A burst that has passed gives its memory back.
            self.by_address.shrink_to_fit();
        }
    }

    /// Whether there is a session, and so the address is proved.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    pub(crate) fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let session = self.by_address.get(&address);
        (address, session.map_or(0, |session| session.number))
    }

    pub(crate) fn proved(&self, address: SocketAddr) -> Option<&Proved> {
        self.by_address.get(&address)?.proved.as_ref()
    }
}
