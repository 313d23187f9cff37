//! `tidegate check`: is the configuration valid, the files that it names included, and what is in
//! force?

use std::fmt::Write as _;
use std::io::{self, Write as _};

use crate::config::{Effective, Sources};
use crate::exit::Exit;
use crate::tls::Identities;

pub(crate) fn check(sources: &Sources) -> Exit {
    match sources.load() {
        Ok(loaded) => {
            // A reader that has seen enough closes the pipe; that is no failure.
            let _ = io::stdout().write_all(listing(&loaded.effective).as_bytes());
            if let Err(error) = Identities::check(&loaded.config) {
                eprintln!("error: {error:#}");
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
