//! Requests and their answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_bus::*;
use tidegate_coap::codec::{BASE_MESSAGE_SIZE, Block, Code, Signal, number};

use crate::client::*;

#[tokio::test]
async fn a_put_is_published_at_qos_1_a_get_reads_it_and_a_delete_clears_it() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let written = client.ask(&put("/ps/a/b?retain", "21.5")).await;
    assert_eq!(
        (written.code, written.text()),
        (Code::CHANGED, String::new())
    );
    assert_eq!(net.bus.counters().messages_received[1].get(), 1);
    let read = client.ask(&get("/ps/a/b").token(b"another")).await;
    assert_eq!((read.code, read.text()), (Code::CONTENT, "21.5".to_owned()));
    let cleared = client.ask(&ask(Code::DELETE, "/ps/a/b")).await;
    assert_eq!(cleared.code, Code::DELETED);
    assert_eq!(net.retained("a/b"), None);
    let links = client.ask(&get("/.well-known/core")).await;
    assert!(links.text().starts_with("</ps>"), "{}", links.text());
}

#[tokio::test]
async fn rfc_8323_3_3_requests_that_come_byte_by_byte_or_all_at_once_are_the_same() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client.stream.set_nodelay(true).unwrap();
    let mut all = Vec::new();
    for number in 0..3_u8 {
        all.extend(
            put(&format!("/ps/{number}?retain"), "x")
                .token(&[number])
                .bytes(),
        );
    }
    for byte in &all {
        client.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    client.send(&all).await;
    for number in (0..3).chain(0..3) {
        let got = client.next().await;
        assert_eq!((got.code, got.token()), (Code::CHANGED, &[number][..]));
    }
}

#[tokio::test]
async fn rfc_7252_5_4_1_what_cannot_be_done_is_refused_and_the_connection_goes_on() {
    let net = Net::of(|settings| settings.max_body_bytes = 100).await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let refused = [
        (get("/nowhere"), Code::NOT_FOUND),
        (get("/ps/a").option(9, "?"), Code::BAD_OPTION),
        (put("/ps/a?retian", "x"), Code::BAD_REQUEST),
        (put("/ps/a", body(101)), Code::REQUEST_ENTITY_TOO_LARGE),
        (put("/ps/$SYS/a", "x"), Code::FORBIDDEN),
        (ask(Code::new(0, 5), "/ps/a"), Code::METHOD_NOT_ALLOWED),
        (get("/ps/%23"), Code::CONTENT),
        (get("/ps/#"), Code::BAD_REQUEST),
        // A session that is kept has a name.
        (get("/ps/a?session_expiry=60").observe(), Code::BAD_REQUEST),
    ];
    for (request, code) in refused {
        assert_eq!(client.ask(&request).await.code, code);
    }
    assert_eq!(net.metrics.requests.get(), 9);
}

#[tokio::test]
async fn rfc_7967_2_answers_that_are_not_wanted_are_not_sent() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    // 2.xx are not wanted.
    let quiet = put("/ps/a?retain", "x").uint(number::NO_RESPONSE, 2);
    client.send(&quiet.bytes()).await;
    client.signal(Signal::Ping { custody: false }).await;
    assert_eq!(client.next().await.code, Code::PONG);
    assert_eq!(net.retained("a"), Some(b"x".to_vec()));
}

// ---- bodies ---------------------------------------------------------------------------------

#[tokio::test]
async fn rfc_8323_5_3_1_a_large_body_goes_in_one_message_where_both_take_that() {
    let net = Net::new().await;
    let mut client = net.greet(1 << 20).await;
    let large = body(300_000);
    let written = client.ask(&put("/ps/a?retain", &large)).await;
    assert_eq!(written.code, Code::CHANGED);
    let read = client.ask(&get("/ps/a")).await;
    assert_eq!(read.packet.payload, large);
    assert_eq!(read.option(number::BLOCK2), None);
}

#[tokio::test]
async fn rfc_7959_2_5_a_body_in_blocks_is_published_whole_with_its_last_block() {
    let net = Net::new().await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let whole = body(2_500);
    for (num, part) in whole.chunks(1_024).enumerate() {
        let is_last = num == 2;
        let request = put("/ps/a?retain", part).block(number::BLOCK1, num as u32, !is_last, 6);
        let answer = client.ask(&request).await;
        let code = if is_last {
            Code::CHANGED
        } else {
            Code::CONTINUE
        };
        assert_eq!(answer.code, code);
        assert_eq!(net.metrics.transfers.get(), u64::from(!is_last));
    }
    assert_eq!(net.retained("a"), Some(whole));
}

