//! Against a script.

use tidegate_coap::codec::{Code, Kind, number};

use super::run::{fails, run};
use super::script::Script;

const OBSERVE: u16 = number::OBSERVE;

#[test]
fn every_option_that_coap_can_express_is_sent() {
    let mut script = Script::listen();
    let client = script.client(&[
        "pub",
        "-t",
        "a//b",
        "-m",
        "{}",
        "-r",
        "-q",
        "2",
        "-i",
        "me",
        "-u",
        "user",
        "-P",
        "pass=word",
        "--content-type",
        "application/json",
        "--message-expiry",
        "1h",
        "--debug",
    ]);
    let request = script.receive();
    assert_eq!((request.kind, request.code), (Kind::Confirmable, Code::PUT));
    assert_eq!(request.path, ["ps", "a", "", "b"]);
    let query = [
        "qos=2",
        "retain=true",
        "expiry=3600",
        "c=me",
        "u=user",
        "p=pass=word",
    ];
    assert_eq!(request.query, query);
    assert_eq!(request.first(number::CONTENT_FORMAT), Some(&[50][..]));
    assert_eq!(request.payload, b"{}");
    assert_eq!(request.token.as_bytes().len(), 8, "RFC 7252 section 5.3.1");
    script.answer(&request, Code::CHANGED, &[], b"");
    let ended = client.end();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(0), "acknowledged: 2.04 Changed\n")
    );

    let client = script.client(&["pub", "-t", "a", "--null", "-r"]);
    let request = script.receive();
    assert_eq!(request.code, Code::DELETE);
    assert_eq!(request.query, ["qos=0"]);
    script.answer(&request, Code::DELETED, &[], b"");
    client.succeeds();
}

#[test]
fn rfc7252_5_2_2_an_answer_may_come_in_a_message_of_its_own() {
    let mut script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let request = script.receive();
    script.empty(Kind::Acknowledgement, request.id);
    let kind = Kind::Confirmable;
    script.send(kind, Code::CHANGED, 100, request.token, &[], b"");
    script.expect_empty(Kind::Acknowledgement, 100);
    client.succeeds();
}

#[test]
fn rfc9175_2_3_an_echo_is_repeated() {
    let mut script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let request = script.receive();
    assert_eq!(request.first(number::ECHO), None);
    script.answer(
        &request,
        Code::UNAUTHORIZED,
        &[(number::ECHO, b"fresh")],
        b"",
    );
    let again = script.receive();
    assert_eq!(again.first(number::ECHO), Some(&b"fresh"[..]));
    assert_eq!(
        (again.payload.as_slice(), &again.path),
        (&b"x"[..], &request.path)
    );
    assert_ne!(again.id, request.id);
    script.answer(&again, Code::CHANGED, &[], b"");
    client.succeeds();

    // Without an Echo it is a refusal.
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let request = script.receive();
    script.answer(&request, Code::UNAUTHORIZED, &[], b"who are you?");
    let text = "the gateway refused a message to a: 4.01 Unauthorized: who are you?";
    client.fails(3, text);
}

#[test]
fn rfc7641_3_4_a_notification_that_was_overtaken_is_not_told() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-n", "4", "--json"]);
    let request = script.receive();
    assert_eq!(
        (request.code, request.first(OBSERVE)),
        (Code::GET, Some(&[][..]))
    );
    script.answer(&request, Code::CONTENT, &[(OBSERVE, &[5])], b"5");
    let tell = |script: &Script, kind, id, number: u8| {
        let payload = number.to_string();
        let options = [(OBSERVE, &[number][..])];
        script.send(
            kind,
            Code::CONTENT,
            id,
            request.token,
            &options,
            payload.as_bytes(),
        );
    };
    tell(&script, Kind::NonConfirmable, 1, 7);
    tell(&script, Kind::NonConfirmable, 2, 6);
    tell(&script, Kind::NonConfirmable, 1, 7);
    tell(&script, Kind::Confirmable, 3, 8);
    script.expect_empty(Kind::Acknowledgement, 3);
    // Lost acknowledgement: the same again is acknowledged again.
    tell(&script, Kind::Confirmable, 3, 8);
    script.expect_empty(Kind::Acknowledgement, 3);
    tell(&script, Kind::NonConfirmable, 4, 9);
    let end = script.receive();
    assert_eq!((end.code, end.first(OBSERVE)), (Code::GET, Some(&[1][..])));
    assert_eq!(end.token, request.token, "section 3.6");
    assert_eq!(end.path, request.path);
    script.answer(&end, Code::CONTENT, &[], b"9");
    let lines = client.succeeds();
    let told: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|it| (it["payload"].as_str().unwrap(), it["qos"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("5", 0), ("7", 0), ("8", 1), ("9", 0)]);
}

#[test]
fn rfc7252_4_3_pings_are_answered_and_sent_when_nothing_comes() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a/+", "-k", "1", "--ack-timeout", "50ms"]);
    let request = script.receive();
    let fresh = [(OBSERVE, &[1][..]), (number::MAX_AGE, &[255, 255])];
    script.answer(&request, Code::CONTENT, &fresh, b"");
    script.empty(Kind::Confirmable, 77);
    script.expect_empty(Kind::Reset, 77);
    let ping = script.receive();
    assert_eq!((ping.kind, ping.code), (Kind::Confirmable, Code::EMPTY));
    script.empty(Kind::Reset, ping.id);
    // The next one is not answered, and neither are its repetitions.
    let ping = script.receive();
    for _ in 0..4 {
        assert_eq!(script.receive().id, ping.id);
    }
    client.fails(1, "the gateway did not answer a ping in time");
}

