//! CoAP: messages, exchanges, observations and block-wise transfers, mapped onto the bus.
//!
//! Implements the server side of RFC 7252 over datagrams and of RFC 8323 over byte streams, with Observe (RFC 7641), block-wise transfers (RFC 7959),
//! Echo and Request-Tag (RFC 9175), No-Response (RFC 7967), 4.29 (RFC 8516) and problem details (RFC 9290). Topics are
//! the resources under `/ps/`.
//!
//! To follow a request, read `server.rs` (what comes, and what is answered), `request.rs` (what it asks), `pubsub.rs`
//! (how it is answered), `topics.rs` (what that is on the bus), `observe.rs` (observations) and `notify.rs` (what their
//! clients are told). [`Server`] has neither
//! socket nor clock; [`serve`] gives it both. Who puts sessions in between (DTLS) uses [`Socket`], and tells the server
//! when one begins and when it ends. Byte streams are in [`stream`].

mod answers;
mod client_session;
pub mod codec;
mod delivery;
mod duplicates;
mod echo;
mod format;
mod identity;
mod metrics;
mod notify;
mod observation;
mod observe;
mod outgoing;
mod peer;
mod peers;
mod postponed;
mod problem;
mod pubsub;
mod ready;
mod request;
mod response;
mod seats;
mod server;
mod sessions;
mod settings;
mod socket;
pub mod stream;
mod topics;
mod transfers;
mod udp;
mod watch;

pub use format::{content_format, content_type};
pub use metrics::{Cancel, Closed, Count, Metrics};
pub use outgoing::{Outgoing, Path};
pub use ready::Ready;
pub use server::Server;
pub use sessions::Proved;
pub use settings::{Settings, Unverified};
pub use socket::Socket;
pub use udp::serve;
