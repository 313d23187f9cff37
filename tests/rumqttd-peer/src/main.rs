//! rumqttd as a process of its own, for suites and benchmarks that compare with another broker.
//!
//! rumqttd speaks MQTT 3.1.1 and MQTT 5.0 at two addresses. The settings are those of the configuration
//! that comes with it, without console, metrics and the delay between connections.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use rumqttd::{Broker, Config};

/// rumqttd as a process of its own; runs until it is killed.
#[derive(Parser)]
struct Options {
    /// Where MQTT 3.1.1 is spoken
    #[arg(long, value_name = "HOST:PORT")]
    v4: SocketAddr,
    /// Where MQTT 5.0 is spoken
    #[arg(long, value_name = "HOST:PORT")]
    v5: SocketAddr,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let config: Config =
        toml::from_str(&configuration(&options)).context("the configuration of rumqttd")?;
    Broker::new(config).start().context("rumqttd")
}

fn configuration(options: &Options) -> String {
    let mut text = "\
        id = 0\n\
        [router]\n\
        max_connections = 10010\n\
        max_outgoing_packet_count = 200\n\
        max_segment_size = 104857600\n\
        max_segment_count = 10\n"
        .to_owned();
    for (table, address) in [("v4", options.v4), ("v5", options.v5)] {
        text.push_str(&format!(
            "[{table}.1]\n\
             name = \"{table}\"\n\
             listen = \"{address}\"\n\
             next_connection_delay_ms = 0\n\
             [{table}.1.connections]\n\
             connection_timeout_ms = 60000\n\
             max_payload_size = 20480\n\
             max_inflight_count = 100\n\
             dynamic_filters = true\n"
        ));
    }
    text
}
