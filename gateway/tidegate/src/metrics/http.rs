//! The counters of the HTTP side.

use std::fmt;

use tidegate_api::ApiCounters;

use super::writer::Writer;

pub(super) fn encode(c: &ApiCounters, out: &mut Writer<'_>) -> fmt::Result {
    out.counters(
        "tidegate_http_requests",
        "HTTP requests answered, by the first digit of their status",
        "status",
        c.requests(),
    )?;
    out.counter(
        "tidegate_http_messages_accepted",
        "Messages published over HTTP and acknowledged",
        c.published.get(),
    )?;
    out.counter(
        "tidegate_http_messages_refused",
        "Messages published over HTTP and refused",
        c.refused.get(),
    )?;
    out.counter(
        "tidegate_http_refused_access",
        "Requests that the access decision did not let in",
        c.refused_access.get(),
    )?;
    out.gauge(
        "tidegate_http_streams",
        "Event streams open now",
        c.streams.get(),
    )?;
    out.counter(
        "tidegate_http_streams_opened",
        "Event streams opened since the start",
        c.streams_opened.get(),
    )?;
    out.counter(
        "tidegate_http_streams_refused",
        "Event streams not opened because as many are open as may be",
        c.streams_refused.get(),
    )?;
    out.counters(
        "tidegate_http_streams_ended",
        "Event streams that have ended, by reason",
        "reason",
        c.streams_ended(),
    )?;
    out.counter(
        "tidegate_http_events_sent",
        "Messages written to event streams",
        c.events.get(),
    )
}
