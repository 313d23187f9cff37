//! One request and all it takes until it is answered: a body in blocks (RFC 7959), an answer in blocks, an Echo
//! (RFC 9175).

use std::sync::Arc;

use tidegate_coap::codec::{Code, number};

use super::block::Part;
use super::draft::Draft;
use super::response::Response;
use crate::client::error::ClientError;

/// Bytes of an answer, or of a notification, at most: as of a packet of MQTT.
const MAX_BODY: usize = 268_435_455;

/// How often something may begin anew that another client or a restart disturbed.
const MAX_RESTARTS: u8 = 3;

/// Echo options in a row that are believed.
const MAX_ECHOES: u8 = 3;

/// A request under way.
#[derive(Debug)]
pub(super) struct Call {
    /// Without payload and without options of blocks.
    request: Draft,
    body: Arc<[u8]>,
    upload: Upload,
    download: Option<Download>,
    echo: Option<Vec<u8>>,
    echoes: u8,
    restarts: u8,
}

/// Which part of the body is under way.
#[derive(Clone, Copy, Debug)]
struct Upload {
    start: usize,
    /// `None`: all of it at once.
    szx: Option<u8>,
}

/// What has come of the answer.
#[derive(Debug)]
struct Download {
    /// The response with the first block; its payload grows.
    first: Response,
    szx: u8,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// [`Call::next`] is to be sent.
    Send,
    /// It is answered; the payload is whole.
    Done(Response),
    /// It is answered, and the payload became another as often as it was fetched.
    Overtaken,
}

impl Call {
    /// `largest`: bytes of a message, at most.
    pub(super) fn new(request: Draft, body: Arc<[u8]>, largest: usize) -> Self {
        let room = largest.saturating_sub(request.len() + OVERHEAD);
        let szx = (body.len() > room).then(|| szx_within(room));
        Self {
            request,
            body,
            upload: Upload { start: 0, szx },
            download: None,
            echo: None,
            echoes: 0,
            restarts: 0,
        }
    }

    /// The rest of a notification of which the first block has come (RFC 7959 section 3.4).
    pub(super) fn rest(request: Draft, first: Response, szx: u8) -> Self {
        let mut call = Self::new(request, Arc::default(), usize::MAX);
        call.download = Some(Download { first, szx });
        call
    }

    /// Whether a part of the answer has come and the next is to be asked for.
    pub(super) const fn is_reading(&self) -> bool {
        self.download.is_some()
    }

    /// The message that is to be sent now, but for its token.
    pub(super) fn next(&self) -> Result<Draft, ClientError> {
        let mut draft = self.request.clone();
        if let Some(echo) = &self.echo {
            draft.option(number::ECHO, echo);
        }
        if let Some(Download { first, szx }) = &self.download {
            let part = Part {
                start: first.payload.len(),
                more: false,
                szx: *szx,
            };
            // Not an observation anew (section 3.4).
            draft.without(number::OBSERVE);
            draft.uint(number::BLOCK2, bits(part)?);
            return Ok(draft);
        }
        let rest = &self.body[self.upload.start..];
        let Some(szx) = self.upload.szx else {
            draft.payload = rest.to_vec();
            return Ok(draft);
        };
        let mut part = Part {
            start: self.upload.start,
            more: false,
            szx,
        };
        let len = rest.len().min(part.size());
        part.more = rest.len() > len;
        draft.payload = rest[..len].to_vec();
        draft.uint(number::BLOCK1, bits(part)?);
        if part.start == 0 {
            // How much there will be (section 4).
            let size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
            draft.uint(number::SIZE1, size);
        }
        Ok(draft)
    }

    /// Takes the response to the last message.
    pub(super) fn take(&mut self, response: Response) -> Result<Step, ClientError> {
        if response.code == Code::UNAUTHORIZED
            && let Some(echo) = &response.echo
            && self.echoes < MAX_ECHOES
        {
            // The gateway wants to see that this address receives (RFC 9175 section 2.3).
            self.echo = Some(echo.clone());
            self.echoes += 1;
            return Ok(Step::Send);
        }
        if self.download.is_some() {
            return self.take_part(response);
        }
        if let Some(szx) = self.upload.szx
            && let Some(step) = self.sent_part(szx, &response)?
        {
            return Ok(step);
        }
        self.take_first(response)
    }

