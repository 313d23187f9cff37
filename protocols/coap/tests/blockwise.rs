//! Block-wise transfers (RFC 7959) and what an address gets that has not proved that it receives (RFC 9175).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use coap_lite::MessageType;
use support::*;
use tidegate_bus::MemoryStore;
use tidegate_coap::codec::{Block, number};
use tidegate_coap::{Settings, Unverified};

fn net(change: impl FnOnce(&mut Settings)) -> Net {
    Net::with(Arc::new(MemoryStore::new()), change)
}

fn body(len: usize) -> String {
    (0..len)
        .map(|at| char::from(b'a' + (at / 7 % 26) as u8))
        .collect()
}

fn part(num: u32, more: bool, payload: &str) -> Ask {
    put("/ps/a?retain", payload).block(number::BLOCK1, num, more, 64)
}

fn block(sent: &Sent, option: u16) -> Block {
    Block::parse(&sent.all(option)[0]).unwrap()
}

#[test]
fn rfc_7959_2_5_a_body_in_blocks_is_published_whole_with_its_last_block() {
    let mut net = Net::new();
    let heard = Heard::to(&net.bus, "a");
    let body = body(150);
    for (num, chunk) in [&body[..64], &body[64..128]].into_iter().enumerate() {
        let answer = net.ask(1, &part(num as u32, true, chunk));
        assert_eq!(answer.code(), "2.31");
        let block = block(&answer, number::BLOCK1);
        assert_eq!(
            (block.num, block.more, block.size()),
            (num as u32, true, 64)
        );
    }
    assert!(heard.take().is_empty(), "nothing before it is whole");
    let answer = net.ask(1, &part(2, false, &body[128..]));
    assert_eq!(
        (answer.code().as_str(), block(&answer, number::BLOCK1).num),
        ("2.04", 2)
    );
    assert_eq!(heard.take(), [("a".to_owned(), body)]);
    // One block is a body as well.
    assert_eq!(net.ask(1, &part(0, false, "short")).code(), "2.04");
    assert_eq!(heard.take()[0].1, "short");
}

#[test]
fn rfc_7959_2_9_blocks_out_of_their_order_or_size_are_refused() {
    let mut net = Net::new();
    let heard = Heard::to(&net.bus, "#");
    let block = body(64);
    assert_eq!(
        net.ask(1, &part(1, true, &block)).code(),
        "4.08",
        "without a beginning"
    );
    net.ask(1, &part(0, true, &block));
    assert_eq!(
        net.ask(1, &part(2, true, &block)).code(),
        "4.08",
        "one is missing"
    );
    assert_eq!(
        net.ask(1, &part(1, false, &block)).code(),
        "4.08",
        "it was given up"
    );
    assert_eq!(net.ask(1, &part(0, true, "short")).code(), "4.00");
    assert_eq!(net.ask(1, &part(0, false, &body(65))).code(), "4.00");
    net.ask(1, &part(0, true, &block));
    assert_eq!(
        net.ask(2, &part(1, false, "x")).code(),
        "4.08",
        "of another endpoint"
    );
    net.advance(Duration::from_secs(250));
    assert_eq!(
        net.ask(1, &part(1, false, "x")).code(),
        "4.08",
        "it took too long"
    );
    let reserved = put("/ps/a", "x").option(number::BLOCK1, [0x07]);
    assert_eq!(net.ask(1, &reserved).code(), "4.00");
    assert_eq!(
        net.ask(1, &put("/ps/a", "x").option(number::BLOCK1, [0; 4]))
            .code(),
        "4.02"
    );
    assert!(heard.take().is_empty());
}

#[test]
fn rfc_7959_2_9_3_a_body_beyond_the_limit_is_refused_as_early_as_it_is_known() {
    let mut net = net(|settings| settings.max_body_bytes = 128);
    let block = body(64);
    let announced = net.ask(1, &part(0, true, &block).uint(number::SIZE1, 129));
    assert_eq!(
        (announced.code().as_str(), announced.number(number::SIZE1)),
        ("4.13", Some(128))
    );
    net.ask(1, &part(0, true, &block));
    net.ask(1, &part(1, true, &block));
    assert_eq!(net.ask(1, &part(2, false, "x")).code(), "4.13");
    assert_eq!(net.ask(1, &put("/ps/a", body(129))).code(), "4.13");
    assert_eq!(net.ask(1, &put("/ps/a", body(128))).code(), "2.04");
    let far = put("/ps/a", "x").block(number::BLOCK1, Block::MAX_NUM, false, 1_024);
    assert_eq!(net.ask(1, &far).code(), "4.13");
}

