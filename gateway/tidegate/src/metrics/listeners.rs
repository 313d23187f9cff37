//! The numbers of each listener, and of the certificates it shows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_quic::RTT_BOUNDS;
use tidegate_tls::{Acceptor, Status};

use super::writer::Reading::{Counter, Gauge, Time};
use super::writer::Writer;
use crate::listener::{Listener, Reason};

const SECONDS_A_DAY: f64 = 86_400.0;

pub(super) fn encode(listeners: &[Arc<Listener>], out: &mut Writer<'_>) -> fmt::Result {
    let each = || listeners.iter().map(|listener| (listener, label(listener)));
    out.family(
        "tidegate_listener_connections",
        "Connections of the listener open now, handshakes included",
        each().map(|(listener, label)| {
            let open = listener.endpoint.open_connections() as u64;
            ([label], Gauge(open))
        }),
    )?;
    out.family(
        "tidegate_listener_accepted",
        "Connections of the listener accepted by the operating system",
        each().map(|(listener, label)| ([label], Counter(listener.counters.accepted.get()))),
    )?;
    out.family(
        "tidegate_listener_refused",
        "Connections of the listener not served, by reason",
        each().flat_map(|(listener, label)| {
            Reason::ALL.map(|reason| {
                let count = listener.counters.refused(reason).get();
                ([label, ("reason", reason.as_str())], Counter(count))
            })
        }),
    )?;
    encode_tls(listeners, out)?;
    encode_quic(listeners, out)?;
    super::coap::encode(listeners, out)?;
    super::dtls::encode(listeners, out)
}

fn encode_tls(listeners: &[Arc<Listener>], out: &mut Writer<'_>) -> fmt::Result {
    let acceptors: Vec<(&Listener, &Acceptor)> = listeners
        .iter()
        .filter_map(|listener| Some((&**listener, listener.tls.as_ref()?)))
        .collect();
    // DTLS has handshakes of its own, and the same files.
    let shown: Vec<(&Listener, Status)> = listeners
        .iter()
        .filter_map(|listener| {
            let of_tls = listener.tls.as_ref().map(|it| it.identity().status());
            let of_dtls = || listener.dtls.as_ref().map(|it| it.credentials.status());
            Some((&**listener, of_tls.or_else(of_dtls)?))
        })
        .collect();
    out.family(
        "tidegate_tls_handshakes",
        "TLS handshakes done, by kind",
        acceptors.iter().flat_map(|(listener, acceptor)| {
            let counters = acceptor.counters();
            [("full", counters.full()), ("resumed", counters.resumed())]
                .map(|(kind, count)| ([label(listener), ("kind", kind)], Counter(count)))
        }),
    )?;
    out.family(
        "tidegate_tls_handshakes_in_progress",
        "TLS handshakes under way now",
        acceptors.iter().map(|(listener, acceptor)| {
            ([label(listener)], Gauge(acceptor.counters().in_progress()))
        }),
    )?;
    out.family(
        "tidegate_tls_reloads",
        "Changes of certificates, CA, CRL or key files, by result",
        shown.iter().flat_map(|(listener, status)| {
            [
                ("success", status.reloads_succeeded),
                ("failure", status.reloads_failed),
            ]
            .map(|(result, count)| ([label(listener), ("result", result)], Counter(count)))
        }),
    )?;
    out.family(
        "tidegate_tls_reload_failing",
        "1 while the files of the listener cannot be used and those from before are in force",
        shown.iter().map(|(listener, status)| {
            ([label(listener)], Gauge(status.last_error.is_some().into()))
        }),
    )?;
    // Two certificates may have one subject, as one with each kind of key: what ends first counts.
    let mut ends: BTreeMap<(&str, &str), SystemTime> = BTreeMap::new();
    for (listener, status) in &shown {
        for certificate in &status.certificates {
            let end = ends
                .entry((&listener.name, &certificate.subject))
                .or_insert(certificate.not_after);
            *end = (*end).min(certificate.not_after);
        }
    }
    let certificates = || {
        ends.iter().map(|((listener, subject), end)| {
            ([("listener", *listener), ("subject", *subject)], unix(*end))
        })
    };
    out.family(
        "tidegate_tls_certificate_not_after_timestamp_seconds",
        "When the certificate that the listener shows ends, in seconds since 1970",
        certificates().map(|(labels, end)| (labels, Time(end))),
    )?;
    let now = unix(SystemTime::now());
    out.family(
        "tidegate_tls_certificate_expiry_days",
        "Days until the certificate that the listener shows ends; negative after that",
        certificates().map(|(labels, end)| (labels, Time((end - now) / SECONDS_A_DAY))),
    )?;
    out.family(
        "tidegate_tls_crl_next_update_timestamp_seconds",
        "When the certificate revocation list of the listener ends, in seconds since 1970",
        shown.iter().filter_map(|(listener, status)| {
            Some(([label(listener)], Time(unix(status.crl_next_update?))))
        }),
    )
}

