//! The MQTT connection against a model: two clients of any version do what they may and what they may
//! not, and everything they see is what the model says.
//!
//! The gateway's own connections run over a stream in memory on a clock that only the scenario moves.
//! After each step the gateway runs until it has nothing to do; then the clients read, and the model
//! has to accept every packet and to miss none. The input is a list of steps, see `action.rs`.
//!
//! A client that comes back to its session speaks MQTT 5 there or never does. Before MQTT 5 deliveries of one
//! message that differ in their Subscription Identifiers look alike, so that a model which sees only the
//! client's side cannot always tell which of them was acknowledged once a later connection of MQTT 5 shows
//! the others. Scenarios that cross the versions within a session are in [`run_across_versions`].

mod action;
mod gateway;
mod wire;

use std::fmt::Write as _;

use arbitrary::Unstructured;

use crate::pipe;
use action::{Action, CLIENTS, Step};
use gateway::Gateway;
use tidegate_model::{AckKind, ClientPacket, Connect, Limits, Mismatch, Model, Version};

/// Longer scenarios find the same, later.
const MOST_STEPS: u16 = 96;

/// Runs a scenario.
pub fn run(data: &[u8]) {
    play(data, false);
}

/// Runs a scenario in which a session may change between MQTT 5 and earlier versions.
pub fn run_across_versions(data: &[u8]) {
    play(data, true);
}

fn play(data: &[u8], across_versions: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let Ok(runtime) = runtime else {
        panic!("there is no runtime");
    };
    runtime.block_on(async {
        let mut scenario = Scenario::new(across_versions);
        if let Err(Mismatch(text)) = scenario.play(data).await {
            panic!("{text}\nafter:\n{}", scenario.story);
        }
    });
}

/// A client's side of its newest connection.
struct Link {
    id: u32,
    version: Version,
    stream: pipe::Client,
    read: Vec<u8>,
    ended: bool,
}

struct Scenario {
    gateway: Gateway,
    model: Model,
    /// The newest connection of each client, and older ones that are about to end.
    links: Vec<(u8, Link)>,
    connections: u32,
    across_versions: bool,
    /// What each client has spoken last.
    spoken: [Option<Version>; CLIENTS as usize],
    /// Bytes that go out together.
    waiting: Option<(u8, Vec<u8>)>,
    /// What was done, for whoever reads of a finding.
    story: String,
}

impl Scenario {
    fn new(across_versions: bool) -> Self {
        let limits = Limits {
            max_inflight: 3,
            receive_maximum: 3,
            topic_alias_maximum: 2,
            v3_expiry: 40,
            max_expiry: 300,
            max_levels: 32,
        };
        Self {
            gateway: Gateway::new(&limits),
            model: Model::new(limits),
            links: Vec::new(),
            connections: 0,
            across_versions,
            spoken: [None; CLIENTS as usize],
            waiting: None,
            story: String::new(),
        }
    }

    async fn play(&mut self, data: &[u8]) -> Result<(), Mismatch> {
        let mut u = Unstructured::new(data);
        for number in 0..MOST_STEPS {
            let Ok(step) = Step::of(&mut u, number) else {
                break;
            };
            self.step(&mut u, step, number).await?;
        }
        self.send_waiting(false).await?;
        // Whatever lasts, ends: sessions, wills, keep alives.
        self.wait(1_000).await
    }

    async fn step(
        &mut self,
        u: &mut Unstructured<'_>,
        step: Step,
        number: u16,
    ) -> Result<(), Mismatch> {
        let Step {
            client,
            action,
            joined,
            split,
        } = step;
        let alone = match &action {
            // What a client acknowledges it has seen.
            Action::Send(ClientPacket::Ack { kind, .. }) => *kind != AckKind::PubRel,
            Action::Send(_) => false,
            _ => true,
        };
        if alone
            || self
                .waiting
                .as_ref()
                .is_some_and(|(other, _)| *other != client)
        {
            self.send_waiting(false).await?;
        }
        if !matches!(action, Action::Connect(_) | Action::Wait(_)) && self.open(client).is_none() {
            // Nothing can be done without a connection.
            self.send_waiting(false).await?;
            let Ok(connect) = action::connect(u, client, number) else {
                return Ok(());
            };
            self.connect(client, connect).await?;
        }
        match action {
            Action::Connect(connect) => self.connect(client, connect).await,
            Action::Wait(seconds) => self.wait(seconds).await,
            Action::Cut => {
                let _ = writeln!(self.story, "client-{client} cuts");
                if let Some(link) = self.open(client) {
                    let id = link.id;
                    link.stream.close();
                    link.ended = true;
                    self.model.cut(id);
                    self.model.saw_end(id)?;
                    self.settle().await?;
                }
                Ok(())
            }
            Action::Acknowledge { place, code } => {
                let Some(link) = self.open(client) else {
                    return Ok(());
                };
                let id = link.id;
                let owed = self.model.owed_by(id);
                if owed.is_empty() {
                    return Ok(());
                }
                let (kind, id) = owed[place % owed.len()];
                // PUBCOMP has no such codes.
                let code = if kind == AckKind::PubComp { 0 } else { code };
                self.send(client, &ClientPacket::Ack { kind, id, code });
                self.send_waiting(split).await
            }
            Action::Send(packet) => {
                self.send(client, &packet);
                if joined {
                    return Ok(());
                }
                self.send_waiting(split).await
            }
        }
    }

