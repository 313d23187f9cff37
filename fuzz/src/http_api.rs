//! Messages over HTTP against what `docs/http.md` says: requests of known parts in any order, or of any bytes, by whom it
//! may be, while event streams are open.
//!
//! - Never a panic, never 500. Every error of the API is a problem with the status of the answer, and every answer carries
//!   what keeps pages of browsers out.
//! - Who is not asked under its own name, or by a page that may not, is refused, whatever else the request says.
//! - What was accepted is what the bus has, with every property, in its order; of a request that was refused it has
//!   nothing. An answer says of each message of a list what became of it.
//! - What is retained is read as it was published; an event stream brings what was retained, and then all that matches.
//!
//! What hyper makes of bytes on a socket is not looked at: a request is one as the `http` crate has it.

#![allow(clippy::expect_used, reason = "a finding is a panic")]

mod events;
mod request;
mod said;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;
use tidegate_api::{Api, ApiSettings, Health, Registry, Service};
use tidegate_bus::{
    AllowAll, Bus, Clock, Delivery, DeliveryContext, MemoryStore, Message, QoS, Settings,
    Subscriber, Subscription, SubscriptionOptions, Timestamp, TopicFilter,
};
use tidegate_origin::Gate;

use crate::input::Input;
use events::{Events, matches};
use request::{ALLOWED_HOST, ALLOWED_ORIGIN, Asked, FILTERS, LOCAL, Standing};
use said::{Said, decode, form};

/// Longer scenarios find the same, later.
const MOST_STEPS: usize = 60;

/// Event streams at once.
const MAX_STREAMS: usize = 3;

/// Runs one input.
///
/// # Panics
///
/// At a finding.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut scenario = Scenario::new();
        let mut input = Input::new(data);
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            match input.byte() {
                closed @ 240.. => {
                    let place = usize::from(closed);
                    if !scenario.streams.is_empty() {
                        scenario.streams.remove(place % scenario.streams.len());
                    }
                }
                _ => {
                    if let Some(asked) = Asked::of(&mut input) {
                        scenario.ask(&asked).await;
                    }
                }
            }
            scenario.receive();
        }
        scenario.end().await;
    });
}

/// A clock that stands still.
struct Standstill(AtomicU64);

impl Clock for Standstill {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Hears everything but topics that begin with `$`.
struct Heard {
    clock: Arc<Standstill>,
    said: Mutex<Vec<Said>>,
}

impl Subscriber for Heard {
    fn key(&self) -> u64 {
        u64::MAX
    }

    fn deliver(
        &self,
        message: &Message<'_>,
        _subscriptions: &[Arc<Subscription>],
        _context: &mut DeliveryContext<'_>,
    ) -> Delivery {
        let said = Said::of_message(message, self.clock.now());
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(said);
        Delivery::Sent { wake: false }
    }

    fn flush(&self) {}
}

struct Scenario {
    bus: Arc<Bus>,
    clock: Arc<Standstill>,
    heard: Arc<Heard>,
    service: Service,
    streams: Vec<Events>,
    retained: BTreeMap<String, Said>,
}

impl Scenario {
    fn new() -> Self {
        let clock = Arc::new(Standstill(AtomicU64::new(1_000_000_000_000)));
        let store = Arc::new(MemoryStore::new());
        let bus = Bus::new(
            Settings::default(),
            store,
            Arc::new(AllowAll),
            Arc::clone(&clock) as _,
        );
        let heard = Arc::new(Heard {
            clock: Arc::clone(&clock),
            said: Mutex::default(),
        });
        let filter = TopicFilter::new("#").expect("a filter");
        let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce);
        let subscription = Arc::new(Subscription::new(filter, options, None));
        bus.add_subscription(Arc::clone(&heard) as _, subscription);
        let api = Api::default();
        let settings = ApiSettings {
            max_streams: MAX_STREAMS,
            max_packet_bytes: 400,
            ..ApiSettings::default()
        };
        api.begin(&bus, settings);
        let health = Health::new(Duration::from_secs(10));
        health.finish_startup();
        let host = ALLOWED_HOST.parse().expect("a host");
        let origin = ALLOWED_ORIGIN.parse().expect("an origin");
        let gate = Gate::new(vec![host], vec![origin]);
        Self {
            bus,
            clock,
            heard,
            service: Service::new(health, Registry::default(), &api, gate),
            streams: Vec::new(),
            retained: BTreeMap::new(),
        }
    }

