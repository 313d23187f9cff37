//! `/livez`, `/readyz` and `/startupz`, in the words Kubernetes itself uses.
//!
//! A probe that passes says "ok"; one that fails, or is asked with `?verbose`, lists its checks.

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::health::{Answer, Health, Outcome};

pub(crate) async fn livez(State(health): State<Health>, query: RawQuery) -> Response {
    respond("livez", &health.liveness(), &query)
}

pub(crate) async fn readyz(State(health): State<Health>, query: RawQuery) -> Response {
    respond("readyz", &health.readiness(), &query)
}

pub(crate) async fn startupz(State(health): State<Health>, query: RawQuery) -> Response {
    respond("startupz", &health.startup(), &query)
}

fn respond(probe: &str, answer: &Answer, RawQuery(query): &RawQuery) -> Response {
    let passed = answer.is_ok();
    let body = if passed && !is_verbose(query.as_deref()) {
        "ok\n".to_owned()
    } else {
        listing(probe, answer)
    };
    let status = if passed {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body).into_response()
}

fn is_verbose(query: Option<&str>) -> bool {
    let keys = query.unwrap_or_default().split('&');
    keys.map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key))
        .any(|key| key == "verbose")
}

fn listing(probe: &str, answer: &Answer) -> String {
    let mut text = String::new();
    for (name, outcome) in &answer.0 {
        match outcome {
            Outcome::Passed => text.push_str(&format!("[+]{name} ok\n")),
            Outcome::Warned(reason) => text.push_str(&format!("[!]{name} warning: {reason}\n")),
            Outcome::Failed(reason) => text.push_str(&format!("[-]{name} failed: {reason}\n")),
        }
    }
    let verdict = if answer.is_ok() { "passed" } else { "failed" };
    text.push_str(&format!("{probe} check {verdict}\n"));
    text
}
