//! The HTTP side as one task. It is the last to end, so that probes are answered during the drain.

use tidegate_api::{Api, Health, Registry, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The HTTP side, or nothing when it is turned off.
#[derive(Debug)]
pub(crate) struct Http(Option<Running>);

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Http {
    pub(crate) fn start(
        server: Option<Server>,
        health: Health,
        registry: Registry,
        api: Api,
    ) -> Self {
        Self(server.map(|server| {
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(server.serve(health, registry, api, async {
                // An error means that this handle was dropped: then nobody wants it any more.
                let _ = stopped.await;
            }));
            Running { stop, task }
        }))
    }

    /// Ends it and waits for the responses that are under way.
    pub(crate) async fn stop(self) {
        let Some(Running { stop, task }) = self.0 else {
            return;
        };
        let _ = stop.send(());
        if let Err(error) = task.await {
            tracing::error!(%error, "The HTTP side failed.");
        }
    }
}
