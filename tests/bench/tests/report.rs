//! What is made of figures: medians, tables, verdicts, the page and its pictures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use std::fs;

use tidegate_bench::{
    Absent, Appends, AtBroker, Chart, Compared, Connections, DIRECTORY, Durable, Earlier, Latency,
    Machine, Measurement, Outcome, Queued, Ran, Report, Scenario, Settings, Spread, Stored, Table,
    Word, files, missing, plain, read, verdicts,
};
use tidegate_tests::workspace;

/// A second in which so many messages were delivered, each for so many microseconds of the broker.
fn second(deliveries: u64, cpu: f64) -> Measurement {
    Measurement {
        seconds: 1.0,
        deliveries,
        broker_cpu: cpu * deliveries as f64 / 1e6,
        load_cpu: 0.5 * deliveries as f64 / 1e6,
        resident: 10 * 1024 * 1024,
        latency: Some(Latency {
            p50: 100.0 * cpu,
            p99: 200.0 * cpu,
            p999: 300.0 * cpu,
            max: 400.0 * cpu,
        }),
        ..Measurement::default()
    }
}

fn connections(bytes: f64) -> Measurement {
    Measurement {
        seconds: 20.0,
        resident: 64 * 1024 * 1024,
        connections: Some(Connections {
            rate: 4_000.0,
            cpu: 55.5,
            bytes: Some(bytes),
        }),
        ..Measurement::default()
    }
}

fn measured(measurement: Measurement) -> Outcome {
    Outcome::Measured(Box::new(measurement))
}

fn ran(scenario: &str, results: Vec<AtBroker>) -> Ran {
    let all = Scenario::all();
    let scenario = all.iter().find(|one| one.name == scenario).unwrap();
    Ran {
        name: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        workload: scenario.workload.clone(),
        results,
        earlier: None,
    }
}

/// One round at the gateway and at mosquitto.
fn both(scenario: &str, gateway: Measurement, mosquitto: Measurement) -> Ran {
    ran(
        scenario,
        vec![
            AtBroker::new("tidegate", vec![measured(gateway)]),
            AtBroker::new("mosquitto", vec![measured(mosquitto)]),
        ],
    )
}

fn report(scenarios: Vec<Ran>) -> Report {
    let broker = |name: &str, tidegate| Compared {
        name: name.to_owned(),
        version: "1.0".to_owned(),
        tidegate,
        told: vec!["what it was told".to_owned()],
    };
    Report {
        date: "2026-11-22T20:00:00Z".to_owned(),
        commit: "abc1234".to_owned(),
        machine: Machine {
            processor: "A <fast> one".to_owned(),
            cores: 2,
            kernel: "Linux 6".to_owned(),
            memory: 8 << 30,
        },
        settings: Settings {
            rounds: 3,
            connection_rounds: 1,
            warm_up: 1.0,
            seconds: 3.0,
        },
        brokers: vec![broker("tidegate", true), broker("mosquitto", false)],
        absent: vec![Absent {
            name: "FlashMQ".to_owned(),
            why: "it was not given".to_owned(),
        }],
        scenarios,
    }
}

/// The cells of the row that begins with these.
fn row(table: &Table, begin: &[&str]) -> Vec<String> {
    let begin = format!("| {} |", begin.join(" | "));
    let text = table.markdown();
    let line = text.lines().find(|line| line.starts_with(&begin));
    let line = line.unwrap_or_else(|| panic!("no {begin} in\n{text}"));
    let cells = line.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().to_owned()).collect()
}

fn word(report: &Report, scenario: &str, what: &str) -> Word {
    let all = verdicts(report);
    let found = all
        .iter()
        .find(|one| one.scenario == scenario && one.what == what);
    found.unwrap_or_else(|| panic!("no {what} in {all:?}")).word
}

#[test]
fn the_median_is_in_the_middle() {
    let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
    let expected = |median, min, max| Some(Spread { median, min, max });
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[3.0, 100.0, 1.0]), expected(3.0, 1.0, 100.0));
    assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]), expected(3.0, 1.0, 100.0));
}

