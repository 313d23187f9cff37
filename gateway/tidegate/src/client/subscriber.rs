//! `tidegate sub`.

use std::future::pending;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use tidegate_mqtt::codec::{Property, PropertyBlock, RetainHandling, SubscriptionOptions};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::coap;
use super::connection::Connection;
use super::error::ClientError;
use super::message::Message;
use super::options::SubscribeArguments;
use super::reason::Reason;
use super::scheme::Scheme;
use super::state::Event;
use super::transport::{Dialer, Transport};

/// The time before a connection that was lost is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How long the last QoS 2 exchange may take to end once enough messages came.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn subscribe(arguments: SubscribeArguments) -> Result<(), ClientError> {
    arguments.check_version()?;
    let end = arguments
        .connect
        .timeout
        .map(|timeout| Instant::now() + timeout);
    if let Scheme::Coap(scheme) = arguments.connect.url.scheme {
        return coap::subscribe(&arguments, scheme, end).await;
    }
    let dialer = Dialer::new(&arguments.connect)?;
    let mut connection = match end {
        None => connect(&dialer, &arguments).await?,
        Some(end) => match timeout_at(end, connect(&dialer, &arguments)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(ClientError::TimedOut),
        },
    };
    let enough = arguments.count.map_or(u64::MAX, u64::from);
    let mut count = 0;
    while count < enough {
        tokio::select! {
            event = connection.event() => match event {
                Err(error) if arguments.reconnect && error.is_a_loss() => {
                    tokio::select! {
                        again = connect_again(&dialer, &arguments, error) => connection = again?,
                        () = wait_until(end) => return Err(ClientError::TimedOut),
                        _ = tokio::signal::ctrl_c() => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
                Ok(Event::Message(message)) => {
                    if !print(&message, &arguments) {
                        break;
                    }
                    count += 1;
                }
                Ok(Event::Subscribed(reasons)) => report(&reasons, &arguments)?,
                Ok(_) => {}
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

/// Tries until it is connected again, or until something is wrong that will not pass.
async fn connect_again(
    dialer: &Dialer<'_>,
    arguments: &SubscribeArguments,
    mut error: ClientError,
) -> Result<Connection<Box<dyn Transport>>, ClientError> {
    loop {
        eprintln!("warning: {error}; connecting again");
        sleep(AGAIN).await;
        error = match connect(dialer, arguments).await {
            Err(error) if error.is_a_loss() => error,
            connected => return connected,
        };
    }
}

async fn connect(
    dialer: &Dialer<'_>,
    arguments: &SubscribeArguments,
) -> Result<Connection<Box<dyn Transport>>, ClientError> {
    let (mut connection, _) = Connection::open(dialer, &arguments.connect).await?;
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

pub(super) fn filters(arguments: &SubscribeArguments) -> impl Iterator<Item = String> {
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
pub(super) fn print(message: &Message, arguments: &SubscribeArguments) -> bool {
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

pub(super) async fn wait_until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}
