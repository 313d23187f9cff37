//! What an idle connection costs, printed. The bound is loose: it is there for a buffer that somebody
//! forgot, not for a benchmark.

use std::io::{self, Write};

use tidegate_tests::wire::{Client, Connect};
use tidegate_tests::{Gateway, Transport, unique};

/// Growth is measured between these numbers of connections, so that what a gateway takes once does not
/// count.
const FROM: usize = 500;
const TO: usize = 2_500;

/// Bytes that no idle connection may cost, in any build.
const BOUND: u64 = 64 * 1024;

#[test]
fn an_idle_connection_costs_little() {
    let mut table = String::new();
    for transport in Transport::ALL {
        let Some(gateway) = Gateway::configured("[telemetry]\nsys_interval = \"0s\"") else {
            return;
        };
        let server = gateway.listener(transport.scheme(), transport);
        let mut clients: Vec<Client> = Vec::new();
        let mut resident_with = |count: usize| {
            while clients.len() < count {
                let mut client = Connect::v5(&unique("idle")).open(&server);
                client.subscribe(&unique("idle"), 1);
                clients.push(client);
            }
            // The last answers are on their way when memory is looked at.
            clients.iter_mut().for_each(Client::expect_nothing);
            gateway.resident_bytes()
        };
        let (before, after) = (resident_with(FROM), resident_with(TO));
        let each = after.saturating_sub(before) / (TO - FROM) as u64;
        let scheme = transport.scheme();
        table += &format!("idle connection over {scheme:5} {each:6} bytes\n");
        assert!(each < BOUND, "{scheme}: {each} bytes an idle connection");
    }
    // Not `println`, which a test that passes is not heard with.
    let shown = io::stderr().write_all(table.as_bytes());
    shown.expect("standard error can be written to");
}
