//! Tickets that several gateways understand, because they are given the same keys.
//!
//! A ticket is the name of its key (16 octets), a salt (32 random octets), the session encrypted with
//! AES-256-GCM, and the tag (16 octets). Key and nonce of the cipher are derived from the shared key and the
//! salt (HKDF-SHA256, RFC 5869): a nonce chosen at random would come twice too soon where a whole fleet
//! encrypts with one key for days. What is authenticated besides is what the ticket vouches for: the
//! authorities and revocation lists that the client's certificate was checked against. Under other ones it
//! is a ticket of nobody.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;

use crate::LoadError;

/// How long a ticket is good for, as those of keys that are not shared.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Octets of randomness in a key file: fewer can be guessed, more are a mistake.
const SHORTEST: usize = 32;
const LONGEST: usize = 1024;
/// Octets of a session: with a long chain of certificates it has some thousands. A longer one gets no ticket.
const LARGEST: usize = 16 << 10;

const NAME: usize = 16;
const SALT: usize = 32;
const TIME: usize = 8;
const TAG: usize = 16;
const AEAD_KEY: usize = 32;
const AEAD_NONCE: usize = 12;

/// What a key file holds.
#[derive(Clone)]
pub(crate) struct TicketKey {
    name: [u8; NAME],
    secret: hkdf::Prk,
}

impl TicketKey {
    /// Base64 of 32 octets or more; white space does not matter.
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, LoadError> {
        let unusable = |reason: String| LoadError::TicketKey {
            path: path.to_owned(),
            reason,
        };
        const HOW: &str = "`openssl rand -base64 48` makes one";
        let digits: Vec<u8> = text
            .iter()
            .copied()
            .filter(|octet| !octet.is_ascii_whitespace())
            .collect();
        if digits.is_empty() {
            return Err(unusable(format!("it is empty; {HOW}")));
        }
        if digits.starts_with(b"-----BEGIN") {
            return Err(unusable(format!(
                "it is PEM, perhaps the key of a certificate; {HOW}"
            )));
        }
        let octets = STANDARD
            .decode(&digits)
            .map_err(|_| unusable(format!("it is not base64; {HOW}")))?;
        if !(SHORTEST..=LONGEST).contains(&octets.len()) {
            let length = octets.len();
            return Err(unusable(format!(
                "it has {length} octets; it must have {SHORTEST} to {LONGEST}"
            )));
        }
        if octets.iter().all(|octet| *octet == octets[0]) {
            return Err(unusable(format!("its octets are all the same; {HOW}")));
        }
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tidegate ticket key").extract(&octets);
        let mut name = [0; NAME];
        derive(&secret, &[b"name"], &mut name)
            .ok_or_else(|| unusable("its name cannot be derived".to_owned()))?;
        Ok(Self { name, secret })
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn cipher(&self, salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        let mut derived = [0; AEAD_KEY + AEAD_NONCE];
        derive(&self.secret, &[b"ticket", salt], &mut derived)?;
        let (key, nonce) = derived.split_at(AEAD_KEY);
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        Some((LessSafeKey::new(key), nonce))
    }
}

/// Expands `secret` to as many octets as there is room for.
fn derive(secret: &hkdf::Prk, info: &[&[u8]], out: &mut [u8]) -> Option<()> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let expanded = secret.expand(info, Length(out.len())).ok()?;
    expanded.fill(out).ok()
}

/// Makes tickets with the first key and takes those of all.
pub(crate) struct SharedTicketer {
    keys: Vec<TicketKey>,
    /// What a ticket vouches for.
    trust: Vec<u8>,
}

impl SharedTicketer {
    /// There is at least one key. `trust` differs when what is asked of clients does.
    pub(crate) const fn new(keys: Vec<TicketKey>, trust: Vec<u8>) -> Self {
        Self { keys, trust }
    }

    fn associated(&self, name: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([name, &self.trust].concat())
    }

    fn seal(&self, session: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        if session.len() > LARGEST {
            return None;
        }
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let (cipher, nonce) = key.cipher(&salt)?;
        let mut plain = [&seconds(now).to_be_bytes(), session].concat();
        let associated = self.associated(&key.name);
        cipher
            .seal_in_place_append_tag(nonce, associated, &mut plain)
            .ok()?;
        Some([&key.name[..], &salt, &plain].concat())
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        // Before anything is computed.
        if ticket.len() > NAME + SALT + TIME + LARGEST + TAG {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        // Names are no secret: they stand in every ticket.
        let key = self.keys.iter().find(|key| key.name == name)?;
        let (cipher, nonce) = key.cipher(salt)?;
        let mut sealed = sealed.to_vec();
        let associated = self.associated(name);
        let plain = cipher.open_in_place(nonce, associated, &mut sealed).ok()?;
        let (time, session) = plain.split_at_checked(TIME)?;
        let made = u64::from_be_bytes(time.try_into().ok()?);
        // The clock of the gateway that made it may be ahead.
        let age = seconds(now).saturating_sub(made);
        (age < LIFETIME.as_secs()).then(|| session.to_vec())
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl ProducesTickets for SharedTicketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, SystemTime::now())
    }
}

