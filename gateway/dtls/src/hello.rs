//! A ClientHello, read before anything is kept of who sent it (RFC 6347, 4.2.1 and RFC 9147, 5.1).
//!
//! No more of it is understood than it takes to choose version and kind of credential, and to take the cookie out:
//! all else is read by the engine, once the cookie has shown that the address is the sender's.

use std::ops::Range;

use crate::cursor::{Cursor, u16s};
use crate::record::{self, HANDSHAKE, HEADER};

/// Type, length, message number, offset and length of the fragment.
const HANDSHAKE_HEADER: usize = 12;

const SUPPORTED_GROUPS: usize = 10;
const SIGNATURE_ALGORITHMS: usize = 13;
const PADDING: usize = 21;
const EXTENDED_MASTER_SECRET: usize = 23;
const SUPPORTED_VERSIONS: usize = 43;
const COOKIE: usize = 44;
const KEY_SHARE: usize = 51;

const DTLS_1_3: u16 = 0xFEFC;

/// `TLS_PSK_WITH_AES_128_CCM_8`, which RFC 7252 (9.1.3.1) makes mandatory; of those with a pre-shared key the only one
/// that the engine has.
const PSK_SUITE: u16 = 0xC0A8;
/// ECDHE with ECDSA and AES-256-GCM, AES-128-GCM, ChaCha20-Poly1305.
const CERTIFICATE_SUITES: [u16; 3] = [0xC02C, 0xC02B, 0xCCA9];
/// AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
const SUITES_1_3: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// P-256, P-384, X25519.
const GROUPS: [u16; 3] = [0x0017, 0x0018, 0x001D];

/// What a server can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// It has pre-shared keys.
    pub(crate) psk: bool,
    /// It has a certificate, with which it signs so (RFC 8446, 4.2.3).
    pub(crate) certificate: Option<u16>,
}

/// What a handshake is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Psk12,
    Certificate12,
    /// With this cipher suite.
    Certificate13(u16),
}

/// Why a datagram that seemed to be a ClientHello is none that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is in pieces: nothing is kept of addresses that are not verified.
    Fragmented,
    Malformed,
}

/// A ClientHello, all of it in one record.
#[derive(Debug, Clone)]
pub(crate) struct Hello<'a> {
    /// The record, its header included.
    pub(crate) record: &'a [u8],
    pub(crate) message: u16,
    pub(crate) random: [u8; 32],
    /// The cookie of DTLS 1.2; empty in the first hello.
    pub(crate) cookie12: &'a [u8],
    /// The cookie of DTLS 1.3.
    pub(crate) cookie13: Option<&'a [u8]>,
    /// RFC 7627; the engine insists.
    pub(crate) extended_master_secret: bool,
    /// How many zeros the padding has (RFC 7685), if there is any.
    pub(crate) padding: Option<u16>,
    body: &'a [u8],
    /// Where in the body the value of the cookie of DTLS 1.2 is.
    at12: Range<usize>,
    /// Where in the body the cookie's extension is.
    at13: Option<Range<usize>>,
    padding_at: Option<Range<usize>>,
    /// Where in the body the extensions are, their length not included.
    extensions: Option<Range<usize>>,
    suites: &'a [u8],
    versions: &'a [u8],
    groups: &'a [u8],
    signatures: &'a [u8],
    /// There is a key share of a group that we have.
    has_share: bool,
}

impl<'a> Hello<'a> {
    /// Reads the first record of a datagram.
    pub(crate) fn read(datagram: &'a [u8]) -> Result<Self, Unreadable> {
        let record = record::first_record(datagram).ok_or(Unreadable::Malformed)?;
        Self::of_record(record)?.ok_or(Unreadable::Malformed)
    }

    fn of_record(record: &'a [u8]) -> Result<Option<Self>, Unreadable> {
        let mut cursor = Cursor::new(&record[HEADER..]);
        let Some(message) = Message::read(&mut cursor) else {
            return Ok(None);
        };
        if message.offset != 0 || message.fragment != message.length {
            return Err(Unreadable::Fragmented);
        }
        let body = cursor.take(message.length);
        let body = body.filter(|_| cursor.is_empty());
        Ok(body.and_then(|body| Self::of_body(record, message.number, body)))
    }

    fn of_body(record: &'a [u8], message: u16, body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        cursor.take(2)?;
        let random = cursor.array()?;
        cursor.vector8().filter(|session| session.len() <= 32)?;
        let cookie12 = cursor.vector8()?;
        let at12 = cursor.at() - cookie12.len()..cursor.at();
        let suites = cursor.vector16()?;
        let compressions = cursor.vector8()?;
        if suites.is_empty() || suites.len() % 2 != 0 || !compressions.contains(&0) {
            return None;
        }
        let mut hello = Self {
            record,
            message,
            random,
            cookie12,
            cookie13: None,
            extended_master_secret: false,
            body,
            at12,
            at13: None,
            padding: None,
            padding_at: None,
            extensions: None,
            suites,
            versions: &[],
            groups: &[],
            signatures: &[],
            has_share: false,
        };
        if !cursor.is_empty() {
            let length = cursor.u16()?;
            if cursor.at() + length != body.len() {
                return None;
            }
            hello.extensions = Some(cursor.at()..body.len());
            while !cursor.is_empty() {
                hello.extension(&mut cursor)?;
            }
        }
        Some(hello)
    }

