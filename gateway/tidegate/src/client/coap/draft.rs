//! A message that is to be sent, before it has a header: that is the carrier's.

use tidegate_coap::codec::{Code, Token, Writer};

/// Code, token, options and payload, which are the same over datagrams and frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) code: Code,
    pub(super) token: Token,
    /// In the order of their numbers.
    options: Vec<(u16, Vec<u8>)>,
    pub(super) payload: Vec<u8>,
}

impl Draft {
    pub(super) fn new(code: Code) -> Self {
        Self {
            code,
            token: Token::default(),
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Adds an option, behind those of the same number.
    pub(super) fn option(&mut self, number: u16, value: &[u8]) -> &mut Self {
        let at = self.options.partition_point(|(other, _)| *other <= number);
        self.options.insert(at, (number, value.to_vec()));
        self
    }

    /// Adds an option that is a number, in as few bytes as it needs (RFC 7252 section 3.2).
    pub(super) fn uint(&mut self, number: u16, value: u32) -> &mut Self {
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &value.to_be_bytes()[zeros..])
    }

    /// Leaves out all options of a number.
    pub(super) fn without(&mut self, number: u16) -> &mut Self {
        self.options.retain(|(other, _)| *other != number);
        self
    }

    /// Bytes of it, but for header and payload, at most.
    pub(super) fn len(&self) -> usize {
        let options = self.options.iter();
        Token::MAX + options.map(|(_, value)| value.len() + 5).sum::<usize>()
    }

    /// Writes options and payload.
    pub(super) fn write(&self, mut writer: Writer<'_>) {
        for (number, value) in &self.options {
            writer.option(*number, value);
        }
        writer.payload(&self.payload);
    }

    #[cfg(test)]
    pub(super) fn first(&self, number: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(other, _)| *other == number);
        found.map(|(_, value)| &value[..])
    }
}

#[cfg(test)]
mod tests {
    use tidegate_coap::codec::{Kind, Message};

    use super::*;

    #[test]
    fn rfc7252_3_1_options_are_written_in_the_order_of_their_numbers() {
        let mut draft = Draft::new(Code::PUT);
        draft.option(60, b"z").option(11, b"a").option(15, b"q");
        draft.option(11, b"b").uint(12, 0).uint(27, 0x1_0000);
        draft.without(60);
        draft.payload = b"body".to_vec();
        let mut bytes = Vec::new();
        draft.write(Writer::new(
            &mut bytes,
            Kind::Confirmable,
            draft.code,
            7,
            draft.token,
        ));
        assert!(bytes.len() <= draft.len() + 4 + 1 + draft.payload.len());
        let message = Message::parse(&bytes).unwrap();
        let options: Vec<_> = message
            .options
            .iter()
            .map(|it| (it.number, it.value))
            .collect();
        let expected: [(u16, &[u8]); 5] = [
            (11, b"a"),
            (11, b"b"),
            (12, b""),
            (15, b"q"),
            (27, &[1, 0, 0]),
        ];
        assert_eq!(options, expected);
        assert_eq!(message.payload, b"body");
    }
}
