//! Decoding held against two codecs that are not ours: `rmqtt-codec` and `mqtt-protocol-core`.
//!
//! The same bytes get the same verdict, and what both accept has the same fields: the other's packet
//! is written by its own encoder and read back by ours. Where they differ for a reason, a rule in
//! `rules.rs` says which clause decides, and who keeps to it. A difference without a rule is a
//! finding.
//!
//! The first byte of the input chooses MQTT 3.1.1 or 5.0, the rest is a packet.

mod core;
mod describe;
mod rmqtt;
mod rules;

use tidegate_mqtt::codec::{DecodeError, Packet, Split, Version, decode, split};

use describe::describe;
use rules::{Peer, Rule};

/// What another codec makes of a packet.
#[derive(Debug)]
enum Theirs {
    /// It waits for more.
    Waits,
    /// It refuses, with these words.
    Refuses(String),
    /// It accepts; these are the bytes of the packet as it writes it, if it does.
    Accepts(Option<Vec<u8>>),
}

/// What ours makes of it.
type Ours<'a> = Result<Packet<'a>, DecodeError>;

/// Compares the verdicts and the fields.
pub fn run(data: &[u8]) {
    if let Some(difference) = difference(data, |_| ()) {
        panic!("{difference}");
    }
}

/// Every rule, by its name.
pub fn rules() -> Vec<String> {
    rules::all().map(|rule| rule.to_string()).collect()
}

/// The rules that this input takes.
pub fn rules_taken(data: &[u8]) -> Vec<String> {
    let mut taken = Vec::new();
    difference(data, |rule| taken.push(rule.to_string()));
    taken
}

/// The first difference that no rule knows; those that one knows are told to `known`.
fn difference(data: &[u8], mut known: impl FnMut(Rule)) -> Option<String> {
    let (&first, bytes) = data.split_first()?;
    let version = if first & 1 == 0 {
        Version::V5
    } else {
        Version::V3_1_1
    };
    let (ours, whole) = match split(bytes, u32::MAX) {
        Ok(Split::Incomplete { .. }) => return None,
        Ok(Split::Frame(frame)) => (decode(version, frame), &bytes[..frame.len]),
        Err(error) => (Err(error), bytes),
    };
    if let Ok(Packet::Connect(connect)) = &ours
        && connect.version != version
    {
        return None;
    }
    for peer in [Peer::Rmqtt, Peer::Core] {
        let theirs = match peer {
            Peer::Rmqtt => Some(rmqtt::decode(version, whole)),
            Peer::Core => core::decode(version, whole),
        };
        let Some(theirs) = theirs else { continue };
        let case = rules::Case {
            peer,
            version,
            bytes: whole,
            ours: &ours,
        };
        let Some(text) = compare(&case, &theirs) else {
            continue;
        };
        let Some(rule) = rules::known(&case, &theirs) else {
            return Some(format!(
                "{peer:?}, MQTT {version}: {text}\n{whole:02x?}\nours: {ours:?}\ntheirs: {theirs:?}"
            ));
        };
        known(rule);
    }
    None
}

/// How the two differ, if they do.
fn compare(case: &rules::Case<'_>, theirs: &Theirs) -> Option<String> {
    match (case.ours, theirs) {
        (Err(_), Theirs::Refuses(_) | Theirs::Waits) | (Ok(_), Theirs::Accepts(None)) => None,
        (Err(error), Theirs::Accepts(_)) => Some(format!("refused here ({error}), accepted there")),
        (Ok(_), Theirs::Refuses(error)) => Some(format!("accepted here, refused there: {error}")),
        (Ok(_), Theirs::Waits) => Some("accepted here, waited for there".to_owned()),
        (Ok(packet), Theirs::Accepts(Some(bytes))) => {
            let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
                return Some("written there to no frame".to_owned());
            };
            match decode(case.version, frame) {
                Err(error) => Some(format!("written there to what does not decode: {error}")),
                Ok(again) => {
                    let (here, there) = (describe(packet), describe(&again));
                    (here != there).then(|| format!("{here:#?}\nis there\n{there:#?}"))
                }
            }
        }
    }
}
