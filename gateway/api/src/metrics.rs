//! `/metrics`: the registry as OpenMetrics text.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::routes::problem;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut body = String::new();
    if let Err(error) = text::encode(&mut body, &registry) {
        tracing::error!(%error, "A collector could not be encoded as OpenMetrics.");
        return problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The metrics could not be encoded; the log says why.",
        );
    }
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