#[test]
fn figures_are_medians_and_losses_are_sums() {
    let mut rounds: Vec<Measurement> = [(100, 4.0), (300, 2.0), (200, 9.0)]
        .into_iter()
        .map(|(deliveries, cpu)| second(deliveries, cpu))
        .collect();
    rounds[0].lost = 3;
    rounds[2].lost = 4;
    rounds[1].duplicated = 1;
    let failed = Outcome::Failed("it fell over".to_owned());
    let outcomes = rounds.into_iter().map(measured).chain([failed]).collect();
    let at = AtBroker::new("one", outcomes);
    let figures = at.figures.unwrap();
    assert_eq!(figures.rate.unwrap().median, 200.0);
    assert!((figures.cpu.unwrap().median - 4.0).abs() < 1e-9);
    assert!((figures.p99.unwrap().max - 1_800.0).abs() < 1e-9);
    assert_eq!((figures.lost, figures.duplicated), (7, 1));
    let missing = at.missing().unwrap();
    assert_eq!((missing.why, missing.rounds), ("it fell over", 1));
}

#[test]
fn a_round_without_deliveries_has_no_cost_per_delivery() {
    let at = AtBroker::new("one", vec![measured(second(0, 1.0))]);
    let figures = at.figures.unwrap();
    assert_eq!((figures.cpu, figures.rate.unwrap().median), (None, 0.0));
}

#[test]
fn a_table_has_the_ratio_to_mosquitto() {
    let ran = both("fan-in-qos0", second(1_234_567, 0.25), second(100_000, 5.0));
    let table = Table::deliveries(&report(vec![ran]));
    let cells = row(&table, &["fan-in-qos0", "tidegate"]);
    assert_eq!(cells[2..5], ["1,234,567", "0.250", "0.050"]);
    assert_eq!(cells[5..9], ["25.0", "50.0", "75.0", "10.0"]);
    // The scenario is named once.
    let cells = row(&table, &["", "mosquitto"]);
    assert_eq!(cells[2..5], ["100,000", "5.00", "1.00"]);
}

#[test]
fn without_mosquitto_the_first_is_the_measure_and_there_is_no_verdict() {
    let mut report = report(vec![ran(
        "one-to-one-qos0",
        vec![
            AtBroker::new("tidegate", vec![measured(second(10, 1.0))]),
            AtBroker::new("after", vec![measured(second(10, 0.9))]),
        ],
    )]);
    "after".clone_into(&mut report.brokers[1].name);
    report.brokers[1].tidegate = true;
    let table = Table::deliveries(&report);
    assert!(table.markdown().contains("| ratio to tidegate |"));
    assert_eq!(row(&table, &["", "after"])[4], "0.900");
    for what in ["CPU per delivery", "deliveries/s"] {
        assert_eq!(word(&report, "one-to-one-qos0", what), Word::Unknown);
    }
    assert_eq!(word(&report, "one-to-one-qos0", "lost, twice"), Word::Met);
}

#[test]
fn a_target_is_met_up_to_its_figure() {
    let at = |cpu, deliveries| {
        let ran = both(
            "one-to-one-qos0",
            second(deliveries, cpu),
            second(1_000, 10.0),
        );
        report(vec![ran])
    };
    let what = "CPU per delivery";
    assert_eq!(word(&at(0.69, 1_000), "one-to-one-qos0", what), Word::Met);
    assert_eq!(
        word(&at(0.71, 1_000), "one-to-one-qos0", what),
        Word::NotMet
    );
    let what = "deliveries/s";
    assert_eq!(word(&at(0.1, 1_000), "one-to-one-qos0", what), Word::Met);
    assert_eq!(word(&at(0.1, 999), "one-to-one-qos0", what), Word::NotMet);
}

#[test]
fn one_message_lost_or_twice_is_too_many() {
    for (lost, duplicated) in [(1, 0), (0, 1)] {
        let mut gateway = second(1_000, 0.1);
        (gateway.lost, gateway.duplicated) = (lost, duplicated);
        let report = report(vec![both("properties", gateway, second(1_000, 10.0))]);
        assert_eq!(word(&report, "properties", "lost, twice"), Word::NotMet);
    }
}

#[test]
fn an_open_loop_is_judged_by_latency_and_not_by_its_rate() {
    let mut late = second(1_000, 1.0);
    late.latency.as_mut().unwrap().p99 = 10_000.0;
    let name = "latency-1000-qos0";
    let report = report(vec![both(name, late, second(1_000, 1.0))]);
    assert_eq!(word(&report, name, "p50"), Word::Met);
    assert_eq!(word(&report, name, "p99"), Word::NotMet);
    assert!(
        verdicts(&report)
            .iter()
            .all(|one| one.what != "deliveries/s")
    );
}

