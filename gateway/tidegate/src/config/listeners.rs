//! `[listeners.NAME]`: where each protocol is spoken.

use std::net::{Ipv4Addr, SocketAddr};

use super::origin::Origin;
use super::reader::Section;
use super::tree::Raw;
use super::values::{alternatives, quoted, word};

/// The name that the HTTP side has among the listeners.
pub(crate) const HTTP: &str = "http";

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MQTT over TCP.
    Mqtt,
}

impl Kind {
    const ALL: [Self; 1] = [Self::Mqtt];

    /// The scheme of a URL that leads to such a listener.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
        }
    }
}

/// Kinds, and so schemes of URLs, that a later version has.
pub(crate) const PLANNED: [&str; 8] = [
    "mqtts",
    "ws",
    "wss",
    "quic",
    "coap",
    "coaps",
    "coap+tcp",
    "coaps+tcp",
];

/// A listener of the configuration that is not turned off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Lower case letters, digits, `-` and `_`.
    pub(crate) name: String,
    /// What is spoken there.
    pub(crate) kind: Kind,
    /// The address; port 0 is a free one.
    pub(crate) bind: SocketAddr,
    /// Where the address was said.
    pub(crate) origin: Origin,
}

/// Those that exist when nobody says anything.
fn defaults() -> [(&'static str, Kind, SocketAddr); 1] {
    [(
        "mqtt",
        Kind::Mqtt,
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
    )]
}

pub(crate) fn read(section: &mut Section<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for (name, kind, bind) in defaults() {
        let listener = section.section(name, |section| {
            listener(section, name, Some((kind, bind)), &Origin::Default)
        });
        listeners.extend(listener);
    }
    for (name, origin) in section.keys() {
        if let Err(why) = check_name(&name) {
            section.skip(&name);
            section.problem(origin, format!("listeners.{name}: {why}"));
            continue;
        }
        let listener = section.section(&name, |section| listener(section, &name, None, &origin));
        listeners.extend(listener);
    }
    listeners
}

/// `None` for a listener that is turned off, or that is not complete and was reported.
fn listener(
    section: &mut Section<'_>,
    name: &str,
    default: Option<(Kind, SocketAddr)>,
    origin: &Origin,
) -> Option<Listener> {
    let enabled = section.boolean("enabled", true);
    let kind = section.read("kind", default.map(|(kind, _)| kind), parse_kind, |kind| {
        kind.map(|kind| quoted(kind.scheme()))
    });
    let bind = section.optional_address("bind", default.map(|(_, bind)| bind));
    let path = section.path().to_owned();
    let mut need = |key: &str, found: &Origin| {
        // One that was said but is wrong has been reported.
        if *found == Origin::Default {
            section.problem(origin.clone(), format!("{path} needs a {key}"));
        }
    };
    if kind.value.is_none() {
        need("kind", &kind.origin);
    }
    if bind.value.is_none() {
        need("bind", &bind.origin);
    }
    if !enabled {
        return None;
    }
    Some(Listener {
        name: name.to_owned(),
        kind: kind.value?,
        bind: bind.value?,
        origin: bind.origin,
    })
}

fn parse_kind(raw: &Raw) -> Result<Option<Kind>, String> {
    let known = word(raw).unwrap_or_default();
    let built = Kind::ALL.map(|kind| quoted(kind.scheme()));
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.scheme() == known) {
        Ok(Some(kind))
    } else if PLANNED.contains(&known) {
        let built = alternatives(&built);
        Err(format!(
            "this kind is planned and not built yet; this version has {built}"
        ))
    } else if known == HTTP {
        Err("HTTP is configured in the section [http]".to_owned())
    } else {
        Err(format!("must be {}", alternatives(&built)))
    }
}

/// A name is part of variables' names, which are upper case, and of the ready file, where `http` is
/// taken.
fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if name == HTTP {
        Err("the name http belongs to the section [http]")
    } else if name.is_empty() || !name.bytes().all(plain) || name.contains("__") {
        Err("a listener's name is made of a-z, 0-9, - and single _")
    } else {
        Ok(())
    }
}
