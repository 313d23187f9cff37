//! The gateway's HTTP side: health probes and metrics, later the management API and the dashboard.
//!
//! What it is: one HTTP/1.1 server that answers `/livez`, `/readyz`, `/startupz` and `/metrics`, and
//! that looks at Host and Origin before anything else, so that no web page a person happens to visit
//! can talk to a gateway on that person's machine.
//!
//! What it is not: it decides nothing about the gateway's health and counts nothing. [`Health`] is
//! set by whoever knows, the registry is filled by whoever counts.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use std::time::Duration;
//! use tidegate_api::{Health, Registry, Server, Settings};
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
//! server.serve(health, registry, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod health;
mod metrics;
mod probes;
mod process;
mod routes;
mod server;

pub use health::{Check, Health};
pub use process::register_process;
pub use prometheus_client::registry::Registry;
pub use server::{Server, Settings};
