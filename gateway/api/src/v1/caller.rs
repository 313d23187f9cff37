//! Who asks: a client identifier from the query, user name and password from HTTP Basic (RFC 7617).
//!
//! Each request is let in by the access decision that MQTT's CONNECT is let in by, and publishes and subscribes
//! under the same. A password lives as long as its request and is neither logged nor shown.

use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_bus::{ClientId, Credentials};

use super::core::Core;
use super::problem::Problem;
use super::query::Query;
use super::reason::{Reason, Refused};
use crate::connection::Connection;

/// The client identifier of those who name none and need no session.
const NAMELESS: &str = "tidegate-http";

/// Somebody who was not let in yet.
pub(crate) struct Caller {
    client: ClientId,
    basic: Option<Basic>,
}

struct Basic {
    user_name: String,
    password: Vec<u8>,
}

impl Caller {
    /// For a request that needs no session.
    pub(crate) fn of(
        core: &Core,
        query: &mut Query<'_>,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let id = query.text("client_id")?;
        Self::named(core, id.as_deref().unwrap_or(NAMELESS), headers)
    }

    /// For a session.
    pub(crate) fn named(core: &Core, id: &str, headers: &HeaderMap) -> Result<Self, Problem> {
        let invalid = |text: String| Problem::invalid(Reason::ClientIdentifierNotValid, text);
        if id.len() > core.bus.settings().max_client_id_bytes {
            let text = "The client identifier is too long (limits.max_client_id_size).";
            return Err(invalid(text.to_owned()));
        }
        let client = ClientId::new(id).map_err(|error| invalid(sentence(&error)))?;
        Ok(Self {
            client,
            basic: basic(headers)?,
        })
    }

    /// Asks whether the client may connect.
    pub(crate) async fn let_in(
        self,
        core: &Core,
        connection: &Connection,
    ) -> Result<ClientId, Problem> {
        let mut credentials = Credentials::new(&self.client);
        credentials.user_name = self.basic.as_ref().map(|basic| &*basic.user_name);
        credentials.password = self.basic.as_ref().map(|basic| &*basic.password);
        credentials.peer = connection.peer();
        let decided = core.bus.access().connect(credentials).await;
        decided.map_err(|denial| {
            core.counters.refused_access.add(1);
            Problem::from(Refused::from(denial))
        })?;
        Ok(self.client)
    }
}

/// An identifier nobody can guess: two hashes under keys that the operating system made random.
pub(crate) fn assigned_client_id() -> String {
    let (a, b) = (
        RandomState::new().hash_one(0_u8),
        RandomState::new().hash_one(1_u8),
    );
    format!("tidegate-http-{a:016x}{b:016x}")
}

/// An error as a sentence of an answer.
pub(crate) fn sentence(error: &impl ToString) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn basic(headers: &HeaderMap) -> Result<Option<Basic>, Problem> {
    let unreadable = || {
        let reason = Reason::BadUserNameOrPassword;
        let text = "The Authorization header is not one of the scheme Basic (RFC 7617).";
        Problem::with_reason(StatusCode::UNAUTHORIZED, reason, text)
    };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(unreadable());
    }
    let (scheme, encoded) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(unreadable)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unreadable());
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| unreadable())?;
    let colon = decoded.iter().position(|byte| *byte == b':');
    let (user_name, password) = colon
        .and_then(|at| Some((decoded.get(..at)?, decoded.get(at + 1..)?)))
        .ok_or_else(unreadable)?;
    let user_name = std::str::from_utf8(user_name).map_err(|_| unreadable())?;
    Ok(Some(Basic {
        user_name: user_name.to_owned(),
        password: password.to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<(String, Vec<u8>)>, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        let read = basic(&headers).map_err(|problem| problem.status())?;
        Ok(read.map(|basic| (basic.user_name, basic.password)))
    }

    #[test]
    fn rfc_7617_2_a_password_may_hold_colons_and_any_bytes() {
        let expected = Ok(Some(("Aladdin".to_owned(), b"open:sesame".to_vec())));
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ=="), expected);
        assert_eq!(read("bAsIc QWxhZGRpbjpvcGVuOnNlc2FtZQ=="), expected);
        assert_eq!(read("Basic Ojo="), Ok(Some((String::new(), b":".to_vec()))));
        let bytes = STANDARD.encode([b'u', b':', 0xff, 0]);
        let expected = Ok(Some(("u".to_owned(), vec![0xff, 0])));
        assert_eq!(read(&format!("Basic {bytes}")), expected);
    }

    #[test]
    fn what_is_not_basic_is_not_passed_over() {
        for value in [
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YQ==",
            "Bearer x",
            "Basic /zp4",
        ] {
            assert_eq!(read(value), Err(StatusCode::UNAUTHORIZED), "{value}");
        }
    }
}
