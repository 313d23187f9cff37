//! The other brokers do as `docs/conformance.md` says they do: each case at an instance of its own.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use tidegate_conformance::{Broker, CaseId, FILES, Results, Verdict, alone, cases};
use tidegate_tests::wire::set_patience;

/// How often a case may differ before it counts: a machine with much to do can be late once.
const TRIES: usize = 3;

fn main() {
    let mut arguments = Arguments::from_args();
    // Cases wait more than they compute.
    arguments.test_threads.get_or_insert(16);
    // As when it was recorded: every failure takes this long.
    set_patience(Duration::from_secs(5));
    let mut trials = Vec::new();
    let [.., mosquitto, rumqttd] = FILES;
    for (file, broker) in [
        (mosquitto, Broker::mosquitto()),
        (rumqttd, Broker::rumqttd().ok()),
    ] {
        let recorded = Arc::new(Results::read(file));
        let version = recorded.as_ref().as_ref().map(|results| &results.broker);
        // Another version has other verdicts: there is nothing to compare.
        let comparable = match (&broker, version) {
            (Some(broker), Ok(version)) => broker.name() == *version,
            (None, Ok(_)) => false,
            // The case says what is wrong.
            (_, Err(_)) => true,
        };
        for case in cases() {
            let (broker, recorded) = (broker.clone(), Arc::clone(&recorded));
            let trial = Trial::test(format!("{file}::{case}"), move || {
                compare(broker.as_ref(), case, recorded.as_ref().as_ref())
            });
            trials.push(trial.with_ignored_flag(!comparable));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn compare(
    broker: Option<&Broker>,
    case: CaseId,
    recorded: Result<&Results, &anyhow::Error>,
) -> Result<(), Failed> {
    let recorded = recorded.map_err(|error| format!("nothing recorded: {error:#}"))?;
    let broker = broker.ok_or("the broker is not there")?;
    let expected = recorded.cases.get(&case.to_string());
    let expected = expected.ok_or("not in docs/conformance.md: cargo xtask conformance --write")?;
    if expected.verdict == Verdict::Varies {
        return Ok(());
    }
    let mut last = None;
    for _ in 0..TRIES {
        let outcome = alone(broker, case).map_err(|error| format!("{error:#}"))?;
        if outcome.verdict == expected.verdict {
            return Ok(());
        }
        last = Some(outcome);
    }
    let expected = expected.verdict;
    Err(format!(
        "docs/conformance.md says {expected:?}, but: {last:?}; cargo xtask conformance --write"
    )
    .into())
}
