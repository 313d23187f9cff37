//! What a run of the benchmark found, as it is kept in `results.json`: every round as it was measured,
//! and the figures that are made of them.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::order::Workload;
use crate::reply::{Durable, Measurement};
use crate::scenario::Scenario;

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// When it began, RFC 3339.
    pub date: String,
    /// The commit of the working tree, `-dirty` behind it if there is more than the commit.
    pub commit: String,
    /// Where.
    pub machine: Machine,
    /// How long.
    pub settings: Settings,
    /// The brokers.
    pub brokers: Vec<Compared>,
    /// Brokers that might have been compared and were not, with the reason.
    pub absent: Vec<Absent>,
    /// What they did.
    pub scenarios: Vec<Ran>,
}

/// How long things took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Rounds of each scenario.
    pub rounds: u32,
    /// Rounds of the scenarios that count connections, which are long.
    pub connection_rounds: u32,
    /// Seconds of load before anything counts.
    pub warm_up: f64,
    /// Seconds that count.
    pub seconds: f64,
}

/// A broker that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// Its version, if it is known.
    pub version: String,
    /// Whether it is a build of the gateway: the targets are asked of it.
    pub tidegate: bool,
    /// What it was told beyond its defaults.
    pub told: Vec<String>,
}

/// A broker that took no part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A scenario that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What the load process was asked to do.
    pub workload: Workload,
    /// What came of it, by broker.
    pub results: Vec<AtBroker>,
    /// The run that it is of, if that is an earlier one than the report's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// An earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// When it began, RFC 3339.
    pub date: String,
    /// The commit of the working tree.
    pub commit: String,
}

/// A scenario at one broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtBroker {
    /// The broker.
    pub broker: String,
    /// Of the rounds that were measured, if there is one.
    pub figures: Option<Figures>,
    /// Every round.
    pub rounds: Vec<Outcome>,
}

/// What became of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was measured.
    Measured(Box<Measurement>),
    /// The scenario does not fit the machine.
    DoesNotFit(String),
    /// The broker cannot do this, as it was built or given.
    NotCompared(String),
    /// The broker or the load process failed.
    Failed(String),
}

/// The figures of several rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Deliveries a second.
    pub rate: Option<Spread>,
    /// Processor time of the broker per delivery, in microseconds.
    pub cpu: Option<Spread>,
    /// Processor time of the load process per delivery, in microseconds.
    pub load_cpu: Option<Spread>,
    /// Latency within which half of all deliveries came, in microseconds.
    pub p50: Option<Spread>,
    /// 99 of 100.
    pub p99: Option<Spread>,
    /// 999 of 1,000.
    pub p999: Option<Spread>,
    /// Resident memory of the broker at the end, in bytes.
    pub resident: Option<Spread>,
    /// Connections a second.
    pub connect_rate: Option<Spread>,
    /// Processor time of the broker per connection, in microseconds.
    pub connect_cpu: Option<Spread>,
    /// Resident memory of the broker per connection, in bytes.
    pub connection_bytes: Option<Spread>,
    /// Publishes a second that were acknowledged because they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_rate: Option<Spread>,
    /// Publishes a second that the same disk allows with a bare file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare_rate: Option<Spread>,
    /// The first as a part of the second, round by round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_bare: Option<Spread>,
    /// Publishes to a sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_sync: Option<Spread>,
    /// Syncs a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_rate: Option<Spread>,
    /// Syncs a second of a bare file, with one publish each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare_sync_rate: Option<Spread>,
    /// Bytes on disk for a message that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_disk: Option<Spread>,
    /// Seconds until who came back had the first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Spread>,
    /// Bytes of memory when who was away came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Spread>,
    /// Bytes by which it grew until all was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Spread>,
    /// Sessions made a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_rate: Option<Spread>,
    /// Bytes of memory for a session whose client is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_memory: Option<Spread>,
    /// The same after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_memory_again: Option<Spread>,
    /// Bytes on disk for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_disk: Option<Spread>,
    /// Seconds from the start until a session went on that another process had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Spread>,
    /// Deliveries that never came, of all rounds together.
    pub lost: u64,
    /// Deliveries that came more than once, of all rounds together.
    pub duplicated: u64,
    /// Deliveries that came too early, of all rounds together.
    pub out_of_order: u64,
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// As many rounds are below as above.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` if there is none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

impl AtBroker {
    /// With the figures of these rounds.
    #[must_use]
    pub fn new(broker: &str, rounds: Vec<Outcome>) -> Self {
        let measured: Vec<&Measurement> = rounds.iter().filter_map(Outcome::measured).collect();
        Self {
            broker: broker.to_owned(),
            figures: Figures::of(&measured),
            rounds,
        }
    }

    /// Why rounds are missing, and how many: the first reason that was given.
    #[must_use]
    pub fn missing(&self) -> Option<Missing<'_>> {
        let reasons: Vec<(&'static str, &str)> =
            self.rounds.iter().filter_map(Outcome::reason).collect();
        let (word, why) = *reasons.first()?;
        Some(Missing {
            word,
            why,
            rounds: reasons.len(),
        })
    }
}

/// Rounds without figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing<'a> {
    /// What it is called in a table.
    pub word: &'static str,
    /// The reason.
    pub why: &'a str,
    /// How many.
    pub rounds: usize,
}

impl Outcome {
    /// The figures, if there are any.
    #[must_use]
    pub fn measured(&self) -> Option<&Measurement> {
        match self {
            Self::Measured(measurement) => Some(measurement),
            _ => None,
        }
    }

