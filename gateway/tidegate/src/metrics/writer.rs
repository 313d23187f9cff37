//! Writing metrics in the order and form that Prometheus wants.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A number read now.
#[derive(Clone, Copy)]
enum Reading {
    Counter(u64),
    Gauge(u64),
    /// A number of time.
    Time(f64),
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Time(value) => encoder.encode_gauge(value),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) | Self::Time(_) => MetricType::Gauge,
        }
    }
}

/// Writes one metric after the other.
pub(super) struct Writer<'a>(DescriptorEncoder<'a>);

/// The labels of one sample.
type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

impl<'a> Writer<'a> {
    pub(super) const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(name, help, Reading::Gauge(value))
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(name, help, Reading::Counter(value))
    }

    fn plain(&mut self, name: &str, help: &str, reading: Reading) -> fmt::Result {
        let kind = reading.metric_type();
        let encoder = self.0.encode_descriptor(name, help, None, kind)?;
        reading.encode(encoder)
    }

    /// A counter with one label.
    pub(super) fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value_of_label, value) in values {
            let labels = [(label, value_of_label.as_ref())];
            Reading::Counter(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter with several labels.
    pub(super) fn counter_family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter();
        let values = values.map(|(labels, value)| (labels, Reading::Counter(value)));
        self.family(name, help, MetricType::Counter, values)
    }

    /// A gauge with labels.
    pub(super) fn gauge_family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let values = values.into_iter();
        let values = values.map(|(labels, value)| (labels, Reading::Gauge(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// A gauge of time with labels.
    pub(super) fn time_family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> fmt::Result {
        let values = values.into_iter();
        let values = values.map(|(labels, value)| (labels, Reading::Time(value)));
        self.family(name, help, MetricType::Gauge, values)
    }

    /// A family without samples is left out altogether.
    fn family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (Labels<'l, N>, Reading)>,
    ) -> fmt::Result {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, reading) in values {
            reading.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
