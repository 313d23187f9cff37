//! `tidegate pub` over CoAP: one request after the other.

use super::conversation::Event;
use super::resource;
use super::session::Session;
use super::status::Status;
use super::warn_exhausted;
use crate::client::error::ClientError;
use crate::client::options::PublishArguments;
use crate::client::payload::Payloads;
use crate::client::scheme::CoapScheme;

pub(crate) async fn publish(
    arguments: &PublishArguments,
    scheme: CoapScheme,
    mut payloads: Payloads,
) -> Result<(), ClientError> {
    let request = resource::publish(arguments)?;
    let mut session = Session::open(&arguments.connect, scheme).await?;
    let mut refused = Ok(());
    let mut more = true;
    while more || !session.conversation.is_settled() {
        let may_publish = more && session.conversation.is_settled();
        tokio::select! {
            // Whether there is more to say comes before what it means that the gateway wants to end.
            biased;
            payload = payloads.next(), if may_publish => match payload? {
                Some(payload) => {
                    let now = std::time::Instant::now();
                    session
                        .conversation
                        .publish(request.clone(), payload, now)?;
                }
                None => more = false,
            },
            event = session.event() => match event? {
                Event::Answered(response) => {
                    let status = Status::of(&response);
                    if !response.code.is_success() {
                        let what = format!("a message to {}", arguments.topic);
                        refused = Err(ClientError::Answered { what, status });
                    } else if arguments.connect.debug {
                        eprintln!("acknowledged: {status}");
                    }
                }
                Event::Exhausted(until) => warn_exhausted(until),
                _ => {}
            },
        }
    }
    session.close().await;
    refused
}
