//! Listeners: several of a kind, limits of their own, how they share or do not share a port, IPv6.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use tidegate_tests::wire::{
    Client, Connect, Event, PATIENCE, Packet, Property, Publish, Version, code,
};
use tidegate_tests::{Gateway, Server, Transport, eventually, unique};

#[test]
fn several_listeners_of_one_kind_have_names() {
    let more = "[listeners.inside]\nkind = \"ws\"\nbind = \"127.0.0.1:0\"\n\
                [listeners.inside.websocket]\npath = \"/inside\"\n\
                [listeners.second]\nkind = \"mqtts\"\nbind = \"127.0.0.1:0\"\n\
                [listeners.third]\nkind = \"mqtt\"\nbind = \"127.0.0.1:0\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let topic = unique("named");
    let servers = [
        gateway.listener("mqtt", Transport::Tcp),
        gateway.listener("inside", Transport::Ws).path("/inside"),
        gateway.listener("second", Transport::Tls),
        gateway.listener("third", Transport::Tcp),
        gateway.listener("wss", Transport::Wss),
    ];
    let mut clients: Vec<Client> = servers
        .iter()
        .map(|server| {
            let mut client = Connect::v5(&unique("named")).open(server);
            client.subscribe(&topic, 1);
            client
        })
        .collect();
    clients[0].publish(&Publish::new(&topic, "one bus").qos(1));
    for client in &mut clients {
        assert_eq!(client.receive().text(), "one bus");
    }
    for name in ["mqtt", "inside", "second", "third", "wss"] {
        let label = format!("listener=\"{name}\"");
        let of = |metric: &str| gateway.metric(metric, &[&label]);
        assert_eq!(of("tidegate_listener_connections"), 1.0, "{name}");
        assert_eq!(of("tidegate_listener_accepted_total"), 1.0, "{name}");
    }
    drop(clients);
    eventually("all are gone", || {
        gateway.metric("tidegate_listener_connections", &[]) == 0.0
    });
}

#[test]
fn a_listener_can_be_turned_off() {
    let Some(gateway) = Gateway::configured("[listeners.ws]\nenabled = false") else {
        return;
    };
    Connect::v5(&unique("on"))
        .open(gateway.mqtt())
        .expect_nothing();
    assert!(!gateway.has("ws"));
    assert!(gateway.has("wss"));
}

#[test]
fn max_connections_of_a_listener_is_its_own() {
    let limits = Transport::ALL
        .map(|transport| format!("[listeners.{}]\nmax_connections = 2\n", transport.scheme()));
    let Some(gateway) = Gateway::configured(&limits.concat()) else {
        return;
    };
    let mut clients: Vec<Client> = Vec::new();
    for transport in Transport::ALL {
        let server = gateway.listener(transport.scheme(), transport);
        clients.extend((0..2).map(|_| Connect::v5(&unique("fits")).open(&server)));
        let told = refusal(&server, Version::V5);
        assert!(
            matches!(told, Some(code::BUSY | code::QUOTA)),
            "{transport:?}: {told:?}"
        );
        let told = refusal(&server, Version::V311);
        assert_eq!(told, Some(3), "{transport:?}");
    }
    // The others of one listener being full is nothing to those who are there.
    clients.iter_mut().for_each(Client::expect_nothing);
    // One leaves, one may come.
    let server = gateway.listener("ws", Transport::Ws);
    clients.swap_remove(4).vanish();
    eventually("there is room", || refusal(&server, Version::V5).is_none());
}

/// The code with which a client is refused, if it is.
#[track_caller]
fn refusal(server: &Server, version: Version) -> Option<u8> {
    let mut client = Client::dial(server, version);
    // The answer may come before the question has arrived.
    let _ = client.try_send(&Connect::new(version, &unique("more")).encode());
    match client.next(PATIENCE) {
        Event::Packet(Packet::ConnAck(answer)) if answer.code == 0 => None,
        Event::Packet(Packet::ConnAck(answer)) => Some(answer.code),
        other => panic!("a CONNACK expected: {other:?}"),
    }
}

#[test]
fn limits_of_a_listener_go_before_the_common_ones() {
    let more = "[limits]\nreceive_maximum = 50\nmax_packet_size = \"1MiB\"\n\
                [listeners.ws]\nreceive_maximum = 7\nmax_packet_size = \"10KiB\"\n\
                topic_alias_maximum = 3\nmax_keep_alive = \"30s\"";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let own = gateway.listener("ws", Transport::Ws);
    let own = Connect::v5(&unique("own")).open(&own);
    for expected in [
        Property::ReceiveMaximum(7),
        Property::MaximumPacketSize(10 * 1024),
        Property::TopicAliasMaximum(3),
        Property::ServerKeepAlive(30),
    ] {
        let found = &own.connack().properties;
        assert!(found.contains(&expected), "{expected:?}: {found:?}");
    }
    let common = Connect::v5(&unique("common")).open(gateway.mqtt());
    let found = &common.connack().properties;
    assert!(found.contains(&Property::ReceiveMaximum(50)), "{found:?}");
}

