//! The options of `tidegate pub` and `tidegate sub`. Where mosquitto's clients have an option for the
//! same thing, it has the same letter; `-n` is the number of messages in both commands.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use tidegate_bus::{QoS, TopicFilter, TopicName};
use tidegate_mqtt::codec::Version;

use super::url::ServerUrl;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 refused by the \
                          gateway (the reason code is named), 4 not done within --timeout.";

/// Options of the connection.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectArguments {
    /// Where the gateway is
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    pub(crate) url: ServerUrl,
    /// Over QUIC: send PUBLISH and SUBSCRIBE, and receive, on a stream beside the control stream
    #[arg(long)]
    pub(crate) data_stream: bool,
    /// The version of MQTT to speak
    #[arg(short = 'V', long, value_enum, default_value = "5")]
    pub(crate) mqtt_version: MqttVersion,
    /// Client identifier [default: a random one]
    #[arg(short, long)]
    pub(crate) id: Option<String>,
    /// User name
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password
    #[arg(short = 'P', long)]
    pub(crate) password: Option<String>,
    /// Keep alive in seconds; 0 turns it off
    #[arg(short, long, default_value_t = 60)]
    pub(crate) keepalive: u16,
    /// Go on with the session of this client identifier (clean start off)
    #[arg(short = 'c', long, requires = "id")]
    pub(crate) resume: bool,
    /// How long the session outlives the connection: "1h", seconds, or "never" (MQTT 5)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) session_expiry: Option<u32>,
    /// Most acknowledged messages that the gateway may send at once (MQTT 5)
    #[arg(long, value_name = "N")]
    pub(crate) receive_maximum: Option<NonZeroU16>,
    /// Largest packet that the gateway may send (MQTT 5)
    #[arg(long, value_name = "BYTES")]
    pub(crate) maximum_packet_size: Option<NonZeroU32>,
    /// Topic aliases that the gateway may use (MQTT 5)
    #[arg(long, value_name = "N")]
    pub(crate) topic_alias_maximum: Option<u16>,
    /// Give up after this time: "10s", or seconds
    #[arg(short = 'W', long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) timeout: Option<Duration>,
    /// Send CONNECT with the first packets (0-RTT; quic only), which needs an earlier session: without one
    /// a handshake comes first that brings it
    #[arg(long)]
    pub(crate) early_data: bool,
    /// Tell on standard error what happens on the connection
    #[arg(short, long)]
    pub(crate) debug: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
    #[command(flatten)]
    pub(crate) coap: CoapArguments,
    #[command(flatten)]
    pub(crate) will: WillArguments,
}

/// What only CoAP has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "CoAP")]
pub(crate) struct CoapArguments {
    /// Over UDP and DTLS: repeat a message that was not acknowledged after this time, and three more times, each
    /// after twice as long; then it is given up [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = parse_ack_timeout)]
    pub(crate) ack_timeout: Option<Duration>,
    /// With coaps: use a pre-shared key of this file, which has a line "identity:hexkey" for each
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca", "cert", "key", "insecure"])]
    pub(crate) psk_file: Option<PathBuf>,
    /// Whose key of the file to use [default: the only one in it]
    #[arg(long, value_name = "IDENTITY", requires = "psk_file")]
    pub(crate) psk_identity: Option<String>,
}

/// Whom to trust and what to show, with mqtts, wss, quic, coaps and coaps+tcp.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS (mqtts, wss, quic, coaps, coaps+tcp)")]
pub(crate) struct TlsArguments {
    /// Trust the certificates in this PEM file [default: those of the system]
    #[arg(
        long,
        visible_alias = "cafile",
        value_name = "FILE",
        conflicts_with = "insecure"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Show this certificate (PEM, with its chain)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Trust whoever answers: for a test, never for a device
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl TlsArguments {
    /// Whether anything was said.
    pub(crate) const fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some() || self.insecure
    }
}

