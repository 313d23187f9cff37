//! What is in force: the defaults, the order of the sources, a key for every setting.

use std::path::Path;
use std::time::Duration;

use tidegate_bus::{SharedStrategy, SlowConsumerPolicy};
use tidegate_tls::{ClientAuth, MinVersion};

use super::super::listeners::TlsListener;
use super::super::*;
use super::{config, loaded};

fn effective<'a>(loaded: &'a Loaded, key: &str) -> &'a Effective {
    let found = loaded
        .effective
        .iter()
        .find(|effective| effective.key == key);
    found.unwrap_or_else(|| panic!("{key} is not listed"))
}

#[test]
fn nothing_configured_is_every_protocol_on_loopback() {
    let Loaded { config, effective } = Sources::default().load().unwrap();
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| {
            (
                listener.name.as_str(),
                listener.kind,
                listener.socket.bind.to_string(),
            )
        })
        .collect();
    let listener = |name, kind, address: &str| (name, kind, address.to_owned());
    assert_eq!(
        listeners,
        [
            listener("mqtt", Kind::Mqtt, "127.0.0.1:1883"),
            listener("mqtts", Kind::Mqtts, "127.0.0.1:8883"),
            listener("ws", Kind::Ws, "127.0.0.1:8083"),
            listener("wss", Kind::Wss, "127.0.0.1:8084"),
            listener("quic", Kind::Quic, "127.0.0.1:14567"),
            listener("coap", Kind::Coap, "127.0.0.1:5683"),
            listener("coaps", Kind::Coaps, "127.0.0.1:5684"),
            listener("coap_tcp", Kind::CoapTcp, "127.0.0.1:5683"),
            listener("coaps_tcp", Kind::CoapsTcp, "127.0.0.1:5684"),
        ]
    );
    for listener in &config.listeners {
        assert_eq!(listener.mqtt, config.mqtt);
    }
    let http = config.http.unwrap();
    assert_eq!(http, tidegate_api::Settings::default());
    assert_eq!(http.bind.to_string(), "127.0.0.1:18083");
    assert_eq!(config.bus, tidegate_bus::Settings::default());
    assert_eq!(config.mqtt, tidegate_mqtt::Settings::default());
    assert_eq!(config.node.data_dir.to_str(), Some("./tidegate-data"));
    assert_eq!(config.node.name, None);
    assert_eq!(
        config.telemetry,
        Telemetry {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            sys_interval: Duration::from_secs(10),
        }
    );
    assert!(
        effective
            .iter()
            .all(|effective| effective.origin == Origin::Default)
    );
}

#[test]
fn later_sources_win_value_by_value() {
    let file = "[limits]\nmax_inflight = 1\nmax_topic_levels = 1\nmax_connections = 1\n";
    let environment = [
        ("TIDEGATE__LIMITS__MAX_TOPIC_LEVELS", "2"),
        ("TIDEGATE__LIMITS__MAX_CONNECTIONS", "2"),
    ];
    let loaded = loaded(file, &environment, &["limits.max_connections=3"]);
    let in_force = |key| {
        let found = effective(&loaded, key);
        let origin = found.origin.to_string();
        let origin = origin.rsplit('/').next().unwrap().to_owned();
        (found.value.clone().unwrap(), origin)
    };
    assert_eq!(loaded.config.bus.max_inflight, 1);
    assert_eq!(loaded.config.bus.max_topic_levels, 2);
    assert_eq!(loaded.config.mqtt.max_connections, 3);
    assert_eq!(
        in_force("limits.max_inflight"),
        ("1".to_owned(), "tidegate.toml:2:16".to_owned())
    );
    assert_eq!(
        in_force("limits.max_topic_levels"),
        (
            "2".to_owned(),
            "environment TIDEGATE__LIMITS__MAX_TOPIC_LEVELS".to_owned()
        )
    );
    assert_eq!(
        in_force("limits.max_connections"),
        (
            "3".to_owned(),
            "flag --set limits.max_connections".to_owned()
        )
    );
    assert_eq!(
        in_force("limits.receive_maximum"),
        ("1024".to_owned(), "default".to_owned())
    );
}

#[test]
fn of_two_flags_the_later_wins() {
    let loaded = loaded("", &[], &["limits.max_inflight=1", "limits.max_inflight=2"]);
    assert_eq!(loaded.config.bus.max_inflight, 2);
}

/// A key that this does not set, or a field that no key sets, fails the comparison below.
const EVERYTHING: &str = r#"
[node]
data_dir = "/srv/tidegate"
name = "gate-1"

