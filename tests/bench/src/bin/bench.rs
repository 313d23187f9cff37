//! `bench`: compares brokers on this machine. `cargo xtask bench` builds what it needs and runs it.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Parser;
use tidegate_bench::{
    Absent, Broker, Certificate, DIRECTORY, Report, Scenario, Setting, Settings, Word, files,
    is_interrupted, listen, plain, read, run, verdicts, write,
};
use tidegate_tests::workspace;

/// Compares MQTT brokers on this machine: each is a process of its own, driven by another.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Options {
    /// Only brokers of this name (tidegate, mosquitto, rumqttd, a peer); may be repeated
    #[arg(long, value_name = "NAME")]
    broker: Vec<String>,
    /// Another broker: the shell starts COMMAND, which listens at 127.0.0.1:PORT; may be repeated
    #[arg(long, value_name = "NAME=PORT=COMMAND")]
    peer: Vec<String>,
    /// A gateway other than the one that was built; with names two builds are compared; may be repeated
    #[arg(long, value_name = "[NAME=]PATH")]
    tidegate: Vec<String>,
    /// Only scenarios whose names begin with this; may be repeated
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// How often each scenario is run at each broker
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// The same for the scenarios that count connections, which are long
    #[arg(long, value_name = "N", default_value_t = 1)]
    connection_rounds: u32,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before anything counts
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    warm_up: f64,
    /// How long a broker may take to listen
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    patience: f64,
    /// Where brokers have what they must keep, in directories that go with them; target/bench if it is
    /// not said. It must be on a disk
    #[arg(long, value_name = "DIRECTORY")]
    disk: Option<PathBuf>,
    /// Lists the scenarios and ends
    #[arg(long)]
    list: bool,
    /// Where page, data and pictures are written; docs/benchmarks if it is not said
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Writes nothing
    #[arg(long)]
    no_write: bool,
    /// Writes the figures of the last run, too, where a scenario is not run again: on the same machine,
    /// with the same brokers and settings
    #[arg(long, conflicts_with = "no_write")]
    add: bool,
    /// Writes page and pictures again from the data of the last run
    #[arg(long, conflicts_with = "no_write")]
    render: bool,
    /// Fails unless every target of the scenarios that were run is met
    #[arg(long)]
    check: bool,
    /// Divides messages and sessions of the scenarios that are long; for tests
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    divide: u32,
    /// The load process, if it is not the one beside this program
    #[arg(long, value_name = "PATH", hide = true)]
    load: Option<PathBuf>,
}

