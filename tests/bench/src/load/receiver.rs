//! A receiver's side of QoS 1 and 2: what it answers, and which packets its application sees
//! (MQTT 5.0 section 4.3, method B: a QoS 2 message is delivered when it comes, its packet identifier
//! remembered until PUBREL).

use super::packet::kind;

/// Packet identifiers, as bits.
const BITS: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Receiver {
    /// Packet identifiers of QoS 2 whose PUBREL has not come; empty until the first one.
    open: Vec<u64>,
}

impl Receiver {
    /// Answers a PUBLISH; whether the application sees it.
    #[inline]
    pub(super) fn publish(&mut self, qos: u8, packet_id: u16, answers: &mut Vec<u8>) -> bool {
        match qos {
            0 => true,
            1 => {
                answer(kind::PUBACK, packet_id, answers);
                true
            }
            _ => {
                answer(kind::PUBREC, packet_id, answers);
                if self.open.is_empty() {
                    self.open.resize(BITS / 64, 0);
                }
                let (word, bit) = place(packet_id);
                let is_new = self.open[word] & bit == 0;
                self.open[word] |= bit;
                is_new
            }
        }
    }

    /// Answers a PUBREL.
    #[inline]
    pub(super) fn pubrel(&mut self, packet_id: u16, answers: &mut Vec<u8>) {
        let (word, bit) = place(packet_id);
        if let Some(word) = self.open.get_mut(word) {
            *word &= !bit;
        }
        answer(kind::PUBCOMP, packet_id, answers);
    }
}

fn place(packet_id: u16) -> (usize, u64) {
    (usize::from(packet_id / 64), 1 << (packet_id % 64))
}

/// An acknowledgement of success, alike in both versions.
#[inline]
pub(super) fn answer(kind: u8, packet_id: u16, answers: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    answers.extend_from_slice(&[kind, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::Receiver;

    #[test]
    fn a_repetition_of_qos_2_is_not_seen_until_its_exchange_is_over() {
        let mut receiver = Receiver::default();
        let mut answers = Vec::new();
        for packet_id in [1, 64, u16::MAX] {
            assert!(receiver.publish(2, packet_id, &mut answers), "{packet_id}");
            assert!(!receiver.publish(2, packet_id, &mut answers), "{packet_id}");
        }
        assert_eq!(answers[..8], [0x50, 2, 0, 1, 0x50, 2, 0, 1]);
        answers.clear();
        receiver.pubrel(64, &mut answers);
        assert_eq!(answers, [0x70, 2, 0, 64]);
        assert!(receiver.publish(2, 64, &mut answers));
        assert!(!receiver.publish(2, 1, &mut answers));
    }

    #[test]
    fn qos_1_is_seen_as_often_as_it_comes() {
        let mut receiver = Receiver::default();
        let mut answers = Vec::new();
        assert!(receiver.publish(1, 7, &mut answers));
        assert!(receiver.publish(1, 7, &mut answers));
        assert_eq!(answers, [0x40, 2, 0, 7, 0x40, 2, 0, 7]);
    }
}
