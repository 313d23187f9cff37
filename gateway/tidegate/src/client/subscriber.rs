//! `tidegate sub`.

use std::future::pending;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use tidegate_mqtt::codec::{Property, PropertyBlock, RetainHandling, SubscriptionOptions};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::connection::Connection;
use super::error::ClientError;
use super::message::Message;
use super::options::SubscribeArguments;
use super::reason::Reason;
use super::state::Event;
use super::transport::{self, Transport};

/// How long the last QoS 2 exchange may take to end once enough messages came.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn subscribe(arguments: SubscribeArguments) -> Result<(), ClientError> {
    arguments.check_version()?;
    let end = arguments
        .connect
        .timeout
        .map(|timeout| Instant::now() + timeout);
    let mut connection = match end {
        None => connect(&arguments).await?,
        Some(end) => match timeout_at(end, connect(&arguments)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(ClientError::TimedOut),
        },
    };
    let enough = arguments.count.map_or(u64::MAX, u64::from);
    let mut count = 0;
    while count < enough {
        tokio::select! {
            event = connection.event() => match event? {
                Event::Message(message) => {
                    if !print(&message, &arguments) {
                        break;
                    }
                    count += 1;
                }
                Event::Subscribed(reasons) => report(&reasons, &arguments)?,
                _ => {}
            },
            () = wait_until(end) => {
                if arguments.count.is_some() {
                    connection.close().await;
                    return Err(ClientError::TimedOut);
                }
                break;
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    settle(&mut connection).await;
    connection.close().await;
    Ok(())
}

async fn connect(
    arguments: &SubscribeArguments,
) -> Result<Connection<Box<dyn Transport>>, ClientError> {
    let stream = transport::open(&arguments.connect).await?;
    let (mut connection, _) = Connection::open(stream, &arguments.connect).await?;
    let options = SubscriptionOptions {
        qos: arguments.qos,
        no_local: arguments.no_local,
        retain_as_published: arguments.retain_as_published,
        retain_handling: arguments
            .retain_handling
            .and_then(RetainHandling::from_u8)
            .unwrap_or_default(),
    };
    let filters: Vec<String> = filters(arguments).collect();
    let filters: Vec<_> = filters
        .iter()
        .map(|filter| (filter.as_str(), options))
        .collect();
    let mut properties = PropertyBlock::new();
    properties.extend(
        arguments
            .subscription_id
            .map(Property::SubscriptionIdentifier),
    );
    connection
        .state
        .subscribe(&filters, properties.as_properties());
    Ok(connection)
}

fn filters(arguments: &SubscribeArguments) -> impl Iterator<Item = String> {
    arguments.topic.iter().map(|filter| match &arguments.share {
        Some(group) => format!("$share/{group}/{filter}"),
        None => filter.clone(),
    })
}

/// Says which filters were refused; that is an error only when none is left.
fn report(reasons: &[Reason], arguments: &SubscribeArguments) -> Result<(), ClientError> {
    let mut granted = false;
    let mut refused = None;
    for (filter, reason) in filters(arguments).zip(reasons) {
        if reason.code.is_error() {
            eprintln!("warning: the gateway refused the filter {filter}: {reason}");
            refused = Some((filter, reason));
        } else {
            granted = true;
            if arguments.connect.debug {
                // The codes of a SUBACK that grants are the levels themselves.
                let qos = reason.code.as_u8();
                eprintln!("subscribed to {filter}: Granted QoS {qos}");
            }
        }
    }
    match refused {
        Some((filter, reason)) if !granted => Err(ClientError::Refused {
            what: format!("the filter {filter}"),
            reason: reason.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether somebody still reads what is printed.
fn print(message: &Message, arguments: &SubscribeArguments) -> bool {
    let mut out = io::stdout().lock();
    let written = if arguments.json {
        message.write_json(SystemTime::now(), &mut out)
    } else {
        message.write_text(arguments.verbose, &mut out)
    };
    written.and_then(|()| out.flush()).is_ok()
}

/// Ends what is half done: acknowledgements leave, QoS 2 exchanges complete. No further message is
/// taken, so that a session keeps it.
async fn settle<S: Transport>(connection: &mut Connection<S>) {
    connection.state.stop_listening();
    let settled = async {
        while !connection.is_settled() {
            connection.event().await?;
        }
        Ok::<_, ClientError>(())
    };
    // The messages were printed; whether the gateway hears about it in time is its affair.
    let _ = timeout(SETTLE, settled).await;
}

async fn wait_until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}
