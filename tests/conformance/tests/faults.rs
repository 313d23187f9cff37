//! Every test fails when the fault it names is seeded between it and the gateway, and passes without.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use tidegate_conformance::{Broker, Instance, cases, catches};
use tidegate_tests::Transport;
use tidegate_tests::wire::set_patience;

fn main() {
    let mut arguments = Arguments::from_args();
    // Cases wait more than they compute.
    arguments.test_threads.get_or_insert(16);
    // Every one of these fails, and many of them by waiting.
    set_patience(Duration::from_secs(3));
    let gateways: Arc<[OnceLock<Instance>; 2]> = Arc::default();
    let trial = |case: tidegate_conformance::CaseId| {
        let gateways = Arc::clone(&gateways);
        Trial::test(case.to_string(), move || {
            let (gateway, transport) = if case.spoils_frames() {
                (&gateways[1], Transport::Ws)
            } else {
                (&gateways[0], Transport::Tcp)
            };
            let start = || Broker::Tidegate(transport).start();
            let instance = gateway
                .get_or_init(|| start().unwrap_or_else(|error| panic!("no gateway: {error:#}")));
            catches(case, instance.target())
                .map(|_| ())
                .map_err(Into::into)
        })
    };
    let trials = cases().into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the processes, and fails if one has died or panicked on the way.
    drop(gateways);
    conclusion.exit();
}
