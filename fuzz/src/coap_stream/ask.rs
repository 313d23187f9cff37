//! Requests: what they are on the wire, and what a client may expect of them by `docs/coap.md`.

use tidegate_coap::codec::{Block, Code, Token, Writer, number};

use super::gateway::{LONGEST, Said};
use crate::input::Input;

/// No-Response (RFC 7967) names classes by these bits.
const CLASSES: [u8; 3] = [2, 8, 16];

/// Queries; the last one is not known.
const QUERIES: [&str; 16] = [
    "qos=0",
    "qos=1",
    "qos=2",
    "retain",
    "retain=true",
    "retain=0",
    "c=me",
    "c=late",
    "c=never",
    "c=mute",
    "c=deaf",
    "expiry=1000",
    "session_expiry=30",
    "u=x",
    "rt=tidegate.ps",
    "retian",
];

/// What one connection publishes to, behind its room.
const LEVELS: [&[&str]; 4] = [&["a"], &["b"], &["a", "c"], &["a", ""]];

/// What is observed besides single topics.
const FILTERS: [&[&str]; 4] = [
    &["#"],
    &["+", "a"],
    &["+", "a", "#"],
    &["$share", "g", "+", "b"],
];

/// Who is observed, and publishes: each has a room of its own, so that what was published says who did it.
pub(super) fn room(of: usize) -> String {
    format!("room-{of}")
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) code: Code,
    pub(super) token: Vec<u8>,
    pub(super) path: Vec<String>,
    pub(super) queries: Vec<&'static str>,
    pub(super) observe: Option<u32>,
    pub(super) block1: Option<Block>,
    pub(super) block2: Option<Block>,
    pub(super) payload: Vec<u8>,
    format: Option<u32>,
    size1: Option<u32>,
    tag: Option<u8>,
    pub(super) etag: Option<Vec<u8>>,
    pub(super) accept: Option<u32>,
    no_response: u8,
    unknown: bool,
    proxy: bool,
}

impl Ask {
    /// A request of `from` to one of its own topics, `of` the rooms.
    pub(super) fn of_topic(code: Code, of: usize, which: u8) -> Self {
        let mut path = vec!["ps".to_owned(), room(of)];
        path.extend(
            LEVELS[usize::from(which) % 4]
                .iter()
                .map(|level| (*level).to_owned()),
        );
        Self::new(code, path)
    }

    /// A request for what a filter matches.
    pub(super) fn of_filter(code: Code, which: u8) -> Self {
        let mut path = vec!["ps".to_owned()];
        path.extend(
            FILTERS[usize::from(which) % 4]
                .iter()
                .map(|level| (*level).to_owned()),
        );
        Self::new(code, path)
    }

    /// A request for a topic, or a filter, that was named before.
    pub(super) fn of_path(code: Code, topic: &str) -> Self {
        let path = std::iter::once("ps").chain(topic.split('/'));
        Self::new(code, path.map(str::to_owned).collect())
    }

    fn new(code: Code, path: Vec<String>) -> Self {
        Self {
            code,
            token: Vec::new(),
            path,
            queries: Vec::new(),
            observe: None,
            block1: None,
            block2: None,
            payload: Vec::new(),
            format: None,
            size1: None,
            tag: None,
            etag: None,
            accept: None,
            no_response: 0,
            unknown: false,
            proxy: false,
        }
    }

    /// What else the input says of it.
    pub(super) fn adorn(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        if flags & 3 == 3 {
            for _ in 0..=input.byte() % 3 {
                self.queries.push(QUERIES[usize::from(input.byte()) % 16]);
            }
        }
        if flags & 0x0C == 0x0C {
            match input.byte() % 8 {
                0 => self.unknown = true,
                1 => self.proxy = true,
                2 => self.path = vec!["nowhere".to_owned()],
                3 => self.path = vec![".well-known".to_owned(), "core".to_owned()],
                4 => self.code = Code(5 + input.byte() % 27),
                5 => self.path = vec!["ps".to_owned(), "$SYS".to_owned(), "x".to_owned()],
                6 => self.size1 = Some(u32::from(input.byte()) * 100),
                _ => self.path.truncate(1),
            }
        }
        if flags & 0x30 == 0x30 {
            self.no_response = input.byte() & 26;
        }
        if flags & 0xC0 == 0xC0 {
            match input.byte() % 4 {
                0 => self.format = Some([0, 50, 65_000][usize::from(input.byte()) % 3]),
                1 => self.accept = Some([0, 50, 65_000][usize::from(input.byte()) % 3]),
                2 => self.tag = Some(input.byte() % 2),
                _ => self.etag = Some(vec![input.byte(); 4]),
            }
        }
    }

    /// It wants to hear at least that it was done: notifications look like an answer that was left out.
    pub(super) const fn hears_success(&mut self) {
        self.no_response &= !CLASSES[0];
    }

