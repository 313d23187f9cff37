//! What is answered without keeping anything: the request to come again with a cookie, and an alert.

use crate::cookie::COOKIE;
use crate::hello::{push_u16, write_message_header};
use crate::record::{ALERT, HANDSHAKE, write_header};

const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// Of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// Alerts (RFC 8446, 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alert {
    HandshakeFailure = 40,
    BadCertificate = 42,
    CertificateRevoked = 44,
    CertificateExpired = 45,
    UnknownCa = 48,
    DecryptError = 51,
    InternalError = 80,
}

/// HelloVerifyRequest (RFC 6347, 4.2.1). Its record has the number of the hello's record, and its message the number of
/// the hello's message: nothing of either is remembered.
pub(crate) fn hello_verify_request(
    out: &mut Vec<u8>,
    sequence: u64,
    message: u16,
    cookie: &[u8; COOKIE],
) {
    out.clear();
    let length = 2 + 1 + COOKIE;
    write_header(out, HANDSHAKE, sequence, 12 + length);
    write_message_header(out, HELLO_VERIFY_REQUEST, message, length);
    // DTLS 1.0, whatever is going to be spoken (RFC 6347, 4.2.1).
    out.extend_from_slice(&[0xFE, 0xFF, 32]);
    out.extend_from_slice(cookie);
}

/// HelloRetryRequest (RFC 8446, 4.1.4; RFC 9147, 5.1). It is part of what both sides sign: to the byte it is what the
/// engine makes of the same hello afterwards.
pub(crate) fn hello_retry_request(
    out: &mut Vec<u8>,
    sequence: u64,
    suite: u16,
    cookie: &[u8; COOKIE],
) {
    out.clear();
    let extensions = (4 + 2) + (4 + 2 + COOKIE);
    let length = 2 + RETRY_RANDOM.len() + 1 + 2 + 1 + 2 + extensions;
    write_header(out, HANDSHAKE, sequence, 12 + length);
    write_message_header(out, SERVER_HELLO, 0, length);
    out.extend_from_slice(&[0xFE, 0xFD]);
    out.extend_from_slice(&RETRY_RANDOM);
    out.push(0);
    out.extend_from_slice(&suite.to_be_bytes());
    out.push(0);
    push_u16(out, extensions);
    // supported_versions: DTLS 1.3.
    out.extend_from_slice(&[0, 43, 0, 2, 0xFE, 0xFC]);
    // cookie
    out.extend_from_slice(&[0, 44]);
    push_u16(out, 2 + COOKIE);
    push_u16(out, COOKIE);
    out.extend_from_slice(cookie);
}

/// A fatal alert that is not protected.
pub(crate) fn alert(out: &mut Vec<u8>, sequence: u64, alert: Alert) {
    out.clear();
    write_header(out, ALERT, sequence, 2);
    out.extend_from_slice(&[2, alert as u8]);
}
