//! `[listeners.NAME.tls]` and `[listeners.NAME.dtls]` of the kind `coaps`.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_dtls::{CredentialSettings, PskSource, Settings};
use tidegate_tls::ClientAuth;

use super::super::reader::Section;
use super::super::tree::Raw;
use super::super::values::{quoted, word};
use super::tls;

const MOST: u64 = 10_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// DTLS at one listener.
#[derive(Clone, Debug)]
pub(crate) struct DtlsListener {
    /// Without the local certificate.
    pub(crate) credentials: CredentialSettings,
    pub(crate) settings: Settings,
}

impl DtlsListener {
    /// Whether the local certificate is shown: none is named, and clients may ask for one. Who names keys only does not
    /// let in those who have none.
    pub(crate) fn shows_local(&self) -> bool {
        let CredentialSettings {
            psk,
            certificate,
            client,
            ..
        } = &self.credentials;
        certificate.is_none() && (psk.is_none() || *client != ClientAuth::None)
    }
}

/// Reads both sections of a listener.
pub(super) fn read(section: &mut Section<'_>) -> DtlsListener {
    let (certificate, client) = section.section("tls", |section| {
        let certificate = tls::certificate(section);
        let ca = tls::client_ca(section);
        (
            certificate,
            ca.map_or(ClientAuth::None, ClientAuth::Required),
        )
    });
    section.section("dtls", |section| {
        let psk = section.optional_path("psk_file");
        let psk_hint = hint(section, psk.value.is_some());
        DtlsListener {
            credentials: CredentialSettings {
                psk: psk.value.map(PskSource::File),
                psk_hint,
                certificate,
                client,
            },
            settings: limits(section),
        }
    })
}

/// What clients are told so that they choose the identity.
fn hint(section: &mut Section<'_>, has_keys: bool) -> Option<String> {
    let parse = |raw: &Raw| match word(raw) {
        Some(text) if (1..=128).contains(&text.len()) && !text.chars().any(char::is_control) => {
            Ok(Some(text.to_owned()))
        }
        _ => Err("must be 1 to 128 bytes of text without control characters".to_owned()),
    };
    let hint = section.read("psk_hint", None, parse, |text| text.as_deref().map(quoted));
    if hint.value.is_some() && !has_keys {
        let text = format!("{}.psk_hint needs a psk_file", section.path());
        section.problem(hint.origin, text);
    }
    hint.value
}

fn limits(section: &mut Section<'_>) -> Settings {
    let default = Settings::default();
    let handshake_timeout = section.duration(
        "handshake_timeout",
        default.handshake_timeout,
        Duration::from_millis(10)..=HOUR,
    );
    let idle_timeout = section.duration(
        "idle_timeout",
        default.idle_timeout,
        Duration::from_secs(1)..=MONTH,
    );
    let max_handshakes = section.count("max_handshakes", default.max_handshakes, 1..=1_000_000);
    let rate = default.max_handshake_rate.get();
    let rate = section.count("max_handshake_rate", rate, 1..=1_000_000);
    Settings {
        handshake_timeout,
        idle_timeout,
        max_handshakes,
        max_handshake_rate: NonZeroU32::new(rate).unwrap_or(default.max_handshake_rate),
        max_sessions: section.count("max_sessions", default.max_sessions, 1..=MOST),
        max_per_ip: section.count("max_sessions_per_ip", default.max_per_ip, 1..=MOST),
        ..default
    }
}
