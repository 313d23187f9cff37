//! A client's side of a connection: what it has said, and whether what comes is what may come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_coap::codec::{BASE_MESSAGE_SIZE, Code};
use tokio::time::Instant;

use super::ask::{Ask, room};
use super::expect::{Owed, Values, What};
use super::gateway::{CSM_TIMEOUT, Said};
use super::log::Log;
use super::watch::Watch;
use super::wire::Got;
use crate::pipe::Client;

/// The smallest that a client can say that it takes.
const LEAST: usize = 16;

/// A client that takes less than this may hear that something went wrong, and no more; an observer, nothing.
const TINY: usize = 200;

/// How long a connection that is over waits for its client.
const LINGER: Duration = Duration::from_secs(2);

/// The option of Ping, and of Pong, about all that came before (RFC 8323 section 5.4.1).
const CUSTODY: u16 = 2;

/// The option of Abort that names one of CSM.
const BAD_CSM_OPTION: u16 = 2;

/// A message that the client sends, as the gateway has to take it.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    Csm(Option<u32>),
    Ask(Box<Ask>),
    Ping {
        token: Vec<u8>,
        custody: bool,
    },
    /// It is answered by nothing.
    Nothing,
    Release,
    Abort,
    /// It has to be answered with Abort, which names this option of CSM.
    Breach(Option<u32>),
    /// Any bytes: nobody knows.
    Rubbish,
}

/// What the client has done to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    Released,
    Aborted,
    Breached(Option<u32>),
    Unknown,
}

pub(super) struct Link {
    pub(super) place: usize,
    pub(super) stream: Client,
    born: Instant,
    read: Vec<u8>,
    /// Since when it takes nothing of what comes.
    stuck: Option<Instant>,
    was_stuck: bool,
    /// What will be sent, and what each message of it means, with the bytes of it that were not sent.
    outgoing: Vec<u8>,
    meanings: VecDeque<(usize, Meaning)>,
    is_greeted: bool,
    end: End,
    has_csm: bool,
    /// The gateway has said its last word.
    is_over: bool,
    /// Bytes that the client takes in a message, and the least and the most that it took when what is under way was
    /// written.
    takes: usize,
    took: (usize, usize),
    /// Nothing is under way.
    pub(super) is_calm: bool,
    pub(super) owed: Vec<Owed>,
    pub(super) watches: Vec<Watch>,
    /// Bodies under way.
    pub(super) transfers: BTreeMap<String, Vec<u8>>,
    /// What it publishes, in its order, and what was published before in its room.
    pub(super) publishes: Vec<Said>,
    pub(super) before: usize,
    /// What is retained in its room after all that.
    pub(super) retained: BTreeMap<String, Vec<u8>>,
    /// What the gateway asks, and whether with Custody.
    pub(super) pings: Vec<(Vec<u8>, bool)>,
}

/// What is the same for all connections.
pub(super) struct Around<'a> {
    pub(super) log: &'a Log,
    /// The store keeps it waiting.
    pub(super) store_waits: bool,
    /// The store could not keep something.
    pub(super) store_failed: bool,
    pub(super) is_leaving: bool,
}

impl Link {
    pub(super) fn new(place: usize, stream: Client, log: &Log) -> Self {
        let retained = log.retained.iter();
        let own = retained.filter(|(topic, _)| topic.starts_with(&room(place)));
        Self {
            place,
            stream,
            born: Instant::now(),
            read: Vec::new(),
            stuck: None,
            was_stuck: false,
            outgoing: Vec::new(),
            meanings: VecDeque::new(),
            is_greeted: false,
            end: End::No,
            has_csm: false,
            is_over: false,
            takes: BASE_MESSAGE_SIZE as usize,
            took: (BASE_MESSAGE_SIZE as usize, BASE_MESSAGE_SIZE as usize),
            is_calm: true,
            owed: Vec::new(),
            watches: Vec::new(),
            transfers: BTreeMap::new(),
            publishes: Vec::new(),
            before: log.count_of(place),
            retained: own.map(|(t, p)| (t.clone(), p.clone())).collect(),
            pings: Vec::new(),
        }
    }

