//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::{PublishArguments, SubscribeArguments};
use crate::config::{Flag, Sources};

/// One gate for every device protocol.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// `tidegate` alone is `tidegate run`.
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway; this is what happens without a command, too
    Run(RunArguments),
    /// Check the configuration and print every value in force with where it was said
    Check(ConfigArguments),
    /// Show the certificates of the TLS listeners, or export the local CA's for clients to trust
    Cert(CertArguments),
    /// Look at what is kept in the data directory, check it, copy it
    Data(DataArguments),
    /// Publish messages: a test client
    Pub(Box<PublishArguments>),
    /// Subscribe and print what arrives: a test client
    Sub(Box<SubscribeArguments>),
}

#[derive(Args, Debug, Default)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,

    /// Write the bound addresses as JSON to this file once all listeners are up
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CertArguments {
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Show what each TLS listener shows its clients, and how long it is valid
    Show {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Write the certificate of the local CA as PEM: a client that trusts it trusts the certificate
    /// that the gateway made for itself at its first start
    Export {
        #[command(flatten)]
        config: ConfigArguments,

        /// Write it to this file [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DataArguments {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Show how much there is, and whether a gateway has it open
    Status {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Read everything and tell what cannot be read; no gateway may run on it
    Verify {
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Write a copy of everything into one file, also while the gateway runs
    Backup {
        #[command(flatten)]
        config: ConfigArguments,

        /// The file; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make the store out of a backup; there must be none
    Restore {
        #[command(flatten)]
        config: ConfigArguments,

        /// What `tidegate data backup` has written
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArguments {
    /// Read this configuration file (TOML); none is needed
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Keep data here (node.data_dir) [default: ./tidegate-data]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<String>,

    /// Set one value, over the file and the environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
}

impl ConfigArguments {
    /// These arguments over the environment of this process.
    pub(crate) fn into_sources(self) -> Sources {
        let set = self.set.into_iter().map(|(key, value)| Flag {
            shown: format!("--set {key}"),
            key,
            value,
        });
        let data_dir = self.data_dir.map(|value| Flag {
            key: "node.data_dir".to_owned(),
            value,
            shown: "--data-dir".to_owned(),
        });
        Sources {
            file: self.config,
            environment: std::env::vars_os().collect(),
            flags: set.chain(data_dir).collect(),
        }
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("a setting has the form section.key=value")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
