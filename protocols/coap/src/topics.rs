//! What requests come to on the bus, whatever carries them: the topics are the resources under `/ps/`.
//!
//! | request | on the bus |
//! |---|---|
//! | PUT, POST | publishes; 2.04 when everybody has it who must, as a PUBACK |
//! | DELETE | publishes an empty retained message, which clears the topic; 2.02 |
//! | GET | reads the retained message; 2.05, empty when there is none |
//! | GET with Observe | subscribes; `+` and `#` are wildcards |

use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate_bus::{
    Bus, ClientId, Message, MessageProperty, PropertiesBuilder, PublishRefusal, QoS, StoredMessage,
    Ticket, TopicFilter, TopicName, Worker,
};

use crate::codec::{Block, Code};
use crate::format;
use crate::metrics::Metrics;
use crate::request::Request;
use crate::response::{Body, Response, Tag};
use crate::settings::Settings;
use crate::transfers::Step;

/// The user property that a Content-Format travels in which has no content type that this version knows.
pub(crate) const FORMAT: &str = "coap-content-format";

/// A subscription's identifier is of no use here.
pub(crate) const NO_IDENTIFIER: Option<NonZeroU32> = None;

/// What there is (RFC 6690).
const LINKS: &str =
    "</ps>;rt=\"tidegate.ps\";obs;title=\"Topics: PUT and POST publish, GET reads and observes\"";

/// Seconds a client that was refused for want of room waits.
const RETRY_AFTER: u32 = 30;

/// Seconds that a response without Max-Age is fresh (RFC 7252 section 5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

/// Seconds for which a value is fresh that does not expire: until the next notification, and 194 days at most.
pub(crate) const FOR_EVER: u32 = 0xFF_FFFF;

/// Who asks for a session that is kept says who it is.
pub(crate) fn session_needs_name() -> Response {
    let why = "a session that is kept has a name: session_expiry needs c";
    Response::refusal(Code::BAD_REQUEST, why)
}

/// The QoS that is observed with. Who asks for a session asks for what is kept in it.
pub(crate) fn observed_qos(request: &Request<'_>) -> QoS {
    let usual = match request.query.session_expiry {
        Some(_) => QoS::AtLeastOnce,
        None => QoS::AtMostOnce,
    };
    request.query.qos.unwrap_or(usual)
}

// ---- publishing -----------------------------------------------------------------------------

/// What a request publishes.
pub(crate) struct Publish<'a, 'r> {
    pub(crate) request: &'a Request<'r>,
    pub(crate) topic: &'a str,
    pub(crate) client: &'a ClientId,
    pub(crate) payload: &'a [u8],
    pub(crate) retain: bool,
    /// Unless the request says otherwise.
    pub(crate) qos: QoS,
}

/// Publishes. `Err`: how the request is refused.
pub(crate) fn publish(
    bus: &Arc<Bus>,
    worker: &mut Worker,
    publish: &Publish<'_, '_>,
) -> Result<Ticket, Response> {
    let Publish {
        request, client, ..
    } = publish;
    let bad = |why: String| Response::refusal(Code::BAD_REQUEST, why);
    let topic = TopicName::new(publish.topic).map_err(|error| bad(error.to_string()))?;
    let mut properties = PropertiesBuilder::new();
    if let Some(number) = request.content_format {
        let pushed = match format::content_type(number) {
            Some(name) => properties.push(MessageProperty::ContentType(name)),
            None => properties.push(MessageProperty::User(FORMAT, &number.to_string())),
        };
        pushed.map_err(|error| bad(error.to_string()))?;
    }
    let expiry = request.query.expiry.map(u64::from);
    let mut message = Message::new(topic, publish.payload);
    message.properties = properties.as_properties();
    message.qos = request.query.qos.unwrap_or(publish.qos);
    message.retain = publish.retain;
    message.expires_at = expiry.map(|seconds| worker.now().plus_seconds(seconds));
    let qos = message.qos;
    let published = bus.publish_for(worker, client, message);
    let published = published.map(|published| bus.serve_all(worker, published));
    // At QoS 0 nothing is promised.
    let promised = |ticket| {
        if qos.is_acknowledged() {
            ticket
        } else {
            Ticket::ready()
        }
    };
    published.map(promised).map_err(|refusal| match refusal {
        PublishRefusal::NotAuthorized => {
            Response::refusal(Code::FORBIDDEN, "the client may not publish to this topic")
        }
        PublishRefusal::TopicNameInvalid => Response::refusal(
            Code::BAD_REQUEST,
            "the topic is longer or deeper than it may be",
        ),
        PublishRefusal::QuotaExceeded => Response::later(
            Code::SERVICE_UNAVAILABLE,
            RETRY_AFTER,
            "as much is retained as may be",
        ),
        _ => Response::later(
            Code::SERVICE_UNAVAILABLE,
            RETRY_AFTER,
            "the message cannot be kept now",
        ),
    })
}

