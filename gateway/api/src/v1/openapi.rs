//! `GET /api/v1/openapi.json`: the API for programs, in OpenAPI 3.1, made from the handlers.

use axum::Json;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi as _;

use super::{publish, retained, stream};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Messages over HTTP: what is published here, clients of every other protocol receive, and the other way round.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        publish::publish,
        stream::subscribe,
        retained::list,
        retained::get,
        retained::put,
        retained::delete,
        openapi,
    ),
    tags(
        (name = "messages", description = "Publishing and receiving."),
        (name = "retained", description = "The last message of each topic that was to be retained."),
        (name = "description", description = "This description."),
    ),
    modifiers(&Basic),
    security((), ("basic" = [])),
)]
struct Api;

/// User name and password.
struct Basic;

impl utoipa::Modify for Basic {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("basic", scheme);
    }
}

/// Describe the API.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "openapi",
    tag = "description",
    responses((status = 200, description = "This document.", content_type = "application/json", body = utoipa::openapi::Object)),
)]
pub(crate) async fn openapi() -> Response {
    Json(Api::openapi()).into_response()
}
