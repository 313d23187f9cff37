//! What is published: one payload so many times, or each line of standard input.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Stdin};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::error::ClientError;
use super::options::PublishArguments;

/// Payloads, one after the other.
#[derive(Debug)]
pub(crate) struct Payloads {
    source: Source,
    pace: Option<Interval>,
    /// The pace allows the next one.
    allowed: bool,
}

#[derive(Debug)]
enum Source {
    Same {
        payload: Arc<[u8]>,
        left: u64,
    },
    Lines {
        input: BufReader<Stdin>,
        line: Vec<u8>,
    },
}

impl Payloads {
    /// Reads what can be read before the connection is made.
    pub(crate) fn open(arguments: &PublishArguments) -> Result<Self, ClientError> {
        let payload = if let Some(text) = &arguments.message {
            Some(text.as_bytes().to_vec())
        } else if let Some(path) = &arguments.file {
            let error = |error| ClientError::Input {
                path: path.clone(),
                error,
            };
            Some(std::fs::read(path).map_err(error)?)
        } else if arguments.stdin {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(stdin_failed)?;
            Some(bytes)
        } else if arguments.null {
            Some(Vec::new())
        } else {
            None
        };
        let source = match payload {
            Some(payload) => Source::Same {
                payload: payload.into(),
                left: arguments.count.get(),
            },
            None => Source::Lines {
                input: BufReader::new(tokio::io::stdin()),
                line: Vec::new(),
            },
        };
        Ok(Self {
            source,
            pace: arguments.interval.filter(|pace| !pace.is_zero()).map(pace),
            allowed: false,
        })
    }

    /// The next payload, when its time has come; `None` after the last. Nothing is lost when it is
    /// dropped before it completes.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<[u8]>>, ClientError> {
        if let Source::Same { left: 0, .. } = self.source {
            return Ok(None);
        }
        if let Some(pace) = &mut self.pace
            && !self.allowed
        {
            pace.tick().await;
            self.allowed = true;
        }
        let payload = match &mut self.source {
            Source::Same { payload, left } => {
                *left -= 1;
                Some(Arc::clone(payload))
            }
            Source::Lines { input, line } => {
                input.read_until(b'\n', line).await.map_err(stdin_failed)?;
                take_line(line)
            }
        };
        self.allowed = false;
        Ok(payload)
    }

    /// The next payload if it takes no time to get it.
    pub(crate) fn next_now(&mut self) -> Option<Arc<[u8]>> {
        match &mut self.source {
            Source::Same { payload, left } if self.pace.is_none() && *left > 0 => {
                *left -= 1;
                Some(Arc::clone(payload))
            }
            _ => None,
        }
    }
}

/// The line without its end; `None` when there is not even an end, which is the end of input.
fn take_line(line: &mut Vec<u8>) -> Option<Arc<[u8]>> {
    if line.is_empty() {
        return None;
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let payload = text.strip_suffix(b"\r").unwrap_or(text).into();
    line.clear();
    Some(payload)
}

fn pace(period: Duration) -> Interval {
    let mut pace = interval(period);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

fn stdin_failed(error: io::Error) -> ClientError {
    ClientError::Input {
        path: PathBuf::from("standard input"),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_loses_its_end_and_nothing_else() {
        for (line, payload) in [
            ("a\n", Some("a")),
            ("a\r\n", Some("a")),
            ("\n", Some("")),
            ("a", Some("a")),
            ("", None),
            (" a \n", Some(" a ")),
            ("a\r", Some("a")),
        ] {
            let taken = take_line(&mut line.as_bytes().to_vec());
            assert_eq!(taken.as_deref(), payload.map(str::as_bytes), "{line:?}");
        }
    }
}
