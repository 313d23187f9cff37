//! CoAP over TCP and TLS: a connection that can be spoken to goes to what speaks CoAP, with its place among all.

use std::sync::Arc;

use tidegate_coap::stream::{Endpoint, Served};
use tidegate_mqtt::Peer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Listener, Reason, Verdict};

impl Listener {
    /// Serves the connection on a task of its own, or says why not.
    pub(super) fn hand_over_coap<S>(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        stream: S,
        peer: Peer,
        verdict: Verdict,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match verdict {
            Verdict::Serve(place) => {
                // Whoever has got so far has an address.
                let Some(address) = peer.address else {
                    return;
                };
                let peer = tidegate_coap::stream::Peer {
                    address,
                    certificate_name: peer.certificate_name.map(Into::into),
                };
                let serving = endpoint.serve(stream, peer);
                let listener = Arc::clone(self);
                tokio::spawn(async move {
                    let served = serving.await;
                    drop(place);
                    if let Served::Foreign(name) = served {
                        let hint = match name {
                            "TLS" => " (a listener of the kind coaps+tcp takes it)",
                            "the PROXY protocol" => " (proxy_networks says who may)",
                            _ => "",
                        };
                        let kind = listener.kind.scheme();
                        let what = format!("it speaks {name} where {kind} is spoken{hint}");
                        listener.complain(Reason::NotCoap, Some(address), &what, false);
                    }
                });
            }
            Verdict::Tell(refused) => {
                let endpoint = Arc::clone(endpoint);
                tokio::spawn(async move {
                    endpoint.refuse(stream).await;
                    drop(refused);
                });
            }
        }
    }
}