[listeners.mqtt]
bind = "127.0.0.1:2883"

[listeners.second]
kind = "wss"
bind = "[::1]:2883"
enabled = true
backlog = 31
reuse_port = true
ipv6_only = true
proxy_networks = ["10.0.0.0/8", "192.0.2.1"]
proxy_timeout = "32s"
max_connections = 33
max_connections_per_ip = 34
max_connect_rate = 35
connect_timeout = "36s"
max_packet_size = "37KiB"
max_keep_alive = "38s"
receive_maximum = 39
topic_alias_maximum = 40

[listeners.second.tls]
cert = "a.crt"
key = "a.key"
client_ca = "ca.crt"
client_crl = "ca.crl"
client_auth = "optional"
min_version = "1.3"
resumption = "tickets"
ticket_keys = ["ticket.key"]
handshake_timeout = "41s"
max_handshakes = 42

[listeners.second.tls.certificates.other]
cert = "b.crt"
key = "b.key"

[listeners.second.websocket]
path = "/socket"
allowed_hosts = ["gate.example"]
allowed_origins = ["https://app.example"]
handshake_timeout = "43s"
max_frame_size = "44KiB"
max_message_size = "45KiB"

[http]
enabled = true
bind = "127.0.0.1:28083"
allowed_hosts = ["gate.example", "10.0.0.1:80"]
allowed_origins = ["https://app.example"]
max_connections = 46
max_body = "47KiB"
max_streams = 48
stream_keep_alive = "49s"

[access]
allow_anonymous = true

[limits]
max_connections = 2
max_connections_per_ip = 3
max_connect_rate = 4
connect_timeout = "5s"
max_keep_alive = "6s"
max_packet_size = "7KiB"
max_client_id_size = 8
max_topic_size = 9
max_topic_levels = 10
max_subscriptions_per_client = 11
receive_maximum = 12
topic_alias_maximum = 13
topic_alias_maximum_outbound = 14
max_inflight = 15
max_queued_messages = 16
max_queued_size = "17MiB"
max_outbox_size = "18KiB"
max_memory = "19GiB"
max_retained_messages = 20
max_retained_size = "21KiB"
fanout_slice = 22
route_cache_size = "23KiB"
max_sessions = 25
shutdown_disconnects_per_second = 24
shutdown_timeout = "24s"

[sessions]
max_expiry = "25h"
v3_expiry = "26m"
queue_qos0_while_offline = true
slow_consumer_policy = "drop_old"
shared_strategy = "sticky"
response_information = "answers"

[store]
engine = "memory"
sync = "interval"
sync_interval = "28ms"
queue_memory = "29KiB"
accept_loss = true

[telemetry]
log = "warn,tidegate_mqtt=debug"
log_format = "json"
sys_interval = "27s"
"#;

/// The fields of a settings structure that are as they were.
fn unchanged(settings: &impl std::fmt::Debug, default: &impl std::fmt::Debug) -> Vec<String> {
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (settings, default) = (
        lines(format!("{settings:#?}")),
        lines(format!("{default:#?}")),
    );
    assert_eq!(settings.len(), default.len());
    let pairs = settings.into_iter().zip(default);
    pairs
        .filter(|(line, default)| line == default && line.contains(':'))
        .map(|(line, _)| line)
        .collect()
}

fn second(config: &Config) -> &Listener {
    let mut listeners = config.listeners.iter();
    listeners
        .find(|listener| listener.name == "second")
        .unwrap()
}

#[test]
fn every_setting_has_a_key() {
    let loaded = loaded(EVERYTHING, &[], &[]);
    let nothing: [String; 0] = [];
    assert_eq!(
        unchanged(&loaded.config.bus, &tidegate_bus::Settings::default()),
        nothing
    );
    assert_eq!(
        unchanged(&loaded.config.mqtt, &tidegate_mqtt::Settings::default()),
        nothing
    );
    let second = second(&loaded.config);
    assert_eq!(
        unchanged(&second.mqtt, &loaded.config.mqtt),
        [
            "    topic_alias_maximum_outbound: 14,",
            "    v3_session_expiry: 1560s,",
            "    response_information: \"answers\",",
            "    shutdown_disconnects_per_second: 24,",
            "    shutdown_timeout: 24s,",
        ],
        "what a listener cannot have otherwise"
    );
    let websocket = second.websocket.as_ref().unwrap();
    let default = tidegate_websocket::Settings::default();
    assert_ne!(websocket.path, default.path);
    assert_ne!(websocket.handshake_timeout, default.handshake_timeout);
    assert_ne!(websocket.max_frame_bytes, default.max_frame_bytes);
    assert_ne!(websocket.max_message_bytes, default.max_message_bytes);
    let unset: Vec<_> = loaded
        .effective
        .iter()
        .filter(|effective| effective.origin == Origin::Default)
        .map(|effective| effective.key.as_str())
        // The others have the same keys.
        .filter(|key| !key.starts_with("listeners.") || key.starts_with("listeners.second."))
        .collect();
    assert_eq!(unset, [""; 0]);
}

