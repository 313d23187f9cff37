//! What brokers are asked to do, and what the gateway is held to.

use std::time::Duration;

use crate::broker::Carrier;
use crate::order::{
    Handshakes, Idle, Pace, Queues, Retained, Sessions, Shape, Traffic, Version, Workload,
};

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What carries MQTT, or takes its place.
    pub carrier: Carrier,
    /// What the load process is asked to do.
    pub workload: Workload,
    /// The scenario that it is compared with, which differs from it in what carries MQTT only.
    pub beside: Option<&'static str>,
    /// What is asked of the gateway, besides that nothing is lost or comes twice.
    pub targets: Vec<Target>,
}

/// What is asked of the gateway in a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Processor time per delivery, as a part of what the reference needs in the same run.
    Cpu(f64),
    /// Processor time per delivery, or per connection where there are none, as a multiple of what the gateway
    /// itself needs in the scenario beside it, in the same run.
    CpuBeside(f64),
    /// Deliveries or connections a second, as a part of the same.
    RateBeside(f64),
    /// Deliveries a second, as a part of what the best of the others reach in the same run: at least 1.
    Rate,
    /// The median of latency, as a part of the reference's.
    P50(f64),
    /// The 99th percentile of latency, as a part of the reference's.
    P99(f64),
    /// Bytes of resident memory per connection, and those that would please us.
    Bytes(f64, Option<f64>),
    /// Publishes a second that are acknowledged because they are kept: at least so many, or this part of
    /// what the same disk allows with a bare file and groups of the same size.
    Durable {
        /// Publishes a second.
        least: f64,
        /// The part.
        part: f64,
    },
    /// Bytes on disk for a message, however many sessions it waits for.
    MessageDisk(f64),
    /// Seconds until a client that comes back has the first message.
    First(f64),
    /// Bytes by which memory grows while clients that come back take what has waited for them.
    Growth(f64),
    /// Bytes of resident memory for a session whose client is away.
    SessionMemory(f64),
    /// Bytes on disk for it.
    SessionDisk(f64),
    /// Seconds from the start until a session goes on that another process had.
    Restart(f64),
}

/// The broker whose figures the targets are parts of.
pub const REFERENCE: &str = "mosquitto";

/// Bytes of payload, unless the scenario is about them.
const PAYLOAD: u32 = 64;

/// Publishers and subscribers of one to one.
const PAIRS: u32 = 50;

/// One to one at MQTT 3.1.1 and QoS 0 with a window of 64: others differ from it.
const ONE_TO_ONE: Traffic = Traffic {
    version: Version::V3,
    shape: Shape::Pairs,
    publishers: PAIRS,
    subscribers: PAIRS,
    qos: 0,
    payload: PAYLOAD,
    topics: 1,
    idle_filters: 0,
    properties: false,
    durable: false,
    pace: Pace::Window(64),
};

