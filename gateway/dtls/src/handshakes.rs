//! From a ClientHello to a handshake: the cookie, who is let in, and an engine that is told what it has missed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use dimpl::Dtls;

use crate::association::Association;
use crate::callbacks;
use crate::cookie::{COOKIE, padding_of};
use crate::credentials::Pair;
use crate::hello::{Choice, Hello, Offer, Unreadable};
use crate::record;
use crate::reply::{self, Alert};
use crate::server::{Input, Place, Which, later};
use crate::{Dropped, Failure, Method, Output, Path, Server};

/// Requests for a cookie that one client may need, because of cookies that were too old.
const MAX_REQUESTS: u16 = 4;

impl Server {
    pub(crate) fn hello(
        &mut self,
        path: Path,
        datagram: &[u8],
        now: Instant,
        out: &mut impl Output,
    ) {
        let peer = path.peer;
        self.counters.hello();
        let hello = match Hello::read(datagram) {
            Ok(hello) => hello,
            Err(Unreadable::Fragmented) => {
                return self.counters.drop_of(Dropped::FragmentedHello);
            }
            Err(Unreadable::Malformed) => return self.counters.drop_of(Dropped::Malformed),
        };
        if let Some(place) = self.places.get(&peer) {
            let is_of = |it: &Option<Box<Association>>| {
                it.as_ref().is_some_and(|it| it.random == hello.random)
            };
            let has_cookie = !hello.cookie12.is_empty() || hello.cookie13.is_some();
            if is_of(&place.handshake) && has_cookie {
                // What was answered to it may be lost.
                let input = Input::Datagram(hello.record);
                return self.work(peer, Which::Handshake, input, now, out);
            }
            if is_of(&place.handshake) || is_of(&place.session) {
                return self.counters.drop_of(Dropped::RepeatedHello);
            }
        }
        let pair = self.credentials.pair();
        let choice = hello.choose(Offer {
            psk: self.psk.is_some(),
            certificate: pair.as_ref().map(|pair| pair.scheme),
        });
        let thirteen = matches!(choice, Some(Choice::Certificate13(_)));
        let cookie = if thirteen {
            hello.cookie13
        } else {
            Some(hello.cookie12).filter(|cookie| !cookie.is_empty())
        };
        // Two hellos and one request have no other numbers in DTLS 1.3.
        let number = match cookie {
            _ if !thirteen => 0..=MAX_REQUESTS,
            None => 0..=0,
            Some(_) => 1..=1,
        };
        if !number.contains(&hello.message) {
            return self.counters.drop_of(Dropped::Malformed);
        }
        if let Some(cookie) = cookie {
            if let Ok(good) = <[u8; COOKIE]>::try_from(cookie)
                && (self.cookies).is_good(&good, peer, &hello, choice, now, &mut self.scratch)
            {
                return self.begin(path, &hello, choice, good, pair, now, out);
            }
            self.counters.drop_of(Dropped::BadCookie);
            if thirteen {
                // A client may be asked only once (RFC 8446, 4.1.4).
                return;
            }
        }
        self.request_cookie(path, &hello, choice, now, out);
    }

    fn request_cookie(
        &mut self,
        path: Path,
        hello: &Hello<'_>,
        choice: Option<Choice>,
        now: Instant,
        out: &mut impl Output,
    ) {
        let reply = &mut self.scratch;
        let cookie = self.cookies.make(path.peer, hello, choice, now, reply);
        let sequence = record::sequence(hello.record);
        if let Some(Choice::Certificate13(suite)) = choice {
            reply::hello_retry_request(reply, sequence, suite, &cookie);
        } else {
            reply::hello_verify_request(reply, sequence, hello.message, &cookie);
        }
        self.counters.cookie();
        out.transmit(path, reply);
    }

    /// The address is verified.
    #[expect(clippy::too_many_arguments, reason = "all that is known of a hello")]
    fn begin(
        &mut self,
        path: Path,
        hello: &Hello<'_>,
        choice: Option<Choice>,
        cookie: [u8; COOKIE],
        pair: Option<Arc<Pair>>,
        now: Instant,
        out: &mut impl Output,
    ) {
        let peer = path.peer;
        let begun = self
            .admit(peer, hello, choice, now)
            .and_then(|choice| self.start(path.local, hello, choice, cookie, pair, now));
        let association = match begun {
            Ok(association) => association,
            Err(why) => {
                self.counters.refuse(why);
                if let Some(alert) = alert_for(why) {
                    reply::alert(&mut self.scratch, record::sequence(hello.record), alert);
                    out.transmit(path, &self.scratch);
                }
                return out.failed(peer, why);
            }
        };
        // A client that begins again has given up the one before.
        self.abandon(peer, Failure::Restarted, out);
        let place = self.places.entry(peer).or_insert_with(|| {
            *self.by_ip.entry(peer.ip().to_canonical()).or_default() += 1;
            Place::default()
        });
        place.handshake = Some(Box::new(association));
        self.handshakes += 1;
        self.counters.handshake_begins();
        self.work(peer, Which::Handshake, Input::Nothing, now, out);
    }

