//! The counters of the bus and the adapters under their Prometheus names.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use tidegate_api::Registry;
use tidegate_bus::{Bus, DropReason};
use tidegate_mqtt::Adapter;

/// Reads the counters whenever they are asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    bus: Arc<Bus>,
    mqtt: Arc<Adapter>,
}

impl Metrics {
    pub(crate) fn register(bus: &Arc<Bus>, mqtt: &Arc<Adapter>, registry: &mut Registry) {
        let collector = Self {
            bus: Arc::clone(bus),
            mqtt: Arc::clone(mqtt),
        };
        registry.register_collector(Box::new(collector));
    }
}

/// A number read now, written as a counter or a gauge.
#[derive(Clone, Copy)]
struct Reading {
    value: u64,
    kind: MetricType,
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            MetricType::Counter => encoder
                .encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(
                    &self.value,
                    None,
                ),
            _ => encoder.encode_gauge(&self.value),
        }
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(
            name,
            help,
            Reading {
                value,
                kind: MetricType::Gauge,
            },
        )
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(
            name,
            help,
            Reading {
                value,
                kind: MetricType::Counter,
            },
        )
    }

    fn plain(&mut self, name: &str, help: &str, reading: Reading) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, reading.kind)?;
        reading.encode(encoder)
    }

    /// A counter with one label.
    fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value_of_label, value) in values {
            let labels = [(label, value_of_label.as_ref())];
            let reading = Reading {
                value,
                kind: MetricType::Counter,
            };
            reading.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
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
            self.mqtt.open_connections() as u64,
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
        )
    }
}
