//! What a connection costs while nothing is said.

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;

use tidegate_coap::codec::{BASE_MESSAGE_SIZE, Csm, Signal, Token};

use crate::client::*;

#[test]
fn an_idle_connection_and_an_idle_observer_hold_no_buffer() {
    const CLIENTS: usize = 200;
    // One worker, so that nothing is allocated elsewhere than here: `measure` looks at one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let net = runtime.block_on(Net::new());
    let mut csm = Vec::new();
    let max_message_size = Some(BASE_MESSAGE_SIZE);
    let block_wise = true;
    let own = Csm {
        max_message_size,
        block_wise,
    };
    Signal::Csm(own).write(Token::default(), &mut csm);
    let observe = get("/ps/fleet").observe().bytes();
    let packets = Cell::new(0);
    let mut streams = Vec::with_capacity(2 * CLIENTS + 2);
    let mut open = |bytes: &[u8], each: u64, count: usize| {
        for _ in 0..count {
            let mut stream = TcpStream::connect(net.address()).unwrap();
            stream.write_all(bytes).unwrap();
            runtime.block_on(net.accept());
            streams.push(stream);
        }
        let served = || net.bus.counters().packets_received.get();
        runtime.block_on(async {
            let expected = packets.get() + count as u64 * each;
            packets.set(expected);
            until(|| served() == expected).await;
            // Every task has come to rest.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
    };
    let observing = [csm.clone(), observe].concat();
    // What there is once is there.
    open(&observing, 2, 1);
    let idle = allocation_counter::measure(|| open(&csm, 1, CLIENTS));
    let observers = allocation_counter::measure(|| open(&observing, 2, CLIENTS));
    let each = |cost: &allocation_counter::AllocationInfo| cost.bytes_current / CLIENTS as i64;
    let (idle, observer) = (each(&idle), each(&observers));
    println!("{idle} bytes, as an observer {observer}");
    assert!((300..1_500).contains(&idle), "{idle}");
    assert!((idle..idle + 1_500).contains(&observer), "{observer}");
}