#[test]
fn rfc_9175_3_3_request_tag_tells_bodies_apart_and_their_number_is_bounded() {
    let mut net = net(|settings| {
        settings.max_transfers = 3;
        settings.max_transfers_per_endpoint = 2;
    });
    let heard = Heard::to(&net.bus, "a");
    let (one, other) = (body(64), "b".repeat(64));
    let tagged = |num, more, payload: &str, tag: &[u8]| {
        part(num, more, payload).option(number::REQUEST_TAG, tag)
    };
    net.ask(1, &tagged(0, true, &one, b"1"));
    net.ask(1, &tagged(0, true, &other, b"2"));
    let third = net.ask(1, &tagged(0, true, &one, b"3"));
    assert_eq!(third.code(), "4.29");
    assert!(third.number(number::MAX_AGE).is_some());
    net.ask(2, &tagged(0, true, &one, b"1"));
    assert_eq!(net.ask(3, &tagged(0, true, &one, b"1")).code(), "5.03");
    assert_eq!(net.ask(1, &tagged(1, false, "1", b"1")).code(), "2.04");
    assert_eq!(net.ask(1, &tagged(1, false, "2", b"2")).code(), "2.04");
    let heard: Vec<_> = heard
        .take()
        .into_iter()
        .map(|(_, payload)| payload)
        .collect();
    assert_eq!(heard, [one + "1", other + "2"]);
}

#[test]
fn a_body_that_is_given_up_gives_its_memory_back() {
    let mut net = Net::new();
    let before = net.bus.memory().used();
    for port in 1..=50 {
        net.ask(port, &part(0, true, &body(64)));
    }
    assert!(net.bus.memory().used() >= before + 50 * 64);
    net.advance(Duration::from_secs(260));
    assert_eq!(net.bus.memory().used(), before);
}

/// Fetches the rest of a body, block by block.
fn fetch(net: &mut Net, port: u16, path: &str, first: &Sent) -> String {
    let mut body = first.text();
    let mut block = block(first, number::BLOCK2);
    let tag = first.all(number::ETAG);
    while block.more {
        let request = get(path).block(number::BLOCK2, block.num + 1, false, block.size());
        let next = net.ask(port, &request);
        assert_eq!(next.code(), "2.05");
        assert_eq!(next.all(number::ETAG), tag);
        let found = block2(&next);
        assert_eq!((found.num, found.size()), (block.num + 1, block.size()));
        block = found;
        body += &next.text();
    }
    body
}

fn block2(sent: &Sent) -> Block {
    block(sent, number::BLOCK2)
}

#[test]
fn rfc_7959_2_4_a_large_value_is_fetched_in_blocks_of_the_size_that_is_asked_for() {
    let mut net = net(|settings| settings.unverified = Unverified::All);
    let body = body(3_000);
    net.publish("a", &body, true);
    let first = net.ask(1, &get("/ps/a"));
    assert_eq!(block2(&first).size(), 1_024);
    assert_eq!(first.number(number::SIZE2), Some(3_000));
    assert_eq!(fetch(&mut net, 1, "/ps/a", &first), body);
    let small = net.ask(1, &get("/ps/a").block(number::BLOCK2, 0, false, 128));
    assert_eq!(block2(&small).size(), 128);
    assert_eq!(fetch(&mut net, 1, "/ps/a", &small), body);
    let beyond = get("/ps/a").block(number::BLOCK2, 3, false, 1_024);
    assert_eq!(net.ask(1, &beyond).code(), "4.00");
    // A short one has a block when one is asked for.
    net.publish("b", "x", true);
    let one = net.ask(1, &get("/ps/b").block(number::BLOCK2, 0, false, 64));
    assert_eq!((one.text(), block2(&one).more), ("x".to_owned(), false));
}

