//! What holds for the codec whatever bytes come: the targets `codec_v31`, `codec_v311` and `codec_v5`.
//!
//! - What decodes, encoded again, decodes to the same.
//! - A stream that is cut anywhere is incomplete or has the same error, and nothing else.
//! - In pieces of any length it gives the same packets as in one.
//! - A packet of more bytes than the limit is refused by its length, one of as many is not.
//! - Nothing panics.

use tidegate_mqtt::codec::{
    DecodeError, Frame, Packet, Properties, PropertyBlock, PropertyId, Split, Version, decode,
    split,
};

const NO_LIMIT: u32 = u32::MAX;

/// How many places of a packet are tried as its end: all of them would make long packets slow.
const MOST_CUTS: usize = 64;

/// Checks what the codec makes of `stream`.
pub(crate) fn check(version: Version, stream: &[u8]) {
    let mut at = 0;
    loop {
        let rest = &stream[at..];
        check_cuts(rest);
        match split(rest, NO_LIMIT) {
            Ok(Split::Frame(frame)) => {
                assert!(frame.len <= rest.len(), "a frame is longer than its stream");
                assert!(frame.len >= 2, "a frame without a fixed header");
                assert_eq!(frame.first, rest[0]);
                check_limit(rest, frame);
                check_packet(version, frame);
                at += frame.len;
            }
            Ok(Split::Incomplete { needed }) => {
                assert!(
                    needed.is_none_or(|needed| needed > rest.len()),
                    "{needed:?}"
                );
                break;
            }
            Err(error) => {
                check_error(&error);
                break;
            }
        }
    }
    check_chunks(version, stream);
}

/// The beginning of a stream says no more than the stream.
fn check_cuts(stream: &[u8]) {
    let whole = split(stream, NO_LIMIT);
    let end = match whole {
        Ok(Split::Frame(frame)) => frame.len,
        _ => stream.len(),
    };
    for cut in cuts(end) {
        match (split(&stream[..cut], NO_LIMIT), whole) {
            (Ok(Split::Incomplete { needed: None }), _) => {
                // Five bytes hold every fixed header.
                assert!(cut < 5, "{cut} bytes do not tell a length");
            }
            (Ok(Split::Incomplete { needed: Some(len) }), Ok(Split::Frame(frame))) => {
                assert_eq!(len, frame.len, "the promised length");
            }
            (Ok(Split::Incomplete { needed }), Ok(Split::Incomplete { needed: later })) => {
                assert_eq!(needed, later, "the promised length");
            }
            (Err(early), Err(late)) => assert_eq!(early, late, "at {cut}"),
            (early, late) => panic!("{early:?} after {cut} bytes, then {late:?}"),
        }
    }
}

fn cuts(end: usize) -> impl Iterator<Item = usize> {
    (0..end).step_by(end.div_ceil(MOST_CUTS).max(1))
}

/// The limit is inclusive, and told before the body is there.
fn check_limit(stream: &[u8], frame: Frame<'_>) {
    let Ok(len) = u32::try_from(frame.len) else {
        panic!("a packet of {} bytes", frame.len);
    };
    assert_eq!(split(stream, len), Ok(Split::Frame(frame)));
    let maximum = len - 1;
    let too_large = Err(DecodeError::PacketTooLarge { len, maximum });
    let header = frame.len - frame.body.len();
    assert_eq!(split(stream, maximum), too_large);
    assert_eq!(split(&stream[..header], maximum), too_large);
}

