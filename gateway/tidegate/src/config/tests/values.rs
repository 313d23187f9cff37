//! What a key may be set to, and what is said when it is set to something else.

use std::time::Duration;

use super::super::*;
use super::{config, loaded, problems, sources};

/// Each key with a value below its range, one above it, and what the message says.
const RANGES: &[(&str, &str, &str, &str)] = &[
    (
        "limits.max_connections",
        "0",
        "10_000_001",
        "1 to 10,000,000",
    ),
    (
        "limits.max_connections_per_ip",
        "0",
        "10_000_001",
        "1 to 10,000,000",
    ),
    (
        "limits.max_connect_rate",
        "-1",
        "10_000_001",
        "0 to 10,000,000",
    ),
    ("limits.connect_timeout", "\"9ms\"", "\"61m\"", "10ms to 1h"),
    (
        "limits.max_keep_alive",
        "\"18h13m\"",
        "\"65536s\"",
        "0s to 65535s",
    ),
    (
        "limits.max_packet_size",
        "63",
        "\"257MiB\"",
        "64 to 268435460",
    ),
    ("limits.max_client_id_size", "0", "65_536", "1 to 65535"),
    ("limits.max_topic_size", "0", "\"64KiB\"", "1 to 65535"),
    ("limits.max_topic_levels", "0", "257", "1 to 256"),
    (
        "limits.max_subscriptions_per_client",
        "0",
        "10_000_001",
        "1 to 10,000,000",
    ),
    ("limits.receive_maximum", "0", "65_536", "1 to 65,535"),
    ("limits.topic_alias_maximum", "-1", "65_536", "0 to 65,535"),
    (
        "limits.topic_alias_maximum_outbound",
        "-1",
        "65_536",
        "0 to 65,535",
    ),
    ("limits.max_inflight", "0", "65_536", "1 to 65,535"),
    (
        "limits.max_queued_messages",
        "0",
        "1_000_000_001",
        "1 to 1,000,000,000",
    ),
    ("store.sync_interval", "\"0.5ms\"", "\"61s\"", "1ms to 1m"),
    ("store.queue_memory", "-1", "\"1025GiB\"", "0 to 1TiB"),
    ("limits.max_queued_size", "1023", "\"2TiB\"", "1KiB to 1TiB"),
    (
        "limits.max_outbox_size",
        "\"1000\"",
        "\"1025MiB\"",
        "1KiB to 1GiB",
    ),
    (
        "limits.max_memory",
        "\"63KiB\"",
        "\"65TiB\"",
        "64KiB to 64TiB",
    ),
    (
        "limits.max_retained_messages",
        "-1",
        "1_000_000_001",
        "0 to 1,000,000,000",
    ),
    ("limits.max_retained_size", "-1", "\"1025GiB\"", "0 to 1TiB"),
    (
        "limits.max_sessions",
        "0",
        "100_000_001",
        "1 to 100,000,000",
    ),
    ("limits.fanout_slice", "0", "1_000_001", "1 to 1,000,000"),
    ("limits.route_cache_size", "-1", "\"2GiB\"", "0 to 1GiB"),
    (
        "limits.shutdown_disconnects_per_second",
        "-1",
        "10_000_001",
        "0 to 10,000,000",
    ),
    (
        "limits.shutdown_timeout",
        "\"999ms\"",
        "\"61m\"",
        "1s to 1h",
    ),
    (
        "sessions.max_expiry",
        "\"36501d\"",
        "\"36501d\"",
        "0s to 36500d",
    ),
    (
        "sessions.v3_expiry",
        "\"36501d\"",
        "\"36501d\"",
        "0s to 36500d",
    ),
    ("telemetry.sys_interval", "\"25h\"", "\"25h\"", "0s to 1d"),
];

#[test]
fn a_value_out_of_range_is_named_with_its_range() {
    for (key, low, high, range) in RANGES {
        for value in [low, high] {
            let found = problems(&format!("{key} = {value}"), &[], &[]);
            let shown = value.replace('_', "");
            let column = key.len() + 4;
            let expected = format!("tidegate.toml:1:{column}: {key} = {shown}: must be {range}");
            assert_eq!(found, [expected]);
        }
    }
}

