//! Errors of the API as `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::publish::Outcome;
use super::reason::{Reason, Refused};

/// What the types of problems begin with.
const TYPE: &str = "urn:tidegate:problem:";

/// Seconds after which it is worth a new try.
const RETRY_AFTER: u32 = 5;

/// Most characters of an explanation: what a stranger wrote is not repeated at any length.
const MOST: usize = 300;

/// A request that was refused.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    reason: Option<Reason>,
    results: Option<Vec<Outcome>>,
}

/// As it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Document<'a> {
    /// Says which kind of problem it is: `urn:tidegate:problem:` and a name.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: String,
    /// The kind in words.
    #[schema(value_type = String)]
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// A sentence or two about this one.
    #[schema(value_type = String)]
    detail: &'a str,
    /// The reason code that MQTT 5.0 has for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    /// The name of that code.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of a list none of which was accepted: what became of each message, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Outcome>>)]
    results: Option<&'a [Outcome]>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: shortened(detail.into()),
            reason: None,
            results: None,
        }
    }

    /// The request cannot be read.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        let reason = Reason::MalformedPacket;
        Self {
            reason: Some(reason),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                reason.slug(),
                "The request cannot be read",
                detail,
            )
        }
    }

    /// The request can be read and says what cannot be.
    pub(crate) fn invalid(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::with_reason(StatusCode::UNPROCESSABLE_ENTITY, reason, detail)
    }

    /// A status with a reason code.
    pub(crate) fn with_reason(
        status: StatusCode,
        reason: Reason,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            reason: Some(reason),
            ..Self::new(status, reason.slug(), reason.name(), detail)
        }
    }

    /// Which of the messages of a list it is about.
    pub(crate) fn about(mut self, index: usize) -> Self {
        self.detail = format!("Message {index} of the list: {}", self.detail).into();
        self
    }

    /// None of a list was accepted.
    pub(crate) fn with_results(mut self, results: Vec<Outcome>) -> Self {
        self.results = Some(results);
        self
    }

    #[cfg(test)]
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::with_reason(refused.status, refused.reason, refused.text)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            kind: format!("{TYPE}{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            reason_code: self.reason.map(Reason::code),
            reason: self.reason.map(Reason::name),
            results: self.results.as_deref(),
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, "application/problem+json");
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Basic realm=\"tidegate\", charset=\"UTF-8\"";
            set(header::WWW_AUTHENTICATE, challenge);
        }
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE
        ) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        response
    }
}

fn shortened(text: Cow<'static, str>) -> Cow<'static, str> {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text,
    }
}
