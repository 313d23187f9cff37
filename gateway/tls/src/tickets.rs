//! What lets clients resume their sessions, and how long it is kept.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};

use crate::session_store::SessionStore;
use crate::ticketer::{SharedTicketer, TicketKey};
use crate::{LoadError, Resumption};

/// What early data may be announced with in QUIC (RFC 9001 section 4.6.1); how much comes is up to its windows.
const EARLY_DATA: u32 = u32::MAX;

/// Keys of tickets, or the sessions themselves. A session vouches for the client's certificate, so what it is
/// resumed by lives only as long as the authorities and revocation lists that it was checked against.
#[derive(Clone)]
pub(crate) struct Tickets {
    trust: Vec<u8>,
    by: By,
}

#[derive(Clone)]
enum By {
    Keys(Arc<dyn ProducesTickets>),
    Sessions(Arc<SessionStore>),
}

impl Tickets {
    /// What there was if the trust is the same, otherwise something new; none if nothing is resumed. Shared
    /// keys are as the files say.
    pub(crate) fn keep_or_renew(
        previous: Option<&Self>,
        resumption: &Resumption,
        keys: Vec<TicketKey>,
        trust: Vec<u8>,
    ) -> Result<Option<Self>, LoadError> {
        let shared = !keys.is_empty();
        if let Some(previous) = previous.filter(|_| !shared) {
            if previous.trust == trust {
                return Ok(Some(previous.clone()));
            }
            if let By::Sessions(sessions) = &previous.by {
                // A handshake under way may still have them.
                sessions.close();
            }
        }
        let by = match resumption {
            Resumption::Off => return Ok(None),
            Resumption::Tickets { .. } if shared => {
                By::Keys(Arc::new(SharedTicketer::new(keys, trust.clone())))
            }
            Resumption::Tickets { .. } => By::Keys(Ticketer::new()?),
            Resumption::EarlyData { sessions } => {
                By::Sessions(Arc::new(SessionStore::new(*sessions)))
            }
        };
        Ok(Some(Self { trust, by }))
    }

    pub(crate) fn apply(&self, config: &mut ServerConfig) {
        match &self.by {
            By::Keys(keys) => {
                // Sessions that the gateway had to remember would be memory per client.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.ticketer = keys.clone();
            }
            By::Sessions(sessions) => {
                // Without a ticketer: rustls takes early data only of a session that it has taken from the
                // storage.
                config.session_storage = sessions.clone();
                config.max_early_data_size = EARLY_DATA;
                // The next handshake brings the next one.
                config.send_tls13_tickets = 1;
            }
        }
    }

    pub(crate) fn remembered(&self) -> Option<usize> {
        match &self.by {
            By::Sessions(sessions) => Some(sessions.len()),
            By::Keys(_) => None,
        }
    }
}
