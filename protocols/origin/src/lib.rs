//! The look at Host and Origin (RFC 9110 section 7.2, RFC 6454) that every HTTP request and WebSocket
//! upgrade passes before anything else, so that no web page a person happens to visit can talk to a
//! gateway on that person's machine.
//!
//! What it is not: it reads no bytes and writes no response. Whoever serves HTTP hands it a request's
//! head and answers with what the [`Refusal`] says.

mod authority;
mod gate;
mod origin;

pub use authority::{AllowedHost, AllowedHostError};
pub use gate::{Gate, Refusal};
pub use origin::{AllowedOrigin, AllowedOriginError};
