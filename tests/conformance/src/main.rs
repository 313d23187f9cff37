//! `conformance`: the suite against any broker.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use tidegate_conformance::{
    Broker, CaseId, FILES, Fault, Figures, Outcome, PAGE, Recorded, Target, Verdict, apart, cases,
    catches, each, faults, render, run, shared, workspace,
};
use tidegate_tests::wire::set_patience;
use tidegate_tests::{Server, TlsClient, Transport};

/// Runs the tests of MQTT 3.1.1 and 5.0 against a broker.
#[derive(Parser)]
struct Options {
    /// Where the broker speaks MQTT
    #[arg(long, value_name = "HOST:PORT", required_unless_present_any = ["write", "render"])]
    address: Option<String>,
    /// Where it speaks MQTT 5.0, if that is another place
    #[arg(long, value_name = "HOST:PORT")]
    address_v5: Option<String>,
    /// What carries MQTT there
    #[arg(long, value_enum, default_value_t = Carrier::Tcp)]
    transport: Carrier,
    /// The certificate authority of a broker with TLS (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the broker's certificate has
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    name: String,
    /// The path of WebSocket
    #[arg(long, value_name = "PATH", default_value = "/mqtt")]
    path: String,
    /// Only cases whose names contain this; may be repeated
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// How long an expected packet may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    patience: f64,
    /// How many cases run side by side
    #[arg(long, value_name = "N", default_value_t = 16)]
    jobs: usize,
    /// Puts a faulty proxy between test and broker: each case has to fail (TCP; over WebSocket the cases
    /// about its frames)
    #[arg(long)]
    faults: bool,
    /// Prints failures only
    #[arg(long)]
    quiet: bool,
    /// Measures tidegate, mosquitto, rumqttd and the faults, records it and writes the document
    #[arg(long, conflicts_with = "address")]
    write: bool,
    /// Writes the document again from what was recorded
    #[arg(long, conflicts_with_all = ["address", "write"])]
    render: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carrier {
    Tcp,
    Tls,
    Ws,
    Wss,
    Quic,
}

fn main() -> ExitCode {
    match execute(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: &Options) -> Result<bool> {
    if options.write {
        measure(options.jobs)?;
    }
    if options.write || options.render {
        let page = workspace().join(PAGE);
        let text = render(&Recorded::read()?, &Figures::read()?);
        std::fs::write(&page, text).with_context(|| format!("{}", page.display()))?;
        return Ok(true);
    }
    set_patience(Duration::try_from_secs_f64(options.patience).context("--patience")?);
    let v3 = server(options, options.address.as_deref().unwrap_or_default())?;
    let v5 = match &options.address_v5 {
        Some(address) => server(options, address)?,
        None => v3.clone(),
    };
    let target = Target { v3, v5 };
    if options.faults && !matches!(options.transport, Carrier::Tcp | Carrier::Ws) {
        bail!("--faults spoils packets over TCP, and frames over WebSocket: leave TLS away");
    }
    let of_frames = options.transport == Carrier::Ws;
    let wanted: Vec<CaseId> = cases()
        .into_iter()
        .filter(|case| {
            let name = case.to_string();
            options.filter.is_empty() || options.filter.iter().any(|text| name.contains(text))
        })
        .filter(|case| !options.faults || case.spoils_frames() == of_frames)
        .collect();
    if wanted.is_empty() {
        bail!("no case has such a name");
    }
    let good = if options.faults {
        each(&wanted, options.jobs, |case| {
            faulty(case, &target, options.quiet)
        })
    } else {
        each(&wanted, options.jobs, |case| {
            plain(case, &target, options.quiet)
        })
    };
    let count = |kind| good.iter().filter(|found| **found == kind).count();
    let bad = count(Kind::Bad);
    if options.faults {
        println!("{} faults caught, {bad} not caught", count(Kind::Good));
    } else {
        println!(
            "{} passed, {bad} failed, {} do not apply",
            count(Kind::Good),
            count(Kind::DoesNotApply)
        );
    }
    Ok(bad == 0)
}

/// Measures everything that the document tells.
fn measure(jobs: usize) -> Result<()> {
    let Some(mosquitto) = Broker::mosquitto() else {
        bail!("mosquitto is not installed (Debian: apt-get install mosquitto)");
    };
    let tcp = Broker::Tidegate(Transport::Tcp);
    let gateways = [&tcp, &Broker::Tidegate(Transport::Ws)];
    for (broker, file) in gateways.into_iter().zip(FILES) {
        println!("{}", broker.name());
        shared(broker, jobs)?.write(file)?;
    }
    // Failures are expected: each takes as long as a packet is waited for.
    set_patience(Duration::from_secs(5));
    let peers = [&mosquitto, &Broker::rumqttd()?];
    for (broker, file) in peers
        .into_iter()
        .zip(FILES.into_iter().skip(gateways.len()))
    {
        println!("{}", broker.name());
        apart(broker, jobs)?.write(file)?;
    }
    println!("faults");
    set_patience(Duration::from_secs(3));
    faults(jobs)?.write()
}

fn server(options: &Options, address: &str) -> Result<Server> {
    let transport = match options.transport {
        Carrier::Tcp => Transport::Tcp,
        Carrier::Tls => Transport::Tls,
        Carrier::Ws => Transport::Ws,
        Carrier::Wss => Transport::Wss,
        Carrier::Quic => Transport::Quic,
    };
    let found: Option<SocketAddr> = address
        .to_socket_addrs()
        .with_context(|| format!("no host:port: {address}"))?
        .next();
    let found = found.with_context(|| format!("{address} has no address"))?;
    let server = Server::new(transport, found)
        .named(&options.name)
        .path(&options.path);
    if !transport.is_encrypted() {
        return Ok(server);
    }
    let ca = options.ca.as_ref().context("TLS needs --ca FILE")?;
    Ok(server.trusting(TlsClient::trusting_file(ca).build()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    DoesNotApply,
}

fn plain(case: CaseId, target: &Target, quiet: bool) -> Kind {
    let Outcome { verdict, observed } = run(case, target);
    let (kind, word) = match verdict {
        Verdict::Pass => (Kind::Good, "ok"),
        Verdict::DoesNotApply => (Kind::DoesNotApply, "does not apply"),
        Verdict::Fail | Verdict::Varies => (Kind::Bad, "FAILED"),
    };
    if !quiet || kind == Kind::Bad {
        say(&format!("{case} ... {word}"), &observed);
    }
    kind
}

fn faulty(case: CaseId, target: &Target, quiet: bool) -> Kind {
    let fault = case.test.fault_at(case.version);
    let fault = fault.map_or_else(|| "no fault".to_owned(), Fault::describe);
    let (kind, word, said) = match catches(case, target) {
        Ok(said) if said.is_empty() => (Kind::DoesNotApply, "does not apply", said),
        Ok(said) => (Kind::Good, "caught", said),
        Err(why) => (Kind::Bad, "NOT CAUGHT", why),
    };
    if !quiet || kind == Kind::Bad {
        say(&format!("{case} ... {word} ({fault})"), &said);
    }
    kind
}

/// One case's lines, in one piece.
fn say(line: &str, more: &str) {
    let text = if more.is_empty() {
        format!("{line}\n")
    } else {
        format!("{line}\n    {more}\n")
    };
    // Nobody to tell that standard output is gone.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
