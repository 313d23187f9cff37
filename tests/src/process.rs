//! Servers as processes of their own, on free ports of the loopback, each in a directory of its own.
//!
//! A process ends with its [`Process`]. A program that is itself told to end calls [`end_processes`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Ports that processes are told; the gateway's defaults are not among them.
const PORTS: Range<u16> = 20_000..32_768;

/// How often a process may find that its ports were taken meanwhile.
const TRIES: usize = 5;

/// The name of the file, in the process's directory, of what it writes.
const LOG: &str = "log";

/// A process and its directory; both go when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    directory: TempDir,
    /// Once it is known.
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts what `command` makes for a directory and so many addresses, and waits until it listens at
    /// all of them. Ports that are free when they are looked up may be taken when the process binds
    /// them: then it ends, and is started with others.
    ///
    /// # Errors
    ///
    /// If it does not listen within `patience`, or ends; what it wrote is part of the error.
    pub fn launch<const N: usize>(
        patience: Duration,
        command: impl Fn(&Path, [SocketAddr; N]) -> Result<Command>,
    ) -> Result<(Self, [SocketAddr; N])> {
        Self::launch_until(command, |process, addresses| {
            process.listens(addresses, patience)
        })
    }

    /// The same for one that listens where no connection can be tried, as over UDP, and says that it does by a
    /// file of this name in its directory.
    ///
    /// # Errors
    ///
    /// If the file is not there within `patience`, or it ends; what it wrote is part of the error.
    pub fn launch_with_file<const N: usize>(
        patience: Duration,
        name: &str,
        command: impl Fn(&Path, [SocketAddr; N]) -> Result<Command>,
    ) -> Result<(Self, [SocketAddr; N])> {
        Self::launch_until(command, |process, _| process.writes(name, patience))
    }

    fn launch_until<const N: usize>(
        command: impl Fn(&Path, [SocketAddr; N]) -> Result<Command>,
        wait: impl Fn(&mut Self, &[SocketAddr; N]) -> Result<()>,
    ) -> Result<(Self, [SocketAddr; N])> {
        let mut tries = 1;
        loop {
            let addresses = free_addresses()?;
            let mut process = Self::spawn(|directory| command(directory, addresses))?;
            match wait(&mut process, &addresses) {
                Ok(()) => return Ok((process, addresses)),
                // One that still runs has its ports, and would not listen at others either.
                Err(error) if tries == TRIES || process.status.is_none() => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    /// Starts what `command` makes for a directory. It is in a process group of its own: Ctrl-C at a
    /// terminal reaches whoever started it, not the process.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        use std::os::unix::process::CommandExt;

        let directory = TempDir::with_prefix("tidegate-peer-")?;
        let log = File::create(directory.path().join(LOG))?;
        let mut command = command(directory.path())?;
        command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let mut running = running();
        ensure!(!running.closed, "nothing is started any more");
        let child = command
            .spawn()
            .with_context(|| format!("{}", Path::new(command.get_program()).display()))?;
        running.ids.insert(child.id());
        Ok(Self {
            child,
            directory,
            status: None,
        })
    }

    /// Waits until it takes connections at all of `addresses`.
    ///
    /// # Errors
    ///
    /// If it does not within `patience`, or ends; what it wrote is part of the error.
    pub fn listens(&mut self, addresses: &[SocketAddr], patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.ended()? {
                    bail!(
                        "it ended with {status} before it listened at {address}{}",
                        self.wrote()
                    );
                }
                if Instant::now() >= end {
                    bail!(
                        "it did not listen at {address} within {patience:?}{}",
                        self.wrote()
                    );
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        // Somebody else may have got the port, and the process ended for that.
        match self.ended()? {
            Some(status) => bail!("it ended with {status}{}", self.wrote()),
            None => Ok(()),
        }
    }

    fn writes(&mut self, name: &str, patience: Duration) -> Result<()> {
        let (file, end) = (self.directory.path().join(name), Instant::now() + patience);
        while !file.exists() {
            if let Some(status) = self.ended()? {
                bail!("it ended with {status} before it was ready{}", self.wrote());
            }
            if Instant::now() >= end {
                bail!("it was not ready within {patience:?}{}", self.wrote());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output and standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.directory.path().join(LOG)).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The end of what it wrote, as the rest of a sentence.
    fn wrote(&self) -> String {
        const LINES: usize = 8;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..);
        match last {
            Some(lines) if !lines.is_empty() => format!("; it wrote:\n{}", lines.join("\n")),
            _ => ", without a word".to_owned(),
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        // An id must not be signalled once it was waited for: it may be another process's.
        let mut running = running();
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        if self.status.is_some() {
            running.ids.remove(&self.child.id());
        }
        Ok(self.status)
    }

    /// As [`Self::ended`], and waits for it for so long.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn ended_within(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + patience;
        loop {
            let status = self.ended()?;
            if status.is_some() || Instant::now() >= end {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks it to end (SIGTERM) and kills it if it has not within `patience`.
    ///
    /// # Errors
    ///
    /// If the kernel does not say what became of it.
    pub fn end(mut self, patience: Duration) -> Result<()> {
        if self.ended()?.is_none() {
            signal(self.child.id(), Signal::TERM);
        }
        self.ended_within(patience).map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            running().ids.remove(&self.child.id());
            // Gone already is fine: what matters is that it runs no more.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Kills every process that was started here and still runs, and lets none be started any more: for a
/// program that is told to end.
pub fn end_processes() {
    let mut running = running();
    running.closed = true;
    for id in &running.ids {
        signal(*id, Signal::KILL);
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may have ended in this moment.
        let _ = kill_process(pid, signal);
    }
}

/// The processes that were started and not yet waited for.
struct Running {
    ids: BTreeSet<u32>,
    closed: bool,
}

fn running() -> MutexGuard<'static, Running> {
    static RUNNING: Mutex<Running> = Mutex::new(Running {
        ids: BTreeSet::new(),
        closed: false,
    });
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        address.set_port(free_port()?);
    }
    Ok(addresses)
}

/// A port of the loopback that nobody has, for a process that is told one. It is not one that the kernel
/// gives to connections that go out or to whoever binds port 0 (32,768 and above on Linux), so between
/// now and when the process binds it, only somebody who was told the same number could take it. This
/// program gives it to nobody else until it has been round all of them.
///
/// # Errors
///
/// If all are taken.
pub fn free_port() -> Result<u16> {
    /// How many are asked for, at random for each program and in order from there.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static FIRST: LazyLock<usize> =
        LazyLock::new(|| RandomState::new().hash_one(0) as usize % PORTS.len());
    for _ in PORTS {
        let nth = *FIRST + ASKED.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (nth % PORTS.len()) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free");
}