#[test]
fn a_connection_is_judged_by_its_bytes() {
    for (bytes, expected) in [(3_072.0, Word::Met), (3_073.0, Word::NotMet)] {
        let report = report(vec![both("idle-tcp", connections(bytes), connections(1.0))]);
        assert_eq!(word(&report, "idle-tcp", "bytes per connection"), expected);
        let table = Table::connections(&report);
        let cells = row(&table, &["idle-tcp", "tidegate"]);
        assert_eq!(cells[2..4], ["4,000", "55.5"]);
        assert!(Table::deliveries(&report).is_empty());
    }
}

#[test]
fn quic_is_judged_by_tls_in_the_same_run() {
    let (tls, quic) = ("tls-one-to-one-qos0", "quic-one-to-one-qos0");
    let own = |name, deliveries, cpu| {
        let at = AtBroker::new("tidegate", vec![measured(second(deliveries, cpu))]);
        ran(name, vec![at])
    };
    let [cpu, rate] = ["CPU per delivery", "deliveries/s"];
    for (deliveries, times, words) in [
        (1_000, 1.0, (Word::Met, Word::Met)),
        (1_000, 100.0, (Word::NotMet, Word::Met)),
        (1, 1.0, (Word::Met, Word::NotMet)),
    ] {
        let mut report = report(vec![
            own(tls, 1_000, 2.0),
            own(quic, deliveries, 2.0 * times),
        ]);
        let found = (word(&report, quic, cpu), word(&report, quic, rate));
        assert_eq!(found, words, "{deliveries}, {times}");
        let cells = row(&Table::beside(&report), &[quic, tls, "tidegate"]);
        let times = times as u64;
        assert!(cells[4].starts_with(&times.to_string()), "{cells:?}");
        // The other is of an earlier run.
        report.scenarios[0].earlier = Some(Earlier {
            date: "2026-11-21T20:00:00Z".to_owned(),
            commit: "abc1233".to_owned(),
        });
        assert_eq!(word(&report, quic, cpu), Word::Unknown);
        assert!(Table::beside(&report).is_empty());
    }
}

#[test]
fn a_handshake_is_judged_by_its_cost_and_has_no_bytes() {
    let handshakes = |name, rate, cpu| {
        let mut measurement = connections(0.0);
        measurement.connections = Some(Connections {
            rate,
            cpu,
            bytes: None,
        });
        ran(
            name,
            vec![AtBroker::new("tidegate", vec![measured(measurement)])],
        )
    };
    let report = report(vec![
        handshakes("tls-handshakes", 2_000.0, 200.0),
        handshakes("quic-handshakes", 1_900.0, 2_000.0),
    ]);
    let name = "quic-handshakes";
    assert_eq!(word(&report, name, "CPU per connection"), Word::NotMet);
    assert_eq!(word(&report, name, "connections/s"), Word::Met);
    let cells = row(&Table::connections(&report), &[name, "tidegate"]);
    assert_eq!(cells[2..5], ["1,900", "2,000", "–"]);
}

#[test]
fn what_stands_beside_a_scenario_differs_in_its_carrier_only() {
    let all = Scenario::all();
    let pairs = all
        .iter()
        .filter_map(|one| Some((one, one.beside?)))
        .collect::<Vec<_>>();
    assert!(!pairs.is_empty());
    for (one, beside) in pairs {
        let beside = all.iter().find(|other| other.name == beside).unwrap();
        assert_eq!(one.workload, beside.workload, "{}", one.name);
        assert_ne!(one.carrier, beside.carrier, "{}", one.name);
    }
}

/// A second in which so many publishes were acknowledged; a bare file has 10,000 syncs, and with groups
/// 100,000 publishes.
fn kept(acknowledged: u64) -> Measurement {
    Measurement {
        durable: Some(Durable {
            acknowledged,
            seconds: 1.0,
            bytes: 80,
            syncs: Some(acknowledged / 100),
            disk: Some(Appends {
                single: 10_000.0,
                grouped: 80_000.0,
            }),
        }),
        ..second(acknowledged, 1.0)
    }
}

#[test]
fn what_is_kept_is_judged_by_its_rate_or_by_what_the_disk_allows() {
    let name = "durable-fan-in-qos1";
    for (acknowledged, part, expected) in [
        (60_000, "0.750", Word::Met),
        (56_000, "0.700", Word::Met),
        (55_900, "0.699", Word::NotMet),
        (120_000, "1.50", Word::Met),
    ] {
        let gateway = AtBroker::new("tidegate", vec![measured(kept(acknowledged))]);
        let report = report(vec![ran(name, vec![gateway])]);
        assert_eq!(word(&report, name, "acknowledged/s"), expected, "{part}");
        let cells = row(&Table::durable(&report), &[name, "tidegate"]);
        assert_eq!(cells[3], "100");
        assert_eq!(cells[5..8], ["10,000", "80,000", part]);
    }
}