fn main() -> ExitCode {
    match execute(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options) -> Result<ExitCode> {
    let directory = match &options.output {
        Some(directory) => directory.clone(),
        None => workspace().join(DIRECTORY),
    };
    if options.list {
        for scenario in Scenario::all() {
            println!("{:<20} {}", scenario.name, scenario.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if options.render {
        let report = read(&directory)?;
        write(&report, &directory)?;
        return Ok(code(options, &report));
    }
    let mut scenarios = scenarios(&options.scenario)?;
    for scenario in &mut scenarios {
        scenario.divide(options.divide.max(1));
    }
    let (brokers, absent) = brokers(options)?;
    let setting = Setting {
        load: match &options.load {
            Some(program) => program.clone(),
            None => beside("load")?,
        },
        certificate: Certificate::new()?,
        warm_up: seconds(options.warm_up, "--warm-up")?,
        seconds: seconds(options.seconds, "--seconds")?,
        patience: Duration::from_secs_f64(seconds(options.patience, "--patience")?),
        disk: match &options.disk {
            Some(directory) => directory.clone(),
            None => workspace().join("target/bench"),
        },
    };
    ensure!(setting.seconds > 0.0, "--seconds: nothing would count");
    let settings = Settings {
        rounds: options.rounds.max(1),
        connection_rounds: options.connection_rounds.max(1),
        warm_up: setting.warm_up,
        seconds: setting.seconds,
    };
    // Brokers inherit it: with 1,024 files, which is the usual soft limit, none can do much.
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    raised.context("the limit of open files")?;
    listen()?;
    let earlier = match options.add {
        true => Some(read(&directory)?),
        false => None,
    };
    let report = run(&setting, settings, &scenarios, &brokers, absent);
    print!("{}", plain(&report));
    if is_interrupted() {
        eprintln!("\ninterrupted: nothing is written");
        return Ok(ExitCode::from(130));
    }
    let results = || report.scenarios.iter().flat_map(|ran| &ran.results);
    if results().all(|at| at.figures.is_none()) {
        eprintln!("\nnothing was measured: nothing is written");
        return Ok(ExitCode::FAILURE);
    }
    if !options.no_write {
        let report = match earlier {
            Some(earlier) => report.clone().with_earlier(earlier).map_err(Error::msg)?,
            None => report.clone(),
        };
        write(&report, &directory)?;
        println!("\nwritten to {}:", directory.display());
        for (name, _) in files(&report)? {
            println!("  {name}");
        }
    }
    Ok(code(options, &report))
}

fn code(options: &Options, report: &Report) -> ExitCode {
    let verdicts = verdicts(report);
    let met = !verdicts.is_empty() && verdicts.iter().all(|one| one.word == Word::Met);
    if options.check && !met {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn seconds(value: f64, option: &str) -> Result<f64> {
    ensure!(
        (0.0..=3_600.0).contains(&value),
        "{option}: {value} is not between 0 and 3600"
    );
    Ok(value)
}

fn scenarios(prefixes: &[String]) -> Result<Vec<Scenario>> {
    let all = Scenario::all();
    for prefix in prefixes {
        ensure!(
            all.iter().any(|one| one.name.starts_with(prefix.as_str())),
            "no scenario begins with {prefix}; --list lists them"
        );
    }
    let wanted = |scenario: &Scenario| {
        prefixes.is_empty()
            || prefixes
                .iter()
                .any(|prefix| scenario.name.starts_with(prefix.as_str()))
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// The brokers that are there and wanted, and why others are not there.
fn brokers(options: &Options) -> Result<(Vec<Broker>, Vec<Absent>)> {
    let wants = |name: &str| {
        options.broker.is_empty() || options.broker.iter().any(|wanted| wanted == name)
    };
    let (mut brokers, mut absent) = (Vec::new(), Vec::new());
    let mut none = |name: &str, why: String| {
        absent.push(Absent {
            name: name.to_owned(),
            why,
        });
    };
    if options.tidegate.is_empty() && wants("tidegate") {
        let (binary, given) = match env::var_os("TIDEGATE_BIN") {
            Some(binary) => (binary.into(), true),
            None => (beside("tidegate")?, false),
        };
        brokers.push(Broker::tidegate("tidegate", &binary, given)?);
    }
    for text in &options.tidegate {
        let (name, path) = text.split_once('=').unwrap_or(("tidegate", text));
        if wants("tidegate") || wants(name) {
            brokers.push(Broker::tidegate(name, Path::new(path), true)?);
        }
    }
    if wants("mosquitto") {
        match Broker::mosquitto() {
            Some(mosquitto) => brokers.push(mosquitto),
            None => none("mosquitto", "it is not installed".to_owned()),
        }
    } else {
        none("mosquitto", "it was left out".to_owned());
    }
    if wants("rumqttd") {
        match Broker::rumqttd() {
            Ok(rumqttd) => brokers.push(rumqttd),
            Err(error) => none("rumqttd", error.to_string()),
        }
    } else {
        none("rumqttd", "it was left out".to_owned());
    }
    for text in &options.peer {
        let peer = Broker::peer(text)?;
        if wants(&peer.name) {
            brokers.push(peer);
        }
    }
    let is_flashmq = |broker: &Broker| broker.name.to_lowercase().contains("flashmq");
    if !brokers.iter().any(is_flashmq) {
        none("FlashMQ", "it was not given as `--peer`".to_owned());
    }
    let mut names = BTreeSet::new();
    for broker in &brokers {
        if !names.insert(broker.name.clone()) {
            bail!("two brokers are called {}", broker.name);
        }
    }
    for name in &options.broker {
        let known = names.contains(name) || name == "tidegate";
        let why = absent.iter().find(|one| one.name == *name);
        let why = why.map_or_else(String::new, |absent| format!(": {}", absent.why));
        ensure!(known, "there is no broker {name}{why}");
    }
    Ok((brokers, absent))
}

/// A program that cargo put beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let file = own.with_file_name(name);
    ensure!(
        file.is_file(),
        "no {name} beside {}: cargo xtask bench builds it",
        own.display()
    );
    Ok(file)
}
