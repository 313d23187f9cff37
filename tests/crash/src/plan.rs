//! What a seed decides: who there is, who does what in which round, and when the gateway is killed.

use serde::Serialize;
use tidegate_tests::Noise;

use crate::moment::Moment;

/// Rounds of a run without kills.
const QUIET_ROUNDS: u32 = 12;

/// Messages that each writer may send in a round.
const CREDIT: usize = 100;

/// Clients that share a process.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crew {
    #[serde(skip)]
    pub(crate) name: &'static str,
    /// Of what the clients draw for themselves.
    pub(crate) seed: u64,
    /// Whether this process may be killed.
    pub(crate) careful: bool,
    pub(crate) clients: Vec<Client>,
}

/// A client that keeps its session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Client {
    pub(crate) client: String,
    /// The protocol level: 4 is MQTT 3.1.1, 5 is 5.0.
    version: u8,
    /// What it subscribes to when it comes for the first time.
    filters: Vec<(String, u8)>,
    /// Whether it has.
    pub(crate) subscribed: bool,
    pub(crate) writes: Option<Writes>,
    pub(crate) will: Option<Will>,
}

/// What a client publishes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Writes {
    /// The number of its first message; no other has those that follow.
    first: u64,
    topics: Vec<Topic>,
}

#[derive(Clone, Debug, Serialize)]
struct Topic {
    topic: String,
    qos: u8,
    retain: bool,
}

/// The will of a client.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Will {
    message: u64,
    topic: String,
    qos: u8,
    size: usize,
    /// In seconds.
    pub(crate) delay: u64,
    /// The round in which its client comes; if it is there when a crash follows, it does not come back.
    /// Without one it comes at the beginning and always comes back.
    #[serde(skip)]
    pub(crate) round: Option<u32>,
}

