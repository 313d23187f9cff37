//! `/api/v1/retained/{topic}`: what is retained, read, set and cleared; `/api/v1/retained?filter=`: a list, page by
//! page.
//!
//! Setting and clearing is publishing, so whoever subscribes hears of it. Reading is subscribing as far as the
//! access decision is concerned. What a device has retained is shown as what it says it is and never runs: a browser
//! gets it in a sandbox (`super::guard`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tidegate_bus::{
    ClientId, Message, MessageProperty, QoS, StoredMessage, Timestamp, TopicFilter, TopicName,
};
use utoipa::ToSchema;

use super::body;
use super::caller::{Caller, sentence};
use super::core::{Core, Visit};
use super::document::{Named, Received, Schema};
use super::draft::Draft;
use super::problem::{Document, Problem};
use super::publish::{Outcome, accept_one};
use super::query::{Query, decode};
use super::reason::{Reason, Refused, SubscribeDenied};
use crate::connection::Connection;

/// What comes before the topic.
pub(crate) const PREFIX: &str = "/api/v1/retained/";

/// Most messages of a page.
const MOST: usize = 1_000;

/// Messages of a page when nobody says how many.
const USUAL: usize = 100;

/// Bytes of messages after which a page ends.
const PAGE_BYTES: usize = 1 << 20;

/// Characters that stand in a header as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

const QOS: HeaderName = HeaderName::from_static("mqtt-qos");
const EXPIRY: HeaderName = HeaderName::from_static("mqtt-message-expiry-interval");
const FORMAT: HeaderName = HeaderName::from_static("mqtt-payload-format-indicator");
const RESPONSE_TOPIC: HeaderName = HeaderName::from_static("mqtt-response-topic");
const CORRELATION: HeaderName = HeaderName::from_static("mqtt-correlation-data");
const USER: HeaderName = HeaderName::from_static("mqtt-user-property");

/// The headers that carry a message's properties, for pages of other origins to read.
pub(crate) const EXPOSED: &str = "ETag, Retry-After, MQTT-QoS, MQTT-Message-Expiry-Interval, \
     MQTT-Payload-Format-Indicator, MQTT-Response-Topic, MQTT-Correlation-Data, MQTT-User-Property";

/// A page of retained messages.
///
/// For the description only.
#[derive(ToSchema)]
#[schema(as = Page)]
#[expect(dead_code, reason = "it is described, not made")]
pub(crate) struct PageSchema {
    /// In the order of the bytes of their topics.
    messages: Vec<Schema>,
    /// What to give as `after` to get the next page; null on the last one.
    next: Option<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    messages: Vec<Received<'a>>,
    next: Option<&'a str>,
}

/// Read what is retained on a topic.
///
/// The payload with its properties in headers, or with `Accept: application/json` all of it as JSON.
#[utoipa::path(
    get,
    path = "/api/v1/retained/{topic}",
    operation_id = "getRetained",
    tag = "retained",
    params(
        ("topic" = String, Path, description = "The topic, percent-encoded; `/` stays as it is."),
        ("client_id" = Option<String>, Query, description = "Who asks; `tidegate-http` if it is left out."),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of what is known already."),
    ),
    responses(
        (status = 200, description = "The message.", content(([u8] = "*/*"), (Schema = "application/json")), headers(
            ("ETag" = String, description = "Changes with the message."),
            ("MQTT-QoS" = u8, description = "The guarantee it was published with."),
            ("MQTT-Message-Expiry-Interval" = u32, description = "Seconds until it expires."),
            ("MQTT-Payload-Format-Indicator" = u8, description = "1 if it is UTF-8 text."),
            ("MQTT-Response-Topic" = String, description = "Percent-encoded."),
            ("MQTT-Correlation-Data" = String, description = "In base64."),
            ("MQTT-User-Property" = String, description = "Name, `=` and value, each percent-encoded; once for each."),
        )),
        (status = 304, description = "It is the one that is known."),
        (status = 404, description = "Nothing is retained on this topic.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not answered.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = &*visit.core;
    let (parts, _) = request.into_parts();
    let topic = topic_of(&parts.uri)?;
    let mut query = Query::parse(parts.uri.query())?;
    let caller = Caller::of(core, &mut query, &parts.headers)?;
    query.finish()?;
    let client = caller.let_in(core, &connection).await?;
    let name = TopicName::new(&topic)
        .map_err(|error| Problem::invalid(Reason::TopicNameInvalid, sentence(&error)))?;
    let filter = TopicFilter::new(name.as_str())
        .map_err(|error| Problem::invalid(Reason::TopicNameInvalid, sentence(&error)))?;
    may_read(core, &client, &filter)?;
    let found = match filter.share_name() {
        // Nobody subscribes to such a topic, so nobody reads it.
        Some(_) => None,
        None => core.bus.retained(&filter).pop(),
    };
    let stored = found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "nothing-retained",
            "Nothing is retained here",
            "There is no retained message on this topic.",
        )
    })?;
    shown(core, &stored, &parts.headers)
}

