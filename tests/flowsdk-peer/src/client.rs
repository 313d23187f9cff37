//! `TokioAsyncMqttClient`: the client that flowsdk tells applications to use. All is on one stream, with quinn.
//!
//! It makes a new endpoint and a new configuration of TLS for each connection, so it resumes none, whatever its option
//! for 0-RTT says.

use std::fs;

use anyhow::{Context, Result};
use async_trait::async_trait;
use flowsdk::mqtt_client::{
    MqttClientError, MqttMessage, PingResult, TokioAsyncClientConfig, TokioAsyncMqttClient,
    TokioMqttEventHandler,
};
use tokio::sync::mpsc;

use crate::protocol::{Command, Event, Options, bytes};

/// Tells what no command has asked for.
struct Handler;

#[async_trait]
impl TokioMqttEventHandler for Handler {
    async fn on_message_received(&mut self, message: &MqttMessage) {
        Event::message(message, None).say();
    }

    async fn on_ping_response(&mut self, _: &PingResult) {
        Event::Pong.say();
    }

    async fn on_disconnected(&mut self, code: Option<u8>) {
        Event::Disconnected { code }.say();
    }
}

pub(crate) async fn run(
    options: &Options,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<()> {
    let authority = fs::read_to_string(&options.authority).context("the authority")?;
    let config = TokioAsyncClientConfig::builder()
        .auto_reconnect(false)
        .quic_custom_root_ca_pem(authority)
        .build();
    let client = TokioAsyncMqttClient::new(options.mqtt(), Box::new(Handler), config).await?;
    while let Some(command) = commands.recv().await {
        match perform(&client, command).await {
            Ok(Some(event)) => event.say(),
            Ok(None) => {}
            Err(error) => Event::failed(error).say(),
        }
    }
    Ok(())
}

/// Does it, and waits for the answer of the server.
async fn perform(
    client: &TokioAsyncMqttClient,
    command: Command,
) -> Result<Option<Event>, MqttClientError> {
    let event = match command {
        Command::Connect { .. } => {
            let result = client.connect_sync().await?;
            Event::Connected {
                code: result.reason_code,
                session_present: result.session_present,
            }
        }
        Command::Publish {
            topic,
            payload,
            qos,
            ..
        } => {
            let payload = bytes(&payload);
            let result = client.publish_sync(&topic, &payload, qos, false).await?;
            if qos == 0 {
                return Ok(None);
            }
            Event::Published {
                qos: result.qos,
                code: result.reason_code,
            }
        }
        Command::Subscribe { filter, qos, .. } => Event::Subscribed {
            codes: client.subscribe_sync(&filter, qos).await?.reason_codes,
        },
        Command::Unsubscribe { filter, .. } => Event::Unsubscribed {
            codes: client.unsubscribe_sync(vec![&filter]).await?.reason_codes,
        },
        Command::Ping => {
            client.ping_sync().await?;
            return Ok(None);
        }
        Command::Disconnect => {
            client.disconnect_sync().await?;
            return Ok(None);
        }
        Command::Open | Command::Finish { .. } | Command::Reset { .. } | Command::Move => {
            Event::failed("this client has one stream")
        }
    };
    Ok(Some(event))
}
