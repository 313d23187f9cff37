//! `proxy_networks` and `proxy_timeout`: load balancers in front of a listener.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tidegate_tcp::{IpNet, ProxyProtocol};

use super::super::reader::Section;

/// `None` when no network is named: then the listener speaks to its clients directly.
pub(super) fn read(section: &mut Section<'_>) -> Option<ProxyProtocol> {
    let networks: Vec<Network> = section.list("proxy_networks");
    let timeout = section.duration(
        "proxy_timeout",
        Duration::from_secs(5),
        Duration::from_millis(10)..=Duration::from_secs(3600),
    );
    (!networks.is_empty()).then(|| ProxyProtocol {
        networks: networks.into_iter().map(|Network(net)| net).collect(),
        timeout,
    })
}

/// A network, or one address.
struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse().ok().or_else(one);
        network.map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\", nor an IP \
                 address"
            )
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