/// Retain a message on a topic.
///
/// It is published there, so subscribers receive it, too. The body is the payload and is not empty.
#[utoipa::path(
    put,
    path = "/api/v1/retained/{topic}",
    operation_id = "putRetained",
    tag = "retained",
    params(
        ("topic" = String, Path, description = "The topic, percent-encoded; `/` stays as it is."),
        ("client_id" = Option<String>, Query, description = "Who publishes; `tidegate-http` if it is left out."),
        ("qos" = Option<u8>, Query, description = "0, 1 or 2; 1 if it is left out.", minimum = 0, maximum = 2),
        ("message_expiry_interval" = Option<u32>, Query, description = "Seconds after which it is forgotten."),
        ("content_type" = Option<String>, Query, description = "Its content type, in place of the header's."),
        ("response_topic" = Option<String>, Query, description = "Where an answer is expected."),
        ("correlation_data" = Option<String>, Query, description = "What an answer has to carry, in base64."),
        ("payload_format_indicator" = Option<u8>, Query, description = "1 if it is UTF-8 text.", minimum = 0, maximum = 1),
        ("user_property" = Option<Vec<String>>, Query, description = "`name=value`; may be repeated."),
    ),
    request_body(content(([u8] = "*/*"))),
    responses(
        (status = 200, description = "It is retained, and kept.", body = Outcome),
        (status = "4XX", description = "Refused; nothing was published.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not acknowledged.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = &*visit.core;
    let (parts, body) = request.into_parts();
    check_unconditional(&parts.headers)?;
    let topic = topic_of(&parts.uri)?;
    let mut query = Query::parse(parts.uri.query())?;
    let caller = Caller::of(core, &mut query, &parts.headers)?;
    let client = caller.let_in(core, &connection).await?;
    let body = body::read(core, &parts.headers, body, 1).await?;
    if body.bytes.is_empty() {
        return Err(Problem::invalid(
            Reason::MalformedPacket,
            "An empty message retains nothing (MQTT-3.3.1-6). To clear the topic use DELETE.",
        ));
    }
    let draft = Draft::raw(topic, &body.bytes, &mut query, &parts.headers)?.retained();
    query.finish()?;
    draft.check_size(core.settings.max_packet_bytes)?;
    let verdict = accept_one(core, &client, draft).await?;
    Ok(Json(verdict.outcome(StatusCode::OK)).into_response())
}

/// Forget what is retained on a topic.
///
/// An empty message is published there, which subscribers receive.
#[utoipa::path(
    delete,
    path = "/api/v1/retained/{topic}",
    operation_id = "deleteRetained",
    tag = "retained",
    params(
        ("topic" = String, Path, description = "The topic, percent-encoded; `/` stays as it is."),
        ("client_id" = Option<String>, Query, description = "Who publishes; `tidegate-http` if it is left out."),
        ("qos" = Option<u8>, Query, description = "0, 1 or 2; 1 if it is left out.", minimum = 0, maximum = 2),
    ),
    responses(
        (status = 204, description = "Nothing is retained there now, and that is kept."),
        (status = "4XX", description = "Refused; nothing was published.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not acknowledged.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = &*visit.core;
    let (parts, _) = request.into_parts();
    check_unconditional(&parts.headers)?;
    let topic = topic_of(&parts.uri)?;
    let mut query = Query::parse(parts.uri.query())?;
    let caller = Caller::of(core, &mut query, &parts.headers)?;
    let draft = Draft::clearing(topic, &mut query)?;
    query.finish()?;
    let client = caller.let_in(core, &connection).await?;
    accept_one(core, &client, draft).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// List what is retained.
///
/// In the order of the topics' bytes. A page ends after `limit` messages or about 1 MiB of them.
#[utoipa::path(
    get,
    path = "/api/v1/retained",
    operation_id = "listRetained",
    tag = "retained",
    params(
        ("filter" = Option<String>, Query, description = "A topic filter, not a shared one; `#` if it is left out."),
        ("after" = Option<String>, Query, description = "The topic behind which the page begins: `next` of the page before."),
        ("limit" = Option<usize>, Query, description = "1 to 1,000; 100 if it is left out.", minimum = 1, maximum = 1000),
        ("client_id" = Option<String>, Query, description = "Who asks; `tidegate-http` if it is left out."),
    ),
    responses(
        (status = 200, description = "A page.", body = PageSchema),
        (status = "4XX", description = "Refused.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not answered.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = &*visit.core;
    let (parts, _) = request.into_parts();
    let mut query = Query::parse(parts.uri.query())?;
    let caller = Caller::of(core, &mut query, &parts.headers)?;
    let filter = query.topics("filter")?;
    let after = query.text("after")?;
    let limit = query.number("limit")?.unwrap_or(USUAL);
    query.finish()?;
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::malformed(format!("limit is 1 to {MOST}.")));
    }
    let filter = match filter.as_slice() {
        [] => "#",
        [one] => one,
        _ => return Err(Problem::malformed("There is one filter at the most.")),
    };
    let client = caller.let_in(core, &connection).await?;
    let invalid = |text: String| Problem::invalid(Reason::TopicFilterInvalid, text);
    let filter = TopicFilter::new(filter).map_err(|error| invalid(sentence(&error)))?;
    if filter.share_name().is_some() {
        let text = "A shared subscription receives no retained messages (MQTT 5.0 section 4.8.2).";
        return Err(invalid(text.to_owned()));
    }
    may_read(core, &client, &filter)?;
    // One more, to know whether there is one.
    let found = core.bus.retained_page(&filter, after.as_deref(), limit + 1);
    let mut bytes = 0;
    let page = found.iter().take(limit).take_while(|message| {
        let fits = bytes == 0 || bytes + message.size() <= PAGE_BYTES;
        bytes += message.size();
        fits
    });
    let page: Vec<Message<'_>> = page.map(|message| message.as_message()).collect();
    let more = page.len() < found.len();
    let now = core.bus.now();
    let next = page.last().filter(|_| more).map(|m| m.topic.as_str());
    let messages = page.iter().map(|message| received(message, now)).collect();
    let mut response = as_json(core, &Page { messages, next })?;
    no_store(&mut response);
    Ok(response)
}

fn received<'a>(message: &'a Message<'a>, now: Timestamp) -> Received<'a> {
    Received {
        message,
        qos: message.qos,
        retain: true,
        duplicate: false,
        expires_in: message.expires_at.map(|at| at.seconds_left(now)),
    }
}

fn may_read(core: &Core, client: &ClientId, filter: &TopicFilter) -> Result<(), Problem> {
    let settings = core.bus.settings();
    if filter.as_str().len() > settings.max_topic_bytes
        || filter.levels().count() > settings.max_topic_levels
    {
        return Err(Refused::from(tidegate_bus::SubscribeRefusal::TopicFilterInvalid).into());
    }
    let decided = core.bus.access().subscribe(client, filter, QoS::AtMostOnce);
    decided.map_err(|_| Refused::from(SubscribeDenied).into())
}

/// The topic that the path names.
fn topic_of(uri: &Uri) -> Result<String, Problem> {
    decode(uri.path().strip_prefix(PREFIX).unwrap_or_default())
}

/// A change that is to happen on a condition would have to be refused when the condition does not hold, and nobody
/// here can tell in time.
fn check_unconditional(headers: &HeaderMap) -> Result<(), Problem> {
    let conditions = [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_UNMODIFIED_SINCE,
    ];
    if conditions.iter().any(|name| headers.contains_key(name)) {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "conditional-change",
            "Changes on a condition are not supported",
            "What is retained cannot be changed on a condition; leave If-Match, If-None-Match and \
             If-Unmodified-Since out.",
        ));
    }
    Ok(())
}

