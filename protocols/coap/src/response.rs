//! A response before it is a message: what it says, whoever it is for.

use std::borrow::Cow;
use std::sync::Arc;

use tidegate_bus::{MessageProperty, StoredMessage};

use crate::codec::{Block, Code, Writer, number};
use crate::format::{self, LINK_FORMAT, PROBLEM_DETAILS};
use crate::problem;

/// Bytes of an entity tag of ours.
pub(crate) type Tag = [u8; 4];

/// The body of a response.
#[derive(Clone, Debug, Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    /// The payload of a message.
    Message(Arc<StoredMessage>),
    /// Why the request was refused.
    Problem(Cow<'static, str>),
    /// What there is.
    Links(Cow<'static, str>),
}

/// What a response says. Options are written in the order of their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) code: Code,
    pub(crate) etag: Option<Tag>,
    /// The number of a notification (RFC 7641 section 3.4).
    pub(crate) observe: Option<u32>,
    pub(crate) content_format: Option<u16>,
    /// Seconds.
    pub(crate) max_age: Option<u32>,
    /// The block that is asked for; what is sent depends on how much may be.
    pub(crate) block2: Option<Block>,
    pub(crate) block1: Option<Block>,
    pub(crate) size1: Option<u32>,
    pub(crate) echo: Option<[u8; 12]>,
    /// There is so little room that what may be left out is left out.
    pub(crate) is_tight: bool,
    /// Blocks in one message: more than one with BERT only (RFC 8323 section 6).
    pub(crate) blocks: usize,
    /// The body is of a topic that the request did not name.
    pub(crate) names_topic: bool,
    pub(crate) body: Body,
}

impl Response {
    /// A response without a body.
    pub(crate) const fn new(code: Code) -> Self {
        Self {
            code,
            etag: None,
            observe: None,
            content_format: None,
            max_age: None,
            block2: None,
            block1: None,
            size1: None,
            echo: None,
            is_tight: false,
            blocks: 1,
            names_topic: false,
            body: Body::Empty,
        }
    }

    /// A refusal, with its reason.
    pub(crate) fn refusal(code: Code, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            content_format: Some(PROBLEM_DETAILS),
            body: Body::Problem(why.into()),
            ..Self::new(code)
        }
    }

    /// A refusal that may be tried again after so many seconds (RFC 7252 section 5.9.3.4, RFC 8516).
    pub(crate) fn later(code: Code, seconds: u32, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            max_age: Some(seconds),
            ..Self::refusal(code, why)
        }
    }

    /// What there is, in link format.
    pub(crate) fn links(links: impl Into<Cow<'static, str>>) -> Self {
        Self {
            content_format: Some(LINK_FORMAT),
            body: Body::Links(links.into()),
            ..Self::new(Code::CONTENT)
        }
    }

    /// The value of a topic.
    pub(crate) fn content(message: &Arc<StoredMessage>) -> Self {
        let mut content_format = None;
        let view = message.as_message();
        for property in view.properties.iter() {
            match property {
                MessageProperty::ContentType(name) => content_format = format::content_format(name),
                MessageProperty::User(crate::topics::FORMAT, text) if content_format.is_none() => {
                    content_format = text.parse().ok();
                }
                _ => {}
            }
        }
        Self {
            content_format,
            body: Body::Message(Arc::clone(message)),
            ..Self::new(Code::CONTENT)
        }
    }

    /// Writes options and the part of the body that `block2` names, or all of it. `scratch` is for bodies that are
    /// not there as bytes.
    pub(crate) fn write(&self, mut writer: Writer<'_>, scratch: &mut Vec<u8>) {
        let topic = match &self.body {
            Body::Message(message) if self.names_topic => Some(message.topic()),
            _ => None,
        };
        scratch.clear();
        let message;
        let body: &[u8] = match &self.body {
            Body::Empty => &[],
            Body::Message(stored) => {
                message = stored.as_message();
                message.payload
            }
            Body::Problem(text) => {
                problem::encode(text, scratch);
                scratch
            }
            Body::Links(text) => text.as_bytes(),
        };
        let mut part = body;
        let mut block2 = self.block2;
        if let Some(block) = &mut block2 {
            let rest = body.get(block.start()..).unwrap_or_default();
            part = &rest[..rest.len().min(block.size() * self.blocks)];
            block.more = rest.len() > part.len();
        }
        if let Some(etag) = &self.etag {
            writer.option(number::ETAG, etag);
        }
        if let Some(observe) = self.observe {
            writer.uint(number::OBSERVE, observe);
        }
        if let Some(format) = self.content_format {
            writer.uint(number::CONTENT_FORMAT, format.into());
        }
        if let Some(seconds) = self.max_age {
            writer.uint(number::MAX_AGE, seconds);
        }
        if let Some(block) = block2 {
            writer.uint(number::BLOCK2, block.bits());
        }
        if let Some(block) = self.block1 {
            writer.uint(number::BLOCK1, block.bits());
        }
        if block2.is_some_and(|block| block.num == 0) && !self.is_tight {
            // How much there is to fetch (RFC 7959 section 4).
            writer.uint(number::SIZE2, u32::try_from(body.len()).unwrap_or(u32::MAX));
        }
        if let Some(size) = self.size1 {
            writer.uint(number::SIZE1, size);
        }
        if let Some(echo) = &self.echo {
            writer.option(number::ECHO, echo);
        }
        if let Some(topic) = topic {
            writer.option(number::TOPIC, topic.as_bytes());
        }
        writer.payload(part);
    }

    /// Whether the client does not want to hear this (RFC 7967 section 2.1). `no_response`: the classes it has named.
    pub(crate) const fn is_unwanted(&self, no_response: u32) -> bool {
        let class = self.code.class();
        class > 0 && no_response & (1 << (class - 1)) != 0
    }

    /// Bytes of the body.
    pub(crate) fn body_len(&self) -> usize {
        match &self.body {
            Body::Empty => 0,
            Body::Message(message) => message.as_message().payload.len(),
            Body::Problem(text) => text.len() + 5,
            Body::Links(text) => text.len(),
        }
    }

    /// Whether the body may be fetched in parts: a refusal is said at once or not at all.
    pub(crate) const fn may_be_parted(&self) -> bool {
        matches!(self.body, Body::Message(_) | Body::Links(_))
    }
}
