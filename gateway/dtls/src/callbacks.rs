//! What dimpl asks while it has a datagram in hand: for the HMAC that is its cookie, and for a pre-shared key.
//!
//! dimpl makes its cookie with a secret that each of its engines draws for itself, so an engine would have to be kept
//! for every address that ever sent a hello. Here the cookie was made and checked before there was an engine, and
//! the engine is only shown the hellos that led to it. It takes whatever its provider's HMAC returns for the
//! client's random for its cookie, so that is where ours is handed over: once, for one call, for these 32 bytes and on
//! this thread. Every other HMAC is aws-lc's.
//!
//! Giving the engine a seed that follows from the address instead (`dangerously_set_rng_seed`) would have
//! let an attacker who replays a recorded handshake with a pre-shared key meet the same server random and with it
//! the same keys.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, aws_lc_rs};
use dimpl::{CryptoError, PskResolver};

use crate::PskKeys;
use crate::cookie::COOKIE;

#[derive(Clone, Copy)]
struct Expected {
    random: [u8; 32],
    cookie: [u8; COOKIE],
}

thread_local! {
    static EXPECTED: Cell<Option<Expected>> = const { Cell::new(None) };
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// What came of the question for a pre-shared key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Known(Arc<str>),
    Unknown,
}

/// Runs `call`, in which the engine's cookie for a hello with this random is `cookie`.
pub(crate) fn with_cookie<T>(
    random: [u8; 32],
    cookie: [u8; COOKIE],
    call: impl FnOnce() -> T,
) -> T {
    EXPECTED.set(Some(Expected { random, cookie }));
    let result = call();
    EXPECTED.set(None);
    result
}

/// What key was asked for since the last time, on this thread.
pub(crate) fn take_asked() -> Option<Asked> {
    ASKED.take()
}

/// aws-lc-rs, but for the cookie.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &CookieHmac,
        ..aws_lc_rs::default_provider()
    }
}

#[derive(Debug)]
struct CookieHmac;

impl HmacProvider for CookieHmac {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        static GENUINE: LazyLock<&'static dyn HmacProvider> =
            LazyLock::new(|| aws_lc_rs::default_provider().hmac_provider);
        if let Some(expected) = EXPECTED.get()
            && hash == HashAlgorithm::SHA256
            && data == expected.random
            && let Some(out) = out.get_mut(..COOKIE)
        {
            EXPECTED.set(None);
            out.copy_from_slice(&expected.cookie);
            return Ok(COOKIE);
        }
        GENUINE.hmac(hash, key, data, out)
    }
}

/// Looks keys up, and remembers for whom.
///
/// For an identity that it does not have the engine goes on with a key that it draws, so that the client is told the
/// same as with a wrong key, after the same work.
pub(crate) struct Resolver(pub(crate) Arc<ArcSwap<PskKeys>>);

impl PskResolver for Resolver {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let keys = self.0.load();
        let found = keys.find(identity);
        ASKED.set(Some(match found {
            Some((identity, _)) => Asked::Known(Arc::clone(identity)),
            None => Asked::Unknown,
        }));
        found.map(|(_, key)| key.to_vec())
    }
}
