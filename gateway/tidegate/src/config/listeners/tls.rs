//! `[listeners.NAME.tls]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tidegate_tls::{
    AcceptSettings, CertificateFiles, ClientAuth, ClientCa, MinVersion, Resumption, Settings,
};

use super::super::origin::Origin;
use super::super::reader::{Found, Section};

/// TLS at one listener. Without certificates it is the local one.
#[derive(Clone, Debug)]
pub(crate) struct TlsListener {
    pub(crate) settings: Settings,
    pub(crate) accept: AcceptSettings,
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    None,
    Optional,
    Required,
}

/// How sessions are resumed.
#[derive(Clone, Copy, PartialEq)]
enum Resume {
    Off,
    Tickets,
    EarlyData,
}

/// A file of a ticket key.
struct KeyFile(PathBuf);

impl FromStr for KeyFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("the name of a file must not be empty"),
            path => Ok(Self(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// The name of the protocol in the handshake (RFC 7301).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Alpn {
    /// None is asked for.
    None,
    Quic,
    Coap,
}

/// QUIC has TLS 1.3 (RFC 9001 section 4.2).
pub(super) fn read(section: &mut Section<'_>, alpn: Alpn) -> TlsListener {
    let is_quic = alpn == Alpn::Quic;
    let mut certificates = Vec::new();
    certificates.extend(certificate(section));
    section.section("certificates", |section| {
        let default = !certificates.is_empty();
        for (name, origin) in section.keys() {
            let further = section.section(&name, certificate);
            if !default {
                let path = section.path().to_owned();
                let text = format!(
                    "{path}.{name} is a further certificate; the first one is tls.cert and tls.key"
                );
                section.problem(origin, text);
            }
            certificates.extend(further);
        }
    });
    let client = client_auth(section);
    let min_version = if is_quic {
        MinVersion::Tls13
    } else {
        section.choice(
            "min_version",
            MinVersion::Tls12,
            &[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)],
        )
    };
    let resumption = resumption(section, is_quic);
    let accept = AcceptSettings {
        handshake_timeout: section.duration(
            "handshake_timeout",
            Duration::from_secs(10),
            Duration::from_millis(10)..=Duration::from_secs(3600),
        ),
        max_handshakes: section.count("max_handshakes", 1_024, 1..=1_000_000),
    };
    TlsListener {
        settings: Settings {
            certificates,
            client,
            min_version,
            alpn: match alpn {
                Alpn::None => Vec::new(),
                Alpn::Quic => vec![tidegate_quic::ALPN.to_vec()],
                Alpn::Coap => vec![tidegate_coap::stream::ALPN.to_vec()],
            },
            resumption,
        },
        accept,
    }
}

/// Early data is of QUIC: over TCP nothing would read it. How many sessions are remembered for it is read
/// with what else QUIC has.
fn resumption(section: &mut Section<'_>, is_quic: bool) -> Resumption {
    let words = [
        ("off", Resume::Off),
        ("tickets", Resume::Tickets),
        ("early_data", Resume::EarlyData),
    ];
    let chosen = section.read_choice("resumption", Resume::Tickets, &words);
    let keys = section.read_list::<KeyFile>("ticket_keys");
    let path = section.path().to_owned();
    if chosen.value != Resume::Tickets && !keys.value.is_empty() {
        let text = format!("{path}.ticket_keys needs {path}.resumption = \"tickets\"");
        section.problem(keys.origin, text);
    }
    match chosen.value {
        Resume::EarlyData if is_quic => Resumption::EarlyData { sessions: 0 },
        Resume::EarlyData => {
            let text = format!("{path}.resumption = \"early_data\" is for the kind quic only");
            section.problem(chosen.origin, text);
            Resumption::Off
        }
        Resume::Tickets => Resumption::Tickets {
            keys: keys.value.into_iter().map(|KeyFile(path)| path).collect(),
        },
        Resume::Off => Resumption::Off,
    }
}

/// A certificate is two files or none.
pub(super) fn certificate(section: &mut Section<'_>) -> Option<CertificateFiles> {
    let cert = section.optional_path("cert");
    let key = section.optional_path("key");
    let mut need = |missing: &str, there: &Found<Option<PathBuf>>| {
        let text = format!("{}.{missing} is needed, too", section.path());
        section.problem(there.origin.clone(), text);
    };
    match (&cert.value, &key.value) {
        (Some(_), None) if key.origin == Origin::Default => need("key", &cert),
        (None, Some(_)) if cert.origin == Origin::Default => need("cert", &key),
        _ => {}
    }
    Some(CertificateFiles {
        chain: cert.value?,
        key: key.value?,
    })
}

fn client_auth(section: &mut Section<'_>) -> ClientAuth {
    let ca = client_ca(section);
    let words = [
        ("none", Some(Asked::None)),
        ("optional", Some(Asked::Optional)),
        ("required", Some(Asked::Required)),
    ];
    // Whoever names a CA wants it used.
    let default = match ca {
        Some(_) => Asked::Required,
        None => Asked::None,
    };
    let asked = section.optional_choice("client_auth", &words);
    let Some(ca) = ca else {
        if matches!(asked.value, Some(Asked::Optional | Asked::Required)) {
            need_ca(section, asked.origin, "client_auth");
        }
        return ClientAuth::None;
    };
    match asked.value.unwrap_or(default) {
        Asked::None => ClientAuth::None,
        Asked::Optional => ClientAuth::Optional(ca),
        Asked::Required => ClientAuth::Required(ca),
    }
}

/// Who issues certificates of clients.
pub(super) fn client_ca(section: &mut Section<'_>) -> Option<ClientCa> {
    let ca = section.optional_path("client_ca");
    let crl = section.optional_path("client_crl");
    if ca.value.is_none() && crl.value.is_some() {
        need_ca(section, crl.origin, "client_crl");
    }
    Some(ClientCa {
        ca: ca.value?,
        crl: crl.value,
    })
}

fn need_ca(section: &mut Section<'_>, origin: Origin, what: &str) {
    let path = section.path().to_owned();
    section.problem(origin, format!("{path}.{what} needs a client_ca"));
}
