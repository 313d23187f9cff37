//! The load: one process that drives one broker with one workload and says what it has cost.
//!
//! It runs on the same processors as the broker, so it must cost far less: messages are made once and
//! patched, and nothing is allocated for one.

mod clock;
mod coap;
mod connection;
mod crowd;
mod engine;
mod files;
mod filters;
mod handshakes;
mod idle;
mod keeper;
mod latencies;
mod ledger;
mod link;
mod missing;
mod opening;
mod packet;
mod publisher;
mod queues;
mod quic;
mod receiver;
mod retained;
mod schedule;
mod sessions;
mod syncs;
mod timer;
mod tls;
mod traffic;
mod window;

pub(crate) use sessions::resume;

use anyhow::Result;

use crate::order::{Order, Workload};
use crate::reply::{Measurement, Reply};
use clock::Broker;

/// Where the load says what it is doing.
type Progress<'a> = &'a dyn Fn(&str);

/// Does what is ordered, says what it is doing meanwhile, and returns the reply that ends it.
#[must_use]
pub fn load(order: &Order, progress: &dyn Fn(Reply)) -> Reply {
    let needed = files::needed(&order.workload);
    if let Err(why) = files::raise(needed) {
        return Reply::DoesNotFit(why);
    }
    let say = |text: &str| progress(Reply::Progress(text.to_owned()));
    match measure(order, &say) {
        Ok(measurement) => Reply::Measured(Box::new(measurement)),
        Err(error) => Reply::Failed(format!("{error:#}")),
    }
}

fn measure(order: &Order, progress: Progress<'_>) -> Result<Measurement> {
    let broker = Broker::of(order.pid)?;
    match &order.workload {
        Workload::Traffic(workload) if order.scheme == coap::SCHEME => {
            coap::traffic(order, workload, &broker, progress)
        }
        Workload::Idle(workload) if order.scheme == coap::SCHEME => {
            coap::idle(order, workload, &broker, progress)
        }
        Workload::Traffic(workload) => traffic::traffic(order, workload, &broker, progress),
        Workload::Handshakes(workload) => {
            handshakes::handshakes(order, workload, &broker, progress)
        }
        Workload::Idle(workload) => idle::idle(order, workload, &broker, progress),
        Workload::Retained(workload) => retained::retained(order, workload, &broker, progress),
        Workload::Queues(workload) => queues::queues(order, workload, &broker, progress),
        Workload::Sessions(workload) => sessions::sessions(order, workload, &broker, progress),
    }
}

/// Bytes of a broker's resident memory.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    Broker::of(pid)?.resident()
}
