//! Notices that certificate files have changed.
//!
//! Not the files are watched but the directories through which they are reached: programs that renew
//! certificates put new files in the place of old ones, and Kubernetes swaps a symbolic link. After
//! each change the way to every file is looked up again. An event is only a reason to look; what counts
//! is what [`Identity::check`] reads. File systems that give no events are looked at every minute.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::paths::{Places, add_places};
use crate::{Identity, Outcome};

/// Several files are seldom written at the same instant: a change counts when this long nothing
/// followed.
const QUIET: Duration = Duration::from_millis(200);
/// But not more patience than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look without a reason.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often to look if the operating system will not tell of changes.
const INTERVAL_WITHOUT_EVENTS: Duration = Duration::from_secs(5);

/// What is made from files, and can look at them again.
pub trait Followed: Send + Sync {
    /// Every file that it is made from.
    fn paths(&self) -> Vec<PathBuf>;

    /// Looks again, and takes what it finds if it is good.
    fn check(&self) -> Outcome;

    /// Says in the log once more what is wrong, if anything is: somebody has asked.
    fn remind(&self);
}

impl Followed for Identity {
    fn paths(&self) -> Vec<PathBuf> {
        Self::paths(self).map(Path::to_owned).collect()
    }

    fn check(&self) -> Outcome {
        Self::check(self)
    }

    fn remind(&self) {
        Self::remind(self);
    }
}

/// A thread that keeps identities up to date; it ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    signals: SyncSender<Signal>,
    stopped: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// Something changed; more may follow.
    Changed,
    /// Look at once: somebody has asked.
    Now,
}

impl Watcher {
    /// Starts the thread, which looks at once and then whenever something changes. `on_outcome` is
    /// called on that thread with each outcome other than [`Outcome::Unchanged`].
    ///
    /// # Errors
    ///
    /// The thread could not be started. That the operating system cannot tell of changes is no error:
    /// the thread then looks every five seconds and says so in the log.
    pub fn start<F: Followed + ?Sized + 'static>(
        followed: Vec<Arc<F>>,
        on_outcome: impl Fn(&Arc<F>, Outcome) + Send + 'static,
    ) -> io::Result<Self> {
        // A signal that finds the channel full is not missed: the thread has yet to look.
        let (signals, receiver) = sync_channel(8);
        let stopped = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            followed,
            signals: signals.clone(),
            receiver,
            stopped: stopped.clone(),
            events: None,
            complained: false,
        };
        thread::Builder::new()
            .name("tls-watcher".to_owned())
            .spawn(move || worker.run(&on_outcome))?;
        Ok(Self { signals, stopped })
    }

    /// Has all files looked at now, for instance because of SIGHUP. Does not wait for it. Files that
    /// still cannot be used are told in the log once more.
    pub fn check_now(&self) {
        let _ = self.signals.try_send(Signal::Now);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let _ = self.signals.try_send(Signal::Now);
    }
}

struct Worker<F: ?Sized> {
    followed: Vec<Arc<F>>,
    signals: SyncSender<Signal>,
    receiver: Receiver<Signal>,
    stopped: Arc<AtomicBool>,
    events: Option<Events>,
    complained: bool,
}

/// Places being watched.
struct Events {
    places: Arc<Places>,
    _watcher: RecommendedWatcher,
}

