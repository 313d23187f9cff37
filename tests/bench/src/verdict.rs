//! Whether the gateway does what is asked of it.

use crate::figure::{grouped, mebibytes, micros};
use crate::report::{Figures, Ran, Report, Spread};
use crate::scenario::{REFERENCE, Scenario, Target};

/// A target and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The scenario.
    pub scenario: String,
    /// The build of the gateway.
    pub broker: String,
    /// What the target is about.
    pub what: &'static str,
    /// What is asked for.
    pub target: String,
    /// What was measured.
    pub figure: String,
    /// The judgement.
    pub word: Word,
}

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is met.
    Met,
    /// It is not met.
    NotMet,
    /// Figures to judge by are missing.
    Unknown,
}

/// Judges every build of the gateway in every scenario that was run.
#[must_use]
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let scenarios = Scenario::all();
    let mut all = Vec::new();
    for ran in &report.scenarios {
        let known = scenarios.iter().find(|scenario| scenario.name == ran.name);
        let targets = known.map_or(&[][..], |scenario| &scenario.targets);
        for broker in report.brokers.iter().filter(|broker| broker.tidegate) {
            let judge = Judge {
                report,
                ran,
                broker: &broker.name,
                scenario: known,
            };
            let own = report.figures(&ran.name, &broker.name);
            let verdicts = targets.iter().map(|target| judge.target(*target, own));
            all.extend(verdicts.chain([lossless(own)]).map(|judged| Verdict {
                scenario: ran.name.clone(),
                broker: broker.name.clone(),
                what: judged.what,
                target: judged.target,
                figure: judged.figure.unwrap_or_else(|| "–".to_owned()),
                word: match judged.met {
                    Some(true) => Word::Met,
                    Some(false) => Word::NotMet,
                    None => Word::Unknown,
                },
            }));
        }
    }
    all
}

struct Judge<'a> {
    report: &'a Report,
    ran: &'a Ran,
    /// The build of the gateway that is judged.
    broker: &'a str,
    scenario: Option<&'a Scenario>,
}

struct Judged {
    what: &'static str,
    target: String,
    figure: Option<String>,
    met: Option<bool>,
}

type Pick = fn(&Figures) -> Option<Spread>;

