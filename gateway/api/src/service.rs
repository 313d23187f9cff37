//! What answers a request: the look at Host and Origin, then the router that has its path. It knows no sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use prometheus_client::registry::Registry;
use tidegate_origin::Gate;
use tower::ServiceExt;

use crate::connection::Connection;
use crate::health::Health;
use crate::routes;
use crate::v1::{self, Api};

/// The HTTP side without its sockets.
#[derive(Debug)]
pub struct Service {
    router: Router,
    /// Of `/api`.
    api: Router,
    counters: Api,
    gate: Gate,
}

impl Service {
    /// Answers those that `gate` lets pass.
    #[must_use]
    pub fn new(health: Health, registry: Registry, api: &Api, gate: Gate) -> Self {
        Self {
            router: routes::router(health, registry),
            api: v1::router(api.clone()),
            counters: api.clone(),
            gate,
        }
    }

    /// Answers a request that came from `peer`, on a connection of its own, and arrived at the address `local`.
    pub async fn respond(
        &self,
        request: Request<Body>,
        local: IpAddr,
        peer: Option<SocketAddr>,
    ) -> Response {
        let connection = Arc::new(Connection::new(peer));
        self.respond_on(request, local, connection).await
    }

    pub(crate) async fn respond_on(
        &self,
        request: Request<Body>,
        local: IpAddr,
        connection: Arc<Connection>,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        let of_api = v1::is_below(parts.uri.path());
        let response = if let Err(refusal) = self.gate.check(&parts, local) {
            tracing::debug!(?refusal, "An HTTP request was refused.");
            if of_api {
                v1::refuse(&refusal)
            } else {
                routes::problem(refusal.status(), &refusal.explain("http"))
            }
        } else if of_api {
            parts.extensions.insert(connection);
            let request = Request::from_parts(parts, body);
            v1::respond(self.api.clone(), request).await
        } else {
            let request = Request::from_parts(parts, body);
            let Ok(response) = self.router.clone().oneshot(request).await;
            response
        };
        self.counters.counters().count_request(response.status());
        response
    }
}
