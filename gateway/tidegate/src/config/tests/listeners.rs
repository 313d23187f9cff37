//! Listeners and their addresses.

use super::super::*;
use super::{config, loaded, problems};

#[test]
fn a_listener_of_the_same_name_keeps_what_is_not_said() {
    let config = config("[listeners.mqtt]\nbind = \"127.0.0.1:1999\"\n");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].kind, Kind::Mqtt);
    assert_eq!(config.listeners[0].bind.port(), 1999);
}

#[test]
fn a_listener_can_be_turned_off() {
    assert!(
        config("[listeners.mqtt]\nenabled = false\n")
            .listeners
            .is_empty()
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
        .map(|listener| (listener.name.as_str(), listener.bind.port()))
        .collect();
    assert_eq!(binds, [("mqtt", 0), ("inside", 1884)]);
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
    for kind in [
        "mqtts",
        "ws",
        "wss",
        "quic",
        "coap",
        "coaps",
        "coap+tcp",
        "coaps+tcp",
    ] {
        assert_eq!(
            problems(&format!("listeners.mqtt.kind = \"{kind}\""), &[], &[]),
            [format!(
                "tidegate.toml:1:23: listeners.mqtt.kind = \"{kind}\": this kind is planned and not \
                 built yet; this version has \"mqtt\""
            )]
        );
    }
    assert_eq!(
        problems("listeners.mqtt.kind = \"amqp\"", &[], &[]),
        ["tidegate.toml:1:23: listeners.mqtt.kind = \"amqp\": must be \"mqtt\""]
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
    for bind in ["127.0.0.1:1883", "0.0.0.0:1883", "127.0.0.1:18083"] {
        let found = problems(&second(bind), &[], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("is bound there already"), "{found:?}");
    }
    for bind in ["127.0.0.2:1883", "[::1]:1883", "[::]:1883", "127.0.0.1:0"] {
        config(&second(bind));
    }
    config(
        "[listeners.mqtt]\nbind = \"127.0.0.1:0\"\n[listeners.b]\nkind = \"mqtt\"\n\
         bind = \"127.0.0.1:0\"\n[http]\nbind = \"127.0.0.1:0\"\n",
    );
}