/// Something to do in a round, besides publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// This client connects.
    Come(&'static str),
    /// This client leaves, politely or not, until it is told to come.
    Go(&'static str, bool),
    /// This client loses its connection and opens another.
    Drop(&'static str),
    /// The process of this crew is killed, and another one started.
    Die(&'static str),
    /// Somebody looks at the retained messages.
    Look,
}

/// From a start of the gateway to its end.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) moment: Moment,
    /// Messages that each writer may send.
    pub(crate) credit: usize,
    /// Messages that each writer may have unacknowledged.
    pub(crate) window: usize,
    /// After so many acknowledged publishes, in that order.
    pub(crate) errands: Vec<(usize, Errand)>,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) crews: Vec<Crew>,
    pub(crate) rounds: Vec<Round>,
}

const WRITERS: [&str; 4] = ["writer-0", "writer-1", "writer-2", "writer-3"];
const AWAY: [&str; 3] = ["away-0", "away-1", "away-2"];
const DROPPED: [&str; 3] = ["dropped-0", "dropped-1", "share-1"];
const LATE: [&str; 2] = ["late-0", "late-1"];
const MORTAL: &str = "mortal";

impl Plan {
    pub(crate) fn new(seed: u64, kills: u32) -> Self {
        // Neighbouring seeds shall have nothing in common; 0 is none of the generator's.
        let mut noise = Noise::new(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let rounds = if kills == 0 { QUIET_ROUNDS } else { kills };
        let crews = crews(seed, &mut noise, rounds);
        let rounds = rounds_of(&mut noise, rounds, kills > 0);
        Self { crews, rounds }
    }

    /// Whoever is there from the beginning: no writer, nobody who comes late.
    pub(crate) fn first(&self) -> impl Iterator<Item = &str> {
        let clients = self.crews.iter().flat_map(|crew| &crew.clients);
        let first = clients.filter(|client| match &client.will {
            Some(will) => will.round.is_none(),
            None => client.writes.is_none() && !LATE.contains(&client.client.as_str()),
        });
        first.map(|client| client.client.as_str())
    }

    pub(crate) fn writers(&self) -> impl Iterator<Item = &'static str> + use<> {
        WRITERS.into_iter()
    }
}

fn crews(seed: u64, noise: &mut Noise, rounds: u32) -> Vec<Crew> {
    let crew = |name, clients| Crew {
        name,
        seed,
        careful: name == MORTAL,
        clients,
    };
    let writers = WRITERS.iter().enumerate();
    let steady = vec![
        reading("all-5", 5, &[("crash/#", 2)]),
        reading("all-4", 4, &[("crash/#", 1)]),
        reading("two-5", 5, &[("crash/two/#", 2)]),
        reading("watch-4", 4, &[("crash/will/#", 2)]),
        reading("share-0", 5, &SHARED),
        reading("share-1", 4, &SHARED),
    ];
    let roaming = vec![
        reading(AWAY[0], 5, &[("crash/#", 2)]),
        reading(AWAY[1], 4, &[("crash/two/#", 2)]),
        reading(AWAY[2], 5, &[("crash/one/#", 1)]),
        reading(DROPPED[0], 5, &[("crash/two/#", 2)]),
        reading(DROPPED[1], 4, &[("crash/one/#", 1)]),
        reading(LATE[0], 5, &[("crash/one/#", 1)]),
        reading(LATE[1], 4, &[("crash/two/#", 2)]),
    ];
    let mortal = vec![
        reading("mortal-0", 5, &[("crash/two/#", 2)]),
        reading("mortal-1", 4, &[("crash/one/#", 1)]),
        reading("mortal-2", 5, &[("crash/two/#", 1)]),
    ];
    // Version, QoS, delay, and whether it stays away.
    let wills = [
        (5, 1, 0, true),
        (5, 2, 2, true),
        (4, 1, 0, true),
        (5, 2, 3, true),
        (5, 1, 600, false),
        (5, 2, 900, false),
    ];
    let wills = wills.iter().zip(0..).map(|(will, index)| {
        let (version, qos, delay, gone) = *will;
        let name = format!("will-{index}");
        let topic = format!("crash/will/{name}");
        // Nothing is published there: that it is granted is what counts.
        let mut client = reading(&name, version, &[(&format!("none/{name}"), 1)]);
        client.will = Some(Will {
            message: 900_000_000 + index,
            topic,
            qos,
            size: 16 + noise.below(2000),
            delay,
            round: gone.then(|| noise.below(rounds as usize) as u32),
        });
        client
    });
    vec![
        crew("steady", steady),
        crew("roaming", roaming),
        crew(MORTAL, mortal),
        crew("wills", wills.collect()),
        crew(
            "writers",
            writers.map(|(index, name)| writing(name, index)).collect(),
        ),
    ]
}

/// QoS 1 and QoS 2 apart, as each topic has one QoS.
const SHARED: [(&str, u8); 2] = [
    ("$share/group/crash/one/share/#", 1),
    ("$share/group/crash/two/share/#", 2),
];

fn reading(name: &str, version: u8, filters: &[(&str, u8)]) -> Client {
    let filters = filters.iter();
    Client {
        client: name.to_owned(),
        version,
        filters: filters
            .map(|(filter, qos)| ((*filter).to_owned(), *qos))
            .collect(),
        subscribed: false,
        writes: None,
        will: None,
    }
}

/// Topics below `crash/one` have QoS 1, those below `crash/two` QoS 2. A topic that retains has one
/// publisher, the others are everybody's.
fn writing(name: &str, index: usize) -> Client {
    let mut topics = Vec::new();
    for (level, qos) in [("one", 1), ("two", 2)] {
        for number in 0..3 {
            topics.push((format!("crash/{level}/plain/{number}"), qos, false));
        }
        for number in 0..2 {
            topics.push((format!("crash/{level}/share/{number}"), qos, false));
            topics.push((format!("crash/{level}/keep/{name}/{number}"), qos, true));
        }
    }
    let topics = topics
        .into_iter()
        .map(|(topic, qos, retain)| Topic { topic, qos, retain });
    let mut client = reading(name, if index.is_multiple_of(2) { 5 } else { 4 }, &[]);
    client.writes = Some(Writes {
        first: (index as u64 + 1) * 10_000_000,
        topics: topics.collect(),
    });
    client
}

fn rounds_of(noise: &mut Noise, rounds: u32, kills: bool) -> Vec<Round> {
    let publishes = WRITERS.len() * CREDIT;
    let mut late = LATE
        .map(|name| (noise.below(rounds as usize) as u32, name))
        .to_vec();
    // How many more rounds each of them is away.
    let mut away = AWAY.map(|name| (name, None::<usize>));
    let mut drawn = Vec::new();
    for number in 0..rounds {
        let moment = Moment::draw(noise, publishes);
        let mut errands = vec![(0, Errand::Look)];
        let mut some = |noise: &mut Noise, errand| errands.push((noise.below(publishes), errand));
        late.retain(|(round, name)| {
            let comes = *round == number;
            if comes {
                some(noise, Errand::Come(name));
            }
            !comes
        });
        for (name, rest) in &mut away {
            match rest {
                Some(0) => {
                    some(noise, Errand::Come(name));
                    *rest = None;
                }
                Some(rest) => *rest -= 1,
                None if noise.below(3) == 0 => {
                    let polite = noise.below(2) == 0;
                    some(noise, Errand::Go(name, polite));
                    *rest = Some(1 + noise.below(4));
                }
                None => {}
            }
        }
        for name in DROPPED {
            for _ in 0..noise.below(3) {
                some(noise, Errand::Drop(name));
            }
        }
        if noise.below(3) == 0 {
            some(noise, Errand::Die(MORTAL));
        }
        errands.sort_by_key(|(after, _)| *after);
        drawn.push(Round {
            moment: if kills { moment } else { Moment::Quiet },
            credit: CREDIT,
            window: [1, 5, 20, 60][noise.below(4)],
            errands,
        });
    }
    drawn
}
