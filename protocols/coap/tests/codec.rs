//! The codec beside one that is not ours.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use proptest::prelude::*;
use tidegate_coap::codec::{Block, Code, Kind, Message, Split, Token, Writer, split, uint};

fn kind(kind: MessageType) -> Kind {
    match kind {
        MessageType::Confirmable => Kind::Confirmable,
        MessageType::NonConfirmable => Kind::NonConfirmable,
        MessageType::Acknowledgement => Kind::Acknowledgement,
        MessageType::Reset => Kind::Reset,
    }
}

prop_compose! {
    fn options()(
        mut options in prop::collection::vec(
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)),
            0..8,
        ),
    ) -> Vec<(u16, Vec<u8>)> {
        options.sort_by_key(|(number, _)| *number);
        options
    }
}

proptest! {
    #[test]
    fn rfc_7252_3_what_is_written_is_read_alike_by_both(
        (first, code, id) in (0_u8..4, 1_u8.., any::<u16>()),
        token in prop::collection::vec(any::<u8>(), 0..=8),
        options in options(),
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let sent = [Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset];
        let sent = sent[usize::from(first)];
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, sent, Code(code), id, Token::new(&token).unwrap());
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&payload);
        let ours = Message::parse(&bytes).unwrap();
        prop_assert_eq!((ours.kind, ours.code, ours.id), (sent, Code(code), id));
        prop_assert_eq!(ours.token.as_bytes(), &token[..]);
        prop_assert_eq!(ours.payload, &payload[..]);
        let read: Vec<_> = ours.options.iter().map(|o| (o.number, o.value.to_vec())).collect();
        prop_assert_eq!(&read, &options);
        let theirs = Packet::from_bytes(&bytes).unwrap();
        prop_assert_eq!(kind(theirs.header.get_type()), sent);
        prop_assert_eq!(theirs.header.code, MessageClass::from(code));
        prop_assert_eq!((theirs.get_token(), &theirs.payload[..]), (&token[..], &payload[..]));
        let read: Vec<_> = theirs
            .options()
            .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
            .collect();
        prop_assert_eq!(read, options);
    }

    #[test]
    fn rfc_7252_3_what_we_take_the_other_takes_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(message) = Message::parse(&bytes) {
            let theirs = Packet::from_bytes(&bytes).unwrap();
            prop_assert_eq!(theirs.get_token(), message.token.as_bytes());
            prop_assert_eq!(&theirs.payload[..], message.payload);
            for option in message.options.iter() {
                let values = theirs.get_option(CoapOption::from(option.number)).unwrap();
                prop_assert!(values.iter().any(|value| value == option.value));
            }
        }
    }

    #[test]
    fn rfc_7959_2_2_a_block_is_its_number(num in 0..=Block::MAX_NUM, more: bool, szx in 0_u8..=6) {
        let block = Block { num, more, szx };
        let bytes = block.bits().to_be_bytes();
        prop_assert_eq!(Block::parse(&bytes[1..]).unwrap(), block);
        prop_assert_eq!(block.start(), num as usize * block.size());
        prop_assert_eq!(Block::szx_within(block.size()), szx);
    }
}

#[test]
fn rfc_7252_3_2_numbers_have_as_few_bytes_as_they_need_and_may_have_more() {
    for (number, len) in [
        (0, 0),
        (1, 1),
        (255, 1),
        (256, 2),
        (65_536, 3),
        (u32::MAX, 4),
    ] {
        let mut bytes = Vec::new();
        Writer::new(
            &mut bytes,
            Kind::Confirmable,
            Code::GET,
            0,
            Token::default(),
        )
        .uint(14, number);
        // Header, the head of the option, its delta of 14.
        assert_eq!(bytes.len(), 4 + 1 + 1 + len, "{number}");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(uint(message.options.first(14).unwrap(), 4), Some(number));
    }
    assert_eq!(uint(&[0, 0, 1], 3), Some(1));
    assert_eq!(uint(&[0, 0, 1], 2), None);
}

proptest! {
    #[test]
    fn rfc_8323_3_2_frames_are_read_as_they_were_written_and_as_the_other_reads_them_in_a_datagram(
        code in 1_u8..,
        token in prop::collection::vec(any::<u8>(), 0..=8),
        options in options(),
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..400),
            (65_000_usize..67_000).prop_map(|len| vec![1; len]),
        ],
        next in any::<u8>(),
    ) {
        let mut bytes = vec![0xAA];
        let mut writer = Writer::frame(&mut bytes, Code(code), Token::new(&token).unwrap());
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&payload);
        let len = bytes.len() - 1;
        bytes.push(next);
        prop_assert!(matches!(split(&bytes[1..len], len), Ok(Split::Incomplete(needed)) if needed == len));
        prop_assert!(split(&bytes[1..], len - 1).is_err());
        let Split::Frame(frame) = split(&bytes[1..], len).unwrap() else {
            panic!("it is whole");
        };
        prop_assert_eq!((frame.code, frame.len), (Code(code), len));
        prop_assert_eq!(frame.token.as_bytes(), &token[..]);
        prop_assert_eq!(frame.payload, &payload[..]);
        let read: Vec<_> = frame.options.iter().map(|o| (o.number, o.value.to_vec())).collect();
        prop_assert_eq!(&read, &options);
        let body = payload.len() + usize::from(!payload.is_empty());
        let mut datagram = Vec::new();
        let mut writer = Writer::new(&mut datagram, Kind::Confirmable, Code(code), 0, frame.token);
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&payload);
        // Four bytes of header there; here two, and the length.
        let length = datagram.len() - 4 - token.len();
        let extended = match length {
            0..13 => 0,
            13..269 => 1,
            269..65_805 => 2,
            _ => 4,
        };
        prop_assert_eq!(len, 2 + extended + token.len() + length);
        prop_assert!(length >= body);
    }

    #[test]
    fn rfc_8323_3_2_any_bytes_are_a_frame_a_part_of_one_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        most in 0_usize..100,
    ) {
        match split(&bytes, most) {
            Ok(Split::Frame(frame)) => prop_assert!(frame.len <= most && frame.len <= bytes.len()),
            Ok(Split::Incomplete(needed)) => prop_assert!(needed > bytes.len() && needed <= most.max(14)),
            Err(_) => {}
        }
    }
}
