//! Which path leads to which handler, and what is said where none does.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::health::Health;
use crate::{metrics, probes};

#[derive(Clone)]
struct Shared {
    health: Health,
    registry: Arc<Registry>,
}

impl FromRef<Shared> for Health {
    fn from_ref(shared: &Shared) -> Self {
        shared.health.clone()
    }
}

impl FromRef<Shared> for Arc<Registry> {
    fn from_ref(shared: &Shared) -> Self {
        Self::clone(&shared.registry)
    }
}

pub(crate) fn router(health: Health, registry: Registry) -> Router {
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/startupz", get(probes::startupz))
        .route("/metrics", get(metrics::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Shared {
            health,
            registry: Arc::new(registry),
        })
}

async fn not_found(uri: Uri) -> Response {
    problem(
        StatusCode::NOT_FOUND,
        &format!(
            "Nothing is at {}. This gateway answers at /livez, /readyz, /startupz and /metrics.",
            uri.path()
        ),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!(
            "{} cannot be asked with {method}; use GET or HEAD.",
            uri.path()
        ),
    )
}

/// A refusal that a person can read.
pub(crate) fn problem(status: StatusCode, text: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{text}\n")).into_response()
}
