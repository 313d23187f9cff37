//! The gateway's HTTP side: health probes, metrics, and messages over HTTP; later the dashboard.
//!
//! What it is: one HTTP/1.1 server that answers `/livez`, `/readyz`, `/startupz` and `/metrics`, and
//! that looks at Host and Origin before anything else, so that no web page a person happens to visit
//! can talk to a gateway on that person's machine. Below `/api/v1` it is one more protocol of the bus: [`Api`].
//!
//! What it is not: it decides nothing about the gateway's health and counts nothing but its own requests. [`Health`]
//! is set by whoever knows, the registry is filled by whoever counts.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::time::Duration;
//! use tidegate_api::{Api, Health, Registry, Server, Settings};
//!
//! let health = Health::new(Duration::from_secs(10));
//! let listeners = health.check("listeners");
//!
//! let mut registry = Registry::default();
//! tidegate_api::register_process(&mut registry, "1.2.3");
//!
//! let server = Server::bind(Settings::default())?;
//! listeners.pass();
//! health.finish_startup();
//! // Messages over HTTP are answered from `Api::begin` on.
//! server.serve(health, registry, Api::default(), std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod connection;
mod health;
mod metrics;
mod probes;
mod process;
mod routes;
mod server;
mod service;
mod v1;

pub use health::{Check, Health};
pub use process::register_process;
pub use prometheus_client::registry::Registry;
pub use server::{Server, Settings};
pub use service::Service;
pub use v1::{Api, ApiCounters, ApiSettings, StreamEnd};
