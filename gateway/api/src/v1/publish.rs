//! `POST /api/v1/publish`: one message or a list, as JSON, or one as a raw body.
//!
//! A request is answered when a PUBACK would be sent: after the ticket of everything that must outlive the
//! process. All of a list is checked before any of it is published; then its messages are published in their
//! order and their tickets awaited together, so that the engine syncs once for all of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_bus::{Bus, ClientId, FanOut, Progress, Published, Ticket};
use utoipa::ToSchema;

use super::body;
use super::caller::{Caller, sentence};
use super::core::{Core, Visit};
use super::draft::{Draft, Publication};
use super::problem::{Document, Problem};
use super::query::Query;
use super::reason::{Reason, Refused};
use crate::connection::Connection;

/// Most messages of a list.
const MOST: usize = 1_000;

/// Messages that are published in one batch of the bus; then others have their turn.
const BATCH: usize = 64;

/// What became of one message.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Outcome {
    /// The status that this message alone would have been answered with.
    status: u16,
    /// The reason code that MQTT 5.0 has for it: 0 accepted, 16 accepted and nobody subscribes to its topic, 128 and
    /// more refused.
    reason_code: u8,
    /// The name of that code.
    reason: &'static str,
}

/// What became of the messages of a list, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outcomes {
    results: Vec<Outcome>,
}

/// One message or a list of them.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it is described, not made: an untagged one says nothing of what is wrong"
)]
pub(crate) enum OneOrMany<'a> {
    /// One message.
    One(#[serde(borrow)] Publication<'a>),
    /// A list, at most 1,000.
    Many(#[serde(borrow)] Vec<Publication<'a>>),
}

/// Whether a message was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Accepted { matched: bool },
    Refused(Refused),
}

impl Verdict {
    /// The outcome of this message, with the status of those that are accepted.
    pub(crate) const fn outcome(self, accepted: StatusCode) -> Outcome {
        let (status, reason) = match self {
            Self::Accepted { matched: true } => (accepted, Reason::Success),
            Self::Accepted { matched: false } => (accepted, Reason::NoMatchingSubscribers),
            Self::Refused(refused) => (refused.status, refused.reason),
        };
        Outcome {
            status: status.as_u16(),
            reason_code: reason.code(),
            reason: reason.name(),
        }
    }

    pub(crate) const fn refused(self) -> Option<Refused> {
        match self {
            Self::Accepted { .. } => None,
            Self::Refused(refused) => Some(refused),
        }
    }
}

