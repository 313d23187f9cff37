//! Records as they are on the wire (RFC 6347, 4.1 and RFC 9147, 4): as much of them as is needed to tell whom a
//! datagram is for. Nothing is decrypted here.

/// Type, version, epoch, sequence number, length.
pub(crate) const HEADER: usize = 13;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;
const ACK: u8 = 26;

/// Fits 48 bits.
const MAX_SEQUENCE: u64 = (1 << 48) - 1;

/// What the first record of a datagram says of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A plain handshake message that begins a handshake, or claims to.
    ClientHello,
    /// Another plain handshake message, or what goes with one.
    Plain,
    /// Protected in the manner of DTLS 1.2; whether it is a handshake message is visible.
    Protected12 { handshake: bool },
    /// Protected in the manner of DTLS 1.3.
    Protected13,
}

/// What a datagram begins with; `None` if it is no DTLS.
pub(crate) fn kind(datagram: &[u8]) -> Option<Kind> {
    let first = *datagram.first()?;
    // RFC 9147, 4.1: what the first bits say.
    if first & 0xE0 == 0x20 {
        return Some(Kind::Protected13);
    }
    if !matches!(first, CHANGE_CIPHER_SPEC..=APPLICATION_DATA | ACK) {
        return None;
    }
    let record = first_record(datagram)?;
    let epoch = u16::from_be_bytes([datagram[3], datagram[4]]);
    match (epoch, first) {
        (0, HANDSHAKE) if record.get(HEADER) == Some(&1) => Some(Kind::ClientHello),
        // Data is never plain.
        (0, APPLICATION_DATA) => None,
        (0, _) => Some(Kind::Plain),
        (_, kind) => Some(Kind::Protected12 {
            handshake: kind == HANDSHAKE,
        }),
    }
}

/// The first record with its header, if it is all there and has the header of a plain record.
pub(crate) fn first_record(datagram: &[u8]) -> Option<&[u8]> {
    let header = datagram.first_chunk::<HEADER>()?;
    // DTLS 1.0 in the first hello, 1.2 everywhere else.
    if header[1] != 0xFE || !matches!(header[2], 0xFF | 0xFD) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    datagram.get(..HEADER + length)
}

/// The sequence number of a record with the header of a plain one.
pub(crate) fn sequence(record: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    if let Some(number) = record.get(5..11) {
        bytes[2..].copy_from_slice(number);
    }
    u64::from_be_bytes(bytes)
}

/// Writes the header of a plain record. `length` is at most what two bytes hold.
pub(crate) fn write_header(out: &mut Vec<u8>, kind: u8, sequence: u64, length: usize) {
    out.extend_from_slice(&[kind, 0xFE, 0xFD, 0, 0]);
    out.extend_from_slice(&sequence.min(MAX_SEQUENCE).to_be_bytes()[2..]);
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}

/// Changes the length in the header of a record.
pub(crate) fn set_length(record: &mut [u8], length: usize) {
    let bytes = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    record[11..13].copy_from_slice(&bytes);
}

/// How many plain records there are at the start of a datagram.
pub(crate) fn count_plain(mut datagram: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(record) = first_record(datagram) {
        datagram = &datagram[record.len()..];
        count += 1;
    }
    count
}

/// Adds to the sequence numbers of all records of epoch 0. They are in no transcript and under no signature.
pub(crate) fn shift_plain(mut datagram: &mut [u8], by: u64) {
    while let Some(length) = first_record(datagram).map(<[u8]>::len) {
        let (record, rest) = datagram.split_at_mut(length);
        if record[3..5] == [0, 0] {
            let shifted = sequence(record).saturating_add(by).min(MAX_SEQUENCE);
            record[5..11].copy_from_slice(&shifted.to_be_bytes()[2..]);
        }
        datagram = rest;
    }
}

/// The number of the last record of epoch 0 in a datagram.
pub(crate) fn last_plain(mut datagram: &[u8]) -> Option<u64> {
    let mut last = None;
    while let Some(record) = first_record(datagram) {
        if record[3..5] == [0, 0] {
            last = Some(sequence(record));
        }
        datagram = &datagram[record.len()..];
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(&mut out, kind, sequence, body.len());
        out[3..5].copy_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn rfc9147_4_1_the_first_bits_say_what_a_datagram_is() {
        let hello = record(HANDSHAKE, 0, 0, &[1; 20]);
        assert_eq!(kind(&hello), Some(Kind::ClientHello));
        assert_eq!(kind(&hello[..20]), None, "cut off");
        let plain = record(HANDSHAKE, 0, 7, &[16; 20]);
        assert_eq!(kind(&plain), Some(Kind::Plain));
        let data = record(APPLICATION_DATA, 1, 0, &[0; 20]);
        let expected = Kind::Protected12 { handshake: false };
        assert_eq!(kind(&data), Some(expected));
        let plain_data = record(APPLICATION_DATA, 0, 0, &[0; 20]);
        assert_eq!(kind(&plain_data), None, "data is never plain");
        assert_eq!(kind(&[0x2F, 0, 0]), Some(Kind::Protected13));
        // RFC 7983: STUN, TURN channels, RTP.
        for other in [0, 1, 3, 19, 64, 79, 128, 191, 255] {
            assert_eq!(kind(&[other; 64]), None, "{other}");
        }
        assert_eq!(kind(&[]), None);
    }

    #[test]
    fn only_plain_records_are_shifted() {
        let mut datagram = record(HANDSHAKE, 0, 1, &[2; 30]);
        datagram.extend(record(CHANGE_CIPHER_SPEC, 0, 2, &[1]));
        datagram.extend(record(HANDSHAKE, 1, 0, &[9; 40]));
        shift_plain(&mut datagram, 5);
        assert_eq!(sequence(&datagram), 6);
        assert_eq!(sequence(&datagram[43..]), 7);
        assert_eq!(sequence(&datagram[57..]), 0);
        assert_eq!(count_plain(&datagram), 3);
    }
}
