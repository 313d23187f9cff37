//! Pre-shared keys (RFC 4279) and the file they are in.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use foldhash::HashMap;
use tidegate_tls::read_file;

use crate::LoadError;

/// RFC 4279, 5.3 asks that identities up to this length be supported; longer ones nobody needs.
const MAX_IDENTITY: usize = 128;
/// A shorter key could be found by trying, from one recorded handshake.
const MIN_KEY: usize = 16;
/// RFC 4279, 5.3.
const MAX_KEY: usize = 64;

/// Identities of clients and the key of each.
#[derive(Clone, Default)]
pub struct PskKeys {
    keys: HashMap<Box<[u8]>, Key>,
}

#[derive(Clone)]
struct Key {
    identity: Arc<str>,
    secret: Box<[u8]>,
}

/// What is wrong with an identity or its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PskProblem {
    /// The identity is empty, too long, or has control characters.
    #[error(
        "an identity has 1 to {MAX_IDENTITY} bytes of text without control characters (RFC 4279, 5.1)"
    )]
    Identity,
    /// The key is too short or too long.
    #[error("a key has {MIN_KEY} to {MAX_KEY} bytes")]
    KeyLength,
    /// The key is not hexadecimal.
    #[error("the key is not hexadecimal")]
    NotHexadecimal,
    /// There is no colon.
    #[error("it is not of the form identity:hexkey")]
    Form,
    /// The identity has a key already.
    #[error("the identity occurs twice")]
    Twice,
}

impl PskKeys {
    /// Adds a key.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn insert(&mut self, identity: &str, key: &[u8]) -> Result<(), PskProblem> {
        let length = 1..=MAX_IDENTITY;
        if !length.contains(&identity.len()) || identity.chars().any(char::is_control) {
            return Err(PskProblem::Identity);
        }
        if !(MIN_KEY..=MAX_KEY).contains(&key.len()) {
            return Err(PskProblem::KeyLength);
        }
        if self.keys.contains_key(identity.as_bytes()) {
            return Err(PskProblem::Twice);
        }
        let entry = Key {
            identity: identity.into(),
            secret: key.into(),
        };
        self.keys.insert(identity.as_bytes().into(), entry);
        Ok(())
    }

    /// Reads a file with one `identity:hexkey` a line. The last colon counts, so that identities may have some. Empty
    /// lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// What is wrong in which line; no line's text is in it.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Self::parse(path, &read_file(path)?)
    }

    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, LoadError> {
        let mut keys = Self::default();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line[0] == b'#' {
                continue;
            }
            keys.line(line).map_err(|problem| LoadError::Psk {
                path: path.to_owned(),
                line: number + 1,
                problem,
            })?;
        }
        if keys.is_empty() {
            return Err(LoadError::NoPsk {
                path: path.to_owned(),
            });
        }
        Ok(keys)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), PskProblem> {
        let colon = line.iter().rposition(|byte| *byte == b':');
        let (identity, key) = line.split_at(colon.ok_or(PskProblem::Form)?);
        let identity = std::str::from_utf8(identity).map_err(|_| PskProblem::Identity)?;
        self.insert(
            identity,
            &hexadecimal(&key[1..]).ok_or(PskProblem::NotHexadecimal)?,
        )
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The only one.
    pub(crate) fn only(&self) -> Option<(&Arc<str>, &[u8])> {
        let mut keys = self.keys.values();
        let only = keys.next()?;
        keys.next()
            .is_none()
            .then_some((&only.identity, &*only.secret))
    }

    pub(crate) fn find(&self, identity: &[u8]) -> Option<(&Arc<str>, &[u8])> {
        let key = self.keys.get(identity)?;
        Some((&key.identity, &key.secret))
    }
}

/// Tells no key.
impl fmt::Debug for PskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskKeys")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PskKeys, LoadError> {
        PskKeys::parse(Path::new("/psk"), text.as_bytes())
    }

    #[test]
    fn a_file_has_one_identity_and_hexadecimal_key_a_line() {
        let keys = parse(
            "# fleet\n\nsensor-1:000102030405060708090a0b0c0d0e0f\r\n\
             urn:dev:7:FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF\n",
        );
        let keys = keys.unwrap();
        assert_eq!(keys.len(), 2);
        let expected: Vec<u8> = (0..16).collect();
        assert_eq!(keys.find(b"sensor-1").unwrap().1, expected);
        assert_eq!(keys.find(b"urn:dev:7").unwrap().1, [0xFF; 16]);
        assert!(keys.find(b"urn").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_without_the_key() {
        let key = "000102030405060708090a0b0c0d0e0f";
        for (text, expected) in [
            (format!("a:{key}\nb"), "line 2: it is not of the form"),
            (format!(":{key}"), "line 1: an identity has"),
            (format!("{}:{key}", "x".repeat(129)), "an identity has"),
            ("a:0011".to_owned(), "a key has 16 to 64 bytes"),
            (format!("a:{}", "00".repeat(65)), "a key has 16 to 64 bytes"),
            (format!("a:{key}0"), "not hexadecimal"),
            (format!("a:{key}0g"), "not hexadecimal"),
            (format!("a:{key}\na:{key}"), "line 2: the identity occurs"),
            ("# none\n".to_owned(), "no key in it"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.starts_with("/psk: "), "{error}");
            assert!(!error.contains("0001"), "{error}");
        }
        let shown = format!("{:?}", parse(&format!("name:{key}")).unwrap());
        assert!(!shown.contains("name"), "{shown}");
    }
}
