//! `GET /api/v1/subscribe`: messages as Server-Sent Events (the HTML standard, section 9.2).
//!
//! A stream is a connection to a session, as one of MQTT is: it takes the session over from whoever holds it, and is
//! taken over. The handler is CONNECT and SUBSCRIBE in one; [`pump`] is what follows.

mod encoder;
mod position;
mod pump;

use std::fmt::Write as _;
use std::num::NonZeroU16;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidegate_bus::{
    Attachment, ClientId, ConnectRequest, Departure, QoS, RetainHandling, SubscribeRefusal,
    SubscriptionOptions, Ticket, TopicFilter,
};

use self::encoder::EventEncoder;
use self::position::Name;
use self::pump::{EventStream, Parts, RETRY_MILLIS};
use super::caller::{Caller, assigned_client_id, sentence};
use super::core::{Core, Visit};
use super::problem::{Document, Problem};
use super::query::Query;
use super::reason::{Newer, Reason, Refused, SubscribeDenied};
use crate::connection::Connection;

/// Most filters of one stream.
const MOST_FILTERS: usize = 100;

/// What a stream is asked to be.
struct Wanted {
    filters: Vec<TopicFilter>,
    options: SubscriptionOptions,
    /// Seconds.
    expiry: u32,
    clean_start: bool,
    window: NonZeroU16,
    last_event_id: Option<String>,
}

