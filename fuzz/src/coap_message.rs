//! Any bytes as a CoAP message: no panic; what is taken is what `coap-lite` finds in it, and is written back to the same
//! bytes; a block is its number.

#![allow(clippy::expect_used, reason = "a finding is a panic")]

use coap_lite::Packet;
use tidegate_coap::codec::{Block, Code, Message, Writer, number};

/// Runs one input.
///
/// # Panics
///
/// At a finding.
pub fn run(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        return;
    };
    for option in message.options.iter() {
        if matches!(option.number, number::BLOCK1 | number::BLOCK2)
            && let Ok(block) = Block::parse(option.value)
        {
            assert!(block.szx <= Block::MAX_SZX && block.num <= Block::MAX_NUM);
            assert_eq!(Block::parse(&block.bits().to_be_bytes()[1..]), Ok(block));
        }
    }
    let mut written = Vec::new();
    let Message {
        kind,
        code,
        id,
        token,
        payload,
        ..
    } = message;
    let mut writer = Writer::new(&mut written, kind, code, id, token);
    for option in message.options.iter() {
        writer.option(option.number, option.value);
    }
    writer.payload(payload);
    // Only one way of writing it is the shortest, but any is allowed.
    let again = Message::parse(&written).expect("what is written is read");
    assert!(written.len() <= data.len());
    assert_eq!((again.kind, again.code, again.id), (kind, code, id));
    assert_eq!((again.token, again.payload), (token, payload));
    assert!(again.options.iter().eq(message.options.iter()));
    let theirs = Packet::from_bytes(data).expect("it takes more than we do");
    assert_eq!(theirs.get_token(), token.as_bytes());
    assert_eq!(theirs.payload, payload);
    assert_eq!(u8::from(theirs.header.code), code.0);
    let values = theirs
        .options()
        .map(|(_, values)| values.len())
        .sum::<usize>();
    assert_eq!(values, message.options.iter().count());
    assert!(code != Code::EMPTY || written.len() == 4);
}
