//! More datagrams than a connection can handle.

use tidegate_tests::wire::Connect;
use tidegate_tests::{Gateway, unique};

use super::packets::fence;
use super::raw::Raw;
use super::{Neighbours, counted};

/// Datagrams in all: what a gateway that keeps them all would keep is 80 MB.
const FLOOD: usize = 50_000;
/// Of which so many are new. The others have come before, but nobody knows that who has not decrypted them.
const NEW: usize = 1_000;
/// Those that wait take half a megabyte; the rest is for the neighbours and the allocator.
const GROWTH: u64 = 4 << 20;
const PING: u8 = 0x01;

fn dropped(gateway: &Gateway, reason: &str) -> u64 {
    let reason = format!("reason=\"{reason}\"");
    counted(gateway, "tidegate_quic_datagrams_dropped_total", &[&reason])
}

#[test]
fn of_one_connection_so_many_datagrams_wait_and_no_other_notices() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let address = gateway.address("quic");
    let mut neighbours = Neighbours::of(&gateway);
    let mut flooder = Raw::connect(&gateway, 9);
    flooder.begin(&Connect::v5(&unique("flooder")));
    // A thousand frames each: to handle one takes far longer than to receive it.
    let packets: Vec<Vec<u8>> = (0..NEW).map(|_| flooder.packet(&[PING; 1_300])).collect();
    neighbours.exchange();
    let before = gateway.resident_bytes();
    let mut grown = 0;
    for number in 0..FLOOD {
        let packet = &packets[number % NEW];
        flooder.socket.send_to(packet, address).unwrap();
        if number % 5_000 == 4_999 {
            neighbours.exchange();
            grown = grown.max(gateway.resident_bytes().saturating_sub(before));
        }
    }
    fence(&flooder.socket, address, 10);
    grown = grown.max(gateway.resident_bytes().saturating_sub(before));
    assert!(grown < GROWTH, "{grown} bytes more");
    assert!(dropped(&gateway, "connection_full") > 0);
    assert_eq!(dropped(&gateway, "listener_full"), 0);
    // It is served as any, once it is quiet. While as many wait as may, what it sends is lost.
    assert_eq!(flooder.insist(0, &[0xC0, 0]).0, 0xD0, "PINGRESP");
    let all = dropped(&gateway, "connection_full");
    neighbours.exchange();
    assert_eq!(dropped(&gateway, "connection_full"), all);
    neighbours.part();
}
