//! `[listeners.NAME]`: where each protocol is spoken.

mod coap;
mod dtls;
mod kind;
mod limits;
mod proxy;
mod quic;
mod tls;
mod websocket;

use std::net::SocketAddr;

pub(crate) use dtls::DtlsListener;
pub(crate) use kind::Kind;
use tidegate_tcp::{ProxyProtocol, SocketOptions};
pub(crate) use tls::TlsListener;

use super::origin::Origin;
use super::reader::Section;
use super::tree::Raw;
use super::values::{alternatives, quoted, word};

/// The name that the HTTP side has among the listeners.
pub(crate) const HTTP: &str = "http";

/// A listener of the configuration that is not turned off.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Lower case letters, digits, `-` and `_`.
    pub(crate) name: String,
    /// What is spoken there.
    pub(crate) kind: Kind,
    /// Its socket.
    pub(crate) socket: SocketOptions,
    /// What a load balancer says before a client does.
    pub(crate) proxy: Option<ProxyProtocol>,
    /// `[limits]` with what this listener has otherwise.
    pub(crate) mqtt: tidegate_mqtt::Settings,
    /// Of the kinds that have it.
    pub(crate) tls: Option<TlsListener>,
    /// Of the kinds that have it.
    pub(crate) websocket: Option<tidegate_websocket::Settings>,
    /// Of the kind that has it.
    pub(crate) quic: Option<tidegate_quic::Settings>,
    /// Of the kinds that have it.
    pub(crate) coap: Option<tidegate_coap::Settings>,
    /// Of the kind that has it.
    pub(crate) dtls: Option<DtlsListener>,
    /// Where the address was said.
    pub(crate) origin: Origin,
}

/// Reads all listeners. `mqtt` is what `[limits]` and `[sessions]` say.
pub(crate) fn read(section: &mut Section<'_>, mqtt: &tidegate_mqtt::Settings) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for kind in Kind::ALL {
        // Those that exist when nobody says anything have the name of their kind.
        let name = kind.listener();
        let default = (kind, kind.default_bind());
        let listener = section.section(name, |section| {
            listener(section, name, Some(default), &Origin::Default, mqtt)
        });
        listeners.extend(listener);
    }
    for (name, origin) in section.keys() {
        if let Err(why) = check_name(&name) {
            section.skip(&name);
            section.problem(origin, format!("listeners.{name}: {why}"));
            continue;
        }
        let listener = section.section(&name, |section| {
            listener(section, &name, None, &origin, mqtt)
        });
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
    mqtt: &tidegate_mqtt::Settings,
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
    // What a kind does not have is an unknown key there.
    let is_quic = kind.value.is_some_and(Kind::is_quic);
    let is_udp = kind.value.is_some_and(Kind::is_udp);
    let is_coap = kind.value.is_some_and(Kind::is_coap);
    let is_coap_stream = kind.value.is_some_and(Kind::is_coap_stream);
    let backlog = if is_udp {
        0
    } else {
        section.count("backlog", 4_096, 1..=1_000_000)
    };
    let reuse_port = section.boolean("reuse_port", false);
    let ipv6_only = section.boolean("ipv6_only", false);
    let proxy = if is_udp { None } else { proxy::read(section) };
    let has_dtls = kind.value.is_some_and(Kind::has_dtls);
    let own = match (is_coap, is_coap_stream) {
        (false, _) => limits::read(section, mqtt),
        (true, true) => limits::read_connections(section, mqtt),
        (true, false) => mqtt.clone(),
    };
    let coap = is_coap.then(|| {
        section.section("coap", |section| {
            if is_coap_stream {
                coap::read_stream(section, &own)
            } else {
                coap::read(section, mqtt, has_dtls)
            }
        })
    });
    let dtls = has_dtls.then(|| dtls::read(section));
    let mqtt = own;
    let tls = kind.value.is_some_and(Kind::has_tls);
    let mut tls =
        tls.then(|| section.section("tls", |section| tls::read(section, alpn(kind.value))));
    let quic = tls.as_mut().filter(|_| is_quic);
    let quic = quic.map(|tls| section.section("quic", |section| quic::read(section, tls)));
    let websocket = kind.value.is_some_and(Kind::has_websocket);
    let websocket = websocket.then(|| {
        section.section("websocket", |section| {
            websocket::read(section, mqtt.max_packet_bytes.into())
        })
    });
    if !enabled {
        return None;
    }
    let bind_address = bind.value?;
    Some(Listener {
        name: name.to_owned(),
        kind: kind.value?,
        socket: SocketOptions {
            backlog,
            reuse_port,
            ipv6_only,
            ..SocketOptions::new(bind_address)
        },
        proxy,
        mqtt,
        tls,
        websocket,
        quic,
        coap,
        dtls,
        origin: bind.origin,
    })
}

/// What a client names in its handshake: QUIC asks for it (RFC 9001 section 8.1), CoAP over TLS speaks of it (RFC 8323
/// section 8.2), MQTT has none.
fn alpn(kind: Option<Kind>) -> tls::Alpn {
    match kind {
        Some(Kind::Quic) => tls::Alpn::Quic,
        Some(Kind::CoapsTcp) => tls::Alpn::Coap,
        _ => tls::Alpn::None,
    }
}

fn parse_kind(raw: &Raw) -> Result<Option<Kind>, String> {
    let known = word(raw).unwrap_or_default();
    let built = Kind::ALL.map(|kind| quoted(kind.scheme()));
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.scheme() == known) {
        Ok(Some(kind))
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
