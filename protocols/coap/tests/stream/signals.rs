//! What the two ends say to each other about the connection.

use std::time::Duration;

use tidegate_coap::Closed;
use tidegate_coap::codec::{BASE_MESSAGE_SIZE, Code, Csm, Release, Signal, Token, Writer};
use tidegate_coap::stream::Served;

use crate::client::*;

/// Max-Message-Size, Bad-CSM-Option and Custody have this number, each in its signal.
const FIRST: u16 = 2;

fn closed(net: &Net, why: Closed) -> u64 {
    net.metrics.closed[why as usize].get()
}

#[tokio::test]
async fn rfc_8323_5_3_the_gateway_says_first_what_it_can_do() {
    let net = Net::of(|settings| settings.max_body_bytes = 5_000_000).await;
    let mut client = net.connect().await;
    let csm = client.next().await;
    assert_eq!(csm.code, Code::CSM);
    assert!(csm.number(FIRST).unwrap() > 5_000_000);
    assert_eq!(csm.option(4), Some(Vec::new()), "Block-Wise-Transfer");
}

#[tokio::test]
async fn rfc_8323_5_3_a_message_before_csm_ends_the_connection() {
    let net = Net::new().await;
    for request in [put("/ps/a?retain", "x"), put("/ps/a?retain", body(100_000))] {
        let mut client = net.connect().await;
        client.next().await;
        client.send(&request.bytes()[..8]).await;
        client.send(&request.bytes()[8..]).await;
        let abort = client.aborted().await;
        assert!(abort.text().contains("CSM"), "{}", abort.text());
    }
    assert_eq!(net.retained("a"), None);
    assert_eq!(closed(&net, Closed::Refused), 2);
}

#[tokio::test]
async fn rfc_8323_5_3_who_does_not_begin_to_speak_is_told_so() {
    let net = Net::of(|settings| settings.csm_timeout = Duration::from_millis(50)).await;
    let mut client = net.connect().await;
    client.next().await;
    client.aborted().await;
    assert_eq!(closed(&net, Closed::Silent), 1);
}

#[tokio::test]
async fn rfc_8323_5_3_a_critical_option_that_is_not_known_is_named_also_later() {
    let net = Net::new().await;
    let mut csm = Vec::new();
    let mut writer = Writer::frame(&mut csm, Code::CSM, Token::default());
    writer.option(9, b"?");
    writer.payload(&[]);
    let mut client = net.connect().await;
    client.next().await;
    client.send(&csm).await;
    assert_eq!(client.aborted().await.number(FIRST), Some(9));
    let mut client = net.greet(2_000).await;
    client.send(&csm).await;
    assert_eq!(client.aborted().await.number(FIRST), Some(9));
}

#[tokio::test]
async fn rfc_8323_5_3_what_a_later_csm_leaves_out_is_as_it_was() {
    let net = Net::new().await;
    net.publish("a", &body(3_000), true);
    let mut client = net.greet(10_000).await;
    client.signal(Signal::Csm(Csm::default())).await;
    assert_eq!(client.ask(&get("/ps/a")).await.text().len(), 3_000);
    let less = Csm {
        max_message_size: Some(500),
        block_wise: false,
    };
    client.signal(Signal::Csm(less)).await;
    let part = client.ask(&get("/ps/a")).await;
    assert_eq!((part.text().len(), part.len < 500), (256, true));
}

#[tokio::test]
async fn rfc_8323_5_4_a_ping_is_answered_with_its_token_and_what_it_asks_for() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    for custody in [false, true] {
        client.signal(Signal::Ping { custody }).await;
        let pong = client.next().await;
        assert_eq!((pong.code, pong.token()), (Code::PONG, &b"sig"[..]));
        assert_eq!(pong.option(FIRST).is_some(), custody);
    }
    // Critical, and not known.
    client.send(&[0x10, Code::PING.0, 0x10]).await;
    client.aborted().await;
}

#[tokio::test]
async fn rfc_8323_5_4_a_client_that_is_silent_is_asked_and_then_left() {
    let net = Net::of(|settings| {
        settings.ping_interval = Duration::from_millis(100);
        settings.ping_timeout = Duration::from_millis(400);
    })
    .await;
    let endpoint = std::sync::Arc::clone(&net.endpoint);
    let looking = tokio::spawn(async move { endpoint.keep_time().await });
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    for _ in 0..3 {
        assert_eq!(client.next().await.code, Code::PING);
        client.signal(Signal::Pong { custody: false }).await;
    }
    assert_eq!(client.next().await.code, Code::PING);
    let abort = client.aborted().await;
    assert!(abort.text().contains("pong"), "{}", abort.text());
    assert_eq!(closed(&net, Closed::Silent), 1);
    looking.abort();
}

#[tokio::test]
async fn rfc_8323_5_5_who_releases_gets_its_answers_before_the_end() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let mut bytes = put("/ps/a?retain", "x").bytes();
    Signal::Release(Release::new(None)).write(Token::default(), &mut bytes);
    bytes.extend(put("/ps/a?retain", "too late").bytes());
    client.send(&bytes).await;
    assert_eq!(client.next().await.code, Code::CHANGED);
    assert!(client.next_or_end().await.is_none());
    assert_eq!(net.retained("a"), Some(b"x".to_vec()));
    assert_eq!(closed(&net, Closed::Released), 1);
}

