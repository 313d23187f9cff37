//! Where a web page that makes a request comes from (RFC 6454), and the list of those allowed.

use std::fmt;
use std::str::FromStr;

use crate::authority::Authority;

/// A page's origin: scheme, host and port, the port always known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: Scheme,
    authority: Authority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Origin {
    /// Reads `scheme://host[:port]`. "null", which a browser sends for a page without an origin, is
    /// none; neither is anything with a path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = [Scheme::Http, Scheme::Https]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(scheme))?;
        let authority = Authority::parse(authority)?;
        let port = Some(authority.port.unwrap_or(scheme.default_port()));
        Some(Self {
            scheme,
            authority: Authority { port, ..authority },
        })
    }

    /// Whether the page was served by a program on the same machine as the browser.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        self.authority.host.is_loopback()
    }

    /// Whether the page was served under the host that its request now names. The scheme is not
    /// compared: behind a proxy that ends TLS the page is https and the request is not.
    pub(crate) fn is_of(&self, target: &Authority) -> bool {
        let port = target.port.unwrap_or(self.scheme.default_port());
        self.authority.host == target.host && self.authority.port == Some(port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority.host)?;
        match self.authority.port {
            Some(port) if port != self.scheme.default_port() => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// An origin whose pages may make requests although they were not served by this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(Origin);

/// Why a text is not an origin that could be allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not an origin; write http:// or https://, a host, a port if it is not the usual one, and no path"
)]
pub struct AllowedOriginError(String);

impl AllowedOrigin {
    pub(crate) fn matches(&self, origin: &Origin) -> bool {
        self.0 == *origin
    }
}

impl FromStr for AllowedOrigin {
    type Err = AllowedOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Origin::parse(text)
            .map(Self)
            .ok_or_else(|| AllowedOriginError(text.to_owned()))
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_the_same_as_none() {
        assert_eq!(Origin::parse("http://A"), Origin::parse("HTTP://a:80"));
        assert_eq!(Origin::parse("https://a"), Origin::parse("https://a:443"));
        assert_ne!(Origin::parse("https://a"), Origin::parse("http://a"));
        assert_eq!(
            Origin::parse("http://a:81").unwrap().to_string(),
            "http://a:81"
        );
        assert_eq!(
            Origin::parse("http://a:80").unwrap().to_string(),
            "http://a"
        );
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "null",
            "",
            "a",
            "ftp://a",
            "http://",
            "http://a/",
            "http://u@a",
            "file:///x",
        ] {
            assert_eq!(Origin::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_of_the_host_itself_is_known_by_host_and_port() {
        let of = |origin: &str, target: &str| {
            Origin::parse(origin)
                .unwrap()
                .is_of(&Authority::parse(target).unwrap())
        };
        assert!(of("http://localhost:18083", "localhost:18083"));
        assert!(of("http://gate.example", "gate.example"));
        assert!(of("https://gate.example", "gate.example"));
        assert!(of("https://gate.example:443", "gate.example"));
        assert!(!of("http://localhost:3000", "localhost:18083"));
        assert!(!of("http://evil.example", "localhost:18083"));
        assert!(!of("http://127.0.0.1:18083", "localhost:18083"));
    }
}
