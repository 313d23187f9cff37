//! What every request of the API passes and every answer of it carries: the rules for pages of browsers.
//!
//! The look at Host and Origin has been taken before ([`tidegate_origin`]): whoever says an Origin here comes from a
//! page that may send requests. Such a page is let read the answers, too (CORS, <https://fetch.spec.whatwg.org/>).
//! A browser that fetches something for a page without telling its origin, as an image, says at least that the page is
//! another site's (Fetch Metadata, `Sec-Fetch-Site`); it could not read the answer, but it must not cause anything.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::reason::Reason;
use super::retained::EXPOSED;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// Headers that a page may send.
const HEADERS: &str = "Authorization, Content-Type, If-None-Match, Last-Event-ID";

/// Seconds for which a browser remembers that it may.
const MAX_AGE: u32 = 600;

/// The answer to a request that reaches no handler: a browser's question whether a page may ask, or a refusal.
pub(crate) fn before(request: &Parts) -> Option<Response> {
    let headers = &request.headers;
    let has_origin = headers.contains_key(header::ORIGIN);
    if request.method == Method::OPTIONS
        && has_origin
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        ];
        let mut response = (StatusCode::NO_CONTENT, allowed).into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE.into());
        return Some(response);
    }
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    if !has_origin && matches!(site, Some(b"cross-site" | b"same-site")) {
        let text = "A page of another site may not cause requests here without saying its origin.";
        let problem = Problem::with_reason(StatusCode::FORBIDDEN, Reason::NotAuthorized, text);
        return Some(problem.into_response());
    }
    None
}

/// Completes an answer to a request with these headers.
pub(crate) fn after(request: &HeaderMap, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = request.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
    // What devices have sent is shown here under the gateway's own origin. It must not run there.
    let sandbox = "sandbox; default-src 'none'";
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(sandbox),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
