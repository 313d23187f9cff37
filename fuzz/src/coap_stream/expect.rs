//! What a client may expect of its requests, by `docs/coap.md` and the RFCs.

use tidegate_coap::codec::{Block, Code};

use super::ask::{Ask, room};
use super::gateway::{LONGEST, MAX_OBSERVATIONS, MAX_TRANSFERS};
use super::link::Link;
use super::log::{Log, retain};
use super::watch::Watch;

/// An answer that is to come.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) token: Vec<u8>,
    pub(super) what: What,
    /// It has one of these codes; any, where there is none.
    pub(super) codes: Vec<Code>,
    /// It need not come.
    pub(super) is_optional: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Pong {
        custody: bool,
    },
    /// Only its code is known.
    Code,
    /// What is published was kept, or could not be.
    Kept,
    /// A value, or a part of it. `filter`: what it is of, where it is fetched in parts.
    Value {
        values: Values,
        filter: Option<String>,
    },
    /// An observation begins, where it has a place and the value of its topic can be had. `None`: perhaps it has one.
    Register {
        values: Values,
        has_place: Option<bool>,
    },
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Values {
    Any,
    /// One of these.
    Of(Vec<Vec<u8>>),
    /// One of these, or any that another's topic had until it was read.
    OfTopic(String, Vec<Vec<u8>>),
}

impl Link {
    fn owe(&mut self, ask: &Ask, codes: &[Code], what: What) {
        let wanted = codes.iter().filter(|code| ask.wants(**code)).count();
        if wanted == 0 && !codes.is_empty() {
            return;
        }
        self.owed.push(Owed {
            token: ask.token.clone(),
            what,
            codes: codes.to_vec(),
            is_optional: wanted < codes.len() || codes.is_empty() && ask.is_quiet(),
        });
    }

    /// The gateway gets a request.
    pub(super) fn asks(&mut self, ask: &Ask, log: &Log) {
        let unreadable = ask.unreadable();
        if !unreadable.is_empty() {
            return self.owed.push(Owed {
                token: ask.token.clone(),
                what: What::Code,
                codes: unreadable,
                is_optional: false,
            });
        }
        let faults = ask.faults();
        if !faults.is_empty() {
            return self.owe(ask, &faults, What::Code);
        }
        if ask.is_links() {
            let value = What::Value {
                values: Values::Any,
                filter: None,
            };
            return self.owe(ask, &[Code::CONTENT], value);
        }
        match ask.code {
            Code::GET => self.gets(ask, log),
            Code::DELETE => self.publishes(ask, Vec::new(), Code::DELETED),
            _ => self.puts(ask),
        }
    }

    // ---- publishing -------------------------------------------------------------------------

    fn publishes(&mut self, ask: &Ask, body: Vec<u8>, code: Code) {
        let faults = ask.publish_faults();
        if !faults.is_empty() {
            return self.owe(ask, &faults, What::Code);
        }
        let said = ask.said(body);
        retain(&mut self.retained, &said);
        self.publishes.push(said);
        if ask.is_quiet() {
            return self.owe(ask, &[code, Code::SERVICE_UNAVAILABLE], What::Kept);
        }
        self.owe(ask, &[code], What::Kept);
    }

    fn puts(&mut self, ask: &Ask) {
        let whole = match ask.block1 {
            None if ask.payload.len() > LONGEST => Err(Code::REQUEST_ENTITY_TOO_LARGE),
            None => Ok(ask.payload.clone()),
            Some(block) => self.adds(ask, block),
        };
        match whole {
            Ok(body) => self.publishes(ask, body, Code::CHANGED),
            Err(code) => self.owe(ask, &[code], What::Code),
        }
    }

    /// A part of a body (RFC 7959 section 2.5, RFC 8323 section 6): all of it with the last one.
    fn adds(&mut self, ask: &Ask, block: Block) -> Result<Vec<u8>, Code> {
        let key = ask.key();
        let len = ask.payload.len();
        let is_size = match (block.is_bert(), block.more) {
            (false, true) => len == block.size(),
            (false, false) => len <= block.size(),
            (true, true) => len > 0 && len.is_multiple_of(1_024),
            (true, false) => true,
        };
        let begun = self.transfers.remove(&key);
        if !is_size {
            return Err(Code::BAD_REQUEST);
        }
        if ask.is_too_large(block.start() + len) {
            return Err(Code::REQUEST_ENTITY_TOO_LARGE);
        }
        let begun = if block.num == 0 {
            if block.more && self.transfers.len() >= MAX_TRANSFERS {
                return Err(Code::TOO_MANY_REQUESTS);
            }
            Some(Vec::new())
        } else {
            begun.filter(|body| body.len() == block.start())
        };
        let mut body = begun.ok_or(Code::REQUEST_ENTITY_INCOMPLETE)?;
        body.extend_from_slice(&ask.payload);
        if block.more {
            self.transfers.insert(key, body);
            return Err(Code::CONTINUE);
        }
        Ok(body)
    }