fn check_packet(version: Version, frame: Frame<'_>) {
    for cut in cuts(frame.body.len()) {
        // Shorter than it says: whatever comes of it, nothing is read behind the end.
        let body = &frame.body[..cut];
        let _ = decode(version, Frame { body, ..frame });
    }
    let packet = match decode(version, frame) {
        Ok(packet) => packet,
        Err(error) => return check_error(&error),
    };
    check_properties(&packet);
    let bytes = encode(version, &packet);
    let Ok(Split::Frame(again)) = split(&bytes, NO_LIMIT) else {
        panic!("{packet:?} is encoded to no frame");
    };
    assert_eq!(
        again.len,
        bytes.len(),
        "{packet:?} is encoded to two frames"
    );
    match decode(version, again) {
        Ok(decoded) => {
            assert_eq!(decoded, packet);
            assert_eq!(encode(version, &decoded), bytes);
        }
        Err(error) => panic!("{packet:?} is encoded to what does not decode: {error}"),
    }
}

/// The bytes of a packet. A CONNECT says its own version.
fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// The properties that come out are those that stand in the bytes, and what goes on to receivers is
/// the rest of them in its order (MQTT-3.3.2-18).
fn check_properties(packet: &Packet<'_>) {
    let properties = match packet {
        Packet::Connect(connect) => {
            if let Some(will) = &connect.will {
                check_block(will.properties);
            }
            connect.properties
        }
        Packet::ConnAck(packet) => packet.properties,
        Packet::Publish(publish) => {
            let mut scratch = vec![0xff; 3];
            let kept: Vec<_> = publish
                .properties
                .iter()
                .filter(|property| {
                    !matches!(
                        property.id(),
                        PropertyId::TopicAlias
                            | PropertyId::MessageExpiryInterval
                            | PropertyId::SubscriptionIdentifier
                    )
                })
                .collect();
            let mut expected = PropertyBlock::new();
            expected.extend(kept);
            let forwarded = publish.properties.forwardable(&mut scratch);
            assert_eq!(forwarded, expected.raw());
            publish.properties.as_properties()
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.properties
        }
        Packet::Subscribe(packet) => packet.properties,
        Packet::SubAck(packet) => packet.properties,
        Packet::Unsubscribe(packet) => packet.properties,
        Packet::UnsubAck(packet) => packet.properties,
        Packet::Disconnect(packet) => packet.properties,
        Packet::Auth(packet) => packet.properties,
        Packet::PingReq | Packet::PingResp => return,
    };
    check_block(properties);
}

fn check_block(properties: Properties<'_>) {
    let mut block = PropertyBlock::new();
    block.extend(properties.iter());
    assert_eq!(block.raw(), properties.raw());
}

/// An error can be told to a client and to an operator.
fn check_error(error: &DecodeError) {
    assert!(error.reason_code().is_error(), "{error:?}");
    assert!(error.to_string().contains(error.clause()), "{error}");
}

/// What comes in pieces is what comes at once.
fn check_chunks(version: Version, stream: &[u8]) {
    let whole = read(version, &mut std::iter::once(stream));
    // The stream says itself where it is cut.
    let mut rest = stream;
    let mut pieces = std::iter::from_fn(|| {
        let (&first, _) = rest.split_first()?;
        let len = (usize::from(first % 13) + 1).min(rest.len());
        let piece;
        (piece, rest) = rest.split_at(len);
        Some(piece)
    });
    assert_eq!(read(version, &mut pieces), whole);
}

/// Reads like a connection does: every whole packet, then the rest waits. Ends at the first error.
fn read(version: Version, pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (len, words) = match split(&buffer, NO_LIMIT) {
                Ok(Split::Incomplete { .. }) => break,
                Ok(Split::Frame(frame)) => (frame.len, brief(version, frame)),
                Err(error) => {
                    seen.push(error.to_string());
                    return seen;
                }
            };
            seen.push(words);
            buffer.drain(..len);
        }
    }
    seen
}

/// Enough to tell two packets apart, and quick.
fn brief(version: Version, frame: Frame<'_>) -> String {
    match decode(version, frame) {
        Ok(packet) => {
            let bytes = encode(version, &packet);
            let sum = bytes.iter().fold(0_u64, |sum, &byte| {
                sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
            });
            format!("{} {} {sum:x}", packet.packet_type(), bytes.len())
        }
        Err(error) => error.to_string(),
    }
}
