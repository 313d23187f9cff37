//! What clients do, made of the fuzzer's bytes.

use arbitrary::{Result, Unstructured};

use tidegate_model::{AckKind, ClientPacket, Connect, Filter, Publish, Version, Will};

/// How many clients there are.
pub(super) const CLIENTS: u8 = 2;

/// More levels than the gateway takes.
pub(super) const TOO_DEEP: &str =
    "0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5";

const TOPICS: [&str; 12] = [
    "a", "a/b", "a/b/c", "b", "/", "$x/a", "will/0", "will/1", "a/", "$SYS/x", TOO_DEEP, "",
];

const FILTERS: [&str; 16] = [
    "a", "a/b", "a/+", "a/#", "+", "#", "+/+", "$x/#", "will/+", "b", "/", "+/b", "$x/+", "a/b/c",
    "+/b/#", TOO_DEEP,
];

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A client opens a connection.
    Connect(Connect),
    /// A client sends a packet.
    Send(ClientPacket),
    /// A client acknowledges the message of this number that is in flight to it, as it should.
    Acknowledge {
        /// Which, counted around.
        place: usize,
        /// The reason code.
        code: u8,
    },
    /// A client closes its connection without a word.
    Cut,
    /// Time goes by, in seconds.
    Wait(u64),
}

/// An action of one client.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) client: u8,
    pub(super) action: Action,
    /// The gateway gets it together with what this client does next.
    pub(super) joined: bool,
    /// The gateway gets the bytes in two pieces.
    pub(super) split: bool,
}

impl Step {
    pub(super) fn of(u: &mut Unstructured<'_>, number: u16) -> Result<Self> {
        let (kind, flags) = (byte(u)?, byte(u)?);
        let client = flags % CLIENTS;
        let action = match kind % 24 {
            0..3 => Action::Connect(connect(u, client, number)?),
            3..9 => Action::Send(ClientPacket::Publish(publish(u, number)?)),
            9..13 => Action::Acknowledge {
                place: usize::from(byte(u)? % 4),
                code: code(u)?,
            },
            13 => {
                let id = small_id(u)?;
                let kind = match byte(u)? % 6 {
                    0 => AckKind::PubAck,
                    1 => AckKind::PubRec,
                    2 => AckKind::PubComp,
                    _ => AckKind::PubRel,
                };
                let code = match kind {
                    AckKind::PubAck | AckKind::PubRec => code(u)?,
                    AckKind::PubRel | AckKind::PubComp => 0,
                };
                Action::Send(ClientPacket::Ack { kind, id, code })
            }
            14 => Action::Send(ClientPacket::Ack {
                kind: AckKind::PubRel,
                id: small_id(u)?,
                code: 0,
            }),
            15..18 => Action::Send(subscribe(u)?),
            18 => Action::Send(unsubscribe(u)?),
            19 => Action::Send(disconnect(u)?),
            20 => Action::Cut,
            21 => Action::Send(rare(u, client, number)?),
            22 => Action::Send(ClientPacket::PingReq),
            _ => Action::Wait([1, 2, 3, 5, 10, 30, 61, 200][usize::from(byte(u)? % 8)]),
        };
        Ok(Self {
            client,
            action,
            joined: flags & 0x30 == 0x30,
            split: flags & 0xc0 == 0xc0,
        })
    }
}

/// The next byte; none is left at the end, which ends the scenario.
fn byte(u: &mut Unstructured<'_>) -> Result<u8> {
    Ok(u.bytes(1)?[0])
}

fn pick<T: Copy>(u: &mut Unstructured<'_>, of: &[T]) -> Result<T> {
    Ok(of[usize::from(byte(u)?) % of.len()])
}

fn small_id(u: &mut Unstructured<'_>) -> Result<u16> {
    Ok(u16::from(byte(u)? % 5) + 1)
}

fn code(u: &mut Unstructured<'_>) -> Result<u8> {
    pick(u, &[0x00, 0x00, 0x00, 0x10, 0x80, 0x97])
}

/// A CONNECT that a client may send.
pub(super) fn connect(u: &mut Unstructured<'_>, client: u8, number: u16) -> Result<Connect> {
    let (flags, more) = (byte(u)?, byte(u)?);
    let will = if more & 3 == 3 {
        let (flags, times) = (byte(u)?, byte(u)?);
        Some(Will {
            topic: format!("will/{client}"),
            payload: if flags & 0x80 == 0 {
                format!("will {number}").into_bytes()
            } else {
                Vec::new()
            },
            qos: flags % 3,
            retain: flags & 0x40 != 0,
            delay: [0, 0, 1, 5, 60][usize::from(times % 5)],
            expiry: [None, None, Some(1), Some(10)][usize::from(times >> 6)],
        })
    } else {
        None
    };
    Ok(Connect {
        version: [Version::V5, Version::V5, Version::V3_1_1, Version::V3_1][usize::from(flags & 3)],
        client: format!("client-{client}"),
        clean_start: flags & 0x0c == 0x0c,
        keep_alive: [0, 0, 2, 60][usize::from(flags >> 6)],
        expiry: [Some(100), Some(u32::MAX), Some(4), Some(0), None][usize::from(more >> 4) % 5],
        receive_maximum: [None, Some(1), Some(2), Some(7)][usize::from(flags >> 4 & 3)],
        topic_alias_maximum: u16::from(more >> 2 & 3),
        will,
    })
}

