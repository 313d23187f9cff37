//! `tidegate sub` over CoAP: each filter is an observation.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_bus::QoS;
use tidegate_coap::content_type;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::conversation::Event;
use super::observation::Promise;
use super::response::Response;
use super::session::Session;
use super::{resource, warn_exhausted};
use crate::client::error::ClientError;
use crate::client::message::{Message, MessageProperties};
use crate::client::options::SubscribeArguments;
use crate::client::scheme::CoapScheme;
use crate::client::subscriber::{AGAIN, filters, print, wait_until};

/// How long the gateway may take to hear that nothing is observed any more.
const LEAVE: Duration = Duration::from_secs(2);

/// Max-Age of what does not expire (docs/coap.md).
const FOR_EVER: u32 = 0xFF_FFFF;

/// The user property of a Content-Format that has no content type here, as in the gateway.
const FORMAT: &str = "coap-content-format";

pub(crate) async fn subscribe(
    arguments: &SubscribeArguments,
    scheme: CoapScheme,
    end: Option<Instant>,
) -> Result<(), ClientError> {
    let mut session = match end {
        None => open(arguments, scheme).await?,
        Some(end) => match timeout_at(end, open(arguments, scheme)).await {
            Ok(session) => session?,
            Err(_) => return Err(ClientError::TimedOut),
        },
    };
    let enough = arguments.count.map_or(u64::MAX, u64::from);
    let mut count = 0;
    let mut over = BTreeSet::new();
    while count < enough {
        tokio::select! {
            event = next(&mut session, arguments, &mut over) => match event {
                Err(error) if arguments.reconnect && error.is_a_loss() => {
                    tokio::select! {
                        again = open_again(arguments, scheme, error) => session = again?,
                        () = wait_until(end) => return Err(ClientError::TimedOut),
                        _ = tokio::signal::ctrl_c() => return Ok(()),
                    }
                    over.clear();
                }
                Err(error) => return Err(error),
                Ok(message) => {
                    if !print(&message, arguments) {
                        break;
                    }
                    count += 1;
                }
            },
            () = wait_until(end) => {
                leave(session, arguments).await;
                return match arguments.count {
                    Some(_) => Err(ClientError::TimedOut),
                    None => Ok(()),
                };
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    leave(session, arguments).await;
    Ok(())
}

/// The next message; what else happens is said. `over`: the observations that have ended.
async fn next(
    session: &mut Session,
    arguments: &SubscribeArguments,
    over: &mut BTreeSet<usize>,
) -> Result<Message, ClientError> {
    loop {
        match session.event().await? {
            Event::Message(place, response, was_there) => {
                let filter = session.conversation.filter(place);
                return Ok(message(filter, response, was_there));
            }
            Event::Observed(place) if arguments.connect.debug => {
                let filter = session.conversation.filter(place);
                eprintln!("subscribed to {filter}: observed");
            }
            Event::Over(place, status) => {
                over.insert(place);
                let what = format!("the filter {}", session.conversation.filter(place));
                if over.len() == arguments.topic.len() {
                    return Err(ClientError::Answered { what, status });
                }
                eprintln!("warning: the gateway refused {what}: {status}");
            }
            Event::Incomplete(place, status) => {
                let filter = session.conversation.filter(place);
                eprintln!(
                    "warning: the rest of a message for {filter} could not be fetched: {status}"
                );
            }
            Event::Exhausted(until) => warn_exhausted(until),
            Event::Observed(_) | Event::Answered(_) => {}
        }
    }
}

async fn open(arguments: &SubscribeArguments, scheme: CoapScheme) -> Result<Session, ClientError> {
    let requests: Vec<_> = filters(arguments)
        .map(|filter| resource::observe(arguments, &filter).map(|request| (filter, request)))
        .collect::<Result<_, _>>()?;
    let connect = &arguments.connect;
    // Who has a key is its identity, without saying so.
    let is_named = connect.id.is_some() || connect.coap.psk_file.is_some();
    let promise = match arguments.qos {
        QoS::AtMostOnce => Promise::Newest,
        _ if is_named => Promise::Kept,
        _ => Promise::Every,
    };
    let mut session = Session::open(&arguments.connect, scheme).await?;
    for (filter, request) in requests {
        let now = std::time::Instant::now();
        session
            .conversation
            .observe(filter, request, promise, now)?;
    }
    Ok(session)
}

/// Tries until it is there again, or until something is wrong that will not pass.
async fn open_again(
    arguments: &SubscribeArguments,
    scheme: CoapScheme,
    mut error: ClientError,
) -> Result<Session, ClientError> {
    loop {
        eprintln!("warning: {error}; connecting again");
        sleep(AGAIN).await;
        error = match open(arguments, scheme).await {
            Err(error) if error.is_a_loss() => error,
            opened => return opened,
        };
    }
}

/// Tells the gateway that nothing is observed any more. With `--resume` it is not told, so that the session stays
/// (docs/coap.md).
async fn leave(mut session: Session, arguments: &SubscribeArguments) {
    if arguments.connect.resume {
        return session.close().await;
    }
    let left = async {
        session.conversation.leave(std::time::Instant::now())?;
        session.settle().await
    };
    // The messages were printed; whether the gateway hears about it in time is its affair.
    let _ = timeout(LEAVE, left).await;
    session.close().await;
}

/// A notification as a message.
fn message(filter: &str, response: Response, was_there: bool) -> Message {
    let mut properties = MessageProperties {
        message_expiry: response.max_age.filter(|seconds| *seconds < FOR_EVER),
        ..MessageProperties::default()
    };
    if let Some(format) = response.content_format {
        match content_type(format) {
            Some(name) => properties.content_type = Some(name.to_owned()),
            None => {
                let pair = (FORMAT.to_owned(), format.to_string());
                properties.user_properties.push(pair);
            }
        }
    }
    Message {
        topic: response.topic.unwrap_or_else(|| filter.to_owned()),
        payload: response.payload,
        qos: match response.confirmable {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        },
        retain: was_there,
        dup: false,
        subscription_identifiers: Vec::new(),
        properties,
    }
}
