//! Observations that are registered again, and values that change while they are fetched: against a script.

use tidegate_coap::codec::{Code, Kind, number};

use super::script::{Received, Script};

const OBSERVE: u16 = number::OBSERVE;

/// Fresh for longer than any test takes.
const FRESH: (u16, &[u8]) = (number::MAX_AGE, &[255, 255]);

/// A registration is answered: it stands, and this is the value.
fn accept(script: &Script, request: &Received, payload: &[u8]) {
    let options = [(OBSERVE, &[1][..]), FRESH];
    script.answer(request, Code::CONTENT, &options, payload);
}

#[test]
fn every_observation_that_may_be_lost_is_registered_again_after_a_silence() {
    // One with wildcards is registered again where it has a session; elsewhere what is retained would come once more.
    let session = ["-t", "a", "-t", "b", "-t", "c/+", "-i", "me", "-q", "1"];
    let without = ["-t", "a", "-t", "b", "-t", "c/+", "-q", "1"];
    for (options, again) in [
        (&session[..], &["a", "b", "c"][..]),
        (&without, &["a", "b"]),
    ] {
        let mut script = Script::listen();
        let client = script.client(&[&["sub", "-k", "1", "-n", "1"], options].concat());
        let mut registered = Vec::new();
        for _ in 0..3 {
            let request = script.receive();
            accept(&script, &request, b"");
            registered.push(request);
        }
        for (topic, before) in again.iter().zip(&registered) {
            let request = script.receive();
            assert_eq!(request.path[1], *topic);
            assert_eq!(
                (request.token, &request.options),
                (before.token, &before.options)
            );
            accept(&script, &request, b"");
        }
        let options = [(OBSERVE, &[2][..])];
        let token = registered[0].token;
        script.send(
            Kind::NonConfirmable,
            Code::CONTENT,
            1,
            token,
            &options,
            b"x",
        );
        for _ in 0..3 {
            let end = script.receive();
            assert_eq!(end.first(OBSERVE), Some(&[1][..]));
            script.answer(&end, Code::CONTENT, &[], b"");
        }
        assert_eq!(client.succeeds(), "x\n");
    }
}

#[test]
fn rfc7641_3_3_1_a_notification_that_overtakes_the_answer_to_a_registration_is_told() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-q", "1", "-k", "1", "-n", "4"]);
    let request = script.receive();
    accept(&script, &request, b"same");
    let again = script.receive();
    assert_eq!(again.token, request.token);
    // The same text twice, and none: each was published, and is acknowledged.
    for (id, payload) in [(50, &b"same"[..]), (51, b""), (52, b"same")] {
        let options = [(OBSERVE, &[id as u8][..])];
        script.send(
            Kind::Confirmable,
            Code::CONTENT,
            id,
            request.token,
            &options,
            payload,
        );
        script.expect_empty(Kind::Acknowledgement, id);
    }
    let end = script.receive();
    assert_eq!(end.first(OBSERVE), Some(&[1][..]));
    script.answer(&end, Code::CONTENT, &[], b"");
    assert_eq!(client.succeeds(), "same\nsame\n\nsame\n");
}

#[test]
fn a_registration_that_is_refused_the_second_time_is_said() {
    for (code, payload, text) in [
        (
            Code::FORBIDDEN,
            &b"no longer"[..],
            "refused the filter a: 4.03 Forbidden: no longer",
        ),
        (
            Code::CONTENT,
            b"x",
            "refused the filter a: 2.05 Content: it is read, and not observed",
        ),
    ] {
        let mut script = Script::listen();
        let client = script.client(&["sub", "-t", "a", "-k", "1"]);
        let request = script.receive();
        accept(&script, &request, b"");
        let again = script.receive();
        script.answer(&again, code, &[], payload);
        client.fails(3, text);
    }
}