#[test]
fn every_key_sets_its_setting() {
    let config = config(EVERYTHING);
    let bus = &config.bus;
    assert_eq!(bus.max_client_id_bytes, 8);
    assert_eq!(bus.max_topic_bytes, 9);
    assert_eq!(bus.max_topic_levels, 10);
    assert_eq!(bus.max_subscriptions_per_client, 11);
    assert_eq!(bus.max_inflight, 15);
    assert_eq!(bus.max_queued_messages, 16);
    assert_eq!(bus.max_queued_bytes, 17 << 20);
    assert_eq!(bus.max_outbox_bytes, 18 << 10);
    assert_eq!(bus.max_memory_bytes, 19 << 30);
    assert_eq!(bus.max_retained_messages, 20);
    assert_eq!(bus.max_retained_bytes, 21 << 10);
    assert_eq!(bus.fanout_slice, 22);
    assert_eq!(bus.route_cache_bytes, 23 << 10);
    assert_eq!(bus.max_sessions, 25);
    assert_eq!(bus.max_session_expiry, Duration::from_secs(25 * 3600));
    assert!(bus.queue_qos0_while_offline);
    assert_eq!(bus.slow_consumer_policy, SlowConsumerPolicy::DropOld);
    assert_eq!(bus.shared_strategy, SharedStrategy::Sticky);

    let mqtt = &config.mqtt;
    assert_eq!(mqtt.max_connections, 2);
    assert_eq!(mqtt.max_connections_per_ip, 3);
    assert_eq!(mqtt.max_connect_rate, 4);
    assert_eq!(mqtt.connect_timeout, Duration::from_secs(5));
    assert_eq!(mqtt.max_keep_alive, 6);
    assert_eq!(mqtt.max_packet_bytes, 7 << 10);
    assert_eq!(mqtt.receive_maximum, 12);
    assert_eq!(mqtt.topic_alias_maximum, 13);
    assert_eq!(mqtt.topic_alias_maximum_outbound, 14);
    assert_eq!(mqtt.shutdown_disconnects_per_second, 24);
    assert_eq!(mqtt.shutdown_timeout, Duration::from_secs(24));
    assert_eq!(mqtt.v3_session_expiry, Duration::from_secs(26 * 60));
    assert_eq!(mqtt.response_information, "answers");

    let http = config.http.unwrap();
    assert_eq!(http.bind.to_string(), "127.0.0.1:28083");
    assert_eq!(http.allowed_hosts.len(), 2);
    assert_eq!(http.allowed_origins.len(), 1);
    assert_eq!(http.max_connections, 46);
    let api = config.api;
    assert_eq!(api.max_body_bytes, 47 << 10);
    // One connection is left for others.
    assert_eq!(api.max_streams, 45);
    assert_eq!(api.stream_keep_alive, Duration::from_secs(49));
    assert_eq!(api.max_packet_bytes, 7 << 10);
    assert_eq!(config.node.data_dir.to_str(), Some("/srv/tidegate"));
    assert_eq!(config.node.name.as_deref(), Some("gate-1"));
    assert_eq!(bus.queue_memory_bytes, 29 << 10);
    assert_eq!(config.store.engine, Engine::Memory);
    let interval = tidegate_store::Sync::Interval(Duration::from_millis(28));
    assert_eq!(config.store.sync, interval);
    assert!(config.store.accept_loss);
    assert_eq!(config.telemetry.log, "warn,tidegate_mqtt=debug");
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.telemetry.sys_interval, Duration::from_secs(27));
    assert_eq!(
        config.listeners[0].socket.bind.to_string(),
        "127.0.0.1:2883"
    );
}

