//! A normative statement: one row of the appendix that lists them in MQTT 3.1.1 (appendix B) and MQTT
//! 5.0 (appendix B), in our own words.

/// A statement of a specification.
#[derive(Debug)]
pub struct Statement {
    /// Its number as the specification has it, without `MQTT-`: `3.1.2-25`.
    pub id: &'static str,
    /// What it asks for, in our own words.
    pub says: &'static str,
    /// Whom it binds, which decides whether there has to be a test.
    pub binds: Binds,
}

/// Whom a statement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binds {
    /// A server, and a connection shows whether it holds: there has to be a test.
    Server,
    /// Only clients, for this reason.
    Client(&'static str),
    /// A server, but no connection shows whether it holds, for this reason.
    Unobservable(&'static str),
}

/// A statement that a server is held to.
pub(crate) const fn server(id: &'static str, says: &'static str) -> Statement {
    Statement {
        id,
        says,
        binds: Binds::Server,
    }
}

/// A statement that binds only clients.
pub(crate) const fn client(id: &'static str, says: &'static str, why: &'static str) -> Statement {
    Statement {
        id,
        says,
        binds: Binds::Client(why),
    }
}

/// A statement about a server that no connection can show.
pub(crate) const fn unobservable(
    id: &'static str,
    says: &'static str,
    why: &'static str,
) -> Statement {
    Statement {
        id,
        says,
        binds: Binds::Unobservable(why),
    }
}
