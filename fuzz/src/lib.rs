//! Fuzz targets: one module each, with a `run` that takes the fuzzer's bytes and panics at a finding.
//!
//! Nothing here knows the fuzzer. The entries for libFuzzer stand in `targets/` behind the feature
//! `libfuzzer`; the corpus is replayed by an ordinary test without it.

pub mod coap_frame;
pub mod coap_message;
pub mod coap_server;
pub mod coap_stream;
mod codec;
pub mod codec_v31;
pub mod codec_v311;
pub mod codec_v5;
pub mod connection;
pub mod differential;
pub mod http_api;
mod input;
mod pipe;
pub mod topic_filter;
pub mod websocket;

/// A target: its name, which is that of its corpus, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("coap_frame", coap_frame::run),
    ("coap_message", coap_message::run),
    ("coap_server", coap_server::run),
    ("coap_stream", coap_stream::run),
    ("codec_v31", codec_v31::run),
    ("codec_v311", codec_v311::run),
    ("codec_v5", codec_v5::run),
    ("connection", connection::run),
    ("differential", differential::run),
    ("http_api", http_api::run),
    ("topic_filter", topic_filter::run),
    ("websocket", websocket::run),
];
