//! `tidegate cert`: what the TLS listeners show their clients. It reads files and makes none.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use tidegate_tls::{CertificateStatus, Settings, Status};

use crate::cli::{CertArguments, CertCommand};
use crate::config::Config;
use crate::exit::Exit;
use crate::tls::find_local;

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
    match out {
        None => show(&config),
        Some(out) => match export(&config, out.as_deref()) {
            Ok(()) => Exit::Done,
            Err(error) => {
                eprintln!("error: {error:#}");
                Exit::Failed
            }
        },
    }
}

/// Shows what can be shown, and fails if that is not everything.
fn show(config: &Config) -> Exit {
    let now = SystemTime::now();
    let mut text = String::new();
    let mut errors = Vec::new();
    let mut none = true;
    for listener in &config.listeners {
        let (name, Some(tls)) = (&listener.name, &listener.tls) else {
            continue;
        };
        none = false;
        match status(tls.settings.clone(), &config.node.data_dir) {
            Ok(status) => {
                let _ = writeln!(text, "listener {name}");
                list(&status, now, &mut text);
            }
            Err(error) => errors.push(format!("listener {name}: {error:#}")),
        }
    }
    if none {
        text.push_str("No listener speaks TLS.\n");
    }
    // A reader that has seen enough closes the pipe; that is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    for error in &errors {
        eprintln!("error: {error}");
    }
    if errors.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    }
}

fn status(mut settings: Settings, data_dir: &Path) -> anyhow::Result<Status> {
    if settings.certificates.is_empty() {
        settings.certificates.push(find_local(data_dir)?.files());
    }
    Ok(Status::read(&settings)?)
}

fn list(status: &Status, now: SystemTime, text: &mut String) {
    for certificate in &status.certificates {
        describe(certificate, now, text);
    }
    for subject in &status.client_ca_subjects {
        let _ = writeln!(text, "  clients' CA   {subject}");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "  warning       {warning}");
    }
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
    let ca = find_local(&config.node.data_dir)?.ca();
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
