//! Requests: of known parts in any order, or any bytes.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use serde_json::Value;

use crate::input::Input;

/// Where the requests arrive.
pub(super) const LOCAL: [u8; 4] = [10, 1, 2, 3];

/// Names that lead here, and one more that was allowed.
const HOSTS: [&str; 6] = [
    "localhost",
    "localhost:18083",
    "127.0.0.1:18083",
    "[::1]:80",
    "10.1.2.3:18083",
    ALLOWED_HOST,
];

/// Names that lead elsewhere, or nowhere.
const FOREIGN_HOSTS: [&str; 8] = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "gateway.example.evil",
    "10.1.2.4",
    "",
    "a b",
    "localhost@evil.example",
];

const FOREIGN_ORIGINS: [&str; 4] = [
    "http://evil.example",
    "null",
    "http://app.example",
    "https://app.example.evil",
];

pub(super) const ALLOWED_HOST: &str = "gateway.example";
pub(super) const ALLOWED_ORIGIN: &str = "https://app.example";

const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW",
];

const PATHS: [&str; 12] = [
    "/api/v1/publish",
    "/api/v1/subscribe",
    "/api/v1/retained",
    "/api/v1/retained/",
    "/api/v1/openapi.json",
    "/api/v1",
    "/api",
    "/livez",
    "/readyz",
    "/startupz",
    "/metrics",
    "/",
];

const HEADERS: [&str; 10] = [
    "content-type",
    "accept",
    "authorization",
    "last-event-id",
    "if-none-match",
    "if-match",
    "content-length",
    "access-control-request-method",
    "sec-fetch-site",
    "user-agent",
];

const VALUES: [&str; 10] = [
    "application/json",
    "*/*",
    "Basic dTpw",
    "text/event-stream",
    "text/plain;charset=utf-8",
    "application/x-www-form-urlencoded",
    "\"00000000\"",
    "GET",
    "cross-site",
    "5000000",
];

const TOPICS: [&str; 10] = [
    "a", "a/b", "x/b", "a/b/c", "$SYS/x", "$x/y", "", "a/#", "+", "a//b",
];

/// Filters of which it is known what they match.
pub(super) const FILTERS: [&str; 4] = ["#", "a/#", "+/b", "a"];

const KEYS: [&str; 13] = [
    "payload",
    "encoding",
    "qos",
    "retain",
    "content_type",
    "response_topic",
    "correlation_data",
    "payload_format_indicator",
    "message_expiry_interval",
    "user_properties",
    "user_property",
    "client_id",
    "colour",
];

/// Whether a request comes from somebody who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ours,
    Foreign,
    Unknown,
}

/// A request, and what is known of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
    pub(super) standing: Standing,
}

impl Asked {
    /// One to a resource, and nothing else said yet.
    fn new(method: &str, target: &str) -> Option<Self> {
        Some(Self {
            method: Method::from_bytes(method.as_bytes()).ok()?,
            uri: target.parse().ok()?,
            headers: Vec::new(),
            body: Vec::new(),
            standing: Standing::Ours,
        })
    }

    /// What the input says; none where that can be no request of HTTP.
    pub(super) fn of(input: &mut Input<'_>) -> Option<Self> {
        let mut asked = match input.byte() % 9 {
            0 => {
                let mut asked = Self::new("POST", "/api/v1/publish")?;
                asked.says_json();
                asked.body = message(input).into_bytes();
                asked
            }
            1 => {
                let mut asked = Self::new("POST", "/api/v1/publish")?;
                asked.says_json();
                let messages = (0..input.byte() % 8).map(|_| message(input));
                let messages: Vec<String> = messages.collect();
                asked.body = format!("[{}]", messages.join(",")).into_bytes();
                asked
            }
            2 => {
                let mut asked = Self::new("POST", "/api/v1/publish")?;
                asked.says_json();
                asked.body = input.string();
                asked
            }
            3 => {
                let query = parameters(input);
                let topic = encoded(TOPICS[usize::from(input.byte()) % 10]);
                let target = format!("/api/v1/publish?topic={topic}{query}");
                let mut asked = Self::new("POST", &target)?;
                asked.body = input.string();
                asked
            }
            4 => {
                let method = ["GET", "PUT", "DELETE", "HEAD"][usize::from(input.byte()) % 4];
                let topic = encoded(TOPICS[usize::from(input.byte()) % 10]);
                let query = parameters(input);
                let mut asked = Self::new(method, &format!("/api/v1/retained/{topic}?{query}"))?;
                asked.body = input.string();
                asked
            }
            5 => {
                let (how, limit) = (input.byte(), input.byte());
                let filter = encoded(FILTERS[usize::from(how) % 4]);
                let query = if how & 4 == 0 {
                    String::new()
                } else {
                    format!("&limit={limit}")
                };
                Self::new("GET", &format!("/api/v1/retained?filter={filter}{query}"))?
            }
            6 => {
                let filter = encoded(FILTERS[usize::from(input.byte()) % 4]);
                Self::new("GET", &format!("/api/v1/subscribe?filter={filter}"))?
            }
            7 => {
                let filters = (0..=input.byte() % 3).map(|_| {
                    let filter = encoded(FILTERS[usize::from(input.byte()) % 4]);
                    format!("filter={filter}&")
                });
                let filters: String = filters.collect();
                let query = String::from_utf8_lossy(&input.string()).into_owned();
                Self::new("GET", &format!("/api/v1/subscribe?{filters}{query}"))?
            }
            _ => {
                let method = METHODS[usize::from(input.byte()) % 8];
                let path = match input.byte() {
                    known @ 0..192 => PATHS[usize::from(known) % 12].to_owned(),
                    _ => String::new(),
                };
                let rest = String::from_utf8_lossy(&input.string()).into_owned();
                let mut asked = Self::new(method, &format!("{path}{rest}"))?;
                asked.body = input.string();
                asked
            }
        };
        asked.dress(input)?;
        Some(asked)
    }

