//! The TLS protocol of one connection, without its socket.
//!
//! This is the one place that drives rustls' unbuffered interface. Bytes go in with
//! [`Session::receive`] and come out in three ways: plaintext for the reader, ciphertext in
//! [`Session::outgoing`], and a change of [`State`].
//!
//! ```text
//!  Open ──close_notify──> PeerClosed           (we may go on writing: RFC 8446, 6.1)
//!   │
//!   └──fatal error──> Failing ──told──> Failed (nothing is decrypted or encrypted any more)
//! ```
//!
//! Whether *we* have closed is independent of that and known to the stream. Invariants:
//!
//! 1. `receive` looks at everything it is given. What stays in `held` is the beginning of one record,
//!    or of one handshake message in several records, and nothing else. It is less than
//!    [`MAX_RECORD`], and less than [`MAX_HANDSHAKE`] during the handshake.
//! 2. Therefore rustls, when it is asked for its state in order to write, finds nothing to decrypt
//!    and comes to `WriteTraffic` at once.
//! 3. rustls remembers places inside of what it was given and did not discard. It is given the same
//!    bytes again, decrypted as it left them, followed by new ones; never fewer. Only after an error,
//!    when it will not look at its input again, it is given none.
//! 4. Whatever rustls wants to send (its part of the handshake, tickets, alerts) is appended to
//!    `outgoing` when it comes up, hence in order, and counts as transmitted from then on.
//! 5. `plaintext` is what the reader had no room for, less than was decrypted at once. `receive` is
//!    called again only when it is empty.
//! 6. All three take memory only while they hold something.
//!
//! The answer to a client's `KeyUpdate` is not among what rustls wants to send: it goes out in front
//! of the next data, which is early enough (RFC 8446, 4.6.3). With TLS 1.2 the keys cannot be changed,
//! so that rustls ends a connection after the number of records that its cipher is safe for (2^24 with
//! AES-GCM).

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error, InvalidMessage, ServerConfig};
use tokio::io::ReadBuf;

use crate::backlog::Backlog;

/// The largest record: header, 2^14 bytes and what TLS 1.2 allows encryption to add (RFC 5246, 6.2.3;
/// RFC 8446 allows less).
pub(crate) const MAX_RECORD: usize = 5 + (16 << 10) + (2 << 10);

/// Most bytes of a ClientHello that may wait for more: whoever sends one is not known, and has made us
/// do nothing yet. With a hybrid key share, a ticket and many extensions it is a few thousand.
pub(crate) const MAX_HELLO: usize = 16 << 10;

/// Most bytes of the handshake that may wait for more after that, as in rustls' own buffers. A client's
/// certificates are the only large thing there.
pub(crate) const MAX_HANDSHAKE: usize = (64 << 10) - 1;

pub(crate) struct Session {
    /// Boxed: over a kilobyte, and this is moved a few times before it comes to rest.
    connection: Box<UnbufferedServerConnection>,
    state: State,
    /// Of exactly the size it needs: it changes rarely, and may stay for long.
    held: Box<[u8]>,
    plaintext: Backlog,
    outgoing: Backlog,
}

#[derive(Debug)]
pub(crate) enum State {
    Open,
    /// The client has said that nothing more will come.
    PeerClosed,
    /// The reader is to be told.
    Failing(Box<Error>),
    /// It was.
    Failed,
}

