//! The mask over every payload of a client (RFC 6455 section 5.3).

/// A masking key, turned so that its first byte belongs to the payload's next byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    pub(crate) const fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Takes the mask off the payload's next bytes.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for masked in words {
            *masked = (u64::from_ne_bytes(*masked) ^ word).to_ne_bytes();
        }
        for (masked, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
            *masked ^= key;
        }
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_5_3_the_octet_i_is_masked_with_the_key_octet_i_modulo_4() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = plain
            .iter()
            .zip(key.iter().cycle())
            .map(|(p, k)| p ^ k)
            .collect();
        for cut in 0..=plain.len() {
            let mut bytes = masked.clone();
            let mut mask = Mask::new(key);
            let (first, second) = bytes.split_at_mut(cut);
            mask.apply(first);
            mask.apply(second);
            assert_eq!(bytes, plain, "cut at {cut}");
        }
    }
}
