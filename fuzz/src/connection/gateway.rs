//! The gateway's part of a scenario: a bus and an MQTT endpoint, without sockets and without time.

use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_bus::{AllowAll, Bus, Clock, MemoryStore, Timestamp};
use tidegate_mqtt::{Adapter, Endpoint, Peer, Settings};
use tokio::task::JoinHandle;

use crate::pipe::{Client, pipe};
use tidegate_model::Limits;

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
    endpoint: Arc<Endpoint>,
    /// The connections that have not ended.
    connections: Vec<JoinHandle<()>>,
}

impl Gateway {
    pub(super) fn new(limits: &Limits) -> Self {
        let clock = Arc::new(Standing(AtomicU64::new(1_000_000_000_000)));
        let mut of_bus = tidegate_bus::Settings::default();
        of_bus.max_inflight = limits.max_inflight;
        of_bus.max_topic_levels = limits.max_levels;
        of_bus.max_session_expiry = Duration::from_secs(u64::from(limits.max_expiry));
        let bus = Bus::new(
            of_bus,
            Arc::new(MemoryStore::new()),
            Arc::new(AllowAll),
            Arc::clone(&clock) as _,
        );
        let mut settings = Settings::default();
        settings.receive_maximum = limits.receive_maximum;
        settings.topic_alias_maximum = limits.topic_alias_maximum;
        settings.v3_session_expiry = Duration::from_secs(u64::from(limits.v3_expiry));
        let adapter = Adapter::new(Arc::clone(&bus), settings.clone());
        let endpoint = adapter.endpoint(settings);
        Self {
            bus,
            clock,
            endpoint,
            connections: Vec::new(),
        }
    }

    /// A connection that was just accepted.
    pub(super) fn accept(&mut self) -> Client {
        let (client, stream) = pipe();
        let place = self
            .endpoint
            .admit()
            .and_then(|place| place.count_for(Ipv4Addr::LOCALHOST.into()));
        let Ok(place) = place else {
            panic!("a connection was refused");
        };
        let connection = async {
            place.serve(stream, Peer::default()).await;
        };
        self.connections.push(tokio::spawn(connection));
        client
    }

    /// Lets every connection do what it has to do. A panic in one goes on here: the runtime keeps it
    /// in the task, and to the clients it is no more than an end.
    pub(super) async fn run(&mut self) {
        // The runtime's time stands still while anything is to be done.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for connection in self.connections.extract_if(.., |task| task.is_finished()) {
            if let Err(error) = connection.await
                && let Ok(panic) = error.try_into_panic()
            {
                resume_unwind(panic);
            }
        }
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000, Ordering::Relaxed);
        self.bus.tick();
    }
}
