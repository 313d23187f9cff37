//! Reads the data types of MQTT 5.0 section 1.5 strictly.

/// What is left of a packet's body.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        if length > self.rest.len() {
            return Err(format!(
                "{length} bytes promised, {} are there",
                self.rest.len()
            ));
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn remainder(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest).to_vec()
    }

    pub(super) fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// 1.5.5: at most four bytes, and as few as the value needs.
    pub(super) fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for position in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * position);
            if byte & 0x80 == 0 {
                if position > 0 && byte == 0 {
                    return Err("a variable byte integer longer than it needs to be".into());
                }
                return Ok(value);
            }
        }
        Err("a variable byte integer of more than four bytes".into())
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let length = self.u16()?;
        Ok(self.take(length.into())?.to_vec())
    }

    /// 1.5.4: UTF-8 without U+0000.
    pub(super) fn string(&mut self) -> Result<String, String> {
        let text = String::from_utf8(self.bytes()?).map_err(|error| error.to_string())?;
        if text.contains('\0') {
            Err(format!("U+0000 in {text:?}"))
        } else {
            Ok(text)
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes too many", self.rest.len()))
        }
    }
}
