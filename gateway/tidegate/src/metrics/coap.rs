//! The numbers of listeners that speak CoAP.

use std::fmt;
use std::sync::Arc;

use tidegate_coap::Metrics;

use super::listeners::label;
use super::writer::Reading::{Counter, Gauge};
use super::writer::Writer;
use crate::listener::Listener;

/// A name, what it means, and where it comes from.
type Number = (&'static str, &'static str, fn(&Metrics) -> u64);

pub(super) fn encode(listeners: &[Arc<Listener>], out: &mut Writer<'_>) -> fmt::Result {
    let coap: Vec<(&Listener, &Metrics)> = listeners
        .iter()
        .filter_map(|listener| Some((&**listener, listener.coap.as_deref()?)))
        .collect();
    let single: [Number; 8] = [
        (
            "tidegate_coap_requests",
            "CoAP requests, repetitions left out",
            |m| m.requests.get(),
        ),
        (
            "tidegate_coap_duplicates",
            "CoAP requests that were repetitions and had no effect",
            |m| m.duplicates.get(),
        ),
        (
            "tidegate_coap_ignored",
            "Datagrams that were no CoAP messages, or answered nothing",
            |m| m.ignored.get(),
        ),
        (
            "tidegate_coap_rejected",
            "CoAP messages refused with Reset",
            |m| m.rejected.get(),
        ),
        (
            "tidegate_coap_retransmissions",
            "Confirmable CoAP messages sent once more",
            |m| m.retransmissions.get(),
        ),
        (
            "tidegate_coap_limited",
            "CoAP answers made smaller for an address that was not verified",
            |m| m.limited.get(),
        ),
        (
            "tidegate_coap_full",
            "CoAP requests refused because a table was full",
            |m| m.full.get(),
        ),
        (
            "tidegate_coap_unsent",
            "Datagrams of CoAP listeners that could not be sent",
            |m| m.unsent.get(),
        ),
    ];
    for (name, help, count) in single {
        let each = coap.iter();
        let each = each.map(|(listener, m)| ([label(listener)], Counter(count(m))));
        out.family(name, help, each)?;
    }
    out.family(
        "tidegate_coap_responses",
        "CoAP responses, by class",
        coap.iter().flat_map(|(listener, m)| {
            let classes = ["2", "4", "5"].into_iter().zip(&m.responses);
            classes.map(|(class, count)| {
                let labels = [label(listener), ("class", class)];
                (labels, Counter(count.get()))
            })
        }),
    )?;
    out.family(
        "tidegate_coap_notifications",
        "CoAP notifications of observers, by type",
        coap.iter().flat_map(|(listener, m)| {
            let types = ["non", "con", "stream"].into_iter().zip(&m.notifications);
            types.map(|(kind, count)| {
                let labels = [label(listener), ("type", kind)];
                (labels, Counter(count.get()))
            })
        }),
    )?;
    out.family(
        "tidegate_coap_observations_ended",
        "CoAP observations that ended, by reason",
        coap.iter().flat_map(|(listener, m)| {
            let reasons = [
                "asked",
                "reset",
                "timeout",
                "closed",
                "session",
                "taken_over",
            ];
            reasons
                .into_iter()
                .zip(&m.cancelled)
                .map(|(reason, count)| {
                    let labels = [label(listener), ("reason", reason)];
                    (labels, Counter(count.get()))
                })
        }),
    )?;
    out.family(
        "tidegate_coap_connections_ended",
        "Connections over which CoAP was spoken that ended, by reason",
        coap.iter()
            .filter(|(listener, _)| listener.coap_stream.is_some())
            .flat_map(|(listener, m)| {
                let reasons = [
                    "lost", "released", "aborted", "refused", "silent", "shutdown",
                ];
                reasons.into_iter().zip(&m.closed).map(|(reason, count)| {
                    let labels = [label(listener), ("reason", reason)];
                    (labels, Counter(count.get()))
                })
            }),
    )?;
    let gauges: [Number; 4] = [
        ("tidegate_coap_observations", "CoAP observations now", |m| {
            m.observations.get()
        }),
        (
            "tidegate_coap_endpoints",
            "CoAP endpoints now that something is kept for",
            |m| m.endpoints.get(),
        ),
        (
            "tidegate_coap_exchanges",
            "CoAP requests now that are remembered",
            |m| m.exchanges.get(),
        ),
        (
            "tidegate_coap_transfers",
            "Bodies now that are coming in blocks",
            |m| m.transfers.get(),
        ),
    ];
    for (name, help, count) in gauges {
        let each = coap.iter();
        let each = each.map(|(listener, m)| ([label(listener)], Gauge(count(m))));
        out.family(name, help, each)?;
    }
    Ok(())
}