fn encode_quic(listeners: &[Arc<Listener>], out: &mut Writer<'_>) -> fmt::Result {
    let quic: Vec<(&Listener, &tidegate_quic::Metrics)> = listeners
        .iter()
        .filter_map(|listener| Some((&**listener, listener.quic.as_deref()?)))
        .collect();
    let counter = |count: fn(&tidegate_quic::Metrics) -> u64| {
        quic.iter()
            .map(move |(listener, metrics)| ([label(listener)], Counter(count(metrics))))
    };
    out.family(
        "tidegate_quic_early_data",
        "Connections whose client offered early data (0-RTT), by what became of it",
        quic.iter().flat_map(|(listener, metrics)| {
            [
                ("accepted", metrics.early_data_accepted()),
                ("refused", metrics.early_data_refused()),
            ]
            .map(|(result, count)| ([label(listener), ("result", result)], Counter(count)))
        }),
    )?;
    out.family(
        "tidegate_quic_early_data_sessions",
        "Sessions remembered now so that their clients may send early data",
        quic.iter().map(|(listener, _)| {
            let identity = listener.tls.as_ref().map(Acceptor::identity);
            let remembered = identity.and_then(|identity| identity.remembered_sessions());
            ([label(listener)], Gauge(remembered.unwrap_or(0) as u64))
        }),
    )?;
    out.family(
        "tidegate_quic_migrations",
        "Times that a connection went on at another address of its client",
        counter(tidegate_quic::Metrics::migrations),
    )?;
    out.family(
        "tidegate_quic_streams_opened",
        "Streams opened by clients",
        counter(tidegate_quic::Metrics::streams),
    )?;
    out.family(
        "tidegate_quic_packets_sent",
        "QUIC packets sent, as of the last look at each connection",
        counter(tidegate_quic::Metrics::packets_sent),
    )?;
    out.family(
        "tidegate_quic_packets_lost",
        "QUIC packets that were sent and lost, as of the last look at each connection",
        counter(tidegate_quic::Metrics::packets_lost),
    )?;
    out.family(
        "tidegate_quic_datagrams_dropped",
        "Datagrams that came faster than they were handled and were dropped, by reason",
        quic.iter().flat_map(|(listener, metrics)| {
            metrics
                .datagrams_dropped()
                .map(|(reason, count)| ([label(listener), ("reason", reason)], Counter(count)))
        }),
    )?;
    out.histograms(
        "tidegate_quic_rtt_seconds",
        "Round-trip time of each connection, once a minute and at its end",
        quic.iter().map(|(listener, metrics)| {
            let bounds = RTT_BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets = bounds.zip(metrics.rtt_buckets()).collect();
            ([label(listener)], metrics.rtt_sum(), buckets)
        }),
    )
}

pub(super) fn label(listener: &Listener) -> (&'static str, &str) {
    ("listener", &listener.name)
}

/// Seconds since 1970, negative before.
fn unix(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
