//! From a fresh connection to frames: the request is read, within bounds of time and size, and
//! answered (RFC 6455 section 4.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_bus::{Charge, MemoryBudget};
use tidegate_origin::Gate;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::decoder::Limits;
use crate::foreign::Foreign;
use crate::request;
use crate::response::{self, Refusal};
use crate::settings::Settings;
use crate::stream::WebSocket;

/// Longest head of a request.
const MAX_HEAD: usize = 16 << 10;

/// A browser's head fits.
const USUAL_HEAD: usize = 1 << 10;

/// So much of a head is not charged: it comes and goes within milliseconds.
const UNCHARGED_HEAD: usize = 4 << 10;

/// How long a refusal may take to reach the client.
const LINGER: Duration = Duration::from_secs(2);

/// Most bytes that are read and thrown away after a refusal.
const LINGER_BYTES: usize = 64 << 10;

/// Makes WebSockets of the connections of one listener.
#[derive(Debug)]
pub struct Upgrader {
    gate: Gate,
    path: String,
    timeout: Duration,
    limits: Limits,
    memory: Option<Arc<MemoryBudget>>,
}

/// Why a connection did not become a WebSocket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The request did not come, or the answer did not leave, in time.
    #[error("the upgrade took too long")]
    Timeout,
    /// The client went away.
    #[error("the connection was lost")]
    Lost,
    /// The request's header is larger than is read.
    #[error("the request's header is too large")]
    TooLarge,
    /// Not HTTP from the first byte on.
    #[error("not HTTP but {looks_like}")]
    NotHttp {
        /// What it is instead.
        looks_like: Foreign,
    },
    /// A request that cannot be met.
    #[error("{}: {text}", status.as_u16())]
    Refused {
        /// The status it was answered with.
        status: StatusCode,
        /// The sentence it was answered with.
        text: String,
    },
}

/// Why there is no upgrade, and what the client is told.
struct Failure {
    error: UpgradeError,
    answer: Option<Refusal>,
}

impl Failure {
    const fn silent(error: UpgradeError) -> Self {
        Self {
            error,
            answer: None,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let error = match refusal.status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => UpgradeError::TooLarge,
            status => UpgradeError::Refused {
                status,
                text: refusal.text.clone().into_owned(),
            },
        };
        Self {
            error,
            answer: Some(refusal),
        }
    }
}

impl Upgrader {
    /// An upgrader for a listener with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            gate: Gate::for_devices(settings.allowed_hosts, settings.allowed_origins),
            path: settings.path,
            timeout: settings.handshake_timeout,
            limits: Limits {
                frame: settings.max_frame_bytes,
                message: settings.max_message_bytes,
            },
            memory: None,
        }
    }

    /// Charges what requests of unusual size hold to `memory`; where that has no room they are refused.
    #[must_use]
    pub fn charging(self, memory: Arc<MemoryBudget>) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// Reads the request that arrives at the address `local`, answers it and gives the stream back.
    ///
    /// After an error the client has been told why, if it speaks HTTP, and the stream is closed. That
    /// the answer arrives is waited for, but at most two seconds longer than an upgrade may take.
    pub async fn upgrade<S>(
        &self,
        mut stream: S,
        local: IpAddr,
    ) -> Result<WebSocket<S>, UpgradeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.negotiate(&mut stream, local).await {
            Ok(early) => Ok(WebSocket::new(stream, self.limits, early)),
            Err(Failure { error, answer }) => {
                if let Some(answer) = answer {
                    // It is over either way.
                    let _ = timeout(LINGER, finish(&mut stream, &answer.encode())).await;
                }
                Err(error)
            }
        }
    }

    /// Gives back the bytes that came behind the request.
    async fn negotiate<S>(&self, stream: &mut S, local: IpAddr) -> Result<Vec<u8>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = Instant::now();
        let mut bytes = Vec::with_capacity(USUAL_HEAD);
        let head = timeout(self.timeout, self.read_head(stream, &mut bytes))
            .await
            .map_err(|_elapsed| too_slow())??;
        let request = request::parse(&bytes[..head])?;
        let accepted = request::check(&request, &self.gate, &self.path, local)
            .map_err(|refusal| refusal.to(&request.method))?;
        let writing = async {
            let answer = response::switching_protocols(&accepted);
            stream.write_all(&answer).await?;
            stream.flush().await
        };
        let left = self.timeout.saturating_sub(start.elapsed());
        match timeout(left, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::silent(UpgradeError::Lost)),
            Err(_elapsed) => return Err(Failure::silent(UpgradeError::Timeout)),
        }
        bytes.drain(..head);
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Reads until `bytes` begins with a whole head and tells its length.
    async fn read_head<S>(&self, stream: &mut S, bytes: &mut Vec<u8>) -> Result<usize, Failure>
    where
        S: AsyncRead + Unpin,
    {
        let mut looked_at = 0;
        let mut charge = None;
        loop {
            if bytes.len() >= UNCHARGED_HEAD && charge.is_none() {
                charge = Some(self.charge()?);
            }
            let room = MAX_HEAD - bytes.len();
            if room == 0 {
                return Err(request::too_large().into());
            }
            let read = (&mut *stream).take(room as u64).read_buf(bytes).await;
            if !matches!(read, Ok(1..)) {
                return Err(Failure::silent(UpgradeError::Lost));
            }
            if let Some(looks_like) = Foreign::of(bytes) {
                return Err(not_http(looks_like));
            }
            if let Some(end) = end_of_head(bytes, looked_at) {
                return Ok(end);
            }
            looked_at = bytes.len();
        }
    }

    /// Room for the rest of a head, held until it is dropped.
    fn charge(&self) -> Result<Option<Charge>, Failure> {
        let Some(memory) = &self.memory else {
            return Ok(None);
        };
        let charge = memory.charge(MAX_HEAD);
        charge.map(Some).ok_or_else(|| {
            let text = "All that waits takes as much memory as it may.";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).into()
        })
    }
}

fn too_slow() -> Failure {
    Failure {
        error: UpgradeError::Timeout,
        answer: Some(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "No whole request came in time.",
        )),
    }
}

fn not_http(looks_like: Foreign) -> Failure {
    let text = match looks_like {
        // Whoever speaks another protocol does not understand this one.
        Foreign::Tls | Foreign::Mqtt => None,
        Foreign::Proxy => Some(
            "The connection begins with a PROXY header, which this listener does not expect. If a \
             load balancer is in front of it, add that to its proxy_networks.",
        ),
        Foreign::Other => Some("This is no HTTP request; here is MQTT over WebSocket."),
    };
    let answer = text.map(|text| Refusal::new(StatusCode::BAD_REQUEST, text));
    Failure {
        error: UpgradeError::NotHttp { looks_like },
        answer,
    }
}

/// Where the head ends: behind the first empty line. Nothing before `from` ends it. A line may end
/// without a carriage return (RFC 9112 section 2.2).
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find_map(|at| {
        let line = bytes[..at].strip_suffix(b"\r").unwrap_or(&bytes[..at]);
        (bytes[at] == b'\n' && line.ends_with(b"\n")).then_some(at + 1)
    })
}

/// Sends the last bytes and closes so that they arrive: a socket that is closed with bytes unread
/// resets the connection, and the reset overtakes what was sent.
async fn finish<S>(stream: &mut S, last: &[u8]) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(last).await?;
    stream.shutdown().await?;
    let mut thrown_away = vec![0; 4_096];
    let mut left = LINGER_BYTES;
    while left > 0 {
        let read = stream.read(&mut thrown_away).await?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}
