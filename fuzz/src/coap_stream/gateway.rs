//! The gateway's part: a bus and an endpoint, without sockets and without time; a store and a decision about access that
//! may take a while; somebody who hears all that is published.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_bus::{
    Access, AccessFuture, AllowAll, Bus, Claim, ClientId, Clock, Completion, Credentials, Delivery,
    DeliveryContext, Denial, Epoch, MemoryStore, Message, Place, Publication, QoS, QueueReader,
    SessionChange, Settings, Store, StoreError, StoreFuture, StoredMessage, Subscriber,
    Subscription, SubscriptionOptions, Ticket, Timestamp, TopicFilter, TopicName,
};
use tidegate_coap::Metrics;
use tidegate_coap::stream::{Endpoint, Peer};
use tokio::task::JoinHandle;

use crate::pipe::{Client, narrow_pipe};

/// Longest body, small so that the limit is met, and long enough for several blocks.
pub(super) const LONGEST: usize = 5_000;

/// Messages that wait for one observation.
pub(super) const MAX_WAITING: usize = 6;

/// Observations of one connection.
pub(super) const MAX_OBSERVATIONS: usize = 3;

/// Bodies under way on one connection.
pub(super) const MAX_TRANSFERS: usize = 2;

/// How long a client may take for its first message.
pub(super) const CSM_TIMEOUT: Duration = Duration::from_secs(10);

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
}

#[derive(Default)]
struct Heard(Mutex<Vec<Said>>);