#[test]
fn sixty_thousand_a_second_are_enough_on_any_disk() {
    let name = "durable-fan-in-qos1";
    let mut fast = kept(60_000);
    fast.durable.as_mut().unwrap().disk = Some(Appends {
        single: 1e5,
        grouped: 1e7,
    });
    let gateway = AtBroker::new("tidegate", vec![measured(fast)]);
    let report = report(vec![ran(name, vec![gateway])]);
    assert_eq!(word(&report, name, "acknowledged/s"), Word::Met);
}

#[test]
fn a_stored_session_is_judged_by_the_process_that_needs_more_for_it() {
    let name = "durable-restart";
    for (memory, memory_again, expected) in [
        (1_000.0, 900.0, Word::Met),
        (1_001.0, 900.0, Word::NotMet),
        (900.0, 1_001.0, Word::NotMet),
    ] {
        let sessions = Measurement {
            seconds: 1.0,
            sessions: Some(Stored {
                rate: 5_000.0,
                memory,
                memory_again,
                disk: 1_000.0,
                restart: 5.1,
            }),
            ..Measurement::default()
        };
        let gateway = AtBroker::new("tidegate", vec![measured(sessions)]);
        let report = report(vec![ran(name, vec![gateway])]);
        let found = word(&report, name, "bytes of memory per session");
        assert_eq!(found, expected, "{memory}, {memory_again}");
        let disk = word(&report, name, "bytes on disk per session");
        assert_eq!(disk, Word::Met);
        assert_eq!(word(&report, name, "seconds to start again"), Word::NotMet);
    }
}

#[test]
fn a_queue_is_judged_by_its_disk_its_first_message_and_its_memory() {
    let queued = |disk, first, peak| Measurement {
        queues: Some(Queued {
            disk: Some(disk),
            first,
            before: 10 << 20,
            peak,
        }),
        ..kept(1_000)
    };
    let disk = "bytes on disk per message";
    let first = "seconds to the first message";
    let growth = "growth of memory, MiB";
    for (name, measurement, what, expected) in [
        ("durable-fan-out", queued(20_480.0, 0.1, 0), disk, Word::Met),
        (
            "durable-fan-out",
            queued(20_481.0, 0.1, 0),
            disk,
            Word::NotMet,
        ),
        ("durable-fan-out", queued(1.0, 1.1, 0), first, Word::NotMet),
        ("durable-drain", queued(1.0, 1.0, 0), first, Word::Met),
        (
            "durable-drain",
            queued(1.0, 1.0, 138 << 20),
            growth,
            Word::Met,
        ),
        (
            "durable-drain",
            queued(1.0, 1.0, 139 << 20),
            growth,
            Word::NotMet,
        ),
    ] {
        let gateway = AtBroker::new("tidegate", vec![measured(measurement)]);
        let report = report(vec![ran(name, vec![gateway])]);
        assert_eq!(word(&report, name, what), expected, "{name}, {what}");
    }
}

#[test]
fn a_scenario_that_failed_is_shown_with_its_reason() {
    let failed = |why: &str| Outcome::Failed(why.to_owned());
    let ran = ran(
        "fan-out-qos0",
        vec![
            AtBroker::new("tidegate", vec![measured(second(10, 1.0))]),
            AtBroker::new("mosquitto", vec![failed("it fell\nover"), failed("again")]),
        ],
    );
    let report = report(vec![ran]);
    let table = Table::deliveries(&report);
    assert_eq!(row(&table, &["", "mosquitto"])[2..4], ["failed", "–"]);
    let sentences = missing(&report);
    assert_eq!(
        sentences[1],
        "fan-out-qos0, mosquitto: failed (2 rounds): it fell over."
    );
    let page = plain(&report);
    assert!(
        page.contains("FlashMQ was not compared: it was not given."),
        "{page}"
    );
}

#[test]
fn a_broker_that_never_had_figures_makes_the_gateways_verdict_unknown() {
    let report = report(vec![ran(
        "properties",
        vec![AtBroker::new(
            "tidegate",
            vec![Outcome::Failed("no".to_owned())],
        )],
    )]);
    assert_eq!(word(&report, "properties", "lost, twice"), Word::Unknown);
}

