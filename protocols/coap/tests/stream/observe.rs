//! Observations (RFC 8323 section 7).

use tidegate_bus::DropReason;
use tidegate_coap::Cancel;
use tidegate_coap::codec::{BASE_MESSAGE_SIZE, Block, Code, number};

use crate::client::*;

#[tokio::test]
async fn rfc_8323_7_every_change_is_told_in_its_order_and_nothing_is_to_be_acknowledged() {
    let net = Net::new().await;
    net.publish("a", b"0", true);
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let first = client.ask(&get("/ps/a").observe().token(b"watch")).await;
    assert_eq!((first.code, first.text()), (Code::CONTENT, "0".to_owned()));
    assert!(first.option(number::OBSERVE).is_some());
    for value in 1..=500 {
        net.publish("a", value.to_string().as_bytes(), true);
        if value % 100 != 0 {
            continue;
        }
        for value in value - 99..=value {
            let told = client.next().await;
            assert_eq!(told.token(), b"watch");
            assert_eq!(told.text(), value.to_string());
            assert!(told.option(number::OBSERVE).is_some());
        }
    }
    assert_eq!(net.metrics.notifications[2].get(), 500);
    assert_eq!(net.bus.counters().messages_sent[0].get(), 500);
}

#[tokio::test]
async fn rfc_8323_7_4_an_observation_ends_by_deregistration_by_its_token_and_with_its_connection() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let watch = get("/ps/a").observe();
    client.ask(&watch).await;
    client.ask(&watch).await;
    assert_eq!(net.bus.counters().subscriptions.get(), 1);
    let end = get("/ps/a").uint(number::OBSERVE, 1);
    let ended = client.ask(&end).await;
    assert_eq!(ended.option(number::OBSERVE), None);
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
    assert_eq!(net.metrics.cancelled[Cancel::Asked as usize].get(), 2);
    client.ask(&watch).await;
    assert_eq!(net.metrics.observations.get(), 1);
    drop(client);
    until(|| net.bus.counters().subscriptions.get() == 0).await;
    assert_eq!(net.metrics.cancelled[Cancel::Closed as usize].get(), 1);
    assert_eq!(net.metrics.observations.get(), 0);
}

#[tokio::test]
async fn a_filter_with_wildcards_tells_topics_and_begins_with_what_is_retained() {
    let net = Net::new().await;
    net.publish("a/kept", b"kept", true);
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client.ask(&get("/ps/a/+").observe()).await;
    let told = client.next().await;
    assert_eq!(told.option(number::TOPIC), Some(b"a/kept".to_vec()));
    net.publish("a/live", b"live", false);
    let told = client.next().await;
    assert_eq!(told.option(number::TOPIC), Some(b"a/live".to_vec()));
    assert_eq!(told.text(), "live");
}