impl Scenario {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = traffic();
        all.extend(secured());
        all.extend(in_step());
        all.extend(idle());
        all.push(Self {
            name: "retained-storm",
            title: "10 subscribers that ask for 1,000 retained messages, again and again",
            carrier: Carrier::Tcp,
            workload: Workload::Retained(Retained {
                version: Version::V3,
                messages: 1_000,
                qos: 0,
                payload: PAYLOAD,
                subscribers: 10,
            }),
            beside: None,
            targets: Vec::new(),
        });
        all.extend(durable());
        all
    }

    /// Whether it takes too long for as many rounds as the others have.
    #[must_use]
    pub fn is_long(&self) -> bool {
        matches!(
            self.workload,
            Workload::Idle(_) | Workload::Queues(_) | Workload::Sessions(_)
        )
    }

    /// Whether what is acknowledged must be on a disk.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        match &self.workload {
            Workload::Traffic(traffic) => traffic.durable,
            Workload::Queues(_) | Workload::Sessions(_) => true,
            Workload::Handshakes(_) | Workload::Idle(_) | Workload::Retained(_) => false,
        }
    }

    /// Whether the broker sets the pace.
    #[must_use]
    pub fn is_closed_loop(&self) -> bool {
        matches!(
            &self.workload,
            Workload::Traffic(Traffic {
                pace: Pace::Window(_),
                ..
            })
        )
    }

    /// Makes it smaller, if it is one that is long: a part of the messages and sessions, and of the time in
    /// which they come to rest.
    pub fn divide(&mut self, by: u32) {
        match &mut self.workload {
            Workload::Traffic(_) | Workload::Handshakes(_) | Workload::Retained(_) => {}
            Workload::Idle(idle) => {
                idle.first = idle.first.div_ceil(by);
                idle.connections = idle.connections.div_ceil(by);
                idle.settle /= f64::from(by);
            }
            Workload::Queues(queues) => queues.messages = queues.messages.div_ceil(by.into()),
            Workload::Sessions(sessions) => {
                sessions.first = sessions.first.div_ceil(by);
                sessions.sessions = sessions.sessions.div_ceil(by);
                sessions.settle /= f64::from(by);
            }
        }
    }

    /// How long a round takes, about, when messages are counted for `seconds` after `warm_up`.
    #[must_use]
    pub fn expected(&self, warm_up: f64, seconds: f64) -> Duration {
        let seconds = match &self.workload {
            Workload::Traffic(_) => warm_up + seconds + 1.0,
            Workload::Handshakes(_) => warm_up + seconds + 0.5,
            Workload::Idle(idle) => 2.0 * idle.settle + f64::from(idle.connections) / 2_000.0,
            Workload::Retained(_) => warm_up + seconds + 2.0,
            Workload::Queues(queues) => {
                let messages = queues.all_messages() as f64;
                5.0 + messages / 50_000.0 + messages * f64::from(queues.sessions) / 200_000.0
            }
            Workload::Sessions(sessions) => {
                3.0 * sessions.settle + f64::from(sessions.sessions) / 2_000.0
            }
        };
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

fn traffic() -> Vec<Scenario> {
    let scenario = |name, title, workload: Traffic, mut targets: Vec<Target>| {
        if matches!(workload.pace, Pace::Window(_)) {
            targets.push(Target::Rate);
        }
        Scenario {
            name,
            title,
            carrier: Carrier::Tcp,
            workload: Workload::Traffic(workload),
            beside: None,
            targets,
        }
    };
    let fan_out = Traffic {
        shape: Shape::All,
        publishers: 1,
        subscribers: 500,
        ..ONE_TO_ONE
    };
    let beside = vec![Target::Cpu(1.2), Target::P50(1.2), Target::P99(1.2)];
    vec![
        scenario(
            "one-to-one-qos0",
            "50 pairs, QoS 0",
            ONE_TO_ONE,
            vec![Target::Cpu(0.07)],
        ),
        scenario(
            "one-to-one-qos1",
            "50 pairs, QoS 1",
            Traffic {
                qos: 1,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.07)],
        ),
        scenario(
            "one-to-one-qos2",
            "50 pairs, QoS 2",
            Traffic {
                qos: 2,
                pace: Pace::Window(32),
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.05)],
        ),
        scenario(
            "fan-in-qos0",
            "50 publishers to 1 subscriber, MQTT 5, QoS 0",
            Traffic {
                version: Version::V5,
                shape: Shape::All,
                subscribers: 1,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.08)],
        ),
        scenario(
            "shared-fan-in-qos1",
            "50 publishers to a shared subscription of 5, MQTT 5, QoS 1",
            Traffic {
                version: Version::V5,
                shape: Shape::Shared,
                subscribers: 5,
                qos: 1,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.08)],
        ),
        scenario(
            "fan-out-qos0",
            "1 publisher to 500 subscribers, QoS 0",
            Traffic {
                pace: Pace::Window(16),
                ..fan_out
            },
            vec![Target::Cpu(0.09)],
        ),
        scenario(
            "fan-out-qos1",
            "1 publisher to 500 subscribers, QoS 1",
            Traffic {
                qos: 1,
                pace: Pace::Window(8),
                ..fan_out
            },
            vec![Target::Cpu(0.12)],
        ),
        scenario(
            "payload-16k",
            "50 pairs, QoS 0, 16 KiB of payload",
            Traffic {
                payload: 16 * 1024,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.42)],
        ),
        scenario(
            "topics-100",
            "50 pairs, QoS 0, 100 topics per publisher",
            Traffic {
                topics: 100,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.09)],
        ),
        scenario(
            "idle-wildcards",
            "50 pairs, QoS 0, beside 2,000 wildcard subscriptions that match nothing",
            Traffic {
                idle_filters: 2_000,
                ..ONE_TO_ONE
            },
            vec![Target::Cpu(0.08)],
        ),
        scenario(
            "properties",
            "50 pairs, MQTT 5, QoS 0, with properties",
            Traffic {
                version: Version::V5,
                properties: true,
                ..ONE_TO_ONE
            },
            Vec::new(),
        ),
        scenario(
            "latency-1000-qos0",
            "50 pairs, QoS 0, 1,000 messages a second in all",
            Traffic {
                pace: Pace::Rate(1_000),
                ..ONE_TO_ONE
            },
            beside.clone(),
        ),
        scenario(
            "latency-10000-qos1",
            "50 pairs, QoS 1, 10,000 messages a second in all",
            Traffic {
                qos: 1,
                pace: Pace::Rate(10_000),
                ..ONE_TO_ONE
            },
            beside,
        ),
    ]
}