    /// A block of the body was answered. `None`: it was the last one, or it was refused.
    fn sent_part(&mut self, szx: u8, response: &Response) -> Result<Option<Step>, ClientError> {
        let Upload { start, .. } = self.upload;
        match response.code {
            Code::REQUEST_ENTITY_INCOMPLETE if start > 0 && self.restarts < MAX_RESTARTS => {
                // It has forgotten the blocks before.
                self.restarts += 1;
                self.upload.start = 0;
                return Ok(Some(Step::Send));
            }
            Code::REQUEST_ENTITY_TOO_LARGE => {
                // The blocks are too large, and not the body (section 2.9.3).
                let smaller = response.block1.map(|part| part.szx).filter(|to| *to < szx);
                let Some(smaller) = smaller else {
                    return Ok(None);
                };
                self.upload = Upload {
                    start: 0,
                    szx: Some(smaller),
                };
                return Ok(Some(Step::Send));
            }
            code if !code.is_success() => return Ok(None),
            _ => {}
        }
        let own = Part {
            start,
            more: false,
            szx,
        };
        let next = start + own.size();
        if next >= self.body.len() {
            if response.code == Code::CONTINUE {
                let text = "2.31 (Continue) answers the last block";
                return Err(ClientError::Protocol(text.to_owned()));
            }
            return Ok(None);
        }
        match response.block1 {
            Some(part) if part.start == start => {
                // From the next one on it wants smaller ones (section 2.3).
                self.upload = Upload {
                    start: next,
                    szx: Some(szx.min(part.szx)),
                };
                Ok(Some(Step::Send))
            }
            // It does not know blocks, and has taken the first for all there is.
            _ => Err(ClientError::Protocol(
                "it took a block for the whole body (RFC 7959 section 2.3)".to_owned(),
            )),
        }
    }

    /// An answer, of which there may be more.
    fn take_first(&mut self, response: Response) -> Result<Step, ClientError> {
        match response.block2 {
            Some(part) if part.more && self.request.code == Code::GET => {
                check(&response, part, 0)?;
                self.download = Some(Download {
                    first: response,
                    szx: part.szx,
                });
                Ok(Step::Send)
            }
            _ => Ok(Step::Done(response)),
        }
    }

    /// The next part of an answer.
    fn take_part(&mut self, response: Response) -> Result<Step, ClientError> {
        let Some(Download { mut first, .. }) = self.download.take() else {
            return Ok(Step::Done(response));
        };
        let Some(part) = response.block2.filter(|_| response.code.is_success()) else {
            return Ok(Step::Done(response));
        };
        let tags = first.etag.as_ref().zip(response.etag.as_ref());
        if tags.is_some_and(|(before, now)| before != now) {
            // The value has changed while it was read (section 2.4).
            if self.restarts >= MAX_RESTARTS {
                return Ok(Step::Overtaken);
            }
            self.restarts += 1;
            // From the beginning, and not as an observation anew.
            self.request.without(number::OBSERVE);
            return Ok(Step::Send);
        }
        check(&response, part, first.payload.len())?;
        first.payload.extend_from_slice(&response.payload);
        if first.payload.len() > MAX_BODY {
            let text = "a body is larger than 256 MiB";
            return Err(ClientError::Protocol(text.to_owned()));
        }
        if !part.more {
            return Ok(Step::Done(first));
        }
        self.download = Some(Download {
            first,
            szx: part.szx,
        });
        Ok(Step::Send)
    }
}

/// The header, the options of a block and the payload marker.
const OVERHEAD: usize = 16;

/// The largest exponent whose blocks have at most `bytes`.
fn szx_within(bytes: usize) -> u8 {
    let exponent = bytes.max(16).ilog2() as u8 - 4;
    exponent.min(Part::LARGEST)
}

