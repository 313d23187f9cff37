//! Listeners and their addresses.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_quic::Retry;
use tidegate_tls::{ClientAuth, MinVersion, Resumption};

use super::super::*;
use super::{config, loaded, problems};

#[test]
fn a_listener_of_the_same_name_keeps_what_is_not_said() {
    let config = config("[listeners.mqtt]\nbind = \"127.0.0.1:1999\"\n");
    assert_eq!(config.listeners.len(), 8);
    assert_eq!(config.listeners[0].kind, Kind::Mqtt);
    assert_eq!(config.listeners[0].socket.bind.port(), 1999);
}

#[test]
fn a_listener_can_be_turned_off() {
    let listeners = config("[listeners.mqtt]\nenabled = false\n").listeners;
    let names: Vec<_> = listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "mqtts",
            "ws",
            "wss",
            "quic",
            "coap",
            "coap_tcp",
            "coaps_tcp"
        ]
    );
    assert_eq!(config("[http]\nenabled = false\n").http, None);
}

#[test]
fn a_variable_reaches_a_listener_by_its_name() {
    let variables = [
        ("TIDEGATE__LISTENERS__MQTT__BIND", "127.0.0.1:0"),
        ("TIDEGATE__LISTENERS__INSIDE__KIND", "mqtt"),
        ("TIDEGATE__LISTENERS__INSIDE__BIND", "127.0.0.1:1884"),
    ];
    let config = loaded("", &variables, &[]).config;
    let binds: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.name.as_str(), listener.socket.bind.port()))
        .collect();
    let tls = [
        ("mqtts", 8883),
        ("ws", 8083),
        ("wss", 8084),
        ("quic", 14567),
        ("coap", 5683),
        ("coap_tcp", 5683),
        ("coaps_tcp", 5684),
    ];
    assert_eq!(
        binds,
        [&[("mqtt", 0)][..], &tls, &[("inside", 1884)]].concat()
    );
}

#[test]
fn a_listener_of_a_new_name_says_everything() {
    assert_eq!(
        problems("[listeners.a]\n[listeners.b]\nkind = \"mqtt\"\n", &[], &[]),
        [
            "tidegate.toml:1:12: listeners.a needs a bind",
            "tidegate.toml:1:12: listeners.a needs a kind",
            "tidegate.toml:2:12: listeners.b needs a bind",
        ]
    );
}

#[test]
fn a_kind_that_is_not_built_yet_says_so() {
    let built = "\"mqtt\", \"mqtts\", \"ws\", \"wss\", \"quic\", \"coap\", \"coap+tcp\" or \
                 \"coaps+tcp\"";
    for kind in PLANNED {
        assert_eq!(
            problems(&format!("listeners.mqtt.kind = \"{kind}\""), &[], &[]),
            [format!(
                "tidegate.toml:1:23: listeners.mqtt.kind = \"{kind}\": this kind is planned and not \
                 built yet; this version has {built}"
            )]
        );
    }
    assert_eq!(
        problems("listeners.mqtt.kind = \"amqp\"", &[], &[]),
        [format!(
            "tidegate.toml:1:23: listeners.mqtt.kind = \"amqp\": must be {built}"
        )]
    );
    assert_eq!(
        problems("listeners.mqtt.kind = \"http\"", &[], &[]),
        [
            "tidegate.toml:1:23: listeners.mqtt.kind = \"http\": HTTP is configured in the section [http]"
        ]
    );
}

#[test]
fn a_listener_has_a_plain_name() {
    for name in ["Mqtt", "a b", "a__b", "", "ä"] {
        let found = problems(&format!("[listeners.\"{name}\"]\n"), &[], &[]);
        assert_eq!(
            found,
            [format!(
                "tidegate.toml:1:12: listeners.{name}: a listener's name is made of a-z, 0-9, - and single _"
            )]
        );
    }
    assert_eq!(
        problems("[listeners.http]\n", &[], &[]),
        ["tidegate.toml:1:12: listeners.http: the name http belongs to the section [http]"]
    );
}

#[test]
fn an_address_outside_loopback_needs_anonymous_access() {
    for bind in [
        "0.0.0.0:1883",
        "[::]:1883",
        "192.0.2.1:1883",
        "[::ffff:192.0.2.1]:1883",
    ] {
        let other = bind.replace("1883", "1884");
        let file = format!("listeners.mqtt.bind = \"{bind}\"\nhttp.bind = \"{other}\"\n");
        let found = problems(&file, &[], &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("tidegate.toml:1:23: listeners.mqtt.bind = "),
            "{found:?}"
        );
        assert!(
            found[0].contains("could publish and subscribe"),
            "{found:?}"
        );
        assert!(
            found[0].ends_with("set access.allow_anonymous = true if that is wanted"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("tidegate.toml:2:13: http.bind = "),
            "{found:?}"
        );
        loaded(&file, &[], &["access.allow_anonymous=true"]);
    }
    for bind in [
        "127.0.0.1:1",
        "127.1.2.3:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        config(&format!("listeners.mqtt.bind = \"{bind}\"\n"));
    }
    config("[listeners.mqtt]\nbind = \"0.0.0.0:1883\"\nenabled = false\n");
}

