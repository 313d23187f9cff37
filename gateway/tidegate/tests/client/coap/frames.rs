//! Over a byte stream, against a script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use tidegate_coap::codec::{
    Code, Csm, Options, Release, Signal, Split, Token, Writer, number, split,
};

use super::run::{PATIENCE, fails};
use super::script::{Client, Received};

/// A gateway that is a script.
struct Script(TcpListener);

struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Script {
    fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("coap+tcp://{}", self.0.local_addr().unwrap())
    }

    fn client(&self, arguments: &[&str]) -> Client {
        Client::start(&self.url(), arguments)
    }

    /// Somebody who has said what it can do, and is told what this can do.
    fn accept(&self, max_message_size: Option<u32>) -> Peer {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer {
            stream,
            buffer: Vec::new(),
        };
        let csm = peer.receive();
        assert_eq!(csm.code, Code::CSM, "section 5.3");
        assert!(csm.first(4).is_some(), "it knows blocks");
        peer.signal(&Signal::Csm(Csm {
            max_message_size,
            block_wise: true,
        }));
        peer
    }
}

impl Peer {
    fn receive(&mut self) -> Received {
        loop {
            if let Split::Frame(frame) = split(&self.buffer, 1 << 24).unwrap() {
                let options: Options<'_> = frame.options;
                let received = Received::of(None, frame.code, frame.token, options, frame.payload);
                let len = frame.len;
                self.buffer.drain(..len);
                return received;
            }
            let mut bytes = [0; 4096];
            let len = self.stream.read(&mut bytes).expect("a message in time");
            assert_ne!(len, 0, "the client closed");
            self.buffer.extend_from_slice(&bytes[..len]);
        }
    }