impl Subscriber for Heard {
    fn key(&self) -> u64 {
        u64::MAX
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        lock(&self.0).push(Said {
            topic: message.topic.as_str().to_owned(),
            payload: message.payload.to_vec(),
            retain: message.retain,
        });
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

/// What is told to it is kept when the scenario says so.
#[derive(Default)]
struct Slow {
    claims: MemoryStore,
    is_held: AtomicBool,
    held: Mutex<Vec<Completion>>,
}

impl Slow {
    fn ticket(&self) -> Ticket {
        if !self.is_held.load(Ordering::Relaxed) {
            return Ticket::ready();
        }
        let (ticket, completion) = Ticket::pending();
        lock(&self.held).push(completion);
        ticket
    }
}

impl Store for Slow {
    fn is_durable(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, client: &'a ClientId) -> StoreFuture<'a, Claim> {
        self.claims.claim(client)
    }

    fn append(&self, _publication: &Publication<'_>) -> Ticket {
        self.ticket()
    }

    fn retain(&self, _topic: &str, _message: Option<&Arc<StoredMessage>>) -> Ticket {
        self.ticket()
    }

    fn change(&self, _: &ClientId, _: Epoch, _: &[SessionChange]) -> Ticket {
        Ticket::ready()
    }

    fn read(&self, _: &ClientId, _: Epoch, _: Place, reader: Box<dyn QueueReader>) {
        reader.end(Ok(true));
    }
}

/// Whether somebody may connect is said by the name, as is what else that client may not.
struct Doorman;

impl Access for Doorman {
    fn connect<'a>(&'a self, credentials: Credentials<'a>) -> AccessFuture<'a> {
        Box::pin(async move {
            match credentials.client_id.as_str() {
                "never" => Err(Denial::BadCredentials),
                "late" => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    fn publish(
        &self,
        client: &ClientId,
        topic: TopicName<'_>,
        qos: QoS,
        retain: bool,
    ) -> Result<(), Denial> {
        match client.as_str() {
            "mute" => Err(Denial::NotAuthorized),
            _ => AllowAll.publish(client, topic, qos, retain),
        }
    }

    fn subscribe(&self, client: &ClientId, _: &TopicFilter, _: QoS) -> Result<(), Denial> {
        match client.as_str() {
            "deaf" => Err(Denial::NotAuthorized),
            _ => Ok(()),
        }
    }
}

/// A clock that stands still.
struct Standing(AtomicU64);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

pub(super) struct Gateway {
    bus: Arc<Bus>,
    clock: Arc<Standing>,
    store: Arc<Slow>,
    heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    endpoint: Arc<Endpoint>,
    /// The connections that have not ended.
    connections: Vec<JoinHandle<()>>,
    accepted: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// `asks`: clients that say nothing are asked at once whether they are there.
    pub(super) fn new(asks: bool) -> Self {
        let clock = Arc::new(Standing(AtomicU64::new(1_000_000_000_000)));
        let store = Arc::new(Slow::default());
        let bus = Bus::new(
            Settings::default(),
            Arc::clone(&store) as _,
            Arc::new(Doorman),
            Arc::clone(&clock) as _,
        );
        let heard = Arc::new(Heard::default());
        let filter = TopicFilter::new("#").expect("a filter");
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        let subscription = Arc::new(Subscription::new(filter, options, None));
        bus.add_subscription(Arc::clone(&heard) as _, subscription);

        let mut settings = tidegate_coap::Settings::default();
        settings.max_body_bytes = LONGEST;
        settings.max_observations_per_endpoint = MAX_OBSERVATIONS;
        settings.max_waiting = MAX_WAITING;
        settings.max_transfers_per_endpoint = MAX_TRANSFERS;
        settings.csm_timeout = CSM_TIMEOUT;
        settings.ping_timeout = Duration::from_secs(3_600);
        settings.ping_interval = if asks {
            Duration::ZERO
        } else {
            Duration::from_secs(3_600)
        };
        let metrics = Arc::new(Metrics::default());
        let endpoint = Endpoint::new(Arc::clone(&bus), settings, Arc::clone(&metrics));
        Self {
            bus,
            clock,
            store,
            heard,
            metrics,
            endpoint,
            connections: Vec::new(),
            accepted: 0,
        }
    }

    /// A connection that was just accepted. So many bytes wait for its client at the most.
    pub(super) fn accept(&mut self, window: usize) -> Client {
        let (client, stream) = narrow_pipe(window);
        self.accepted += 1;
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1_000 + self.accepted as u16)),
            certificate_name: None,
        };
        let serving = self.endpoint.serve(stream, peer);
        self.connections.push(tokio::spawn(async move {
            serving.await;
        }));
        client
    }

    /// Lets every connection do what it has to do. A panic in one goes on here: the runtime keeps it in the task, and to
    /// the clients it is no more than an end.
    pub(super) async fn run(&mut self) {
        self.wait(Duration::from_millis(1)).await;
    }

    /// The runtime's time stands still while anything is to be done.
    pub(super) async fn wait(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        for connection in self.connections.extract_if(.., |task| task.is_finished()) {
            if let Err(error) = connection.await
                && let Ok(panic) = error.try_into_panic()
            {
                resume_unwind(panic);
            }
        }
    }

    /// Takes what was published.
    pub(super) fn heard(&self) -> Vec<Said> {
        std::mem::take(&mut *lock(&self.heard.0))
    }

    /// Publishes as a client of another protocol would.
    pub(super) fn publish(&self, said: &Said) {
        let topic = TopicName::new(&said.topic).expect("a topic");
        let mut message = Message::new(topic, &said.payload);
        message.retain = said.retain;
        let published = self.bus.batch(|worker| self.bus.publish(worker, message));
        published.expect("there is room");
    }

    /// Whether what is told to the store from now on waits.
    pub(super) fn hold_store(&self, held: bool) {
        self.store.is_held.store(held, Ordering::Relaxed);
    }

    /// The store has kept everything, or could not.
    pub(super) fn complete_store(&self, is_kept: bool) {
        for completion in std::mem::take(&mut *lock(&self.store.held)) {
            completion.complete(if is_kept {
                Ok(())
            } else {
                Err(StoreError::Full)
            });
        }
    }

    /// The gateway leaves.
    pub(super) fn leave(&self) -> JoinHandle<()> {
        let endpoint = Arc::clone(&self.endpoint);
        tokio::spawn(async move { endpoint.shut_down(0).await })
    }

    /// Nothing is kept for anybody any more.
    pub(super) async fn check_end(mut self) {
        self.wait(Duration::from_secs(10)).await;
        assert!(self.connections.is_empty(), "a connection goes on");
        let metrics = &self.metrics;
        for count in [&metrics.observations, &metrics.transfers] {
            assert_eq!(count.get(), 0, "{metrics:?}");
        }
        let closed = metrics.closed.iter().map(tidegate_coap::Count::get);
        assert_eq!(closed.sum::<u64>(), self.accepted, "{metrics:?}");
        let sessions = self.bus.sessions();
        assert!(sessions.iter().all(|session| !session.is_connected()));
        let kept: usize = sessions.iter().map(|s| s.subscriptions().len()).sum();
        // That of the test as well.
        let subscriptions = self.bus.counters().subscriptions.get();
        assert_eq!(subscriptions, 1 + kept as u64);
        drop(sessions);
        // Whatever is kept for somebody who comes again has its time.
        self.clock
            .0
            .fetch_add(100 * 365 * 24 * 3_600_000, Ordering::Relaxed);
        for _ in 0..3 {
            self.bus.tick();
            self.run().await;
        }
        let sessions = self.bus.sessions().len();
        assert_eq!(sessions, 0, "a session is kept for ever");
        let filter = TopicFilter::new("#").expect("a filter");
        for message in self.bus.retained(&filter) {
            self.publish(&Said {
                topic: message.topic().to_owned(),
                payload: Vec::new(),
                retain: true,
            });
        }
        assert_eq!(
            self.bus.memory().used(),
            0,
            "memory that nobody uses is charged"
        );
    }
}
