//! Against tokio-tungstenite, a client that is not ours, on a real socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use futures_util::{SinkExt, StreamExt};
use support::*;
use tidegate_websocket::{Settings, Upgrader, Violation, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

async fn pair(settings: Settings) -> (WebSocketStream<TcpStream>, WebSocket<TcpStream>) {
    let (client, server) = sockets().await;
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    let protocols = "mqttv3.1, mqtt".parse().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocols);
    let upgrader = Upgrader::new(settings);
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let (client, server) = tokio::join!(client_async(request, client), upgrading);
    let (client, response) = client.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    (client, server.unwrap())
}

#[tokio::test]
async fn what_one_side_writes_the_other_reads() {
    let (mut client, server) = pair(Settings::default()).await;
    let (mut reader, mut writer) = tokio::io::split(server);
    let payload = pattern(2_000_000);
    let echo = async move {
        // One task does both, as a connection does.
        let copied = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
        copied
    };
    let talk = async {
        let mut heard = Vec::new();
        for (n, part) in payload.chunks(100_000).enumerate() {
            client.send(Message::binary(part.to_vec())).await.unwrap();
            client
                .send(Message::Ping(vec![n as u8].into()))
                .await
                .unwrap();
            while heard.len() < (n + 1) * 100_000 {
                match client.next().await.unwrap().unwrap() {
                    Message::Binary(part) => heard.extend_from_slice(&part),
                    Message::Pong(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let close = CloseFrame {
            code: CloseCode::Away,
            reason: "the page is left".into(),
        };
        client.close(Some(close)).await.unwrap();
        let last = loop {
            match client.next().await.unwrap().unwrap() {
                Message::Pong(_) => {}
                last => break last,
            }
        };
        assert!(matches!(last, Message::Close(Some(close)) if close.code == CloseCode::Away));
        // The close is a clean one to the end.
        assert!(client.next().await.is_none());
        heard
    };
    let (copied, heard) = tokio::join!(echo, talk);
    assert_eq!(copied, payload.len() as u64);
    assert!(heard == payload);
}

#[tokio::test]
async fn a_ping_is_answered_while_nothing_is_written() {
    let (mut client, mut server) = pair(Settings::default()).await;
    let reading = async {
        let mut byte = [0];
        assert_eq!(server.read(&mut byte).await.unwrap(), 0);
        server.shutdown().await.unwrap();
    };
    let pinging = async {
        client
            .send(Message::Ping(b"there?".to_vec().into()))
            .await
            .unwrap();
        let pong = client.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong(b"there?".to_vec().into()));
        client.close(None).await.unwrap();
        assert!(matches!(
            client.next().await.unwrap().unwrap(),
            Message::Close(_)
        ));
    };
    tokio::join!(reading, pinging);
}

#[tokio::test]
async fn the_gateway_closes_and_the_client_answers() {
    let (mut client, mut server) = pair(Settings::default()).await;
    let closing = async {
        server.write_all(b"the last packet").await.unwrap();
        server.shutdown().await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        drop(server);
    };
    let hearing = async {
        let last = client.next().await.unwrap().unwrap();
        assert_eq!(last, Message::binary(b"the last packet".to_vec()));
        let close = client.next().await.unwrap().unwrap();
        assert!(matches!(close, Message::Close(Some(close)) if close.code == CloseCode::Normal));
        assert!(client.next().await.is_none());
    };
    tokio::join!(closing, hearing);
}

#[tokio::test]
async fn mqtt_6_0_0_1_a_client_that_sends_text_is_closed_with_1003() {
    closes(
        Settings::default(),
        Message::text("text"),
        Violation::Text,
        CloseCode::Unsupported,
    )
    .await;
}

#[tokio::test]
async fn a_client_that_sends_too_much_is_closed_with_1009() {
    let settings = Settings {
        max_frame_bytes: 100,
        ..Settings::default()
    };
    let message = Message::binary(vec![0; 1_000_000]);
    closes(settings, message, Violation::FrameTooLarge, CloseCode::Size).await;
}

/// The close frame arrives although the client's bytes are not all read when it is sent.
async fn closes(settings: Settings, message: Message, violation: Violation, code: CloseCode) {
    let (mut client, mut server) = pair(settings).await;
    let serving = async {
        let mut buffer = [0; 4_096];
        let error = server.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(server.violation(), Some(violation));
        server.shutdown().await.unwrap();
        while server.read(&mut buffer).await.unwrap() > 0 {}
        drop(server);
    };
    let talking = async {
        client.send(message).await.unwrap();
        let close = client.next().await.unwrap().unwrap();
        assert!(matches!(close, Message::Close(Some(close)) if close.code == code));
        assert!(matches!(
            client.next().await,
            None | Some(Err(Error::ConnectionClosed))
        ));
        // The gateway waits for this end.
        drop(client);
    };
    tokio::join!(serving, talking);
}

#[tokio::test]
async fn a_client_without_the_sub_protocol_is_refused() {
    let (client, server) = sockets().await;
    let upgrader = Upgrader::new(Settings::default());
    let upgrading = upgrader.upgrade(server, LOOPBACK);
    let asking = async {
        match client_async("ws://localhost/mqtt", client).await {
            Err(Error::Http(response)) => response.status(),
            other => panic!("{other:?}"),
        }
    };
    let (upgraded, status) = tokio::join!(upgrading, asking);
    assert!(upgraded.is_err());
    assert_eq!(status, 400);
}