/// What differs in what carries MQTT: TLS over TCP, and QUIC beside it, which nobody else speaks. What is asked
/// of QUIC are bounds of our own, somewhat above what was measured.
fn secured() -> Vec<Scenario> {
    let tls = |name, title, workload, targets| Scenario {
        name,
        title,
        carrier: Carrier::Tls,
        workload,
        beside: None,
        targets,
    };
    let quic = |name, title, workload, beside, targets| Scenario {
        name,
        title,
        carrier: Carrier::Quic,
        workload,
        beside: Some(beside),
        targets,
    };
    let qos0 = || Workload::Traffic(ONE_TO_ONE);
    let qos1 = || {
        Workload::Traffic(Traffic {
            qos: 1,
            ..ONE_TO_ONE
        })
    };
    let handshakes = || {
        Workload::Handshakes(Handshakes {
            version: Version::V3,
            at_once: 32,
        })
    };
    vec![
        tls(
            "tls-one-to-one-qos0",
            "50 pairs, QoS 0, TLS",
            qos0(),
            vec![Target::Cpu(0.08), Target::Rate],
        ),
        quic(
            "quic-one-to-one-qos0",
            "50 pairs, QoS 0, QUIC",
            qos0(),
            "tls-one-to-one-qos0",
            vec![Target::CpuBeside(3.0), Target::RateBeside(0.33)],
        ),
        tls(
            "tls-one-to-one-qos1",
            "50 pairs, QoS 1, TLS",
            qos1(),
            vec![Target::Cpu(0.08), Target::Rate],
        ),
        quic(
            "quic-one-to-one-qos1",
            "50 pairs, QoS 1, QUIC",
            qos1(),
            "tls-one-to-one-qos1",
            vec![Target::CpuBeside(2.5), Target::RateBeside(0.4)],
        ),
        tls(
            "tls-handshakes",
            "32 clients that connect and leave, again and again, TLS",
            handshakes(),
            Vec::new(),
        ),
        quic(
            "quic-handshakes",
            "32 clients that connect and leave, again and again, QUIC",
            handshakes(),
            "tls-handshakes",
            vec![Target::CpuBeside(2.5), Target::RateBeside(0.33)],
        ),
    ]
}

/// CoAP, where an endpoint has one message under way, beside MQTT with a window of one.
fn in_step() -> Vec<Scenario> {
    let scenario = |name, title, carrier, beside, targets| Scenario {
        name,
        title,
        carrier,
        workload: Workload::Traffic(Traffic {
            publishers: 200,
            subscribers: 200,
            qos: 1,
            pace: Pace::Window(1),
            ..ONE_TO_ONE
        }),
        beside,
        targets,
    };
    vec![
        scenario(
            "in-step-qos1",
            "200 pairs, QoS 1, one message at a time",
            Carrier::Tcp,
            None,
            vec![Target::Rate],
        ),
        scenario(
            "coap-in-step",
            "200 pairs over CoAP: confirmable PUT to an observer, one message at a time",
            Carrier::Coap,
            Some("in-step-qos1"),
            vec![Target::CpuBeside(2.0), Target::RateBeside(0.5)],
        ),
    ]
}