    fn says_json(&mut self) {
        self.set(header::CONTENT_TYPE, "application/json");
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        let value = HeaderValue::from_str(value).expect("a value");
        self.headers.push((name, value));
    }

    /// Who asks, and what else the headers say.
    fn dress(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (how, which) = (input.byte(), usize::from(input.byte()));
        let mut host = HOSTS[which % 6];
        match how & 7 {
            6 => {
                self.standing = Standing::Foreign;
                host = FOREIGN_HOSTS[which % 8];
            }
            7 => {
                self.standing = Standing::Foreign;
                if which % 2 == 1 {
                    self.set(header::HOST, host);
                }
            }
            _ => {}
        }
        if how & 7 != 7 || which % 2 == 1 {
            self.set(header::HOST, host);
        }
        match how >> 3 & 7 {
            4 => self.set(header::ORIGIN, ALLOWED_ORIGIN),
            5 => self.set(header::ORIGIN, &format!("http://{host}")),
            6 => {
                self.standing = Standing::Foreign;
                self.set(header::ORIGIN, FOREIGN_ORIGINS[which % 4]);
            }
            7 => {
                let value = HeaderValue::from_bytes(&input.string()).ok()?;
                self.headers.push((header::ORIGIN, value));
                if self.standing == Standing::Ours {
                    self.standing = Standing::Unknown;
                }
            }
            _ => {}
        }
        if self.uri.authority().is_some() {
            self.standing = Standing::Unknown;
        }
        for _ in 0..how >> 6 {
            let name = HeaderName::from_static(HEADERS[usize::from(input.byte()) % 10]);
            let value = match input.byte() {
                known @ 0..192 => VALUES[usize::from(known) % 10].as_bytes().to_vec(),
                _ => input.string(),
            };
            self.headers
                .push((name, HeaderValue::from_bytes(&value).ok()?));
        }
        Some(())
    }

    pub(super) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut all = self.headers.iter();
        all.find(|(other, _)| other == name).map(|(_, value)| value)
    }

    pub(super) fn is_of_api(&self) -> bool {
        let path = self.uri.path();
        path == "/api" || path.starts_with("/api/")
    }

    pub(super) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        request
    }
}

/// A message as JSON, well formed as such.
fn message(input: &mut Input<'_>) -> String {
    let mut keys = vec![format!("\"topic\":{}", Value::from(topic(input)))];
    for _ in 0..input.byte() % 6 {
        let key = KEYS[usize::from(input.byte()) % 13];
        let value = match input.byte() % 12 {
            0 => Value::from(input.byte() % 4),
            1 => Value::Null,
            2 => Value::from(true),
            3 => Value::from(false),
            4 => Value::from("AQID"),
            5 => Value::from("base64"),
            6 => Value::from("text"),
            7 => Value::from(u64::from(input.byte()) << (input.byte() % 56)),
            8 => Value::from(vec![
                Value::from(vec!["a", "b"]);
                usize::from(input.byte() % 4)
            ]),
            9 => Value::from(TOPICS[usize::from(input.byte()) % 10]),
            _ => Value::from(String::from_utf8_lossy(&input.string())),
        };
        keys.push(format!("\"{key}\":{value}"));
    }
    format!("{{{}}}", keys.join(","))
}

fn topic(input: &mut Input<'_>) -> String {
    match input.byte() {
        known @ 0..192 => TOPICS[usize::from(known) % 10].to_owned(),
        _ => String::from_utf8_lossy(&input.string()).into_owned(),
    }
}

/// Parameters of a query, each behind an `&`.
fn parameters(input: &mut Input<'_>) -> String {
    let mut query = String::new();
    for _ in 0..input.byte() % 5 {
        let key = KEYS[usize::from(input.byte()) % 13];
        let value = match input.byte() % 8 {
            0 => (input.byte() % 4).to_string(),
            1 => "true".to_owned(),
            2 => "AQID".to_owned(),
            3 => "a%3Db".to_owned(),
            4 => "a+b".to_owned(),
            5 => input.byte().to_string(),
            _ => encoded(&String::from_utf8_lossy(&input.string())),
        };
        query.push_str(&format!("&{key}={value}"));
    }
    query
}

/// Everything that may not stand in an address is percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'/' {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
