//! The host and port that a request names, and the list of those an operator allows.
//!
//! Comparison is by meaning: letter case and a trailing dot do not count, an IPv4 address inside an
//! IPv6 one is the IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name, in lower case and without a trailing dot.
    Name(String),
}

/// A host and the port that was written behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.to_canonical()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        Some(Self::Name(name.to_ascii_lowercase()))
    }

    /// Whether only a program on the same machine can mean this host.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Address(address) => address.is_loopback(),
            Self::Name(name) => name == "localhost",
        }
    }
}

impl Authority {
    /// Reads `host[:port]`. User information and anything else is no authority of a request.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let end_of_host = match text.strip_prefix('[') {
            Some(inner) => inner.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end_of_host);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Self {
            host: Host::parse(host)?,
            port,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A host that requests may name although it is neither loopback nor the address they arrive at.
///
/// Without a port every port matches, because port forwarding changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost(Authority);

/// Why a text is not a host that could be allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a host; write a name or an address, with a port or without")]
pub struct AllowedHostError(String);

impl AllowedHost {
    pub(crate) fn matches(&self, authority: &Authority) -> bool {
        self.0.host == authority.host && (self.0.port.is_none() || self.0.port == authority.port)
    }
}

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Authority::parse(text)
            .map(Self)
            .ok_or_else(|| AllowedHostError(text.to_owned()))
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Authority::parse(text).map(|authority| authority.to_string())
    }

    #[test]
    fn an_authority_is_normalised() {
        assert_eq!(shown("LocalHost:80").as_deref(), Some("localhost:80"));
        assert_eq!(shown("localhost.").as_deref(), Some("localhost"));
        assert_eq!(shown("localhost:").as_deref(), Some("localhost"));
        assert_eq!(shown("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(shown("[0:0:0:0:0:0:0:1]:9").as_deref(), Some("[::1]:9"));
        assert_eq!(shown("[::ffff:10.0.0.1]").as_deref(), Some("10.0.0.1"));
        assert_eq!(
            shown("my_host-1.example").as_deref(),
            Some("my_host-1.example")
        );
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "user@localhost",
            "localhost:http",
            "localhost:65536",
            "localhost:1:2",
            "[::1",
            "[127.0.0.1]",
            "[::1]x",
            "*",
            "a,b",
            "localhost:-1",
            "localhost:+1",
        ] {
            assert_eq!(shown(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_allowed_host_without_a_port_matches_every_port() {
        let any: AllowedHost = "Gate.example".parse().unwrap();
        let one: AllowedHost = "gate.example:8080".parse().unwrap();
        let named = |text| Authority::parse(text).unwrap();
        assert!(any.matches(&named("gate.example")));
        assert!(any.matches(&named("GATE.example:1")));
        assert!(!any.matches(&named("other.gate.example")));
        assert!(one.matches(&named("gate.example:8080")));
        assert!(!one.matches(&named("gate.example")));
        assert!(!one.matches(&named("gate.example:8081")));
    }
}
