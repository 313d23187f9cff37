//! Writing metrics in the order and form that Prometheus wants.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A number read now.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    Counter(u64),
    Gauge(u64),
    /// A gauge of time.
    Time(f64),
    /// A counter of time.
    Seconds(f64),
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Time(value) => encoder.encode_gauge(value),
            Self::Seconds(value) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) | Self::Seconds(_) => MetricType::Counter,
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

    /// A counter of seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.plain(name, help, Reading::Seconds(value))
    }

    /// A histogram. `buckets` are upper bounds with how many fell into each alone, the last one infinite.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
    }

    /// Histograms with labels, each as [`Self::histogram`] has it. Without any the family is left out
    /// altogether.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, f64, Vec<(f64, u64)>)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, sum, buckets) in values {
            let count = buckets.iter().map(|(_, count)| count).sum();
            let mut encoder = family.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
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
        let values: Vec<(L, u64)> = values.into_iter().collect();
        let labelled = values.iter().map(|(value_of_label, value)| {
            ([(label, value_of_label.as_ref())], Reading::Counter(*value))
        });
        self.family(name, help, labelled)
    }

    /// Readings of one kind, with labels. Without any the family is left out altogether.
    pub(super) fn family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l, N>, Reading)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        let Some((_, first)) = values.peek() else {
            return Ok(());
        };
        let kind = first.metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, reading) in values {
            reading.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
