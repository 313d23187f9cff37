//! What the suites that cross crates share: a gateway as a process of its own, and an MQTT client
//! made of bytes.
//!
//! The suites in `tests/tests` speak to a gateway through sockets only, as a stranger would, so this
//! crate depends on none of the gateway's crates: [`wire`] encodes and decodes MQTT by itself, so
//! that a mistake made alike in both directions of the gateway's codec cannot hide.
//!
//! Environment:
//! - `TIDEGATE_BIN`: the gateway's binary; without it `cargo build -p tidegate` makes one.
//! - `TIDEGATE_FLOWSDK_PEER`: the binary of `tests/flowsdk-peer`; the same holds for it.
//! - `TIDEGATE_TEST_ADDRESS`: `host:port` of an MQTT broker that already runs, of any make. Tests that
//!   need a configuration of their own, or that start and stop the gateway, say so and return.
//! - `TIDEGATE_TEST_MQTTS`, `TIDEGATE_TEST_WS`, `TIDEGATE_TEST_WSS`: where such a broker speaks MQTT over
//!   TLS, WebSocket and both, if it does; `TIDEGATE_TEST_CA` is the file of its certificate authority.

mod binary;
pub mod certificates;
mod gateway;
mod http;
mod names;
mod noise;
mod peer;
mod place;
mod process;
mod quic;
mod run;
mod server;
mod tls;
pub mod websocket;
pub mod wire;

pub use binary::{flowsdk_peer, tidegate};
pub use gateway::{Gateway, eventually};
pub use http::{Response, get, try_get};
pub use names::unique;
pub use noise::Noise;
pub use peer::{mosquitto, rumqttd, workspace};
pub use place::Place;
pub use process::{Process, end_processes, free_port};
pub use run::{Outcome, has_program, run, run_without_input};
pub use server::{Server, Transport};
pub use tls::{TlsClient, alert};
