//! The numbers of listeners that speak CoAP over DTLS.

use std::fmt;
use std::sync::Arc;

use tidegate_dtls::{Counters, Dropped, End, Failure, Method};

use super::listeners::label;
use super::writer::Reading::{Counter, Gauge};
use super::writer::Writer;
use crate::listener::Listener;

pub(super) fn encode(listeners: &[Arc<Listener>], out: &mut Writer<'_>) -> fmt::Result {
    let dtls: Vec<(&Listener, &Counters)> = listeners
        .iter()
        .filter_map(|listener| Some((&**listener, &*listener.dtls.as_ref()?.counters)))
        .collect();
    let counter = |count: fn(&Counters) -> u64| {
        let each = dtls.iter();
        each.map(move |(listener, c)| ([label(listener)], Counter(count(c))))
    };
    let gauge = |count: fn(&Counters) -> u64| {
        let each = dtls.iter();
        each.map(move |(listener, c)| ([label(listener)], Gauge(count(c))))
    };
    out.family(
        "tidegate_dtls_sessions",
        "DTLS sessions now",
        gauge(Counters::sessions),
    )?;
    out.family(
        "tidegate_dtls_handshakes_in_progress",
        "DTLS handshakes under way now",
        gauge(Counters::handshakes),
    )?;
    out.family(
        "tidegate_dtls_hellos",
        "ClientHellos of DTLS, with a cookie and without",
        counter(Counters::hellos),
    )?;
    out.family(
        "tidegate_dtls_cookies",
        "ClientHellos of DTLS that were answered with a cookie",
        counter(Counters::cookies),
    )?;
    out.family(
        "tidegate_dtls_handshakes",
        "DTLS handshakes done, by method",
        dtls.iter().flat_map(|(listener, counters)| {
            Method::ALL.iter().map(|method| {
                let labels = [label(listener), ("method", method.name())];
                (labels, Counter(counters.established(*method)))
            })
        }),
    )?;
    out.family(
        "tidegate_dtls_handshakes_failed",
        "DTLS handshakes that led to no session, by reason",
        dtls.iter().flat_map(|(listener, counters)| {
            Failure::ALL.iter().map(|why| {
                let labels = [label(listener), ("reason", why.name())];
                (labels, Counter(counters.failures(*why)))
            })
        }),
    )?;
    out.family(
        "tidegate_dtls_sessions_ended",
        "DTLS sessions that ended, by reason",
        dtls.iter().flat_map(|(listener, counters)| {
            End::ALL.iter().map(|why| {
                let labels = [label(listener), ("reason", why.name())];
                (labels, Counter(counters.ended(*why)))
            })
        }),
    )?;
    out.family(
        "tidegate_dtls_datagrams_dropped",
        "Datagrams that were passed over before any session took them, by reason",
        dtls.iter().flat_map(|(listener, counters)| {
            Dropped::ALL.iter().map(|why| {
                let labels = [label(listener), ("reason", why.name())];
                (labels, Counter(counters.dropped(*why)))
            })
        }),
    )
}
