//! CoAP over UDP: one task that answers datagrams.

use std::net::UdpSocket;
use std::sync::Arc;

use tidegate_bus::Bus;
use tidegate_coap::Settings;

use super::Listener;
use crate::drain::Drain;

impl Listener {
    /// Answers requests until the drain begins; then observers hear that they are observers no more.
    pub(crate) async fn serve_coap(
        self: Arc<Self>,
        socket: UdpSocket,
        bus: Arc<Bus>,
        settings: Settings,
        drain: Drain,
    ) {
        let metrics = self.coap.clone().unwrap_or_default();
        let served = tidegate_coap::serve(socket, bus, settings, metrics, drain.begun()).await;
        if let Err(error) = served {
            tracing::error!(listener = self.name, %error, "CoAP is not served any more.");
        }
    }
}