/// What the gateway publishes when the connection is lost.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Will")]
pub(crate) struct WillArguments {
    /// Leave a will for this topic
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    pub(crate) will_topic: Option<String>,
    /// Its payload
    #[arg(long, value_name = "TEXT", requires = "will_topic", default_value = "")]
    pub(crate) will_payload: String,
    /// Its quality of service
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = parse_qos)]
    pub(crate) will_qos: QoS,
    /// It is retained
    #[arg(long, requires = "will_topic")]
    pub(crate) will_retain: bool,
    /// Time between the end of the connection and the will (MQTT 5)
    #[arg(long, value_name = "TIME", requires = "will_topic", value_parser = parse_seconds)]
    pub(crate) will_delay: Option<u32>,
    /// Its message expiry (MQTT 5)
    #[arg(long, value_name = "TIME", requires = "will_topic", value_parser = parse_seconds)]
    pub(crate) will_message_expiry: Option<u32>,
    /// Its payload format (MQTT 5)
    #[arg(long, value_name = "FORMAT", requires = "will_topic", value_enum)]
    pub(crate) will_payload_format: Option<PayloadFormat>,
    /// Its content type (MQTT 5)
    #[arg(long, value_name = "TYPE", requires = "will_topic", value_parser = parse_text)]
    pub(crate) will_content_type: Option<String>,
    /// Its response topic (MQTT 5)
    #[arg(long, value_name = "TOPIC", requires = "will_topic", value_parser = parse_topic)]
    pub(crate) will_response_topic: Option<String>,
    /// Its correlation data (MQTT 5)
    #[arg(long, value_name = "TEXT", requires = "will_topic")]
    pub(crate) will_correlation_data: Option<String>,
    /// A user property of it (MQTT 5); may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "will_topic", value_parser = parse_pair)]
    pub(crate) will_user_property: Vec<(String, String)>,
}

/// Options of `tidegate pub`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("payload").required(true), after_help = EXIT_CODES)]
pub(crate) struct PublishArguments {
    /// The topic
    #[arg(short, long, value_parser = parse_topic)]
    pub(crate) topic: String,
    /// The payload
    #[arg(short, long, group = "payload", value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// The payload is the content of this file
    #[arg(short, long, group = "payload", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// The payload is everything that standard input holds
    #[arg(short, long, group = "payload")]
    pub(crate) stdin: bool,
    /// Each line of standard input is the payload of a message
    #[arg(short, long, group = "payload", conflicts_with = "count")]
    pub(crate) lines: bool,
    /// The payload is empty; with --retain this removes the retained message
    #[arg(long, group = "payload")]
    pub(crate) null: bool,
    /// Quality of service: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    pub(crate) qos: QoS,
    /// Retain the message
    #[arg(short, long)]
    pub(crate) retain: bool,
    /// Publish the message this many times
    #[arg(
        short = 'n',
        long,
        visible_alias = "repeat",
        value_name = "N",
        default_value = "1"
    )]
    pub(crate) count: NonZeroU64,
    /// Wait this long between two messages: "100ms", or seconds
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) properties: PropertyArguments,
    #[command(flatten)]
    pub(crate) connect: ConnectArguments,
}

/// The properties of a message in MQTT 5.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Properties (MQTT 5)")]
pub(crate) struct PropertyArguments {
    /// What the payload is, as a MIME type
    #[arg(long, value_name = "TYPE", value_parser = parse_text)]
    pub(crate) content_type: Option<String>,
    /// Where a response is expected
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    pub(crate) response_topic: Option<String>,
    /// Marks the request that a response belongs to
    #[arg(long, value_name = "TEXT")]
    pub(crate) correlation_data: Option<String>,
    /// A name and a value; may be repeated, the order is kept
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) user_property: Vec<(String, String)>,
    /// Time after which the message is no longer delivered: "1h", or seconds
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) message_expiry: Option<u32>,
    /// Whether the payload is UTF-8 text
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) payload_format: Option<PayloadFormat>,
    /// Publish through this topic alias
    #[arg(long, value_name = "N")]
    pub(crate) topic_alias: Option<NonZeroU16>,
}

