//! What requests come to on the bus: the topics are the resources under `/ps/`.
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
use std::time::Instant;

use tidegate_bus::{
    ClientId, Message, MessageProperty, PropertiesBuilder, PublishRefusal, QoS, StoredMessage,
    Ticket, TopicFilter, TopicName, Worker,
};

use crate::answers::Exchange;
use crate::client_session::{Seat, Wait};
use crate::codec::{Block, Code, Kind};
use crate::format;
use crate::identity::{Login, denied};
use crate::outgoing::Outgoing;
use crate::request::{Request, Target};
use crate::response::{Body, Response, Tag};
use crate::server::Server;
use crate::transfers::Step;

/// The user property that a Content-Format travels in which has no content type that this version knows.
pub(crate) const FORMAT: &str = "coap-content-format";

/// What there is (RFC 6690).
const LINKS: &str =
    "</ps>;rt=\"tidegate.ps\";obs;title=\"Topics: PUT and POST publish, GET reads and observes\"";

/// Seconds a client that was refused for want of room waits.
const RETRY_AFTER: u32 = 30;

impl Server {
    /// Who asks; otherwise whom to ask, or how the request is refused.
    pub(crate) fn log_in(
        &self,
        request: &Request<'_>,
        from: std::net::SocketAddr,
        now: Instant,
    ) -> Result<ClientId, Result<Login, Response>> {
        match self.identities.find(&request.query, from, now) {
            Some(Ok(client)) => Ok(client),
            Some(Err(denial)) => Err(Err(denied(denial))),
            None => {
                let longest = self.settings.max_client_id_bytes;
                let proved = self.sessions.proved(from);
                Err(Login::of(&request.query, from, proved, longest))
            }
        }
    }

