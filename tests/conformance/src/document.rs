//! `docs/conformance.md`, made of the statements, the tests and what was measured.

use std::collections::BTreeMap;
use std::fmt::Write;

use tidegate_tests::wire::Version;

use crate::differences::{Difference, MOSQUITTO, RUMQTTD};
use crate::figures::Figures;
use crate::regressions::REGRESSIONS;
use crate::results::{Recorded, Results};
use crate::runner::{CaseId, Verdict, cases, name};
use crate::statement::{Binds, Statement};
use crate::statements::{mqtt3, mqtt5};
use crate::suite::tests;
use crate::test::Test;

/// Where the document is, from the workspace.
pub const PAGE: &str = "docs/conformance.md";

const INTRODUCTION: &str = "\
# Conformance

Every normative statement of MQTT 3.1.1 and MQTT 5.0, the test that holds a server to it, and how four
servers did. The statements are told in our own words; their numbers are those of appendix B of
[MQTT 3.1.1](https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html) and
[MQTT 5.0](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html), where the words that bind are.

This page is generated. `cargo xtask test` runs every case again, against tidegate over TCP and over
WebSocket, against rumqttd, and against mosquitto where the same version is installed; a verdict that
differs from this page is a failure, and so is a page that the recorded results do not give.

```sh
cargo xtask conformance --address 127.0.0.1:1883
```

runs the same tests against any broker that allows anonymous clients (`--transport tcp|tls|ws|wss|quic`, `--filter`,
`--help`). `cargo xtask conformance --write` measures everything anew and writes this page.

A statement *holds* if every case that proves it passes. A case is a test at one version of MQTT. `n/a` means
that the statement asks nothing of this server, or that the occasion never comes: the server announces that it
lacks, or does not lack, what the statement is about, it never sends such a packet, or there is no WebSocket
here. `varies` means that three runs did not agree. mosquitto and rumqttd run with their default
configuration, each case at an instance of its own, over TCP.
";

/// The whole document.
#[must_use]
pub fn render(recorded: &Recorded, figures: &Figures) -> String {
    let mut out = INTRODUCTION.to_owned();
    // Writing into a String does not fail.
    let _ = summary(&mut out, recorded, figures);
    let _ = statements(&mut out, "MQTT 3.1.1", Version::V311, &mqtt3(), recorded);
    let _ = statements(&mut out, "MQTT 5.0", Version::V5, &mqtt5(), recorded);
    let _ = level3(&mut out, recorded);
    let _ = interplay(&mut out, recorded);
    let _ = regressions(&mut out, recorded);
    let _ = differences(&mut out, &recorded.mosquitto, MOSQUITTO);
    let _ = differences(&mut out, &recorded.rumqttd, RUMQTTD);
    let _ = faults(&mut out, recorded);
    out
}

impl Recorded {
    fn all(&self) -> [&Results; 4] {
        [&self.tcp, &self.ws, &self.mosquitto, &self.rumqttd]
    }

    /// The heads of the columns of verdicts.
    fn heads(&self) -> String {
        let [_, _, mosquitto, rumqttd] = self.all().map(|results| &results.broker);
        format!("tidegate TCP | tidegate WS | {mosquitto} | {rumqttd}")
    }

    /// The columns of verdicts for what these cases prove.
    fn verdicts(&self, cases: &[CaseId]) -> String {
        let word = |results: &Results| match results.verdict(cases) {
            Verdict::Pass => "yes",
            Verdict::Fail => "**no**",
            Verdict::DoesNotApply => "n/a",
            Verdict::Varies => "varies",
        };
        self.all().map(word).join(" | ")
    }
}

impl Results {
    /// What becomes of cases together: the worst of them. A case that was not measured has not passed.
    fn verdict(&self, cases: &[CaseId]) -> Verdict {
        let worst = |verdict: &Verdict| match verdict {
            Verdict::DoesNotApply => 0,
            Verdict::Pass => 1,
            Verdict::Varies => 2,
            Verdict::Fail => 3,
        };
        let each = cases.iter().map(|case| self.of(case));
        each.max_by_key(worst).unwrap_or(Verdict::Fail)
    }

    /// The verdict of one case.
    #[must_use]
    pub fn of(&self, case: &CaseId) -> Verdict {
        let found = self.cases.get(&case.to_string());
        found.map_or(Verdict::Fail, |outcome| outcome.verdict)
    }

    fn count(&self, verdict: Verdict) -> usize {
        let outcomes = self.cases.values();
        outcomes.filter(|found| found.verdict == verdict).count()
    }
}

type Written = Result<(), std::fmt::Error>;

