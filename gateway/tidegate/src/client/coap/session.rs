//! A conversation with a gateway over a link, and the clock for both.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_dtls::client::ClientConfig;
use tidegate_tls::CertificateFiles;
use tokio::net::lookup_host;
use tokio::time::{sleep_until, timeout};

use super::arrival::Arrival;
use super::carrier::Carrier;
use super::conversation::{Conversation, Event};
use super::link::{Datagrams, Link};
use super::secured::Secured;
use super::stream::Stream;
use crate::client::connection::ANSWER;
use crate::client::error::ClientError;
use crate::client::options::ConnectArguments;
use crate::client::race::race;
use crate::client::scheme::CoapScheme;
use crate::client::transport::{Dialer, OWN_CERTIFICATE, server_name};

/// ACK_TIMEOUT (RFC 7252 section 4.8).
const ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// What a refusal means to who has shown a pre-shared key.
const WRONG_KEY: &str = "; the key in --psk-file, or its identity, is not one of the server's";

/// What it may mean that a session of DTLS is closed before anything was said in it: in 1.3 the gateway looks at the
/// certificate when the client has its session already.
const NO_CERTIFICATE: &str =
    "; perhaps it asks for a certificate of an authority that it knows: --cert and --key";

/// A gateway that is spoken to.
pub(super) struct Session {
    pub(super) conversation: Conversation,
    link: Link,
    url: String,
    scheme: CoapScheme,
    /// The gateway is there.
    is_heard: bool,
    /// It has said something that is CoAP.
    has_said: bool,
}

impl Session {
    /// Finds the gateway.
    pub(super) async fn open(
        arguments: &ConnectArguments,
        scheme: CoapScheme,
    ) -> Result<Self, ClientError> {
        let (carrier, link) = if scheme.is_udp() {
            datagrams(arguments, scheme).await?
        } else {
            let stream = Dialer::new(arguments)?.open(&mut Vec::new()).await?;
            (Carrier::frames(), Link::Stream(Stream::new(stream)))
        };
        let keep_alive = Duration::from_secs(arguments.keepalive.into());
        // Over datagrams an observation may be given up at the other end, also within a session of DTLS.
        let is_forgetful = scheme.is_udp();
        let now = Instant::now();
        let mut session = Self {
            conversation: Conversation::new(carrier, keep_alive, is_forgetful, now),
            link,
            url: arguments.url.to_string(),
            // Otherwise a handshake has shown it.
            is_heard: scheme != CoapScheme::Coap,
            has_said: false,
            scheme,
        };
        let ready = async {
            while !session.conversation.is_ready() {
                session.turn().await?;
            }
            Ok::<_, ClientError>(())
        };
        match timeout(ANSWER, ready).await {
            Ok(ready) => ready?,
            Err(_elapsed) => return Err(ClientError::Silent("the attempt to connect")),
        }
        Ok(session)
    }

    /// What happens next. Nothing is lost when it is dropped before it completes.
    pub(super) async fn event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.conversation.event() {
                return Ok(event);
            }
            self.turn().await?;
        }
    }

    /// Sends what there is, and waits until something comes or is due.
    async fn turn(&mut self) -> Result<(), ClientError> {
        self.queue();
        let due = self.conversation.due(Instant::now());
        let result = tokio::select! {
            came = self.link.receive() => {
                let is_closed_at_once = self.scheme == CoapScheme::Coaps && !self.has_said;
                let bytes = came.map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof if is_closed_at_once => closed_at_once(&self.url),
                    _ => lost(&self.url, self.is_heard, error),
                })?;
                (self.is_heard, self.has_said) = (true, true);
                self.conversation.receive(bytes, Instant::now())
            }
            () = wait_until(due) => self.conversation.handle_timeout(Instant::now()),
        };
        self.queue();
        // What cannot be sent is said at the next turn.
        let _ = self.link.flush().await;
        result
    }

    fn queue(&mut self) {
        while let Some(bytes) = self.conversation.output() {
            self.link.queue(bytes);
        }
    }

    /// Waits until everything that was asked for is answered.
    pub(super) async fn settle(&mut self) -> Result<(), ClientError> {
        while !self.conversation.is_settled() {
            self.turn().await?;
        }
        Ok(())
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        self.conversation.goodbye();
        self.queue();
        // What was asked for is done; how it ends changes nothing.
        let _ = timeout(ANSWER, self.link.close()).await;
    }
}

