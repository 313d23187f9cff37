//! One engine: a handshake under way, or the session that it has become.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use dimpl::{CertificateError, CryptoError, CryptoOperation, Dtls, Error, SecurityError};
use rustls::pki_types::CertificateDer;
use tidegate_tls::ClientCertificate;

use crate::callbacks::{self, Asked};
use crate::record;
use crate::{Credentials, Failure, Method, Output, Path, SessionId, Who};

/// The largest plaintext of a record.
pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;

/// In DTLS 1.2 the engine draws the explicit nonce of each record, 64 bits, at random. That two are the same is less
/// likely than one in 100,000 after so many records, and then the session has to end. DTLS 1.3 counts them, and renews
/// its keys by itself.
const MAX_RECORDS_12: u64 = 1 << 24;

/// A handshake or a session.
pub(crate) struct Association {
    pub(crate) number: u64,
    /// The random of the client's hello, which tells one handshake from another.
    pub(crate) random: [u8; 32],
    pub(crate) method: Method,
    /// The address of ours that the client speaks to.
    pub(crate) local: Option<IpAddr>,
    pub(crate) dtls: Dtls,
    pub(crate) who: Option<Who>,
    /// When it ends unless something comes: a handshake as a whole, a session since its client was last heard.
    pub(crate) deadline: Instant,
    /// When the engine wants to be called.
    pub(crate) wake: Instant,
    /// For when it stands among the timers.
    pub(crate) scheduled: Option<Instant>,
    /// What the engine's plain records are behind what the client expects: it counts from 0, the client was
    /// answered before by somebody who does not remember.
    pub(crate) shift: u64,
    /// The number of the next plain record.
    pub(crate) next_plain: u64,
    asked: Option<Asked>,
    refused: Option<Failure>,
    established: bool,
    records: u64,
}

/// What came of asking an engine for its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has no more to say.
    Waiting,
    /// The handshake is complete. There may be more to say.
    Connected,
    /// The client has closed.
    Closed,
    /// The client is not who it should be.
    Refused(Failure),
}

impl Association {
    pub(crate) fn new(
        number: u64,
        random: [u8; 32],
        method: Method,
        local: Option<IpAddr>,
        dtls: Dtls,
        deadline: Instant,
    ) -> Self {
        Self {
            number,
            random,
            method,
            local,
            dtls,
            who: None,
            deadline,
            wake: deadline,
            scheduled: None,
            shift: 0,
            next_plain: 0,
            asked: None,
            refused: None,
            established: false,
            records: 0,
        }
    }

    /// When something has to be done for it.
    pub(crate) fn due(&self) -> Instant {
        self.deadline.min(self.wake)
    }

    /// Whether the keys have protected as much as they may.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.records >= MAX_RECORDS_12 && self.method != Method::Certificate13
    }

    pub(crate) fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<(), Error> {
        // The engine's clock.
        self.dtls.handle_timeout(now)?;
        let result = self.dtls.handle_packet(datagram);
        if let Some(asked) = callbacks::take_asked() {
            if let Asked::Known(identity) = &asked {
                self.who = Some(Who::Psk(Arc::clone(identity)));
            }
            self.asked = Some(asked);
        }
        result
    }

    /// Passes on what the engine has to say. `heard` is the new deadline of a session from whose client comes data.
    pub(crate) fn poll(
        &mut self,
        buffer: &mut Vec<u8>,
        session: SessionId,
        credentials: &Credentials,
        heard: Instant,
        out: &mut impl Output,
    ) -> Step {
        loop {
            match self.dtls.poll_output(buffer) {
                dimpl::Output::Packet(datagram) => {
                    self.records += 1;
                    let mut shifted;
                    let mut datagram = datagram;
                    if self.shift > 0 && datagram.first().is_some_and(|first| *first < 32) {
                        shifted = datagram.to_vec();
                        record::shift_plain(&mut shifted, self.shift);
                        datagram = &shifted;
                    }
                    if !self.established
                        && let Some(last) = record::last_plain(datagram)
                    {
                        self.next_plain = last.saturating_add(1);
                    }
                    let path = Path {
                        peer: session.peer,
                        local: self.local,
                    };
                    out.transmit(path, datagram);
                }
                dimpl::Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                dimpl::Output::Timeout(at) => {
                    self.wake = at;
                    return match self.refused {
                        Some(why) if self.established => Step::Refused(why),
                        _ => Step::Waiting,
                    };
                }
                dimpl::Output::PeerCert(certificate) => {
                    let certificate = CertificateDer::from(certificate);
                    match check(credentials, &certificate) {
                        Ok(who) => self.who = Some(who),
                        Err(why) if self.method == Method::Certificate13 => {
                            self.refused = Some(why);
                        }
                        // Before anything that the engine has already prepared is sent.
                        Err(why) => return Step::Refused(why),
                    }
                }
                dimpl::Output::Connected => {
                    self.established = true;
                    if self.who.is_none() && self.refused.is_none() {
                        if credentials.asks_clients() {
                            self.refused = Some(Failure::NoCertificate);
                        } else {
                            self.who = Some(Who::Anonymous);
                        }
                    }
                    if self.refused.is_none() {
                        return Step::Connected;
                    }
                    // Only now there are keys with which the client can be told. If it fails, it is not told.
                    let _ = self.dtls.close();
                }
                dimpl::Output::ApplicationData(plaintext) if self.refused.is_none() => {
                    self.deadline = heard;
                    out.data(session, plaintext);
                }
                dimpl::Output::CloseNotify => {
                    return self.refused.map_or(Step::Closed, Step::Refused);
                }
                _ => {}
            }
        }
    }

    /// What an engine's error means for a handshake.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::Timeout(_) => Failure::Timeout,
            Error::SecurityError(SecurityError::FatalAlert { .. }) => Failure::Alert,
            Error::CertificateError(CertificateError::NoClientCertificateReceived) => {
                Failure::NoCertificate
            }
            // A Finished that cannot be read, or says something else.
            Error::CryptoError(CryptoError::OperationFailed(CryptoOperation::Decrypt))
            | Error::SecurityError(SecurityError::ClientFinishedVerificationFailed) => {
                match self.asked {
                    Some(Asked::Known(_)) => Failure::WrongKey,
                    Some(Asked::Unknown) => Failure::UnknownIdentity,
                    None => Failure::Protocol,
                }
            }
            _ => Failure::Protocol,
        }
    }
}

fn check(credentials: &Credentials, certificate: &CertificateDer<'_>) -> Result<Who, Failure> {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, ExpiredRevocationList, ExpiredRevocationListContext,
        NotValidYet, NotValidYetContext, Revoked, UnknownIssuer, UnknownRevocationStatus,
    };
    match credentials.trusts(certificate) {
        Ok(()) => {}
        Err(rustls::Error::InvalidCertificate(error)) => {
            return Err(match error {
                Expired | NotValidYet | ExpiredContext { .. } | NotValidYetContext { .. } => {
                    Failure::CertificateTime
                }
                // Of an authority of the same name, in the second case.
                UnknownIssuer | BadSignature => Failure::CertificateIssuer,
                Revoked
                | UnknownRevocationStatus
                | ExpiredRevocationList
                | ExpiredRevocationListContext { .. } => Failure::CertificateRevoked,
                _ => Failure::Certificate,
            });
        }
        Err(_) => return Err(Failure::Certificate),
    }
    let read = ClientCertificate::read(certificate).map_err(|_| Failure::Certificate)?;
    Ok(Who::Certificate(Arc::new(read)))
}