    /// Does what a request asks for. What is given back is waited for, and the request served again then.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is used; a struct of them would live for one call"
    )]
    pub(crate) fn handle(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) -> Option<Wait> {
        let response = match (&request.target, request.code) {
            (Target::Links, Code::GET) => links(request),
            (Target::Topic, Code::GET) => {
                return self.get(exchange, request, topic, client, now, out);
            }
            (Target::Topic, Code::PUT | Code::POST) => {
                self.put(worker, exchange, request, topic, client, now, out);
                return None;
            }
            (Target::Topic, Code::DELETE) => {
                let published = self.publish(worker, exchange, request, topic, client, &[], true);
                match published {
                    Ok(ticket) => {
                        let done = Response::new(Code::DELETED);
                        self.answer_after(exchange, done, ticket, now, out);
                    }
                    Err(refusal) => self.answer(exchange, refusal, now, out),
                }
                return None;
            }
            (Target::Topic, _) => Response::refusal(
                Code::METHOD_NOT_ALLOWED,
                "a topic has GET, PUT, POST and DELETE",
            ),
            (Target::Links, _) => {
                Response::refusal(Code::METHOD_NOT_ALLOWED, "what there is can only be read")
            }
        };
        self.answer(exchange, response, now, out);
        None
    }

    // ---- publishing -------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn put(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) {
        let Some(block) = request.block1 else {
            if request.payload.len() > self.settings.max_body_bytes {
                return self.answer(exchange, self.too_large(), now, out);
            }
            return self.put_whole(
                worker,
                exchange,
                request,
                topic,
                client,
                request.payload,
                now,
                out,
            );
        };
        let which = self.which(request, topic, client);
        let remote = exchange.path.remote;
        let step = self
            .transfers
            .add(remote, which, block, request.payload, request.size1, now);
        let refusal = match step {
            Step::Whole(body) => {
                return self.put_whole(worker, exchange, request, topic, client, &body, now, out);
            }
            Step::Continue => Response {
                // Smaller ones when this is what the operator wants (RFC 7959 section 2.3).
                block1: Some(Block {
                    szx: block.szx.min(Block::szx_within(self.settings.block_bytes)),
                    ..block
                }),
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
            Step::TooLarge => self.too_large(),
            Step::TooMany => Response::later(
                Code::TOO_MANY_REQUESTS,
                RETRY_AFTER,
                "as many bodies of this endpoint are under way as may be",
            ),
            Step::Full => {
                self.metrics.full.add(1);
                let why = "as many bodies are under way as may be";
                Response::later(Code::SERVICE_UNAVAILABLE, RETRY_AFTER, why)
            }
        };
        self.answer(exchange, refusal, now, out);
    }

    fn too_large(&self) -> Response {
        Response {
            size1: u32::try_from(self.settings.max_body_bytes).ok(),
            ..Response::refusal(
                Code::REQUEST_ENTITY_TOO_LARGE,
                "the body is larger than it may be",
            )
        }
    }

    /// What tells a body that comes in blocks from others of the same endpoint: the resource, what travels with it and
    /// Request-Tag (RFC 9175 section 3.3).
    fn which(&self, request: &Request<'_>, topic: &str, client: &ClientId) -> u64 {
        let mut hasher = self.transfers_hasher().build_hasher();
        (request.code, topic, client.as_str()).hash(&mut hasher);
        (
            request.content_format,
            request.query.qos.map(|qos| qos as u8),
        )
            .hash(&mut hasher);
        (request.query.retain, request.query.expiry, &request.tags).hash(&mut hasher);
        hasher.finish()
    }

    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn put_whole(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        body: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) {
        let retain = request.query.retain;
        let published = self.publish(worker, exchange, request, topic, client, body, retain);
        let (mut response, ticket) = match published {
            Ok(ticket) => (Response::new(Code::CHANGED), ticket),
            Err(refusal) => (refusal, Ticket::ready()),
        };
        response.block1 = request.block1;
        self.answer_after(exchange, response, ticket, now, out);
    }

    /// Publishes. What is asked for in a confirmable message has QoS 1 unless it says otherwise.
    #[expect(clippy::too_many_arguments, reason = "as above")]
    fn publish(
        &mut self,
        worker: &mut Worker,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        payload: &[u8],
        retain: bool,
    ) -> Result<Ticket, Response> {
        let bad = |why: String| Response::refusal(Code::BAD_REQUEST, why);
        let topic = TopicName::new(topic).map_err(|error| bad(error.to_string()))?;
        let mut properties = PropertiesBuilder::new();
        if let Some(number) = request.content_format {
            let pushed = match format::content_type(number) {
                Some(name) => properties.push(MessageProperty::ContentType(name)),
                None => properties.push(MessageProperty::User(FORMAT, &number.to_string())),
            };
            pushed.map_err(|error| bad(error.to_string()))?;
        }
        let default = match exchange.kind {
            Kind::Confirmable => QoS::AtLeastOnce,
            _ => QoS::AtMostOnce,
        };
        let expiry = request.query.expiry.map(u64::from);
        let mut message = Message::new(topic, payload);
        message.properties = properties.as_properties();
        message.qos = request.query.qos.unwrap_or(default);
        message.retain = retain;
        message.expires_at = expiry.map(|seconds| worker.now().plus_seconds(seconds));
        let qos = message.qos;
        let published = self.bus.publish_for(worker, client, message);
        let published = published.map(|published| self.bus.serve_all(worker, published));
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

    // ---- reading ----------------------------------------------------------------------------

    fn get(
        &mut self,
        exchange: &Exchange,
        request: &Request<'_>,
        topic: &str,
        client: &ClientId,
        now: Instant,
        out: &mut Outgoing,
    ) -> Option<Wait> {
        let settings = self.bus.settings();
        let filter = TopicFilter::new(topic)
            .map_err(|error| Response::refusal(Code::BAD_REQUEST, error.to_string()))
            .and_then(|filter| {
                let text = filter.as_str();
                let fits = text.len() <= settings.max_topic_bytes
                    && filter.levels().count() <= settings.max_topic_levels;
                let why = "the topic is longer or deeper than it may be";
                if fits {
                    Ok(filter)
                } else {
                    Err(Response::refusal(Code::BAD_REQUEST, why))
                }
            });
        let filter = match filter {
            Ok(filter) => filter,
            Err(refusal) => {
                self.answer(exchange, refusal, now, out);
                return None;
            }
        };
        if request.query.session_expiry.is_some() && !self.is_named(request, exchange.path.remote) {
            let why = "a session that is kept has a name: session_expiry needs c";
            self.answer(
                exchange,
                Response::refusal(Code::BAD_REQUEST, why),
                now,
                out,
            );
            return None;
        }
        // Who asks for a session asks for what is kept in it.
        let usual = match request.query.session_expiry {
            Some(_) => QoS::AtLeastOnce,
            None => QoS::AtMostOnce,
        };
        let qos = request.query.qos.unwrap_or(usual);
        if self.bus.access().subscribe(client, &filter, qos).is_err() {
            let why = "the client may not read this topic";
            self.answer(exchange, Response::refusal(Code::FORBIDDEN, why), now, out);
            return None;
        }
        // The rest of a notification is fetched without Observe (RFC 7959 section 3.3).
        let is_first = request.block2.is_none_or(|block| block.num == 0);
        match request.observe {
            Some(0) if is_first => {
                let remote = exchange.path.remote;
                let session = match self.seat(request, &filter, client, remote, qos, now) {
                    Seat::Bus => None,
                    Seat::Session(place) => Some(place),
                    Seat::Wait(wait) => return Some(wait),
                    Seat::Refused(refusal) => {
                        self.answer(exchange, refusal, now, out);
                        return None;
                    }
                };
                self.observe(exchange, request, &filter, qos, session, now, out);
            }
            Some(1) => {
                self.deregister(exchange, now);
                let response = self.read(exchange, request, &filter);
                self.answer(exchange, response, now, out);
            }
            _ => {
                let response = self.read(exchange, request, &filter);
                self.answer(exchange, response, now, out);
                self.fetched(exchange, &filter, now, out);
            }
        }
        None
    }

    /// The value of a topic, or what an observer was notified of last.
    pub(crate) fn read(
        &self,
        exchange: &Exchange,
        request: &Request<'_>,
        filter: &TopicFilter,
    ) -> Response {
        let notified = self.notified(exchange.path.remote, filter, request);
        if filter.has_wildcard() || filter.share_name().is_some() {
            return match notified {
                Some(message) => self.content(request, &message, true),
                None => Response::refusal(
                    Code::BAD_REQUEST,
                    "topics with wildcards are observed, not read",
                ),
            };
        }
        let retained = || self.bus.retained(filter).into_iter().next();
        match notified.or_else(retained) {
            Some(message) => self.content(request, &message, false),
            None => Response::new(Code::CONTENT),
        }
    }

    /// A message as what a request gets.
    pub(crate) fn content(
        &self,
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
        response.max_age = self
            .max_age(message)
            .filter(|seconds| *seconds < DEFAULT_MAX_AGE);
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
    pub(crate) fn max_age(&self, message: &StoredMessage) -> Option<u32> {
        message
            .expires_at()
            .map(|at| at.seconds_left(self.bus.now()))
    }
}

/// Seconds that a response without Max-Age is fresh (RFC 7252 section 5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

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
fn links(request: &Request<'_>) -> Response {
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

/// A subscription's identifier is of no use here.
pub(crate) const NO_IDENTIFIER: Option<NonZeroU32> = None;
