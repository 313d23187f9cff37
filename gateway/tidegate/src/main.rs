//! `tidegate`: the gateway and its test clients.
//!
//! Wiring only: what a message is and where it goes is the bus's business, what bytes mean is a
//! protocol's. Start reading at `run.rs`.

mod banner;
mod cert;
mod check;
mod cli;
mod client;
mod config;
mod control;
mod data;
mod drain;
mod exit;
mod gateway;
mod http;
mod listener;
mod listeners;
mod logging;
mod metrics;
mod open_files;
mod quic;
mod ready_file;
mod run;
mod signals;
mod store;
mod tls;

use clap::Parser as _;
use rustls::crypto::CryptoProvider;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Exit {
    // One provider for everything in this process. It fails only if there is one already, which then
    // is this one.
    let _ = CryptoProvider::clone(&tidegate_tls::provider()).install_default();
    let Cli { command, run } = Cli::parse();
    match command.unwrap_or(Command::Run(run)) {
        Command::Run(arguments) => run::run(arguments),
        Command::Cert(arguments) => cert::cert(arguments),
        Command::Check(arguments) => check::check(&arguments.into_sources()),
        Command::Data(arguments) => data::data(arguments),
        Command::Pub(arguments) => client::publish(*arguments),
        Command::Sub(arguments) => client::subscribe(*arguments),
    }
}