    fn extension(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let start = cursor.at();
        let kind = cursor.u16()?;
        let value = cursor.vector16()?;
        let mut inner = Cursor::new(value);
        match kind {
            SUPPORTED_VERSIONS => self.versions = inner.vector8()?,
            SUPPORTED_GROUPS => self.groups = inner.only_vector16()?,
            SIGNATURE_ALGORITHMS => self.signatures = inner.only_vector16()?,
            EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            KEY_SHARE => {
                let mut shares = Cursor::new(inner.only_vector16()?);
                while !shares.is_empty() {
                    let group = shares.array().map(u16::from_be_bytes)?;
                    shares.vector16()?;
                    self.has_share |= GROUPS.contains(&group);
                }
            }
            COOKIE => {
                // Which of two would be meant nobody can say.
                if self.at13.is_some() {
                    return None;
                }
                self.cookie13 = Some(inner.only_vector16()?);
                self.at13 = Some(start..cursor.at());
            }
            PADDING => {
                if self.padding_at.is_some() || value.iter().any(|byte| *byte != 0) {
                    return None;
                }
                self.padding = u16::try_from(value.len()).ok();
                self.padding_at = Some(start..cursor.at());
            }
            _ => {}
        }
        Some(())
    }

    /// What this hello and this server make possible: DTLS 1.3 before 1.2, and there whatever the client likes
    /// better.
    pub(crate) fn choose(&self, offer: Offer) -> Option<Choice> {
        if let Some(scheme) = offer.certificate
            && u16s(self.versions).any(|version| version == DTLS_1_3)
            && self.has_share
            && u16s(self.groups).any(|group| GROUPS.contains(&group))
            && u16s(self.signatures).any(|offered| offered == scheme)
            && let Some(suite) = u16s(self.suites).find(|suite| SUITES_1_3.contains(suite))
        {
            return Some(Choice::Certificate13(suite));
        }
        u16s(self.suites).find_map(|suite| {
            if suite == PSK_SUITE && offer.psk {
                Some(Choice::Psk12)
            } else if CERTIFICATE_SUITES.contains(&suite) && offer.certificate.is_some() {
                Some(Choice::Certificate12)
            } else {
                None
            }
        })
    }

    /// Writes the record with the hello that had no cookie, which must have come before this one. Its message has
    /// the number `message`.
    ///
    /// In DTLS 1.3 a client changes nothing but cookie and padding if it is asked for the cookie only (RFC 8446, 4.1.2), and
    /// what is written has to be, to the byte, what it sent: so one has to know how long the padding was. In DTLS 1.2 the
    /// hello without the cookie is part of nothing, and is written without padding.
    pub(crate) fn write_earlier(
        &self,
        choice: Option<Choice>,
        padding: Option<u16>,
        message: u16,
        out: &mut Vec<u8>,
    ) {
        out.clear();
        record::write_header(out, HANDSHAKE, 0, 0);
        write_message_header(out, 1, message, 0);
        if matches!(choice, Some(Choice::Certificate13(_))) {
            let end = self
                .extensions
                .as_ref()
                .map_or(self.body.len(), |it| it.start - 2);
            out.extend_from_slice(&self.body[..end]);
            self.write_extensions(self.at13.clone(), padding, out);
        } else {
            // The byte with the cookie's length stands before it.
            out.extend_from_slice(&self.body[..self.at12.start - 1]);
            out.push(0);
            let end = self
                .extensions
                .as_ref()
                .map_or(self.body.len(), |it| it.start - 2);
            out.extend_from_slice(&self.body[self.at12.end..end]);
            self.write_extensions(None, None, out);
        }
        let length = out.len() - HEADER - HANDSHAKE_HEADER;
        record::set_length(out, HANDSHAKE_HEADER + length);
        set_message_length(&mut out[HEADER..], length);
    }

    /// How many bytes of the body that [`Self::write_earlier`] writes have to be the same in both hellos.
    ///
    /// In DTLS 1.2 those are version, random, session, suites and compression (RFC 6347 section 4.2.1). Extensions may
    /// change: a client that offers DTLS 1.3 as well leaves those of it out once it is asked for a cookie in DTLS 1.2.
    pub(crate) fn bound_len(&self, choice: Option<Choice>) -> usize {
        match (choice, &self.extensions) {
            (Some(Choice::Certificate13(_)), _) | (_, None) => usize::MAX,
            (_, Some(extensions)) => extensions.start - 2 - self.at12.len(),
        }
    }