/// Publish.
///
/// With `topic` in the query the body is the payload, whatever it is, and its Content-Type is that of the message.
/// Otherwise the body is JSON: one message or a list of them.
#[utoipa::path(
    post,
    path = "/api/v1/publish",
    operation_id = "publish",
    tag = "messages",
    params(
        ("client_id" = Option<String>, Query, description = "Who publishes; `tidegate-http` if it is left out."),
        ("topic" = Option<String>, Query, description = "The topic of a raw body."),
        ("qos" = Option<u8>, Query, description = "Of a raw body: 0, 1 or 2; 1 if it is left out.", minimum = 0, maximum = 2),
        ("retain" = Option<bool>, Query, description = "Of a raw body: whether it is retained."),
        ("message_expiry_interval" = Option<u32>, Query, description = "Of a raw body: seconds after which it is no longer worth delivering."),
        ("content_type" = Option<String>, Query, description = "Of a raw body: its content type, in place of the header's."),
        ("response_topic" = Option<String>, Query, description = "Of a raw body: where an answer is expected."),
        ("correlation_data" = Option<String>, Query, description = "Of a raw body: what an answer has to carry, in base64."),
        ("payload_format_indicator" = Option<u8>, Query, description = "Of a raw body: 1 if it is UTF-8 text.", minimum = 0, maximum = 1),
        ("user_property" = Option<Vec<String>>, Query, description = "Of a raw body: `name=value`; may be repeated."),
    ),
    request_body(
        content(
            (OneOrMany<'_> = "application/json"),
            ([u8] = "*/*"),
        ),
    ),
    responses(
        (status = 202, description = "All were accepted, and what must be kept is kept.", content((Outcome = "application/json"))),
        (status = 207, description = "Of a list, some were accepted.", body = Outcomes),
        (status = "4XX", description = "Refused; nothing was published, or nothing was accepted.", body = Document<'_>, content_type = "application/problem+json"),
        (status = "5XX", description = "Not acknowledged.", body = Document<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn publish(
    State(_): State<super::core::Api>,
    visit: Visit,
    Extension(connection): Extension<Arc<Connection>>,
    request: Request,
) -> Result<Response, Problem> {
    let core = &*visit.core;
    let (parts, body) = request.into_parts();
    let mut query = Query::parse(parts.uri.query())?;
    let caller = Caller::of(core, &mut query, &parts.headers)?;
    let raw = query.has("topic");
    if !raw {
        check_json(&parts.headers)?;
    }
    let client = caller.let_in(core, &connection).await?;
    if raw {
        let body = body::read(core, &parts.headers, body, 1).await?;
        let topic = query.topic("topic")?.unwrap_or_default();
        let draft = Draft::raw(topic, &body.bytes, &mut query, &parts.headers)?;
        query.finish()?;
        return one(core, &client, draft).await;
    }
    query.finish()?;
    // What is decoded from it takes as much again.
    let body = body::read(core, &parts.headers, body, 2).await?;
    if body.bytes.trim_ascii_start().first() == Some(&b'[') {
        let publications: Vec<Publication<'_>> = json(&body.bytes)?;
        return many(core, &client, publications).await;
    }
    let draft = Draft::of(json(&body.bytes)?)?;
    one(core, &client, draft).await
}

async fn one(core: &Core, client: &ClientId, draft: Draft<'_>) -> Result<Response, Problem> {
    draft.check_size(core.settings.max_packet_bytes)?;
    let verdict = accept_one(core, client, draft).await?;
    let accepted = StatusCode::ACCEPTED;
    Ok((accepted, Json(verdict.outcome(accepted))).into_response())
}

/// Publishes one message; a verdict that is no refusal.
pub(crate) async fn accept_one(
    core: &Core,
    client: &ClientId,
    draft: Draft<'_>,
) -> Result<Verdict, Problem> {
    let mut verdicts = publish_all(core, client, &[draft]).await;
    match verdicts.pop() {
        Some(Verdict::Refused(refused)) => Err(refused.into()),
        Some(verdict) => Ok(verdict),
        // There is one for each.
        None => Err(Refused::STORE.into()),
    }
}

async fn many(
    core: &Core,
    client: &ClientId,
    publications: Vec<Publication<'_>>,
) -> Result<Response, Problem> {
    if publications.is_empty() || publications.len() > MOST {
        return Err(Problem::malformed(format!(
            "A list has 1 to {MOST} messages; this one has {}.",
            publications.len()
        )));
    }
    let mut drafts = Vec::with_capacity(publications.len());
    for (index, publication) in publications.into_iter().enumerate() {
        let draft = Draft::of(publication).and_then(|draft| {
            draft.check_size(core.settings.max_packet_bytes)?;
            Ok(draft)
        });
        drafts.push(draft.map_err(|problem| problem.about(index))?);
    }
    let verdicts = publish_all(core, client, &drafts).await;
    let accepted = StatusCode::ACCEPTED;
    let results = verdicts.iter().map(|verdict| verdict.outcome(accepted));
    let results: Vec<Outcome> = results.collect();
    let refused = verdicts.iter().filter_map(|verdict| verdict.refused());
    let count = refused.clone().count();
    let status = match { refused }.next() {
        None => accepted,
        Some(first) if count == verdicts.len() => {
            return Err(Problem::from(first).with_results(results));
        }
        Some(_) => StatusCode::MULTI_STATUS,
    };
    Ok((status, Json(Outcomes { results })).into_response())
}

/// Publishes messages in their order, waits until all that must be kept is kept, and says what became of each.
async fn publish_all(core: &Core, client: &ClientId, drafts: &[Draft<'_>]) -> Vec<Verdict> {
    let bus = &core.bus;
    let mut published: Vec<Result<(Ticket, bool), Refused>> = Vec::with_capacity(drafts.len());
    while published.len() < drafts.len() {
        let rest = publish_some(bus, client, drafts, &mut published);
        let matched = rest.is_some();
        if let Some(rest) = rest {
            let ticket = Slices::new(bus, rest).serve().await;
            published.push(Ok((ticket, matched)));
        }
        if published.len() < drafts.len() {
            tokio::task::yield_now().await;
        }
    }
    let mut verdicts = Vec::with_capacity(published.len());
    for published in published {
        let verdict = match published {
            Err(refused) => Verdict::Refused(refused),
            Ok((ticket, matched)) => {
                let kept = std::future::poll_fn(|cx| ticket.poll(cx.waker())).await;
                match kept {
                    Ok(()) => Verdict::Accepted { matched },
                    Err(error) => Verdict::Refused(error.into()),
                }
            }
        };
        match verdict {
            Verdict::Accepted { .. } => core.counters.published.add(1),
            Verdict::Refused(_) => core.counters.refused.add(1),
        }
        verdicts.push(verdict);
    }
    verdicts
}

/// One batch: as many messages as may be, or until one has more receivers than are served at once. What is left
/// of that one is given back, and has no entry yet.
fn publish_some(
    bus: &Bus,
    client: &ClientId,
    drafts: &[Draft<'_>],
    published: &mut Vec<Result<(Ticket, bool), Refused>>,
) -> Option<Box<FanOut>> {
    bus.batch(|worker| {
        for draft in drafts.iter().skip(published.len()).take(BATCH) {
            let Ok(message) = draft.message(worker.now()) else {
                // It was checked when it was read.
                published.push(Err(tidegate_bus::PublishRefusal::TopicNameInvalid.into()));
                continue;
            };
            if message.retain && !message.qos.is_acknowledged() && bus.store().accepts().is_err() {
                // MQTT answers nothing at QoS 0. Here it would be received and then not be acknowledged.
                published.push(Err(Refused::STORE));
                continue;
            }
            match bus.publish_for(worker, client, message) {
                Err(refusal) => published.push(Err(refusal.into())),
                Ok(Published {
                    ticket,
                    matched,
                    rest: None,
                }) => published.push(Ok((ticket, matched))),
                Ok(Published {
                    rest: Some(rest), ..
                }) => return Some(rest),
            }
        }
        None
    })
}

/// The rest of a large fan-out. Whoever asked for it may go: what was begun reaches everybody all the same.
struct Slices<'a> {
    bus: &'a Bus,
    rest: Option<Box<FanOut>>,
}

impl<'a> Slices<'a> {
    const fn new(bus: &'a Bus, rest: Box<FanOut>) -> Self {
        Self {
            bus,
            rest: Some(rest),
        }
    }

    /// Serves the next slice; the ticket, when it was the last.
    fn next(&mut self) -> Option<Ticket> {
        let rest = self.rest.take()?;
        match self
            .bus
            .batch(|worker| self.bus.continue_fan_out(worker, rest))
        {
            Progress::Done(ticket) => Some(ticket),
            Progress::More(more) => {
                self.rest = Some(more);
                None
            }
        }
    }

    async fn serve(mut self) -> Ticket {
        loop {
            if let Some(ticket) = self.next() {
                return ticket;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Slices<'_> {
    fn drop(&mut self) {
        while self.rest.is_some() {
            let _ = self.next();
        }
    }
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::malformed(sentence(&error)))
}

/// 415 (RFC 9110 section 15.5.16) for everything but JSON.
fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    let said = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body is not JSON",
        "Without a topic in the query the body is JSON and its Content-Type application/json. With \
         ?topic= it may be anything, and is the payload.",
    ))
}
