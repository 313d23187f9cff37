//! What comes from the gateway, whatever carried it.

use tidegate_coap::codec::Token;

use super::response::Response;

/// Something came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// An answer to a request with its token, or a notification.
    Response(Response),
    /// A request was of no use to the gateway.
    Reset(Token),
    /// The gateway is there.
    Pong,
}

/// What was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GaveUp {
    Request,
    Ping,
}