fn publish(u: &mut Unstructured<'_>, number: u16) -> Result<Publish> {
    let (flags, more) = (byte(u)?, byte(u)?);
    Ok(Publish {
        topic: pick(u, &TOPICS)?.to_owned(),
        payload: if flags & 0xe0 == 0xe0 {
            Vec::new()
        } else {
            number.to_string().into_bytes()
        },
        qos: (flags & 3).min(2),
        retain: flags & 0x0c == 0x0c,
        dup: flags & 0x10 != 0,
        id: u16::from(more % 5) + 1,
        alias: [None, None, None, None, Some(1), Some(2), Some(3), Some(0)][usize::from(more >> 5)],
        expiry: [None, None, Some(1), Some(5), Some(100)][usize::from(more >> 2) % 5],
        tag: (flags & 0x20 != 0).then_some(more),
    })
}

fn subscribe(u: &mut Unstructured<'_>) -> Result<ClientPacket> {
    let shape = byte(u)?;
    let mut filters = Vec::new();
    for _ in 0..=(shape >> 6).min(2) {
        let options = byte(u)?;
        filters.push(Filter {
            filter: pick(u, &FILTERS)?.to_owned(),
            qos: 2 - (options & 3).min(2),
            no_local: options & 0x0c == 0x0c,
            retain_as_published: options & 0x10 != 0,
            retain_handling: [0, 0, 1, 2][usize::from(options >> 6)],
        });
    }
    Ok(ClientPacket::Subscribe {
        id: u16::from(shape % 3) + 1,
        filters,
        identifier: [None, Some(1), Some(2), Some(268_435_455)][usize::from(shape >> 4 & 3)],
    })
}

fn unsubscribe(u: &mut Unstructured<'_>) -> Result<ClientPacket> {
    let shape = byte(u)?;
    let mut filters = Vec::new();
    for _ in 0..=(shape & 1) {
        filters.push(pick(u, &FILTERS)?.to_owned());
    }
    Ok(ClientPacket::Unsubscribe {
        id: u16::from(shape % 3) + 1,
        filters,
    })
}

fn disconnect(u: &mut Unstructured<'_>) -> Result<ClientPacket> {
    let shape = byte(u)?;
    Ok(ClientPacket::Disconnect {
        code: [0x00, 0x00, 0x04, 0x80][usize::from(shape & 3)],
        expiry: [None, None, Some(0), Some(3), Some(50), Some(u32::MAX)]
            [usize::from(shape >> 2) % 6],
    })
}

/// What no client may send.
fn rare(u: &mut Unstructured<'_>, client: u8, number: u16) -> Result<ClientPacket> {
    let which = byte(u)?;
    let broken = |bytes: &[u8], codes: &[u8]| ClientPacket::Broken {
        bytes: bytes.to_vec(),
        codes: codes.to_vec(),
    };
    Ok(match which % 17 {
        0 => ClientPacket::Auth,
        1 => ClientPacket::Connect(connect(u, client, number)?),
        // A reserved type, reserved flags (section 2.1).
        2 => broken(b"\x00\x00", &[0x81]),
        3 => broken(b"\xc1\x00", &[0x81]),
        4 => broken(b"\x80\x06\0\x01\0\0\x01a\0", &[0x81]),
        // QoS 3 (MQTT-3.3.1-4).
        5 => broken(b"\x36\x06\0\x01a\0\x01\0", &[0x81]),
        // A length of five bytes, a length beyond the limit.
        6 => broken(b"\x30\xff\xff\xff\xff\x01", &[0x81]),
        7 => broken(b"\x30\xff\xff\xff\x7f", &[0x95]),
        // No filters (MQTT-3.8.3-2, MQTT-3.10.3-2).
        8 => broken(b"\x82\x03\0\x01\0", &[0x81, 0x82]),
        9 => broken(b"\xa2\x03\0\x01\0", &[0x81, 0x82]),
        // Packets of servers.
        10 => broken(b"\x20\x03\0\0\0", &[0x82]),
        11 => broken(b"\xd0\x00", &[0x82]),
        12 => broken(b"\x90\x04\0\x01\0\0", &[0x82]),
        // Packet identifier 0 (MQTT-2.2.1-3).
        13 => broken(b"\x32\x06\0\x01a\0\0\0", &[0x81, 0x82]),
        // Wildcards in a topic name (MQTT-3.3.2-2).
        14 => broken(b"\x30\x05\0\x02a+\0", &[0x81, 0x82, 0x90]),
        // U+0000 in a topic name (MQTT-1.5.4-2).
        15 => broken(b"\x30\x05\0\x02a\0\0", &[0x81, 0x82]),
        // `#` that does not stand alone (MQTT-4.7.1-1).
        _ => broken(b"\x82\x08\0\x01\0\0\x02a#\0", &[0x81, 0x8f]),
    })
}
