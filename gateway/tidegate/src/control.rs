//! The word between `tidegate data` and a gateway that runs on the same data directory: a Unix socket in it,
//! which only the gateway's own user can open.
//!
//! The one word so far is `backup`. The answer comes in frames: one byte for the kind, four for the length
//! (big-endian), then so many bytes. An answer that ends without [`Kind::Done`] is none.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, bail};
use tidegate_store::Engine;

/// What is asked for.
const BACKUP: &[u8; 8] = b"backup\n\0";

/// How long a frame may take to go out, or a question to come in.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of a frame that is not data.
const MOST_TEXT: u32 = 64 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// A part of the backup.
    Data = 1,
    /// How many records were written and about how many there are, as two numbers of eight bytes.
    Progress = 2,
    /// The backup is whole.
    Done = 3,
    /// It is not, for this reason.
    Failed = 4,
}

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Progress),
            3 => Some(Self::Done),
            4 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Where the socket is.
fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// The listening side. Its thread ends with the process.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens in `data_dir`, of which this process holds the lock.
    pub(crate) fn listen(data_dir: &Path, engine: &Arc<Engine>) -> io::Result<Self> {
        let path = path_in(data_dir);
        // Of a process that was killed: this one has the lock.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let engine = Arc::downgrade(engine);
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                for asked in listener.incoming() {
                    // A connection that failed before it was taken is nobody's.
                    let (Ok(stream), Some(engine)) = (asked, engine.upgrade()) else {
                        continue;
                    };
                    if let Err(error) = answer(stream, &engine) {
                        tracing::warn!(%error, "A backup was not taken to its end.");
                    }
                }
            })?;
        Ok(Self { path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// One question at a time: backups side by side would only slow each other.
fn answer(mut stream: UnixStream, engine: &Engine) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut word = [0; BACKUP.len()];
    stream.read_exact(&mut word)?;
    if &word != BACKUP {
        return send(
            &stream,
            Kind::Failed,
            b"this gateway does not know that word",
        );
    }
    tracing::info!("A backup begins.");
    let told = |written: u64, total: u64| {
        let numbers = [written.to_be_bytes(), total.to_be_bytes()].concat();
        // The next part of the backup fails, too.
        let _ = send(&stream, Kind::Progress, &numbers);
    };
    match engine.backup(Framed(&stream), &mut { told }) {
        Ok(records) => {
            tracing::info!(records, "A backup was taken.");
            send(&stream, Kind::Done, b"")
        }
        Err(error) => {
            tracing::warn!(%error, "A backup failed.");
            send(&stream, Kind::Failed, error.to_string().as_bytes())
        }
    }
}

fn send(mut stream: &UnixStream, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[kind as u8])?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(bytes)
}

/// Each write as a frame.
struct Framed<'a>(&'a UnixStream);

impl Write for Framed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(1 << 20)];
        send(self.0, Kind::Data, part)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has the gateway that runs on `data_dir` write a backup into `to`. `progress` is told how many records were
/// written, and about how many there are.
pub(crate) fn ask_for_backup(
    data_dir: &Path,
    mut to: impl Write,
    mut progress: impl FnMut(u64, u64),
) -> anyhow::Result<()> {
    let path = path_in(data_dir);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("the gateway does not answer at {}", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(BACKUP)?;
    loop {
        let mut head = [0; 5];
        stream
            .read_exact(&mut head)
            .context("the gateway has ended in the middle of it")?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let kind = Kind::of(kind).context("the gateway answers in a way that is not known here")?;
        if kind == Kind::Data {
            let mut part = (&mut stream).take(u64::from(length));
            let copied = io::copy(&mut part, &mut to).context("the backup cannot be written")?;
            if copied < u64::from(length) {
                bail!("the gateway has ended in the middle of it");
            }
            continue;
        }
        if length > MOST_TEXT {
            bail!("the gateway answers in a way that is not known here");
        }
        let mut text = vec![0; length as usize];
        stream.read_exact(&mut text)?;
        match kind {
            Kind::Progress => {
                if let Some((written, total)) = text.split_first_chunk::<8>()
                    && let Ok(total) = total.try_into()
                {
                    progress(u64::from_be_bytes(*written), u64::from_be_bytes(total));
                }
            }
            Kind::Failed => bail!("{}", String::from_utf8_lossy(&text)),
            Kind::Done | Kind::Data => return Ok(()),
        }
    }
}
