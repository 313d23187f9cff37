//! The loop: start, let the clients work, kill.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::clock;
use crate::crew::{Crew, Place, Told};
use crate::event::{Event, What};
use crate::gateway::{Crash, Gateway};
use crate::moment::{Counts, Moment};
use crate::plan::{Errand, Plan, Round};
use crate::rules::{Stage, Violation, check};

/// For so long nothing has to happen until it counts as quiet.
pub(crate) const QUIET: Duration = Duration::from_millis(50);

/// For so long something may be outstanding while nothing happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that runs, and what has happened so far.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) gateway: Gateway,
    pub(crate) kills: usize,
    crews: Vec<Crew>,
    place: Place,
    sender: Sender<Told>,
    receiver: Receiver<Told>,
    events: Vec<Event>,
    /// When the last event came.
    pub(crate) last: Instant,
    /// Since the gateway was started.
    counts: Counts,
    /// Messages that the writers may send and that are not answered.
    outstanding: BTreeMap<&'static str, usize>,
    /// Whose SUBACK has come.
    pub(crate) subscribed: BTreeSet<String>,
    /// Who has stayed away at any time.
    pub(crate) left: BTreeSet<String>,
    /// How often somebody has seen all retained messages.
    pub(crate) looks: usize,
}

impl Run {
    pub(crate) fn new(plan: Plan, crash: Crash, directory: &Path, python: PathBuf) -> Result<Self> {
        let gateway = Gateway::new(directory, crash)?;
        let (sender, receiver) = channel();
        let place = Place {
            python,
            logs: directory.to_owned(),
            address: gateway.address(),
        };
        let crews = plan.crews.iter();
        let crews = crews.map(|crew| Crew::start(crew.clone(), &place, sender.clone()));
        Ok(Self {
            crews: crews.collect::<Result<_>>()?,
            outstanding: plan.writers().map(|name| (name, 0)).collect(),
            plan,
            gateway,
            kills: 0,
            place,
            sender,
            receiver,
            events: Vec::new(),
            last: Instant::now(),
            counts: Counts::default(),
            subscribed: BTreeSet::new(),
            left: BTreeSet::new(),
            looks: 0,
        })
    }

    /// All of it. Nothing further is done when a rule is found to be broken, except to see what else is.
    pub(crate) fn go(&mut self, kills: bool, until: Option<Instant>) -> Result<()> {
        self.start()?;
        self.gather()?;
        let rounds = self.plan.rounds.clone();
        let mut seen = 0;
        for (number, round) in (0..).zip(&rounds) {
            if number > 0 && until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            // One that is drawn to be killed while it starts cannot be the one that is there already.
            if number > 0 && kills {
                self.gateway.start()?;
                if let Moment::Started(after) = round.moment {
                    self.rest(after)?;
                } else {
                    self.is_ready()?;
                }
            }
            self.round(number, round, kills)?;
            if kills {
                self.kill()?;
                self.stay_away(number)?;
            }
            // Each look is at everything, so there is none until there is much more to see.
            if self.events.len() >= seen + seen / 2 {
                seen = self.events.len();
                if !self.broken(Stage::Running).is_empty() {
                    break;
                }
            }
        }
        if kills {
            self.start()?;
        }
        self.finish(kills)?;
        self.gateway.lives()?;
        self.gateway.has_not_panicked()
    }

    /// Ends the processes and gives back what has happened, by time.
    pub(crate) fn end(mut self) -> Vec<Event> {
        self.gateway.keep_metrics();
        self.sort();
        self.events
    }

    // ---- a round ---------------------------------------------------------------------------------

    /// Until the moment of the kill; what the clients were to do by then they do at the latest now.
    fn round(&mut self, number: u32, round: &Round, kills: bool) -> Result<()> {
        let mut errands: VecDeque<_> = round.errands.iter().collect();
        if !matches!(round.moment, Moment::Started(_)) {
            self.come_with_will(number)?;
            self.publish(round.credit, round.window)?;
            self.work(round.moment, &mut errands)?;
        }
        for (_, errand) in errands {
            // There is nothing to see any more, and killing twice at once proves nothing.
            if !kills || matches!(errand, Errand::Come(_) | Errand::Go(..)) {
                self.act(errand)?;
            }
        }
        Ok(())
    }

    fn work(&mut self, moment: Moment, errands: &mut VecDeque<&(usize, Errand)>) -> Result<()> {
        let started = Instant::now();
        self.last = started;
        loop {
            while let Some((after, errand)) = errands.front()
                && *after <= self.counts.acknowledged
            {
                self.act(errand)?;
                errands.pop_front();
            }
            if moment.has_come(self.counts, started.elapsed()) {
                return Ok(());
            }
            let settled = self.is_settled() && self.last.elapsed() >= QUIET;
            let rest = moment.rest(started.elapsed());
            if settled && let Some((_, errand)) = errands.pop_front() {
                self.act(errand)?;
                self.last = Instant::now();
            } else if settled && rest.is_none() {
                return Ok(());
            }
            self.next(rest.unwrap_or(QUIET).min(QUIET))?;
            self.is_alive()?;
        }
    }

    fn act(&mut self, errand: &Errand) -> Result<()> {
        match errand {
            Errand::Come(name) => self.come(name),
            Errand::Go(name, polite) => self.tell(
                name,
                &json!({ "do": "go", "client": name, "polite": polite }),
            ),
            Errand::Drop(name) => self.tell(name, &json!({ "do": "drop", "client": name })),
            Errand::Die(crew) => self.die(crew),
            Errand::Look => self.look(),
        }
    }

