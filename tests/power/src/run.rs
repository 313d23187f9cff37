//! A run: one recording of a seed, and its points.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tidegate_store::Settings;

use crate::check::check;
use crate::child::settings;
use crate::choice::{Choice, Loss};
use crate::disk::{Disk, Tree};
use crate::failure::{Failure, Figures, Forget, Names, Point};
use crate::history::History;
use crate::log::Event;
use crate::op::Op;
use crate::random::Random;
use crate::record::{Recorder, Recording};
use crate::rules::Breach;
use crate::shrink::minimize;

/// Points that are tried with one walk through the events.
const PASS: usize = 48;
const SHRINK_ATTEMPTS: usize = 150;

/// A point at which rules do not hold.
type Failed = (Point, Vec<Breach>);

/// What a power failure has left, and the operations in it.
type Survivor = (Tree, Vec<Op>);

/// A recording that is tried.
pub struct Trial<'a> {
    recorder: &'a Recorder,
    /// What was recorded.
    pub recording: &'a Recording,
    history: History,
    settings: Settings,
    /// Events from which names change: where most can go wrong.
    edges: Vec<usize>,
    syncs: Vec<usize>,
}

impl fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").finish_non_exhaustive()
    }
}

impl<'a> Trial<'a> {
    /// Prepares the trial. What was recorded must come to what was really there in the end.
    ///
    /// # Errors
    ///
    /// When something was not recorded.
    pub fn new(recorder: &'a Recorder, recording: &'a Recording) -> Result<Self> {
        if let Some(end) = &recording.end {
            let disk = recording.disk_at(recording.events.len(), false)?;
            let found = Choice::everything(&disk).tree(&disk).differences(end);
            ensure!(
                found.is_empty(),
                "what was recorded is not what was done: {}",
                found.join("; ")
            );
        }
        let number = |wanted: fn(&Event) -> bool| {
            let events = recording.events.iter().enumerate();
            events
                .filter(|(_, event)| wanted(event))
                .map(|(number, _)| number)
                .collect()
        };
        let plan = &recording.plan;
        Ok(Self {
            recorder,
            recording,
            history: recording.history()?,
            settings: settings(plan.memtable_bytes, plan.careless),
            edges: number(is_edge),
            syncs: number(|event| matches!(event, Event::SyncEnd { .. })),
        })
    }

