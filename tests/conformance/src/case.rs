//! A test on its way: one version of the protocol, against one server.

use std::panic::panic_any;

use tidegate_tests::unique;
use tidegate_tests::wire::{Client, Connect, Version};
use tidegate_tests::{Server, Transport};

/// Where the versions are spoken: most brokers speak all of them at one address, rumqttd does not.
#[derive(Clone, Debug)]
pub struct Target {
    /// MQTT 3.1 and 3.1.1.
    pub v3: Server,
    /// MQTT 5.0.
    pub v5: Server,
}

impl Target {
    /// A server that speaks every version at one address.
    #[must_use]
    pub fn at(server: Server) -> Self {
        Self {
            v3: server.clone(),
            v5: server,
        }
    }
}

/// What a test is given.
pub struct Case {
    target: Target,
    version: Version,
}

/// The payload of the panic that ends a test which has nothing to test at this server.
pub(crate) struct DoesNotApply(pub(crate) String);

impl Case {
    /// A test of `version`.
    #[must_use]
    pub fn new(target: Target, version: Version) -> Self {
        Self { target, version }
    }

    /// The version under test.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it is MQTT 5.0.
    #[must_use]
    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// Where the version under test is spoken.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server_of(self.version)
    }

    /// Where a version is spoken.
    #[must_use]
    pub fn server_of(&self, version: Version) -> Server {
        match version {
            Version::V5 => self.target.v5.clone(),
            _ => self.target.v3.clone(),
        }
    }

    /// What carries MQTT there.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.server().transport()
    }

    /// A CONNECT of the version under test: clean, without expiry, with a client id of its own.
    #[must_use]
    pub fn connect(&self, stem: &str) -> Connect {
        Connect::new(self.version, &unique(stem))
    }

    /// A CONNECT of a client whose session outlives its connections.
    #[must_use]
    pub fn lasting(&self, stem: &str) -> Connect {
        Connect::lasting(self.version, &unique(stem))
    }

    /// A clean client, connected.
    #[must_use]
    #[track_caller]
    pub fn client(&self, stem: &str) -> Client {
        self.connect(stem).open(self.server())
    }

    /// Connects with what a test has built.
    #[must_use]
    #[track_caller]
    pub fn open(&self, connect: &Connect) -> Client {
        connect.open(self.server_of(connect.version))
    }

    /// A connection on which nothing has been sent.
    #[must_use]
    #[track_caller]
    pub fn dial(&self) -> Client {
        Client::dial(self.server(), self.version)
    }

    /// A topic that no other test uses.
    #[must_use]
    pub fn topic(&self, stem: &str) -> String {
        unique(stem)
    }

    /// Ends the test: the statement asks nothing of this server, because of what the server said.
    #[track_caller]
    pub fn does_not_apply(&self, why: &str) -> ! {
        panic_any(DoesNotApply(why.to_owned()))
    }
}
