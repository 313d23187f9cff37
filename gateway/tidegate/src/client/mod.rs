//! `tidegate pub` and `tidegate sub`: test clients for the gateway's protocols, chosen by the scheme
//! of `--url`.
//!
//! They speak through the same codecs as the gateway and show every property, reason code and flag of
//! the protocol. They are not a library: no storage, one task.
//!
//! `publisher` and `subscriber` are the two commands. `state` is MQTT without a socket, `connection` carries
//! it over any byte stream; CoAP is in `coap`.

mod coap;
mod connection;
mod error;
mod message;
mod options;
mod payload;
mod properties;
mod publisher;
mod race;
mod reason;
mod scheme;
mod server;
mod state;
mod streams;
mod subscriber;
mod transport;
mod url;
mod websocket;

use error::ClientError;
pub(crate) use options::{PublishArguments, SubscribeArguments};

use crate::exit::Exit;

/// `tidegate pub`.
pub(crate) fn publish(arguments: PublishArguments) -> Exit {
    run(publisher::publish(arguments))
}

/// `tidegate sub`.
pub(crate) fn subscribe(arguments: SubscribeArguments) -> Exit {
    run(subscriber::subscribe(arguments))
}

fn run(command: impl Future<Output = Result<(), ClientError>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(command);
    // A read from standard input may never return; nothing waits for it.
    runtime.shutdown_background();
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit()
        }
    }
}
