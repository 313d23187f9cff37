//! MQTT over WebSocket, the client's side: the bytes of a stream as binary messages (MQTT 5.0 section
//! 6). All of it is libraries; the gateway's own side is the crate `tidegate-websocket`.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest as _};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::error::ClientError;
use super::transport::Transport;
use super::url::ServerUrl;

/// The sub-protocol (MQTT-6.0.0-3).
const PROTOCOL: HeaderValue = HeaderValue::from_static("mqtt");

/// Asks for the upgrade and gives back what the messages carry.
pub(crate) async fn open<S>(url: &ServerUrl, stream: S) -> Result<Box<dyn Transport>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let refused = |error: tungstenite::Error| ClientError::WebSocket {
        url: url.to_string(),
        error: explain(&error),
    };
    let mut request = url.to_string().into_client_request().map_err(refused)?;
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let opened = tokio_tungstenite::client_async(request, stream).await;
    let (websocket, _) = opened.map_err(refused)?;
    let (sink, messages) = websocket.split();
    let payloads = messages.filter_map(|message| {
        future::ready(match message {
            Ok(Message::Binary(payload)) => Some(Ok(payload)),
            // Pings are answered by the library; after Close comes the end.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => None,
            Ok(Message::Text(_)) => Some(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the gateway sent a text message (MQTT-6.0.0-1)",
            ))),
            Err(error) => Some(Err(broken(error))),
        })
    });
    let sink = sink
        .with(|payload: Bytes| future::ok::<_, tungstenite::Error>(Message::Binary(payload)))
        .sink_map_err(broken);
    let reader = StreamReader::new(payloads);
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    Ok(Box::new(tokio::io::join(reader, writer)))
}

/// What a person wants to know of a refusal is in its body.
fn explain(error: &tungstenite::Error) -> String {
    let tungstenite::Error::Http(response) = error else {
        return error.to_string();
    };
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    format!("{}: {}", response.status(), body.trim())
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