/// What is answered when the engine could not keep a publish.
pub(crate) fn not_kept(response: &Response) -> Response {
    Response {
        block1: response.block1,
        ..Response::later(
            Code::SERVICE_UNAVAILABLE,
            RETRY_AFTER,
            "the message could not be kept",
        )
    }
}

// ---- bodies in blocks -----------------------------------------------------------------------

/// What tells a body that comes in blocks from others of the same endpoint: the resource, what travels with it and
/// Request-Tag (RFC 9175 section 3.3). `hasher` is such that nobody outside can make two of them the same.
pub(crate) fn which(
    hasher: &impl BuildHasher,
    request: &Request<'_>,
    topic: &str,
    client: &ClientId,
) -> u64 {
    let mut hasher = hasher.build_hasher();
    (request.code, topic, client.as_str()).hash(&mut hasher);
    (
        request.content_format,
        request.query.qos.map(|qos| qos as u8),
    )
        .hash(&mut hasher);
    (request.query.retain, request.query.expiry, &request.tags).hash(&mut hasher);
    hasher.finish()
}

/// What a part of a body came to: all of the body, or what is answered.
pub(crate) fn whole(
    step: Step,
    block: Block,
    settings: &Settings,
    metrics: &Metrics,
) -> Result<Vec<u8>, Response> {
    Err(match step {
        Step::Whole(body) => return Ok(body),
        Step::Continue => Response {
            block1: Some(block),
            ..Response::new(Code::CONTINUE)
        },
        Step::Incomplete => Response::refusal(
            Code::REQUEST_ENTITY_INCOMPLETE,
            "the blocks before this one are not here: begin with block 0",
        ),
        Step::Size => Response::refusal(
            Code::BAD_REQUEST,
            "a block has the size that it says, the last one at most",
        ),
        Step::TooLarge => too_large(settings),
        Step::TooMany => Response::later(
            Code::TOO_MANY_REQUESTS,
            RETRY_AFTER,
            "as many bodies of this endpoint are under way as may be",
        ),
        Step::Full => {
            metrics.full.add(1);
            let why = "as many bodies are under way as may be";
            Response::later(Code::SERVICE_UNAVAILABLE, RETRY_AFTER, why)
        }
    })
}

pub(crate) fn too_large(settings: &Settings) -> Response {
    Response {
        size1: u32::try_from(settings.max_body_bytes).ok(),
        ..Response::refusal(
            Code::REQUEST_ENTITY_TOO_LARGE,
            "the body is larger than it may be",
        )
    }
}

// ---- reading --------------------------------------------------------------------------------

/// What a GET is about, if the client may read it.
pub(crate) fn filter(
    bus: &Bus,
    topic: &str,
    client: &ClientId,
    qos: QoS,
) -> Result<TopicFilter, Response> {
    let settings = bus.settings();
    let filter = TopicFilter::new(topic)
        .map_err(|error| Response::refusal(Code::BAD_REQUEST, error.to_string()))?;
    let fits = filter.as_str().len() <= settings.max_topic_bytes
        && filter.levels().count() <= settings.max_topic_levels;
    if !fits {
        let why = "the topic is longer or deeper than it may be";
        return Err(Response::refusal(Code::BAD_REQUEST, why));
    }
    if bus.access().subscribe(client, &filter, qos).is_err() {
        let why = "the client may not read this topic";
        return Err(Response::refusal(Code::FORBIDDEN, why));
    }
    Ok(filter)
}

