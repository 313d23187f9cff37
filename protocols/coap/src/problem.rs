//! Why a request was refused, in words: concise problem details (RFC 9290).

/// Appends the details as CBOR (RFC 8949): a map of the title alone (key -1).
pub(crate) fn encode(title: &str, out: &mut Vec<u8>) {
    const MAP_OF_ONE: u8 = 0xA1;
    const TITLE: u8 = 0x20;
    const TEXT: u8 = 0x60;
    out.extend([MAP_OF_ONE, TITLE]);
    // Titles are sentences of ours.
    let len = title.len().min(u16::MAX.into()) as u16;
    match len {
        0..24 => out.push(TEXT | len as u8),
        24..256 => out.extend([TEXT | 24, len as u8]),
        _ => {
            out.push(TEXT | 25);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend(&title.as_bytes()[..len.into()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9290_2_a_title_is_text_under_minus_one() {
        let mut out = Vec::new();
        encode("no", &mut out);
        assert_eq!(out, b"\xA1\x20\x62no");
        for len in [23, 24, 255, 256] {
            let mut out = Vec::new();
            encode(&"x".repeat(len), &mut out);
            let head = out.len() - len;
            assert_eq!(
                head,
                if len < 24 {
                    3
                } else if len < 256 {
                    4
                } else {
                    5
                }
            );
        }
    }
}
