//! What a listener shows to its clients and asks of them, always as the files say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::server_config::{self, Built, Contents};
use crate::tickets::Tickets;
use crate::{LoadError, Settings, Status};

/// A listener's certificates and what it asks of clients, shared by all that accept for it.
///
/// Readers take one pointer per handshake and never wait. A change of the files becomes one whole new
/// configuration or, if anything is wrong with it, none.
pub struct Identity {
    listener: String,
    settings: Settings,
    current: ArcSwap<Current>,
    state: Mutex<State>,
}

/// What handshakes need; swapped as one.
pub(crate) struct Current {
    pub(crate) config: Arc<ServerConfig>,
    /// Asks for certificates and checks them; none if clients are not asked.
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Current {
    /// Checks a client's certificates, its own first, as if they had been shown now.
    pub(crate) fn trusts(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        match certificates.and_then(<[_]>::split_first) {
            Some((certificate, intermediates)) => verifier
                .verify_client_cert(certificate, intermediates, UnixTime::now())
                .map(|_| ()),
            None if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

struct State {
    attempt: Attempt,
    tickets: Option<Tickets>,
    status: Status,
}

/// What was found the last time anybody looked, to tell whether there is something new.
#[derive(PartialEq, Eq)]
enum Attempt {
    Contents(Vec<u8>),
    Unreadable(String),
}

/// What came of looking at the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing has changed since the last look, good or bad.
    Unchanged,
    /// The new contents are in use for every handshake from now on.
    Replaced,
    /// There is something new and it cannot be used; what was in use stays. See [`Status::last_error`].
    Failed,
    /// The files have not changed, but what should not stay as it is: a certificate has expired
    /// meanwhile, or the mode of a key is another. See [`Status::warnings`].
    Warned,
}

impl Identity {
    /// Reads the files for the first time. `listener` is the name for the log.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn load(listener: &str, settings: Settings) -> Result<Arc<Self>, LoadError> {
        let contents = Contents::read(&settings)?;
        let built = server_config::build(&settings, &contents, None)?;
        let mut state = State {
            attempt: Attempt::Contents(contents.digest()),
            tickets: None,
            status: Status::default(),
        };
        let current = state.adopt(built);
        let identity = Self {
            listener: listener.to_owned(),
            settings,
            current: ArcSwap::from_pointee(current),
            state: Mutex::new(state),
        };
        identity.warn();
        Ok(Arc::new(identity))
    }

    /// The listener's name.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The configuration for the next handshake. Not to be kept: ask again for each.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// Checks a client's certificates, its own first, as if they had been shown now. Of a session that was
    /// resumed they were checked when its ticket was made, and may have expired or been revoked since.
    ///
    /// # Errors
    ///
    /// Why they do not hold.
    pub fn still_trusts(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<(), rustls::Error> {
        self.current().trusts(certificates)
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Every file that the settings name.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.settings.certificates.iter();
        let ca = self.settings.client.ca();
        pairs
            .flat_map(|files| [files.chain.as_path(), files.key.as_path()])
            .chain(ca.map(|ca| ca.ca.as_path()))
            .chain(ca.and_then(|ca| ca.crl.as_deref()))
            .chain(
                self.settings
                    .resumption
                    .ticket_keys()
                    .iter()
                    .map(PathBuf::as_path),
            )
    }

    /// Reads all files again and takes them into use if they differ from the last attempt and are
    /// good. Blocks for as long as reading takes: not for asynchronous threads. [`crate::Watcher`]
    /// calls it when something changes.
    pub fn check(&self) -> Outcome {
        let mut state = self.state.lock();
        let (mut attempt, contents) = self.look();
        if attempt == state.attempt {
            return self.look_at_the_time(&mut state, contents);
        }
        let build = |contents: Contents| {
            server_config::build(&self.settings, &contents, state.tickets.as_ref())
        };
        let mut built = contents.and_then(build);
        if built.is_err() {
            // All files may have been swapped as one while they were read one by one: half of the old
            // and half of the new is nobody's mistake.
            let (second, contents) = self.look();
            if second != attempt {
                (attempt, built) = (second, contents.and_then(build));
            }
        }
        state.attempt = attempt;
        match built {
            Ok(built) => {
                self.current.store(Arc::new(state.adopt(built)));
                state.status.reloads_succeeded += 1;
                drop(state);
                tracing::info!(
                    listener = self.listener,
                    "The listener's certificate files have changed and are in use."
                );
                self.warn();
                Outcome::Replaced
            }
            Err(error) => {
                tracing::error!(
                    listener = self.listener,
                    %error,
                    "The listener's certificate files have changed and cannot be used; the \
                     certificates from before stay in use."
                );
                state.status.last_error = Some(error.to_string());
                state.status.reloads_failed += 1;
                Outcome::Failed
            }
        }
    }

    /// What is in use is as it was; the time is not.
    fn look_at_the_time(
        &self,
        state: &mut State,
        contents: Result<Contents, LoadError>,
    ) -> Outcome {
        let as_of_now = contents.and_then(|it| server_config::status(&self.settings, &it));
        let Ok(as_of_now) = as_of_now else {
            // Told when it was new.
            return Outcome::Unchanged;
        };
        let before = std::mem::replace(&mut state.status.warnings, as_of_now.warnings);
        if state.status.warnings == before {
            return Outcome::Unchanged;
        }
        for warning in &state.status.warnings {
            if !before.contains(warning) {
                self.warn_of(warning);
            }
        }
        Outcome::Warned
    }

    fn look(&self) -> (Attempt, Result<Contents, LoadError>) {
        let contents = Contents::read(&self.settings);
        let attempt = match &contents {
            Ok(contents) => Attempt::Contents(contents.digest()),
            Err(error) => Attempt::Unreadable(error.to_string()),
        };
        (attempt, contents)
    }

    /// Certificates in use, expiry, reloads.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status.clone()
    }

    /// Sessions that are remembered now so that clients may send early data; none without it.
    #[must_use]
    pub fn remembered_sessions(&self) -> Option<usize> {
        let state = self.state.lock();
        state.tickets.as_ref().and_then(Tickets::remembered)
    }

    /// Says once more why the files as they are now are not in use, if they are not: whoever asks for
    /// a look wants to know, and [`Outcome::Unchanged`] says nothing.
    pub(crate) fn remind(&self) {
        if let Some(error) = self.status().last_error {
            tracing::error!(
                listener = self.listener,
                %error,
                "The listener's certificate files still cannot be used; the certificates from \
                 before stay in use."
            );
        }
    }

    /// Says what works but should not stay as it is.
    fn warn(&self) {
        for warning in self.status().warnings {
            self.warn_of(&warning);
        }
    }

    fn warn_of(&self, warning: &str) {
        tracing::warn!(
            listener = self.listener,
            warning,
            "The listener's certificates need attention."
        );
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Keeps what is for operators and for the next reload; returns what is for handshakes.
    fn adopt(&mut self, built: Built) -> Current {
        self.tickets = built.tickets;
        self.status = Status {
            reloads_succeeded: self.status.reloads_succeeded,
            reloads_failed: self.status.reloads_failed,
            ..built.status
        };
        Current {
            config: built.config,
            verifier: built.verifier,
        }
    }
}