fn shown(
    core: &Core,
    stored: &Arc<StoredMessage>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let now = core.bus.now();
    let wants_json = wants_json(headers);
    let tag = tag(&stored.as_message(), wants_json);
    let mut response = if is_known(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if wants_json {
        as_json(core, &received(&stored.as_message(), now))?
    } else {
        payload(core, stored, now)?
    };
    if let Ok(value) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().append(header::VARY, vary);
    no_store(&mut response);
    Ok(response)
}

fn as_json(core: &Core, document: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(document).map_err(|_| {
        // Every message can be written as JSON.
        Problem::with_reason(
            StatusCode::INTERNAL_SERVER_ERROR,
            Reason::UnspecifiedError,
            "The answer cannot be written.",
        )
    })?;
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    Ok((content_type, body::answer(core, bytes)?).into_response())
}

/// The payload of a message that is kept, without a copy.
struct Payload(Arc<StoredMessage>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.as_message().payload
    }
}

/// What a device says may change at any time: it is asked for again each time, with its tag.
fn no_store(response: &mut Response) {
    let value = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
}

fn payload(core: &Core, stored: &Arc<StoredMessage>, now: Timestamp) -> Result<Response, Problem> {
    let body = body::answer(core, Payload(Arc::clone(stored)))?;
    let mut response = body.into_response();
    let message = stored.as_message();
    let named = Named::of(message.properties);
    let headers = response.headers_mut();
    let usual = match named.payload_is_utf8 {
        Some(true) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    // A content type is any text to MQTT; what cannot stand in a header is left out.
    let said = named.content_type.filter(|text| !text.is_empty());
    let content_type = said.and_then(|text| HeaderValue::from_str(text).ok());
    headers.insert(
        header::CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static(usual)),
    );
    headers.insert(QOS, HeaderValue::from(u16::from(message.qos as u8)));
    if let Some(at) = message.expires_at {
        headers.insert(EXPIRY, HeaderValue::from(at.seconds_left(now)));
    }
    if let Some(is_utf8) = named.payload_is_utf8 {
        headers.insert(FORMAT, HeaderValue::from(u16::from(is_utf8)));
    }
    let mut add = |name: HeaderName, value: String| {
        // All of it is ASCII.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    };
    if let Some(topic) = named.response_topic {
        add(
            RESPONSE_TOPIC,
            utf8_percent_encode(topic, PLAIN).to_string(),
        );
    }
    if let Some(data) = named.correlation_data {
        add(CORRELATION, STANDARD.encode(data));
    }
    for property in message.properties.iter() {
        if let MessageProperty::User(name, value) = property {
            let (name, value) = (
                utf8_percent_encode(name, PLAIN),
                utf8_percent_encode(value, PLAIN),
            );
            add(USER, format!("{name}={value}"));
        }
    }
    Ok(response)
}

/// A tag that changes with the message and with the form that it is shown in.
fn tag(message: &Message<'_>, is_json: bool) -> String {
    let mut hasher = DefaultHasher::new();
    message.payload.hash(&mut hasher);
    message.properties.as_bytes().hash(&mut hasher);
    (message.qos as u8, message.expires_at, is_json).hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// RFC 9110 section 13.1.2.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().trim_start_matches("W/"));
    known.any(|value| value == "*" || value == tag)
}

fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim());
    ranges.any(|range| range.eq_ignore_ascii_case("application/json"))
}
