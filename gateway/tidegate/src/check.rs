//! `tidegate check`: is the configuration valid, the files that it names included, and what is in
//! force?

use std::fmt::Write as _;
use std::io::{self, Write as _};

use tidegate_tls::Status;

use crate::config::{Config, Effective, Sources};
use crate::exit::Exit;

pub(crate) fn check(sources: &Sources) -> Exit {
    match sources.load() {
        Ok(loaded) => {
            // A reader that has seen enough closes the pipe; that is no failure.
            let _ = io::stdout().write_all(listing(&loaded.effective).as_bytes());
            if !check_files(&loaded.config) {
                return Exit::Usage;
            }
            eprintln!("The configuration is valid.");
            Exit::Done
        }
        Err(problems) => {
            eprintln!("error: {problems}");
            Exit::Usage
        }
    }
}

/// Whether the files that the listeners name can be used. Says which cannot, and which can and should
/// not stay as they are. The local certificate is not among them: the gateway looks after it.
fn check_files(config: &Config) -> bool {
    let mut good = true;
    for listener in &config.listeners {
        let name = &listener.name;
        let of_tls = listener.tls.iter().map(|tls| {
            let status = Status::read(&tls.settings).map(|status| status.warnings);
            status.map_err(|error| error.to_string())
        });
        let of_dtls = listener.dtls.iter().map(|dtls| {
            let warnings = dtls.credentials.read();
            warnings.map_err(|error| error.to_string())
        });
        for read in of_tls.chain(of_dtls) {
            match read {
                Ok(warnings) => {
                    for warning in warnings {
                        eprintln!("warning: listener {name}: {warning}");
                    }
                }
                Err(error) => {
                    eprintln!("error: listener {name}: {error}");
                    good = false;
                }
            }
        }
    }
    good
}

/// One line a value: TOML that can be put into a file as it is, and the origin as a comment.
fn listing(effective: &[Effective]) -> String {
    let lines: Vec<(String, &Effective)> = effective
        .iter()
        .map(|effective| {
            let line = match &effective.value {
                Some(value) => format!("{} = {value}", effective.key),
                None => format!("# {} is not set", effective.key),
            };
            (line, effective)
        })
        .collect();
    // One very long value does not push all origins out of sight.
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let width = widths.filter(|width| *width <= 60).max().unwrap_or(0);
    let mut text = String::new();
    for (line, Effective { origin, .. }) in &lines {
        let _ = writeln!(text, "{line:width$}  # {origin}");
    }
    text
}
