//! What is told next: random, and enough of everything that tables are written, merged and removed.

use crate::op::{Body, Op, Waiting};
use crate::random::Random;
use crate::state::{Session, Stage, State};

const CLIENTS: u64 = 6;
/// A queue that holds more is emptied from its front.
const QUEUE_BYTES: usize = 1 << 20;
/// Bytes of a message that is there to fill a journal.
const BALLAST: usize = 1 << 20;

/// What is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This.
    Tell(Op),
    /// A change of this client under an epoch that is not the newest.
    Stale(String),
}

/// The workload of a seed.
#[derive(Debug)]
pub struct Workload {
    random: Random,
    /// Messages of a megabyte that are still to be published.
    pub ballast: u64,
}

impl Workload {
    /// The workload of a seed.
    pub const fn new(seed: u64, ballast: u64) -> Self {
        Self {
            random: Random::new(seed),
            ballast,
        }
    }

    /// What is told next, and whether everything told is waited for first. `claim` gives out epochs.
    pub fn next(&mut self, state: &State, mut claim: impl FnMut() -> u64) -> (Step, bool) {
        let random = &mut self.random;
        let wait = random.once_in(12);
        let client = format!("c{}", random.below(CLIENTS));
        let Some(s) = state.sessions.get(&client) else {
            return (Step::Tell(attach(random, client, claim())), wait);
        };
        let bytes = s.queue.values().map(|(_, body)| body.size).sum::<usize>();
        if bytes > QUEUE_BYTES
            && let Some(&place) = s.queue.keys().next()
        {
            return (Step::Tell(Op::Done(client, place)), wait);
        }
        if self.ballast > 0 && random.once_in(2) {
            self.ballast -= 1;
            let mut body = body(random);
            body.size = BALLAST;
            let to = vec![waiting(random, client, s)];
            let origin = None;
            return (Step::Tell(Op::Publish { body, to, origin }), wait);
        }
        let place = s.queue.keys().nth(random.below(8) as usize).copied();
        let filter = format!("f/{}", random.below(8));
        let op = match random.below(100) {
            0 => Op::End(client),
            1..5 => attach(random, client, claim()),
            5..8 => Op::Detach {
                client,
                ends_at: 1 + random.below(1 << 40),
                will_at: (!random.once_in(3)).then(|| random.below(1 << 40)),
            },
            8 => Op::WillPublished(client),
            9 if s.epoch != s.session => return (Step::Stale(client), wait),
            9..18 => Op::Subscribe(client, filter, random.once_in(2)),
            18..22 if s.filters.contains(&filter) => Op::Unsubscribe(client, filter),
            22..25 if s.filters.contains(&filter) => Op::RetainedSent(client, filter),
            25..30 => match s.received.first() {
                Some(&id) => Op::Released(client, id),
                None => Op::Released(client, 1),
            },
            30..60 if place.is_some() => deliver(random, client, s, place.unwrap_or(0)),
            60..68 => {
                let topic = format!("r/{}", random.below(12));
                let body = (!random.once_in(4)).then(|| body(random));
                Op::Retain(topic, body)
            }
            _ => publish(random, client, s, state),
        };
        (Step::Tell(op), wait)
    }
}

fn attach(random: &mut Random, client: String, epoch: u64) -> Op {
    Op::Attach {
        client,
        epoch,
        fresh: random.once_in(4),
        expiry: 60 + random.below(10_000) as u32,
        will: random.once_in(2).then(|| body(random)),
    }
}

fn deliver(random: &mut Random, client: String, s: &Session, place: u64) -> Op {
    match s.queue[&place].0 {
        Stage::Queued if random.once_in(2) => Op::Sent(client, place, packet_id(random)),
        Stage::Sent(_) if random.once_in(2) => Op::Received(client, place),
        _ => Op::Done(client, place),
    }
}

fn publish(random: &mut Random, client: String, s: &Session, state: &State) -> Op {
    let body = body(random);
    let mut to = Vec::new();
    for (name, s) in &state.sessions {
        if random.once_in(2) {
            to.push(waiting(random, name.clone(), s));
        }
    }
    let id = 1 + random.below(20) as u16;
    let origin = random.once_in(3) && !s.received.contains(&id);
    Op::Publish {
        body,
        to,
        origin: origin.then_some((client, id)),
    }
}

fn waiting(random: &mut Random, client: String, s: &Session) -> Waiting {
    Waiting {
        client,
        place: s.last + 1 + random.below(3),
        sent: random.once_in(3).then(|| packet_id(random)),
    }
}

fn packet_id(random: &mut Random) -> u16 {
    1 + random.below(60_000) as u16
}

/// Mostly small; some too large to stand in an entry, some larger than a memtable.
fn body(random: &mut Random) -> Body {
    let size = match random.below(20) {
        0..12 => 8 + random.below(1_000),
        12..18 => 1_100 + random.below(7_000),
        18 => 16_000 + random.below(50_000),
        _ => 8,
    };
    Body {
        number: random.next() >> 8,
        size: size as usize,
    }
}