#[tokio::test]
async fn rfc_8323_5_5_at_the_end_observers_hear_it_and_everybody_is_released() {
    let net = Net::new().await;
    let mut idle = net.greet(BASE_MESSAGE_SIZE).await;
    let mut observer = net.greet(BASE_MESSAGE_SIZE).await;
    observer.ask(&get("/ps/a").observe()).await;
    let mut fresh = net.connect().await;
    fresh.next().await;
    let shut_down = net.endpoint.shut_down(0);
    let clients = async {
        assert_eq!(idle.next().await.code, Code::RELEASE);
        assert!(idle.next_or_end().await.is_none());
        assert_eq!(observer.next().await.code, Code::SERVICE_UNAVAILABLE);
        assert_eq!(observer.next().await.code, Code::RELEASE);
        assert!(observer.next_or_end().await.is_none());
        assert_eq!(fresh.next().await.code, Code::RELEASE);
        drop((idle, observer, fresh));
    };
    tokio::join!(shut_down, clients);
    until(|| closed(&net, Closed::ShutDown) == 3).await;
    assert_eq!(net.bus.counters().subscriptions.get(), 0);
}

#[tokio::test]
async fn rfc_8323_5_6_an_abort_ends_the_connection_at_once() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let why = "enough";
    let bad_csm_option = None;
    client
        .signal(Signal::Abort {
            bad_csm_option,
            why,
        })
        .await;
    assert!(client.next_or_end().await.is_none());
    assert_eq!(closed(&net, Closed::Aborted), 1);
}

#[tokio::test]
async fn rfc_8323_5_6_what_is_no_message_ends_the_connection_with_its_reason() {
    let net = Net::of(|settings| settings.max_body_bytes = 1_000).await;
    let token = (&[0x09_u8, 1][..], "token");
    let option = (&[0x10, 1, 0xF0], "option");
    let marker = (&[0x10, 1, 0xFF], "marker");
    let signal = (&[0x00, 0xFF], "signal");
    // 16 MiB are announced, and nobody waits for them.
    let long = (&[0xF0, 1, 0, 0, 0], "longer");
    for (bytes, why) in [
        token,
        (&option.0[..], option.1),
        (&marker.0[..], marker.1),
        (&signal.0[..], signal.1),
        (&long.0[..], long.1),
    ] {
        let mut client = net.greet(BASE_MESSAGE_SIZE).await;
        client.send(bytes).await;
        let abort = client.aborted().await;
        assert!(abort.text().contains(why), "{why}: {}", abort.text());
    }
}

#[tokio::test]
async fn rfc_8323_5_3_1_an_abort_says_why_where_the_client_takes_so_much() {
    let net = Net::new().await;
    for (most, is_told) in [(BASE_MESSAGE_SIZE, true), (40, false)] {
        let mut client = net.greet(most).await;
        let mut ping = Vec::new();
        let mut writer = Writer::frame(&mut ping, Code::PING, Token::default());
        writer.option(9, b"?");
        writer.payload(&[]);
        client.send(&ping).await;
        let abort = client.aborted().await;
        assert_eq!(!abort.text().is_empty(), is_told, "{}", abort.text());
        assert!(abort.len <= most as usize);
    }
}

#[tokio::test]
async fn what_speaks_something_else_is_recognized() {
    let net = Net::new().await;
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "HTTP"),
        (&[0x16, 3, 1, 0, 8, 1, 0, 0, 4, 3], "TLS"),
        (
            b"PROXY TCP4 10.1.1.1 10.1.1.2 1 2\r\n",
            "the PROXY protocol",
        ),
    ] {
        let mut client = net.connect().await;
        client.next().await;
        client.send(bytes).await;
        assert_eq!(client.next().await.code, Code::ABORT);
        assert!(client.next_or_end().await.is_none());
        drop(client.stream);
        assert_eq!(client.serving.await.unwrap(), Served::Foreign(name));
    }
}

#[tokio::test]
async fn rfc_8323_3_4_empty_messages_are_passed_over() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client.send(&[0, 0, 0, 0]).await;
    assert_eq!(client.ask(&put("/ps/a", "x")).await.code, Code::CHANGED);
}

#[tokio::test]
async fn who_is_not_served_hears_when_to_come_again() {
    let net = Net::new().await;
    let (ours, theirs) = tokio::io::duplex(1_000);
    let refusing = net.endpoint.refuse(ours);
    let reading = async {
        let (mut theirs, mut bytes) = (theirs, Vec::new());
        tokio::io::AsyncReadExt::read_buf(&mut theirs, &mut bytes)
            .await
            .unwrap();
        bytes
    };
    let ((), bytes) = tokio::join!(refusing, reading);
    // A CSM, and a release with Hold-Off.
    assert!(
        bytes.ends_with(&[0x20, Code::RELEASE.0, 0x41, 30]),
        "{bytes:?}"
    );
}

#[tokio::test]
async fn who_does_not_read_does_not_hold_up_the_end() {
    let net = Net::new().await;
    net.publish("a", &body(30_000), true);
    let mut stuck = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    stuck.greet(1 << 20).await;
    let requests: Vec<u8> = (0..1_000).flat_map(|_| get("/ps/a").bytes()).collect();
    stuck.send(&requests).await;
    until(|| net.metrics.requests.get() > 2).await;
    // It has two seconds to take what waits.
    let ended = tokio::time::timeout(Duration::from_secs(10), net.endpoint.shut_down(0)).await;
    assert!(ended.is_ok());
    assert_eq!(closed(&net, Closed::ShutDown), 1);
}
