//! How far a client has come: what an event's id says and a `Last-Event-ID` gives back.
//!
//! `SESSION-PLACE` or `SESSION-PLACE.N`. The place is that of the last acknowledged message of the session that was
//! written up to this event ([`tidegate_bus::Outgoing::place`]); N counts the events at QoS 0 since, so that ids
//! differ. Places of a session only grow, also over a restart, and its name is no other session's: an id that is old,
//! or of a session that has ended, acknowledges nothing that its client has not had.

use std::fmt;

use tidegate_bus::{Epoch, Place};

/// The name of a session in ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One that outlives the process: the name that the engine has for it.
    Kept(Epoch),
    /// One that does not: the process, and its number there.
    Here { incarnation: u64, key: u64 },
}

impl Name {
    pub(super) const fn new(kept_as: Option<Epoch>, incarnation: u64, key: u64) -> Self {
        match kept_as {
            Some(epoch) => Self::Kept(epoch),
            None => Self::Here { incarnation, key },
        }
    }

    /// The place that `id` says, if it is one of this session.
    pub(super) fn place_of(self, id: &str) -> Option<Place> {
        let (name, rest) = id.trim().rsplit_once('-')?;
        if name != self.to_string() {
            return None;
        }
        let place = rest.split_once('.').map_or(rest, |(place, _)| place);
        place.parse().ok().map(Place)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(Epoch(epoch)) => write!(f, "{epoch:x}"),
            Self::Here { incarnation, key } => write!(f, "{incarnation:x}-{key:x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_a_place_to_its_own_session_only() {
        let kept = Name::Kept(Epoch(0x2a));
        let here = Name::new(None, 0xbeef, 1);
        assert_eq!(kept.place_of("2a-17"), Some(Place(17)));
        assert_eq!(kept.place_of(" 2a-17.3 "), Some(Place(17)));
        assert_eq!(here.place_of("beef-1-17"), Some(Place(17)));
        for id in [
            "",
            "-",
            "17",
            "2b-17",
            "2a-",
            "2a-x",
            "2a--1",
            "beef-1-17",
            "2a-1-17",
        ] {
            assert_eq!(kept.place_of(id), None, "{id}");
        }
        for id in ["1-17", "beef-2-17", "beee-1-17", "2a-17"] {
            assert_eq!(here.place_of(id), None, "{id}");
        }
    }
}
