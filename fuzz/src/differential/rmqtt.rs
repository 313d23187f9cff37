//! What `rmqtt-codec` makes of a packet.

use bytes::BytesMut;
use rmqtt_codec::{v3, v5};
use tidegate_mqtt::codec::Version;
use tokio_util::codec::{Decoder, Encoder};

use super::Theirs;

pub(super) fn decode(version: Version, bytes: &[u8]) -> Theirs {
    match version {
        Version::V5 => through(v5::Codec::new(0, 0), bytes),
        Version::V3_1 | Version::V3_1_1 => through(v3::Codec::new(0), bytes),
    }
}

fn through<C, P>(mut codec: C, bytes: &[u8]) -> Theirs
where
    C: Decoder<Item = (P, u32)> + Encoder<P>,
    <C as Decoder>::Error: std::fmt::Debug,
{
    let mut input = BytesMut::from(bytes);
    let packet = match codec.decode(&mut input) {
        Ok(None) => return Theirs::Waits,
        Err(error) => return Theirs::Refuses(format!("{error:?}")),
        Ok(Some((packet, _))) => packet,
    };
    let mut written = BytesMut::new();
    let written = codec
        .encode(packet, &mut written)
        .map(|()| written.to_vec());
    Theirs::Accepts(written.ok())
}