    /// What was recorded, in numbers.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures {
            events: self.recording.events.len(),
            syncs: self.syncs.len(),
            operations: self.history.counts().values().sum(),
            boots: self.history.boots,
            ..Figures::default()
        };
        for event in &self.recording.events {
            match event {
                Event::Write { data, .. } => figures.bytes += data.len(),
                Event::Open {
                    path, create: true, ..
                } => {
                    figures.files[0] += usize::from(path.ends_with(".jnl"));
                    figures.files[2] += usize::from(path.contains("/tables/"));
                }
                Event::Unlink { path } => {
                    figures.files[1] += usize::from(path.ends_with(".jnl"));
                    figures.files[3] += usize::from(path.contains("/tables/"));
                }
                _ => {}
            }
            figures.names += usize::from(matches!(
                event,
                Event::Rename { .. } | Event::Unlink { .. } | Event::MakeDirectory { .. }
            ));
        }
        figures
    }

    fn point(&self, random: &mut Random, ordered_names: bool, forget: Forget) -> Point {
        let events = self.recording.events.len() as u64;
        let near = |list: &[usize], random: &mut Random| {
            let chosen = list.get(random.below(list.len() as u64) as usize);
            chosen.map_or(0, |&event| event as u64 + random.below(3))
        };
        let event = match random.below(10) {
            0..4 => near(&self.edges, random),
            4..7 => near(&self.syncs, random),
            _ => random.below(events + 1),
        };
        Point {
            event: event.min(events) as usize,
            seed: random.next(),
            ordered_names,
            forget,
        }
    }

    /// Tries points until there are `most`, or the time is over, or one fails. How many were tried.
    ///
    /// # Errors
    ///
    /// When a directory cannot be rebuilt.
    pub fn run(
        &self,
        seed: u64,
        most: usize,
        until: Option<Instant>,
        names: Names,
        forget: Forget,
    ) -> Result<(usize, Option<Failure>)> {
        let mut random = Random::new(seed ^ 0x0070_6f77_6572);
        let mut tried = 0;
        let mut ordered_names = names == Names::Ordered;
        while tried < most && until.is_none_or(|until| Instant::now() < until) {
            let count = PASS.min(most - tried);
            let mut points: Vec<_> = (0..count)
                .map(|_| self.point(&mut random, ordered_names, forget))
                .collect();
            points.sort_by_key(|point| point.event);
            let (more, failed) = self.pass(&points, until)?;
            tried += more;
            if let Some((point, breaches)) = failed {
                return Ok((tried, Some(self.shrink(point, breaches)?)));
            }
            ordered_names ^= names == Names::Both;
        }
        Ok((tried, None))
    }

    fn pass(&self, points: &[Point], until: Option<Instant>) -> Result<(usize, Option<Failed>)> {
        let failed = Mutex::new(None);
        let stop = AtomicBool::new(false);
        let tried = AtomicUsize::new(0);
        let (send, receive) = mpsc::sync_channel::<(Point, Tree)>(1);
        let receive = Mutex::new(receive);
        let work = |worker: usize| -> Result<()> {
            let path = self.recorder.scratch().join(format!("rebuilt-{worker}"));
            loop {
                let next = receive.lock().map(|queue| queue.recv());
                let Ok(Ok((point, tree))) = next else {
                    return Ok(());
                };
                let judged = self.check(&point, &tree, &path)?;
                tried.fetch_add(1, Ordering::Relaxed);
                if let Err(breaches) = judged {
                    stop.store(true, Ordering::Relaxed);
                    if let Ok(mut failed) = failed.lock() {
                        failed.get_or_insert((point, breaches));
                    }
                }
            }
        };
        thread::scope(|scope| {
            let workers = [0, 1].map(|worker| {
                let work = &work;
                scope.spawn(move || work(worker))
            });
            let walked = self.walk(points, |point, disk| {
                let late = until.is_some_and(|until| Instant::now() >= until);
                if stop.load(Ordering::Relaxed) || late {
                    return false;
                }
                let choice = Choice::random(disk, &mut Random::new(point.seed));
                send.send((*point, choice.tree(disk))).is_ok()
            });
            drop(send);
            for worker in workers {
                let ended = worker.join();
                ended.map_err(|_| anyhow::anyhow!("the checker has panicked"))??;
            }
            walked
        })?;
        let failed = failed.into_inner().ok().flatten();
        Ok((tried.into_inner(), failed))
    }

    fn check(&self, point: &Point, tree: &Tree, path: &Path) -> Result<Result<usize, Vec<Breach>>> {
        let window = self.history.window(point.event);
        let on = point.seed.is_multiple_of(4);
        check(tree, path, &window, &self.settings, on)
    }

    /// Goes through the events and stops at each point, until `at` has enough.
    fn walk(&self, points: &[Point], mut at: impl FnMut(&Point, &Disk) -> bool) -> Result<()> {
        let Some(first) = points.first() else {
            return Ok(());
        };
        let mut disk = self.recording.disk(first.ordered_names);
        let mut next = 0;
        for point in points {
            for number in next..point.event {
                let event = &self.recording.events[number];
                if !disk.forgets(event, point.forget) {
                    disk.apply(number, event)?;
                }
            }
            next = next.max(point.event);
            if !at(point, &disk) {
                break;
            }
        }
        Ok(())
    }

    /// The fewest losses with which it fails.
    fn shrink(&self, point: Point, breaches: Vec<Breach>) -> Result<Failure> {
        let mut disk = None;
        self.walk(&[point], |_, at| {
            disk = Some(at.clone());
            true
        })?;
        let disk = disk.context("the point is behind the end")?;
        let choice = Choice::random(&disk, &mut Random::new(point.seed));
        let path = self.recorder.scratch().join("shrunk");
        let all = choice.lost(&disk);
        let only = |losses: &[Loss]| {
            let others: Vec<_> = all
                .iter()
                .filter(|l| !losses.contains(l))
                .copied()
                .collect();
            choice.without(&others)
        };
        let attempt = |losses: &[Loss]| {
            let tree = only(losses).tree(&disk);
            self.check(&point, &tree, &path)
        };
        let losses = minimize(all.clone(), SHRINK_ATTEMPTS, |losses| {
            attempt(losses).is_ok_and(|judged| judged.is_err())
        });
        let breaches_then = attempt(&losses)?.err().unwrap_or_default();
        let left = only(&losses);
        Ok(Failure {
            point,
            breaches,
            losses: losses.iter().map(|l| l.describe(&disk, &left)).collect(),
            breaches_then,
            tree: left.tree(&disk),
        })
    }

    /// What one power failure leaves: the directory, and what the engine will find in it to be told. A
    /// recording may go on from there.
    ///
    /// # Errors
    ///
    /// When it cannot be rebuilt.
    pub fn survivor(&self, seed: u64, names: Names) -> Result<Result<Survivor, Failure>> {
        let ordered_names = names == Names::Ordered;
        let point = self.point(&mut Random::new(seed), ordered_names, Forget::Nothing);
        let disk = self.recording.disk_at(point.event, ordered_names)?;
        let tree = Choice::random(&disk, &mut Random::new(point.seed)).tree(&disk);
        let path = self.recorder.scratch().join("survivor");
        Ok(match self.check(&point, &tree, &path)? {
            Ok(number) => {
                let told = &self.history.window(point.event).ops[..number];
                Ok((tree, told.iter().copied().cloned().collect()))
            }
            Err(breaches) => Err(self.shrink(point, breaches)?),
        })
    }

    /// Tries one point again.
    ///
    /// # Errors
    ///
    /// When it cannot be rebuilt.
    pub fn again(&self, point: Point) -> Result<Option<Failure>> {
        let (_, failed) = self.pass(&[point], None)?;
        failed
            .map(|(point, breaches)| self.shrink(point, breaches))
            .transpose()
    }
}

fn is_edge(event: &Event) -> bool {
    matches!(
        event,
        Event::Open { create: true, .. }
            | Event::Rename { .. }
            | Event::Unlink { .. }
            | Event::MakeDirectory { .. }
            | Event::RemoveDirectory { .. }
            | Event::Truncate { .. }
    )
}
