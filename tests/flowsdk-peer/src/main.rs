//! flowsdk as a process of its own: EMQX's client with MQTT over QUIC, which a test tells what to do.
//!
//! The only argument is [`Options`] as JSON. Then each line of standard input is a [`Command`], each line of standard
//! output an [`Event`]; the end of standard input is the end. `tests/tests/quic_flowsdk` drives it.
//!
//! flowsdk has two clients for QUIC, and both are here: [`client`] is the one that applications are told to use, with
//! all of MQTT on one stream; [`streams`] has the streams, early data and addresses of QUIC in its hands. Nothing of
//! MQTT or QUIC is made here, and nothing that flowsdk does is corrected.

mod client;
mod protocol;
mod streams;

use std::io::BufRead;
use std::{env, io, thread};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use protocol::{Command, Event, Mode, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let text = env::args().nth(1).context("no options")?;
    let options: Options = serde_json::from_str(&text).context("the options")?;
    let commands = commands();
    match options.mode {
        Mode::Client => client::run(&options, commands).await,
        Mode::Streams => streams::run(&options, commands).await,
    }
}

/// The lines of standard input, read by a thread that ends with the process.
fn commands() -> mpsc::UnboundedReceiver<Command> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(command) => {
                    if sender.send(command).is_err() {
                        break;
                    }
                }
                Err(error) => Event::failed(error).say(),
            }
        }
    });
    receiver
}