impl Judge<'_> {
    fn target(&self, target: Target, own: Option<&Figures>) -> Judged {
        let part = |what, most: f64, pick: Pick| {
            let figure = self.part_of_reference(own, pick);
            Judged {
                what,
                target: format!("at most {most} of {REFERENCE}'s"),
                figure: figure.map(micros),
                met: figure.map(|figure| figure <= most),
            }
        };
        match target {
            Target::Cpu(most) => part("CPU per delivery", most, |figures| figures.cpu),
            Target::CpuBeside(most) => {
                let (name, part) = self.part_of_beside(own, Figures::any_cpu);
                Judged {
                    what: self.cpu_of(),
                    target: format!("at most {most} of {name}'s"),
                    figure: part.map(micros),
                    met: part.map(|part| part <= most),
                }
            }
            Target::RateBeside(least) => {
                let (name, part) = self.part_of_beside(own, Figures::any_rate);
                Judged {
                    what: self.rate_of(),
                    target: format!("at least {least} of {name}'s"),
                    figure: part.map(micros),
                    met: part.map(|part| part >= least),
                }
            }
            Target::P50(most) => part("p50", most, |figures| figures.p50),
            Target::P99(most) => part("p99", most, |figures| figures.p99),
            Target::Rate => self.rate(own),
            Target::Bytes(most, stretch) => {
                let bytes = own.and_then(|own| own.connection_bytes);
                let stretch = stretch.map(|bytes| format!(" (stretch: {})", grouped(bytes)));
                Judged {
                    what: "bytes per connection",
                    target: format!("at most {}{}", grouped(most), stretch.unwrap_or_default()),
                    figure: bytes.map(|bytes| grouped(bytes.median)),
                    met: bytes.map(|bytes| bytes.median <= most),
                }
            }
            Target::Durable { least, part } => durable(least, part, own),
            Target::MessageDisk(most) => {
                let figure = own.and_then(|own| own.message_disk);
                at_most("bytes on disk per message", most, grouped, figure)
            }
            Target::First(most) => {
                let figure = own.and_then(|own| own.first);
                at_most("seconds to the first message", most, micros, figure)
            }
            Target::Growth(most) => {
                let figure = own.and_then(|own| own.growth);
                at_most("growth of memory, MiB", most, mebibytes, figure)
            }
            Target::SessionMemory(most) => {
                // Of both processes, the one that had its sessions' connections and the one after it.
                let figures = own.and_then(|own| own.session_memory.zip(own.session_memory_again));
                let larger = figures.map(|(one, other)| {
                    if one.median > other.median {
                        one
                    } else {
                        other
                    }
                });
                at_most("bytes of memory per session", most, grouped, larger)
            }
            Target::SessionDisk(most) => {
                let figure = own.and_then(|own| own.session_disk);
                at_most("bytes on disk per session", most, grouped, figure)
            }
            Target::Restart(most) => {
                let figure = own.and_then(|own| own.restart);
                at_most("seconds to start again", most, micros, figure)
            }
        }
    }

    /// The scenario beside this one, and a figure as a part of what the same build has there.
    fn part_of_beside(&self, own: Option<&Figures>, pick: Pick) -> (&str, Option<f64>) {
        let name = self.scenario.and_then(|scenario| scenario.beside);
        let part = || {
            let beside = self.report.beside(self.ran)?;
            let other = self.report.figures(&beside.name, self.broker)?;
            let (own, other) = (pick(own?)?, pick(other)?);
            (other.median > 0.0).then(|| own.median / other.median)
        };
        (name.unwrap_or("nothing"), part())
    }

    fn cpu_of(&self) -> &'static str {
        match self.ran.workload.delivers() {
            true => "CPU per delivery",
            false => "CPU per connection",
        }
    }

    fn rate_of(&self) -> &'static str {
        match self.ran.workload.delivers() {
            true => "deliveries/s",
            false => "connections/s",
        }
    }

    fn part_of_reference(&self, own: Option<&Figures>, pick: Pick) -> Option<f64> {
        let reference = self.report.figures(&self.ran.name, REFERENCE);
        let (own, reference) = (pick(own?)?, pick(reference?)?);
        (reference.median > 0.0).then(|| own.median / reference.median)
    }

    /// Deliveries a second, as a part of what the best broker reaches that is not the gateway.
    fn rate(&self, own: Option<&Figures>) -> Judged {
        let others = self.report.brokers.iter().filter(|other| !other.tidegate);
        let rates = others.filter_map(|other| {
            let figures = self.report.figures(&self.ran.name, &other.name)?;
            Some((figures.rate?.median, other.name.as_str()))
        });
        let best = rates.max_by(|(one, _), (other, _)| one.total_cmp(other));
        let part = best.and_then(|(rate, name)| {
            let own = own?.rate?.median;
            (rate > 0.0).then(|| (own / rate, name))
        });
        Judged {
            what: "deliveries/s",
            target: "at least the best other's".to_owned(),
            figure: part.map(|(part, name)| format!("{} of {name}'s", micros(part))),
            met: part.map(|(part, _)| part >= 1.0),
        }
    }
}

fn at_most(
    what: &'static str,
    most: f64,
    form: fn(f64) -> String,
    figure: Option<Spread>,
) -> Judged {
    Judged {
        what,
        target: format!("at most {}", form(most)),
        figure: figure.map(|figure| form(figure.median)),
        met: figure.map(|figure| figure.median <= most),
    }
}

fn durable(least: f64, part: f64, own: Option<&Figures>) -> Judged {
    let rate = own.and_then(|own| own.kept_rate).map(|rate| rate.median);
    let of_bare = own.and_then(|own| own.of_bare).map(|part| part.median);
    let figure = rate.map(|rate| {
        let of_bare = of_bare.map(|part| format!(", {} of it", micros(part)));
        format!("{}{}", grouped(rate), of_bare.unwrap_or_default())
    });
    Judged {
        what: "acknowledged/s",
        target: format!("at least {}, or {part} of a bare file's", grouped(least)),
        figure,
        met: rate.map(|rate| rate >= least || of_bare.is_some_and(|figure| figure >= part)),
    }
}

fn lossless(own: Option<&Figures>) -> Judged {
    Judged {
        what: "lost, twice",
        target: "0, 0".to_owned(),
        figure: own.map(|own| format!("{}, {}", own.lost, own.duplicated)),
        met: own.map(|own| own.lost == 0 && own.duplicated == 0),
    }
}