#[test]
fn every_limit_has_its_range_tested() {
    let loaded = Sources::default().load().unwrap();
    let limits = loaded
        .effective
        .iter()
        .map(|effective| effective.key.as_str());
    for key in limits.filter(|key| key.starts_with("limits.")) {
        assert!(RANGES.iter().any(|(tested, ..)| *tested == key), "{key}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_told_the_right_one() {
    for (line, message) in [
        ("node.data_dir = 3", "must be text"),
        ("node.data_dir = \"\"", "must not be empty"),
        (
            "node.name = \"\"",
            "must be 1 to 64 characters, none of them a control character",
        ),
        ("http.enabled = 1", "must be true or false"),
        (
            "http.bind = \"localhost:1\"",
            "must be an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"",
        ),
        (
            "http.bind = 18083",
            "must be an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"",
        ),
        ("http.allowed_hosts = \"a\"", "must be a list of texts"),
        ("http.allowed_hosts = [\"a\", 1]", "1 is not text"),
        (
            "http.allowed_hosts = [\"http://a\"]",
            "\"http://a\" is not a host; write a name or an address, with a port or without",
        ),
        (
            "http.allowed_origins = [\"a\"]",
            "\"a\" is not an origin; write http:// or https://, a host, a port if it is not the usual one, and no path",
        ),
        (
            "limits.max_inflight = \"3\"",
            "must be a number, 1 to 65,535",
        ),
        ("limits.max_inflight = 3.0", "must be a number, 1 to 65,535"),
        (
            "limits.max_inflight = [1, 2]",
            "must be a number, 1 to 65,535",
        ),
        (
            "limits.max_inflight = 2026-01-01",
            "must be a number, 1 to 65,535",
        ),
        (
            "limits.max_inflight = 99999999999999999999",
            "must be 1 to 65,535",
        ),
        (
            "limits.max_memory = \"much\"",
            "must be a size such as \"64KiB\" or a number of bytes, 64KiB to 64TiB",
        ),
        (
            "limits.max_memory = true",
            "must be a size such as \"64KiB\" or a number of bytes, 64KiB to 64TiB",
        ),
        (
            "limits.connect_timeout = 10",
            "must be a duration such as \"10s\" or \"7d\", 10ms to 1h",
        ),
        (
            "limits.connect_timeout = \"10\"",
            "must be a duration such as \"10s\" or \"7d\", 10ms to 1h",
        ),
        (
            "limits.max_keep_alive = \"1500ms\"",
            "must be whole seconds",
        ),
        ("sessions.v3_expiry = \"1ms\"", "must be whole seconds"),
        (
            "sessions.slow_consumer_policy = \"drop\"",
            "must be \"drop_new\", \"drop_old\" or \"disconnect\"",
        ),
        (
            "sessions.shared_strategy = 1",
            "must be \"least_inflight\", \"round_robin\", \"random\", \"sticky\", \"hash_topic\", \"hash_client\" or \"local_first\"",
        ),
        (
            "sessions.response_information = \"a/#\"",
            "must be empty or a topic name; a topic name holds no wildcard (MQTT-3.3.2-2)",
        ),
        (
            "telemetry.log = \"loud=very\"",
            "must be off, error, warn, info, debug or trace, or directives such as \"info,tidegate_mqtt=debug\"",
        ),
        (
            "telemetry.log_format = \"xml\"",
            "must be \"text\" or \"json\"",
        ),
        (
            "telemetry.sys_interval = \"1ms\"",
            "must be 0 (off) or at least 100ms",
        ),
    ] {
        let found = problems(line, &[], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        let (_, value) = line.split_once(" = ").unwrap();
        let (place, text) = found[0]
            .split_once(&format!(" = {value}: "))
            .expect(&found[0]);
        assert!(place.starts_with("tidegate.toml:1:"), "{place}");
        assert_eq!(text, message);
    }
}

#[test]
fn a_section_is_no_value_and_a_value_no_section() {
    assert_eq!(
        problems("limits = 3\n[http.bind]\n", &[], &[]),
        [
            "tidegate.toml:1:10: limits = 3: is a section, not a value",
            "tidegate.toml:2:7: http.bind is a value, not a section",
        ]
    );
}

#[test]
fn zero_turns_off_without_a_unit() {
    assert_eq!(
        config("telemetry.sys_interval = 0").telemetry.sys_interval,
        Duration::ZERO
    );
    let by_variable = loaded("", &[("TIDEGATE__TELEMETRY__SYS_INTERVAL", "0")], &[]);
    assert_eq!(by_variable.config.telemetry.sys_interval, Duration::ZERO);
}

#[test]
fn all_problems_are_shown_at_once() {
    let found = problems(
        "[limits]\nmax_inflight = 0\nmax_memory = 1\nnope = 1\n",
        &[("TIDEGATE__HTTP__BIND", "x")],
        &["telemetry.log_format=xml"],
    );
    assert_eq!(found.len(), 5, "{found:?}");
    let (sources, _directory) = sources("nope = 1\nnever = 1\n", &[], &[]);
    let text = sources.load().unwrap_err().to_string();
    assert!(
        text.starts_with("the configuration is not valid, in 2 places:\n  "),
        "{text}"
    );
}
