//! The suite against the gateway, over TCP, WebSocket and QUIC: one gateway for all cases. Over QUIC all is as
//! over TCP.

use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use tidegate_conformance::{Broker, FILES, Instance, Results, Verdict, cases, run};
use tidegate_tests::Transport;

fn main() {
    let mut arguments = Arguments::from_args();
    // Cases wait more than they compute.
    arguments.test_threads.get_or_insert(16);
    let mut gateways = Vec::new();
    let mut trials = Vec::new();
    let [tcp, websocket, ..] = FILES;
    for (transport, file) in [
        (Transport::Tcp, tcp),
        (Transport::Ws, websocket),
        (Transport::Quic, tcp),
    ] {
        let recorded = Arc::new(Results::read(file));
        let gateway: Arc<OnceLock<Instance>> = Arc::default();
        gateways.push(Arc::clone(&gateway));
        for case in cases() {
            let (gateway, recorded) = (Arc::clone(&gateway), Arc::clone(&recorded));
            let name = format!("{}::{case}", transport.scheme());
            trials.push(Trial::test(name, move || -> Result<(), Failed> {
                let start = || Broker::Tidegate(transport).start();
                let instance = gateway.get_or_init(|| {
                    start().unwrap_or_else(|error| panic!("no gateway: {error:#}"))
                });
                let outcome = run(case, instance.target());
                if outcome.verdict == Verdict::Fail {
                    return Err(outcome.observed.into());
                }
                let expected = match recorded.as_ref() {
                    Ok(recorded) => recorded.cases.get(&case.to_string()),
                    Err(error) => return Err(format!("nothing recorded: {error:#}").into()),
                };
                match expected {
                    Some(expected) if expected.verdict == outcome.verdict => Ok(()),
                    _ => Err(format!("{:?}, {}", outcome.verdict, stale()).into()),
                }
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the processes, and fails if one of them has died or panicked on the way.
    drop(gateways);
    conclusion.exit();
}

fn stale() -> &'static str {
    "but docs/conformance.md says otherwise: cargo xtask conformance --write"
}