    fn admit(
        &mut self,
        peer: SocketAddr,
        hello: &Hello<'_>,
        choice: Option<Choice>,
        now: Instant,
    ) -> Result<Choice, Failure> {
        let choice = choice.ok_or(Failure::NoCommonSuite)?;
        if !matches!(choice, Choice::Certificate13(_)) && !hello.extended_master_secret {
            return Err(Failure::NoExtendedMasterSecret);
        }
        let (mut handshakes, mut newcomer) = (self.handshakes, true);
        if let Some(place) = self.places.get(&peer) {
            // It takes the place of what is there.
            handshakes -= usize::from(place.handshake.is_some());
            newcomer = place.session.is_none();
        } else {
            let ip = peer.ip().to_canonical();
            if self.by_ip.get(&ip).copied().unwrap_or(0) >= self.settings.max_per_ip {
                return Err(Failure::TooManyPerIp);
            }
        }
        if handshakes >= self.settings.max_handshakes {
            return Err(Failure::TooManyHandshakes);
        }
        if newcomer && self.sessions >= self.settings.max_sessions {
            return Err(Failure::TooManySessions);
        }
        // Last, so that it counts only what begins.
        if !self.rate.take(now) {
            return Err(Failure::HandshakeRate);
        }
        Ok(choice)
    }

    /// Makes an engine, and shows it all that has happened without it.
    fn start(
        &mut self,
        local: Option<IpAddr>,
        hello: &Hello<'_>,
        choice: Choice,
        cookie: [u8; COOKIE],
        pair: Option<Arc<Pair>>,
        now: Instant,
    ) -> Result<Association, Failure> {
        let certificate = || {
            let config = self.certificate.clone().ok_or(Failure::NoCommonSuite)?;
            let pair = pair.ok_or(Failure::NoCommonSuite)?;
            Ok((config, pair.certificate.clone()))
        };
        let (method, mut dtls) = match choice {
            Choice::Psk12 => {
                let config = self.psk.clone().ok_or(Failure::NoCommonSuite)?;
                (Method::Psk12, Dtls::new_12_psk(config, now))
            }
            Choice::Certificate12 => {
                let (config, pair) = certificate()?;
                (Method::Certificate12, Dtls::new_12(config, pair, now))
            }
            Choice::Certificate13(_) => {
                let (config, pair) = certificate()?;
                (Method::Certificate13, Dtls::new_13(config, pair, now))
            }
        };
        let broken = |_| Failure::Protocol;
        dtls.handle_timeout(now).map_err(broken)?;
        let mut plain = 0;
        for message in 0..hello.message {
            hello.write_earlier(
                Some(choice),
                padding_of(&cookie),
                message,
                &mut self.scratch,
            );
            let earlier = &self.scratch;
            callbacks::with_cookie(hello.random, cookie, || dtls.handle_packet(earlier))
                .map_err(broken)?;
            plain += passed_over(&mut dtls, &mut self.buffer);
        }
        callbacks::with_cookie(hello.random, cookie, || dtls.handle_packet(hello.record))
            .map_err(broken)?;
        let deadline = later(now, self.settings.handshake_timeout);
        self.next_number += 1;
        let number = self.next_number;
        let mut association = Association::new(number, hello.random, method, local, dtls, deadline);
        // The first record has the number of the one that it answers (RFC 6347, 4.2.1).
        association.shift = record::sequence(hello.record).saturating_sub(plain);
        Ok(association)
    }
}

/// Lets an engine say what was said without it, and counts the records.
fn passed_over(dtls: &mut Dtls, buffer: &mut Vec<u8>) -> u64 {
    let mut records = 0;
    loop {
        match dtls.poll_output(buffer) {
            dimpl::Output::Packet(datagram) => records += record::count_plain(datagram),
            dimpl::Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
            dimpl::Output::Timeout(_) => return records,
            _ => {}
        }
    }
}

/// What the client is told, if anything.
pub(crate) fn alert_for(why: Failure) -> Option<Alert> {
    match why {
        Failure::TooManyHandshakes | Failure::TooManySessions | Failure::TooManyPerIp => {
            Some(Alert::InternalError)
        }
        Failure::NoCommonSuite
        | Failure::NoExtendedMasterSecret
        | Failure::NoCertificate
        | Failure::Protocol => Some(Alert::HandshakeFailure),
        // The same for both: nobody is told which identities there are (RFC 4279, 2).
        Failure::WrongKey | Failure::UnknownIdentity => Some(Alert::DecryptError),
        Failure::CertificateTime => Some(Alert::CertificateExpired),
        Failure::CertificateIssuer => Some(Alert::UnknownCa),
        Failure::CertificateRevoked => Some(Alert::CertificateRevoked),
        Failure::Certificate => Some(Alert::BadCertificate),
        // It is not over: the client sends its hello once more.
        Failure::HandshakeRate => None,
        Failure::Timeout | Failure::Alert | Failure::Restarted | Failure::Shutdown => None,
    }
}