impl<F: Followed + ?Sized> Worker<F> {
    fn run(mut self, on_outcome: &dyn Fn(&Arc<F>, Outcome)) {
        let mut signal = Some(Signal::Changed);
        loop {
            // Watch before reading, so that no change falls between.
            self.watch(signal.is_some());
            for followed in &self.followed {
                match followed.check() {
                    Outcome::Unchanged if signal == Some(Signal::Now) => followed.remind(),
                    Outcome::Unchanged => {}
                    outcome => on_outcome(followed, outcome),
                }
            }
            signal = self.wait();
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// The next reason to look; none if it is only time.
    fn wait(&self) -> Option<Signal> {
        let interval = if self.events.is_some() {
            INTERVAL
        } else {
            INTERVAL_WITHOUT_EVENTS
        };
        let mut signal = match self.receiver.recv_timeout(interval) {
            Ok(signal) => signal,
            // The worker holds a sender itself: only time can have run out.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        let since = Instant::now();
        while signal == Signal::Changed && since.elapsed() < PATIENCE {
            match self.receiver.recv_timeout(QUIET) {
                Ok(next) => signal = next,
                Err(_) => break,
            }
        }
        Some(signal)
    }

    /// Watches what has to be watched now. Anew after any event (`anew`): a directory of the same name
    /// may be another one.
    fn watch(&mut self, anew: bool) {
        // The ways are looked up before and after: had one changed in between, the wrong place would
        // be watched.
        for attempt in 1..=3 {
            let places = Arc::new(self.places());
            let as_before = self
                .events
                .as_ref()
                .is_some_and(|events| events.places == places);
            if as_before && !anew {
                return;
            }
            let subscribed = self.subscribe(&places);
            if self.places() != *places && attempt < 3 {
                continue;
            }
            match subscribed {
                Ok(watcher) => {
                    self.complained = false;
                    self.events = Some(Events {
                        places,
                        _watcher: watcher,
                    });
                }
                Err(error) => {
                    self.events = None;
                    if !self.complained {
                        self.complained = true;
                        tracing::warn!(
                            %error,
                            "Changes of certificate files cannot be watched; looking every \
                             5 seconds."
                        );
                    }
                }
            }
            return;
        }
    }

    fn places(&self) -> Places {
        let mut places = Places::new();
        for path in self.followed.iter().flat_map(|followed| followed.paths()) {
            add_places(&path, &mut places);
        }
        places
    }

    fn subscribe(&self, places: &Arc<Places>) -> notify::Result<RecommendedWatcher> {
        let (signals, wanted) = (self.signals.clone(), places.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<_>| {
            // An error may be an event that was lost.
            if event
                .as_ref()
                .map_or(true, |event| is_relevant(event, &wanted))
            {
                let _ = signals.try_send(Signal::Changed);
            }
        })?;
        for directory in places.keys() {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

/// Whether an event is about a name of interest, or a directory itself. That files are opened and
/// read is no news: this thread does so, too.
fn is_relevant(event: &notify::Event, places: &Places) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ => {}
    }
    let of_interest = |path: &Path| {
        let in_directory = || {
            let names = places.get(path.parent()?)?;
            path.file_name().map(|name| names.contains(name))
        };
        places.contains_key(path) || in_directory() == Some(true)
    };
    event.need_rescan() || event.paths.iter().any(|path| of_interest(path))
}

#[cfg(test)]
mod tests {
    use notify::event::{
        AccessKind, AccessMode, CreateKind, EventKind, MetadataKind, ModifyKind, RemoveKind,
    };

    use super::{Places, is_relevant};

    #[test]
    fn only_changes_of_names_of_interest_and_of_their_directories_are_relevant() {
        let mut places = Places::new();
        places
            .entry("/tls".into())
            .or_default()
            .insert("a.key".into());
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let mode = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for (kind, path, expected) in [
            (written, "/tls/a.key", true),
            (mode, "/tls/a.key", true),
            (EventKind::Create(CreateKind::File), "/tls/a.key", true),
            (EventKind::Remove(RemoveKind::Folder), "/tls", true),
            (written, "/tls/b.key", false),
            (written, "/a.key", false),
            // The watcher reads the files itself and must not be woken by that.
            (
                EventKind::Access(AccessKind::Open(AccessMode::Any)),
                "/tls/a.key",
                false,
            ),
            (
                EventKind::Access(AccessKind::Close(AccessMode::Read)),
                "/tls/a.key",
                false,
            ),
        ] {
            let event = notify::Event::new(kind).add_path(path.into());
            assert_eq!(is_relevant(&event, &places), expected, "{event:?}");
        }
    }
}
