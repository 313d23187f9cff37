//! TLS for every listener of the gateway: certificate files become a live `rustls` configuration that
//! follows the files, client certificates are asked for and checked, handshakes over TCP are bounded
//! in time and number, and the first start makes a local certificate of its own ([`local`]).
//!
//! What it is not: it knows no protocol that runs inside TLS, it opens no listener, and it decides
//! nothing from a client's certificate beyond whether it holds.
//!
//! TLS 1.3 (RFC 8446) and 1.2 (RFC 5246), server name indication (RFC 6066), certificates and
//! revocation lists (RFC 5280), tickets (RFC 5077), of the process or with keys that several gateways share, through `rustls` with the `aws-lc-rs` provider
//! only. Nothing reads or installs the process-wide default provider; see [`provider`].

mod acceptor;
mod backlog;
pub mod client;
mod counters;
mod files;
mod handshake_error;
mod identity;
mod load_error;
pub mod local;
mod paths;
mod peer;
mod provider;
mod resolver;
mod scratch;
mod server_config;
mod session;
mod session_store;
mod settings;
mod status;
mod stream;
mod ticketer;
mod tickets;
mod watcher;
mod x509;

pub use acceptor::{AcceptSettings, Acceptor};
pub use counters::{Counters, InProgress};
pub use files::{is_open_to_others, read as read_file};
pub use handshake_error::{Foreign, HandshakeError, Stage};
pub use identity::{Identity, Outcome};
pub use load_error::LoadError;
pub use peer::{ClientCertificate, Peer};
pub use provider::provider;
pub use settings::{CertificateFiles, ClientAuth, ClientCa, MinVersion, Resumption, Settings};
pub use status::{CertificateStatus, Status};
pub use stream::Stream;
pub use watcher::{Followed, Watcher};
