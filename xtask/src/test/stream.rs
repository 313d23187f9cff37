//! Runs a command, shows its output as it comes and lets somebody read along.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs `command` with both outputs in one pipe, so that lines keep their order; calls `line` for each.
pub(super) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("{program} cannot be run"))?;
    // The command holds copies of the pipe's writing end: without them the pipe ends with the child.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    let mut out = io::stdout().lock();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        out.write_all(&bytes)?;
        out.flush()?;
        line(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
    Ok(child.wait()?)
}

/// Runs a command that has to succeed.
pub(super) fn check(command: &mut Command) -> Result<()> {
    let status = lines(command, |_| {})?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
