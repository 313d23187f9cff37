//! `tidegate cert`: what the TLS listeners show their clients.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use tidegate_tls::CertificateStatus;

use crate::cli::{CertArguments, CertCommand};
use crate::config::Config;
use crate::exit::Exit;
use crate::tls::{Identities, local_certificates};

const DAY: u64 = 86_400;

pub(crate) fn cert(arguments: CertArguments) -> Exit {
    let (config, out) = match arguments.command {
        CertCommand::Show { config } => (config, None),
        CertCommand::Export { config, out } => (config, Some(out)),
    };
    let config = match config.into_sources().load() {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("error: {problems}");
            return Exit::Usage;
        }
    };
    let done = match out {
        None => show(&config),
        Some(out) => export(&config, out.as_deref()),
    };
    match done {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::Failed
        }
    }
}

fn show(config: &Config) -> anyhow::Result<()> {
    let identities = Identities::load(config)?;
    let now = SystemTime::now();
    let mut text = String::new();
    for (name, identity) in &identities.by_listener {
        let _ = writeln!(text, "listener {name}");
        let status = identity.status();
        for certificate in &status.certificates {
            describe(certificate, now, &mut text);
        }
        for subject in &status.client_ca_subjects {
            let _ = writeln!(text, "  clients' CA   {subject}");
        }
    }
    if identities.by_listener.is_empty() {
        text.push_str("No listener speaks TLS.\n");
    }
    // A reader that has seen enough closes the pipe; that is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn describe(certificate: &CertificateStatus, now: SystemTime, text: &mut String) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<13} {value}");
    };
    line("subject", &certificate.subject);
    line("names", &certificate.sans.join(", "));
    line("issuer", &certificate.issuer);
    line("serial", &certificate.serial);
    line("SHA-256", &certificate.fingerprint);
    line("valid from", &time(certificate.not_before));
    let left = match certificate.not_after.duration_since(now) {
        Ok(left) => format!("{} days left", left.as_secs() / DAY),
        Err(over) => format!("over for {} days", over.duration().as_secs() / DAY),
    };
    let end = format!("{} ({left})", time(certificate.not_after));
    line("valid until", &end);
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn export(config: &Config, out: Option<&Path>) -> anyhow::Result<()> {
    let ca = local_certificates(&config.node.data_dir)?.ca();
    let pem = fs::read(&ca).with_context(|| format!("{} cannot be read", ca.display()))?;
    match out {
        Some(path) => {
            fs::write(path, pem).with_context(|| format!("{} cannot be written", path.display()))
        }
        None => io::stdout()
            .write_all(&pem)
            .context("standard output cannot be written to"),
    }
}
