//! What a request asks: its options checked (RFC 7252 section 5.4), its path and its query read.

use smallvec::SmallVec;
use tidegate_bus::QoS;

use crate::codec::{Block, BlockError, Code, Frame, Message, Options, number, uint};
use crate::response::Response;

/// The first segment of the path under which the topics are.
pub(crate) const TOPICS: &str = "ps";

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/.well-known/core` (RFC 6690).
    Links,
    /// `/ps/...`: the topic, or a filter, is in the buffer that was given.
    Topic,
}

/// A request whose options are known and well formed.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) code: Code,
    pub(crate) target: Target,
    pub(crate) query: Query<'a>,
    pub(crate) observe: Option<u32>,
    pub(crate) content_format: Option<u16>,
    pub(crate) accept: Option<u16>,
    pub(crate) block1: Option<Block>,
    pub(crate) block2: Option<Block>,
    pub(crate) size1: Option<u32>,
    pub(crate) echo: Option<&'a [u8]>,
    /// Classes of responses that are not wanted (RFC 7967).
    pub(crate) no_response: u32,
    pub(crate) etags: SmallVec<[&'a [u8]; 2]>,
    /// What tells apart bodies that are sent at the same time (RFC 9175 section 3).
    pub(crate) tags: SmallVec<[&'a [u8]; 1]>,
    pub(crate) payload: &'a [u8],
}

/// What stands behind the `?`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    /// `c`: the client identifier.
    pub(crate) client: Option<&'a str>,
    /// `u`: the user name.
    pub(crate) user: Option<&'a str>,
    /// `p`: the password.
    pub(crate) password: Option<&'a str>,
    pub(crate) qos: Option<QoS>,
    pub(crate) retain: bool,
    /// Seconds until the message is not worth delivering.
    pub(crate) expiry: Option<u32>,
    /// Seconds for which the session of an observer is kept when it is away.
    pub(crate) session_expiry: Option<u32>,
    /// `rt` or another attribute that links are looked for by (RFC 6690 section 4.1).
    pub(crate) link: Option<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    /// Reads a request in a datagram; the topic goes to `topic`. `Err`: how it is refused.
    pub(crate) fn read(message: &Message<'a>, topic: &mut String) -> Result<Self, Response> {
        let Message {
            code,
            options,
            payload,
            ..
        } = *message;
        Self::of(code, options, payload, Block::parse, topic)
    }

    /// Reads a request that came over a stream.
    pub(crate) fn read_frame(frame: &Frame<'a>, topic: &mut String) -> Result<Self, Response> {
        let Frame {
            code,
            options,
            payload,
            ..
        } = *frame;
        Self::of(code, options, payload, Block::parse_bert, topic)
    }

    fn of(
        code: Code,
        options: Options<'a>,
        payload: &'a [u8],
        block: fn(&[u8]) -> Result<Block, BlockError>,
        topic: &mut String,
    ) -> Result<Self, Response> {
        let mut request = Self {
            code,
            target: Target::Topic,
            query: Query::default(),
            observe: None,
            content_format: None,
            accept: None,
            block1: None,
            block2: None,
            size1: None,
            echo: None,
            no_response: 0,
            etags: SmallVec::new(),
            tags: SmallVec::new(),
            payload,
        };
        let mut path: SmallVec<[&str; 12]> = SmallVec::new();
        let mut queries: SmallVec<[&str; 6]> = SmallVec::new();
        let mut before = None;
        for option in options.iter() {
            let (number, value) = (option.number, option.value);
            let again = before.replace(number) == Some(number);
            let known = match number {
                number::URI_HOST => !again && (1..=255).contains(&value.len()),
                number::URI_PORT => !again && value.len() <= 2,
                number::URI_PATH => text(value, "a path is UTF-8", &mut path)?,
                number::URI_QUERY => text(value, "a query is UTF-8", &mut queries)?,
                number::PROXY_URI | number::PROXY_SCHEME => {
                    let why = "this gateway is no proxy";
                    return Err(Response::refusal(Code::PROXYING_NOT_SUPPORTED, why));
                }
                number::OBSERVE => set(&mut request.observe, again, uint(value, 3)),
                number::CONTENT_FORMAT => {
                    set(&mut request.content_format, again, short(uint(value, 2)))
                }
                number::ACCEPT => set(&mut request.accept, again, short(uint(value, 2))),
                number::BLOCK1 => set(&mut request.block1, again, place(block(value))?),
                number::BLOCK2 => set(&mut request.block2, again, place(block(value))?),
                number::SIZE1 => set(&mut request.size1, again, uint(value, 4)),
                number::ECHO => set(
                    &mut request.echo,
                    again,
                    Some(value).filter(|v| v.len() <= 40),
                ),
                number::NO_RESPONSE => {
                    let mut classes = None;
                    let known = set(&mut classes, again, uint(value, 1));
                    request.no_response = classes.unwrap_or(0);
                    known
                }
                number::ETAG => {
                    let known = (1..=8).contains(&value.len());
                    if known {
                        request.etags.push(value);
                    }
                    known
                }
                number::REQUEST_TAG => {
                    let known = value.len() <= 8;
                    if known {
                        request.tags.push(value);
                    }
                    known
                }
                _ => false,
            };
            // One that is not known, or not as it is defined (section 5.4.3), or there once too often (5.4.5).
            if !known && number::is_critical(number) {
                let why = format!("option {number} is critical and not known, or not well formed");
                return Err(Response::refusal(Code::BAD_OPTION, why));
            }
        }
        request.target = target(&path, topic)?;
        for pair in queries {
            request.query.add(pair)?;
        }
        Ok(request)
    }
}

/// An option that stands there once. `false`: it is as if it were not known.
fn set<T>(place: &mut Option<T>, again: bool, value: Option<T>) -> bool {
    if again || value.is_none() {
        return false;
    }
    *place = value;
    true
}

fn short(number: Option<u32>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok())
}

fn place(block: Result<Block, BlockError>) -> Result<Option<Block>, Response> {
    match block {
        Ok(block) => Ok(Some(block)),
        Err(BlockError::Length) => Ok(None),
        Err(BlockError::Reserved) => {
            let why = "the block size 7 is reserved (RFC 7959 section 2.2)";
            Err(Response::refusal(Code::BAD_REQUEST, why))
        }
    }
}

fn text<'a, A>(value: &'a [u8], why: &'static str, list: &mut SmallVec<A>) -> Result<bool, Response>
where
    A: smallvec::Array<Item = &'a str>,
{
    if value.len() > 255 {
        return Ok(false);
    }
    let text = std::str::from_utf8(value);
    let text = text.map_err(|_| Response::refusal(Code::BAD_REQUEST, why))?;
    list.push(text);
    Ok(true)
}

fn target(path: &[&str], topic: &mut String) -> Result<Target, Response> {
    topic.clear();
    match path {
        [".well-known", "core"] => Ok(Target::Links),
        [first, levels @ ..] if *first == TOPICS && !levels.is_empty() => {
            for (at, level) in levels.iter().enumerate() {
                if at > 0 {
                    topic.push('/');
                }
                topic.push_str(level);
            }
            Ok(Target::Topic)
        }
        _ => {
            let why = "topics are under /ps/, what there is under /.well-known/core";
            Err(Response::refusal(Code::NOT_FOUND, why))
        }
    }
}

impl<'a> Query<'a> {
    fn add(&mut self, pair: &'a str) -> Result<(), Response> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |what: &str| Err(Response::refusal(Code::BAD_REQUEST, what.to_owned()));
        match key {
            "c" => self.client = Some(value),
            "u" => self.user = Some(value),
            "p" => self.password = Some(value),
            "qos" => match value {
                "0" => self.qos = Some(QoS::AtMostOnce),
                "1" => self.qos = Some(QoS::AtLeastOnce),
                "2" => self.qos = Some(QoS::ExactlyOnce),
                _ => return wrong("qos is 0, 1 or 2"),
            },
            "retain" => match value {
                "" | "1" | "true" => self.retain = true,
                "0" | "false" => self.retain = false,
                _ => return wrong("retain is true or false"),
            },
            "expiry" => match value.parse() {
                Ok(seconds) => self.expiry = Some(seconds),
                Err(_) => return wrong("expiry is a number of seconds"),
            },
            "session_expiry" => match value.parse() {
                Ok(seconds) => self.session_expiry = Some(seconds),
                Err(_) => return wrong("session_expiry is a number of seconds"),
            },
            "rt" | "if" | "href" | "ct" | "obs" | "title" => self.link = Some((key, value)),
            _ => {
                return wrong(
                    "the query has c, u, p, qos, retain, expiry and session_expiry, and nothing else",
                );
            }
        }
        Ok(())
    }
}