#[test]
fn rfc_7959_3_3_of_a_large_notification_the_rest_is_fetched() {
    let mut net = Net::new();
    net.observe(1, "/ps/a/#", b"t");
    let body = body(2_500);
    let told = one(net.publish("a/b", &body, false));
    assert!(told.number(number::OBSERVE).is_some());
    assert_eq!(block2(&told).size(), 1_024);
    // What is newer waits until all of it is fetched. It is not retained: what was told last is there for that.
    assert!(net.publish("a/c", "newer", false).is_empty());
    let rest = |num| get("/ps/a/#").block(number::BLOCK2, num, false, 1_024);
    let second = net.ask(1, &rest(1));
    let last = net.send(1, &rest(2).bytes());
    assert_eq!(told.text() + &second.text() + &last[0].text(), body);
    assert_eq!(last[1].text(), "newer");
    let stranger = get("/ps/a/b").block(number::BLOCK2, 1, false, 1_024);
    assert_eq!(net.ask(2, &stranger).text(), "");
}

#[test]
fn who_does_not_fetch_the_rest_of_a_notification_is_told_what_is_newer_all_the_same() {
    let mut net = Net::new();
    net.observe(1, "/ps/a", b"t");
    let told = one(net.publish("a", &body(2_500), false));
    assert!(block2(&told).more);
    assert!(net.publish("a", "newer", false).is_empty());
    assert!(net.advance(Duration::from_secs(9)).is_empty());
    assert_eq!(one(net.advance(Duration::from_secs(2))).text(), "newer");
    // What is kept to be fetched is not kept for ever.
    net.publish("a", &body(2_500), false);
    let kept = net.bus.memory().used();
    net.advance(Duration::from_secs(260));
    assert!(net.bus.memory().used() < kept - 2_000);
}

#[test]
fn rfc_9175_2_6_an_unverified_address_gets_no_more_than_three_times_what_it_sent() {
    let mut net = Net::new();
    let body = body(3_000);
    net.publish("a", &body, true);
    let mut first = get("/ps/a");
    let answer = net.ask(1, &first);
    assert!(
        answer.bytes.len() <= 3 * first.bytes().len(),
        "{}",
        answer.bytes.len()
    );
    // A client that knows blocks gets all of it.
    assert_eq!(fetch(&mut net, 1, "/ps/a", &answer), body);
    first = get("/ps/a").block(number::BLOCK2, 1, false, 1_024);
    let answer = net.ask(1, &first);
    assert!(answer.bytes.len() <= 3 * first.bytes().len());
    assert!(
        body[1_024..].starts_with(&answer.text()),
        "the same place in smaller blocks"
    );
    assert!(net.metrics.limited.get() >= 2);
    // The words of a refusal are left out.
    let refusal = get("/");
    let answer = net.ask(1, &refusal);
    assert_eq!(
        (answer.code().as_str(), answer.text().as_str()),
        ("4.04", "")
    );
    assert!(answer.bytes.len() <= 3 * refusal.bytes().len());
}

#[test]
fn rfc_7252_4_3_an_address_that_answers_a_ping_gets_all_of_the_answer() {
    let mut net = net(|settings| settings.unverified = Unverified::Ping);
    let body = body(3_000);
    net.publish("a", &body, true);
    let request = get("/ps/a");
    let ping = one(net.send(1, &request.bytes()));
    assert!(ping.is_empty_of(MessageType::Confirmable));
    assert!(
        net.send(1, &request.bytes()).is_empty(),
        "a repetition is answered once"
    );
    let answer = one(net.reset(&ping));
    assert_eq!((answer.code().as_str(), answer.id()), ("2.05", request.id));
    assert_eq!(answer.kind(), MessageType::Acknowledgement);
    assert_eq!(
        (answer.token(), block2(&answer).size()),
        (&request.token[..], 1_024)
    );
    assert_eq!(fetch(&mut net, 1, "/ps/a", &answer), body);
    let small = net.ask(1, &get("/ps/a").block(number::BLOCK2, 0, false, 64));
    assert_eq!(
        small.kind(),
        MessageType::Acknowledgement,
        "it need not prove it again"
    );
    assert_eq!(block2(&small).size(), 64);
    // Where the way is long the request is acknowledged first.
    let request = get("/ps/a");
    let ping = one(net.send(3, &request.bytes()));
    let acknowledgement = one(net.advance(Duration::from_millis(1_100)));
    assert!(acknowledgement.is_empty_of(MessageType::Acknowledgement));
    let answer = one(net.reset(&ping));
    assert_eq!(
        (answer.code().as_str(), answer.kind()),
        ("2.05", MessageType::Confirmable)
    );
    net.acknowledge(&answer);
    // Who does not answer gets nothing, and is forgotten.
    let victim = get("/ps/a");
    let mut bytes: usize = net
        .send(2, &victim.bytes())
        .iter()
        .map(|sent| sent.bytes.len())
        .sum();
    bytes += net
        .advance(Duration::from_secs(300))
        .iter()
        .map(|sent| sent.bytes.len())
        .sum::<usize>();
    assert!(bytes <= 3 * victim.bytes().len(), "{bytes}");
    assert_eq!(net.metrics.endpoints.get(), 0);
}

