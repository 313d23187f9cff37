//! DTLS, TCP and TLS, against libcoap's example server with OpenSSL and with GnuTLS.

use std::net::UdpSocket;

use super::house::{House, KEY};
use super::libcoap::{server, speaks_of, speaks_with};
use super::run::{fails, large, works};

const SERVERS: [&str; 2] = ["coap-server-openssl", "coap-server-gnutls"];

const PUBLISH: [&str; 5] = ["pub", "-t", "a", "-m", "x"];

fn publish<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&PUBLISH[..], more].concat()
}

#[test]
fn rfc7252_9_1_3_1_libcoap_is_spoken_to_with_a_pre_shared_key() {
    for name in SERVERS {
        let house = House::new();
        let Some((_server, port)) = server(name, &["-k", KEY, "-h", "pumps"]) else {
            continue;
        };
        let url = format!("coaps://127.0.0.1:{}/sensors", port + 1);
        speaks_with(&url, &["--psk-file", &house.at("key")]);
        let keys = house.at("keys");
        works(
            &url,
            &publish(&["--psk-file", &keys, "--psk-identity", "pump-7"]),
        );
        // A wrong key; OpenSSL does not even answer the record that it cannot read.
        let wrong = ["--psk-file", &keys, "--psk-identity", "nobody", "-W", "30"];
        let ended = super::run::run(&url, &publish(&wrong));
        assert_eq!(ended.code, Some(1), "{name}: {}", ended.stderr);
        let texts = ["over DTLS: ", "did not answer the attempt to connect"];
        let is_said = texts.iter().any(|text| ended.stderr.contains(text));
        assert!(is_said, "{name}: {}", ended.stderr);
    }
}

#[test]
fn the_file_of_pre_shared_keys_is_looked_at_before_anybody_is_spoken_to() {
    let house = House::new();
    house.write("bad", "pump-7:0102");
    let keys = house.at("keys");
    let bad = house.at("bad");
    let url = "coaps://127.0.0.1:1";
    for (options, text) in [
        (&["--psk-file", &*keys][..], "there are several keys in it"),
        (
            &["--psk-file", &keys, "--psk-identity", "pump-8"],
            "there is no key of the identity pump-8 in it",
        ),
        (&["--psk-file", &bad], "line 1: a key has 16 to 64 bytes"),
        (&["--psk-file", "/nonexistent"], "there is no such file"),
        (&["--psk-identity", "pump-7"], "--psk-file"),
        (&["--psk-file", &keys, "--insecure"], "cannot be used with"),
    ] {
        fails(url, &publish(options), 2, text);
    }
    let option = ["--psk-file", &*keys];
    fails(
        "coap://127.0.0.1:1",
        &publish(&option),
        2,
        "--psk-file is for coaps",
    );
    fails(
        "coaps+tcp://127.0.0.1:1",
        &publish(&option),
        2,
        "--psk-file is for coaps",
    );
}

#[test]
fn rfc7252_9_1_3_3_libcoap_is_spoken_to_with_certificates_of_both() {
    for name in SERVERS {
        let house = House::new();
        let [ca, crt, key] = ["ca.pem", "server.crt", "server.key"].map(|it| house.at(it));
        let Some((_server, port)) = server(name, &["-c", &crt, "-j", &key, "-C", &ca]) else {
            continue;
        };
        let [crt, key] = ["client.crt", "client.key"].map(|it| house.at(it));
        let own = ["--ca", &*ca, "--cert", &crt, "--key", &key];
        for scheme in ["coaps", "coaps+tcp"] {
            let url = format!("{scheme}://127.0.0.1:{}/sensors", port + 1);
            // libcoap 4.3.1 with GnuTLS stops in the middle of 100 kB over TLS, in either direction; with OpenSSL it
            // does not.
            let large = large();
            let largest = match (name, scheme) {
                ("coap-server-gnutls", "coaps+tcp") => &large[..3_000],
                _ => &large,
            };
            speaks_of(largest, &url, &own);
            refuses_strangers(&house, scheme, port + 1);
        }
    }
}

#[test]
fn rfc7252_9_1_3_3_libcoap_that_asks_for_no_certificate_is_spoken_to_without_one() {
    for name in SERVERS {
        let house = House::new();
        let [ca, crt, key] = ["ca.pem", "server.crt", "server.key"].map(|it| house.at(it));
        let Some((_server, port)) = server(name, &["-c", &crt, "-j", &key, "-n"]) else {
            continue;
        };
        for scheme in ["coaps", "coaps+tcp"] {
            let url = format!("{scheme}://127.0.0.1:{}/sensors", port + 1);
            works(&url, &publish(&["--ca", &ca]));
            works(&url, &publish(&["--insecure"]));
            refuses_strangers(&house, scheme, port + 1);
        }
    }
}

/// A server that is not who it should be is told nothing.
fn refuses_strangers(house: &House, scheme: &str, port: u16) {
    let url = format!("{scheme}://127.0.0.1:{port}/sensors");
    let other = house.at("other.pem");
    fails(&url, &publish(&["--ca", &other]), 1, "UnknownIssuer");
    // Of the system's authorities none has issued it.
    let ended = super::run::run(&url, &publish(&[]));
    let system = ["UnknownIssuer", "no certificates of authorities"];
    let is_said = system.iter().any(|text| ended.stderr.contains(text));
    assert!(is_said, "{}", ended.stderr);
    // Its certificate has another name.
    let url = format!("{scheme}://localhost:{port}/sensors");
    let text = "certificate not valid for name";
    fails(&url, &publish(&["--ca", &house.at("ca.pem")]), 1, text);
}

#[test]
fn rfc8323_libcoap_is_spoken_to_over_tcp() {
    let Some((_server, port)) = server("coap-server-notls", &[]) else {
        return;
    };
    speaks_with(&format!("coap+tcp://127.0.0.1:{port}/sensors"), &[]);
}

#[test]
fn rfc8323_5_3_1_a_server_that_takes_short_messages_gets_blocks() {
    let Some((_server, port)) = server("coap-server-notls", &["-X", "1152"]) else {
        return;
    };
    speaks_with(&format!("coap+tcp://127.0.0.1:{port}/sensors"), &[]);
}

#[test]
fn nobody_is_told_from_somebody_who_does_not_shake_hands() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("coaps://{address}");
    let text = "the gateway did not answer the attempt to connect in time";
    fails(&url, &publish(&["--insecure"]), 1, text);
    drop(silent);
    let text = "cannot be reached: Connection refused";
    fails(&url, &publish(&["--insecure"]), 1, text);
}
