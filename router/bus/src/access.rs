//! Who may connect, publish and subscribe. The bus asks; `gateway/access` will answer.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::client_id::ClientId;
use crate::qos::QoS;
use crate::topic::{TopicFilter, TopicName};

/// What a client says of itself when it connects.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Credentials<'a> {
    /// Its identifier.
    pub client_id: &'a ClientId,
    /// Its user name, when it gave one.
    pub user_name: Option<&'a str>,
    /// Its password, when it gave one; any bytes.
    pub password: Option<&'a [u8]>,
    /// Where it connects from.
    pub peer: Option<SocketAddr>,
    /// The common name of the certificate it has shown, verified by the listener or, where the
    /// operator trusts one, by a load balancer in front of it.
    pub certificate_name: Option<&'a str>,
    /// The identity whose pre-shared key it has shown to have, verified by the listener.
    pub psk_identity: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Credentials without user name and password.
    pub const fn new(client_id: &'a ClientId) -> Self {
        Self {
            client_id,
            user_name: None,
            password: None,
            peer: None,
            certificate_name: None,
            psk_identity: None,
        }
    }
}

/// Why a client may not do what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// User name or password is wrong (MQTT 5: 0x86).
    BadCredentials,
    /// Known, but not allowed (MQTT 5: 0x87).
    NotAuthorized,
    /// Banned (MQTT 5: 0x8A).
    Banned,
    /// The answer could not be had in time (MQTT 5: 0x88).
    Unavailable,
}

/// A decision that may need a look-up.
pub type AccessFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Denial>> + Send + 'a>>;

/// The access decision, one for all protocols.
pub trait Access: Send + Sync {
    /// May this client connect?
    fn connect<'a>(&'a self, credentials: Credentials<'a>) -> AccessFuture<'a>;

    /// May this client publish this? Asked on the hot path: it must not block.
    fn publish(
        &self,
        client: &ClientId,
        topic: TopicName<'_>,
        qos: QoS,
        retain: bool,
    ) -> Result<(), Denial>;

    /// May this client subscribe to this?
    fn subscribe(&self, client: &ClientId, filter: &TopicFilter, qos: QoS) -> Result<(), Denial>;
}

/// Everybody may do everything except publish below `$SYS`, which is the gateway's own. For
/// loopback, and for networks where the operator said so.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Access for AllowAll {
    fn connect<'a>(&'a self, _credentials: Credentials<'a>) -> AccessFuture<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn publish(
        &self,
        _client: &ClientId,
        topic: TopicName<'_>,
        _qos: QoS,
        _retain: bool,
    ) -> Result<(), Denial> {
        let text = topic.as_str();
        if text.starts_with("$SYS") && matches!(text.as_bytes().get(4), None | Some(b'/')) {
            return Err(Denial::NotAuthorized);
        }
        Ok(())
    }

    fn subscribe(
        &self,
        _client: &ClientId,
        _filter: &TopicFilter,
        _qos: QoS,
    ) -> Result<(), Denial> {
        Ok(())
    }
}