#[test]
fn an_observer_of_a_large_value_proves_its_address_first() {
    let mut net = net(|settings| settings.unverified = Unverified::Ping);
    net.publish("a", &body(900), true);
    let sent = net.send(1, &get("/ps/a").observe().bytes());
    let ping = sent
        .iter()
        .find(|sent| sent.is_empty_of(MessageType::Confirmable));
    net.now += Duration::from_millis(20);
    let answer = one(net.reset(ping.expect("a ping")));
    assert!(answer.number(number::OBSERVE).is_some());
    assert_eq!(
        (answer.kind(), answer.text()),
        (MessageType::Acknowledgement, body(900))
    );
    assert_eq!(one(net.publish("a", "newer", false)).text(), "newer");
}

#[test]
fn who_forges_addresses_does_not_take_all_the_places() {
    let mut net = net(|settings| settings.max_endpoints = 80);
    for port in 1..=200 {
        net.send(port, &get("/ps/a").observe().bytes());
    }
    let open = net.bus.counters().subscriptions.get();
    assert!(open <= 10, "{open}");
    net.advance(Duration::from_secs(100));
    for port in 1_000..1_080 {
        net.observe(port, "/ps/a", b"t");
    }
}

#[test]
fn rfc_9175_2_4_who_returns_an_echo_has_proved_its_address() {
    let mut net = net(|settings| settings.unverified = Unverified::Echo);
    net.publish("a", &body(900), true);
    let request = get("/ps/a");
    let answer = net.ask(1, &request);
    assert_eq!(answer.code(), "4.01");
    assert!(answer.bytes.len() <= 3 * request.bytes().len());
    let echo = answer.all(number::ECHO).remove(0);
    let elsewhere = net.ask(2, &get("/ps/a").option(number::ECHO, &echo));
    assert_eq!(elsewhere.code(), "4.01", "it is good for its address alone");
    let good = net.ask(1, &get("/ps/a").option(number::ECHO, &echo));
    assert_eq!(
        (good.code(), good.packet.payload.len()),
        ("2.05".to_owned(), 900)
    );
    let later = net.ask(1, &get("/ps/a"));
    assert_eq!(later.code(), "2.05", "it need not be said again");
    // Who is asked for an Echo does not observe yet.
    assert_eq!(net.ask(3, &get("/ps/a").observe()).code(), "4.01");
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
}

#[test]
fn rfc_7641_7_an_address_that_was_forged_is_not_flooded_with_notifications() {
    let mut net = Net::new();
    let request = get("/ps/a").observe();
    let answers = net.send(1, &request.bytes());
    let mut bytes: usize = answers.iter().map(|sent| sent.bytes.len()).sum();
    for number in 0..1_000 {
        let sent = net.publish("a", &format!("{number} {}", body(50)), false);
        bytes += sent.iter().map(|sent| sent.bytes.len()).sum::<usize>();
    }
    let rest = net.advance(Duration::from_secs(300));
    bytes += rest.iter().map(|sent| sent.bytes.len()).sum::<usize>();
    assert!(bytes <= 3 * request.bytes().len(), "{bytes}");
    assert_eq!(net.bus.counters().subscriptions.get(), 0, "nobody is there");
}