    /// Its bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let uint = |value: u32| {
            let zeros = value.leading_zeros() as usize / 8;
            value.to_be_bytes()[zeros..].to_vec()
        };
        let mut options: Vec<(u16, Vec<u8>)> = Vec::new();
        for segment in &self.path {
            options.push((number::URI_PATH, segment.as_bytes().to_vec()));
        }
        for query in &self.queries {
            options.push((number::URI_QUERY, query.as_bytes().to_vec()));
        }
        for (number, value) in [
            (number::OBSERVE, self.observe),
            (number::CONTENT_FORMAT, self.format),
            (number::ACCEPT, self.accept),
            (number::SIZE1, self.size1),
            (number::BLOCK1, self.block1.map(Block::bits)),
            (number::BLOCK2, self.block2.map(Block::bits)),
        ] {
            options.extend(value.map(|value| (number, uint(value))));
        }
        if self.no_response > 0 {
            options.push((number::NO_RESPONSE, vec![self.no_response]));
        }
        options.extend(self.etag.clone().map(|etag| (number::ETAG, etag)));
        options.extend(self.tag.map(|tag| (number::REQUEST_TAG, vec![tag])));
        if self.unknown {
            options.push((9, Vec::new()));
        }
        if self.proxy {
            options.push((number::PROXY_URI, b"coap://x".to_vec()));
        }
        options.sort_by_key(|(number, _)| *number);
        let token = Token::new(&self.token).expect("a token");
        let mut writer = Writer::frame(out, self.code, token);
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&self.payload);
    }

    // ---- what it says -----------------------------------------------------------------------

    fn says(&self, query: &str) -> bool {
        self.queries.contains(&query)
    }

    fn last(&self, prefix: &str) -> Option<&'static str> {
        let mut all = self.queries.iter().rev();
        all.find_map(|query| query.strip_prefix(prefix))
    }

    pub(super) fn client(&self) -> Option<&'static str> {
        self.last("c=")
    }

    pub(super) fn retains(&self) -> bool {
        self.last("retain").is_some_and(|value| value != "=0")
    }

    pub(super) fn qos(&self) -> Option<&'static str> {
        self.last("qos=")
    }

    /// The topic, or the filter.
    pub(super) fn topic(&self) -> Option<String> {
        match &self.path[..] {
            [first, levels @ ..] if first == "ps" && !levels.is_empty() => Some(levels.join("/")),
            _ => None,
        }
    }

    pub(super) fn is_links(&self) -> bool {
        self.path
            .first()
            .is_some_and(|first| first == ".well-known")
    }

    /// Whether it asks for what is kept when the observer is away, or may be: what is true of it is not looked at here.
    pub(super) fn asks_for_session(&self) -> bool {
        let named = self.client().is_some() && self.qos().is_some_and(|qos| qos != "0");
        named || self.says("session_expiry=30")
    }

    /// Whether somebody who has asked for this wants to hear it.
    pub(super) fn wants(&self, code: Code) -> bool {
        let bit = match code.class() {
            2 => CLASSES[0],
            4 => CLASSES[1],
            _ => CLASSES[2],
        };
        self.no_response & bit == 0
    }

    /// Whether there are answers that it does not want to hear.
    pub(super) const fn is_quiet(&self) -> bool {
        self.no_response > 0
    }

    /// What tells a body from others that come at the same time.
    pub(super) fn key(&self) -> String {
        let Self {
            code,
            path,
            format,
            tag,
            ..
        } = self;
        let expires = self.says("expiry=1000");
        let (client, qos, retains) = (self.client(), self.qos(), self.retains());
        format!("{code:?} {path:?} {format:?} {tag:?} {client:?} {qos:?} {retains} {expires}")
    }

    /// Whether the body is larger than it may be, or said to be.
    pub(super) fn is_too_large(&self, end: usize) -> bool {
        end.max(self.size1.unwrap_or(0) as usize) > LONGEST
    }

    /// Refusals of what cannot be read, which are told whatever it wants to hear; one of them, whichever.
    pub(super) fn unreadable(&self) -> Vec<Code> {
        let faults = [
            (self.unknown, Code::BAD_OPTION),
            (self.proxy, Code::PROXYING_NOT_SUPPORTED),
            (self.topic().is_none() && !self.is_links(), Code::NOT_FOUND),
            (self.says("retian"), Code::BAD_REQUEST),
        ];
        present(&faults)
    }

    /// Refusals that come before anything is done; one of them, whichever.
    pub(super) fn faults(&self) -> Vec<Code> {
        let is_method = match self.topic() {
            Some(_) => matches!(self.code, Code::GET | Code::PUT | Code::POST | Code::DELETE),
            None => self.code == Code::GET,
        };
        let faults = [
            (self.client() == Some("never"), Code::UNAUTHORIZED),
            (!is_method, Code::METHOD_NOT_ALLOWED),
        ];
        present(&faults)
    }

    /// Refusals to publish; one of them, whichever.
    pub(super) fn publish_faults(&self) -> Vec<Code> {
        let topic = self.topic().unwrap_or_default();
        let may = !topic.starts_with("$SYS") && self.client() != Some("mute");
        let faults = [
            (topic.contains(['+', '#']), Code::BAD_REQUEST),
            (!may, Code::FORBIDDEN),
        ];
        present(&faults)
    }

    /// What it publishes, with this body.
    pub(super) fn said(&self, body: Vec<u8>) -> Said {
        Said {
            topic: self.topic().unwrap_or_default(),
            payload: body,
            retain: self.code == Code::DELETE || self.retains(),
        }
    }
}

fn present(faults: &[(bool, Code)]) -> Vec<Code> {
    let present = faults.iter().filter(|(is_there, _)| *is_there);
    present.map(|(_, code)| *code).collect()
}
