//! Where the gateway is and what is spoken there: `scheme://host[:port][/path]`.

use std::fmt;
use std::str::FromStr;

use super::scheme::Scheme;

/// The address of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) scheme: Scheme,
    /// A name or an address, without the brackets of IPv6.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of WebSocket the page, of CoAP the resource under which the topics are.
    pub(crate) path: String,
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("a URL has the form mqtt://host[:port]")?;
        let name = scheme.to_ascii_lowercase();
        let Some(scheme) = Scheme::all().find(|scheme| scheme.name() == name) else {
            let known: Vec<_> = Scheme::all().map(Scheme::name).collect();
            let known = known.join(", ");
            return Err(format!("nothing speaks {name}; this version has {known}"));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("give the user name with -u and the password with -P".to_owned());
        }
        let path = match (path, scheme.default_path()) {
            ("" | "/", default) => default.unwrap_or_default(),
            (_, None) => return Err("this URL has no path".to_owned()),
            (path, _) if path.contains('?') && matches!(scheme, Scheme::Coap(_)) => {
                let text = "what a query would say is said with options, such as -i, -u, -P and -q";
                return Err(text.to_owned());
            }
            (path, _) if path.starts_with('/') && !path.contains('#') => path,
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
            "" => scheme.default_port(),
            digits => digits.parse().map_err(|_| format!("{digits} is no port"))?,
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme, host, port, ..
        } = self;
        let name = scheme.name();
        if host.contains(':') {
            write!(f, "{name}://[{host}]:{port}")?;
        } else {
            write!(f, "{name}://{host}:{port}")?;
        }
        f.write_str(&self.path)
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
            ("coap://gate.example", "coap://gate.example:5683/ps"),
            ("coaps://[::1]/", "coaps://[::1]:5684/ps"),
            ("coap+tcp://a/x/y", "coap+tcp://a:5683/x/y"),
            ("COAPS+TCP://a:99", "coaps+tcp://a:99/ps"),
        ] {
            assert_eq!(shown(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_spoken_is_said() {
        for (text, reason) in [
            ("localhost", "a URL has the form"),
            ("coap://a/ps?qos=1", "what a query would say is said with"),
            ("coap://a/ps#top", "after the port comes a path"),
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
