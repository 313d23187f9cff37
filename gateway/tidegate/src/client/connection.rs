//! A client's connection: the state on one side, any byte stream on the other, and the keep alive.

use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tidegate_bus::TopicName;
use tidegate_mqtt::codec::{Connect, Properties, ReasonCode, Split, Will, split};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};

use super::error::ClientError;
use super::options::ConnectArguments;
use super::server::Server;
use super::state::{Event, State};
use super::transport::{Dialer, Transport};

/// How long the gateway may take to be reached, to answer CONNECT and PINGREQ, and to close after
/// DISCONNECT.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Bytes that may wait for the gateway before no more messages are made.
const MAX_OUTPUT: usize = 256 << 10;

const READ_BYTES: usize = 64 << 10;

/// An accepted connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    pub(crate) state: State,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that were taken.
    taken: usize,
    /// Bytes of the state's output that were written.
    written: usize,
    /// What was written may lie in a buffer of the stream.
    needs_flush: bool,
    max_packet_size: u32,
    keep_alive: Duration,
    last_written: Instant,
    pinged: Option<Instant>,
}

impl Connection<Box<dyn Transport>> {
    /// Dials, and connects as `arguments` say.
    pub(crate) async fn open(
        dialer: &Dialer<'_>,
        arguments: &ConnectArguments,
    ) -> Result<(Self, Server), ClientError> {
        let mut state = with_connect(arguments, State::new)?;
        // CONNECT, which may be on its way already then.
        let stream = dialer.open(state.output()).await?;
        let (reader, writer) = tokio::io::split(stream);
        let maximum = arguments.maximum_packet_size;
        let mut connection = Self {
            reader,
            writer,
            state,
            incoming: Vec::new(),
            taken: 0,
            written: 0,
            needs_flush: false,
            max_packet_size: maximum.map_or(u32::MAX, Into::into),
            keep_alive: Duration::ZERO,
            last_written: Instant::now(),
            pinged: None,
        };
        let server = match timeout(ANSWER, connection.connected()).await {
            Ok(server) => server?,
            Err(_) => return Err(ClientError::Silent("CONNECT")),
        };
        let keep_alive = server.keep_alive.unwrap_or(arguments.keepalive);
        connection.keep_alive = Duration::from_secs(keep_alive.into());
        if arguments.debug {
            describe(&server);
        }
        Ok((connection, server))
    }
}

impl<S: Transport> Connection<S> {
    async fn connected(&mut self) -> Result<Server, ClientError> {
        loop {
            if let Event::Connected(server) = self.event().await? {
                return Ok(server);
            }
        }
    }