    // ---- what the client says ---------------------------------------------------------------

    /// Appends a message to what will be sent.
    pub(super) fn say(&mut self, bytes: &[u8], meaning: Meaning) {
        self.outgoing.extend_from_slice(bytes);
        self.meanings.push_back((bytes.len(), meaning));
    }

    /// Sends so many bytes of it.
    pub(super) fn send(&mut self, most: usize, log: &Log) {
        let count = most.min(self.outgoing.len());
        let bytes: Vec<u8> = self.outgoing.drain(..count).collect();
        let mut left = count;
        while let Some((len, meaning)) = self.meanings.pop_front() {
            if len > left {
                if left > 0 && matches!(meaning, Meaning::Rubbish) {
                    // A part of it may be a message as well.
                    self.means(Meaning::Rubbish, log);
                }
                self.meanings.push_front((len - left, meaning));
                break;
            }
            left -= len;
            self.means(meaning, log);
        }
        self.stream.send(&bytes);
    }

    fn means(&mut self, meaning: Meaning, log: &Log) {
        if self.end != End::No {
            // Nobody listens any more.
            return;
        }
        let meaning = match meaning {
            // It was too late, and perhaps that was not read yet.
            _ if !self.is_greeted && self.born.elapsed() >= CSM_TIMEOUT => Meaning::Rubbish,
            Meaning::Csm(_) | Meaning::Breach(Some(_)) | Meaning::Rubbish => meaning,
            _ if self.is_greeted => meaning,
            // Something else comes first.
            _ => Meaning::Breach(None),
        };
        match meaning {
            Meaning::Csm(most) => {
                // What is under way may have been written before.
                let is_told = self.is_calm && self.watches.is_empty();
                self.is_greeted = true;
                let takes = most.map_or(self.takes, |most| LEAST.max(most as usize));
                self.takes = takes;
                self.took = match is_told {
                    true => (takes, takes),
                    false => (self.took.0.min(takes), self.took.1.max(takes)),
                };
            }
            Meaning::Ping { token, custody } => self.owed.push(Owed {
                token,
                what: What::Pong { custody },
                codes: vec![Code::PONG],
                is_optional: false,
            }),
            Meaning::Nothing => {}
            Meaning::Ask(ask) => {
                self.asks(&ask, log);
                self.is_calm = false;
            }
            Meaning::Release => self.end = End::Released,
            Meaning::Abort => self.end = End::Aborted,
            Meaning::Breach(option) => self.end = End::Breached(option),
            Meaning::Rubbish => self.end = End::Unknown,
        }
    }

    /// Whether it has taken so little that it may not have heard everything.
    const fn is_tiny(&self) -> bool {
        self.took.0 < TINY
    }

    /// Whether it takes what comes.
    pub(super) fn set_reads(&mut self, reads: bool) {
        if reads {
            self.was_stuck |= self.stuck.is_some_and(|since| since.elapsed() >= LINGER);
            self.stuck = None;
        } else {
            self.stuck.get_or_insert_with(Instant::now);
        }
    }

    pub(super) const fn reads(&self) -> bool {
        self.stuck.is_none()
    }

    /// Whether another registration with a token that is in use cannot be taken for anything else.
    pub(super) fn is_idle(&self) -> bool {
        self.is_calm && self.meanings.is_empty() && self.end == End::No
    }

    // ---- what comes -------------------------------------------------------------------------

    /// Takes what has come; `false`: nothing.
    pub(super) fn receive(&mut self, around: &Around<'_>) -> bool {
        let before = self.read.len();
        self.stream.receive(&mut self.read);
        let has_moved = self.read.len() > before;
        while let Some(got) = Got::take(&mut self.read) {
            assert!(!self.is_over, "after the last word: {got:?}");
            if self.has_csm {
                self.comes(&got, around);
            } else {
                assert_eq!(got.code, Code::CSM, "first");
                self.has_csm = true;
            }
        }
        has_moved
    }

