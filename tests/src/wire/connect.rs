//! Building a CONNECT and opening the connection with it.

use super::client::Client;
use super::packet::{ConnAck, Connect, Packet, Version, Will};
use super::property::Property;
use crate::server::Server;

impl Connect {
    /// A clean connection of `version` with a keep alive that no test outlives.
    #[must_use]
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            clean: true,
            keep_alive: 600,
            client_id: client_id.to_owned(),
            will: None,
            user_name: None,
            password: None,
            properties: Vec::new(),
        }
    }

    /// MQTT 5, clean start.
    #[must_use]
    pub fn v5(client_id: &str) -> Self {
        Self::new(Version::V5, client_id)
    }

    /// MQTT 3.1.1, clean session.
    #[must_use]
    pub fn v311(client_id: &str) -> Self {
        Self::new(Version::V311, client_id)
    }

    /// A client whose session lasts: an expiry of ten minutes in MQTT 5, clean session 0 before. What
    /// is there already is resumed.
    #[must_use]
    pub fn lasting(version: Version, client_id: &str) -> Self {
        let connect = Self::new(version, client_id).resume();
        if version == Version::V5 {
            connect.expiry(600)
        } else {
            connect
        }
    }

    /// With clean start 0.
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    /// With clean start 1.
    #[must_use]
    pub fn clean(mut self) -> Self {
        self.clean = true;
        self
    }

    /// With a session expiry interval in seconds (MQTT 5).
    #[must_use]
    pub fn expiry(self, seconds: u32) -> Self {
        self.with(Property::SessionExpiry(seconds))
    }

    /// With a keep alive in seconds.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With a will.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// With a user name.
    #[must_use]
    pub fn user_name(mut self, name: &str) -> Self {
        self.user_name = Some(name.to_owned());
        self
    }

    /// With a password.
    #[must_use]
    pub fn password(mut self, password: &[u8]) -> Self {
        self.password = Some(password.to_vec());
        self
    }

    /// With one more property (MQTT 5).
    #[must_use]
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// Connects; the server must accept.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn open(&self, server: impl Into<Server>) -> Client {
        let mut client = Client::dial(server, self.version);
        client.send(&self.encode());
        let answer = client.expect_connack();
        assert_eq!(
            answer.code, 0,
            "CONNECT of {} was refused: {answer:?}",
            self.client_id
        );
        client.set_connack(answer);
        client
    }

    /// Connects; the server must refuse with a CONNACK and close.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[must_use]
    #[track_caller]
    pub fn refused(&self, server: impl Into<Server>) -> ConnAck {
        let mut client = Client::dial(server, self.version);
        client.send(&self.encode());
        let answer = client.expect("a CONNACK that refuses", |packet| match packet {
            Packet::ConnAck(answer) if answer.code != 0 => Some(answer.clone()),
            _ => None,
        });
        client.expect_close();
        answer
    }
}