    /// The client's connection, if it is served.
    fn open(&mut self, client: u8) -> Option<&mut Link> {
        let model = &self.model;
        let links = self.links.iter_mut();
        links
            .filter(|(of, link)| *of == client && model.is_open(link.id))
            .map(|(_, link)| link)
            .next_back()
    }

    async fn connect(&mut self, client: u8, mut connect: Connect) -> Result<(), Mismatch> {
        let spoken = &mut self.spoken[usize::from(client)];
        if let Some(before) = *spoken
            && !self.across_versions
            && !connect.clean_start
            && (before == Version::V5) != (connect.version == Version::V5)
        {
            connect.version = before;
        }
        *spoken = Some(connect.version);
        let _ = writeln!(self.story, "{connect:?}");
        self.connections += 1;
        let id = self.connections;
        let version = connect.version;
        let packet = ClientPacket::Connect(connect);
        let stream = self.gateway.accept();
        let mut bytes = Vec::new();
        wire::encode(version, &packet, &mut bytes);
        stream.send(&bytes);
        self.model.client(id, &packet);
        let link = Link {
            id,
            version,
            stream,
            read: Vec::new(),
            ended: false,
        };
        self.links.push((client, link));
        self.settle().await
    }

    /// Puts a packet to those that go out together.
    fn send(&mut self, client: u8, packet: &ClientPacket) {
        let Some(link) = self.open(client) else {
            return;
        };
        let (id, version) = (link.id, link.version);
        let _ = writeln!(self.story, "client-{client} sends {packet:?}");
        let (_, bytes) = self.waiting.get_or_insert_with(|| (client, Vec::new()));
        wire::encode(version, packet, bytes);
        self.model.client(id, packet);
    }

    async fn send_waiting(&mut self, split: bool) -> Result<(), Mismatch> {
        let Some((client, bytes)) = self.waiting.take() else {
            return Ok(());
        };
        // The newest: it may have ended in the model by what waits here.
        let link = self.links.iter().rfind(|(of, _)| *of == client);
        let Some((_, link)) = link else {
            return Ok(());
        };
        let middle = if split { bytes.len() / 2 } else { 0 };
        let (first, second) = bytes.split_at(middle);
        if !first.is_empty() {
            link.stream.send(first);
            self.gateway.run().await;
        }
        link.stream.send(second);
        self.settle().await
    }

    async fn wait(&mut self, seconds: u64) -> Result<(), Mismatch> {
        let _ = writeln!(self.story, "{seconds} seconds go by");
        let end = self.model.now() + seconds;
        while self.model.now() < end {
            let next = self.model.next_event().unwrap_or(end);
            let next = next.clamp(self.model.now() + 1, end);
            self.gateway.advance(next - self.model.now());
            self.model.advance_to(next);
            self.settle().await?;
        }
        Ok(())
    }

    /// Lets the gateway do all that it has to do, and holds what comes against the model.
    async fn settle(&mut self) -> Result<(), Mismatch> {
        self.gateway.run().await;
        for (client, link) in &mut self.links {
            link.stream.receive(&mut link.read);
            while let Some(packet) = wire::take(link.version, &mut link.read) {
                let _ = writeln!(self.story, "  client-{client} sees {packet:?}");
                self.model.saw(link.id, &packet)?;
            }
            if link.stream.is_closed() && !link.ended {
                let _ = writeln!(self.story, "  client-{client} sees the end");
                if !link.read.is_empty() {
                    return Err(Mismatch(format!("half a packet: {:02x?}", link.read)));
                }
                self.model.saw_end(link.id)?;
                link.ended = true;
                link.stream.close();
            }
        }
        for client in 0..CLIENTS {
            let of_client = |(of, link): &(u8, Link)| *of == client && link.ended;
            self.links.retain(|link| !of_client(link));
        }
        self.model.forget_ended();
        self.model.settled()
    }
}
