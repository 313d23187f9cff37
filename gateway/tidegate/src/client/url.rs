//! Where the gateway is and what is spoken there: `scheme://host[:port][/path]`.

use std::fmt;
use std::str::FromStr;

use crate::config::Kind;

/// The address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) kind: Kind,
    /// A name or an address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of WebSocket.
    pub(crate) path: String,
}

/// The path of a URL of WebSocket that names none.
const DEFAULT_PATH: &str = "/mqtt";

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("a URL has the form mqtt://host[:port]")?;
        let scheme = scheme.to_ascii_lowercase();
        let built = || Kind::ALL.into_iter().filter(|kind| !kind.is_coap());
        let kind = built().find(|kind| kind.scheme() == scheme);
        let Some(kind) = kind else {
            let built: Vec<_> = built().map(Kind::scheme).collect();
            let built = built.join(", ");
            let spoken = Kind::ALL.iter().any(|kind| kind.scheme() == scheme);
            return Err(if spoken {
                format!("the client does not speak {scheme} yet; this version has {built}")
            } else {
                format!("nothing speaks {scheme}; this version has {built}")
            });
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("give the user name with -u and the password with -P".to_owned());
        }
        let path = match path {
            "" | "/" => DEFAULT_PATH,
            _ if !kind.has_websocket() => return Err("this URL has no path".to_owned()),
            path if path.starts_with('/') && !path.contains('#') => path,
            _ => return Err("after the port comes a path".to_owned()),
        };
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
            "" => kind.default_port(),
            digits => digits.parse().map_err(|_| format!("{digits} is no port"))?,
        };
        Ok(Self {
            kind,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, host, port, ..
        } = self;
        let scheme = kind.scheme();
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")?;
        } else {
            write!(f, "{scheme}://{host}:{port}")?;
        }
        if kind.has_websocket() {
            f.write_str(&self.path)?;
        }
        Ok(())
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
            ("mqtts://gate.example", "mqtts://gate.example:8883"),
            ("ws://gate.example", "ws://gate.example:8083/mqtt"),
            ("ws://gate.example/", "ws://gate.example:8083/mqtt"),
            ("wss://[::1]/a/b?c=d", "wss://[::1]:8084/a/b?c=d"),
            ("quic://gate.example", "quic://gate.example:14567"),
        ] {
            assert_eq!(shown(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_said() {
        for (text, reason) in [
            ("localhost", "a URL has the form"),
            ("coap://localhost", "the client does not speak coap yet"),
            (
                "coaps+tcp://localhost",
                "the client does not speak coaps+tcp yet",
            ),
            ("mqtts://a/mqtt", "this URL has no path"),
            ("ws://a/mqtt#top", "after the port comes a path"),
            ("ws://a?b", "after the port comes a path"),
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
