//! The certificates and pre-shared keys of listeners over TLS and DTLS: loaded before anything is bound, looked at again
//! when their files change, and the local certificate for those that name none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use parking_lot::Mutex;
use tidegate_api::Check;
use tidegate_dtls::Credentials;
use tidegate_tls::local::LocalCertificates;
use tidegate_tls::{CertificateFiles, Followed, Identity, Status, Watcher};

use crate::config::Config;
use crate::signals::Hangups;

/// How often the local certificate is looked at: it is renewed weeks before it is due.
const LOCAL_CHECK: Duration = Duration::from_secs(12 * 3600);

/// What each listener shows, by the listener's name.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    /// Of those over TLS and QUIC.
    pub(crate) by_listener: BTreeMap<String, Arc<Identity>>,
    /// Of those over DTLS.
    pub(crate) of_dtls: BTreeMap<String, Arc<Credentials>>,
    /// The local certificate, if a listener shows it.
    local: Option<LocalCertificates>,
}

/// The local certificate of the data directory, as the gateway has made it. Makes nothing: who looks
/// may be somebody else than the gateway, and looking in the wrong place must not leave another CA
/// there.
pub(crate) fn find_local(data_dir: &Path) -> anyhow::Result<LocalCertificates> {
    let directory = local_directory(data_dir);
    LocalCertificates::find(&directory)?.with_context(|| {
        let directory = directory.display();
        format!(
            "there is no local certificate in {directory}; the gateway makes it at its first start \
             (is --data-dir the one of the gateway?)"
        )
    })
}

fn local_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("tls")
}

fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

impl Identities {
    /// Loads every certificate that the configuration names, and makes the local one if a listener
    /// names none.
    pub(crate) fn load(config: &Config) -> anyhow::Result<Self> {
        let mut identities = Self::default();
        for listener in &config.listeners {
            let Some(tls) = &listener.tls else { continue };
            let mut settings = tls.settings.clone();
            if settings.certificates.is_empty() {
                settings.certificates.push(identities.local(config)?);
            }
            let identity = Identity::load(&listener.name, settings)
                .with_context(|| format!("the TLS of listener {}", listener.name))?;
            identities
                .by_listener
                .insert(listener.name.clone(), identity);
        }
        for listener in &config.listeners {
            let Some(dtls) = &listener.dtls else { continue };
            let mut settings = dtls.credentials.clone();
            if dtls.shows_local() {
                settings.certificate = Some(identities.local(config)?);
            }
            let credentials = Credentials::load(&listener.name, settings)
                .with_context(|| format!("the DTLS of listener {}", listener.name))?;
            identities
                .of_dtls
                .insert(listener.name.clone(), credentials);
        }
        Ok(identities)
    }

    /// The local certificate, made if there is none.
    fn local(&mut self, config: &Config) -> anyhow::Result<CertificateFiles> {
        let local = match self.local.take() {
            Some(local) => local,
            None => LocalCertificates::ensure(
                &local_directory(&config.node.data_dir),
                &host_name(),
                SystemTime::now(),
            )
            .context("the local certificate cannot be made")?,
        };
        Ok(self.local.insert(local).files())
    }

    /// Watches the files. What fails is told by the log, the metrics and `check`; the old
    /// certificates stay in force.
    pub(crate) fn watch(self, check: Check) -> anyhow::Result<Keeper> {
        let report = Arc::new(Report {
            identities: self.by_listener.into_values().collect(),
            of_dtls: self.of_dtls.into_values().collect(),
            renewal: Mutex::default(),
            check,
        });
        report.tell();
        let watcher = Watcher::start(report.followed(), {
            let report = Arc::clone(&report);
            move |_, _| report.tell()
        });
        Ok(Keeper {
            watcher: watcher.context("the certificates cannot be watched")?,
            local: self.local,
            report,
        })
    }
}

/// Looks after the certificates while the gateway runs.
#[derive(Debug)]
pub(crate) struct Keeper {
    watcher: Watcher,
    local: Option<LocalCertificates>,
    report: Arc<Report>,
}

impl Keeper {
    /// Looks at the files whenever SIGHUP asks for it, and at the local certificate now and then, for
    /// as long as it is polled.
    pub(crate) async fn keep(self, mut hangups: Hangups) {
        let mut due = tokio::time::interval(LOCAL_CHECK);
        // The first look was when it was loaded.
        due.reset();
        loop {
            tokio::select! {
                () = hangups.next() => {
                    tracing::info!("SIGHUP: the certificates and keys are looked at.");
                    self.watcher.check_now();
                }
                _ = due.tick() => self.renew_local().await,
            }
        }
    }

    async fn renew_local(&self) {
        let Some(local) = self.local.clone() else {
            return;
        };
        let renewing = move || local.renew_if_due(&host_name(), SystemTime::now());
        // The watcher sees what is new.
        let Ok(renewed) = tokio::task::spawn_blocking(renewing).await else {
            return;
        };
        let error = renewed.err();
        if let Some(error) = &error {
            tracing::error!(%error, "The local certificate cannot be renewed.");
        }
        *self.report.renewal.lock() = error.map(|error| error.to_string());
        self.report.tell();
    }
}

/// What is to be said of all certificates together.
#[derive(Debug)]
struct Report {
    identities: Vec<Arc<Identity>>,
    of_dtls: Vec<Arc<Credentials>>,
    /// Why the local certificate could not be renewed.
    renewal: Mutex<Option<String>>,
    check: Check,
}

impl Report {
    /// What is made from files.
    fn followed(&self) -> Vec<Arc<dyn Followed>> {
        let identities = self.identities.iter();
        let identities = identities.map(|it| Arc::clone(it) as Arc<dyn Followed>);
        let of_dtls = self.of_dtls.iter();
        let of_dtls = of_dtls.map(|it| Arc::clone(it) as Arc<dyn Followed>);
        identities.chain(of_dtls).collect()
    }

    /// Each listener, and how its files are.
    fn statuses(&self) -> impl Iterator<Item = (&str, Status)> {
        let identities = self.identities.iter();
        let identities = identities.map(|it| (it.listener(), it.status()));
        let of_dtls = self.of_dtls.iter().map(|it| (it.listener(), it.status()));
        identities.chain(of_dtls)
    }

    /// Says what failed, and what works and should not stay as it is. Clients may still be sent here.
    fn tell(&self) {
        let mut notes = Vec::new();
        for (listener, status) in self.statuses() {
            notes.extend(status.last_error.map(|error| {
                format!("listener {listener}: {error}; what was read before stays in force")
            }));
            let warnings = status.warnings.into_iter();
            notes.extend(warnings.map(|warning| format!("listener {listener}: {warning}")));
        }
        if let Some(error) = &*self.renewal.lock() {
            notes.push(format!("the local certificate cannot be renewed: {error}"));
        }
        if notes.is_empty() {
            self.check.pass();
        } else {
            self.check.warn(notes.join("; "));
        }
    }
}