fn summary(out: &mut String, recorded: &Recorded, figures: &Figures) -> Written {
    writeln!(out, "\n## Figures\n")?;
    writeln!(out, "| | MQTT 3.1.1 | MQTT 5.0 |\n|---|---|---|")?;
    let all = [mqtt3(), mqtt5()];
    let row = |out: &mut String, what: &str, like: fn(&Binds) -> bool| {
        let [a, b] = all
            .each_ref()
            .map(|list| list.iter().filter(|one| like(&one.binds)).count());
        writeln!(out, "| {what} | {a} | {b} |")
    };
    row(out, "normative statements", |_| true)?;
    row(out, "bind a server, and have tests", |binds| {
        matches!(binds, Binds::Server)
    })?;
    row(out, "bind only clients", |binds| {
        matches!(binds, Binds::Client(_))
    })?;
    row(out, "bind a server, but no connection shows it", |binds| {
        matches!(binds, Binds::Unobservable(_))
    })?;

    let cases = cases();
    writeln!(out, "\n{} tests, {} cases.\n", tests().len(), cases.len())?;
    writeln!(
        out,
        "| cases | {} |\n|---|---|---|---|---|",
        recorded.heads()
    )?;
    for (what, verdict) in [
        ("passed", Verdict::Pass),
        ("failed", Verdict::Fail),
        ("varied", Verdict::Varies),
        ("do not apply", Verdict::DoesNotApply),
    ] {
        let counts = recorded
            .all()
            .map(|results| results.count(verdict).to_string());
        writeln!(out, "| {what} | {} |", counts.join(" | "))?;
    }
    let caught = recorded.faults.caught.len();
    let rest = cases.len() - caught;
    writeln!(
        out,
        "\nSeeded faults: {} cases, {caught} caught, {rest} where the test does not apply \
         ([below](#seeded-faults)).\n",
        cases.len()
    )?;
    figures.write(out)
}

fn statements(
    out: &mut String,
    title: &str,
    version: Version,
    list: &[&Statement],
    recorded: &Recorded,
) -> Written {
    writeln!(out, "\n## {title}\n")?;
    writeln!(
        out,
        "| clause | a server must, in our words | tests | {} |\n|---|---|---|---|---|---|---|",
        recorded.heads()
    )?;
    for statement in list {
        let Statement { id, says, binds } = statement;
        match binds {
            Binds::Server => {
                let proving = proving(version, id);
                let names: Vec<String> = proving.iter().map(|test| code(test.name)).collect();
                let cases: Vec<CaseId> = proving
                    .iter()
                    .map(|test| CaseId { test, version })
                    .collect();
                writeln!(
                    out,
                    "| MQTT-{id} | {says} | {} | {} |",
                    names.join("<br>"),
                    recorded.verdicts(&cases)
                )?;
            }
            Binds::Client(why) => {
                writeln!(out, "| MQTT-{id} | {says} | clients only: {why} | | | | |")?;
            }
            Binds::Unobservable(why) => {
                writeln!(
                    out,
                    "| MQTT-{id} | {says} | not to be seen: {why} | | | | |"
                )?;
            }
        }
    }
    Ok(())
}

/// The tests that prove a statement of a version's specification.
#[must_use]
pub fn proving(version: Version, id: &str) -> Vec<&'static Test> {
    let named = |test: &&'static Test| match version {
        Version::V5 => test.mqtt5.contains(&id),
        _ => test.mqtt3.contains(&id),
    };
    tests().into_iter().filter(named).collect()
}

fn level3(out: &mut String, recorded: &Recorded) -> Written {
    writeln!(
        out,
        "\n## MQTT 3.1\n\nThe older specification numbers no statements. What it says of a server, and where it \
         differs:\n"
    )?;
    let rows = tests()
        .into_iter()
        .filter_map(|test| Some((test.level3?, vec![test])));
    table(
        out,
        "shown",
        rows,
        |version| version == Version::V31,
        recorded,
    )
}

fn interplay(out: &mut String, recorded: &Recorded) -> Written {
    writeln!(
        out,
        "\n## Clauses together\n\nWhat no single clause names.\n"
    )?;
    let rows = tests()
        .into_iter()
        .filter_map(|test| Some((test.interplay?, vec![test])));
    table(out, "case", rows, |_| true, recorded)
}

fn regressions(out: &mut String, recorded: &Recorded) -> Written {
    writeln!(
        out,
        "\n## Regressions that other brokers had\n\nEach is a test that stays.\n"
    )?;
    let rows = REGRESSIONS.iter().map(|name| {
        let like = |test: &&'static Test| test.regressions.contains(name);
        (*name, tests().into_iter().filter(like).collect())
    });
    table(out, "regression", rows, |_| true, recorded)
}