    fn comes(&mut self, got: &Got, around: &Around<'_>) {
        assert!(
            got.len <= self.took.1 || self.end == End::Unknown,
            "{} bytes for a client that takes {}: {got:?}",
            got.len,
            self.took.1
        );
        match got.code {
            Code::PING => {
                let custody = got.option(CUSTODY).is_some();
                self.pings.push((got.token().to_vec(), custody));
            }
            Code::PONG => self.is_answered(got, around),
            Code::RELEASE => {
                assert!(around.is_leaving, "{got:?}");
                self.is_over = true;
            }
            Code::ABORT => {
                self.is_aborted(got);
                self.is_over = true;
            }
            code if (2..=5).contains(&code.class()) => self.is_answered(got, around),
            _ => panic!("nobody says that to a client: {got:?}"),
        }
    }

    fn is_aborted(&self, got: &Got) {
        let option = got.number(BAD_CSM_OPTION);
        match (self.end, self.meanings.front()) {
            (End::Breached(said), _) => assert_eq!(option, said, "{got:?}"),
            (End::Unknown, _) => {}
            // Its first bytes are enough.
            (End::No, Some((_, Meaning::Breach(None) | Meaning::Rubbish))) => {}
            (End::No, Some(_)) if !self.is_greeted => {}
            (End::No, None) if !self.is_greeted && self.born.elapsed() >= CSM_TIMEOUT => {}
            (end, next) => panic!("after {end:?}, before {next:?}: {got:?}"),
        }
    }

    fn is_answered(&mut self, got: &Got, around: &Around<'_>) {
        if self.end == End::Unknown {
            return;
        }
        let watched = self.watches.iter().any(|watch| watch.token == got.token());
        let place = self.owed.iter().position(|owed| owed.token == got.token());
        let place = place.filter(|place| {
            let registers = matches!(self.owed[*place].what, What::Register { .. });
            // What was told before an observation ended.
            registers || !watched || got.observe().is_none()
        });
        let Some(place) = place else {
            return self.is_notified(got, around);
        };
        let owed = self.owed.remove(place);
        let is_tiny = got.code == Code::INTERNAL_SERVER_ERROR && self.is_tiny();
        let is_lost = got.code == Code::SERVICE_UNAVAILABLE && around.store_failed;
        let is_code = owed.codes.is_empty()
            || owed.codes.contains(&got.code)
            || is_tiny && owed.codes.contains(&Code::CONTENT)
            || is_lost && matches!(owed.what, What::Kept);
        assert!(is_code, "{owed:?}: {got:?}");
        match owed.what {
            What::Code | What::Kept => assert_eq!(got.observe(), None),
            What::Pong { custody } => {
                assert_eq!(got.option(CUSTODY).is_some(), custody, "{got:?}");
                let mut before = self.owed[..place].iter();
                let left = before.find(|owed| !owed.is_optional && custody);
                assert!(left.is_none(), "a pong passes {left:?}");
            }
            What::Value { values, filter } => {
                assert_eq!(got.observe(), None);
                is_value(got, &values, around.log);
                self.watches
                    .retain(|watch| !(watch.is_ending && watch.token == got.token()));
                if got.code == Code::CONTENT
                    && let Some(block) = got.block2()
                {
                    let end = block.start() + got.payload().len();
                    let same = self.watches.iter_mut();
                    for watch in same.filter(|watch| Some(&watch.filter) == filter.as_ref()) {
                        watch.parted.take_if(|payload| payload.len() <= end);
                    }
                }
            }
            What::Register { values, has_place } => {
                is_value(got, &values, around.log);
                let token = got.token();
                let observes = got.observe().is_some();
                if got.code.is_success() {
                    assert!(
                        has_place.is_none_or(|has| has == observes),
                        "{has_place:?}: {got:?}"
                    );
                } else {
                    assert!(!observes, "{got:?}");
                }
                if observes {
                    let watch = self.watches.iter_mut().find(|watch| watch.token == token);
                    if let Some(watch) = watch {
                        watch.is_answered(around.log, got.observe());
                    }
                } else {
                    self.watches.retain(|watch| watch.token != token);
                }
            }
        }
    }

