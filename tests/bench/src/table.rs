//! The figures of a run as tables, for a terminal and for a page.

use crate::figure::{grouped, mebibytes, micros};
use crate::report::{AtBroker, Figures, Ran, Report, Spread};
use crate::scenario::REFERENCE;
use crate::verdict::{Verdict, Word};

/// A table: a head and rows of as many cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    head: Vec<String>,
    /// How many columns, from the left, are words; the others are figures.
    words: usize,
    rows: Vec<Vec<String>>,
}

/// What stands where there is no figure.
const NOTHING: &str = "–";

impl Table {
    fn new(words: usize, head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            words,
            rows: Vec::new(),
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What messages cost: the scenarios that count deliveries.
    #[must_use]
    pub fn deliveries(report: &Report) -> Self {
        let reference = reference(report);
        let mut table = Self::new(
            2,
            &[
                "scenario",
                "broker",
                "deliveries/s",
                "CPU µs per delivery",
                &format!("ratio to {reference}"),
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "memory MiB",
                "lost",
                "twice",
                "out of order",
                "load CPU µs",
            ],
        );
        table.fill(
            report,
            |figures| figures.cpu.is_some(),
            |ran, figures| {
                let reference = report.figures(&ran.name, reference);
                let of_reference = reference.and_then(|reference| reference.cpu);
                vec![
                    text(figures.rate, grouped),
                    text(figures.cpu, micros),
                    ratio(figures.cpu, of_reference),
                    text(figures.p50, micros),
                    text(figures.p99, micros),
                    text(figures.p999, micros),
                    text(figures.resident, mebibytes),
                    figures.lost.to_string(),
                    figures.duplicated.to_string(),
                    figures.out_of_order.to_string(),
                    text(figures.load_cpu, micros),
                ]
            },
        );
        table
    }

    /// What connections cost.
    #[must_use]
    pub fn connections(report: &Report) -> Self {
        let mut table = Self::new(
            2,
            &[
                "scenario",
                "broker",
                "connections/s",
                "CPU µs per connection",
                "bytes per connection",
                "memory MiB",
            ],
        );
        table.fill(
            report,
            |figures| figures.connect_rate.is_some(),
            |_, figures| {
                vec![
                    text(figures.connect_rate, grouped),
                    text(figures.connect_cpu, micros),
                    text(figures.connection_bytes, grouped),
                    text(figures.resident, mebibytes),
                ]
            },
        );
        table
    }

    /// What another carrier costs: each scenario that has one beside it, as a part or a multiple of it.
    #[must_use]
    pub fn beside(report: &Report) -> Self {
        let mut table = Self::new(
            3,
            &[
                "scenario",
                "beside",
                "broker",
                "a second",
                "CPU each",
                "p50",
                "p99",
                "bytes per connection",
            ],
        );
        for ran in &report.scenarios {
            let Some(beside) = report.beside(ran) else {
                continue;
            };
            let brokers = ran.results.iter().map(|at| at.broker.as_str());
            table.rows.extend(brokers.filter_map(|broker| {
                let own = report.figures(&ran.name, broker)?;
                let other = report.figures(&beside.name, broker)?;
                let part = |pick: fn(&Figures) -> Option<Spread>| ratio(pick(own), pick(other));
                Some(vec![
                    ran.name.clone(),
                    beside.name.clone(),
                    broker.to_owned(),
                    part(Figures::any_rate),
                    part(Figures::any_cpu),
                    part(|figures| figures.p50),
                    part(|figures| figures.p99),
                    part(|figures| figures.connection_bytes),
                ])
            }));
        }
        table
    }

    /// What it takes to keep messages before they are acknowledged.
    #[must_use]
    pub fn durable(report: &Report) -> Self {
        let mut table = Self::new(
            2,
            &[
                "scenario",
                "broker",
                "acknowledged/s",
                "per sync",
                "syncs/s",
                "bare file: syncs/s",
                "bare file: messages/s",
                "part of it",
            ],
        );
        table.fill(
            report,
            |figures| figures.kept_rate.is_some(),
            |_, figures| {
                vec![
                    text(figures.kept_rate, grouped),
                    text(figures.per_sync, micros),
                    text(figures.sync_rate, grouped),
                    text(figures.bare_sync_rate, grouped),
                    text(figures.bare_rate, grouped),
                    text(figures.of_bare, micros),
                ]
            },
        );
        table
    }

    /// What messages cost that wait for clients that are away.
    #[must_use]
    pub fn queues(report: &Report) -> Self {
        let mut table = Self::new(
            2,
            &[
                "scenario",
                "broker",
                "bytes on disk per message",
                "ms to the first message",
                "memory before, MiB",
                "growth, MiB",
            ],
        );
        table.fill(
            report,
            |figures| figures.first.is_some(),
            |_, figures| {
                vec![
                    text(figures.message_disk, grouped),
                    text(figures.first, |seconds| micros(seconds * 1e3)),
                    text(figures.before, mebibytes),
                    text(figures.growth, mebibytes),
                ]
            },
        );
        table
    }

    /// What sessions cost whose clients are away.
    #[must_use]
    pub fn sessions(report: &Report) -> Self {
        let mut table = Self::new(
            2,
            &[
                "scenario",
                "broker",
                "made/s",
                "bytes of memory",
                "bytes of memory after a restart",
                "bytes on disk",
                "s to start again",
                "not there any more",
            ],
        );
        table.fill(
            report,
            |figures| figures.restart.is_some(),
            |_, figures| {
                vec![
                    text(figures.session_rate, grouped),
                    text(figures.session_memory, grouped),
                    text(figures.session_memory_again, grouped),
                    text(figures.session_disk, grouped),
                    text(figures.restart, micros),
                    figures.lost.to_string(),
                ]
            },
        );
        table
    }

    fn fill(
        &mut self,
        report: &Report,
        belongs: impl Fn(&Figures) -> bool,
        cells: impl Fn(&Ran, &Figures) -> Vec<String>,
    ) {
        for ran in &report.scenarios {
            let figures = |at: &AtBroker| at.figures.filter(&belongs);
            if !ran.results.iter().any(|at| figures(at).is_some()) {
                continue;
            }
            let mut name = ran.name.clone();
            for at in &ran.results {
                let mut row = vec![std::mem::take(&mut name), at.broker.clone()];
                match figures(at) {
                    Some(figures) => row.extend(cells(ran, &figures)),
                    None => {
                        let word = at.missing().map_or(NOTHING, |missing| missing.word);
                        row.push(word.to_owned());
                        row.resize(self.head.len(), NOTHING.to_owned());
                    }
                }
                self.rows.push(row);
            }
        }
    }

    /// What is asked of the gateway, and what it does.
    #[must_use]
    pub fn verdicts(verdicts: &[Verdict]) -> Self {
        let mut table = Self::new(
            3,
            &["scenario", "broker", "what", "target", "figure", "met"],
        );
        table.rows = verdicts
            .iter()
            .map(|verdict| {
                let word = match verdict.word {
                    Word::Met => "yes",
                    Word::NotMet => "NO",
                    Word::Unknown => "not known",
                };
                vec![
                    verdict.scenario.clone(),
                    verdict.broker.clone(),
                    verdict.what.to_owned(),
                    verdict.target.clone(),
                    verdict.figure.clone(),
                    word.to_owned(),
                ]
            })
            .collect();
        table
    }

    /// For a page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("| {} |\n|", self.head.join(" | "));
        for column in 0..self.head.len() {
            out += if column < self.words { "---|" } else { "--:|" };
        }
        out.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            out += &format!("| {} |\n", cells.join(" | "));
        }
        out
    }

    /// For a terminal.
    #[must_use]
    pub fn plain(&self) -> String {
        let mut widths: Vec<usize> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column > 0 {
                    line += "  ";
                }
                line += &if column < self.words {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                };
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// The broker that the others are compared with: [`REFERENCE`], and where that took no part the first.
fn reference(report: &Report) -> &str {
    let mut names = report.brokers.iter().map(|broker| broker.name.as_str());
    let first = names.clone().next().unwrap_or(REFERENCE);
    names.find(|name| *name == REFERENCE).unwrap_or(first)
}

fn text(spread: Option<Spread>, form: fn(f64) -> String) -> String {
    spread.map_or_else(|| NOTHING.to_owned(), |spread| form(spread.median))
}

fn ratio(figure: Option<Spread>, of: Option<Spread>) -> String {
    match (figure, of) {
        (Some(figure), Some(of)) if of.median > 0.0 => micros(figure.median / of.median),
        _ => NOTHING.to_owned(),
    }
}

/// What is missing in the figures of a run, and why, a sentence each.
#[must_use]
pub fn missing(report: &Report) -> Vec<String> {
    let absent = report
        .absent
        .iter()
        .map(|absent| format!("{} was not compared: {}.", absent.name, absent.why));
    let rounds = report.scenarios.iter().flat_map(|ran| {
        ran.results.iter().filter_map(|at| {
            let missing = at.missing()?;
            let rounds = match missing.rounds {
                1 => String::new(),
                count => format!(" ({count} rounds)"),
            };
            let why = missing.why.split_whitespace().collect::<Vec<_>>().join(" ");
            Some(format!(
                "{}, {}: {}{rounds}: {why}.",
                ran.name, at.broker, missing.word
            ))
        })
    });
    absent.chain(rounds).collect()
}