/// Receive.
///
/// A stream of Server-Sent Events: first `session`, then `message` for each message, at last `end` if the gateway ends
/// it. With `client_id` and `session_expiry` the session is kept; `Last-Event-ID` acknowledges what was received and
/// the stream goes on behind it.
#[utoipa::path(
    get,
    path = "/api/v1/subscribe",
    operation_id = "subscribe",
    tag = "messages",
    params(
        ("filter" = Vec<String>, Query, description = "A topic filter, also a shared one (`$share/group/filter`); may be repeated, at most 100 times."),
        ("qos" = Option<u8>, Query, description = "The highest guarantee: 0, 1 or 2. 1 where the session is kept, otherwise 0, if it is left out.", minimum = 0, maximum = 2),
        ("no_local" = Option<bool>, Query, description = "Leaves out what the same client publishes."),
        ("retain_as_published" = Option<bool>, Query, description = "Shows `retain` of live messages as they were published."),
        ("client_id" = Option<String>, Query, description = "Who receives, and whose session it is; made up if it is left out."),
        ("session_expiry" = Option<u32>, Query, description = "Seconds for which the session is kept after the stream; needs `client_id`."),
        ("clean_start" = Option<bool>, Query, description = "Ends the session that there is first."),
        ("receive_maximum" = Option<u16>, Query, description = "Messages that may be in flight; of a kept session, until the client comes back.", minimum = 1),
        ("last_event_id" = Option<String>, Query, description = "As the header, for those who cannot set it; the header wins."),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was taken in: everything up to there is acknowledged."),
    ),
    responses(
        (status = 200, description = "The stream. The data of a `message` is a Message as JSON.", content_type = "text/event-stream", body = String),
        (status = "4XX", description = "Refused.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn subscribe(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = Arc::clone(&visit.core);
    let (parts, _) = request.into_parts();
    check_acceptable(&parts.headers)?;
    let mut query = Query::parse(parts.uri.query())?;
    let client_id = query.text("client_id")?;
    let wanted = Wanted::of(&core, &mut query, &parts.headers, client_id.is_some())?;
    query.finish()?;
    let client_id = client_id.unwrap_or_else(assigned_client_id);
    let caller = Caller::named(&core, &client_id, &parts.headers)?;
    if parts.method == Method::HEAD {
        // It asks what GET would be answered with, and connects nobody.
        return Ok(head().into_response());
    }
    let place = Arc::clone(&core.places).try_acquire_owned().map_err(|_| {
        core.counters.streams_refused.add(1);
        Problem::with_reason(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::ServerBusy,
            "As many event streams are open as may be (http.max_streams).",
        )
    })?;
    let client = caller.let_in(&core, &connection).await?;
    may_subscribe(&core, &client, &wanted)?;
    let (attachment, present) = attach(&core, &client, &wanted).await?;
    if let Err(refused) = begin(&core, &attachment, &wanted).await {
        core.bus
            .batch(|worker| attachment.detach(worker, Departure::Normal, None));
        return Err(refused.into());
    }
    let first = first_event(&core, &client, &wanted, present);
    let stream = EventStream::new(Parts {
        visit,
        connection,
        place,
        attachment,
        kept: core.bus.clamp_expiry(wanted.expiry) > 0,
        window: wanted.window.get(),
        first: first.into(),
    });
    Ok((head(), Body::new(stream)).into_response())
}

fn head() -> [(header::HeaderName, &'static str); 3] {
    [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would collect what is to arrive at once.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ]
}

impl Wanted {
    fn of(
        core: &Core,
        query: &mut Query<'_>,
        headers: &HeaderMap,
        is_named: bool,
    ) -> Result<Self, Problem> {
        let texts = query.topics("filter")?;
        if texts.is_empty() || texts.len() > MOST_FILTERS {
            return Err(Problem::malformed(format!(
                "A stream has 1 to {MOST_FILTERS} filters (?filter=); this one has {}.",
                texts.len()
            )));
        }
        let filters = texts.iter().map(|text| {
            TopicFilter::new(text)
                .map_err(|error| Problem::invalid(Reason::TopicFilterInvalid, sentence(&error)))
        });
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let expiry: u32 = query.number("session_expiry")?.unwrap_or(0);
        if expiry > 0 && !is_named {
            return Err(Problem::malformed(
                "A session that is kept has a name: session_expiry needs client_id.",
            ));
        }
        let usual = if expiry > 0 { 1 } else { 0 };
        let qos = query.number("qos")?.unwrap_or(usual);
        let qos = QoS::from_u8(qos).ok_or_else(|| Problem::malformed("qos is 0, 1 or 2."))?;
        let no_local = query.flag("no_local")?;
        if no_local && filters.iter().any(|filter| filter.share_name().is_some()) {
            return Err(Problem::malformed(
                "A shared subscription has no no_local (MQTT-3.8.3-4).",
            ));
        }
        let most = NonZeroU16::new(core.bus.settings().max_inflight).unwrap_or(NonZeroU16::MIN);
        let window = query
            .number::<NonZeroU16>("receive_maximum")?
            .map_or(most, |window| window.min(most));
        let in_query = query.text("last_event_id")?;
        let in_header = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        Ok(Self {
            filters,
            options: SubscriptionOptions {
                qos,
                no_local,
                retain_as_published: query.flag("retain_as_published")?,
                // Who comes back with the same filters has had them.
                retain_handling: RetainHandling::SendIfNew,
            },
            expiry,
            clean_start: query.flag("clean_start")?,
            window,
            last_event_id: in_header.or(in_query),
        })
    }
}

/// Asks for all filters before the session is touched: a refusal leaves it as it was.
fn may_subscribe(core: &Core, client: &ClientId, wanted: &Wanted) -> Result<(), Problem> {
    let settings = core.bus.settings();
    for filter in &wanted.filters {
        let refused = if filter.as_str().len() > settings.max_topic_bytes
            || filter.levels().count() > settings.max_topic_levels
        {
            Refused::from(SubscribeRefusal::TopicFilterInvalid)
        } else if core
            .bus
            .access()
            .subscribe(client, filter, wanted.options.qos)
            .is_err()
        {
            Refused::from(SubscribeDenied)
        } else {
            continue;
        };
        return Err(refused.into());
    }
    Ok(())
}

/// CONNECT.
async fn attach(
    core: &Core,
    client: &ClientId,
    wanted: &Wanted,
) -> Result<(Attachment, bool), Problem> {
    let bus = &core.bus;
    let unavailable = || {
        Problem::with_reason(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::ServerUnavailable,
            "The store does not answer.",
        )
    };
    let request = ConnectRequest {
        clean_start: wanted.clean_start,
        expiry: wanted.expiry,
        will: None,
        receive_maximum: wanted.window,
        // Comments go the other way.
        keep_alive: 0,
        encoder: Box::new(EventEncoder::new(core.incarnation)),
    };
    let claim = bus.claim(client).await.map_err(|_| unavailable())?;
    let attached = bus.batch(|worker| bus.attach(worker, client, claim, request));
    let (attachment, present) = attached.map_err(|refusal| match refusal {
        tidegate_bus::AttachRefusal::QuotaExceeded => Problem::with_reason(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::QuotaExceeded,
            "There are as many sessions as there may be (limits.max_sessions).",
        ),
        _ => Refused::from(Newer).into(),
    })?;
    // The end of a session before is acknowledged with it.
    if bus.store().accepts().is_ok() {
        kept(attachment.ticket()).await.map_err(|_| unavailable())?;
    }
    Ok((attachment, present))
}

/// Acknowledges what the client has had, and SUBSCRIBE.
async fn begin(core: &Core, attachment: &Attachment, wanted: &Wanted) -> Result<(), Refused> {
    let now = core.bus.now();
    let name = Name::new(
        attachment.kept_as(),
        core.incarnation,
        tidegate_bus::Subscriber::key(&**attachment.session()),
    );
    // Before anything is taken: what is acknowledged is not sent again.
    let had = wanted.last_event_id.as_deref();
    let had = had.and_then(|id| name.place_of(id));
    let had = had.unwrap_or(tidegate_bus::Place(0));
    attachment
        .acknowledge_through(now, had)
        .map_err(|_| Refused::from(Newer))?;
    let mut tickets: Vec<Ticket> = Vec::with_capacity(wanted.filters.len());
    for filter in &wanted.filters {
        let (_, ticket) = attachment.subscribe(now, filter.clone(), wanted.options, None)?;
        tickets.push(ticket);
    }
    for ticket in &tickets {
        kept(ticket).await?;
    }
    Ok(())
}

async fn kept(ticket: &Ticket) -> Result<(), tidegate_bus::StoreError> {
    std::future::poll_fn(|cx| ticket.poll(cx.waker())).await
}

/// What CONNACK and SUBACK would say.
fn first_event(core: &Core, client: &ClientId, wanted: &Wanted, present: bool) -> String {
    let filters: Vec<&str> = wanted.filters.iter().map(TopicFilter::as_str).collect();
    let data = json!({
        "client_id": client.as_str(),
        "session_present": present,
        "session_expiry": core.bus.clamp_expiry(wanted.expiry),
        "receive_maximum": wanted.window,
        "filters": filters,
        "qos": wanted.options.qos as u8,
    });
    let mut event = String::new();
    let _ = write!(
        event,
        "retry: {RETRY_MILLIS}\nevent: session\ndata: {data}\n\n"
    );
    event
}

/// 406 (RFC 9110 section 15.5.7) for who takes no event stream.
fn check_acceptable(headers: &HeaderMap) -> Result<(), Problem> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .peekable();
    let takes = |range: &str| {
        ["text/event-stream", "text/*", "*/*"]
            .iter()
            .any(|known| range.eq_ignore_ascii_case(known))
    };
    if ranges.peek().is_none() || ranges.any(takes) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "not-acceptable",
        "The answer is an event stream",
        "The answer is text/event-stream, which the Accept header does not allow.",
    ))
}