fn table(
    out: &mut String,
    head: &str,
    rows: impl Iterator<Item = (&'static str, Vec<&'static Test>)>,
    versions: fn(Version) -> bool,
    recorded: &Recorded,
) -> Written {
    writeln!(
        out,
        "| {head} | tests | {} |\n|---|---|---|---|---|---|",
        recorded.heads()
    )?;
    for (what, tests) in rows {
        let names: Vec<String> = tests.iter().map(|test| code(test.name)).collect();
        let each = |test: &&'static Test| {
            let test = *test;
            let versions = test
                .versions()
                .into_iter()
                .filter(move |one| versions(*one));
            versions.map(move |version| CaseId { test, version })
        };
        let cases: Vec<CaseId> = tests.iter().flat_map(each).collect();
        writeln!(
            out,
            "| {what} | {} | {} |",
            names.join("<br>"),
            recorded.verdicts(&cases)
        )?;
    }
    Ok(())
}

fn differences(out: &mut String, results: &Results, known: &[Difference]) -> Written {
    writeln!(out, "\n## Where {} differs\n", results.broker)?;
    writeln!(
        out,
        "| clause | test | at | seen | why |\n|---|---|---|---|---|"
    )?;
    for test in tests() {
        let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for version in test.versions() {
            let case = CaseId { test, version }.to_string();
            let Some(outcome) = results.cases.get(&case) else {
                continue;
            };
            if matches!(outcome.verdict, Verdict::Fail | Verdict::Varies) {
                let note = if outcome.verdict == Verdict::Varies {
                    " (varies)"
                } else {
                    ""
                };
                let observed = format!("{}{note}", escaped(&outcome.observed));
                seen.entry(observed).or_default().push(name(version));
            }
        }
        for (observed, versions) in seen {
            writeln!(
                out,
                "| {} | {} | {} | {observed} | {} |",
                clauses(test),
                code(test.name),
                versions.join(", "),
                explained(known, test.name).unwrap_or("**not explained yet**")
            )?;
        }
    }
    Ok(())
}

/// What is known of a broker's failure of a test.
fn explained(known: &[Difference], test: &str) -> Option<&'static str> {
    let found = known.iter().find(|one| one.tests.contains(&test));
    found.map(|one| one.why)
}

/// The failures of the other brokers that nobody has explained.
#[must_use]
pub fn unexplained(recorded: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    for (results, known) in [
        (&recorded.mosquitto, MOSQUITTO),
        (&recorded.rumqttd, RUMQTTD),
    ] {
        for case in cases() {
            let failed = matches!(results.of(&case), Verdict::Fail | Verdict::Varies);
            if failed && explained(known, case.test.name).is_none() {
                found.push(format!("{}: {case}", results.broker));
            }
        }
    }
    found
}

/// The explanations that explain nothing, because the broker passes or there is no such test.
#[must_use]
pub fn idle_explanations(recorded: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    for (results, known) in [
        (&recorded.mosquitto, MOSQUITTO),
        (&recorded.rumqttd, RUMQTTD),
    ] {
        let failing = |name: &str| {
            let mut cases = cases().into_iter().filter(|case| case.test.name == name);
            cases.any(|case| matches!(results.of(&case), Verdict::Fail | Verdict::Varies))
        };
        for test in known.iter().flat_map(|one| one.tests) {
            if !failing(test) {
                found.push(format!("{}: {test}", results.broker));
            }
        }
    }
    found
}

fn clauses(test: &Test) -> String {
    let of_3 = test.mqtt3.iter().map(|id| format!("3.1.1: {id}"));
    let of_5 = test.mqtt5.iter().map(|id| format!("5.0: {id}"));
    let all: Vec<String> = of_3.chain(of_5).collect();
    if all.is_empty() {
        "–".to_owned()
    } else {
        all.join("<br>")
    }
}

fn faults(out: &mut String, recorded: &Recorded) -> Written {
    writeln!(
        out,
        "\n## Seeded faults\n\nThat a test can fail is shown with a proxy between it and tidegate that spoils just \
         what the test is about; without the fault the test passes through the same proxy.\n"
    )?;
    writeln!(
        out,
        "| test | at | fault | what the test said |\n|---|---|---|---|"
    )?;
    for test in tests() {
        let mut rows: Vec<(String, String, Vec<&str>)> = Vec::new();
        for version in test.versions() {
            let case = CaseId { test, version }.to_string();
            let (Some(said), Some(fault)) =
                (recorded.faults.caught.get(&case), test.fault_at(version))
            else {
                continue;
            };
            let fault = fault.describe();
            match rows.iter_mut().find(|(other, ..)| *other == fault) {
                Some((.., versions)) => versions.push(name(version)),
                None => rows.push((fault, escaped(said), vec![name(version)])),
            }
        }
        for (fault, said, versions) in rows {
            let versions = versions.join(", ");
            writeln!(
                out,
                "| {} | {versions} | {fault} | {said} |",
                code(test.name)
            )?;
        }
    }
    Ok(())
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

/// Text that stays within its cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('[', "\\[")
}
