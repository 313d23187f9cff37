//! Clients that are not ours: those of libcoap, with OpenSSL and with GnuTLS, and openssl's own, over real sockets.

mod support;

use std::process::Command;

use support::socket::{Answerer, coap_get, program, run};
use support::{Authority, Event, House, KEY, KEY_TEXT, client_named};
use tidegate_dtls::{Failure, Method, Settings, Who};

const CLIENTS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];
const ANSWER: &str = "the tide is high";

#[test]
fn rfc7252_9_1_3_1_a_client_with_a_pre_shared_key_is_answered_and_known_by_its_identity() {
    for client in CLIENTS {
        let Some(program) = program(client) else {
            continue;
        };
        for hint in [None, Some("which?".to_owned())] {
            let mut house = House::new();
            house.settings.psk_hint = hint;
            let server = Answerer::start(Settings::default(), house.credentials());
            let said = coap_get(&program, server.address, &["-u", "device", "-k", KEY_TEXT]);
            assert!(said.contains(ANSWER), "{client}: {said}");
            let expected = (Who::Psk("device".into()), Method::Psk12);
            assert_eq!(server.established(), expected, "{client}");
        }
    }
}

#[test]
fn rfc7252_9_1_3_3_a_client_with_a_certificate_is_answered_and_known_by_its_name() {
    for client in CLIENTS {
        let Some(program) = program(client) else {
            continue;
        };
        let house = House::mutual();
        let leaf = house.authority.issue(&client_named("pump-7"));
        let files = house.folder.write_leaf("client", &leaf);
        let server = Answerer::start(Settings::default(), house.credentials());
        let ca = house.folder.path("ca.pem");
        let arguments = [
            "-c",
            files.chain.to_str().unwrap(),
            "-j",
            files.key.to_str().unwrap(),
            "-C",
            ca.to_str().unwrap(),
        ];
        let said = coap_get(&program, server.address, &arguments);
        assert!(said.contains(ANSWER), "{client}: {said}");
        match server.established() {
            (Who::Certificate(certificate), Method::Certificate12) => {
                assert_eq!(certificate.common_name.as_deref(), Some("pump-7"));
            }
            other => panic!("{client}: {other:?}"),
        }
    }
}

#[test]
fn rfc7252_9_1_3_3_a_client_that_is_not_asked_for_a_certificate_checks_the_server_and_is_anonymous()
{
    for client in CLIENTS {
        let Some(program) = program(client) else {
            continue;
        };
        let house = House::new();
        let server = Answerer::start(Settings::default(), house.credentials());
        let ca = house.folder.path("ca.pem");
        let said = coap_get(&program, server.address, &["-R", ca.to_str().unwrap()]);
        assert!(said.contains(ANSWER), "{client}: {said}");
        let expected = (Who::Anonymous, Method::Certificate12);
        assert_eq!(server.established(), expected, "{client}");

        // It does check: this authority it does not know.
        let other = house
            .folder
            .write("other.pem", &Authority::new("other").pem());
        let said = coap_get(&program, server.address, &["-R", other.to_str().unwrap()]);
        assert!(!said.contains(ANSWER), "{client}: {said}");
        server.wait_until("the client's alert", |it| {
            it.failures(Failure::Alert) + it.failures(Failure::Protocol) > 0
        });
    }
}

#[test]
fn rfc4279_2_a_wrong_key_and_an_unknown_identity_look_the_same_to_the_client() {
    for client in CLIENTS {
        let Some(program) = program(client) else {
            continue;
        };
        let house = House::new();
        let server = Answerer::start(Settings::default(), house.credentials());
        let mut said = Vec::new();
        for (identity, key, why) in [
            ("device", "not the key 1234", Failure::WrongKey),
            ("nobody", KEY_TEXT, Failure::UnknownIdentity),
        ] {
            let output = coap_get(&program, server.address, &["-u", identity, "-k", key]);
            assert!(!output.contains(ANSWER), "{client}: {output}");
            server.wait_until("the failure", |it| it.failures(why) == 1);
            // Without the time and the client's port, which stand before it.
            let told = output.lines().find_map(|line| line.split_once("DTLS"));
            said.push(told.expect("it says why").1.to_owned());
        }
        assert_eq!(said[0], said[1], "{client}");
        assert!(server.has_no_event());
    }
}

#[test]
fn rfc5280_6_a_certificate_of_a_stranger_or_past_its_time_is_refused() {
    for client in CLIENTS {
        let Some(program) = program(client) else {
            continue;
        };
        let house = House::mutual();
        let mut expired = client_named("old");
        (expired.from, expired.until) = (-10, -1);
        let stranger = Authority::new("house").issue(&client_named("pump-7"));
        let server = Answerer::start(Settings::default(), house.credentials());
        for (leaf, why) in [
            (house.authority.issue(&expired), Failure::CertificateTime),
            (stranger, Failure::CertificateIssuer),
        ] {
            let files = house.folder.write_leaf("client", &leaf);
            let ca = house.folder.path("ca.pem");
            let arguments = [
                "-c",
                files.chain.to_str().unwrap(),
                "-j",
                files.key.to_str().unwrap(),
                "-C",
                ca.to_str().unwrap(),
            ];
            let said = coap_get(&program, server.address, &arguments);
            assert!(!said.contains(ANSWER), "{client}: {said}");
            server.wait_until("the failure", |it| it.failures(why) >= 1);
            assert!(server.has_no_event(), "{client}");
        }
    }
}

#[test]
fn rfc6347_4_2_1_openssl_is_asked_for_a_cookie_and_speaks_every_suite_that_there_is() {
    let Some(program) = program("openssl") else {
        return;
    };
    let house = House::new();
    let server = Answerer::start(Settings::default(), house.credentials());
    let ca = house.folder.path("ca.pem");
    let address = server.address.to_string();
    let hexadecimal: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let psk = ["-psk_identity", "device", "-psk", &hexadecimal];
    for (suite, more, method) in [
        ("PSK-AES128-CCM8:@SECLEVEL=0", &psk[..], Method::Psk12),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", &[], Method::Certificate12),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", &[], Method::Certificate12),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", &[], Method::Certificate12),
    ] {
        let cookies = server.counters.cookies();
        let mut command = Command::new(&program);
        command
            .args(["s_client", "-dtls1_2", "-connect", &address])
            .args(["-CAfile", ca.to_str().unwrap(), "-verify_return_error"])
            .args(["-cipher", suite])
            .args(more);
        let finished = run(&mut command);
        let said = String::from_utf8_lossy(&finished.stdout);
        assert!(finished.status.success(), "{suite}: {said}");
        assert_eq!(server.established().1, method, "{suite}: {said}");
        assert_eq!(server.counters.cookies(), cookies + 1, "{suite}");
        assert!(
            matches!(server.event(), Event::Ended(..)),
            "{suite}: it closes at the end of its input"
        );
    }
}

#[test]
fn rfc6347_4_2_4_a_client_that_has_nothing_in_common_with_us_is_told_and_not_kept() {
    let Some(program) = program("openssl") else {
        return;
    };
    let house = House::new();
    let server = Answerer::start(Settings::default(), house.credentials());
    let address = server.address.to_string();
    // RSA only.
    let mut command = Command::new(&program);
    command
        .args(["s_client", "-dtls1_2", "-connect", &address])
        .args(["-cipher", "AES128-GCM-SHA256"]);
    let finished = run(&mut command);
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    assert!(said.contains("handshake failure"), "{said}");
    server.wait_until("the refusal", |it| it.failures(Failure::NoCommonSuite) == 1);
    assert_eq!(server.counters.handshakes(), 0);
}