    /// Writes the extensions but for one, and with another padding.
    fn write_extensions(
        &self,
        without: Option<Range<usize>>,
        padding: Option<u16>,
        out: &mut Vec<u8>,
    ) {
        let Some(extensions) = self.extensions.clone() else {
            return;
        };
        let length_at = out.len();
        push_u16(out, 0);
        let end = extensions.end..extensions.end;
        let padding_at = self.padding_at.clone().unwrap_or(end.clone());
        let without = without.unwrap_or(end);
        let write_padding = |out: &mut Vec<u8>| {
            if let Some(length) = padding.map(usize::from) {
                push_u16(out, PADDING);
                push_u16(out, length);
                out.resize(out.len() + length, 0);
            }
        };
        let (first, second) = if padding_at.start < without.start {
            (&padding_at, &without)
        } else {
            (&without, &padding_at)
        };
        out.extend_from_slice(&self.body[extensions.start..first.start]);
        if *first == padding_at {
            write_padding(out);
        }
        out.extend_from_slice(&self.body[first.end..second.start]);
        if *first != padding_at {
            write_padding(out);
        }
        out.extend_from_slice(&self.body[second.end..]);
        let length = out.len() - length_at - 2;
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        out[length_at..length_at + 2].copy_from_slice(&length);
    }
}

/// The body of a hello that [`Hello::write_earlier`] has written.
pub(crate) fn body_of(record: &[u8]) -> &[u8] {
    record.get(HEADER + HANDSHAKE_HEADER..).unwrap_or(&[])
}

/// The header of a handshake message.
struct Message {
    length: usize,
    number: u16,
    offset: usize,
    fragment: usize,
}

impl Message {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        cursor.u8()?;
        Some(Self {
            length: cursor.u24()?,
            number: cursor.array().map(u16::from_be_bytes)?,
            offset: cursor.u24()?,
            fragment: cursor.u24()?,
        })
    }
}

/// Writes the header of a handshake message that is in one piece.
pub(crate) fn write_message_header(out: &mut Vec<u8>, kind: u8, message: u16, length: usize) {
    out.push(kind);
    push_u24(out, length);
    out.extend_from_slice(&message.to_be_bytes());
    push_u24(out, 0);
    push_u24(out, length);
}

/// Changes the length of a message that is in one piece.
fn set_message_length(message: &mut [u8], length: usize) {
    let bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    message[1..4].copy_from_slice(&bytes[1..]);
    message[9..12].copy_from_slice(&bytes[1..]);
}

/// Lengths here are those of parts of a datagram.
pub(crate) fn push_u16(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
}

