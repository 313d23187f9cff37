//! The HTTP answers to an upgrade request (RFC 9112): one that says yes and many that say no in words
//! for whoever has typed the address into a browser or a terminal.

use std::borrow::Cow;

use http::{Method, StatusCode};

use crate::request::Accepted;

/// The answer that says no.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: Cow<'static, str>,
    /// Further header lines, each with its end.
    headers: &'static str,
    /// An answer to HEAD has the length of its content but not the content (RFC 9110 section 9.3.2).
    has_content: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
            headers: "Connection: close\r\n",
            has_content: true,
        }
    }

    /// With these header lines, among them `Connection`.
    pub(crate) const fn with_headers(mut self, headers: &'static str) -> Self {
        self.headers = headers;
        self
    }

    /// For a request of this method.
    pub(crate) fn to(mut self, method: &Method) -> Self {
        self.has_content = method != Method::HEAD;
        self
    }

    /// The bytes of it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self {
            status,
            text,
            headers,
            has_content,
        } = self;
        // nosniff, as the text may repeat what the request said.
        let mut answer = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n\
             {headers}\r\n",
            text.len() + 1,
        )
        .into_bytes();
        if *has_content {
            answer.extend_from_slice(text.as_bytes());
            answer.push(b'\n');
        }
        answer
    }
}

/// The answer that says yes (RFC 6455 section 4.2.2).
pub(crate) fn switching_protocols(accepted: &Accepted) -> Vec<u8> {
    let Accepted { key, protocol } = accepted;
    format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {key}\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\
         \r\n"
    )
    .into_bytes()
}
