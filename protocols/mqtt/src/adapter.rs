//! What all MQTT connections of a gateway share, whatever carries their bytes.

use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::{Bus, EndReason, MemoryBudget};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::counters::MqttCounters;
use crate::endpoint::Endpoint;
use crate::settings::Settings;

/// The MQTT adapter. Its [`Endpoint`]s hand byte streams to the bus as MQTT connections.
pub struct Adapter {
    pub(crate) bus: Arc<Bus>,
    settings: Settings,
    pub(crate) counters: MqttCounters,
    pub(crate) admission: Arc<Admission>,
    /// `true` once nobody is let in any more.
    closing: watch::Sender<bool>,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("open", &self.open_connections())
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// An adapter for `bus`.
    pub fn new(bus: Arc<Bus>, settings: Settings) -> Arc<Self> {
        let admission = Arc::new(Admission::new(&settings));
        Arc::new(Self {
            bus,
            settings,
            counters: MqttCounters::default(),
            admission,
            closing: watch::Sender::new(false),
        })
    }

    /// What it counts.
    pub const fn counters(&self) -> &MqttCounters {
        &self.counters
    }

    /// Connections open now, those that have not sent CONNECT yet included.
    pub fn open_connections(&self) -> usize {
        self.admission.open()
    }

    /// The ceiling for everything that waits for clients; what carries MQTT charges it, too.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        self.bus.memory()
    }

    /// What serves the connections of one listener, which may have limits of its own: those of
    /// `settings` are the listener's, those of the adapter are for all listeners together.
    pub fn endpoint(self: &Arc<Self>, settings: Settings) -> Arc<Endpoint> {
        Endpoint::new(self, settings, None)
    }

    /// The same for a listener at which another protocol is spoken: its connections share the limits, and are not
    /// counted among those of MQTT.
    pub fn foreign_endpoint(self: &Arc<Self>, settings: Settings) -> Arc<Endpoint> {
        Endpoint::new(self, settings, Some(MqttCounters::default()))
    }

    /// Completes when nobody is let in any more.
    pub(crate) async fn closing(&self) {
        // The sender lives as long as this does.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Ends every connection: those that have not sent CONNECT at once, the others with DISCONNECT 0x8B
    /// if they understand it, at the pace of the settings, and after what lies encoded for them. Returns
    /// when all are closed, or the time of the settings is over.
    pub async fn shut_down(&self) {
        self.closing.send_replace(true);
        let pace = self.settings.shutdown_disconnects_per_second;
        let all = async {
            let mut told: u32 = 0;
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            while self.open_connections() > 0 {
                // More than once: who was being let in at that moment is here now.
                for session in self.bus.sessions() {
                    if !session.is_connected() {
                        continue;
                    }
                    if pace > 0 && told.is_multiple_of((pace / 10).max(1)) {
                        tick.tick().await;
                    }
                    told += 1;
                    session.end(EndReason::ServerShuttingDown);
                }
                let closed = self.admission.all_closed();
                let _ = tokio::time::timeout(Duration::from_millis(200), closed).await;
            }
        };
        // What has not closed by then is closed by the end of the process.
        let _ = tokio::time::timeout(self.settings.shutdown_timeout, all).await;
    }
}