#[tokio::test]
async fn rfc_8323_6_with_bert_a_message_has_several_blocks_both_ways() {
    let net = Net::new().await;
    let mut client = net.greet(8_000).await;
    let whole = body(20_000);
    let mut at = 0;
    while at < whole.len() {
        let end = (at + 5 * 1_024).min(whole.len());
        let more = end < whole.len();
        let num = at / 1_024;
        let request = put("/ps/a?retain", &whole[at..end]);
        let request = request.block(number::BLOCK1, num as u32, more, 7);
        let answer = client.ask(&request).await;
        let code = if more { Code::CONTINUE } else { Code::CHANGED };
        assert_eq!(answer.code, code);
        at = end;
    }
    let mut read: Vec<u8> = Vec::new();
    let mut request = get("/ps/a");
    loop {
        let part = client.ask(&request).await;
        assert!(part.len <= 8_000);
        let block = part.option(number::BLOCK2).unwrap();
        let block = Block::parse_bert(&block).unwrap();
        assert_eq!(block.start(), read.len());
        read.extend(&part.packet.payload);
        if !block.more {
            break;
        }
        assert!(part.packet.payload.len() > 1_024);
        let next = read.len() / 1_024;
        request = get("/ps/a").block(number::BLOCK2, next as u32, false, 7);
    }
    assert_eq!(read, whole);
}

#[tokio::test]
async fn rfc_8323_6_with_bert_only_the_last_message_may_end_within_a_block() {
    let net = Net::new().await;
    let mut client = net.greet(8_000).await;
    let request = put("/ps/a", body(1_500)).block(number::BLOCK1, 0, true, 7);
    assert_eq!(client.ask(&request).await.code, Code::BAD_REQUEST);
}

#[tokio::test]
async fn bodies_under_way_are_bounded_and_end_with_their_connection() {
    let net = Net::of(|settings| settings.max_transfers = 3).await;
    let mut one = net.greet(BASE_MESSAGE_SIZE).await;
    let mut other = net.greet(BASE_MESSAGE_SIZE).await;
    let begin =
        |topic: u32| put(&format!("/ps/{topic}"), body(16)).block(number::BLOCK1, 0, true, 0);
    for topic in 0..2 {
        assert_eq!(one.ask(&begin(topic)).await.code, Code::CONTINUE);
    }
    assert_eq!(other.ask(&begin(0)).await.code, Code::CONTINUE);
    assert_eq!(other.ask(&begin(1)).await.code, Code::SERVICE_UNAVAILABLE);
    drop(one);
    until(|| net.metrics.transfers.get() == 1).await;
    assert_eq!(other.ask(&begin(1)).await.code, Code::CONTINUE);
    drop(other);
    until(|| net.metrics.transfers.get() == 0).await;
    assert_eq!(net.bus.memory().used(), 0);
}

// ---- the store and the access decision ------------------------------------------------------

/// Keeps what it is given when it is told to.
#[derive(Default)]
struct SlowStore(Mutex<Vec<Completion>>);

impl SlowStore {
    fn ticket(&self) -> Ticket {
        let (ticket, completion) = Ticket::pending();
        self.0.lock().push(completion);
        ticket
    }
}

impl Store for SlowStore {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, _client: &'a ClientId) -> StoreFuture<'a, Claim> {
        Box::pin(std::future::pending())
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        self.ticket()
    }