#[test]
fn every_key_of_a_listener_sets_its_setting() {
    let config = config(EVERYTHING);
    let second = second(&config);
    assert_eq!(second.kind, Kind::Wss);
    assert_eq!(second.socket.bind.to_string(), "[::1]:2883");
    assert_eq!(second.socket.backlog, 31);
    assert!(second.socket.reuse_port && second.socket.ipv6_only);
    let proxy = second.proxy.as_ref().unwrap();
    let networks: Vec<_> = proxy.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(proxy.timeout, Duration::from_secs(32));
    let mqtt = &second.mqtt;
    assert_eq!(mqtt.max_connections, 33);
    assert_eq!(mqtt.max_connections_per_ip, 34);
    assert_eq!(mqtt.max_connect_rate, 35);
    assert_eq!(mqtt.connect_timeout, Duration::from_secs(36));
    assert_eq!(mqtt.max_packet_bytes, 37 << 10);
    assert_eq!(mqtt.max_keep_alive, 38);
    assert_eq!(mqtt.receive_maximum, 39);
    assert_eq!(mqtt.topic_alias_maximum, 40);
    let TlsListener { settings, accept } = second.tls.as_ref().unwrap();
    let files: Vec<_> = settings
        .certificates
        .iter()
        .map(|files| (files.chain.to_str().unwrap(), files.key.to_str().unwrap()))
        .collect();
    assert_eq!(files, [("a.crt", "a.key"), ("b.crt", "b.key")]);
    let ClientAuth::Optional(ca) = &settings.client else {
        panic!("{:?}", settings.client);
    };
    assert_eq!(ca.ca.to_str(), Some("ca.crt"));
    assert_eq!(ca.crl.as_deref().and_then(Path::to_str), Some("ca.crl"));
    assert_eq!(settings.min_version, MinVersion::Tls13);
    assert_eq!(settings.resumption.ticket_keys(), [Path::new("ticket.key")]);
    assert_eq!(accept.handshake_timeout, Duration::from_secs(41));
    assert_eq!(accept.max_handshakes, 42);
    let websocket = second.websocket.as_ref().unwrap();
    assert_eq!(websocket.path, "/socket");
    assert_eq!(websocket.allowed_hosts.len(), 1);
    assert_eq!(websocket.allowed_origins.len(), 1);
    assert_eq!(websocket.handshake_timeout, Duration::from_secs(43));
    assert_eq!(websocket.max_frame_bytes, 44 << 10);
    assert_eq!(websocket.max_message_bytes, 45 << 10);
}

#[test]
fn every_key_can_be_set_by_a_variable_and_by_a_flag() {
    let said: Vec<(String, String)> = loaded(EVERYTHING, &[], &[])
        .effective
        .into_iter()
        .filter(|effective| effective.origin != Origin::Default)
        .map(|effective| {
            let value = effective.value.unwrap();
            // As a person writes it outside TOML: no quotes, no brackets.
            (effective.key, value.replace(['"', '[', ']'], ""))
        })
        .map(|(key, value)| match key.as_str() {
            "listeners.second.bind" => (key, "[::1]:2883".to_owned()),
            _ => (key, value),
        })
        .collect();
    let same = |loaded: &Loaded| {
        let expected = config(EVERYTHING);
        assert_eq!(loaded.config.bus, expected.bus);
        assert_eq!(loaded.config.mqtt, expected.mqtt);
        assert_eq!(loaded.config.http, expected.http);
        assert_eq!(loaded.config.node, expected.node);
        assert_eq!(loaded.config.telemetry, expected.telemetry);
        let listeners = |config: &Config| -> Vec<String> {
            let listeners = config.listeners.iter().cloned();
            let alike = listeners.map(|listener| Listener {
                origin: Origin::Default,
                ..listener
            });
            alike.map(|listener| format!("{listener:?}")).collect()
        };
        assert_eq!(listeners(&loaded.config), listeners(&expected));
        for (key, _) in &said {
            assert_ne!(effective(loaded, key).origin, Origin::Default, "{key}");
        }
    };

    let variables: Vec<(String, &str)> = said
        .iter()
        .map(|(key, value)| (overrides::variable(key), value.as_str()))
        .collect();
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    same(&loaded("", &variables, &[]));

    let flags: Vec<String> = said
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    same(&loaded("", &[], &flags));
}

#[test]
fn what_check_prints_reads_back_as_the_same_configuration() {
    let first = loaded(EVERYTHING, &[], &[]);
    let mut text = String::new();
    for Effective { key, value, .. } in &first.effective {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    let second = loaded(&text, &[], &[]);
    assert_eq!(second.config.bus, first.config.bus);
    assert_eq!(second.config.mqtt, first.config.mqtt);
    assert_eq!(second.config.http, first.config.http);
    assert_eq!(second.config.telemetry, first.config.telemetry);
}
