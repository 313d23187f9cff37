//! What an operator decides, from four places: the defaults, a file, the environment, the flags.
//!
//! Later places win, value by value. Everything that is wrong is reported at once, with the place
//! where it was said; nothing that is not understood is passed over. Sections that belong to parts
//! that are not built yet do not exist.

mod file;
mod http;
mod limits;
mod listeners;
mod origin;
mod overrides;
mod problem;
mod reader;
mod sessions;
mod store;
mod telemetry;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod values;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub(crate) use listeners::{HTTP, Kind, Listener};
use origin::Origin;
pub(crate) use overrides::Flag;
pub(crate) use problem::Problems;
pub(crate) use reader::Effective;
use reader::{Found, Reader, Section};
pub(crate) use store::{Engine, Store};
pub(crate) use telemetry::{LogFormat, Telemetry};
use tree::Table;

/// The configuration of one gateway, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `[node]`.
    pub(crate) node: Node,
    /// `[listeners.NAME]`, those that are not turned off.
    pub(crate) listeners: Vec<Listener>,
    /// `[http]`; `None` when it is turned off.
    pub(crate) http: Option<tidegate_api::Settings>,
    /// The part of it that is about messages.
    pub(crate) api: tidegate_api::ApiSettings,
    /// The parts of `[limits]` and `[sessions]` that the bus enforces.
    pub(crate) bus: tidegate_bus::Settings,
    /// The parts of `[limits]` and `[sessions]` that MQTT connections enforce.
    pub(crate) mqtt: tidegate_mqtt::Settings,
    /// `[store]`.
    pub(crate) store: Store,
    /// `[telemetry]`.
    pub(crate) telemetry: Telemetry,
}

/// `[node]`: this gateway as one among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Where what must outlive the process is kept.
    pub(crate) data_dir: PathBuf,
    /// What people call it, in logs and metrics.
    pub(crate) name: Option<String>,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The file of `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The environment; variables that are not the gateway's are passed over.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The flags, in their order.
    pub(crate) flags: Vec<Flag>,
}

/// A configuration, and each of its values with its origin.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) effective: Vec<Effective>,
}

impl Sources {
    /// Reads all sources, merges them and checks the result.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        let mut problems = Vec::new();
        let mut tree = Table::default();
        if let Some(path) = &self.file {
            match file::read(path) {
                Ok(table) => tree.overlay(table),
                Err(found) => problems.extend(found),
            }
        }
        tree.overlay(overrides::environment(&self.environment, &mut problems));
        tree.overlay(overrides::flags(&self.flags, &mut problems));

        let mut reader = Reader::new(tree, problems);
        let config = read(&mut reader);
        let (effective, problems) = reader.finish();
        match Problems::of(problems) {
            None => Ok(Loaded { config, effective }),
            Some(problems) => Err(problems),
        }
    }
}

fn read(reader: &mut Reader) -> Config {
    let node = reader.section("node", read_node);
    let mut bus = tidegate_bus::Settings::default();
    let mut mqtt = tidegate_mqtt::Settings::default();
    reader.section("limits", |section| {
        limits::read(section, &mut bus, &mut mqtt);
    });
    reader.section("sessions", |section| {
        sessions::read(section, &mut bus, &mut mqtt);
    });
    let store = reader.section("store", |section| store::read(section, &mut bus));
    let listeners = reader.section("listeners", |section| listeners::read(section, &mqtt));
    let mut api = tidegate_api::ApiSettings {
        max_packet_bytes: mqtt.max_packet_bytes,
        ..tidegate_api::ApiSettings::default()
    };
    let http = reader.section("http", |section| http::read(section, &mut api));
    let allow_anonymous = reader.section("access", |section| {
        section.boolean("allow_anonymous", false)
    });
    check_addresses(reader, &listeners, http.as_ref(), allow_anonymous);
    let telemetry = reader.section("telemetry", telemetry::read);
    Config {
        node,
        listeners,
        http: http.map(|http| http.value),
        api,
        bus,
        mqtt,
        store,
        telemetry,
    }
}

fn read_node(section: &mut Section<'_>) -> Node {
    Node {
        data_dir: section.path_to("data_dir", "./tidegate-data"),
        name: section.optional_text("name", |name| {
            let plain = |c: char| !c.is_control();
            if (1..=64).contains(&name.chars().count()) && name.chars().all(plain) {
                Ok(())
            } else {
                Err("must be 1 to 64 characters, none of them a control character".to_owned())
            }
        }),
    }
}

/// What must hold for all addresses together.
fn check_addresses(
    reader: &mut Reader,
    listeners: &[Listener],
    http: Option<&Found<tidegate_api::Settings>>,
    allow_anonymous: bool,
) {
    let mut addresses: Vec<(String, Address, &Origin, &str)> = Vec::new();
    for listener in listeners {
        let risk = "publish and subscribe";
        let name = format!("listeners.{}", listener.name);
        let address = Address {
            bind: listener.socket.bind,
            both_families: !listener.socket.ipv6_only,
            is_udp: listener.kind.is_udp(),
        };
        addresses.push((name, address, &listener.origin, risk));
    }
    if let Some(Found { value, origin }) = http {
        let address = Address {
            bind: value.bind,
            both_families: true,
            is_udp: false,
        };
        let risk = "publish, subscribe and read the metrics";
        addresses.push((HTTP.to_owned(), address, origin, risk));
    }
    for (index, (name, address, origin, risk)) in addresses.iter().enumerate() {
        let bind = address.bind;
        let mut refuse = |why: &str| {
            reader.refuse(&format!("{name}.bind"), &bind.to_string(), origin, why);
        };
        if !allow_anonymous && !bind.ip().to_canonical().is_loopback() {
            refuse(&format!(
                "there is no authentication yet, so everybody who reaches an address outside \
                 loopback could {risk}; set access.allow_anonymous = true if that is wanted"
            ));
        }
        let taken = addresses[..index]
            .iter()
            .find(|(_, other, ..)| overlap(other, address));
        if let Some((other, ..)) = taken {
            refuse(&format!("{other} is bound there already"));
        }
    }
}

/// What decides whether two sockets get in each other's way.
struct Address {
    bind: SocketAddr,
    /// `[::]` is `0.0.0.0`, too.
    both_families: bool,
    /// Ports of UDP are others than those of TCP.
    is_udp: bool,
}

impl Address {
    fn covers(&self, ip: IpAddr) -> bool {
        self.bind.ip() == ip
            || match self.bind.ip() {
                IpAddr::V4(own) => own.is_unspecified() && ip.is_ipv4(),
                IpAddr::V6(own) => own.is_unspecified() && (ip.is_ipv6() || self.both_families),
            }
    }
}

/// Whether two listeners of one gateway are in each other's way, also where `reuse_port` would let the
/// kernel spread connections over them: the two may speak differently. Port 0 is a free port each time.
fn overlap(a: &Address, b: &Address) -> bool {
    a.bind.port() != 0
        && a.is_udp == b.is_udp
        && a.bind.port() == b.bind.port()
        && (a.covers(b.bind.ip()) || b.covers(a.bind.ip()))
}