fn bits(part: Part) -> Result<u32, ClientError> {
    let text = "the body has more blocks than can be numbered";
    let too_many = || ClientError::Usage(text.to_owned());
    part.bits().ok_or_else(too_many)
}

/// A part stands where it should, and is as long as it says.
fn check(response: &Response, part: Part, start: usize) -> Result<(), ClientError> {
    let len = response.payload.len();
    let is_whole = match part.szx {
        7 => len.is_multiple_of(part.size()) && len > 0,
        _ => len == part.size(),
    };
    if part.start != start || (part.more && !is_whole) {
        let text = format!("a block is not the one that comes next, at {start} (RFC 7959)");
        return Err(ClientError::Protocol(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate_coap::codec::{Options, Token};

    use super::*;

    fn response(code: Code, payload: &[u8]) -> Response {
        let token = Token::default();
        Response::read(code, token, false, Options::default(), payload).unwrap()
    }

    fn part(start: usize, more: bool, szx: u8) -> Part {
        Part { start, more, szx }
    }

    fn put(body: &[u8], largest: usize) -> Call {
        Call::new(Draft::new(Code::PUT), body.into(), largest)
    }

    /// Block1 and payload of what is to be sent.
    fn sent(call: &Call) -> (Option<Part>, Vec<u8>) {
        let draft = call.next().unwrap();
        (
            draft.first(number::BLOCK1).and_then(Part::read),
            draft.payload,
        )
    }

    fn continued(start: usize, szx: u8) -> Response {
        Response {
            block1: Some(part(start, true, szx)),
            ..response(Code::CONTINUE, b"")
        }
    }

    fn block2(payload: &[u8], start: usize, more: bool, etag: &[u8]) -> Response {
        Response {
            block2: Some(part(start, more, 0)),
            etag: Some(etag.to_vec()),
            ..response(Code::CONTENT, payload)
        }
    }

    #[test]
    fn rfc7959_2_3_a_body_goes_in_blocks_that_become_smaller_when_this_is_wanted() {
        let body: Vec<u8> = (0..150).collect();
        let mut call = put(&body, 24 + 64);
        let first = call.next().unwrap();
        assert_eq!(first.first(number::SIZE1), Some(&[150][..]));
        assert_eq!(sent(&call), (Some(part(0, true, 2)), body[..64].to_vec()));
        assert_eq!(call.take(continued(0, 1)).unwrap(), Step::Send);
        assert_eq!(call.next().unwrap().first(number::SIZE1), None);
        for start in [64, 96, 128] {
            let end = (start + 32).min(150);
            let expected = (Some(part(start, end < 150, 1)), body[start..end].to_vec());
            assert_eq!(sent(&call), expected);
            if end < 150 {
                assert_eq!(call.take(continued(start, 1)).unwrap(), Step::Send);
            }
        }
        let done = response(Code::CHANGED, b"");
        assert_eq!(call.take(done.clone()).unwrap(), Step::Done(done));
        // What fits goes as it is.
        assert_eq!(sent(&put(&body, 24 + 150)), (None, body));
    }

    #[test]
    fn rfc7959_2_9_2_a_gateway_that_has_forgotten_the_blocks_gets_them_anew() {
        let mut call = put(&[7; 40], 0);
        assert_eq!(call.take(continued(0, 0)).unwrap(), Step::Send);
        let forgotten = response(Code::REQUEST_ENTITY_INCOMPLETE, b"");
        for _ in 0..MAX_RESTARTS {
            assert_eq!(call.take(forgotten.clone()).unwrap(), Step::Send);
            assert_eq!(sent(&call).0, Some(part(0, true, 0)));
            assert_eq!(call.take(continued(0, 0)).unwrap(), Step::Send);
        }
        let done = call.take(forgotten.clone()).unwrap();
        assert_eq!(done, Step::Done(forgotten), "it is not tried for ever");
    }

    #[test]
    fn rfc7959_2_9_3_blocks_that_are_too_large_are_told_from_a_body_that_is() {
        let mut call = put(&[7; 2000], 1152);
        let too_large = Response {
            block1: Some(part(0, true, 4)),
            ..response(Code::REQUEST_ENTITY_TOO_LARGE, b"")
        };
        assert_eq!(call.take(too_large.clone()).unwrap(), Step::Send);
        assert_eq!(sent(&call).0, Some(part(0, true, 4)));
        assert_eq!(call.take(too_large.clone()).unwrap(), Step::Done(too_large));
    }

    #[test]
    fn a_server_that_takes_a_block_for_the_body_is_found_out() {
        let changed = response(Code::CHANGED, b"");
        let error = put(&[7; 40], 0).take(changed).unwrap_err();
        assert!(error.to_string().contains("for the whole body"), "{error}");
        let error = put(&[7; 40], 0).take(continued(16, 0)).unwrap_err();
        assert!(error.to_string().contains("for the whole body"), "{error}");
    }

    #[test]
    fn rfc7959_2_4_an_answer_in_blocks_is_put_together() {
        let mut request = Draft::new(Code::GET);
        request.uint(number::OBSERVE, 0);
        let mut call = Call::new(request, Arc::default(), 1152);
        assert!(call.next().unwrap().first(number::OBSERVE).is_some());
        assert_eq!(
            call.take(block2(&[1; 16], 0, true, b"e")).unwrap(),
            Step::Send
        );
        let next = call.next().unwrap();
        assert_eq!(next.first(number::BLOCK2), Some(&[0x10][..]));
        assert_eq!(next.first(number::OBSERVE), None, "section 3.4");
        assert_eq!(
            call.take(block2(&[2; 16], 16, true, b"e")).unwrap(),
            Step::Send
        );
        match call.take(block2(b"3", 32, false, b"e")).unwrap() {
            Step::Done(whole) => {
                assert_eq!(whole.payload, [&[1; 16][..], &[2; 16], b"3"].concat());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rfc7959_2_4_a_value_that_changes_while_it_is_read_is_read_anew() {
        let mut call = Call::new(Draft::new(Code::GET), Arc::default(), 1152);
        for _ in 0..MAX_RESTARTS {
            assert_eq!(
                call.take(block2(&[1; 16], 0, true, b"e")).unwrap(),
                Step::Send
            );
            assert_eq!(
                call.take(block2(&[2; 16], 16, true, b"f")).unwrap(),
                Step::Send
            );
            assert_eq!(call.next().unwrap().first(number::BLOCK2), None);
        }
        assert_eq!(
            call.take(block2(&[1; 16], 0, true, b"e")).unwrap(),
            Step::Send
        );
        assert_eq!(
            call.take(block2(&[2; 16], 16, true, b"f")).unwrap(),
            Step::Overtaken,
            "it is not tried for ever"
        );
    }

    #[test]
    fn rfc7959_2_2_a_block_out_of_place_or_of_another_size_is_no_block() {
        for (payload, start) in [(&[1; 16][..], 32), (&[1; 15], 16)] {
            let mut call = Call::new(Draft::new(Code::GET), Arc::default(), 1152);
            call.take(block2(&[1; 16], 0, true, b"e")).unwrap();
            let error = call.take(block2(payload, start, true, b"e")).unwrap_err();
            assert!(error.to_string().contains("comes next, at 16"), "{error}");
        }
    }

    #[test]
    fn rfc9175_2_3_an_echo_is_given_back_and_not_for_ever() {
        let mut call = Call::new(Draft::new(Code::GET), Arc::default(), 1152);
        let mut asked = response(Code::UNAUTHORIZED, b"");
        assert_eq!(call.take(asked.clone()).unwrap(), Step::Done(asked.clone()));
        asked.echo = Some(b"yes".to_vec());
        for _ in 0..MAX_ECHOES {
            assert_eq!(call.take(asked.clone()).unwrap(), Step::Send);
            assert_eq!(call.next().unwrap().first(number::ECHO), Some(&b"yes"[..]));
        }
        assert_eq!(call.take(asked.clone()).unwrap(), Step::Done(asked));
    }
}