#[test]
fn two_listeners_do_not_share_an_address() {
    let second = |bind: &str| {
        format!(
            "access.allow_anonymous = true\n[listeners.b]\nkind = \"mqtt\"\nbind = \"{bind}\"\n"
        )
    };
    for bind in [
        "127.0.0.1:1883",
        "0.0.0.0:1883",
        // Of both families.
        "[::]:1883",
        "127.0.0.1:18083",
    ] {
        let found = problems(&second(bind), &[], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("is bound there already"), "{found:?}");
    }
    for bind in ["127.0.0.2:1883", "[::1]:1883", "127.0.0.1:0"] {
        config(&second(bind));
    }
    config(&(second("[::]:1883") + "ipv6_only = true\n"));
    // Not even shared: the kernel would choose between two that may speak differently.
    let shared = "reuse_port = true\n[listeners.mqtt]\nreuse_port = true\n";
    let found = problems(&(second("127.0.0.1:1883") + shared), &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    config(
        "[listeners.mqtt]\nbind = \"127.0.0.1:0\"\n[listeners.b]\nkind = \"mqtt\"\n\
         bind = \"127.0.0.1:0\"\n[http]\nbind = \"127.0.0.1:0\"\n",
    );
}

#[test]
fn tls_and_websocket_belong_to_the_kinds_that_have_them() {
    let found = problems("[listeners.mqtt.tls]\ncert = \"a\"\n", &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("unknown key listeners.mqtt.tls"),
        "{found:?}"
    );
    let found = problems("[listeners.mqtts.websocket]\npath = \"/\"\n", &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("unknown key listeners.mqtts.websocket"),
        "{found:?}"
    );
    let other = "[listeners.a]\nkind = \"wss\"\nbind = \"127.0.0.1:1\"\nwebsocket.path = \"/a\"\n";
    let config = config(other);
    let own = config.listeners.last().unwrap();
    assert_eq!(own.websocket.as_ref().unwrap().path, "/a");
}

#[test]
fn coap_has_keys_of_its_own_and_none_of_connections() {
    for key in [
        "listeners.mqtt.coap.max_exchanges = 1",
        "listeners.coap.backlog = 1",
        "listeners.coap.max_connections = 1",
        "listeners.coap.proxy_networks = [\"10.0.0.0/8\"]",
        "listeners.coap.tls.min_version = \"1.2\"",
    ] {
        let found = problems(key, &[], &[]);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert!(found[0].contains("unknown key"), "{key}: {found:?}");
    }
    let config = config(
        "[listeners.coap.coap]\nmax_body_size = 1000\nblock_size = \"256\"\nmax_exchanges = 31\nmax_endpoints = 32\n\
         max_observations = 33\nmax_observations_per_endpoint = 34\nmax_waiting = 35\nmax_transfers = 36\n\
         max_transfers_per_endpoint = 37\nconfirm_interval = \"38s\"\nunverified = \"echo\"\n",
    );
    let coap = config.listeners.iter().find(|l| l.name == "coap");
    let coap = coap.unwrap().coap.clone().unwrap();
    let mut expected = tidegate_coap::Settings::default();
    expected.max_body_bytes = 1_000;
    expected.block_bytes = 256;
    expected.max_exchanges = 31;
    expected.max_endpoints = 32;
    expected.max_observations = 33;
    expected.max_observations_per_endpoint = 34;
    expected.max_waiting = 35;
    expected.max_transfers = 36;
    expected.max_transfers_per_endpoint = 37;
    expected.confirm_interval = Duration::from_secs(38);
    expected.unverified = tidegate_coap::Unverified::Echo;
    assert_eq!(coap, expected);
}

#[test]
fn coap_over_tcp_has_keys_of_connections_and_none_of_datagrams() {
    for key in [
        "listeners.coap.coap.ping_interval = \"1s\"",
        "listeners.coap_tcp.coap.unverified = \"all\"",
        "listeners.coap_tcp.coap.max_exchanges = 1",
        "listeners.coap_tcp.coap.confirm_interval = \"1s\"",
        "listeners.coap_tcp.max_packet_size = 100",
        "listeners.coap_tcp.tls.min_version = \"1.3\"",
    ] {
        let found = problems(key, &[], &[]);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert!(found[0].contains("unknown key"), "{key}: {found:?}");
    }
    let config = config(
        "[listeners.coaps_tcp]\nmax_connections = 31\nconnect_timeout = \"32s\"\nbacklog = 33\n\
         tls.min_version = \"1.3\"\n\
         [listeners.coaps_tcp.coap]\nmax_body_size = 1000\nmax_observations = 34\n\
         max_observations_per_endpoint = 35\nmax_waiting = 36\nmax_transfers = 37\n\
         max_transfers_per_endpoint = 38\nping_interval = \"39s\"\nping_timeout = \"40s\"\n",
    );
    let listener = config.listeners.iter().find(|l| l.name == "coaps_tcp");
    let listener = listener.unwrap();
    assert_eq!(listener.mqtt.max_connections, 31);
    assert_eq!(listener.socket.backlog, 33);
    let tls = &listener.tls.as_ref().unwrap().settings;
    // RFC 8323 section 8.2
    assert_eq!(tls.alpn, [b"coap"]);
    assert_eq!(tls.min_version, MinVersion::Tls13);
    let mut expected = tidegate_coap::Settings::default();
    expected.csm_timeout = Duration::from_secs(32);
    expected.max_body_bytes = 1_000;
    expected.max_observations = 34;
    expected.max_observations_per_endpoint = 35;
    expected.max_waiting = 36;
    expected.max_transfers = 37;
    expected.max_transfers_per_endpoint = 38;
    expected.ping_interval = Duration::from_secs(39);
    expected.ping_timeout = Duration::from_secs(40);
    assert_eq!(listener.coap, Some(expected));
}

#[test]
fn quic_has_keys_of_its_own_and_none_of_tcp() {
    for key in [
        "listeners.mqtts.quic.migration = true",
        "listeners.quic.backlog = 1",
        "listeners.quic.proxy_networks = [\"10.0.0.0/8\"]",
        "listeners.quic.tls.min_version = \"1.2\"",
        "listeners.quic.websocket.path = \"/\"",
    ] {
        let found = problems(key, &[], &[]);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert!(found[0].contains("unknown key"), "{key}: {found:?}");
    }
    let config = config(
        "[listeners.quic.quic]\nidle_timeout = \"31s\"\nkeep_alive_interval = \"32s\"\nretry = \"always\"\nmax_streams = 33\n\
         stream_receive_window = \"34KiB\"\nreceive_window = \"35KiB\"\n\
         send_window = \"36KiB\"\nmigration = false\nnode_id = \"0a37\"\n\
         [listeners.quic.tls]\nhandshake_timeout = \"38s\"\nmax_handshakes = 39\n",
    );
    let quic = config
        .listeners
        .iter()
        .find(|l| l.kind == Kind::Quic)
        .unwrap();
    let tls = quic.tls.as_ref().unwrap();
    assert_eq!(tls.settings.alpn, [b"mqtt"]);
    assert_eq!(tls.settings.min_version, MinVersion::Tls13);
    assert_eq!(
        *quic.quic.as_ref().unwrap(),
        tidegate_quic::Settings {
            idle_timeout: Duration::from_secs(31),
            keep_alive_interval: Duration::from_secs(32),
            handshake_timeout: Duration::from_secs(38),
            max_handshakes: 39,
            retry: Retry::Always,
            max_streams: 33,
            stream_receive_window: 34 << 10,
            receive_window: 35 << 10,
            send_window: 36 << 10,
            migration: false,
            node_id: Some("0a37".parse().unwrap()),
        }
    );
}

#[test]
fn sessions_are_resumed_as_one_key_says() {
    let resumption = |listener: &str, text: &str| {
        let config = config(&format!("[listeners.{listener}]\n{text}\n"));
        let found = config.listeners.iter().find(|it| it.name == listener);
        let tls = found.unwrap().tls.clone().unwrap();
        tls.settings.resumption
    };
    let tickets = |keys: &[&str]| Resumption::Tickets {
        keys: keys.iter().map(PathBuf::from).collect(),
    };
    for listener in ["mqtts", "wss", "quic"] {
        assert_eq!(resumption(listener, ""), tickets(&[]));
        assert_eq!(
            resumption(listener, "tls.resumption = \"off\""),
            Resumption::Off
        );
        let keys = "tls.ticket_keys = [\"new.key\", \"old.key\"]";
        assert_eq!(resumption(listener, keys), tickets(&["new.key", "old.key"]));
        let unread = format!("listeners.{listener}.tls.resumption = \"off\"\n");
        let found = problems(&format!("{unread}listeners.{listener}.{keys}\n"), &[], &[]);
        assert_eq!(
            found,
            [format!(
                "tidegate.toml:2:{}: listeners.{listener}.tls.ticket_keys needs \
                 listeners.{listener}.tls.resumption = \"tickets\"",
                listener.len() + 30
            )]
        );
        let empty = format!("listeners.{listener}.tls.ticket_keys = [\"\"]");
        let found = problems(&empty, &[], &[]);
        assert!(found[0].contains("must not be empty"), "{found:?}");
    }
    let early = "tls.resumption = \"early_data\"\n";
    assert_eq!(
        resumption("quic", early),
        Resumption::EarlyData { sessions: 10_000 }
    );
    let seven = format!("{early}quic.early_data_sessions = 7\n");
    assert_eq!(
        resumption("quic", &seven),
        Resumption::EarlyData { sessions: 7 }
    );
    for listener in ["mqtts", "wss"] {
        let found = problems(&format!("[listeners.{listener}]\n{early}"), &[], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("is for the kind quic only"), "{found:?}");
    }
    // What it was called before.
    let found = problems("listeners.mqtts.tls.resumption = true", &[], &[]);
    let words = "must be \"off\", \"tickets\" or \"early_data\"";
    assert!(found[0].ends_with(words), "{found:?}");
}

#[test]
fn under_load_is_an_eighth_of_all_handshakes() {
    for (text, expected) in [
        ("", Retry::Above(128)),
        ("tls.max_handshakes = 4", Retry::Above(1)),
        ("quic.retry = \"never\"", Retry::Never),
    ] {
        let config = config(&format!("[listeners.quic]\n{text}\n"));
        let mut settings = config.listeners.iter().filter_map(|l| l.quic.as_ref());
        let quic = settings.next().unwrap();
        assert_eq!(quic.retry, expected, "{text}");
    }
    let found = problems("listeners.quic.quic.node_id = \"0\"", &[], &[]);
    assert!(
        found[0].contains("1 to 8 octets in hexadecimal"),
        "{found:?}"
    );
}

#[test]
fn a_port_of_udp_is_another_than_that_of_tcp() {
    config("[listeners.quic]\nbind = \"127.0.0.1:1883\"\n");
    let second = "[listeners.second]\nkind = \"quic\"\nbind = \"127.0.0.1:14567\"\n";
    let found = problems(second, &[], &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("listeners.quic is bound there already"),
        "{found:?}"
    );
}

#[test]
fn a_certificate_is_two_files_and_the_first_one_has_no_name() {
    assert_eq!(
        problems("[listeners.mqtts.tls]\ncert = \"a\"\n", &[], &[]),
        ["tidegate.toml:2:8: listeners.mqtts.tls.key is needed, too"]
    );
    assert_eq!(
        problems("[listeners.wss.tls]\nkey = \"a\"\n", &[], &[]),
        ["tidegate.toml:2:7: listeners.wss.tls.cert is needed, too"]
    );
    let further = "[listeners.wss.tls.certificates.x]\ncert = \"a\"\nkey = \"b\"\n";
    assert_eq!(
        problems(further, &[], &[]),
        [
            "tidegate.toml:1:33: listeners.wss.tls.certificates.x is a further certificate; the first \
             one is tls.cert and tls.key"
        ]
    );
}

#[test]
fn client_certificates_need_a_ca_and_are_required_with_one() {
    for (key, value) in [("client_crl", "a"), ("client_auth", "required")] {
        let found = problems(
            &format!("listeners.mqtts.tls.{key} = \"{value}\""),
            &[],
            &[],
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("needs a client_ca"), "{found:?}");
    }
    let client = |text: &str| {
        let text = format!("[listeners.mqtts.tls]\nclient_ca = \"ca\"\n{text}");
        let config = config(&text);
        let tls = config.listeners[1].tls.as_ref().unwrap();
        tls.settings.client.clone()
    };
    assert!(matches!(client(""), ClientAuth::Required(_)));
    assert!(matches!(
        client("client_auth = \"optional\""),
        ClientAuth::Optional(_)
    ));
    assert!(matches!(client("client_auth = \"none\""), ClientAuth::None));
}

#[test]
fn a_frame_is_no_smaller_than_a_packet() {
    let large = config("limits.max_packet_size = \"64MiB\"");
    for listener in &large.listeners[2..4] {
        let websocket = listener.websocket.as_ref().unwrap();
        assert_eq!(websocket.max_frame_bytes, 64 << 20);
        assert_eq!(websocket.max_message_bytes, 64 << 20);
    }
    let found = problems(
        "[listeners.ws]\nmax_packet_size = \"64MiB\"\nwebsocket.max_frame_size = \"16MiB\"\n",
        &[],
        &[],
    );
    assert_eq!(
        found,
        [
            "tidegate.toml:3:28: listeners.ws.websocket.max_frame_size = 16MiB: is less than the \
             listener's max_packet_size (64MiB), so the largest packets could not come in one frame"
        ]
    );
}

#[test]
fn a_network_is_an_address_with_or_without_its_length() {
    let found = problems(
        "listeners.mqtt.proxy_networks = [\"10.0.0.0/33\"]",
        &[],
        &[],
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("is not a network such as"), "{found:?}");
}
