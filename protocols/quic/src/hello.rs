//! Whether a client wants to send early data, which rustls decides about and does not tell.

/// The ClientHello's type (RFC 8446 section 4), and the extension `early_data` (section 4.2.10).
const CLIENT_HELLO: u8 = 1;
const EARLY_DATA: u16 = 42;
/// Octets of a handshake message's header, and of the longest ClientHello: rustls takes no longer one.
const HEADER: usize = 4;
const LONGEST: usize = 0xFFFF;

/// Reads the first ClientHello of a connection as it comes. Early data is offered in no other one.
#[derive(Debug, Default)]
pub(crate) struct FirstHello {
    bytes: Vec<u8>,
    offers_early_data: Option<bool>,
}

impl FirstHello {
    /// What rustls reads, too, in order.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        if self.offers_early_data.is_some() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let Some((header, rest)) = self.bytes.split_at_checked(HEADER) else {
            return;
        };
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        if header[0] != CLIENT_HELLO || length > LONGEST {
            self.offers_early_data = Some(false);
        } else if let Some(hello) = rest.get(..length) {
            self.offers_early_data = Some(offers_early_data(hello).unwrap_or(false));
        } else {
            return;
        }
        self.bytes = Vec::new();
    }

    pub(crate) fn offers_early_data(&self) -> bool {
        self.offers_early_data.unwrap_or(false)
    }
}

/// `None` for what is no ClientHello.
fn offers_early_data(hello: &[u8]) -> Option<bool> {
    // Version and random.
    let (_, rest) = hello.split_at_checked(2 + 32)?;
    let (_session, rest) = vector(rest, 1)?;
    let (_suites, rest) = vector(rest, 2)?;
    let (_compression, rest) = vector(rest, 1)?;
    let (mut extensions, _) = vector(rest, 2)?;
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        if u16::from_be_bytes(*kind) == EARLY_DATA {
            return Some(true);
        }
        (_, extensions) = vector(rest, 2)?;
    }
    Some(false)
}

/// What follows a length of so many octets, and what follows that.
fn vector(bytes: &[u8], octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(octets)?;
    let length = length
        .iter()
        .fold(0, |length, octet| length << 8 | usize::from(*octet));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[u16]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|kind| [kind.to_be_bytes(), [0, 2], [7, 7]].concat())
            .collect();
        let mut body = vec![3; 2 + 32];
        body.extend([1, 9, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = (body.len() as u32).to_be_bytes().to_vec();
        message[0] = CLIENT_HELLO;
        message.extend(body);
        message
    }

    fn read(parts: &[&[u8]]) -> FirstHello {
        let mut first = FirstHello::default();
        for part in parts {
            first.read(part);
        }
        first
    }

    #[test]
    fn rfc8446_4_2_10_early_data_is_offered_by_its_extension() {
        for (extensions, offered) in [
            (&[][..], false),
            (&[0, 16], false),
            (&[0, EARLY_DATA, 41], true),
            (&[EARLY_DATA], true),
        ] {
            let message = hello(extensions);
            assert_eq!(read(&[&message]).offers_early_data(), offered);
            for at in 0..message.len() {
                let (one, other) = message.split_at(at);
                let first = read(&[one, other]);
                assert_eq!(first.offers_early_data(), offered, "{at}");
                assert!(first.bytes.is_empty());
            }
        }
    }

    #[test]
    fn only_the_first_hello_counts() {
        let first = read(&[&hello(&[0]), &hello(&[EARLY_DATA])]);
        assert!(!first.offers_early_data());
    }

    #[test]
    fn what_is_no_hello_is_survived_and_not_kept() {
        let message = hello(&[EARLY_DATA]);
        for at in 0..message.len() - 6 {
            let mut cut = message[..at].to_vec();
            if at >= HEADER {
                let length = at - HEADER;
                cut[..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
                cut[0] = CLIENT_HELLO;
            }
            assert!(!read(&[&cut]).offers_early_data(), "{at}");
        }
        let endless = [CLIENT_HELLO, 0xFF, 0xFF, 0xFF];
        let first = read(&[&endless, &[0; 70_000]]);
        assert!(first.bytes.is_empty() && !first.offers_early_data());
    }
}
