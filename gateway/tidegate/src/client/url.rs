//! Where the gateway is and what is spoken there: `scheme://host[:port]`.

use std::fmt;
use std::str::FromStr;

use crate::config::PLANNED;

/// The address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) scheme: Scheme,
    /// A name or an address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// MQTT over TCP.
    Mqtt,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
        }
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("a URL has the form mqtt://host[:port]")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => Scheme::Mqtt,
            planned if PLANNED.contains(&planned) => {
                return Err(format!(
                    "{planned} is planned and not built yet; this version has mqtt"
                ));
            }
            unknown => return Err(format!("nothing speaks {unknown}; this version has mqtt")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("give the user name with -u and the password with -P".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err("this URL has no path".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("a \"]\" is missing")?;
                (
                    host,
                    port.strip_prefix(':')
                        .or(port.is_empty().then_some(""))
                        .ok_or("after \"]\" comes a port")?,
                )
            }
            None => authority.split_once(':').unwrap_or((authority, "")),
        };
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        let port = match port {
            "" => scheme.default_port(),
            digits => digits.parse().map_err(|_| format!("{digits} is no port"))?,
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = scheme.name();
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        text.parse::<ServerUrl>().map(|url| url.to_string())
    }

    #[test]
    fn a_url_names_scheme_host_and_port() {
        for (text, expected) in [
            ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
            ("mqtt://gate.example", "mqtt://gate.example:1883"),
            ("MQTT://gate.example/", "mqtt://gate.example:1883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://[::1]:99", "mqtt://[::1]:99"),
        ] {
            assert_eq!(shown(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_said() {
        for (text, reason) in [
            ("localhost", "a URL has the form"),
            ("quic://localhost", "quic is planned and not built yet"),
            ("wss://localhost", "wss is planned and not built yet"),
            ("http://localhost", "nothing speaks http"),
            ("mqtt://", "the host is missing"),
            ("mqtt://:1883", "the host is missing"),
            ("mqtt://a:b", "b is no port"),
            ("mqtt://a:65536", "65536 is no port"),
            ("mqtt://a/mqtt", "this URL has no path"),
            ("mqtt://u:p@a", "give the user name with -u"),
            ("mqtt://[::1", "a \"]\" is missing"),
            ("mqtt://[::1]x", "after \"]\" comes a port"),
        ] {
            let error = shown(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
