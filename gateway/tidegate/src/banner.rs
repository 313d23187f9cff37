//! What the gateway prints when it is up: where it can be reached, and one line to try.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A listener as the banner shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) address: SocketAddr,
    /// What comes after the address in a URL.
    pub(crate) path: &'a str,
}

pub(crate) fn banner(listeners: &[Line<'_>]) -> String {
    let mut text = format!("Tidegate {} is up.\n", env!("CARGO_PKG_VERSION"));
    let urls: Vec<String> = listeners
        .iter()
        .map(|line| format!("{}://{}{}", line.kind, line.address, line.path))
        .collect();
    let width = urls.iter().map(String::len).max().unwrap_or(0);
    for (url, line) in urls.iter().zip(listeners) {
        let what = match line.kind {
            "http" => "/api/v1 /livez /readyz /startupz /metrics".to_owned(),
            _ => format!("listener {}", line.name),
        };
        let _ = writeln!(text, "  {url:width$}  {what}");
    }
    if let Some(line) = listeners.iter().find(|line| line.kind == "mqtt") {
        let _ = writeln!(text, "{}", to_try(reachable(line.address)));
    }
    text
}

fn to_try(address: SocketAddr) -> String {
    let mut mosquitto = "mosquitto_sub".to_owned();
    let mut tidegate = "tidegate sub".to_owned();
    if address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let _ = write!(mosquitto, " -h {}", address.ip());
    }
    if address.port() != 1883 {
        let _ = write!(mosquitto, " -p {}", address.port());
    }
    if address != SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)) {
        let _ = write!(tidegate, " --url mqtt://{address}");
    }
    format!("Try: {mosquitto} -t '#' -v    or: {tidegate} -t '#' -v")
}

/// Nobody can connect to "every address"; from here loopback is one of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &'static str, address: &str) -> Line<'static> {
        Line {
            name: kind,
            kind,
            address: address.parse().unwrap(),
            path: if kind == "ws" { "/mqtt" } else { "" },
        }
    }

    #[test]
    fn the_defaults_need_no_address() {
        let text = banner(&[
            line("mqtt", "127.0.0.1:1883"),
            line("ws", "127.0.0.1:8083"),
            line("http", "127.0.0.1:18083"),
        ]);
        assert_eq!(
            text,
            format!(
                "Tidegate {} is up.\n\
                 \x20 mqtt://127.0.0.1:1883     listener mqtt\n\
                 \x20 ws://127.0.0.1:8083/mqtt  listener ws\n\
                 \x20 http://127.0.0.1:18083    /api/v1 /livez /readyz /startupz /metrics\n\
                 Try: mosquitto_sub -t '#' -v    or: tidegate sub -t '#' -v\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn the_line_to_try_reaches_the_listener() {
        let last = |address| {
            let text = banner(&[line("mqtt", address)]);
            text.lines().next_back().unwrap().to_owned()
        };
        assert_eq!(
            last("127.0.0.1:4000"),
            "Try: mosquitto_sub -p 4000 -t '#' -v    \
             or: tidegate sub --url mqtt://127.0.0.1:4000 -t '#' -v"
        );
        assert_eq!(
            last("0.0.0.0:1883"),
            "Try: mosquitto_sub -t '#' -v    or: tidegate sub -t '#' -v"
        );
        assert_eq!(
            last("[::]:4000"),
            "Try: mosquitto_sub -h ::1 -p 4000 -t '#' -v    \
             or: tidegate sub --url mqtt://[::1]:4000 -t '#' -v"
        );
    }

    #[test]
    fn without_mqtt_there_is_nothing_to_try() {
        assert!(!banner(&[line("http", "127.0.0.1:18083")]).contains("Try"));
    }
}