    // ---- reading ----------------------------------------------------------------------------

    fn gets(&mut self, ask: &Ask, log: &Log) {
        let filter = ask.topic().unwrap_or_default();
        if ask.client() == Some("deaf") {
            // The other one where no session is kept.
            let codes = [Code::FORBIDDEN, Code::BAD_REQUEST];
            let count = if ask.asks_for_session() { 2 } else { 1 };
            return self.owe(ask, &codes[..count], What::Code);
        }
        let is_first = ask.block2.is_none_or(|block| block.num == 0);
        if ask.observe == Some(0) && is_first {
            return self.registers(ask, &filter, log);
        }
        if ask.observe == Some(1) {
            let same = self.watches.iter_mut();
            for watch in same.filter(|watch| watch.token == ask.token) {
                watch.is_ending = true;
            }
        }
        let is_pattern = is_pattern(&filter);
        let mut values = self.values(&filter);
        if !is_first {
            // The rest of what an observer was told is read like this.
            let same = self.watches.iter().filter(|watch| watch.filter == filter);
            let is_known = self.is_calm && same.clone().all(|watch| !watch.is_loose);
            let parted = same.filter_map(|watch| watch.last_parted.clone());
            let parted: Vec<Vec<u8>> = parted.collect();
            match &mut values {
                Values::Of(values) | Values::OfTopic(_, values) if is_known => {
                    values.extend(parted);
                }
                _ => values = Values::Any,
            }
        }
        let codes: &[Code] = match (is_pattern, is_first) {
            _ if ask.asks_for_session() => &[],
            (true, true) => &[Code::BAD_REQUEST],
            (_, false) => &[Code::CONTENT, Code::BAD_REQUEST],
            (false, true) => &[Code::CONTENT],
        };
        let value = What::Value {
            values,
            filter: Some(filter).filter(|_| !is_first),
        };
        self.owe(ask, &with_conditions(ask, codes), value);
    }

    /// An observation begins.
    fn registers(&mut self, ask: &Ask, filter: &str, log: &Log) {
        self.watches.retain(|watch| watch.token != ask.token);
        let is_unsure = ask.asks_for_session();
        let others = self.watches.iter().filter(|watch| !watch.is_ending);
        let certain = others.clone().filter(|watch| watch.is_certain());
        let has_place = match certain.count() {
            _ if is_unsure => None,
            count if count >= MAX_OBSERVATIONS => Some(false),
            _ if others.count() < MAX_OBSERVATIONS => Some(true),
            _ => None,
        };
        let own = (self.place, self.before + self.publishes.len());
        let mut watch = Watch::new(ask.token.clone(), filter.to_owned(), own, log);
        watch.is_loose |= is_unsure || ask.is_quiet();
        if self.is_calm {
            watch.begins_calmly(log);
        }
        self.watches.push(watch);
        let codes: &[Code] = match (is_pattern(filter), has_place) {
            _ if is_unsure => &[],
            (true, Some(false)) => &[Code::TOO_MANY_REQUESTS],
            (true, None) => &[Code::TOO_MANY_REQUESTS, Code::CONTENT],
            _ => &[Code::CONTENT],
        };
        let register = What::Register {
            values: self.values(filter),
            has_place,
        };
        self.owe(ask, &with_conditions(ask, codes), register);
    }

    /// What a topic may have as its value.
    fn values(&self, filter: &str) -> Values {
        if is_pattern(filter) {
            return Values::Any;
        }
        if filter.starts_with(&room(self.place)) {
            return Values::Of(vec![self.retained.get(filter).cloned().unwrap_or_default()]);
        }
        Values::OfTopic(filter.to_owned(), Vec::new())
    }
}

fn is_pattern(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// What a request on conditions may be answered as well.
fn with_conditions(ask: &Ask, codes: &[Code]) -> Vec<Code> {
    let mut codes = codes.to_vec();
    if codes.contains(&Code::CONTENT) {
        codes.extend(ask.etag.as_ref().map(|_| Code::VALID));
        codes.extend(ask.accept.map(|_| Code::NOT_ACCEPTABLE));
    }
    codes
}