/// The keys must not encrypt any more.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl Session {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            state: State::Open,
            held: Box::default(),
            plaintext: Backlog::default(),
            outgoing: Backlog::default(),
        })
    }

    /// What was agreed on.
    pub(crate) fn common(&self) -> &CommonState {
        &self.connection
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether the ClientHello was understood and answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.connection.protocol_version().is_some()
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state, State::Failing(_) | State::Failed)
    }

    /// Tells the error that ended the connection, once.
    pub(crate) fn take_failure(&mut self) -> Option<Box<Error>> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Failing(error) => Some(error),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Plaintext that waits for the reader.
    pub(crate) fn plaintext(&mut self) -> &mut Backlog {
        &mut self.plaintext
    }

    /// Whether there is ciphertext that was not written.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Ciphertext that waits for the socket.
    pub(crate) fn outgoing(&mut self) -> &mut Backlog {
        &mut self.outgoing
    }

    /// How many bytes of an incomplete record wait for the rest.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Processes what came from the client: everything in `bytes` after the first [`Session::held`],
    /// which are room for what waited. Plaintext goes to `reader` and, if that is full, to
    /// [`Session::plaintext`].
    pub(crate) fn receive(&mut self, bytes: &mut [u8], reader: &mut ReadBuf<'_>) {
        bytes[..self.held.len()].copy_from_slice(&self.held);
        match self.process(bytes, reader) {
            Ok(processed) => self.hold(&bytes[processed..]),
            Err(error) => self.fail(error),
        }
    }

    /// Returns how many bytes are done with.
    fn process(&mut self, bytes: &mut [u8], reader: &mut ReadBuf<'_>) -> Result<usize, Error> {
        let mut processed = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[processed..]);
            let mut more = true;
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        // In order: once something waits, what follows waits behind it.
                        let room = reader.remaining().min(record.payload.len());
                        let (now, later) = record.payload.split_at(room);
                        reader.put_slice(now);
                        self.plaintext.push(later);
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.outgoing)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.state = State::PeerClosed,
                // All has been looked at.
                ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | ConnectionState::Closed => more = false,
                // Early data, which no ticket of ours allows, or something that this version of
                // rustls does not have.
                other => return Err(Error::General(format!("unexpected state {other:?}"))),
            }
            processed += discard;
            if !more {
                return Ok(processed);
            }
        }
    }

    fn hold(&mut self, rest: &[u8]) {
        // "Any data received after a closure alert has been received MUST be ignored." (RFC 8446, 6.1)
        if rest.is_empty() || matches!(self.state, State::PeerClosed) {
            self.held = Box::default();
            return;
        }
        let most = if !self.connection.is_handshaking() {
            MAX_RECORD
        } else if self.has_answered() {
            MAX_HANDSHAKE
        } else {
            MAX_HELLO
        };
        if rest.len() >= most {
            self.fail(InvalidMessage::HandshakePayloadTooLarge.into());
            return;
        }
        self.held = rest.into();
    }

    fn fail(&mut self, error: Error) {
        self.held = Box::default();
        // The alert, if there is one. As long as there is, rustls does not look at its input.
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else {
                break;
            };
            if encode(data, &mut self.outgoing).is_err() {
                break;
            }
        }
        self.state = State::Failing(Box::new(error));
    }

    /// Encrypts all of `plaintext`, after whatever rustls wants to have in front of it, to the
    /// beginning of `ciphertext`, which is extended if it has to be. Returns the length.
    pub(crate) fn encrypt(
        &mut self,
        plaintext: &[u8],
        ciphertext: &mut Vec<u8>,
    ) -> Result<usize, Exhausted> {
        let encrypted = self.writing(|mut traffic| {
            sized(ciphertext, |ciphertext| {
                traffic.encrypt(plaintext, ciphertext)
            })
        });
        encrypted.flatten().ok_or_else(|| {
            // rustls has put a `close_notify` there to say so.
            self.close();
            Exhausted
        })
    }

    /// Puts `close_notify` behind all that was encrypted, unless it or an alert was sent before.
    pub(crate) fn close(&mut self) {
        let mut last = Vec::new();
        let length = self.writing(|mut traffic| {
            sized(&mut last, |ciphertext| {
                traffic.queue_close_notify(ciphertext)
            })
        });
        if let Some(length) = length.flatten() {
            self.outgoing.push(&last[..length]);
        }
    }

    /// `None` if the connection is not in a state for it.
    fn writing<R>(
        &mut self,
        work: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>) -> R,
    ) -> Option<R> {
        if self.has_failed() {
            return None;
        }
        loop {
            let UnbufferedStatus { state, .. } =
                self.connection.process_tls_records(&mut self.held);
            match state.ok()? {
                ConnectionState::WriteTraffic(traffic) => return Some(work(traffic)),
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.outgoing).ok()?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return None,
            }
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Backlog) -> Result<(), Error> {
    // Asked with no room at all, it says how much it needs.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        data.encode(outgoing.extend(size.required_size))
            .map_err(|error| Error::General(error.to_string()))?;
    }
    Ok(())
}