fn idle() -> Vec<Scenario> {
    let scenario = |name, title, carrier, beside, bytes| Scenario {
        name,
        title,
        carrier,
        workload: Workload::Idle(Idle {
            version: Version::V3,
            first: 1_000,
            connections: 10_000,
            settle: 10.0,
        }),
        beside,
        targets: vec![bytes],
    };
    vec![
        scenario(
            "idle-tcp",
            "10,000 connections that do nothing, TCP",
            Carrier::Tcp,
            None,
            Target::Bytes(3_072.0, Some(2_048.0)),
        ),
        scenario(
            "idle-tls",
            "10,000 connections that do nothing, TLS",
            Carrier::Tls,
            None,
            Target::Bytes(12_288.0, None),
        ),
        scenario(
            "idle-websocket",
            "10,000 connections that do nothing, WebSocket",
            Carrier::WebSocket,
            None,
            Target::Bytes(4_096.0, None),
        ),
        scenario(
            "idle-quic",
            "10,000 connections that do nothing, QUIC",
            Carrier::Quic,
            Some("idle-tls"),
            Target::Bytes(49_152.0, Some(32_768.0)),
        ),
        Scenario {
            name: "idle-coap",
            title: "10,000 observers that are told nothing, CoAP",
            carrier: Carrier::Coap,
            workload: Workload::Idle(Idle {
                version: Version::V3,
                first: 1_000,
                connections: 10_000,
                // The decision that somebody may connect is kept for a minute.
                settle: 70.0,
            }),
            beside: None,
            targets: vec![Target::Bytes(1_024.0, None)],
        },
    ]
}

fn durable() -> Vec<Scenario> {
    let scenario = |name, title, workload, targets| Scenario {
        name,
        title,
        carrier: Carrier::Tcp,
        workload,
        beside: None,
        targets,
    };
    let acknowledged = Target::Durable {
        least: 60_000.0,
        part: 0.7,
    };
    let one_to_one = Traffic {
        version: Version::V5,
        qos: 1,
        durable: true,
        ..ONE_TO_ONE
    };
    let fan_out = Queues {
        version: Version::V5,
        sessions: 200,
        publishers: 1,
        messages: 5_000,
        payload: 1_024,
        window: 64,
    };
    let drain = Queues {
        version: Version::V5,
        sessions: 1,
        publishers: 50,
        messages: 20_000,
        payload: PAYLOAD,
        window: 64,
    };
    vec![
        scenario(
            "durable-one-to-one-qos1",
            "50 pairs, MQTT 5, QoS 1, to sessions that are kept",
            Workload::Traffic(one_to_one.clone()),
            vec![acknowledged],
        ),
        scenario(
            "durable-fan-in-qos1",
            "50 publishers to 1 subscriber, MQTT 5, QoS 1, to a session that is kept",
            Workload::Traffic(Traffic {
                shape: Shape::All,
                subscribers: 1,
                ..one_to_one
            }),
            vec![acknowledged],
        ),
        scenario(
            "durable-fan-out",
            "5,000 messages of 1 KiB to 200 sessions whose clients are away, and come back",
            Workload::Queues(fan_out),
            // A tenth of what a copy for each session would be.
            vec![
                Target::MessageDisk(200.0 * 1_024.0 / 10.0),
                Target::First(1.0),
            ],
        ),
        scenario(
            "durable-drain",
            "1,000,000 messages from 50 publishers to a session whose client is away, and comes back",
            Workload::Queues(drain),
            vec![
                acknowledged,
                Target::First(1.0),
                // What the engine may hold unwritten of queues and of bodies: twice 32 MiB each.
                Target::Growth(128.0 * 1024.0 * 1024.0),
            ],
        ),
        scenario(
            "durable-restart",
            "100,000 sessions whose clients are away; the broker is killed and started again",
            Workload::Sessions(Sessions {
                version: Version::V5,
                first: 1_000,
                sessions: 100_000,
                settle: 10.0,
            }),
            vec![
                Target::SessionMemory(1_000.0),
                Target::SessionDisk(1_000.0),
                Target::Restart(5.0),
            ],
        ),
    ]
}