#[test]
fn reuse_port_lets_a_second_gateway_bind() {
    let first = "[listeners.shared]\nkind = \"mqtt\"\nbind = \"127.0.0.1:0\"\nreuse_port = true";
    let Some(first) = Gateway::configured(first) else {
        return;
    };
    let shared = first.address("shared");
    let second =
        format!("[listeners.shared]\nkind = \"mqtt\"\nbind = \"{shared}\"\nreuse_port = true");
    let Some(second) = Gateway::configured(&second) else {
        return;
    };
    assert_eq!(second.address("shared"), shared);
    // The kernel deals the connections out; both get some.
    let mut clients: Vec<Client> = Vec::new();
    let accepted = |gateway: &Gateway| {
        gateway.metric("tidegate_listener_accepted_total", &["listener=\"shared\""])
    };
    eventually("both were chosen", || {
        clients.push(Connect::v5(&unique("dealt")).open(shared));
        accepted(&first) > 0.0 && accepted(&second) > 0.0
    });
    clients.iter_mut().for_each(Client::expect_nothing);
}

/// An address of IPv6 that nothing listens at; `None`, and a line that says so, where there is no IPv6.
#[track_caller]
fn free_ipv6(address: Ipv6Addr) -> Option<SocketAddr> {
    match TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr()) {
        Ok(found) => Some(found),
        Err(error) => {
            eprintln!("skipped: this machine has no IPv6: {error}");
            None
        }
    }
}

#[test]
fn ipv6_loopback_is_loopback() {
    let Some(address) = free_ipv6(Ipv6Addr::LOCALHOST) else {
        return;
    };
    // No word is needed for it, as for 127.0.0.1.
    let kinds = Transport::ALL.map(|transport| {
        let kind = transport.scheme();
        format!("[listeners.six-{kind}]\nkind = \"{kind}\"\nbind = \"[::1]:0\"\n")
    });
    let Some(gateway) = Gateway::configured(&kinds.concat()) else {
        return;
    };
    for transport in Transport::ALL {
        let name = format!("six-{}", transport.scheme());
        let server = gateway.listener(&name, transport);
        assert_eq!(server.address().ip(), address.ip());
        Connect::v5(&unique("six")).open(&server).expect_nothing();
    }
}

#[test]
fn one_listener_serves_ipv6_and_ipv4() {
    if free_ipv6(Ipv6Addr::LOCALHOST).is_none() {
        return;
    }
    let more = "[access]\nallow_anonymous = true\n\
                [listeners.dual]\nkind = \"mqtt\"\nbind = \"[::]:0\"\nmax_connections_per_ip = 1";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let port = gateway.address("dual").port();
    let mut six = Connect::v5(&unique("six")).open(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    let mut four = Connect::v5(&unique("four")).open(SocketAddr::from(([127, 0, 0, 1], port)));
    // An IPv4 address that comes as IPv6 (::ffff:127.0.0.1) is the IPv4 address.
    let refused = Connect::v5(&unique("again")).refused(SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(
        matches!(refused.code, code::BUSY | code::QUOTA),
        "{refused:?}"
    );
    six.expect_nothing();
    four.expect_nothing();
}

#[test]
fn ipv6_only_leaves_ipv4_alone() {
    if free_ipv6(Ipv6Addr::LOCALHOST).is_none() {
        return;
    }
    let more = "[access]\nallow_anonymous = true\n\
                [listeners.six]\nkind = \"mqtt\"\nbind = \"[::]:0\"\nipv6_only = true";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let port = gateway.address("six").port();
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    Connect::v5(&unique("six")).open(six).expect_nothing();
    let four = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(four.is_err(), "IPv4 is another port");
}

#[test]
fn refusals_that_nobody_reads_take_nothing_from_another_listener() {
    let more = "[listeners.mqtts]\nmax_connections = 1\n[listeners.mqtt]\nmax_connections = 1";
    let Some(gateway) = Gateway::configured(more) else {
        return;
    };
    let full = gateway.listener("mqtts", Transport::Tls);
    let _one = Connect::v5(&unique("full")).open(&full);
    let other = gateway.listener("mqtt", Transport::Tcp);
    let _other = Connect::v5(&unique("full")).open(&other);
    // More than are told why, and none of them says a word.
    let silent: Vec<TcpStream> = (0..300)
        .filter_map(|_| TcpStream::connect_timeout(&gateway.address("mqtts"), PATIENCE).ok())
        .collect();
    eventually("all are refused", || {
        let labels = ["listener=\"mqtts\"", "reason=\"limit\""];
        gateway.metric("tidegate_listener_refused_total", &labels) >= 300.0
    });
    let refused = Connect::v5(&unique("refused")).refused(&other);
    assert_eq!(refused.code, 0x89);
    drop(silent);
}
