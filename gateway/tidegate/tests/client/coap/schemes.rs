//! Against the gateway, over each of its listeners of CoAP: what one of them can do all of them can.

use serde_json::{Value, json};

use super::house::{House, KEY};
use super::run::{Gateway, SCHEMES, Subscriber, large};

/// What is published over each listener, at each QoS, in this order.
fn stories() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |scheme| ["0", "1"].map(|qos| (scheme, qos));
    SCHEMES.into_iter().flat_map(of)
}

#[test]
fn what_is_published_over_each_listener_is_received_over_each() {
    let gateway = Gateway::start(&[]);
    let doors = SCHEMES.map(|scheme| gateway.door(scheme));
    let arguments = |qos| ["-t", "home/temp", "-n", "8", "--json", "-q", qos];
    let subscribers: Vec<_> = stories()
        .map(|(scheme, qos)| (scheme, qos, gateway.door(scheme).observe(&arguments(qos))))
        .collect();
    let over_mqtt = Subscriber::start(&gateway.url("mqtt"), &arguments("2"));
    for (door, scheme) in doors.iter().zip(SCHEMES) {
        for qos in ["0", "1"] {
            let payload = format!("{scheme} {qos}");
            let published = ["pub", "-t", "home/temp", "-m", &payload, "-q", qos];
            let kind = ["--content-type", "application/json"];
            assert_eq!(door.works(&[&published[..], &kind].concat()), "");
        }
    }
    let expected: Vec<_> = stories()
        .map(|(scheme, qos)| format!("{scheme} {qos}"))
        .collect();
    for (scheme, qos, subscriber) in subscribers {
        let messages = subscriber.messages();
        let payloads: Vec<_> = messages.iter().map(|it| it["payload"].clone()).collect();
        assert_eq!(payloads, *expected, "{scheme} {qos}");
        for message in &messages {
            assert_eq!(message["topic"], "home/temp");
            assert_eq!(message["retain"], false);
            assert_eq!(message["properties"]["content_type"], "application/json");
            if qos == "1" && !scheme.ends_with("tcp") {
                assert_eq!(message["qos"], 1, "{scheme}");
            }
        }
    }
    // Somebody who is told the QoS at which each was published.
    let messages = over_mqtt.messages();
    let told: Vec<_> = messages
        .iter()
        .map(|it| (it["payload"].clone(), it["qos"].clone()))
        .collect();
    let published = stories().zip([0, 1].into_iter().cycle());
    let expected: Vec<_> = published
        .map(|((scheme, number), qos)| (json!(format!("{scheme} {number}")), json!(qos)))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn what_is_retained_over_one_listener_is_read_over_another_and_removed() {
    let gateway = Gateway::start(&[]);
    let doors = SCHEMES.map(|scheme| gateway.door(scheme));
    for at in 0..doors.len() {
        let (one, other) = (&doors[at], &doors[(at + 1) % doors.len()]);
        one.works(&["pub", "-t", "kept", "-m", SCHEMES[at], "-r"]);
        for reader in [one, other] {
            let read = reader.works(&["sub", "-t", "kept", "-n", "1", "--json"]);
            let message: Value = serde_json::from_str(&read).unwrap();
            let found = (&message["payload"], &message["retain"]);
            assert_eq!(found, (&json!(SCHEMES[at]), &json!(true)));
        }
        other.works(&["pub", "-t", "kept", "--null", "-r"]);
        assert_eq!(one.works(&["sub", "-t", "kept", "-W", "300ms"]), "");
    }
}

#[test]
fn bodies_of_nothing_of_a_reading_and_of_100_kb_go_both_ways() {
    let gateway = Gateway::start(&[]);
    let large = large();
    let file = gateway.write("large", large.as_bytes());
    let reading = "r".repeat(64);
    for scheme in SCHEMES {
        let door = gateway.door(scheme);
        let topic = scheme.replace('+', "-");
        for qos in ["0", "1"] {
            let subscriber = door.observe(&["-t", &topic, "-n", "3", "-q", qos]);
            let publish = ["pub", "-t", &topic, "-q", qos];
            for body in [["-m", ""], ["-m", &reading], ["-f", &file]] {
                door.works(&[&publish[..], &body].concat());
            }
            let printed = subscriber.printed();
            assert!(
                printed == format!("\n{reading}\n{large}\n"),
                "{scheme} {qos}"
            );
        }
        for (body, payload) in [(["-m", &reading], &reading), (["-f", &file], &large)] {
            door.works(&[&["pub", "-t", &topic, "-r"][..], &body].concat());
            let read = door.works(&["sub", "-t", &topic, "-n", "1"]);
            assert!(
                read == format!("{payload}\n"),
                "{scheme}: {} bytes",
                read.len()
            );
        }
    }
}

const PUBLISH: [&str; 5] = ["pub", "-t", "a", "-m", "x"];
const OBSERVE: [&str; 3] = ["sub", "-t", "a"];

#[test]
fn rfc7252_9_1_3_1_the_gateway_is_spoken_to_with_a_pre_shared_key() {
    let house = House::new();
    let hexadecimal = |key: &str| -> String { key.bytes().map(|it| format!("{it:02x}")).collect() };
    let other = hexadecimal("not the key of 7");
    house.write("other", &format!("pump-7:{other}\n"));
    house.write("unknown", &format!("pump-8:{}\n", hexadecimal(KEY)));
    let setting = format!("listeners.coaps.dtls.psk_file={}", house.at("key"));
    let gateway = Gateway::start(&[&setting]);
    let mut door = gateway.door("coaps");
    let with = |name: &str| vec!["--psk-file".to_owned(), house.at(name)];
    door.options = with("key");
    let subscriber = door.observe(&["-t", "a", "-n", "1", "-q", "1"]);
    door.works(&[&PUBLISH[..], &["-q", "1"]].concat());
    assert_eq!(subscriber.printed(), "x\n");
    // Which of the two it is, the gateway does not say (docs/dtls.md).
    for name in ["other", "unknown"] {
        door.options = with(name);
        let text = "the server refused with the alert decrypt_error; the key in --psk-file, or its identity, is not one of the server's";
        door.fails(&PUBLISH, 1, text);
        door.fails(&OBSERVE, 1, text);
    }
}

#[test]
fn rfc7252_9_1_3_3_a_gateway_whose_certificate_is_not_trusted_is_told_nothing() {
    let house = House::new();
    // An address that the local certificate does not name.
    let gateway = Gateway::start(&[
        "listeners.elsewhere.kind=coaps",
        "listeners.elsewhere.bind=127.0.0.2:0",
        "listeners.elsewhere-tcp.kind=coaps+tcp",
        "listeners.elsewhere-tcp.bind=127.0.0.2:0",
    ]);
    for (scheme, elsewhere) in [("coaps", "elsewhere"), ("coaps+tcp", "elsewhere-tcp")] {
        let mut door = gateway.door(scheme);
        door.works(&PUBLISH);
        door.options = vec!["--ca".to_owned(), house.at("other.pem")];
        for arguments in [&PUBLISH[..], &OBSERVE] {
            door.fails(arguments, 1, "invalid peer certificate: UnknownIssuer");
        }
        door.options = vec!["--insecure".to_owned()];
        door.works(&PUBLISH);
        door.options = vec!["--ca".to_owned(), gateway.authority()];
        door.url = format!("{scheme}://{}", gateway.address(elsewhere));
        for arguments in [&PUBLISH[..], &OBSERVE] {
            door.fails(arguments, 1, "certificate not valid for name");
        }
    }
}

#[test]
fn rfc7252_9_1_3_3_a_gateway_that_asks_for_a_certificate_is_shown_one() {
    let house = House::new();
    let ca = house.at("ca.pem");
    let settings = ["coaps", "coaps_tcp"].map(|it| format!("listeners.{it}.tls.client_ca={ca}"));
    let gateway = Gateway::start(&settings.each_ref().map(String::as_str));
    for scheme in ["coaps", "coaps+tcp"] {
        let mut door = gateway.door(scheme);
        let trust = door.options.clone();
        let show = |name: &str| -> Vec<String> {
            let [crt, key] = ["crt", "key"].map(|it| house.at(&format!("{name}.{it}")));
            let shown = ["--cert".to_owned(), crt, "--key".to_owned(), key];
            trust.iter().cloned().chain(shown).collect()
        };
        door.options = show("client");
        let subscriber = door.observe(&["-t", "a", "-n", "1"]);
        door.works(&PUBLISH);
        assert_eq!(subscriber.printed(), "x\n", "{scheme}");
        // One of an authority that the gateway does not know, and none at all.
        let stranger = show("stranger");
        for (options, alert) in [(stranger, "UnknownCA"), (trust, "CertificateRequired")] {
            door.options = options;
            let text = match scheme {
                "coaps" => "perhaps it asks for a certificate of an authority that it knows",
                _ => alert,
            };
            for arguments in [&PUBLISH[..], &OBSERVE] {
                door.fails(arguments, 1, text);
            }
        }
    }
}
