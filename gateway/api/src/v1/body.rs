//! Bodies: those of requests, read within limits of size, time and memory; large ones of answers, charged until they are
//! written, since a client may take its time to read.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tidegate_bus::Charge;

use super::core::Core;
use super::problem::Problem;
use super::reason::{Reason, Refused};

/// A body up to this size is not charged to the memory budget.
const SMALL: usize = 16 << 10;

/// Bytes are taken from the memory budget in pieces of this size.
const GRANULE: usize = 64 << 10;

/// A whole body, with what it takes from the memory budget.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) bytes: Vec<u8>,
    _charge: Option<Charge>,
}

/// Reads a body to its end. `copies`: how many times its size it takes until it is done with.
pub(crate) async fn read(
    core: &Core,
    headers: &HeaderMap,
    body: Body,
    copies: usize,
) -> Result<Collected, Problem> {
    let limit = core.settings.max_body_bytes;
    // Nothing is reserved for a length that is only promised, but one that is too large is not waited for.
    let promised = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if promised.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let collecting = collect(core, body, limit, copies);
    match tokio::time::timeout(core.settings.body_timeout, collecting).await {
        Ok(collected) => collected,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "The body does not end",
            "The body of the request was not complete in time.",
        )),
    }
}

/// The body of an answer. `bytes` may be shared: they are charged all the same, for they live as long as the slowest
/// reader.
pub(crate) fn answer<T>(core: &Core, bytes: T) -> Result<Body, Problem>
where
    T: AsRef<[u8]> + Send + 'static,
{
    let length = bytes.as_ref().len();
    let charge = match length > SMALL {
        true => Some(core.bus.memory().charge(length).ok_or(Refused::MEMORY)?),
        false => None,
    };
    Ok(Bytes::from_owner(Charged {
        bytes,
        _charge: charge,
    })
    .into())
}

struct Charged<T> {
    bytes: T,
    _charge: Option<Charge>,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Charged<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

async fn collect(
    core: &Core,
    mut body: Body,
    limit: usize,
    copies: usize,
) -> Result<Collected, Problem> {
    let mut bytes = Vec::new();
    let mut charge: Option<Charge> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::malformed("The body of the request cannot be read."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if length > SMALL {
            let needed = (copies * length).next_multiple_of(GRANULE);
            let has_room = match &mut charge {
                Some(charge) => charge.resize(needed),
                None => {
                    charge = core.bus.memory().charge(needed);
                    charge.is_some()
                }
            };
            if !has_room {
                return Err(Refused::MEMORY.into());
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Collected {
        bytes,
        _charge: charge,
    })
}

fn too_large(limit: usize) -> Problem {
    Problem::with_reason(
        StatusCode::PAYLOAD_TOO_LARGE,
        Reason::PacketTooLarge,
        format!("The body has more than {limit} bytes (http.max_body)."),
    )
}
