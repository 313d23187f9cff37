//! The request of the upgrade (RFC 6455 section 4.2.1) and whether it is one.

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use tidegate_origin::Gate;
use tungstenite::handshake::derive_accept_key;

use crate::response::Refusal;

/// Most header fields that a request may have.
const MAX_HEADERS: usize = 64;

/// The sub-protocols that are MQTT, the better one first. MQTT 3.1 had a name of its own; MQTT.js and
/// others still offer both.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What the answer to a good request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// `Sec-WebSocket-Accept`.
    pub(crate) key: String,
    /// `Sec-WebSocket-Protocol`.
    pub(crate) protocol: &'static str,
}

/// Reads a request's head, which ends with its empty line.
pub(crate) fn parse(head: &[u8]) -> Result<Parts, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("its end is missing")),
        Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(httparse::Error::Version) if names_http(head) => return Err(version()),
        Err(error) => return Err(malformed(error)),
    }
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(match parsed.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        });
    for field in parsed.headers.iter() {
        request = request.header(field.name, field.value);
    }
    let request = request.body(()).map_err(malformed)?;
    Ok(request.into_parts().0)
}

/// Whether the request that arrived at the address `local` asks for MQTT over WebSocket at `path`.
pub(crate) fn check(
    request: &Parts,
    gate: &Gate,
    path: &str,
    local: IpAddr,
) -> Result<Accepted, Refusal> {
    gate.check(request, local).map_err(|refusal| {
        Refusal::new(
            refusal.status(),
            refusal.explain("listeners.NAME.websocket"),
        )
    })?;
    if request.version != Version::HTTP_11 {
        return Err(version());
    }
    if request.method != Method::GET {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "A WebSocket begins with a GET request.",
        )
        .with_headers("Allow: GET\r\nConnection: close\r\n"));
    }
    if request.uri.path() != path {
        // What a stranger wrote is not repeated at any length; a path is ASCII here.
        let asked = request.uri.path();
        let asked = asked.get(..200).unwrap_or(asked);
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("There is nothing at {asked}; MQTT over WebSocket is at {path}."),
        ));
    }
    if has_body(&request.headers) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "A request that begins a WebSocket has no body.",
        ));
    }
    check_upgrade(&request.headers, path)?;
    let key = key(&request.headers)?;
    let protocol = protocol(&request.headers)?;
    Ok(Accepted {
        key: derive_accept_key(key),
        protocol,
    })
}

/// The head is longer or has more fields than is read.
pub(crate) fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        format!(
            "The request's header has more than 16 KiB or more than {MAX_HEADERS} fields. Cookies of \
             other programs on the same host may be the reason."
        ),
    )
}

fn malformed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        format!("This is no HTTP request: {why}."),
    )
}

/// Whether the first line ends like a request line, whatever the version.
fn names_http(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    last.starts_with(b"HTTP/")
}

fn version() -> Refusal {
    Refusal::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "A WebSocket begins with a request of HTTP/1.1; this is another version.",
    )
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0")
}

/// The tokens of a comma-separated list, in however many fields it was sent.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim_matches([' ', '\t']))
}

fn check_upgrade(headers: &HeaderMap, path: &str) -> Result<(), Refusal> {
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: close, Upgrade\r\n";
    let refusal = |text| Refusal::new(StatusCode::UPGRADE_REQUIRED, text).with_headers(UPGRADE);
    if !tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(refusal(format!(
            "This is MQTT over WebSocket at {path}; it is no page to look at. Give this address to \
             an MQTT client, with ws:// or wss:// before it."
        )));
    }
    if !tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(refusal(
            "The Connection header does not say Upgrade. A proxy on the way may have taken it away; \
             it must pass WebSocket on."
                .to_owned(),
        ));
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    if versions.next().map(HeaderValue::as_bytes) != Some(b"13") || versions.next().is_some() {
        return Err(
            refusal("This is version 13 of WebSocket (RFC 6455) and no other.".to_owned())
                .with_headers(
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Connection: close, Upgrade\r\n",
                ),
        );
    }
    Ok(())
}

/// The client's key: 16 bytes in base64.
fn key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let mut keys = headers
        .get_all(header::SEC_WEBSOCKET_KEY)
        .iter()
        .map(HeaderValue::as_bytes);
    match (keys.next(), keys.next()) {
        (Some(key @ [digits @ .., b'=', b'=']), None)
            if digits.len() == 22 && digits.iter().all(base64) =>
        {
            Ok(key)
        }
        _ => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "The Sec-WebSocket-Key header is not one key of 16 bytes in base64.",
        )),
    }
}

/// MQTT-6.0.0-3 and -4: the client offers a sub-protocol that is MQTT, and the answer names it.
fn protocol(headers: &HeaderMap) -> Result<&'static str, Refusal> {
    let offers = |name: &str| tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|t| t == name);
    PROTOCOLS
        .into_iter()
        .find(|name| offers(name))
        .ok_or_else(|| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "The client does not offer the sub-protocol mqtt in Sec-WebSocket-Protocol, so what \
                 it wants to speak is not known. In a browser it is the second argument: \
                 new WebSocket(address, \"mqtt\").",
            )
        })
}