#[test]
fn bars_are_as_long_as_figures_and_text_is_escaped() {
    let one = both("one-to-one-qos0", second(1_000, 0.5), second(10, 50.0));
    let picture = Chart::CPU.render(&report(vec![one]), false).unwrap();
    let widths: Vec<f64> = picture
        .lines()
        .filter(|line| line.starts_with("<rect x=\"190\""))
        .map(|line| {
            let (_, rest) = line.split_once("width=\"").unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        })
        .collect();
    // 0.5 and 50 on a scale that begins at 0.1: 0.7 and 2.7 decades.
    let [short, long] = widths[..] else {
        panic!("{picture}");
    };
    assert!((short / long - 0.7 / 2.7).abs() < 0.001, "{widths:?}");
    assert!(picture.contains("A &lt;fast&gt; one"), "{picture}");
    assert!(picture.contains(">0.500</text>"), "{picture}");
}

#[test]
fn an_open_loop_has_no_bar_among_the_rates() {
    let name = "latency-1000-qos0";
    let report = report(vec![both(name, second(10, 1.0), second(10, 1.0))]);
    assert_eq!(Chart::RATE.render(&report, true), None);
    assert!(Chart::CPU.render(&report, false).unwrap().contains(name));
}

#[test]
fn scenarios_that_are_not_run_again_stay_with_their_date() {
    let both =
        |scenario, deliveries| both(scenario, second(deliveries, 1.0), second(deliveries, 1.0));
    let earlier = report(vec![both("fan-in-qos0", 1), both("fan-out-qos0", 2)]);
    let later = Report {
        date: "2026-11-23T20:00:00Z".to_owned(),
        commit: "def5678".to_owned(),
        ..report(vec![both("fan-out-qos0", 3)])
    };
    let added = later.clone().with_earlier(earlier.clone()).unwrap();
    let names: Vec<_> = added
        .scenarios
        .iter()
        .map(|ran| ran.name.as_str())
        .collect();
    assert_eq!(names, ["fan-in-qos0", "fan-out-qos0"]);
    let rate = |scenario| {
        added
            .figures(scenario, "tidegate")
            .unwrap()
            .rate
            .unwrap()
            .median
    };
    assert_eq!((rate("fan-in-qos0"), rate("fan-out-qos0")), (1.0, 3.0));
    let page = files(&added).unwrap().swap_remove(1).1;
    let of_earlier = page.lines().filter(|line| line.contains("(measured "));
    let of_earlier: Vec<_> = of_earlier.collect();
    assert_eq!(of_earlier.len(), 1, "{page}");
    assert!(of_earlier[0].starts_with("- `fan-in-qos0`"), "{page}");
    assert!(of_earlier[0].ends_with("(measured 2026-11-22T20:00:00Z, commit abc1234)"));

    let mut elsewhere = earlier.clone();
    elsewhere.machine.cores = 4;
    assert!(later.clone().with_earlier(elsewhere).is_err());
    let mut longer = earlier.clone();
    longer.settings.seconds = 4.0;
    assert!(later.clone().with_earlier(longer).is_err());
    let mut others = earlier;
    others.brokers[1].version = "2.0".to_owned();
    assert!(later.with_earlier(others).is_err());
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let failed = Outcome::NotCompared("it has no TLS".to_owned());
    let report = report(vec![
        both("one-to-one-qos0", second(1_000, 0.5), second(10, 50.0)),
        ran("idle-tls", vec![AtBroker::new("mosquitto", vec![failed])]),
    ]);
    let directory = tempfile::tempdir().unwrap();
    tidegate_bench::write(&report, directory.path()).unwrap();
    assert_eq!(read(directory.path()).unwrap(), report);
    let page = fs::read_to_string(directory.path().join("results.md")).unwrap();
    for text in [
        "A <fast> one",
        "## Targets",
        "it has no TLS",
        "(cpu-per-delivery.svg)",
    ] {
        assert!(page.contains(text), "no {text} in\n{page}");
    }
}

#[test]
fn the_page_in_the_tree_is_made_of_the_data_beside_it() {
    let directory = workspace().join(DIRECTORY);
    let report = read(&directory).unwrap();
    for (name, text) in files(&report).unwrap() {
        let found = fs::read_to_string(directory.join(name)).unwrap();
        assert!(found == text, "{name}: run cargo xtask bench --render");
    }
}
