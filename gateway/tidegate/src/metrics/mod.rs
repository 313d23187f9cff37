//! The counters of the bus and the adapters under their Prometheus names.

mod coap;
mod dtls;
mod http;
mod listeners;
mod store;
mod writer;

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tidegate_api::{Api, Registry};
use tidegate_bus::{Bus, DropReason};
use tidegate_mqtt::Adapter;
use writer::Writer;

use crate::listener::Listener;
use crate::store::Kept;

/// Reads the counters whenever they are asked for; there are none before the gateway is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<OnceLock<Sources>>);

/// What has counters.
#[derive(Debug)]
struct Sources {
    bus: Arc<Bus>,
    store: Option<Arc<tidegate_store::Metrics>>,
    mqtt: Arc<Adapter>,
    api: Api,
    listeners: Vec<Arc<Listener>>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// From now on there is something to tell.
    pub(crate) fn begin(
        &self,
        bus: &Arc<Bus>,
        kept: &Kept,
        mqtt: &Arc<Adapter>,
        api: &Api,
        listeners: Vec<Arc<Listener>>,
    ) {
        // There is one gateway in a process.
        let _ = self.0.set(Sources {
            bus: Arc::clone(bus),
            store: kept.disk().map(|engine| engine.metrics()),
            mqtt: Arc::clone(mqtt),
            api: api.clone(),
            listeners,
        });
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.get() {
            Some(sources) => sources.encode(encoder),
            None => Ok(()),
        }
    }
}

impl Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer::new(encoder);
        let c = self.bus.counters();
        let qos = ["0", "1", "2"];
        out.gauge(
            "tidegate_connections",
            "Clients connected now",
            c.connections.get(),
        )?;
        out.gauge(
            "tidegate_sessions",
            "Sessions now, connected or not",
            c.sessions.get(),
        )?;
        out.gauge(
            "tidegate_subscriptions",
            "Subscriptions now",
            c.subscriptions.get(),
        )?;
        out.gauge(
            "tidegate_retained_messages",
            "Retained messages now",
            c.retained_messages.get(),
        )?;
        out.gauge(
            "tidegate_retained_bytes",
            "Bytes of retained messages now",
            c.retained_bytes.get(),
        )?;
        let memory = self.bus.memory();
        out.gauge(
            "tidegate_queue_memory_bytes",
            "Bytes that wait for clients now",
            memory.used() as u64,
        )?;
        out.gauge(
            "tidegate_queue_memory_limit_bytes",
            "Most bytes that may wait for clients",
            memory.limit() as u64,
        )?;
        out.gauge(
            "tidegate_messages_pending",
            "Messages queued or in flight now",
            self.bus.pending_messages(),
        )?;
        out.counter(
            "tidegate_connects",
            "Clients connected since the start",
            c.connects.get(),
        )?;
        out.counter(
            "tidegate_takeovers",
            "Connections replaced by another with the same client identifier",
            c.takeovers.get(),
        )?;
        out.counter(
            "tidegate_sessions_expired",
            "Sessions that ended because their time was over",
            c.sessions_expired.get(),
        )?;
        let received = c.messages_received.iter().map(tidegate_bus::Counter::get);
        out.counters(
            "tidegate_messages_received",
            "Messages published by clients",
            "qos",
            qos.into_iter().zip(received),
        )?;
        let sent = c.messages_sent.iter().map(tidegate_bus::Counter::get);
        out.counters(
            "tidegate_messages_sent",
            "Messages sent to clients, retransmissions included",
            "qos",
            qos.into_iter().zip(sent),
        )?;
        let drops = DropReason::ALL.map(|reason| (reason.as_str(), c.drops.get(reason)));
        out.counters(
            "tidegate_messages_dropped",
            "Messages not delivered, by reason",
            "reason",
            drops,
        )?;
        out.counter(
            "tidegate_messages_unmatched",
            "Messages published to topics nobody subscribes to",
            c.unmatched.get(),
        )?;
        out.counter(
            "tidegate_payload_received_bytes",
            "Payload published by clients",
            c.payload_bytes_received.get(),
        )?;
        out.counter(
            "tidegate_payload_sent_bytes",
            "Payload sent to clients",
            c.payload_bytes_sent.get(),
        )?;
        out.counter(
            "tidegate_received_bytes",
            "Bytes read from clients",
            c.bytes_received.get(),
        )?;
        out.counter(
            "tidegate_sent_bytes",
            "Bytes written to clients",
            c.bytes_sent.get(),
        )?;
        out.counter(
            "tidegate_packets_received",
            "Packets read from clients",
            c.packets_received.get(),
        )?;
        let cache = [
            ("hit", c.route_cache_hits.get()),
            ("miss", c.route_cache_misses.get()),
        ];
        out.counters(
            "tidegate_route_lookups",
            "Lookups of a topic's receivers",
            "cache",
            cache,
        )?;
        let m = self.mqtt.counters();
        out.gauge(
            "tidegate_mqtt_connections",
            "MQTT connections open now, before CONNECT included",
            // Those of other protocols have places among them, and are none of them.
            self.listeners
                .iter()
                .filter(|listener| !listener.kind.is_coap())
                .map(|listener| listener.endpoint.open_connections() as u64)
                .sum(),
        )?;
        out.counter(
            "tidegate_mqtt_accepted",
            "MQTT connections accepted by the operating system",
            m.accepted.get(),
        )?;
        let refused = [
            ("limit", m.refused_limit.get()),
            ("rate", m.refused_rate.get()),
            ("access", m.refused_access.get()),
            ("connect_timeout", m.connect_timeouts.get()),
        ];
        out.counters(
            "tidegate_mqtt_refused",
            "MQTT connections not served, by reason",
            "reason",
            refused,
        )?;
        out.counter(
            "tidegate_mqtt_protocol_errors",
            "MQTT connections closed for a malformed packet or a breach of the protocol",
            m.protocol_errors.get(),
        )?;
        http::encode(self.api.counters(), &mut out)?;
        if let Some(metrics) = &self.store {
            store::encode(metrics, &mut out)?;
        }
        listeners::encode(&self.listeners, &mut out)
    }
}
