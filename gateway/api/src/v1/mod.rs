//! Messages over HTTP: `/api/v1`.
//!
//! What it is: one more way onto the bus. What is published here, clients of MQTT receive, and the other way round,
//! under the same limits and the same access decision. A request publishes for a client without a session
//! ([`tidegate_bus::Bus::publish_for`]); an event stream holds a session as an MQTT connection does
//! ([`tidegate_bus::Attachment`]).
//!
//! What it is not: it manages nothing. It keeps no state between requests but the sessions that the bus keeps.
//!
//! | file | what |
//! |---|---|
//! | `core.rs` | what requests share; the start and the drain |
//! | `guard.rs` | pages of browsers: CORS, and what answers carry |
//! | `query.rs`, `caller.rs`, `body.rs` | a request, read within limits |
//! | `draft.rs`, `publish.rs` | from JSON or a raw body to a message, published and acknowledged |
//! | `document.rs` | from a message to JSON |
//! | `retained.rs` | what is retained |
//! | `stream/` | Server-Sent Events |
//! | `reason.rs`, `problem.rs` | refusals: reason code, status, problem |
//! | `openapi.rs` | all of this for programs |

mod body;
mod caller;
mod core;
mod counters;
mod document;
mod draft;
mod guard;
mod openapi;
mod problem;
mod publish;
mod query;
mod reason;
mod retained;
mod stream;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower::ServiceExt as _;

pub use self::core::{Api, ApiSettings};
pub use counters::{ApiCounters, StreamEnd};
use problem::Problem;
use tidegate_origin::Refusal;

/// Whether a path is one of the API, found there or not.
pub(crate) fn is_below(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// The routes of the API.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/publish", post(publish::publish))
        .route("/api/v1/subscribe", get(stream::subscribe))
        .route("/api/v1/retained", get(retained::list))
        .route(
            "/api/v1/retained/{*topic}",
            get(retained::get)
                .put(retained::put)
                .delete(retained::delete),
        )
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api)
}

/// Answers a request of the API that may be asked.
pub(crate) async fn respond(router: Router, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let response = match guard::before(&parts) {
        Some(response) => response,
        None => {
            let request = Request::from_parts(parts, body);
            let Ok(response) = router.oneshot(request).await;
            response
        }
    };
    guard::after(&headers, response)
}

/// Says that a request of the API may not be asked. Whoever it comes from may not read it, either.
pub(crate) fn refuse(refusal: &Refusal) -> Response {
    let problem = Problem::new(
        refusal.status(),
        "not-asked-here",
        "The request is not for this gateway",
        refusal.explain("http"),
    );
    guard::after(&axum::http::HeaderMap::new(), problem.into_response())
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "Nothing is here",
        format!(
            "Nothing is at {}. /api/v1/openapi.json says what there is.",
            uri.path()
        ),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The method is not for this resource",
        format!("{} cannot be asked with {method}.", uri.path()),
    )
}
