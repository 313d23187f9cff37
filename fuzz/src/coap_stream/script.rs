//! What is done: a byte for who does what, and the bytes behind it for how.

use std::time::Duration;

use tidegate_coap::codec::{Block, Code, Token, Writer, number};

use super::Scenario;
use super::ask::{Ask, room};
use super::gateway::Said;
use super::link::{Link, Meaning};
use super::log::ELSEWHERE;
use crate::input::Input;

/// What is done.
const ACTIONS: u8 = 21;

/// Bytes of a message that a client may say it takes; the first: it says nothing.
const SIZES: [Option<u32>; 8] = [
    None,
    Some(0),
    Some(64),
    Some(200),
    Some(1_152),
    Some(1_300),
    Some(4_000),
    Some(100_000),
];

/// Most requests at once: their answers are more than is written to somebody who does not read.
const MOST_REPEATED: usize = 40;

impl Scenario {
    pub(super) async fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let of = usize::from(what & 3) % ELSEWHERE;
        // It goes out with the next.
        let waits = what & 0x80 != 0;
        let what = (what >> 2 & 0x1F) % ACTIONS;
        if self.links[of].is_none() {
            self.connect(of, input);
        }
        match what {
            0 => self.put(of, input),
            1 => self.get(of, input),
            2 => self.observe(of, input),
            3 => self.deregister(of, input),
            4 => self.block(of, input),
            5 => {
                let mut ask = Ask::of_topic(Code::DELETE, of, input.byte());
                ask.adorn(input);
                self.ask(of, ask);
            }
            6 => self.fetch(of, input),
            7 => self.repeat(of, input),
            8 => {
                let token = self.token(input.byte());
                let custody = input.byte() % 2 == 1;
                let bytes = signal(Code::PING, &token, custody_of(custody), b"");
                self.say(of, &bytes, Meaning::Ping { token, custody });
            }
            9 => self.pong(of),
            10 => self.csm(of, input.byte()),
            11 => {
                let bytes = match input.byte() % 3 {
                    0 => signal(Code::RELEASE, b"", &[(2, b"coap+tcp://x"), (4, &[3])], b""),
                    1 => signal(Code::RELEASE, b"bye", &[(6, b"elective")], b"bye"),
                    _ => signal(Code::RELEASE, b"", &[], b""),
                };
                self.say(of, &bytes, Meaning::Release);
            }
            12 => {
                let bytes = signal(Code::ABORT, b"", &[(2, &[9])], input.bytes(3));
                self.say(of, &bytes, Meaning::Abort);
            }
            13 => self.breach(of, input.byte()),
            14 => {
                let len = usize::from(input.byte() % 64);
                let bytes = input.bytes(len);
                if !bytes.is_empty() {
                    self.say(of, bytes, Meaning::Rubbish);
                }
            }
            15 => {
                let bytes = match input.byte() % 4 {
                    0 => vec![0, 0],
                    1 => signal(Code::PONG, b"x", &[(2, &[])], b""),
                    2 => signal(Code::CONTENT, b"x", &[(number::OBSERVE, &[5])], b"news"),
                    _ => signal(Code::new(3, 1), b"", &[], b"what"),
                };
                self.say(of, &bytes, Meaning::Nothing);
            }
            16 => return self.cut(of).await,
            17 => self.link(of, |link| link.set_reads(!link.reads())),
            18 => self.store(input.byte()),
            19 => self.publish(input),
            _ => match input.byte() {
                0 => self.wait(Duration::from_secs(3)).await,
                some => {
                    let most = usize::from(some);
                    self.send(of, most);
                }
            },
        }
        if what < 20 && !waits {
            self.send(of, usize::MAX);
        }
        self.settle().await;
    }

    fn link(&mut self, of: usize, work: impl FnOnce(&mut Link)) {
        if let Some(link) = &mut self.links[of] {
            work(link);
        }
    }

    fn say(&mut self, of: usize, bytes: &[u8], meaning: Meaning) {
        self.link(of, |link| link.say(bytes, meaning));
    }

    fn send(&mut self, of: usize, most: usize) {
        if let Some(link) = &mut self.links[of] {
            link.send(most, &self.log);
        }
    }

    fn connect(&mut self, of: usize, input: &mut Input<'_>) {
        let how = input.byte();
        let window = match how >> 6 {
            0 => usize::MAX,
            1 => 256,
            2 => 2_048,
            _ => 16_384,
        };
        let stream = self.gateway.accept(window);
        self.links[of] = Some(Link::new(of, stream, &self.log));
        if how & 0x20 == 0 {
            self.csm(of, how & 0x1F);
        }
    }

    // ---- requests ---------------------------------------------------------------------------

    /// A token that nobody has; it may be long.
    fn token(&mut self, how: u8) -> Vec<u8> {
        self.counter += 1;
        let mut token = self.counter.to_be_bytes()[1..].to_vec();
        token.resize(3 + usize::from(how % 6), how);
        token
    }

    /// Bytes that nobody has said.
    fn payload(&mut self, len: usize) -> Vec<u8> {
        self.counter += 1;
        let mut payload = self.counter.to_be_bytes().to_vec();
        payload.resize(len.max(4), self.counter as u8);
        payload.truncate(len);
        payload
    }

    fn ask(&mut self, of: usize, mut ask: Ask) {
        if ask.token.is_empty() {
            ask.token = self.token(self.counter as u8);
        }
        let mut bytes = Vec::new();
        ask.write(&mut bytes);
        self.say(of, &bytes, Meaning::Ask(Box::new(ask)));
    }

    fn put(&mut self, of: usize, input: &mut Input<'_>) {
        let which = input.byte();
        let code = if which & 4 == 0 {
            Code::PUT
        } else {
            Code::POST
        };
        let mut ask = Ask::of_topic(code, of, which);
        let len = match input.byte() {
            small @ 0..128 => usize::from(small),
            large => usize::from(large - 128) * 48,
        };
        ask.payload = self.payload(len);
        if which & 8 == 8 {
            ask.queries.push("retain");
        }
        ask.adorn(input);
        self.ask(of, ask);
    }

    /// Of a topic of any room, or of what a filter matches.
    fn some(&mut self, code: Code, input: &mut Input<'_>) -> Ask {
        let which = input.byte();
        if which & 3 == 3 {
            return Ask::of_filter(code, which >> 2);
        }
        let room = usize::from(which & 3);
        Ask::of_topic(code, room, which >> 2)
    }

    fn get(&mut self, of: usize, input: &mut Input<'_>) {
        let mut ask = self.some(Code::GET, input);
        let block = input.byte();
        if block & 0x80 == 0x80 {
            ask.block2 = Some(Block {
                num: u32::from(block >> 3 & 7),
                more: false,
                szx: block & 7,
            });
        }
        ask.adorn(input);
        self.ask(of, ask);
    }

    fn observe(&mut self, of: usize, input: &mut Input<'_>) {
        let mut ask = self.some(Code::GET, input);
        ask.observe = Some(0);
        let how = input.byte();
        if let Some(link) = &self.links[of]
            && how & 0x80 == 0x80
            && link.is_idle()
            && let Some(watch) = link.watches.first()
        {
            // The same once more, or something else in place of it. What a refusal would mean for what was observed
            // before is said nowhere.
            ask.token = watch.token.clone();
            self.ask(of, ask);
            // Before anything else is published.
            return self.send(of, usize::MAX);
        }
        match how & 7 {
            0 => ask.queries.push("qos=1"),
            1 => ask.queries.extend(["c=me", "qos=1"]),
            2 => ask.queries.extend(["c=me", "session_expiry=30"]),
            3 => {
                ask.block2 = Some(Block {
                    num: 0,
                    more: false,
                    szx: how >> 3 & 7,
                });
            }
            _ => {}
        }
        ask.adorn(input);
        ask.hears_success();
        self.ask(of, ask);
    }

    fn deregister(&mut self, of: usize, input: &mut Input<'_>) {
        let which = usize::from(input.byte());
        let Some(link) = &self.links[of] else {
            return;
        };
        // One that was answered: nothing else has its token.
        let all = link.watches.iter();
        let watches: Vec<_> = all
            .filter(|watch| watch.has_begun() && !watch.is_ending)
            .collect();
        if watches.is_empty() {
            return;
        }
        let watch = watches[which % watches.len()];
        let mut ask = Ask::of_path(Code::GET, &watch.filter);
        ask.token = watch.token.clone();
        ask.observe = Some(1);
        self.ask(of, ask);
    }

    /// A part of a body: mostly the next.
    fn block(&mut self, of: usize, input: &mut Input<'_>) {
        let (which, how) = (input.byte(), input.byte());
        let mut ask = Ask::of_topic(Code::PUT, of, which);
        let szx = [0, 2, 6, 7][usize::from(how & 3)];
        let more = how & 4 == 0;
        ask.queries.push("retain");
        ask.adorn(input);
        let mut block = Block { num: 0, more, szx };
        let begun = self.links[of].as_ref();
        let begun = begun.and_then(|link| link.transfers.get(&ask.key()));
        block.num = match how >> 3 & 7 {
            0 => 0,
            1 => u32::from(input.byte() % 8),
            _ => (begun.map_or(0, Vec::len) / block.size()) as u32,
        };
        let len = match how >> 6 {
            0 => usize::from(input.byte() % 40),
            1 if block.is_bert() => 3 * block.size(),
            _ => block.size(),
        };
        ask.block1 = Some(block);
        ask.payload = self.payload(len);
        self.ask(of, ask);
    }

    /// The rest of what an observer was told.
    fn fetch(&mut self, of: usize, input: &mut Input<'_>) {
        let how = input.byte();
        let Some(link) = &self.links[of] else {
            return;
        };
        let parted = link.watches.iter().find(|watch| watch.parted.is_some());
        let Some((watch, body)) = parted.and_then(|it| Some((it, it.parted.as_ref()?))) else {
            return;
        };
        let szx = how & 7;
        let mut block = Block {
            num: 1,
            more: false,
            szx,
        };
        if how & 8 == 8 {
            // The end of it.
            block.num = (body.len().saturating_sub(1) / block.size()).max(1) as u32;
        } else {
            block.num = u32::from(how >> 4).max(1);
        }
        let mut ask = Ask::of_path(Code::GET, &watch.filter);
        ask.block2 = Some(block);
        self.ask(of, ask);
    }

    /// Many requests at once.
    fn repeat(&mut self, of: usize, input: &mut Input<'_>) {
        let count = usize::from(input.byte()) % MOST_REPEATED;
        let mut ask = self.some(Code::GET, input);
        ask.adorn(input);
        if ask.observe.is_some() {
            return;
        }
        for _ in 0..count {
            self.ask(of, ask.clone());
        }
    }

    // ---- signals ----------------------------------------------------------------------------

    fn csm(&mut self, of: usize, how: u8) {
        let most = SIZES[usize::from(how & 7)];
        let mut bytes = Vec::new();
        let mut writer = Writer::frame(&mut bytes, Code::CSM, Token::default());
        if let Some(most) = most {
            writer.uint(2, most);
        }
        if how & 8 == 8 {
            writer.option(4, &[]);
        }
        if how & 16 == 16 {
            writer.option(6, b"elective");
        }
        writer.payload(&[]);
        self.say(of, &bytes, Meaning::Csm(most));
    }

    /// Answers what the gateway has asked.
    fn pong(&mut self, of: usize) {
        self.link(of, |link| {
            for (token, custody) in std::mem::take(&mut link.pings) {
                let bytes = signal(Code::PONG, &token, custody_of(custody), b"");
                link.say(&bytes, Meaning::Nothing);
            }
        });
    }

    /// Something that ends the connection.
    fn breach(&mut self, of: usize, how: u8) {
        let (bytes, option) = match how % 11 {
            0 => (signal(Code::CSM, b"", &[(5, b"")], b""), Some(5)),
            1 => (signal(Code::CSM, b"", &[(2, &[0; 5])], b""), Some(2)),
            2 => (signal(Code::PING, b"", &[(1, b"")], b""), None),
            3 => (signal(Code::PONG, b"", &[(3, b"")], b""), None),
            4 => (signal(Code::RELEASE, b"", &[(7, b"")], b""), None),
            5 => (signal(Code::new(7, how >> 4 | 8), b"", &[], b""), None),
            // A token that is too long, and a message.
            6 => (vec![9 + how % 7, 1], None),
            7 => (vec![0xF0, 0xFF, 0, 0, 0, 1], None),
            // Nothing behind the marker, and options that end before they do.
            8 => (vec![0x10, 1, 0xFF], None),
            9 => (vec![0x10, 1, 0x05], None),
            _ => (vec![0x20, 1, 0xF0, 0], None),
        };
        self.say(of, &bytes, Meaning::Breach(option));
    }

    // ---- others -----------------------------------------------------------------------------

    fn store(&mut self, how: u8) {
        match how % 3 {
            0 => {
                self.store_waits = true;
                self.gateway.hold_store(true);
            }
            how => {
                self.store_waits = false;
                self.store_failed |= how == 2;
                self.gateway.hold_store(false);
                self.gateway.complete_store(how == 1);
            }
        }
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let how = input.byte();
        for _ in 0..=how >> 4 {
            let len = usize::from(input.byte()) * 8;
            let said = Said {
                topic: format!("{}/a", room(ELSEWHERE)),
                payload: self.payload(len),
                retain: how & 1 == 1,
            };
            self.gateway.publish(&said);
        }
        // What goes out in the same step comes after it.
        self.log.take(self.gateway.heard());
    }
}

/// The option of Ping and Pong about all that came before.
const fn custody_of(custody: bool) -> &'static [(u16, &'static [u8])] {
    if custody { &[(2, &[])] } else { &[] }
}

/// A message of few options, as no request is.
fn signal(code: Code, token: &[u8], options: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let token = Token::new(token).expect("a token");
    let mut writer = Writer::frame(&mut bytes, code, token);
    for (number, value) in options {
        writer.option(*number, value);
    }
    writer.payload(payload);
    bytes
}
