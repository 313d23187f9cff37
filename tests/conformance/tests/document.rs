//! The document says what was measured, and the suite leaves nothing out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::collections::BTreeSet;
use std::fs;

use tidegate_conformance::{
    Binds, Figures, PAGE, REGRESSIONS, Recorded, Statement, Verdict, cases, idle_explanations,
    mqtt3, mqtt5, proving, render, tests, unexplained, workspace,
};
use tidegate_tests::wire::Version;

/// Each version with its statements.
fn both() -> [(Version, Vec<&'static Statement>); 2] {
    [(Version::V311, mqtt3()), (Version::V5, mqtt5())]
}

#[test]
fn the_page_is_what_the_recorded_results_give() {
    let page = fs::read_to_string(workspace().join(PAGE)).expect(PAGE);
    let rendered = render(&Recorded::read().unwrap(), &Figures::read().unwrap());
    let first = page
        .lines()
        .zip(rendered.lines())
        .find(|(one, other)| one != other);
    assert!(
        page == rendered,
        "{PAGE} is stale: cargo xtask conformance --render (or --write to measure anew); {first:?}"
    );
}

#[test]
fn every_case_was_measured_and_none_that_is_gone() {
    let recorded = Recorded::read().unwrap();
    let all: BTreeSet<String> = cases().iter().map(ToString::to_string).collect();
    for results in [
        &recorded.tcp,
        &recorded.ws,
        &recorded.mosquitto,
        &recorded.rumqttd,
    ] {
        let measured: BTreeSet<String> = results.cases.keys().cloned().collect();
        let difference: Vec<_> = all.symmetric_difference(&measured).collect();
        assert!(difference.is_empty(), "{}: {difference:?}", results.broker);
    }
}

#[test]
fn every_fault_is_caught_where_its_test_applies() {
    let recorded = Recorded::read().unwrap();
    for case in cases() {
        let name = case.to_string();
        let applies = [&recorded.tcp, &recorded.ws]
            .iter()
            .any(|results| results.of(&case) != Verdict::DoesNotApply);
        let caught = recorded.faults.caught.contains_key(&name);
        assert!(caught || !applies, "{name}");
    }
    let all: BTreeSet<String> = cases().iter().map(ToString::to_string).collect();
    for name in recorded.faults.caught.keys() {
        assert!(all.contains(name), "{name}");
    }
}

#[test]
fn every_statement_that_binds_a_server_has_a_test() {
    for (version, list) in both() {
        let without: Vec<&str> = list
            .into_iter()
            .filter(|one| one.binds == Binds::Server && proving(version, one.id).is_empty())
            .map(|one| one.id)
            .collect();
        assert!(without.is_empty(), "{version:?}: {without:?}");
    }
}

#[test]
fn no_test_names_a_statement_that_does_not_bind_a_server() {
    for (version, list) in both() {
        for test in tests() {
            let ids = test.statements(version);
            for id in ids {
                let found = list.iter().find(|one| one.id == *id);
                let binds = found.map(|one| one.binds);
                assert_eq!(
                    binds,
                    Some(Binds::Server),
                    "{} names {id} of {version:?}",
                    test.name
                );
            }
        }
    }
}

#[test]
fn the_statements_are_in_order_and_none_is_there_twice() {
    for (version, list) in both() {
        let ids: Vec<Vec<u32>> = list.iter().map(|one| numbers(one.id)).collect();
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1], "{version:?}: {pair:?}");
        }
    }
}

/// `3.1.2-25` as numbers that can be compared.
fn numbers(id: &str) -> Vec<u32> {
    id.split(['.', '-'])
        .map(|part| part.parse().expect(id))
        .collect()
}

#[test]
fn every_regression_has_a_test_and_every_test_names_a_known_one() {
    for name in REGRESSIONS {
        let has = tests().iter().any(|test| test.regressions().contains(name));
        assert!(has, "no test of: {name}");
    }
    for test in tests() {
        for name in test.regressions() {
            assert!(REGRESSIONS.contains(name), "{}: {name}", test.name);
        }
    }
}

#[test]
fn every_test_has_a_name_of_its_own_a_version_and_a_fault() {
    let mut names = BTreeSet::new();
    for test in tests() {
        assert!(names.insert(test.name), "twice: {}", test.name);
        assert!(!test.versions().is_empty(), "never runs: {}", test.name);
        for version in test.versions() {
            let fault = test.fault_at(version);
            assert!(fault.is_some(), "{} {version:?} has no fault", test.name);
        }
    }
}

#[test]
fn every_difference_of_another_broker_is_explained() {
    let recorded = Recorded::read().unwrap();
    let missing = unexplained(&recorded);
    assert!(missing.is_empty(), "not explained: {missing:#?}");
    let idle = idle_explanations(&recorded);
    assert!(idle.is_empty(), "explained, but passed: {idle:#?}");
}
