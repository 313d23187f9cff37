//! `QuicMqttEngine`: flowsdk's MQTT and quinn-proto without a socket, which is here. It has a control stream and as
//! many streams of data as one likes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flowsdk::mqtt_client::commands::UnsubscribeCommand;
use flowsdk::mqtt_client::{
    MqttClientError, MqttEvent, PublishCommand, QuicMqttEngine, QuicZeroRttConfig, SubscribeCommand,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::protocol::{Command, Event, Options, bytes};

/// flowsdk does not say when it wants to be called again.
const TICK: Duration = Duration::from_millis(2);

pub(crate) async fn run(
    options: &Options,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<()> {
    let mut peer = Peer::new(options).await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut datagram = [0; 2048];
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return Ok(()) };
                if let Err(error) = peer.perform(command).await {
                    Event::failed(error).say();
                }
            }
            received = peer.socket.recv_from(&mut datagram) => {
                let (length, from) = received?;
                peer.engine.handle_datagram(datagram[..length].to_vec(), from, Instant::now());
            }
            _ = ticks.tick() => {}
        }
        peer.go_on().await?;
    }
}

struct Peer<'a> {
    options: &'a Options,
    tls: ClientConfig,
    engine: QuicMqttEngine,
    socket: UdpSocket,
    has_connected: bool,
    /// We have ended the connection, and flowsdk has yet to write it.
    closing: bool,
    /// Where the message comes from that flowsdk tells of next.
    stream: Option<u64>,
}

impl<'a> Peer<'a> {
    async fn new(options: &'a Options) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&options.authority)? {
            roots.add(certificate?)?;
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            options,
            tls,
            engine: QuicMqttEngine::new(options.mqtt())?,
            socket: socket().await?,
            has_connected: false,
            closing: false,
            stream: None,
        })
    }

    async fn perform(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Connect { early } => {
                self.connect()?;
                for command in early {
                    self.act(command)?;
                }
            }
            Command::Move => {
                self.socket = socket().await?;
                self.engine.notify_local_address_changed()?;
                Event::Moved.say();
            }
            command => self.act(command)?,
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), MqttClientError> {
        let (address, now) = (self.options.address, Instant::now());
        if self.has_connected {
            return self.engine.reconnect(now);
        }
        self.has_connected = true;
        let (name, tls) = ("localhost", self.tls.clone());
        if self.options.early_data {
            let early = QuicZeroRttConfig::default();
            self.engine
                .connect_with_zero_rtt(address, name, tls, early, now)
        } else {
            self.engine.connect(address, name, tls, now)
        }
    }

    fn act(&mut self, command: Command) -> Result<()> {
        let engine = &mut self.engine;
        match command {
            Command::Publish {
                topic,
                payload,
                qos,
                stream,
            } => {
                let command = PublishCommand::simple(topic, bytes(&payload), qos, false);
                match stream {
                    Some(stream) => engine.publish_on(stream, command)?,
                    None => engine.publish(command)?,
                };
            }
            Command::Subscribe {
                filter,
                qos,
                stream,
            } => {
                let command = SubscribeCommand::single(filter, qos);
                match stream {
                    Some(stream) => engine.subscribe_on(stream, command)?,
                    None => engine.subscribe(command)?,
                };
            }
            Command::Unsubscribe { filter, stream } => {
                let command = UnsubscribeCommand::from_topics(vec![filter]);
                match stream {
                    Some(stream) => engine.unsubscribe_on(stream, command)?,
                    None => engine.unsubscribe(command)?,
                };
            }
            Command::Ping => engine.ping()?,
            Command::Disconnect => {
                engine.disconnect_and_close(0, b"")?;
                self.closing = true;
            }
            Command::Open => Event::Opened {
                stream: engine.open_data_stream()?,
            }
            .say(),
            Command::Finish { stream } => engine.finish_stream(stream)?,
            Command::Reset { stream } => engine.reset_stream(stream, 0)?,
            Command::Connect { .. } | Command::Move => Event::failed("not in between").say(),
        }
        Ok(())
    }

    /// Lets flowsdk do what is to be done, sends what it has to send and tells what has happened.
    async fn go_on(&mut self) -> Result<()> {
        for event in self.engine.handle_tick(Instant::now()) {
            self.tell(event);
        }
        for (to, datagram) in self.engine.take_outgoing_datagrams() {
            let sent = self.socket.send_to(&datagram, to).await;
            sent.context("a datagram was not sent")?;
        }
        if self.closing && self.engine.disconnect_complete() {
            self.closing = false;
            Event::Disconnected { code: None }.say();
        }
        Ok(())
    }

    fn tell(&mut self, event: MqttEvent) {
        let event = match event {
            MqttEvent::Connected(result) => Event::Connected {
                code: result.reason_code,
                session_present: result.session_present,
            },
            MqttEvent::Published(result) if result.qos > 0 => Event::Published {
                qos: result.qos,
                code: result.reason_code,
            },
            MqttEvent::Subscribed(result) => Event::Subscribed {
                codes: result.reason_codes,
            },
            MqttEvent::Unsubscribed(result) => Event::Unsubscribed {
                codes: result.reason_codes,
            },
            // Its message comes next.
            MqttEvent::PublishReceived { stream, .. } => {
                self.stream = stream;
                return;
            }
            MqttEvent::MessageReceived(message) => Event::message(&message, self.stream.take()),
            MqttEvent::PingResponse(_) => Event::Pong,
            MqttEvent::Disconnected(code) => Event::Disconnected { code },
            MqttEvent::DisconnectReceived { reason_code, .. } => Event::Disconnected {
                code: Some(reason_code),
            },
            MqttEvent::TransportClosed {
                reason,
                by_peer,
                error_code,
            } => Event::Closed {
                code: error_code,
                by_peer,
                reason,
            },
            MqttEvent::StreamClosed {
                stream_id, by_peer, ..
            } => Event::Ended {
                stream: stream_id,
                by_peer,
            },
            MqttEvent::StreamReset { stream_id, .. }
            | MqttEvent::StreamStopped { stream_id, .. } => Event::Ended {
                stream: stream_id,
                by_peer: true,
            },
            MqttEvent::ZeroRttStatusChanged { status } => Event::EarlyData {
                status: format!("{status:?}"),
            },
            MqttEvent::OperationFailed { error, .. } | MqttEvent::Error(error) => {
                Event::failed(error)
            }
            _ => return,
        };
        event.say();
    }
}

async fn socket() -> Result<UdpSocket> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    UdpSocket::bind(any).await.context("no socket")
}
