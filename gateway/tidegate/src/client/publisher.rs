//! `tidegate pub`.

use std::sync::Arc;

use super::coap;
use super::connection::Connection;
use super::error::ClientError;
use super::options::PublishArguments;
use super::payload::Payloads;
use super::scheme::Scheme;
use super::state::{Event, Outgoing};
use super::transport::{Dialer, Transport};

pub(crate) async fn publish(arguments: PublishArguments) -> Result<(), ClientError> {
    arguments.check_version()?;
    let payloads = Payloads::open(&arguments)?;
    let everything = publish_all(&arguments, payloads);
    match arguments.connect.timeout {
        None => everything.await,
        Some(timeout) => match tokio::time::timeout(timeout, everything).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::TimedOut),
        },
    }
}

async fn publish_all(
    arguments: &PublishArguments,
    mut payloads: Payloads,
) -> Result<(), ClientError> {
    if let Scheme::Coap(scheme) = arguments.connect.url.scheme {
        return coap::publish(arguments, scheme, payloads).await;
    }
    let dialer = Dialer::new(&arguments.connect)?;
    let (mut connection, _) = Connection::open(&dialer, &arguments.connect).await?;
    let message = Outgoing {
        topic: arguments.topic.clone(),
        qos: arguments.qos,
        retain: arguments.retain,
        properties: arguments.properties.block(),
        alias: arguments.properties.topic_alias,
    };
    let mut refused = Ok(());
    let mut more = true;
    while more || !connection.is_settled() {
        let may_publish = more && may_publish(&mut connection, &message);
        tokio::select! {
            event = connection.event() => match event? {
                Event::Acknowledged(reason) if reason.code.is_error() => {
                    let what = format!("a message to {}", message.topic);
                    refused = Err(ClientError::Refused { what, reason });
                }
                Event::Acknowledged(reason) if arguments.connect.debug => {
                    eprintln!("acknowledged: {reason}");
                }
                _ => {}
            },
            payload = payloads.next(), if may_publish => match payload? {
                Some(payload) => publish_some(&mut connection, &message, &mut payloads, payload)?,
                None => more = false,
            },
        }
    }
    connection.close().await;
    refused
}

/// Publishes `payload` and those that follow without waiting, as many as there is room for.
fn publish_some<S: Transport>(
    connection: &mut Connection<S>,
    message: &Outgoing,
    payloads: &mut Payloads,
    payload: Arc<[u8]>,
) -> Result<(), ClientError> {
    let mut next = Some(payload);
    while let Some(payload) = next {
        connection.state.publish(message, &payload)?;
        next = if may_publish(connection, message) {
            payloads.next_now()
        } else {
            None
        };
    }
    Ok(())
}

fn may_publish<S: Transport>(connection: &mut Connection<S>, message: &Outgoing) -> bool {
    connection.has_room() && connection.state.may_publish(message.qos)
}