    fn signal(&mut self, signal: &Signal<'_>) {
        let mut bytes = Vec::new();
        signal.write(Token::default(), &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    fn answer(&mut self, token: Token, code: Code, options: &[(u16, &[u8])], payload: &[u8]) {
        let mut bytes = Vec::new();
        let mut writer = Writer::frame(&mut bytes, code, token);
        for (number, value) in options {
            writer.option(*number, value);
        }
        writer.payload(payload);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The client says goodbye and closes.
    fn expect_goodbye(mut self) {
        assert_eq!(self.receive().code, Code::RELEASE, "section 5.5");
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn rfc8323_5_3_capabilities_come_first_and_a_release_last() {
    let script = Script::listen();
    let client = script.client(&["pub", "-t", "a", "-m", "x", "-n", "2"]);
    let mut peer = script.accept(None);
    for _ in 0..2 {
        let request = peer.receive();
        assert_eq!((request.code, &request.payload[..]), (Code::PUT, &b"x"[..]));
        peer.answer(request.token, Code::CHANGED, &[], b"");
    }
    peer.expect_goodbye();
    client.succeeds();
}

#[test]
fn rfc8323_5_3_1_a_body_that_is_too_long_for_a_message_goes_in_blocks() {
    let script = Script::listen();
    let body = "x".repeat(3000);
    for (most, blocks) in [(None, 3), (Some(2000), 3), (Some(10_000), 1)] {
        let client = script.client(&["pub", "-t", "a", "-m", &body]);
        let mut peer = script.accept(most);
        let mut came = 0;
        for at in 0..blocks {
            let request = peer.receive();
            came += request.payload.len();
            let block = request.first(number::BLOCK1).map(<[u8]>::to_vec);
            assert_eq!(block.is_some(), blocks > 1);
            let is_last = at + 1 == blocks;
            let code = if is_last {
                Code::CHANGED
            } else {
                Code::CONTINUE
            };
            let options: Vec<_> = block.iter().map(|it| (number::BLOCK1, &it[..])).collect();
            peer.answer(request.token, code, &options, b"");
        }
        assert_eq!(came, 3000);
        peer.expect_goodbye();
        client.succeeds();
    }
}

#[test]
fn rfc8323_6_an_answer_in_bert_blocks_is_put_together() {
    let script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-n", "1"]);
    let mut peer = script.accept(Some(10_000));
    let request = peer.receive();
    // Three blocks at once, and two more.
    let options = [(number::OBSERVE, &[1][..]), (number::BLOCK2, &[0x0F])];
    peer.answer(request.token, Code::CONTENT, &options, &[b'a'; 3072]);
    let rest = peer.receive();
    assert_eq!(rest.first(number::BLOCK2), Some(&[0x37][..]));
    assert_eq!(rest.first(number::OBSERVE), None);
    peer.answer(
        rest.token,
        Code::CONTENT,
        &[(number::BLOCK2, &[0x37])],
        &[b'b'; 1500],
    );
    let end = peer.receive();
    assert_eq!(end.first(number::OBSERVE), Some(&[1][..]));
    peer.answer(end.token, Code::CONTENT, &[], b"");
    peer.expect_goodbye();
    let expected = format!("{}{}\n", "a".repeat(3072), "b".repeat(1500));
    assert!(client.succeeds() == expected);
}

#[test]
fn rfc8323_7_1_notifications_are_in_order_whatever_their_numbers() {
    let script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-n", "3"]);
    let mut peer = script.accept(None);
    let request = peer.receive();
    for (observe, payload) in [(&[9][..], b"1"), (&[], b"2"), (&[5], b"3")] {
        let options = [(number::OBSERVE, observe)];
        peer.answer(request.token, Code::CONTENT, &options, payload);
    }
    let end = peer.receive();
    peer.answer(end.token, Code::CONTENT, &[], b"");
    peer.expect_goodbye();
    assert_eq!(client.succeeds(), "1\n2\n3\n");
}

#[test]
fn rfc8323_5_4_pings_are_answered_and_sent_when_nothing_comes() {
    let script = Script::listen();
    let client = script.client(&["sub", "-t", "a", "-k", "1"]);
    let mut peer = script.accept(None);
    let request = peer.receive();
    let options = [(number::OBSERVE, &[1][..]), (number::MAX_AGE, &[255, 255])];
    peer.answer(request.token, Code::CONTENT, &options, b"");
    peer.signal(&Signal::Ping { custody: true });
    let pong = peer.receive();
    assert_eq!(pong.code, Code::PONG);
    assert!(pong.first(2).is_some(), "custody");
    assert_eq!(peer.receive().code, Code::PING);
    // It is not answered.
    client.fails(1, "the gateway did not answer a ping in time");
}

#[test]
fn rfc8323_5_5_and_5_6_a_gateway_that_ends_is_said() {
    let script = Script::listen();
    let client = script.client(&["sub", "-t", "a"]);
    let mut peer = script.accept(None);
    let request = peer.receive();
    let options = [(number::OBSERVE, &[1][..])];
    peer.answer(request.token, Code::CONTENT, &options, b"");
    peer.signal(&Signal::Release(Release::new(None)));
    client.fails(1, "the gateway closed the connection");

    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let mut peer = script.accept(None);
    let request = peer.receive();
    peer.signal(&Signal::Release(Release::new(None)));
    peer.answer(request.token, Code::CHANGED, &[], b"");
    peer.expect_goodbye();
    client.succeeds();

    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let mut peer = script.accept(None);
    peer.receive();
    peer.signal(&Signal::Abort {
        bad_csm_option: None,
        why: "too much",
    });
    client.fails(1, "the gateway aborted the connection: too much");

    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    drop(script.accept(None));
    let ended = client.end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}

#[test]
fn what_is_no_coap_is_said() {
    let script = Script::listen();
    for (bytes, text) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            "the gateway broke the protocol",
        ),
        (b"\x00\x45", "its first message is not CSM"),
        (b"\x0F\xE1", "a token has at most 8 bytes"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "this port speaks TLS"),
    ] {
        let client = script.client(&["pub", "-t", "a", "-m", "x"]);
        let (mut stream, _) = script.0.accept().unwrap();
        stream.write_all(bytes).unwrap();
        client.fails(1, text);
    }
    let url = script.url();
    let client = script.client(&["pub", "-t", "a", "-m", "x"]);
    let (_silent, _) = script.0.accept().unwrap();
    client.fails(
        1,
        "the gateway did not answer the attempt to connect in time",
    );
    drop(script);
    fails(
        &url,
        &["pub", "-t", "a", "-m", "x"],
        1,
        "cannot be reached: Connection refused",
    );
}