#[tokio::test]
async fn observations_are_bounded_over_all_connections_and_in_each() {
    let net = Net::of(|settings| {
        settings.max_observations = 3;
        settings.max_observations_per_endpoint = 2;
    })
    .await;
    let watch = |token: u8| get("/ps/a").observe().token(&[token]);
    let mut clients = [
        net.greet(BASE_MESSAGE_SIZE).await,
        net.greet(BASE_MESSAGE_SIZE).await,
    ];
    for (client, token, observes) in [
        (0, 1, true),
        (0, 2, true),
        (0, 3, false),
        (1, 1, true),
        (1, 2, false),
    ] {
        let answer = clients[client].ask(&watch(token)).await;
        assert_eq!(answer.code, Code::CONTENT);
        assert_eq!(answer.option(number::OBSERVE).is_some(), observes);
    }
    let wild = get("/ps/+").observe();
    let [_, other] = &mut clients;
    assert_eq!(other.ask(&wild).await.code, Code::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn rfc_7959_3_3_of_a_notification_that_is_too_long_the_rest_is_fetched_before_the_next() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client.ask(&get("/ps/a").observe().token(b"watch")).await;
    let large = body(2_500);
    net.publish("a", &large, false);
    net.publish("a", b"next", false);
    let first = client.next().await;
    let etag = first.option(number::ETAG).unwrap();
    let mut whole = first.packet.payload.clone();
    let block = first.option(number::BLOCK2).unwrap();
    assert!(Block::parse(&block).unwrap().more);
    for num in 1..3 {
        let request = get("/ps/a").block(number::BLOCK2, num, false, 6);
        let part = client.ask(&request).await;
        assert_eq!(part.option(number::ETAG), Some(etag.clone()));
        whole.extend(&part.packet.payload);
    }
    assert_eq!(whole, large);
    assert_eq!(client.next().await.text(), "next");
}

#[tokio::test]
async fn rfc_8323_5_3_1_what_does_not_fit_with_its_topic_is_left_out_and_counted() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client.ask(&get("/ps/#").observe()).await;
    net.publish(&format!("a/{}", "x".repeat(1_200)), b"1", false);
    net.publish("a", b"2", false);
    let told = client.next().await;
    assert_eq!((told.code, told.text()), (Code::CONTENT, "2".to_owned()));
    let drops = &net.bus.counters().drops;
    assert_eq!(drops.get(DropReason::PacketTooLarge), 1);
    assert_eq!(net.metrics.notifications[2].get(), 1);
}

#[tokio::test]
async fn rfc_7641_4_1_who_cannot_take_the_value_does_not_observe() {
    let net = Net::new().await;
    net.publish("a", &body(100), true);
    let mut client = net.greet(32).await;
    let refused = client.ask(&get("/ps/a").observe()).await;
    assert_eq!(refused.code, Code::INTERNAL_SERVER_ERROR);
    assert_eq!(net.metrics.observations.get(), 0);
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
}

#[tokio::test]
async fn who_does_not_read_loses_the_oldest_holds_up_nobody_and_goes_on_with_the_newest() {
    let net = Net::of(|settings| settings.max_waiting = 10).await;
    let mut slow = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    slow.greet(1 << 20).await;
    slow.ask(&get("/ps/a").observe()).await;
    let mut fast = net.greet(1 << 20).await;
    fast.ask(&get("/ps/a").observe()).await;
    let last = 1_000_u32;
    for value in 0..=last {
        let mut payload = body(50_000);
        payload[..4].copy_from_slice(&value.to_be_bytes());
        net.publish("a", &payload, false);
        let told = fast.next().await;
        assert_eq!(told.packet.payload, payload);
    }
    let drops = &net.bus.counters().drops;
    let lost = drops.get(DropReason::Superseded);
    assert!(lost > 100, "{lost}");
    assert!(net.bus.memory().used() < 2_000_000);
    let mut told = Vec::new();
    while told.last() != Some(&last) {
        let got = slow.next().await;
        let value = got.packet.payload.first_chunk::<4>().unwrap();
        told.push(u32::from_be_bytes(*value));
    }
    assert!(told.is_sorted());
    assert_eq!(told.len() as u64 + lost, u64::from(last) + 1);
}

#[tokio::test]
async fn what_was_not_taken_when_the_client_left_is_counted() {
    let net = Net::new().await;
    let mut client = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    client.greet(1 << 20).await;
    client.ask(&get("/ps/a").observe()).await;
    // More than sockets hold.
    for _ in 0..100 {
        net.publish("a", &body(100_000), false);
    }
    until(|| net.metrics.notifications[2].get() > 0).await;
    drop(client);
    until(|| net.bus.counters().subscriptions.get() == 0).await;
    let drops = &net.bus.counters().drops;
    until(|| drops.get(DropReason::ConnectionClosed) > 0).await;
    assert!(drops.get(DropReason::SessionEnded) > 0);
    until(|| net.bus.memory().used() == 0).await;
}
