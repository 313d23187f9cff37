//! What the suites that cross crates share: a gateway as a process of its own, and an MQTT client
//! made of bytes.
//!
//! The suites in `tests/tests` speak to a gateway through sockets only, as a stranger would, so this
//! crate depends on none of the gateway's crates: [`wire`] encodes and decodes MQTT by itself, so
//! that a mistake made alike in both directions of the gateway's codec cannot hide.
//!
//! Environment:
//! - `TIDEGATE_BIN`: the gateway's binary; without it `cargo build -p tidegate` makes one.
//! - `TIDEGATE_TEST_ADDRESS`: `host:port` of an MQTT broker that already runs, of any make. Tests that
//!   need a configuration of their own, or that start and stop the gateway, say so and return.

mod binary;
mod gateway;
mod http;
mod names;
pub mod wire;

pub use binary::tidegate;
pub use gateway::Gateway;
pub use http::{Response, get};
pub use names::unique;
