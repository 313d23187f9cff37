//! The server side of DTLS 1.2 (RFC 6347) and 1.3 (RFC 9147) for CoAP (RFC 7252, 9): a sans-I/O [`Server`] that turns
//! datagrams into sessions with somebody whose identity is proved, by a pre-shared key (RFC 4279, RFC 6655) or by a
//! certificate (RFC 8422, RFC 5280), and the [`Credentials`] that it does so with.
//!
//! What it is not: it opens no socket, has no thread and no clock, knows nothing of CoAP, and decides nothing from an
//! identity beyond whether it holds. Handshakes and records are those of the crate `dimpl`, which is shown an address
//! only after a cookie has verified it; see [`Server`].
//!
//! Not there, because `dimpl` does not have them: connection identifiers (RFC 9146), so that a client whose address
//! changes needs a new handshake; resumption; pre-shared keys in DTLS 1.3; RSA; raw public keys;
//! `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8`; certificates between the server's own and its authority.

mod association;
mod callbacks;
pub mod client;
mod cookie;
mod counters;
mod credentials;
mod cursor;
mod handshakes;
mod hello;
mod load_error;
mod psk;
mod rate;
mod record;
mod reply;
mod server;
mod session;
mod settings;
mod setup_error;

pub use counters::{Counters, Dropped, End, Failure, Method};
pub use credentials::{CredentialSettings, Credentials, PskSource};
pub use load_error::LoadError;
pub use psk::{PskKeys, PskProblem};
pub use server::Server;
pub use session::{Output, Path, SendError, SessionId, Who};
pub use settings::Settings;
pub use setup_error::SetupError;