    fn reason(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Measured(_) => None,
            Self::DoesNotFit(why) => Some(("does not fit", why)),
            Self::NotCompared(why) => Some(("not compared", why)),
            Self::Failed(why) => Some(("failed", why)),
        }
    }
}

impl Figures {
    fn of(rounds: &[&Measurement]) -> Option<Self> {
        if rounds.is_empty() {
            return None;
        }
        let spread = |figure: fn(&Measurement) -> Option<f64>| {
            Spread::of(rounds.iter().filter_map(|round| figure(round)))
        };
        let sum = |figure: fn(&Measurement) -> u64| rounds.iter().map(|round| figure(round)).sum();
        Some(Self {
            rate: spread(|round| per(round.deliveries as f64, round.seconds)),
            cpu: spread(|round| per(round.broker_cpu * 1e6, round.deliveries as f64)),
            load_cpu: spread(|round| per(round.load_cpu * 1e6, round.deliveries as f64)),
            p50: spread(|round| Some(round.latency?.p50)),
            p99: spread(|round| Some(round.latency?.p99)),
            p999: spread(|round| Some(round.latency?.p999)),
            resident: spread(|round| Some(round.resident as f64)),
            connect_rate: spread(|round| Some(round.connections?.rate)),
            connect_cpu: spread(|round| Some(round.connections?.cpu)),
            connection_bytes: spread(|round| round.connections?.bytes),
            kept_rate: spread(|round| kept_rate(round.durable?)),
            bare_rate: spread(|round| Some(round.durable?.disk?.grouped)),
            of_bare: spread(|round| {
                let durable = round.durable?;
                per(kept_rate(durable)?, durable.disk?.grouped)
            }),
            per_sync: spread(|round| {
                let durable = round.durable?;
                per(durable.acknowledged as f64, durable.syncs? as f64)
            }),
            sync_rate: spread(|round| {
                let durable = round.durable?;
                per(durable.syncs? as f64, durable.seconds)
            }),
            bare_sync_rate: spread(|round| Some(round.durable?.disk?.single)),
            message_disk: spread(|round| round.queues?.disk),
            first: spread(|round| Some(round.queues?.first)),
            before: spread(|round| Some(round.queues?.before as f64)),
            growth: spread(|round| {
                let queues = round.queues?;
                Some(queues.peak.saturating_sub(queues.before) as f64)
            }),
            session_rate: spread(|round| Some(round.sessions?.rate)),
            session_memory: spread(|round| Some(round.sessions?.memory)),
            session_memory_again: spread(|round| Some(round.sessions?.memory_again)),
            session_disk: spread(|round| Some(round.sessions?.disk)),
            restart: spread(|round| Some(round.sessions?.restart)),
            lost: sum(|round| round.lost),
            duplicated: sum(|round| round.duplicated),
            out_of_order: sum(|round| round.out_of_order),
        })
    }
}

impl Figures {
    /// Processor time per delivery; where there are none, per connection.
    pub(crate) fn any_cpu(&self) -> Option<Spread> {
        self.cpu.or(self.connect_cpu)
    }

    /// Deliveries a second; where there are none, connections.
    pub(crate) fn any_rate(&self) -> Option<Spread> {
        self.connect_rate.or(self.rate)
    }
}

/// Publishes a second that were acknowledged.
fn kept_rate(durable: Durable) -> Option<f64> {
    per(durable.acknowledged as f64, durable.seconds)
}

/// A part of nothing is no figure.
fn per(figure: f64, of: f64) -> Option<f64> {
    (of > 0.0).then(|| figure / of)
}

impl Report {
    /// With the scenarios of an earlier report that were not run again, in the order of all scenarios.
    ///
    /// # Errors
    ///
    /// If they cannot stand beside these: they are of another machine, of other settings, or of brokers that
    /// took no part.
    pub fn with_earlier(mut self, earlier: Self) -> Result<Self, String> {
        if self.machine != earlier.machine {
            return Err("the earlier figures are of another machine".to_owned());
        }
        if self.settings != earlier.settings {
            return Err("the earlier figures are of other rounds or seconds".to_owned());
        }
        let takes_part = |other: &Compared| {
            let same = |own: &Compared| own.name == other.name && own.version == other.version;
            self.brokers.iter().any(same)
        };
        if let Some(other) = earlier.brokers.iter().find(|other| !takes_part(other)) {
            return Err(format!(
                "{} {} took part in the earlier run only",
                other.name, other.version
            ));
        }
        let run = Earlier {
            date: earlier.date,
            commit: earlier.commit,
        };
        for mut ran in earlier.scenarios {
            if !self.scenarios.iter().any(|own| own.name == ran.name) {
                ran.earlier.get_or_insert_with(|| run.clone());
                self.scenarios.push(ran);
            }
        }
        let all = Scenario::all();
        self.scenarios
            .sort_by_key(|ran| all.iter().position(|one| one.name == ran.name));
        Ok(self)
    }

    /// What stands beside a scenario, of the same run.
    #[must_use]
    pub fn beside(&self, ran: &Ran) -> Option<&Ran> {
        let all = Scenario::all();
        let beside = all.iter().find(|one| one.name == ran.name)?.beside?;
        let other = self.scenarios.iter().find(|one| one.name == beside)?;
        (other.earlier == ran.earlier).then_some(other)
    }

    /// The figures of a broker in a scenario.
    #[must_use]
    pub fn figures(&self, scenario: &str, broker: &str) -> Option<&Figures> {
        let ran = self.scenarios.iter().find(|ran| ran.name == scenario)?;
        let at = ran.results.iter().find(|at| at.broker == broker)?;
        at.figures.as_ref()
    }
}