impl fmt::Debug for SharedTicketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTicketer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &[u8] = b"what rustls knows of a session";

    fn key(number: u8) -> TicketKey {
        let octets: Vec<u8> = (0..48).map(|at| number.wrapping_add(at)).collect();
        TicketKey::parse(Path::new("key"), STANDARD.encode(octets).as_bytes()).unwrap()
    }

    fn ticketer(keys: &[u8], trust: &[u8]) -> SharedTicketer {
        let keys = keys.iter().map(|number| key(*number)).collect();
        SharedTicketer::new(keys, trust.to_vec())
    }

    #[test]
    fn another_gateway_with_the_key_understands_a_ticket() {
        let ticket = ticketer(&[1], b"ca").encrypt(SESSION).unwrap();
        let other = ticketer(&[1], b"ca");
        assert_eq!(other.decrypt(&ticket).unwrap(), SESSION);
        // Nor does it matter how often.
        assert_eq!(other.decrypt(&ticket).unwrap(), SESSION);
    }

    #[test]
    fn without_the_key_a_ticket_is_nobodys() {
        let ticket = ticketer(&[1], b"ca").encrypt(SESSION).unwrap();
        assert_eq!(ticketer(&[2], b"ca").decrypt(&ticket), None);
        // The name of another key does not help.
        let mut renamed = ticket;
        renamed[..NAME].copy_from_slice(&key(2).name);
        assert_eq!(ticketer(&[2], b"ca").decrypt(&renamed), None);
    }

    #[test]
    fn under_another_trust_a_ticket_is_nobodys() {
        let ticket = ticketer(&[1], b"ca").encrypt(SESSION).unwrap();
        assert_eq!(ticketer(&[1], b"another ca").decrypt(&ticket), None);
        assert_eq!(ticketer(&[1], b"").decrypt(&ticket), None);
    }

    #[test]
    fn the_first_key_encrypts_and_all_decrypt() {
        let before = ticketer(&[1], b"").encrypt(SESSION).unwrap();
        // First everybody learns to read the new key, then it is used, then the old one is forgotten.
        let learning = ticketer(&[1, 2], b"");
        let using = ticketer(&[2, 1], b"");
        let after = ticketer(&[2], b"");
        assert_eq!(using.decrypt(&before).unwrap(), SESSION);
        let ticket = using.encrypt(SESSION).unwrap();
        assert_eq!(ticket[..NAME], key(2).name);
        assert_eq!(learning.decrypt(&ticket).unwrap(), SESSION);
        assert_eq!(after.decrypt(&ticket).unwrap(), SESSION);
        assert_eq!(after.decrypt(&before), None);
    }

    #[test]
    fn whatever_is_changed_or_cut_off_is_noticed() {
        let ticketer = ticketer(&[1], b"ca");
        let ticket = ticketer.encrypt(SESSION).unwrap();
        for length in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..length]), None, "{length}");
        }
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "{at}");
        }
        assert_eq!(ticketer.decrypt(&[&ticket[..], b"."].concat()), None);
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let ticketer = ticketer(&[1], b"");
        let (one, other) = (ticketer.encrypt(SESSION), ticketer.encrypt(SESSION));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.len(), other.len());
        assert_eq!(one.len(), NAME + SALT + TIME + SESSION.len() + TAG);
        assert_ne!(one[NAME..], other[NAME..]);
        assert_ne!(one[NAME + SALT..], other[NAME + SALT..]);
    }

    #[test]
    fn a_ticket_has_an_end() {
        let ticketer = ticketer(&[1], b"");
        let now = SystemTime::now();
        let ticket = ticketer.seal(SESSION, now).unwrap();
        let second = Duration::from_secs(1);
        assert!(ticketer.open(&ticket, now + LIFETIME - second).is_some());
        assert_eq!(ticketer.open(&ticket, now + LIFETIME), None);
        // Made by a gateway whose clock is ahead.
        assert!(ticketer.open(&ticket, now - 60 * second).is_some());
    }

    #[test]
    fn what_is_larger_than_any_session_gets_no_ticket() {
        let ticketer = ticketer(&[1], b"");
        let largest = vec![7; LARGEST];
        let ticket = ticketer.encrypt(&largest).unwrap();
        assert_eq!(ticketer.decrypt(&ticket).unwrap(), largest);
        assert_eq!(ticketer.encrypt(&vec![7; LARGEST + 1]), None);
        assert_eq!(ticketer.decrypt(&vec![7; 1 << 20]), None);
    }

    #[test]
    fn white_space_in_a_key_file_does_not_matter() {
        let octets: Vec<u8> = (0..48).collect();
        let digits = STANDARD.encode(octets);
        let (one, other) = digits.split_at(30);
        let text = format!("{one}\r\n{other}\n");
        let spaced = TicketKey::parse(Path::new("key"), text.as_bytes()).unwrap();
        assert!(spaced.is_same(&key(0)));
    }

    #[test]
    fn a_key_file_that_cannot_be_used_says_why() {
        let short = STANDARD.encode([1, 2, 3]);
        let long = STANDARD.encode((0..=255).cycle().take(1025).collect::<Vec<u8>>());
        for (text, why) in [
            ("", "it is empty; `openssl rand -base64 48` makes one"),
            ("\n", "it is empty"),
            ("no key!", "it is not base64"),
            (
                "-----BEGIN PRIVATE KEY-----",
                "it is PEM, perhaps the key of a certificate",
            ),
            (&short, "it has 3 octets; it must have 32 to 1024"),
            (&long, "it has 1025 octets"),
            (&"AAAA".repeat(12), "its octets are all the same"),
        ] {
            let error = TicketKey::parse(Path::new("a.key"), text.as_bytes());
            let said = error.err().unwrap().to_string();
            let begins = format!("a.key: the ticket key cannot be used: {why}");
            assert!(said.starts_with(&begins), "{said}");
        }
    }
}