    fn change(&self, _: &ClientId, _: Epoch, _: &[SessionChange]) -> Ticket {
        Ticket::ready()
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.ticket()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

#[tokio::test]
async fn what_waits_for_the_store_holds_up_nothing_else_and_custody_waits_for_it() {
    let store = Arc::new(SlowStore::default());
    let net = Net::with(Arc::clone(&store) as _, Arc::new(AllowAll), |_| {}).await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    client
        .send(&put("/ps/a?retain", "x").token(b"1").bytes())
        .await;
    client
        .send(&put("/ps/b?retain", "y").token(b"2").bytes())
        .await;
    client.signal(Signal::Ping { custody: true }).await;
    assert_eq!(client.ask(&get("/ps/none")).await.code, Code::CONTENT);
    assert_eq!(store.0.lock().len(), 2);
    let complete = |result| store.0.lock().remove(0).complete(result);
    complete(Ok(()));
    let answer = client.next().await;
    assert_eq!((answer.code, answer.token()), (Code::CHANGED, &b"1"[..]));
    complete(Err(StoreError::Full));
    let answer = client.next().await;
    assert_eq!(
        (answer.code, answer.token()),
        (Code::SERVICE_UNAVAILABLE, &b"2"[..])
    );
    assert_eq!(client.next().await.code, Code::PONG);
}

/// Lets in who shows a certificate, or knows the password; after a while.
#[derive(Default)]
struct Guarded {
    asked: Mutex<Vec<(String, Option<String>)>>,
    open: tokio::sync::Notify,
}

impl Access for Guarded {
    fn connect<'a>(
        &'a self,
        credentials: Credentials<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send + 'a>> {
        self.asked.lock().push((
            credentials.client_id.as_str().to_owned(),
            credentials.certificate_name.map(ToOwned::to_owned),
        ));
        let known =
            credentials.certificate_name.is_some() || credentials.password == Some(b"secret");
        Box::pin(async move {
            self.open.notified().await;
            if known {
                Ok(())
            } else {
                Err(Denial::BadCredentials)
            }
        })
    }

    fn publish(
        &self,
        _client: &ClientId,
        _topic: TopicName<'_>,
        _qos: QoS,
        _retain: bool,
    ) -> Result<(), Denial> {
        Ok(())
    }

    fn subscribe(
        &self,
        _client: &ClientId,
        _filter: &TopicFilter,
        _qos: QoS,
    ) -> Result<(), Denial> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_decision_is_asked_once_and_requests_wait_for_it_in_their_order() {
    let access = Arc::new(Guarded::default());
    let store = Arc::new(MemoryStore::new());
    let net = Net::with(store, Arc::clone(&access) as _, |_| {}).await;
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    let path = "/ps/a?retain&c=meter-7&u=u&p=secret";
    for payload in ["1", "2"] {
        client.send(&put(path, payload).bytes()).await;
    }
    until(|| access.asked.lock().len() == 1).await;
    assert_eq!(net.retained("a"), None);
    access.open.notify_one();
    for _ in 0..2 {
        assert_eq!(client.next().await.code, Code::CHANGED);
    }
    assert_eq!(net.retained("a"), Some(b"2".to_vec()));
    assert_eq!(access.asked.lock()[0].0, "meter-7");
    access.open.notify_one();
    let stranger = put("/ps/a?retain&c=meter-7&u=u&p=guess", "3");
    assert_eq!(client.ask(&stranger).await.code, Code::UNAUTHORIZED);
    assert_eq!(client.ask(&stranger).await.code, Code::UNAUTHORIZED);
    assert_eq!(access.asked.lock().len(), 2);
}

#[tokio::test]
async fn the_name_of_the_certificate_is_shown_and_is_the_identifier_unless_the_client_has_one() {
    let access = Arc::new(Guarded::default());
    let store = Arc::new(MemoryStore::new());
    let mut net = Net::with(store, Arc::clone(&access) as _, |_| {}).await;
    net.certificate_name = Some("device".into());
    let mut client = net.greet(BASE_MESSAGE_SIZE).await;
    for path in ["/ps/a", "/ps/a?c=own"] {
        access.open.notify_one();
        assert_eq!(client.ask(&put(path, "x")).await.code, Code::CHANGED);
    }
    let shown = Some("device".to_owned());
    let asked = [
        ("device".to_owned(), shown.clone()),
        ("own".to_owned(), shown),
    ];
    assert_eq!(*access.asked.lock(), asked);
}

// ---- who does not read ----------------------------------------------------------------------

#[tokio::test]
async fn who_asks_without_reading_is_not_read_any_further_and_takes_little_memory() {
    let net = Net::new().await;
    net.publish("a", &body(30_000), true);
    let before = net.bus.memory().used();
    let mut client = net
        .connect_with(|socket| socket.set_recv_buffer_size(4_096).unwrap())
        .await;
    client.greet(1 << 20).await;
    // Tokens are of two bytes: so many answers are to come.
    const REQUESTS: u16 = 2_000;
    let requests: Vec<u8> = (0..REQUESTS)
        .flat_map(|number| get("/ps/a").token(&number.to_be_bytes()).bytes())
        .collect();
    client.send(&requests).await;
    until(|| net.metrics.requests.get() > 2).await;
    // 60 MB would be answered: what waits is one bound, and one answer on top.
    let served = net.metrics.requests.get();
    assert!(served < u64::from(REQUESTS) / 2, "{served}");
    let waits = net.bus.memory().used() - before;
    assert!(waits < 400_000, "{waits}");
    for number in 0..REQUESTS {
        let got = client.next().await;
        assert_eq!(got.token(), number.to_be_bytes());
        assert_eq!(got.packet.payload.len(), 30_000);
    }
}