/// Why nothing comes any more.
fn lost(url: &str, is_heard: bool, error: io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::UnexpectedEof => ClientError::Closed,
        _ if is_heard => ClientError::Broken(error),
        _ => ClientError::Unreachable {
            url: url.to_owned(),
            error,
        },
    }
}

/// The session was closed before anything was said.
fn closed_at_once(url: &str) -> ClientError {
    let text = "the server closed the session before anything was said";
    ClientError::Dtls {
        url: url.to_owned(),
        error: io::Error::new(ErrorKind::UnexpectedEof, text),
        hint: NO_CERTIFICATE,
    }
}

/// A socket, or a session of DTLS.
async fn datagrams(
    arguments: &ConnectArguments,
    scheme: CoapScheme,
) -> Result<(Carrier, Link), ClientError> {
    let url = &arguments.url;
    let unreachable = |error| ClientError::Unreachable {
        url: url.to_string(),
        error,
    };
    let found = lookup_host((url.host.as_str(), url.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(unreachable)?.collect();
    let ack_timeout = arguments.coap.ack_timeout.unwrap_or(ACK_TIMEOUT);
    let link = match scheme {
        CoapScheme::Coaps => dtls(arguments, &addresses).await?,
        _ => udp(&addresses, ack_timeout).await.map_err(unreachable)?,
    };
    Ok((Carrier::datagrams(ack_timeout), link))
}

/// The first of several addresses at which anybody answers; of one it is not asked.
async fn udp(addresses: &[SocketAddr], ack_timeout: Duration) -> io::Result<Link> {
    if let [only] = addresses {
        return Ok(Link::Udp(Datagrams::connect(*only).await?));
    }
    let answers = async |address: SocketAddr| {
        let mut link = Link::Udp(Datagrams::connect(address).await?);
        let mut carrier = Carrier::datagrams(ack_timeout);
        carrier.ping(Instant::now());
        loop {
            while let Some(bytes) = carrier.output() {
                link.queue(bytes);
            }
            let due = carrier.due();
            tokio::select! {
                came = link.receive() => {
                    carrier.feed(came?);
                    if let Ok(Some(Arrival::Pong)) = carrier.arrival(Instant::now()) {
                        return Ok(link);
                    }
                }
                () = wait_until(due) => {
                    let given_up = |_| io::Error::from(ErrorKind::TimedOut);
                    carrier.handle_timeout(Instant::now()).map_err(given_up)?;
                }
            }
        }
    };
    match race(addresses, answers).await {
        Some(link) => link.map(|(_, link)| link),
        None => Err(no_address()),
    }
}

/// A session of DTLS with the first of several addresses that has one with us.
async fn dtls(arguments: &ConnectArguments, addresses: &[SocketAddr]) -> Result<Link, ClientError> {
    let ConnectArguments { url, tls, coap, .. } = arguments;
    let config = match &coap.psk_file {
        Some(file) => ClientConfig::psk(file, coap.psk_identity.as_deref()),
        None => {
            let own = tls.cert.clone().zip(tls.key.clone());
            let own = own.map(|(chain, key)| CertificateFiles { chain, key });
            ClientConfig::certificate(tls.ca.as_deref(), own.as_ref(), tls.insecure)
        }
    };
    let config = config.map_err(|error| ClientError::Usage(error.to_string()))?;
    let name = server_name(&url.host)?;
    let connect = |address| Secured::connect(&config, name.clone(), address);
    let connected = match timeout(ANSWER, race(addresses, connect)).await {
        Err(_elapsed) => return Err(ClientError::Silent("the attempt to connect")),
        Ok(None) => Err(no_address()),
        Ok(Some(connected)) => connected,
    };
    match connected {
        Ok((_, secured)) => Ok(Link::Dtls(Box::new(secured))),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let hint = match inner {
                Some(tidegate_dtls::client::ClientError::Certificate(
                    rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
                )) if tls.ca.is_none() => OWN_CERTIFICATE,
                Some(tidegate_dtls::client::ClientError::Alert(alert))
                    if coap.psk_file.is_some() && alert.may_mean_the_key() =>
                {
                    WRONG_KEY
                }
                _ => "",
            };
            Err(ClientError::Dtls {
                url: url.to_string(),
                error,
                hint,
            })
        }
        Err(error) => Err(lost(&url.to_string(), false, error)),
    }
}

fn no_address() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the name has no address")
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