#[test]
fn rfc7641_3_3_1_what_is_no_longer_fresh_is_registered_again() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-n", "2"]);
    let request = script.receive();
    // Fresh for no time at all; the client waits 5 to 15 seconds.
    let stale = [(OBSERVE, &[9][..]), (number::MAX_AGE, &[])];
    script.answer(&request, Code::CONTENT, &stale, b"1");
    let again = script.receive();
    assert_eq!(
        (again.token, again.first(OBSERVE)),
        (request.token, Some(&[][..]))
    );
    assert_eq!(again.options, request.options, "all options are the same");
    // The same value is not told again, and the numbers begin anew.
    script.answer(&again, Code::CONTENT, &[(OBSERVE, &[1])], b"1");
    let options = [(OBSERVE, &[2][..])];
    script.send(
        Kind::NonConfirmable,
        Code::CONTENT,
        1,
        request.token,
        &options,
        b"2",
    );
    let end = script.receive();
    script.answer(&end, Code::CONTENT, &[], b"");
    assert_eq!(client.succeeds(), "1\n2\n");
}

#[test]
fn an_observation_that_is_not_one_is_said() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a"]);
    let request = script.receive();
    script.answer(&request, Code::CONTENT, &[], b"x");
    client.fails(
        3,
        "refused the filter a: 2.05 Content: it is read, and not observed",
    );

    let client = script.client(&["sub", "-t", "a"]);
    let request = script.receive();
    script.answer(&request, Code::CONTENT, &[(OBSERVE, &[1])], b"");
    script.send(
        Kind::Confirmable,
        Code::NOT_FOUND,
        9,
        request.token,
        &[],
        b"it is gone",
    );
    script.expect_empty(Kind::Acknowledgement, 9);
    client.fails(3, "refused the filter a: 4.04 Not Found: it is gone");
}

#[test]
fn rfc7641_3_6_the_notification_of_somebody_else_is_reset() {
    let mut script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let request = script.receive();
    let other = tidegate_coap::codec::Token::new(b"old").unwrap();
    let options = [(OBSERVE, &[1][..])];
    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        script.send(kind, Code::CONTENT, 5, other, &options, b"x");
        script.expect_empty(Kind::Reset, 5);
    }
    script.answer(&request, Code::CHANGED, &[], b"");
    client.succeeds();
}

#[test]
fn a_gateway_that_refuses_to_read_is_said() {
    let mut script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let request = script.receive();
    script.empty(Kind::Reset, request.id);
    client.fails(
        1,
        "the gateway broke the protocol: it answered a request with Reset",
    );
}

#[test]
fn rfc7252_4_2_a_gateway_that_vanishes_is_given_up() {
    let mut script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x", "--ack-timeout", "50ms"]);
    let request = script.receive();
    for _ in 0..4 {
        let again = script.receive();
        assert_eq!((again.id, again.token), (request.id, request.token));
    }
    client.fails(1, "the gateway did not answer a request in time");
    let client = script.client(&["pub", "-t", "a", "-m", "x", "-W", "100ms"]);
    client.fails(4, "it was not done in time");
    // Nobody is there, and the system says so.
    let url = script.url();
    drop(script);
    let text = format!("{url}/ps cannot be reached: Connection refused");
    fails(&url, &["pub", "-t", "a", "-m", "x"], 1, &text);
    fails(&url, &["sub", "-t", "a"], 1, &text);
}

#[test]
fn options_that_mean_nothing_over_coap_are_refused() {
    let publish = ["pub", "-t", "t", "-m", "x"];
    let subscribe = ["sub", "-t", "t"];
    let long = "x".repeat(256);
    for (command, options, text) in [
        (
            &publish[..],
            &["--will-topic", "w", "--receive-maximum", "1"][..],
            "--receive-maximum, --will-topic: CoAP",
        ),
        (
            &publish,
            &["-c", "-i", "me"],
            "--resume: CoAP has nothing of the kind",
        ),
        (
            &subscribe,
            &["-c", "-i", "me"],
            "need --id and, over CoAP, --qos 1 or 2",
        ),
        (
            &subscribe,
            &["--session-expiry", "1", "-q", "1"],
            "need --id and, over CoAP",
        ),
        (
            &publish,
            &["-V", "3.1.1"],
            "--mqtt-version: CoAP has nothing of the kind",
        ),
        (
            &publish,
            &["--receive-maximum", "1"],
            "--receive-maximum: CoAP",
        ),
        (&publish, &["--topic-alias", "1"], "--topic-alias: CoAP"),
        (
            &publish,
            &["--user-property", "a=b"],
            "--user-property: CoAP",
        ),
        (
            &publish,
            &["--content-type", "text/x-mine"],
            "text/x-mine has no Content-Format",
        ),
        (&publish, &["--early-data"], "--early-data is for QUIC"),
        (
            &publish,
            &["--ca", "ca.pem"],
            "are for TLS; the URL says coap",
        ),
        (
            &publish,
            &["-i", &long],
            "an argument of the query is longer than 255 bytes",
        ),
        (&subscribe, &["--no-local"], "--no-local: CoAP"),
        (
            &subscribe,
            &["--subscription-id", "1"],
            "--subscription-id: CoAP",
        ),
        (&subscribe, &["--data-stream"], "--data-stream is for QUIC"),
    ] {
        let arguments = [command, options].concat();
        fails("coap://127.0.0.1:1", &arguments, 2, text);
    }
    let ended = run(
        "mqtt://127.0.0.1:1",
        &[&publish[..], &["--ack-timeout", "1s"]].concat(),
    );
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("--ack-timeout is for CoAP"),
        "{}",
        ended.stderr
    );
}