/// The value of a topic, or what an observer was notified of last.
pub(crate) fn read(
    bus: &Bus,
    request: &Request<'_>,
    filter: &TopicFilter,
    notified: Option<Arc<StoredMessage>>,
) -> Response {
    if filter.has_wildcard() || filter.share_name().is_some() {
        return match notified {
            Some(message) => content(bus, request, &message, true),
            None => Response::refusal(
                Code::BAD_REQUEST,
                "topics with wildcards are observed, not read",
            ),
        };
    }
    let retained = || bus.retained(filter).into_iter().next();
    match notified.or_else(retained) {
        Some(message) => content(bus, request, &message, false),
        None => Response::new(Code::CONTENT),
    }
}

/// The value of a topic as an observer begins with it: a topic without one has an empty one.
pub(crate) fn first_value(bus: &Bus, request: &Request<'_>, filter: &TopicFilter) -> Response {
    let retained = match filter.share_name() {
        None => bus.retained(filter).into_iter().next(),
        // MQTT 5.0 section 4.8.2
        Some(_) => None,
    };
    let Some(message) = retained else {
        return Response::new(Code::CONTENT);
    };
    let mut response = content(bus, request, &message, false);
    if response.code.is_success() {
        // It is fresh until the next notification, and not only for a minute.
        response.max_age = max_age(bus, &message);
    }
    response
}

/// A message as what a request gets.
fn content(
    bus: &Bus,
    request: &Request<'_>,
    message: &Arc<StoredMessage>,
    names_topic: bool,
) -> Response {
    let mut response = Response::content(message);
    let other = response
        .content_format
        .filter(|format| request.accept.is_some_and(|a| a != *format));
    if other.is_some() {
        let why = "the value has another content format";
        return Response::refusal(Code::NOT_ACCEPTABLE, why);
    }
    response.names_topic = names_topic;
    response.max_age = max_age(bus, message).filter(|seconds| *seconds < DEFAULT_MAX_AGE);
    let etag = tag(message);
    response.etag = Some(etag);
    if request.etags.contains(&&etag[..]) {
        response.code = Code::VALID;
        response.body = Body::Empty;
        response.content_format = None;
    }
    let beyond = |block: Block| block.num > 0 && block.start() >= response.body_len();
    if request.block2.is_some_and(beyond) {
        return Response::refusal(Code::BAD_REQUEST, "the block is beyond the end of the body");
    }
    response
}

/// Seconds until the message expires.
pub(crate) fn max_age(bus: &Bus, message: &StoredMessage) -> Option<u32> {
    message.expires_at().map(|at| at.seconds_left(bus.now()))
}

/// What tells this value of a topic from others.
pub(crate) fn tag(message: &StoredMessage) -> Tag {
    let view = message.as_message();
    let hash = foldhash::quality::FixedState::default().hash_one((
        view.topic.as_str(),
        view.properties.as_bytes(),
        view.payload,
    ));
    (hash as u32).to_be_bytes()
}

/// `/.well-known/core`, filtered (RFC 6690 section 4.1).
pub(crate) fn links(request: &Request<'_>) -> Response {
    let matches = request.query.link.is_none_or(|(key, value)| {
        let (prefix, exact) = match value.strip_suffix('*') {
            Some(prefix) => (prefix, false),
            None => (value, true),
        };
        let ours = match key {
            "rt" => "tidegate.ps",
            "href" => "/ps",
            "obs" => "",
            _ => return false,
        };
        if exact {
            ours == prefix
        } else {
            ours.starts_with(prefix)
        }
    });
    Response::links(if matches { LINKS } else { "" })
}

/// How a request is refused that no topic, and nothing else here, has.
pub(crate) fn no_such_method(is_topic: bool) -> Response {
    let why = if is_topic {
        "a topic has GET, PUT, POST and DELETE"
    } else {
        "what there is can only be read"
    };
    Response::refusal(Code::METHOD_NOT_ALLOWED, why)
}