#[test]
fn rfc9175_2_3_an_echo_that_a_registration_anew_is_asked_for_comes_with_its_token() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-k", "1", "-n", "1"]);
    let request = script.receive();
    accept(&script, &request, b"");
    let again = script.receive();
    let echo = [(number::ECHO, &b"fresh"[..])];
    script.answer(&again, Code::UNAUTHORIZED, &echo, b"");
    let proved = script.receive();
    assert_eq!(proved.first(number::ECHO), Some(&b"fresh"[..]));
    assert_eq!(proved.token, request.token);
    accept(&script, &proved, b"x");
    let end = script.receive();
    script.answer(&end, Code::CONTENT, &[], b"");
    assert_eq!(client.succeeds(), "x\n");
}

#[test]
fn rfc7959_2_4_a_value_that_changes_faster_than_it_can_be_fetched_ends_nothing() {
    let mut script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-n", "1"]);
    let request = script.receive();
    accept(&script, &request, b"");
    let part = [b'x'; 16];
    let first = [
        (number::ETAG, &[0][..]),
        (OBSERVE, &[2]),
        (number::BLOCK2, &[0x08]),
    ];
    script.send(
        Kind::NonConfirmable,
        Code::CONTENT,
        1,
        request.token,
        &first,
        &part,
    );
    for restart in 1..=4 {
        let next = script.receive();
        assert_eq!(next.first(number::BLOCK2), Some(&[0x10][..]));
        assert_eq!(next.first(OBSERVE), None, "section 3.4");
        let etag = [restart];
        let changed = [(number::ETAG, &etag[..]), (number::BLOCK2, &[0x18])];
        script.answer(&next, Code::CONTENT, &changed, &part);
        if restart < 4 {
            let anew = script.receive();
            assert_eq!(anew.first(number::BLOCK2), None);
            let begins = [(number::ETAG, &etag[..]), (number::BLOCK2, &[0x08])];
            script.answer(&anew, Code::CONTENT, &begins, &part);
        }
    }
    let options = [(OBSERVE, &[3][..])];
    let kind = Kind::NonConfirmable;
    script.send(kind, Code::CONTENT, 2, request.token, &options, b"calm");
    let end = script.receive();
    assert_eq!(end.first(OBSERVE), Some(&[1][..]));
    // What there is to read is not fetched by who leaves.
    let large = [(number::BLOCK2, &[0x08][..])];
    script.answer(&end, Code::CONTENT, &large, &part);
    let ended = client.end();
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "calm\n"));
    let text =
        "could not be fetched: 2.05 Content: it changes faster than its blocks can be fetched";
    assert!(ended.stderr.contains(text), "{}", ended.stderr);
}

#[test]
fn a_message_of_which_the_rest_was_not_there_in_time_is_said_to_who_wants_every_one() {
    for (options, is_said) in [(&["-q", "1"][..], true), (&[], false)] {
        let mut script = Script::listen();
        let client = script.client(&[&["sub", "-t", "a", "-n", "1"], options].concat());
        let request = script.receive();
        accept(&script, &request, b"");
        let tell = |script: &Script, id: u16, options: &[(u16, &[u8])], payload: &[u8]| {
            let kind = Kind::Confirmable;
            script.send(kind, Code::CONTENT, id, request.token, options, payload);
        };
        let first = [(OBSERVE, &[2][..]), (number::BLOCK2, &[0x08])];
        tell(&script, 60, &first, &[b'x'; 16]);
        script.expect_empty(Kind::Acknowledgement, 60);
        assert_eq!(script.receive().first(number::BLOCK2), Some(&[0x10][..]));
        tell(&script, 61, &[(OBSERVE, &[3])], b"newer");
        script.expect_empty(Kind::Acknowledgement, 61);
        let end = script.receive();
        assert_eq!(end.first(OBSERVE), Some(&[1][..]));
        script.answer(&end, Code::CONTENT, &[], b"");
        let ended = client.end();
        assert_eq!((ended.code, &*ended.stdout), (Some(0), "newer\n"));
        let text =
            "could not be fetched: 2.05 Content: a newer one came before all of it was there";
        assert_eq!(ended.stderr.contains(text), is_said, "{}", ended.stderr);
    }
}
