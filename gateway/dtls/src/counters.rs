//! What a listener counts, each thing by its reason.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Makes an enum of reasons that can be counted and named.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name for metrics and the log.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// Why a datagram was passed over.
    Dropped {
        /// It is no DTLS, or broken.
        Malformed = "malformed",
        /// It is larger than what is read.
        TooLarge = "too_large",
        /// It belongs to no session and no handshake.
        NoSession = "no_session",
        /// A ClientHello in pieces: before an address is verified nothing is kept of it.
        FragmentedHello = "fragmented_hello",
        /// A ClientHello that was answered and came again.
        RepeatedHello = "repeated_hello",
        /// A ClientHello with a cookie that is not ours, too old, or for another hello or address.
        BadCookie = "bad_cookie",
        /// Plain records for a session that is established.
        Plain = "plain",
    }
}

reasons! {
    /// Why a client that has shown its address did not get a session.
    Failure {
        /// Too many handshakes are under way.
        TooManyHandshakes = "too_many_handshakes",
        /// Too many handshakes have begun in this second.
        HandshakeRate = "handshake_rate",
        /// There are too many sessions.
        TooManySessions = "too_many_sessions",
        /// Its IP address has too many.
        TooManyPerIp = "too_many_per_ip",
        /// No cipher suite that both have, or no credential for it.
        NoCommonSuite = "no_common_suite",
        /// The extended master secret (RFC 7627) is missing.
        NoExtendedMasterSecret = "no_extended_master_secret",
        /// It was not finished in time.
        Timeout = "timeout",
        /// The identity is known and the key is another.
        WrongKey = "wrong_key",
        /// The identity is not known. The client is told the same as with a wrong key.
        UnknownIdentity = "unknown_identity",
        /// It showed no certificate.
        NoCertificate = "no_certificate",
        /// Its certificate has expired or is not valid yet.
        CertificateTime = "certificate_time",
        /// Its certificate was issued by somebody else.
        CertificateIssuer = "certificate_issuer",
        /// Its certificate was revoked, or whether it was cannot be told.
        CertificateRevoked = "certificate_revoked",
        /// Its certificate does not hold for another reason, for instance is one for servers.
        Certificate = "certificate",
        /// It gave up with an alert.
        Alert = "alert",
        /// Its messages make no sense.
        Protocol = "protocol",
        /// It began again.
        Restarted = "restarted",
        /// The server ends.
        Shutdown = "shutdown",
    }
}

reasons! {
    /// Why a session ended.
    End {
        /// Its client closed it.
        Closed = "closed",
        /// [`crate::Server::close`] was called.
        Local = "local",
        /// Nothing came for too long.
        Idle = "idle",
        /// Its client began another one, and proved who it is.
        Replaced = "replaced",
        /// Its client ended it with an alert.
        Alert = "alert",
        /// As many records were protected with its keys as are safe.
        WornOut = "worn_out",
        /// The engine gave it up.
        Failed = "failed",
    }
}

reasons! {
    /// How a client said who it is, and in which version.
    Method {
        /// Pre-shared key, DTLS 1.2.
        Psk12 = "psk_1_2",
        /// Certificate, DTLS 1.2.
        Certificate12 = "certificate_1_2",
        /// Certificate, DTLS 1.3.
        Certificate13 = "certificate_1_3",
    }
}

/// What the servers of one listener count. It only grows, but for [`Counters::sessions`] and
/// [`Counters::handshakes`], which say how many there are now.
#[derive(Debug, Default)]
pub struct Counters {
    hellos: AtomicU64,
    cookies: AtomicU64,
    established: [AtomicU64; Method::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
    failures: [AtomicU64; Failure::ALL.len()],
    ends: [AtomicU64; End::ALL.len()],
    sessions: AtomicU64,
    handshakes: AtomicU64,
}

impl Counters {
    /// ClientHellos, with and without a cookie.
    #[must_use]
    pub fn hellos(&self) -> u64 {
        self.hellos.load(Relaxed)
    }

    /// Requests to come again with a cookie.
    #[must_use]
    pub fn cookies(&self) -> u64 {
        self.cookies.load(Relaxed)
    }

    /// Handshakes that became a session.
    #[must_use]
    pub fn established(&self, method: Method) -> u64 {
        self.established[method as usize].load(Relaxed)
    }

    /// Datagrams passed over.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Relaxed)
    }

    /// Handshakes that became none.
    #[must_use]
    pub fn failures(&self, why: Failure) -> u64 {
        self.failures[why as usize].load(Relaxed)
    }

    /// Sessions that have ended.
    #[must_use]
    pub fn ended(&self, why: End) -> u64 {
        self.ends[why as usize].load(Relaxed)
    }

    /// Sessions that there are.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Handshakes that are under way.
    #[must_use]
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Relaxed)
    }

    pub(crate) fn hello(&self) {
        self.hellos.fetch_add(1, Relaxed);
    }

    pub(crate) fn cookie(&self) {
        self.cookies.fetch_add(1, Relaxed);
    }

    pub(crate) fn drop_of(&self, why: Dropped) {
        self.dropped[why as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self, why: Failure) {
        self.failures[why as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake_begins(&self) {
        self.handshakes.fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake_fails(&self, why: Failure) {
        self.handshakes.fetch_sub(1, Relaxed);
        self.refuse(why);
    }

    pub(crate) fn session_begins(&self, method: Method) {
        self.handshakes.fetch_sub(1, Relaxed);
        self.sessions.fetch_add(1, Relaxed);
        self.established[method as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn session_ends(&self, why: End) {
        self.sessions.fetch_sub(1, Relaxed);
        self.ends[why as usize].fetch_add(1, Relaxed);
    }
}