    async fn ask(&mut self, asked: &Asked) {
        let local = IpAddr::from(LOCAL);
        let responding = self.service.respond(asked.request(), local, None);
        let (parts, body) = responding.await.into_parts();
        let (status, headers) = (parts.status, &parts.headers);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{asked:?}");
        if asked.is_of_api() {
            keeps_pages_out(headers);
        }
        let is_stream = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t == "text/event-stream");
        let heard = std::mem::take(&mut *self.lock());
        if is_stream && status == StatusCode::OK && asked.method == Method::GET {
            assert!(heard.is_empty(), "{asked:?}: {heard:?}");
            return self.begins(asked, body);
        }
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        if status.is_client_error() || status.is_server_error() {
            is_problem(asked, status, headers, &body);
        }
        if asked.standing == Standing::Foreign || is_of_other_site(asked) {
            assert!(status.is_client_error(), "{status}: {asked:?}");
        } else if asked.standing == Standing::Ours && asked.uri.path() == "/livez" {
            assert!(!matches!(status.as_u16(), 403 | 421), "{status}: {asked:?}");
        }
        let accepted = accepted(asked, status, &body);
        self.hold(asked, &accepted, &heard);
        if status == StatusCode::OK && asked.method == Method::GET {
            self.reads(asked, headers, &body);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Said>> {
        let lock = self.heard.said.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// What was accepted is what the bus has.
    fn hold(&mut self, asked: &Asked, accepted: &[Said], heard: &[Said]) {
        let visible = accepted.iter().filter(|said| !said.topic.starts_with('$'));
        assert!(
            visible.eq(heard),
            "{asked:?}: {accepted:?}, and {heard:?} was heard"
        );
        for said in accepted {
            if said.retain {
                self.retained.remove(&said.topic);
                if !said.payload.is_empty() && said.expiry != Some(0) {
                    self.retained.insert(said.topic.clone(), said.clone());
                }
            }
            for stream in &mut self.streams {
                stream.published(said);
            }
        }
    }

    /// An event stream has begun.
    fn begins(&mut self, asked: &Asked, body: Body) {
        let query = asked.uri.query().unwrap_or_default();
        let filter = query.strip_prefix("filter=").map(form);
        let filter = FILTERS
            .iter()
            .find(|known| filter.as_deref() == Some(**known));
        // With more filters, or an identifier that others may have as well, it depends.
        self.streams
            .push(Events::new(body, filter.copied(), &self.retained));
        assert!(self.streams.len() <= MAX_STREAMS, "one stream too many");
    }

    fn receive(&mut self) {
        for stream in &mut self.streams {
            stream.receive();
        }
        self.streams.retain(|stream| !stream.has_ended);
    }

    /// What is retained is read as it was published.
    fn reads(&self, asked: &Asked, headers: &HeaderMap, body: &[u8]) {
        let path = asked.uri.path();
        if let Some(topic) = path.strip_prefix("/api/v1/retained/") {
            let kept = self.retained.get(&decode(topic)).expect("it is retained");
            let is_json = headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|t| t == "application/json");
            let as_json = is_json
                .then(|| serde_json::from_slice::<Value>(body).ok())
                .flatten();
            let is_document = as_json.is_some_and(|value| {
                value["topic"] == kept.topic && Said::of_json(&value).is_received_as(kept)
            });
            assert!(is_document || body == kept.payload, "{kept:?}: {body:?}");
        }
        if path == "/api/v1/retained" && asked.uri.query().is_some() {
            let page: Value = serde_json::from_slice(body).expect("a page is JSON");
            let messages = page["messages"].as_array().expect("messages").iter();
            let messages: Vec<Said> = messages.map(Said::of_json).collect();
            for said in &messages {
                let kept = self.retained.get(&said.topic).expect("it is retained");
                assert!(kept.is_received_as(said), "{kept:?}: {said:?}");
            }
            assert!(
                messages.is_sorted_by(|a, b| a.topic < b.topic),
                "{messages:?}"
            );
            let query = asked.uri.query().unwrap_or_default();
            let filter = query.strip_prefix("filter=").map(form);
            let filter = filter.filter(|filter| FILTERS.contains(&&**filter));
            if let Some(filter) = filter.filter(|_| page["next"].is_null()) {
                let all = self.retained.keys().filter(|topic| matches(&filter, topic));
                assert_eq!(messages.len(), all.count(), "{filter}");
            }
        }
    }

    /// Nothing is kept for anybody any more.
    async fn end(mut self) {
        self.streams.clear();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sessions = self.bus.sessions();
        assert!(sessions.iter().all(|session| !session.is_connected()));
        drop(sessions);
        let century = 100 * 365 * 24 * 3_600_000;
        self.clock.0.fetch_add(century, Ordering::Relaxed);
        for _ in 0..3 {
            self.bus.tick();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.bus.sessions().len(), 0, "a session is kept for ever");
        assert_eq!(
            self.bus.counters().subscriptions.get(),
            1,
            "that of the test"
        );
    }
}

/// Whether a page of another site has caused it without saying its origin.
fn is_of_other_site(asked: &Asked) -> bool {
    let site = asked.header(&header::HeaderName::from_static("sec-fetch-site"));
    asked.is_of_api()
        && asked.header(&header::ORIGIN).is_none()
        && site.is_some_and(|site| site == "cross-site")
}

fn keeps_pages_out(headers: &HeaderMap) {
    let is = |name: &str, value: &str| {
        let mut all = headers.get_all(name).iter();
        all.any(|said| said.to_str().is_ok_and(|said| said.contains(value)))
    };
    assert!(
        is("vary", "origin") && is("x-content-type-options", "nosniff"),
        "{headers:?}"
    );
    assert!(is("content-security-policy", "sandbox"), "{headers:?}");
}

/// An error is a problem (RFC 9457) that says the status of its answer.
fn is_problem(asked: &Asked, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    if !asked.is_of_api() {
        return;
    }
    let needed = match status.as_u16() {
        401 => Some(header::WWW_AUTHENTICATE),
        405 => Some(header::ALLOW),
        503 | 507 => Some(header::RETRY_AFTER),
        _ => None,
    };
    let is_there = needed.is_none_or(|name| headers.contains_key(name));
    assert!(is_there, "{status} of {asked:?}: {headers:?}");
    let media = headers.get(header::CONTENT_TYPE);
    assert!(
        media.is_some_and(|t| t == "application/problem+json"),
        "{status}: {asked:?}"
    );
    if asked.method == Method::HEAD {
        return;
    }
    let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
    assert_eq!(problem["status"], status.as_u16(), "{problem}");
    let kind = problem["type"].as_str().unwrap_or_default();
    assert!(kind.starts_with("urn:tidegate:problem:"), "{problem}");
    assert!(
        problem["title"].is_string() && problem["detail"].is_string(),
        "{problem}"
    );
    if let Some(code) = problem.get("reason_code") {
        assert!(code.as_u64().is_some_and(|code| code >= 0x80), "{problem}");
        assert!(problem["reason"].is_string(), "{problem}");
    }
}

/// The messages that an answer says were accepted.
fn accepted(asked: &Asked, status: StatusCode, body: &[u8]) -> Vec<Said> {
    let path = asked.uri.path();
    let query = asked.uri.query().unwrap_or_default();
    let media = asked
        .header(&header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !status.is_success() || asked.method == Method::HEAD || asked.method == Method::OPTIONS {
        return Vec::new();
    }
    if let Some(topic) = path.strip_prefix("/api/v1/retained/") {
        return match asked.method {
            Method::PUT => {
                vec![Said::of_raw(query, media, &asked.body).retained(decode(topic))]
            }
            Method::DELETE => {
                assert_eq!(status, StatusCode::NO_CONTENT);
                vec![Said::of_raw(query, None, &[]).retained(decode(topic))]
            }
            _ => Vec::new(),
        };
    }
    if path != "/api/v1/publish" {
        return Vec::new();
    }
    let answer: Value = serde_json::from_slice(body).expect("an answer is JSON");
    let is_raw = query
        .split('&')
        .any(|pair| form(pair.split('=').next().unwrap_or_default()) == "topic");
    let said = if is_raw {
        vec![Said::of_raw(query, media, &asked.body)]
    } else {
        let document: Value = serde_json::from_slice(&asked.body).expect("it was accepted");
        match &document {
            Value::Array(list) => list.iter().map(Said::of_json).collect(),
            one => vec![Said::of_json(one)],
        }
    };
    let results = match answer.get("results") {
        Some(results) => results.as_array().expect("a list").clone(),
        None => vec![answer],
    };
    assert_eq!(results.len(), said.len(), "one for each");
    let is_accepted = |result: &Value| {
        let (status, code) = (&result["status"], result["reason_code"].as_u64());
        assert_eq!(
            *status == 202,
            code.is_some_and(|code| code < 0x80),
            "{result}"
        );
        *status == 202
    };
    let refused = results.iter().filter(|result| !is_accepted(result)).count();
    let expected = if refused == 0 { 202 } else { 207 };
    assert_eq!(status.as_u16(), expected, "{results:?}");
    let both = said.into_iter().zip(&results);
    both.filter(|(_, result)| is_accepted(result))
        .map(|(said, _)| said)
        .collect()
}
