//! The order of things: for each scenario, for each round, each broker, so that what disturbs the machine
//! for a while disturbs all of them.

use std::time::{Duration, SystemTime};

use crate::broker::Broker;
use crate::figure::{grouped, micros};
use crate::interrupt::is_interrupted;
use crate::machine::{Machine, commit};
use crate::progress::Progress;
use crate::report::{Absent, AtBroker, Compared, Outcome, Ran, Report, Settings};
use crate::round::Setting;
use crate::scenario::Scenario;

/// A broker that failed so often in a scenario is not asked again.
const MOST_FAILURES: usize = 2;

/// Runs scenarios at brokers and reports.
#[must_use]
pub fn run(
    setting: &Setting,
    settings: Settings,
    scenarios: &[Scenario],
    brokers: &[Broker],
    absent: Vec<Absent>,
) -> Report {
    let mut report = Report {
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        commit: commit(),
        machine: Machine::here(),
        settings,
        brokers: brokers.iter().map(compared).collect(),
        absent,
        scenarios: Vec::new(),
    };
    let rounds = |scenario: &Scenario| {
        if scenario.is_long() {
            settings.connection_rounds
        } else {
            settings.rounds
        }
    };
    let expected = |scenario: &Scenario| scenario.expected(settings.warm_up, settings.seconds);
    let all = scenarios.iter().map(|scenario| {
        let count = rounds(scenario) as usize * brokers.len();
        (count, expected(scenario) * count as u32)
    });
    let (count, time) = all.fold((0, Duration::ZERO), |(count, time), (more, longer)| {
        (count + more, time + longer)
    });
    let mut progress = Progress::new(count, time);
    for scenario in scenarios {
        let ran = run_scenario(
            setting,
            scenario,
            brokers,
            rounds(scenario),
            expected(scenario),
            &mut progress,
        );
        report.scenarios.push(ran);
        if is_interrupted() {
            break;
        }
    }
    report
}

fn run_scenario(
    setting: &Setting,
    scenario: &Scenario,
    brokers: &[Broker],
    rounds: u32,
    expected: Duration,
    progress: &mut Progress,
) -> Ran {
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); brokers.len()];
    'rounds: for round in 0..rounds {
        // Each broker is the first one in its turn.
        for place in 0..brokers.len() {
            let index = (place + round as usize) % brokers.len();
            let (broker, so_far) = (&brokers[index], &mut outcomes[index]);
            if is_hopeless(so_far) {
                progress.skip(1, expected);
                continue;
            }
            let name = format!(
                "{} round {} of {rounds}, {}",
                scenario.name,
                round + 1,
                broker.name
            );
            let outcome = setting.round(broker, scenario, &mut |text| progress.show(&name, text));
            if is_interrupted() {
                break 'rounds;
            }
            progress.over(&name, &short(&outcome), expected);
            so_far.push(outcome);
        }
    }
    let results = brokers.iter().zip(outcomes);
    Ran {
        name: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        workload: scenario.workload.clone(),
        results: results
            .map(|(broker, outcomes)| AtBroker::new(&broker.name, outcomes))
            .collect(),
        earlier: None,
    }
}

/// Whether another round would end as these did.
fn is_hopeless(outcomes: &[Outcome]) -> bool {
    let failures = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Failed(_)))
        .count();
    let never = outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::DoesNotFit(_) | Outcome::NotCompared(_)));
    never || failures >= MOST_FAILURES
}

fn compared(broker: &Broker) -> Compared {
    Compared {
        name: broker.name.clone(),
        version: broker.version.clone(),
        tidegate: broker.is_tidegate(),
        told: broker.told(),
    }
}

/// An outcome in a few words.
fn short(outcome: &Outcome) -> String {
    let measurement = match outcome {
        Outcome::Measured(measurement) => measurement,
        Outcome::DoesNotFit(why) => return format!("does not fit: {why}"),
        Outcome::NotCompared(why) => return format!("not compared: {why}"),
        Outcome::Failed(why) => return format!("failed: {why}"),
    };
    if let Some(sessions) = measurement.sessions {
        return format!(
            "{} bytes of memory and {} on disk each, {} s to start again",
            grouped(sessions.memory),
            grouped(sessions.disk),
            micros(sessions.restart)
        );
    }
    if let Some(connections) = measurement.connections {
        let bytes = connections
            .bytes
            .map(|bytes| format!(" and {} bytes", grouped(bytes)));
        return format!(
            "{} connections/s, {} µs of CPU{} each",
            grouped(connections.rate),
            micros(connections.cpu),
            bytes.unwrap_or_default()
        );
    }
    let deliveries = measurement.deliveries as f64;
    let mut text = format!(
        "{} deliveries/s, {} µs of CPU each",
        grouped(deliveries / measurement.seconds),
        micros(measurement.broker_cpu * 1e6 / deliveries)
    );
    if let Some(durable) = measurement.durable {
        let rate = durable.acknowledged as f64 / durable.seconds;
        text += &format!(", {} acknowledged/s", grouped(rate));
    }
    for (count, what) in [
        (measurement.lost, "lost"),
        (measurement.duplicated, "twice"),
        (measurement.out_of_order, "out of order"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}
