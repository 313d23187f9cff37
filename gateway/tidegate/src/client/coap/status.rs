//! Response codes in words.

use std::fmt;

use tidegate_coap::codec::Code;

use super::response::Response;

/// `application/concise-problem-details+cbor` (RFC 9290)
const PROBLEM_DETAILS: u16 = 257;

/// A response code as a person reads it: "4.03 Forbidden", and what the gateway added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    explanation: Option<String>,
}

impl Status {
    pub(super) fn of(response: &Response) -> Self {
        let explanation = if response.code.is_success() {
            None
        } else {
            match response.content_format {
                Some(PROBLEM_DETAILS) => problem(&response.payload),
                // A diagnostic payload is text (RFC 7252 section 5.5.2).
                None | Some(0) => String::from_utf8(response.payload.clone()).ok(),
                Some(_) => None,
            }
        };
        Self {
            code: response.code,
            // It is somebody else's text on somebody's terminal.
            explanation: explanation
                .filter(|text| !text.is_empty())
                .map(|text| text.replace(char::is_control, " ")),
        }
    }

    /// One whose reason is the client's.
    pub(super) fn new(code: Code, explanation: &str) -> Self {
        Self {
            code,
            explanation: Some(explanation.to_owned()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(name) = name(self.code) {
            write!(f, " {name}")?;
        }
        match &self.explanation {
            Some(explanation) => write!(f, ": {explanation}"),
            None => Ok(()),
        }
    }
}

/// The name in the registry "CoAP Response Codes".
fn name(code: Code) -> Option<&'static str> {
    Some(match (code.class(), code.0 & 0x1F) {
        (2, 1) => "Created",
        (2, 2) => "Deleted",
        (2, 3) => "Valid",
        (2, 4) => "Changed",
        (2, 5) => "Content",
        (2, 31) => "Continue",
        (4, 0) => "Bad Request",
        (4, 1) => "Unauthorized",
        (4, 2) => "Bad Option",
        (4, 3) => "Forbidden",
        (4, 4) => "Not Found",
        (4, 5) => "Method Not Allowed",
        (4, 6) => "Not Acceptable",
        (4, 8) => "Request Entity Incomplete",
        (4, 9) => "Conflict",
        (4, 12) => "Precondition Failed",
        (4, 13) => "Request Entity Too Large",
        (4, 15) => "Unsupported Content-Format",
        (4, 22) => "Unprocessable Entity",
        (4, 29) => "Too Many Requests",
        (5, 0) => "Internal Server Error",
        (5, 1) => "Not Implemented",
        (5, 2) => "Bad Gateway",
        (5, 3) => "Service Unavailable",
        (5, 4) => "Gateway Timeout",
        (5, 5) => "Proxying Not Supported",
        (5, 8) => "Hop Limit Reached",
        _ => return None,
    })
}

/// Title (-1) and detail (-2) of concise problem details (RFC 9290 section 2), which are text and stand in a map of
/// CBOR (RFC 8949). Other entries may come after them.
fn problem(body: &[u8]) -> Option<String> {
    const TITLE: u64 = 0;
    const DETAIL: u64 = 1;
    let mut rest = body;
    let (5, entries) = head(&mut rest)? else {
        return None;
    };
    let mut said = Vec::new();
    for _ in 0..entries {
        // Negative numbers count from -1 down, texts are what these two are.
        let ((1, TITLE | DETAIL), Some((3, len))) = (head(&mut rest)?, head(&mut rest)) else {
            break;
        };
        let (text, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        said.push(std::str::from_utf8(text).ok()?);
        rest = tail;
    }
    Some(said.join(": "))
}

/// The head of a data item: its major type and its argument.
fn head(rest: &mut &[u8]) -> Option<(u8, u64)> {
    let (&first, tail) = rest.split_first()?;
    let more = match first & 0x1F {
        small @ 0..24 => {
            *rest = tail;
            return Some((first >> 5, small.into()));
        }
        size @ 24..28 => 1 << (size - 24),
        _ => return None,
    };
    let (argument, tail) = tail.split_at_checked(more)?;
    *rest = tail;
    let argument = argument
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some((first >> 5, argument))
}

#[cfg(test)]
mod tests {
    use tidegate_coap::codec::{Options, Token};

    use super::*;

    fn shown(code: Code, format: Option<u16>, payload: &[u8]) -> String {
        let response = Response::read(code, Token::default(), false, Options::default(), payload);
        let mut response = response.unwrap();
        response.content_format = format;
        Status::of(&response).to_string()
    }

    #[test]
    fn a_status_is_a_number_a_name_and_an_explanation() {
        assert_eq!(shown(Code::FORBIDDEN, None, b""), "4.03 Forbidden");
        assert_eq!(shown(Code::new(4, 28), None, b""), "4.28");
        let said = shown(Code::NOT_FOUND, None, b"no\nsuch thing");
        assert_eq!(said, "4.04 Not Found: no such thing");
        assert_eq!(shown(Code::CONTENT, None, b"21.5"), "2.05 Content");
        assert_eq!(shown(Code::NOT_FOUND, Some(60), b"x"), "4.04 Not Found");
    }

    #[test]
    fn rfc9290_2_title_and_detail_are_told() {
        let of = |body: &[u8]| shown(Code::BAD_REQUEST, Some(257), body);
        assert_eq!(of(b"\xA1\x20\x62no"), "4.00 Bad Request: no");
        let both = b"\xA3\x20\x62no\x21\x78\x03why\x38\x20\x01";
        assert_eq!(of(both), "4.00 Bad Request: no: why");
        for broken in [
            &b"\xA1\x20\x65no"[..],
            b"\xA1",
            b"",
            b"\x20",
            b"\xA1\x20\x62\xff\xff",
        ] {
            assert_eq!(of(broken), "4.00 Bad Request", "{broken:?}");
        }
    }
}