/// Options of `tidegate sub`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SubscribeArguments {
    /// A topic filter; may be repeated
    #[arg(short, long, required = true, value_parser = parse_filter)]
    pub(crate) topic: Vec<String>,
    /// Quality of service: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = parse_qos)]
    pub(crate) qos: QoS,
    /// End after this many messages
    #[arg(short = 'n', short_alias = 'C', long, value_name = "N")]
    pub(crate) count: Option<NonZeroU64>,
    /// Print the topic before the payload
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print one JSON object a message, with everything that came with it
    #[arg(long)]
    pub(crate) json: bool,
    /// Subscribe as a member of this group ($share/GROUP/...)
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    pub(crate) share: Option<String>,
    /// Leave out what this client itself publishes (MQTT 5)
    #[arg(long, conflicts_with = "share")]
    pub(crate) no_local: bool,
    /// Keep the retain flag as it was published (MQTT 5)
    #[arg(long)]
    pub(crate) retain_as_published: bool,
    /// Retained messages: 0 send them, 1 only for a new subscription, 2 send none (MQTT 5)
    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) retain_handling: Option<u8>,
    /// Connect again whenever the connection is lost, over TLS and QUIC with the session of before
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// A number that comes with every message of these subscriptions (MQTT 5)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=268_435_455))]
    pub(crate) subscription_id: Option<u32>,
    #[command(flatten)]
    pub(crate) connect: ConnectArguments,
}

/// A version on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MqttVersion {
    #[value(name = "3.1", alias = "31", alias = "mqttv31")]
    V3_1,
    #[value(name = "3.1.1", alias = "311", alias = "mqttv311", alias = "4")]
    V3_1_1,
    #[value(name = "5", alias = "5.0", alias = "mqttv5")]
    V5,
}

impl From<MqttVersion> for Version {
    fn from(version: MqttVersion) -> Self {
        match version {
            MqttVersion::V3_1 => Self::V3_1,
            MqttVersion::V3_1_1 => Self::V3_1_1,
            MqttVersion::V5 => Self::V5,
        }
    }
}

/// The Payload Format Indicator; of plain bytes nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PayloadFormat {
    #[value(alias = "0")]
    Bytes,
    #[value(alias = "1")]
    Utf8,
}

fn parse_qos(text: &str) -> Result<QoS, String> {
    let level = text.parse().ok().and_then(QoS::from_u8);
    level.ok_or_else(|| "must be 0, 1 or 2".to_owned())
}

/// A string of the protocol, which cannot hold everything.
fn parse_text(text: &str) -> Result<String, String> {
    if text.len() > usize::from(u16::MAX) {
        Err("is longer than 65,535 bytes".to_owned())
    } else if text.contains('\0') {
        Err("holds U+0000".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn parse_topic(text: &str) -> Result<String, String> {
    let topic = TopicName::new(text).map_err(|error| error.to_string())?;
    Ok(topic.as_str().to_owned())
}

fn parse_filter(text: &str) -> Result<String, String> {
    TopicFilter::new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn parse_group(text: &str) -> Result<String, String> {
    parse_filter(&format!("$share/{text}/t"))?;
    if text.contains('/') {
        return Err("a group's name holds no \"/\"".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((parse_text(key)?, parse_text(value)?))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Long enough that repetitions are no flood, and short enough that their sum is a time.
fn parse_ack_timeout(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    let allowed = Duration::from_millis(10)..=Duration::from_secs(600);
    if !allowed.contains(&time) {
        return Err("must be 10ms to 10m".to_owned());
    }
    Ok(time)
}

/// Whole seconds as the protocol has them; its largest number means never.
fn parse_seconds(text: &str) -> Result<u32, String> {
    if text == "never" {
        return Ok(u32::MAX);
    }
    let time = parse_time(text)?;
    if time.subsec_nanos() > 0 {
        return Err("must be whole seconds".to_owned());
    }
    u32::try_from(time.as_secs()).map_err(|_| "is too long".to_owned())
}