    /// The process of a crew is killed and another one started, whose clients come.
    fn die(&mut self, name: &str) -> Result<()> {
        let crew = self.crews.iter_mut().find(|crew| crew.plan.name == name);
        let crew = crew.context("no such crew")?;
        crew.kill()?;
        let clients = crew.plan.clients.iter_mut();
        let mut names = Vec::new();
        for client in clients {
            names.push(client.client.clone());
        }
        // Up to the end of that process, whose last words say who has subscribed.
        let life = crew.lives;
        self.hear(name, life)?;
        let at = clock::now();
        for client in &names {
            let client = client.clone();
            let what = What::Died { client };
            self.events.push(Event { at, what });
        }
        let crew = self.crews.iter_mut().find(|crew| crew.plan.name == name);
        let crew = crew.context("no such crew")?;
        for client in &mut crew.plan.clients {
            client.subscribed = self.subscribed.contains(&client.client);
        }
        crew.again(&self.place, self.sender.clone())?;
        for name in names {
            self.come(&name)?;
        }
        Ok(())
    }

    // ---- the gateway -----------------------------------------------------------------------------

    pub(crate) fn start(&mut self) -> Result<()> {
        self.gateway.start()?;
        self.is_ready()
    }

    fn is_ready(&mut self) -> Result<()> {
        self.gateway.ready()?;
        self.happened(What::Started);
        self.counts = Counts::default();
        for crew in &mut self.crews {
            crew.order(&json!({ "do": "up" }))?;
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.happened(What::Killed);
        self.gateway.kill()?;
        self.kills += 1;
        // What the clients have said by now.
        while self.next(Duration::ZERO)? {}
        Ok(())
    }

    fn is_alive(&mut self) -> Result<()> {
        if self.last.elapsed() < QUIET {
            return Ok(());
        }
        self.gateway.lives()?;
        ensure!(
            self.is_settled() || self.last.elapsed() < PATIENCE,
            "nothing has happened for {PATIENCE:?}, but not everything is acknowledged: {:?}",
            self.outstanding
        );
        Ok(())
    }

    // ---- the clients -----------------------------------------------------------------------------

    pub(crate) fn tell(&mut self, client: &str, order: &Value) -> Result<()> {
        let has = |crew: &&mut Crew| crew.plan.clients.iter().any(|one| one.client == client);
        let crew = self.crews.iter_mut().find(has);
        crew.with_context(|| format!("no client {client}"))?
            .order(order)
    }

    pub(crate) fn come(&mut self, client: &str) -> Result<()> {
        self.tell(client, &json!({ "do": "come", "client": client }))
    }

    pub(crate) fn look(&mut self) -> Result<()> {
        // Whoever is there all the time.
        let crew = self.crews.first_mut().context("no crew")?;
        crew.order(&json!({ "do": "look" }))
    }

    /// Each writer may send so many messages more, unless it has fallen behind.
    pub(crate) fn publish(&mut self, credit: usize, window: usize) -> Result<()> {
        for name in self.plan.writers() {
            let open = self.outstanding.entry(name).or_default();
            let count = credit.min((2 * credit).saturating_sub(*open));
            *open += count;
            let order =
                json!({ "do": "publish", "client": name, "count": count, "window": window });
            self.tell(name, &order)?;
        }
        Ok(())
    }

    /// Whether the writers have nothing to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.outstanding.values().all(|open| *open == 0)
    }

    // ---- what has happened -----------------------------------------------------------------------

    fn happened(&mut self, what: What) {
        let at = clock::now();
        self.events.push(Event { at, what });
    }

    /// Waits for the next event, but not for longer; whether there was one.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<bool> {
        match self.receiver.recv_timeout(limit) {
            Ok(Told::Event(event)) => {
                self.count(event);
                Ok(true)
            }
            Ok(Told::Nonsense(line)) => bail!("a client says what is no event: {line}"),
            Ok(Told::End(name, life)) => {
                let crew = self.crews.iter().find(|crew| crew.plan.name == name);
                let current = crew.is_some_and(|crew| crew.lives == life);
                ensure!(!current, "the clients of {name} have ended; see their log");
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    /// Everything that a process has said before it was killed.
    fn hear(&mut self, name: &str, life: usize) -> Result<()> {
        loop {
            match self.receiver.recv()? {
                Told::Event(event) => self.count(event),
                Told::Nonsense(line) => bail!("a client says what is no event: {line}"),
                Told::End(crew, ended) if crew == name && ended == life => return Ok(()),
                Told::End(..) => {}
            }
        }
    }

    fn count(&mut self, event: Event) {
        self.last = Instant::now();
        match &event.what {
            What::Acked { client, .. } | What::Refused { client, .. } => {
                self.counts.acknowledged += 1;
                if let Some(open) = self.outstanding.get_mut(client.as_str()) {
                    *open = open.saturating_sub(1);
                }
            }
            What::Arrived { .. } => self.counts.arrived += 1,
            What::Connected { .. } => self.counts.connected += 1,
            What::Subscribed { client, .. } => {
                self.subscribed.insert(client.clone());
            }
            What::Left { client } => {
                self.left.insert(client.clone());
            }
            What::Kept { .. } => self.looks += 1,
            _ => {}
        }
        self.events.push(event);
    }

    /// For so long, with open ears.
    fn rest(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.next(left)?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        // Stable: what one process says keeps its order.
        self.events.sort_by_key(|event| event.at);
    }

    pub(crate) fn broken(&mut self, stage: Stage) -> Vec<Violation> {
        self.sort();
        check(&self.events, stage)
    }

    /// All that is wrong when it is over.
    pub(crate) fn violations(&mut self) -> Vec<Violation> {
        self.broken(Stage::End)
    }
}