fn push_u24(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRTEEN: Option<Choice> = Some(Choice::Certificate13(0x1301));

    fn extension(kind: usize, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_u16(&mut out, kind);
        push_u16(&mut out, value.len());
        out.extend_from_slice(value);
        out
    }

    fn padding(length: usize) -> Vec<u8> {
        extension(PADDING, &vec![0; length])
    }

    fn cookie() -> Vec<u8> {
        extension(COOKIE, &[&[0, 32][..], &[0xC0; 32]].concat())
    }

    fn offers() -> Vec<u8> {
        [
            extension(SUPPORTED_VERSIONS, &[2, 0xFE, 0xFC]),
            extension(SUPPORTED_GROUPS, &[0, 2, 0, 0x17]),
            extension(SIGNATURE_ALGORITHMS, &[0, 2, 4, 3]),
            extension(KEY_SHARE, &[0, 6, 0, 0x17, 0, 2, 9, 9]),
        ]
        .concat()
    }

    fn hello(message: u16, suites: &[u16], cookie12: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.push(u8::try_from(cookie12.len()).unwrap());
        body.extend_from_slice(cookie12);
        push_u16(&mut body, suites.len() * 2);
        for suite in suites {
            body.extend_from_slice(&suite.to_be_bytes());
        }
        body.extend_from_slice(&[1, 0]);
        let extensions = extensions.concat();
        push_u16(&mut body, extensions.len());
        body.extend_from_slice(&extensions);
        let mut out = Vec::new();
        record::write_header(&mut out, HANDSHAKE, 0, HANDSHAKE_HEADER + body.len());
        write_message_header(&mut out, 1, message, body.len());
        out.extend_from_slice(&body);
        out
    }

    #[test]
    fn rfc8446_4_1_2_the_first_hello_is_restored_whatever_became_of_its_padding() {
        let (offers, cookie) = (offers(), cookie());
        // Before the cookie, and after.
        for (first, second) in [
            (vec![offers.clone()], vec![offers.clone(), cookie.clone()]),
            (vec![offers.clone()], vec![cookie.clone(), offers.clone()]),
            (
                vec![offers.clone(), padding(300)],
                vec![offers.clone(), cookie.clone(), padding(262)],
            ),
            (
                vec![offers.clone(), padding(300)],
                vec![offers.clone(), padding(0), cookie.clone()],
            ),
            (
                vec![padding(3), offers.clone()],
                vec![padding(99), cookie.clone(), offers.clone()],
            ),
            (
                vec![padding(3), offers.clone()],
                vec![cookie.clone(), padding(3), offers.clone()],
            ),
            // Gone, or new.
            (
                vec![offers.clone(), padding(5)],
                vec![offers.clone(), cookie.clone()],
            ),
            (
                vec![offers.clone()],
                vec![offers.clone(), cookie.clone(), padding(5)],
            ),
            (
                vec![offers.clone()],
                vec![padding(5), cookie.clone(), offers.clone()],
            ),
        ] {
            let first = hello(0, &[0x1301], &[], &first);
            let second = hello(1, &[0x1301], &[], &second);
            let was = Hello::read(&first).unwrap();
            let is = Hello::read(&second).unwrap();
            assert_eq!(is.cookie13, Some(&[0xC0; 32][..]));
            let mut restored = Vec::new();
            is.write_earlier(THIRTEEN, was.padding, 0, &mut restored);
            assert_eq!(restored, first);
            // The first one is its own.
            was.write_earlier(THIRTEEN, was.padding, 0, &mut restored);
            assert_eq!(restored, first);
        }
    }

    #[test]
    fn rfc6347_4_2_1_the_hello_of_dtls_1_2_is_written_again_without_cookie_and_padding() {
        let written = |cookie: &[u8], extensions: &[Vec<u8>]| {
            let hello = hello(1, &[0xC0A8], cookie, extensions);
            let mut out = Vec::new();
            let hello = Hello::read(&hello).unwrap();
            hello.write_earlier(Some(Choice::Psk12), Some(9), 0, &mut out);
            out
        };
        let ems = extension(EXTENDED_MASTER_SECRET, &[]);
        let expected = hello(0, &[0xC0A8], &[], std::slice::from_ref(&ems));
        assert_eq!(written(&[], std::slice::from_ref(&ems)), expected);
        assert_eq!(written(&[1; 32], &[ems.clone(), padding(7)]), expected);
        assert_ne!(written(&[1; 32], &[ems.clone(), ems]), expected);
    }

    #[test]
    fn rfc9147_5_dtls_1_3_goes_first_and_then_what_the_client_likes_better() {
        let both = Offer {
            psk: true,
            certificate: Some(0x0403),
        };
        let choose = |suites: &[u16], extensions: &[Vec<u8>], offer: Offer| {
            let hello = hello(0, suites, &[], extensions);
            Hello::read(&hello).unwrap().choose(offer)
        };
        let offers = [offers()];
        let twelve = Some(Choice::Certificate12);
        let all = [0x1302, 0x1301, 0xC02B, 0xC0A8];
        let expected = Some(Choice::Certificate13(0x1302));
        assert_eq!(choose(&all, &offers, both), expected);
        assert_eq!(choose(&all, &[], both), twelve);
        assert_eq!(
            choose(&[0xC0A8, 0xC02B], &[], both),
            Some(Choice::Psk12),
            "the client's order"
        );
        let psk_only = Offer {
            certificate: None,
            ..both
        };
        assert_eq!(choose(&all, &offers, psk_only), Some(Choice::Psk12));
        let other_key = Offer {
            psk: false,
            certificate: Some(0x0503),
        };
        assert_eq!(choose(&all, &offers, other_key), twelve, "its signature");
        assert_eq!(choose(&[0x002F], &offers, both), None);
        let no_share = [extension(SUPPORTED_VERSIONS, &[2, 0xFE, 0xFC])];
        assert_eq!(choose(&all, &no_share, both), twelve);
    }

    #[test]
    fn a_hello_that_says_more_than_there_is_or_the_same_twice_is_none() {
        let good = hello(0, &[0x1301], &[], &[offers(), cookie()]);
        assert!(Hello::read(&good).is_ok());
        for cut in 0..good.len() {
            assert!(Hello::read(&good[..cut]).is_err(), "{cut}");
        }
        for extensions in [
            vec![cookie(), cookie()],
            vec![padding(1), padding(1)],
            vec![extension(PADDING, &[0, 1])],
            vec![extension(COOKIE, &[0, 9, 1])],
            vec![extension(KEY_SHARE, &[0, 5, 0, 0x17, 0, 9, 1])],
        ] {
            let bad = hello(0, &[0x1301], &[], &extensions);
            let result = Hello::read(&bad).map(|_| ());
            assert_eq!(result, Err(Unreadable::Malformed), "{extensions:02x?}");
        }
    }
}
