//! CoAP over streams (RFC 8323) against what the documents say: three clients on one bus send requests, bodies in blocks,
//! signals and rubbish, cut anywhere, read or do not, and come and go, while others publish and the store keeps them
//! waiting.
//!
//! The gateway's own connections run over streams in memory on a clock that only the scenario moves. After each step they
//! run until they have nothing to do; then the clients read, and everything they see must be what they may see:
//!
//! - The first message is a CSM, every other is no longer than the client takes, and behind Abort and Release is none.
//! - Every request has one answer with its token and a code that it can have; a pong with Custody passes none of them.
//!   What breaks the protocol is answered with Abort, nothing else is.
//! - What is published is what was asked for, in its order; a body in parts is published whole or not at all.
//! - An observer is told, in their order, the messages that match, none twice, and all where no more wait than may. What
//!   it is told last is the newest.
//! - When all have left, nothing is kept for them.
//!
//! Rubbish may be anything, so that what its connection is answered is looked at as a stream of messages only; that of an
//! observer with a session, or of a group, as messages that somebody has published.

#![allow(clippy::expect_used, reason = "a finding is a panic")]

mod ask;
mod expect;
mod gateway;
mod link;
mod log;
mod script;
mod watch;
mod wire;

use std::time::Duration;

use gateway::Gateway;
use link::{Around, Link};
use log::{ELSEWHERE, Log};

use crate::input::Input;

/// Longer scenarios find the same, later.
const MOST_STEPS: usize = 200;

/// Runs one input.
///
/// # Panics
///
/// At a finding.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut input = Input::new(data);
        let flags = input.byte();
        let mut scenario = Scenario::new(flags & 1 == 1);
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            scenario.step(&mut input).await;
        }
        scenario.end(flags & 2 == 2).await;
    });
}

struct Scenario {
    gateway: Gateway,
    log: Log,
    /// The connection of each client.
    links: [Option<Link>; ELSEWHERE],
    store_waits: bool,
    store_failed: bool,
    is_leaving: bool,
    /// Counts tokens and payloads, so that none is there twice.
    counter: u32,
}

impl Scenario {
    fn new(asks: bool) -> Self {
        Self {
            gateway: Gateway::new(asks),
            log: Log::default(),
            links: Default::default(),
            store_waits: false,
            store_failed: false,
            is_leaving: false,
            counter: 0,
        }
    }

    /// Lets the gateway do all that it has to do, and the clients read what comes.
    async fn settle(&mut self) {
        loop {
            self.gateway.run().await;
            self.log.take(self.gateway.heard());
            let around = Around {
                log: &self.log,
                store_waits: self.store_waits,
                store_failed: self.store_failed,
                is_leaving: self.is_leaving,
            };
            let mut has_moved = false;
            for link in self.links.iter_mut().flatten() {
                has_moved |= link.reads() && link.receive(&around);
            }
            if has_moved {
                continue;
            }
            for place in &mut self.links {
                if let Some(mut link) =
                    place.take_if(|link| link.reads() && link.stream.is_closed())
                {
                    link.ends(&around);
                    link.stream.close();
                } else if let Some(link) = place {
                    link.settles(&around);
                }
            }
            return;
        }
    }

    /// A client leaves without a word.
    async fn cut(&mut self, of: usize) {
        let Some(link) = self.links[of].take() else {
            return;
        };
        link.stream.close();
        self.settle().await;
        link.is_cut(&self.log);
    }

    async fn wait(&mut self, time: Duration) {
        self.gateway.wait(time).await;
        self.settle().await;
    }

    async fn end(mut self, leaves: bool) {
        self.gateway.hold_store(false);
        self.gateway.complete_store(true);
        self.store_waits = false;
        self.settle().await;
        if leaves {
            self.is_leaving = true;
            let leaving = self.gateway.leave();
            self.wait(Duration::from_secs(5)).await;
            for link in self.links.iter_mut().flatten() {
                link.set_reads(true);
            }
            self.wait(Duration::from_secs(5)).await;
            assert!(
                self.links.iter().all(Option::is_none),
                "a connection goes on"
            );
            leaving.await.expect("it has left");
        }
        for of in 0..self.links.len() {
            self.cut(of).await;
        }
        self.gateway.check_end().await;
    }
}