    /// What happens next. It reads, writes and keeps the connection alive; nothing is lost when it
    /// is dropped before it completes.
    pub(crate) async fn event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.take_packet()? {
                if event == Event::Pong {
                    self.pinged = None;
                }
                return Ok(event);
            }
            self.incoming.drain(..self.taken);
            self.taken = 0;
            self.incoming.reserve(READ_BYTES);
            let alarm = self.alarm();
            let output = self.state.output();
            let waits = !output.is_empty() || self.needs_flush;
            tokio::select! {
                read = self.reader.read_buf(&mut self.incoming) => {
                    if read? == 0 {
                        return Err(ClientError::Closed);
                    }
                }
                wrote = send(&mut self.writer, &output[self.written..]), if waits => {
                    let wrote = wrote?;
                    self.written += wrote;
                    self.needs_flush = wrote > 0;
                    self.last_written = Instant::now();
                    if !self.needs_flush && self.written == output.len() {
                        output.clear();
                        self.written = 0;
                        return Ok(Event::Written);
                    }
                }
                () = wait_until(alarm) => {
                    if self.pinged.is_some() {
                        return Err(ClientError::Silent("PINGREQ"));
                    }
                    self.pinged = Some(Instant::now());
                    self.state.ping();
                }
            }
        }
    }

    /// Whether another message may be made: not so many bytes wait that it would only add to them.
    pub(crate) fn has_room(&mut self) -> bool {
        self.state.output().len() - self.written < MAX_OUTPUT
    }

    /// Whether everything was written and acknowledged.
    pub(crate) fn is_settled(&mut self) -> bool {
        self.state.is_settled() && self.state.output().is_empty()
    }

    /// Says goodbye and waits until the gateway has closed, so that nothing sent is lost with the
    /// socket. A gateway that does not close is left after a while.
    pub(crate) async fn close(mut self) {
        self.state.disconnect(ReasonCode::Success);
        let goodbye = async {
            let output = self.state.output();
            self.writer.write_all(&output[self.written..]).await?;
            self.writer.flush().await?;
            self.writer.shutdown().await?;
            while self.reader.read_buf(&mut self.incoming).await? > 0 {
                self.incoming.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        // What was asked for is done; how the connection ends changes nothing.
        let _ = timeout(ANSWER, goodbye).await;
    }

    fn take_packet(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            let rest = &self.incoming[self.taken..];
            // No packet of a server begins so; an alert of TLS does (RFC 8446 section 5.1).
            if rest.starts_with(&[0x15, 0x03]) {
                return Err(ClientError::SpeaksTls);
            }
            let Split::Frame(frame) = split(rest, self.max_packet_size)? else {
                return Ok(None);
            };
            self.taken += frame.len;
            if let Some(event) = self.state.receive(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// When something must be done although nothing happens.
    fn alarm(&self) -> Option<Instant> {
        if self.keep_alive.is_zero() {
            return None;
        }
        Some(match self.pinged {
            Some(pinged) => pinged + ANSWER,
            None => self.last_written + self.keep_alive,
        })
    }
}

/// Writes some of `output`, or, when there is nothing left of it, sees to it that what was written
/// leaves. Tells how many bytes it wrote.
pub(super) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &[u8],
) -> std::io::Result<usize> {
    if output.is_empty() {
        writer.flush().await?;
        Ok(0)
    } else {
        writer.write(output).await
    }
}

async fn wait_until(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => pending().await,
    }
}

/// Hands the CONNECT that `arguments` describe to `take`.
fn with_connect<T>(
    arguments: &ConnectArguments,
    take: impl FnOnce(&Connect<'_>) -> T,
) -> Result<T, ClientError> {
    let id = arguments.id.clone().unwrap_or_else(random_id);
    let properties = arguments.properties();
    let will_properties = arguments.will.properties();
    let will = match &arguments.will.will_topic {
        None => None,
        Some(topic) => Some(Will {
            qos: arguments.will.will_qos,
            retain: arguments.will.will_retain,
            topic: TopicName::new(topic).map_err(|error| ClientError::Usage(error.to_string()))?,
            payload: arguments.will.will_payload.as_bytes(),
            properties: will_properties.as_properties(),
        }),
    };
    let properties = if properties.is_empty() {
        Properties::EMPTY
    } else {
        properties.as_properties()
    };
    Ok(take(&Connect {
        version: arguments.mqtt_version.into(),
        clean_start: !arguments.resume,
        keep_alive: arguments.keepalive,
        client_id: &id,
        will,
        user_name: arguments.username.as_deref(),
        password: arguments.password.as_deref().map(str::as_bytes),
        properties,
    }))
}

/// Short enough for MQTT 3.1, which allows 23 bytes.
fn random_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("tidegate-{:012x}", random >> 16)
}

fn describe(server: &Server) {
    let session = if server.session_present {
        "an old"
    } else {
        "a new"
    };
    let mut text = format!("connected with {session} session");
    if let Some(id) = &server.assigned_id {
        text.push_str(&format!(", client identifier {id}"));
    }
    if let Some(seconds) = server.keep_alive {
        text.push_str(&format!(", keep alive {seconds} s"));
    }
    eprintln!("{text}");
}
