//! MQTT over WebSocket (RFC 6455; section 6 of MQTT 5.0 and of MQTT 3.1.1): the HTTP upgrade, then a
//! stream of bytes that travel as the payload of binary frames.
//!
//! [`Upgrader::upgrade`] takes any byte stream, a socket or TLS on one, reads the one HTTP request,
//! answers it and gives back a [`WebSocket`], which is read and written like the socket itself.
//!
//! What it is not: it knows no MQTT packet. Packets may be split over frames and joined in frames in
//! any way (MQTT-6.0.0-2), so the boundaries of frames mean nothing to whoever reads. It also is no
//! HTTP server: one request, no body, and after a refusal the connection is closed.
//!
//! Frames are not collected. A payload is unmasked in the reader's own buffer while it comes, so that
//! an idle connection holds no buffer and a large frame takes memory as its bytes come, not as its
//! header promises them. That is why the messages of tungstenite are not used here but only its codec
//! of frame headers.

mod control;
mod decoder;
mod foreign;
mod mask;
mod request;
mod response;
mod settings;
mod stream;
mod upgrade;
mod violation;
mod writer;

pub use foreign::Foreign;
pub use settings::Settings;
pub use stream::WebSocket;
pub use upgrade::{UpgradeError, Upgrader};
pub use violation::Violation;
