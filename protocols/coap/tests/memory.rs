//! What observers cost while nothing is told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::time::Duration;

use support::*;

#[test]
fn an_idle_observer_costs_less_than_a_kilobyte() {
    // A little less than a power of two, at which tables grow.
    const OBSERVERS: u16 = 7_000;
    let mut net = Net::new();
    // What the bus and the server have once is there.
    net.observe(1, "/ps/fleet/0", b"t");
    let cost = allocation_counter::measure(|| {
        for number in 0..OBSERVERS {
            net.observe(1_000 + number, &format!("/ps/fleet/{number}"), b"token");
        }
        // The decision whether they may connect holds for a minute.
        net.advance(Duration::from_secs(90));
    });
    let each = cost.bytes_current / i64::from(OBSERVERS);
    println!("{each} bytes");
    assert!((300..1_000).contains(&each), "{each} bytes");
    assert_eq!(
        net.bus.counters().subscriptions.get(),
        u64::from(OBSERVERS) + 1
    );
}
