//! The signals that end the gateway, of which the first asks and the second insists, and the one that
//! asks it to look at its files.

use std::io;

/// A signal that asks the gateway to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// As `kill -l` has it, with "SIG".
    pub(crate) name: &'static str,
    /// The exit code of a process that such a signal ends.
    pub(crate) exit_code: i32,
}

#[cfg(unix)]
const SIGTERM: Stop = Stop {
    name: "SIGTERM",
    exit_code: 143,
};

const SIGINT: Stop = Stop {
    name: "SIGINT",
    exit_code: 130,
};

/// The signals from the moment of [`Signals::listen`] on.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on a signal no longer ends the process by itself.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Stop {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => SIGTERM,
            _ = self.interrupt.recv() => SIGINT,
        }
        #[cfg(not(unix))]
        {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            SIGINT
        }
    }

    /// Ends the process at the next signal, whatever it is doing.
    pub(crate) fn exit_at_next(mut self) {
        tokio::spawn(async move {
            let stop = self.next().await;
            tracing::warn!(
                signal = stop.name,
                "A second signal: the gateway ends at once."
            );
            std::process::exit(stop.exit_code);
        });
    }
}

/// SIGHUP from the moment of [`Hangups::listen`] on. It no longer ends the process.
#[derive(Debug)]
pub(crate) struct Hangups(#[cfg(unix)] tokio::signal::unix::Signal);

impl Hangups {
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self(signal(SignalKind::hangup())?))
        }
        #[cfg(not(unix))]
        Ok(Self())
    }

    /// The next one. Where there is no such signal, never.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if self.0.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