/// Does the work with as much room as it says it needs. `None` if it cannot be done.
fn sized(
    buffer: &mut Vec<u8>,
    mut work: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Option<usize> {
    match work(buffer) {
        Err(EncryptError::InsufficientSize(size)) => {
            buffer.resize(size.required_size, 0);
            work(buffer).ok()
        }
        done => done.ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        reason = "a test fails where it stands"
    )]

    use std::io::{Read, Write};
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
    };
    use tokio::io::ReadBuf;

    use super::{MAX_HANDSHAKE, MAX_RECORD, Session, State};

    /// Both ends, for each version.
    type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

    static CONFIGS: LazyLock<[Configs; 2]> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let key: rustls::pki_types::PrivateKeyDer<'_> = key.serialize_der().try_into().unwrap();
        let configs = |version: &'static SupportedProtocolVersion| {
            let server = ServerConfig::builder_with_provider(crate::provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key.clone_key())
                .unwrap();
            let client = ClientConfig::builder_with_provider(crate::provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            (Arc::new(server), Arc::new(client))
        };
        [configs(&TLS12), configs(&TLS13)]
    });

    fn ends(configs: &Configs) -> (Session, ClientConnection) {
        ends_with(configs, None)
    }

    /// Small fragments make the client's handshake messages several records each.
    fn ends_with(
        (server, client): &Configs,
        fragment: Option<usize>,
    ) -> (Session, ClientConnection) {
        let mut client = ClientConfig::clone(client);
        client.max_fragment_size = fragment;
        let client = ClientConnection::new(client.into(), "localhost".try_into().unwrap());
        (Session::new(server.clone()).unwrap(), client.unwrap())
    }

    /// Gives the session bytes as a socket would. Returns the plaintext, read with little room.
    fn feed(session: &mut Session, new: &[u8], room: usize) -> Vec<u8> {
        let held = session.held();
        let mut bytes = vec![0; held + new.len()];
        bytes[held..].copy_from_slice(new);
        let mut plaintext = vec![0; room];
        let mut reader = ReadBuf::new(&mut plaintext);
        session.receive(&mut bytes, &mut reader);
        let mut all = reader.filled().to_vec();
        all.extend_from_slice(session.plaintext().rest());
        session.plaintext().clear();
        all
    }

    fn sent(client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Hands over what the session has for the client.
    fn answer(session: &mut Session, client: &mut ClientConnection) {
        let mut bytes = session.outgoing().rest();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            let _ = client.process_new_packets();
        }
        session.outgoing().clear();
    }

    fn shake_hands(session: &mut Session, client: &mut ClientConnection) {
        while session.common().is_handshaking() || client.is_handshaking() {
            feed(session, &sent(client), 0);
            answer(session, client);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bytes_may_be_split_anywhere(
            version in 0..2_usize,
            fragment in prop::option::of(32..400_usize),
            lengths in prop::collection::vec(prop_oneof![0..200_usize, 16_000..40_000_usize], 1..6),
            splits in prop::collection::vec(prop_oneof![1..8_usize, 1..20_000_usize], 1..40),
            room in prop_oneof![Just(0_usize), Just(1), Just(70_000)],
        ) {
            let (mut session, mut client) = ends_with(&CONFIGS[version], fragment);
            let mut splits = splits.iter().cycle().copied();
            let mut received = Vec::new();
            let mut expected = Vec::new();
            let mut lengths = lengths.into_iter();
            loop {
                if !client.is_handshaking() {
                    match lengths.next() {
                        Some(length) => {
                            let chunk: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
                            client.writer().write_all(&chunk).unwrap();
                            expected.extend_from_slice(&chunk);
                        }
                        None => break,
                    }
                }
                let bytes = sent(&mut client);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(splits.next().unwrap().min(rest.len()));
                    received.extend(feed(&mut session, now, room));
                    prop_assert!(session.held() < MAX_RECORD);
                    rest = later;
                }
                answer(&mut session, &mut client);
            }
            client.send_close_notify();
            let bytes = sent(&mut client);
            received.extend(feed(&mut session, &bytes, room));
            prop_assert!(received == expected);
            prop_assert!(matches!(session.state(), State::PeerClosed));
            prop_assert_eq!(session.held(), 0);
        }

        #[test]
        fn whatever_comes_is_survived_and_bounded(
            version in 0..2_usize,
            fragment in prop::option::of(32..400_usize),
            handshake in any::<bool>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..4),
            garbage in prop::collection::vec(any::<u8>(), 0..64),
            split in 1..3000_usize,
        ) {
            let (mut session, mut client) = ends_with(&CONFIGS[version], fragment);
            if !handshake {
                shake_hands(&mut session, &mut client);
                client.writer().write_all(&[7; 20_000]).unwrap();
            }
            let mut bytes = sent(&mut client);
            for (index, flip) in flips {
                *index.get_mut(&mut bytes) ^= flip;
            }
            bytes.extend_from_slice(&garbage);
            for part in bytes.chunks(split) {
                if session.has_failed() {
                    break;
                }
                feed(&mut session, part, 10);
                prop_assert!(session.held() < MAX_HANDSHAKE);
            }
            let failed = session.has_failed();
            prop_assert_eq!(session.take_failure().is_some(), failed);
            prop_assert!(session.take_failure().is_none());
            let encrypted = session.encrypt(b"data", &mut Vec::new()).is_ok();
            prop_assert_eq!(encrypted, !failed && !handshake);
        }
    }

    #[test]
    fn after_an_error_the_plaintext_before_it_is_still_there() {
        for configs in &*CONFIGS {
            let (mut session, mut client) = ends(configs);
            shake_hands(&mut session, &mut client);
            client.writer().write_all(b"before").unwrap();
            let mut bytes = sent(&mut client);
            client.writer().write_all(b"after").unwrap();
            bytes.extend(sent(&mut client));
            *bytes.last_mut().unwrap() ^= 1;
            assert_eq!(feed(&mut session, &bytes, 100), b"before");
            let error = session.take_failure().unwrap();
            assert_eq!(*error, rustls::Error::DecryptError);
        }
    }

    #[test]
    fn rfc8446_4_6_3_a_key_update_is_answered_in_front_of_the_next_data() {
        let (mut session, mut client) = ends(&CONFIGS[1]);
        shake_hands(&mut session, &mut client);
        for round in 0..5 {
            client.refresh_traffic_keys().unwrap();
            client.writer().write_all(b"new keys").unwrap();
            let bytes = sent(&mut client);
            assert_eq!(feed(&mut session, &bytes, 100), b"new keys");
            let mut ciphertext = Vec::new();
            let length = session.encrypt(b"answer", &mut ciphertext).unwrap();
            // Two records: content, type and tag, behind five bytes of header.
            assert_eq!(length, (5 + 5 + 17) + (5 + 6 + 17), "{round}");
            client.read_tls(&mut &ciphertext[..length]).unwrap();
            client.process_new_packets().unwrap();
            let mut plaintext = [0; 6];
            client.reader().read_exact(&mut plaintext).unwrap();
            assert_eq!(&plaintext, b"answer");
        }
    }

    #[test]
    fn an_endless_hello_is_refused() {
        let (mut session, _) = ends(&CONFIGS[1]);
        let mut hello = vec![22, 3, 1, 0x2f, 0xff, 1, 0, 0xff, 0x00];
        hello.resize(5 + 0x2fff, 0);
        let mut rest = vec![22, 3, 1, 0x2f, 0xff];
        rest.resize(5 + 0x2fff, 0);
        feed(&mut session, &hello, 0);
        assert!(!session.has_failed());
        assert_eq!(session.held(), hello.len());
        feed(&mut session, &rest, 0);
        assert!(session.has_failed());
        assert_eq!(session.held(), 0);
    }
}