    fn is_notified(&mut self, got: &Got, around: &Around<'_>) {
        let watch = self
            .watches
            .iter()
            .position(|watch| watch.token == got.token());
        let place = watch.unwrap_or_else(|| panic!("nobody has asked for {got:?}"));
        if got.code.is_success() {
            let is_tiny = self.is_tiny();
            return self.watches[place].is_told(around.log, got, is_tiny);
        }
        // A notification with an error is the last (RFC 7641 section 3.2).
        let watch = self.watches.remove(place);
        let may = match got.code {
            Code::SERVICE_UNAVAILABLE => around.is_leaving || watch.is_loose,
            _ => watch.is_loose,
        };
        assert!(may, "{got:?}");
    }

    // ---- in between, and at the end ---------------------------------------------------------

    /// Nothing moves any more: what must have come has.
    pub(super) fn settles(&mut self, around: &Around<'_>) {
        let is_kept = |owed: &Owed| owed.is_optional && !around.store_waits;
        if self.end != End::No || !self.is_greeted || !self.reads() || !self.stream.is_drained() {
            self.is_calm = false;
            return self.publishes_in_order(around.log, false);
        }
        self.owed.retain(|owed| !is_kept(owed));
        if around.store_waits && !self.owed.is_empty() {
            self.is_calm = false;
            return self.publishes_in_order(around.log, true);
        }
        assert!(self.owed.is_empty(), "never answered: {:?}", self.owed);
        self.watches.retain(|watch| !watch.is_ending);
        let is_tiny = self.is_tiny();
        for watch in &mut self.watches {
            watch.is_quiet(around.log, is_tiny);
        }
        self.publishes_in_order(around.log, true);
        self.took = (self.takes, self.takes);
        self.is_calm = true;
    }

    /// What it has published is what it said, as far as that was read, in its order.
    fn publishes_in_order(&self, log: &Log, is_all: bool) {
        let mut heard = log.of(self.place, self.before);
        let mut said = self.publishes.iter();
        let is_unknown = self.end == End::Unknown;
        loop {
            match (heard.next(), said.next()) {
                (None, None) => return,
                (None, Some(left)) => return assert!(!is_all, "not published: {left:?}"),
                (Some(_), None) if is_unknown => return,
                (Some(more), None) => panic!("nobody said {more:?}"),
                (Some(heard), Some(said)) => assert_eq!(heard, said),
            }
        }
    }

    /// The gateway has closed it.
    pub(super) fn ends(&mut self, around: &Around<'_>) {
        self.was_stuck |= self.stuck.is_some_and(|since| since.elapsed() >= LINGER);
        assert!(
            self.read.is_empty() || self.was_stuck,
            "half a message: {:02x?}",
            self.read
        );
        let is_asked = self.end != End::No || around.is_leaving;
        assert!(is_asked || self.is_over, "it is closed without a word");
        let says_why = matches!(self.end, End::Breached(_));
        let is_whole = self.is_over || self.was_stuck;
        assert!(
            !says_why || is_whole,
            "the client is not told what was wrong"
        );
        let is_done = self.end == End::Released && !around.is_leaving && !self.was_stuck;
        if is_done {
            let left = self.owed.iter().find(|owed| !owed.is_optional);
            assert!(left.is_none(), "never answered: {left:?}");
        }
        self.publishes_in_order(around.log, is_done || says_why && !around.is_leaving);
    }

    /// The client has closed it.
    pub(super) fn is_cut(&self, log: &Log) {
        self.publishes_in_order(log, false);
    }
}

fn is_value(got: &Got, values: &Values, log: &Log) {
    if got.code == Code::VALID {
        assert!(got.payload().is_empty());
    }
    if got.code != Code::CONTENT {
        return;
    }
    let is_one = match values {
        Values::Any => true,
        Values::Of(values) => values.iter().any(|value| got.is_of(value)),
        Values::OfTopic(topic, values) => {
            let all = log.entries.iter().map(|entry| &entry.said);
            let retained = all.filter(|said| said.retain && said.topic == *topic);
            let mut values = values.iter().chain(retained.map(|said| &said.payload));
            got.is_of(&[]) || values.any(|value| got.is_of(value))
        }
    };
    assert!(is_one, "{values:02x?}: {got:?}");
}
